"""Cards through a real pcscd and the virtual reader vpcd: proofs, restarts of the daemon, others in the way."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Coroutine, Iterator
from pathlib import Path

import pytest

import firmware_profiles
from drivers.cards.proof import CardKey, Scheme
from drivers.cards.virtual_desfire import Generation, VirtualDesfire
from drivers.readers import open_reader, pcsc_lite
from drivers.readers.pcsc_answers import historical_bytes
from drivers.readers.pcsc_simulator import VpcdCard, atr
from drivers.readers.reader import Assurance, Doubt, Feedback, Reader, card_14443a
from tests.readers import pcsc_room
from tests.readers.witness import watched

UID, OTHER_UID = bytes.fromhex("04958CAA5C5E80"), bytes.fromhex("DEADBEEF")
APPLICATION = bytes.fromhex("F51234")
OWN, INTRODUCTION = bytes(range(16)), b"introduction key"
DESFIRE_ATR, PHONE_ATR = atr(b"\x80"), atr(b"")


class Keys:
    """A vault for one card."""

    def __init__(self, own: bytes = OWN, scheme: Scheme = Scheme.DESFIRE_EV2) -> None:
        self._own = CardKey(scheme=scheme, key=own, key_no=2, application=APPLICATION)
        self._introduction = CardKey(scheme=scheme, key=INTRODUCTION, key_no=1, application=APPLICATION)

    def own(self, uid: bytes) -> CardKey | None:
        return self._own if uid == UID else None

    def introductions(self) -> tuple[CardKey, ...]:
        return (self._introduction,)


@pytest.fixture
def room(tmp_path: Path) -> Iterator[pcsc_room.Room]:
    if (obstacle := pcsc_room.obstacle()) is not None:
        pytest.skip(obstacle)
    with pcsc_room.Room(tmp_path) as room:
        yield room


def a_reader(keys: Keys | None = None, *, port: str = pcsc_room.READER) -> Reader:
    profile = firmware_profiles.load("readers/pcsc_contactless")
    hasty = profile.model_copy(update={"polling": profile.polling.model_copy(update={"poll_ms": 50})})
    return open_reader("gate", profile=hasty, port=port, keys=keys)


def a_desfire(generation: Generation = Generation.EV2) -> VirtualDesfire:
    card = VirtualDesfire(UID, generation=generation)
    card.install(APPLICATION, {0: bytes(16), 1: INTRODUCTION, 2: OWN})
    return card


def run(scenario: Callable[[], Coroutine[None, None, None]]) -> None:
    asyncio.run(asyncio.wait_for(scenario(), 30))


@pytest.mark.parametrize(
    ("keys", "seen_uid", "assurance", "doubt"),
    [
        pytest.param(Keys(), UID, Assurance.AUTHENTICATED, None, id="with its key"),
        pytest.param(
            Keys(own=bytes(16)), UID, Assurance.STATIC, Doubt.NOT_GENUINE, id="with another key", marks=pytest.mark.slow
        ),
        pytest.param(
            Keys(),
            bytes.fromhex("08F07D71"),
            Assurance.AUTHENTICATED,
            None,
            id="behind a random UID",
            marks=pytest.mark.slow,
        ),
    ],
)
def test_the_same_virtual_desfire_proves_itself_over_pcsc(
    keys: Keys, seen_uid: bytes, assurance: Assurance, doubt: Doubt | None, room: pcsc_room.Room
):
    async def scenario():
        async with watched(a_reader(keys)) as witness:
            await witness.until(lambda w: bool(w.found))
            with VpcdCard(room.connect, seen_uid, atr=DESFIRE_ATR, answer=a_desfire().apdu):
                await witness.until(lambda w: any(event.cards for event in w.seen))
            (card,) = next(event.cards for event in witness.seen if event.cards)
            assert (card.uid, card.assurance, card.doubt) == (UID, assurance, doubt)
            assert not witness.lost

    run(scenario)


@pytest.mark.slow
def test_lamps_buzzer_and_firmware_go_as_the_profile_says_and_nothing_else_reaches_the_card(room: pcsc_room.Room):
    shipped = firmware_profiles.load("readers/acr122u")
    unlearned = {name: commands for name, commands in shipped.feedback.items() if name != "learn"}
    profile = shipped.model_copy(update={"feedback": unlearned})
    heard: list[str] = []

    def answer(command: bytes) -> bytes:
        heard.append(command.hex().upper())
        return b"ACR122U102" if command == profile.firmware.query else b"\x90\x00"

    async def scenario():
        with VpcdCard(room.connect, UID, answer=answer):
            await asyncio.sleep(0.5)  # until the daemon has seen it
            reader = open_reader("gate", profile=profile, port=pcsc_room.READER)
            async with watched(reader) as witness:
                await witness.until_seen(card_14443a(UID))
                assert "older than 203" in witness.found[0].findings[0]
                await reader.signal(Feedback.GRANTED, "go")
                await witness.until(lambda w: "FF00400E0401010101" in heard, within_s=1.0)
                await reader.signal(Feedback.LEARN, "the profile has nothing for it")
                await reader.signal(Feedback.REFUSED, "no")
                await witness.until(lambda w: "FF00400D0401010301" in heard, within_s=1.0)
        assert heard == ["FF00480000", "FF00520000", "FF00400E0401010101", "FF00400D0401010301"]

    run(scenario)


@pytest.mark.slow
def test_a_phone_is_seen_as_a_random_id_and_no_identity(room: pcsc_room.Room):
    async def scenario():
        async with watched(a_reader()) as witness:
            await witness.until(lambda w: bool(w.found))
            with VpcdCard(room.connect, bytes.fromhex("08F07D71"), atr=PHONE_ATR):
                await witness.until(lambda w: any(event.cards for event in w.seen))
            (card,) = next(event.cards for event in witness.seen if event.cards)
            assert card.assurance is Assurance.RANDOM

    run(scenario)


@pytest.mark.slow
def test_a_card_that_tells_no_uid_is_no_card_and_harms_nobody_after_it(room: pcsc_room.Room):
    async def scenario():
        async with watched(a_reader()) as witness:
            await witness.until(lambda w: bool(w.found))
            with VpcdCard(room.connect, b"\x04\xa2"):
                await asyncio.sleep(0.8)
            assert not witness.seen
            with VpcdCard(room.connect, UID):
                await witness.until_seen(card_14443a(UID))
            assert not witness.lost

    run(scenario)


@pytest.mark.slow
def test_a_daemon_that_dies_with_a_card_in_the_field_is_one_loss_and_its_return_is_enough(room: pcsc_room.Room):
    async def scenario():
        async with watched(a_reader()) as witness:
            await witness.until(lambda w: bool(w.found))
            with VpcdCard(room.connect, UID):
                await witness.until_seen(card_14443a(UID))
                room.stop()
                await witness.until(lambda w: bool(w.lost), within_s=1.0)
            assert [lost.cause for lost in witness.lost] == ["the PC/SC daemon does not answer"]
            assert "pcscd" in witness.lost[0].hint
            witness.forget()
            room.start()
            await witness.until(lambda w: bool(w.found), within_s=3.0)
            with VpcdCard(room.connect, UID):
                await witness.until_seen(card_14443a(UID))

    run(scenario)


@pytest.mark.slow
def test_a_card_that_another_program_holds_is_told_and_read_when_it_lets_go(room: pcsc_room.Room):
    async def scenario():
        with VpcdCard(room.connect, UID), pcsc_lite.Context() as other:
            counted = 0
            while not (report := other.look(pcsc_room.READER, counted=counted, within_ms=1_000)) or not (
                report.flags & pcsc_lite.CARD_PRESENT
            ):
                counted = report.counted if report else counted
            held = other.card(pcsc_room.READER)
            async with watched(a_reader()) as witness:
                await witness.until(lambda w: bool(w.lost))
                assert "in use by another program" in witness.lost[0].cause
                held.close()
                await witness.until_seen(card_14443a(UID))

    run(scenario)


@pytest.mark.slow
def test_a_card_that_is_exchanged_at_once_for_another_is_told_as_the_other(room: pcsc_room.Room):
    async def scenario():
        async with watched(a_reader()) as witness:
            await witness.until(lambda w: bool(w.found))
            with VpcdCard(room.connect, UID):
                await witness.until_seen(card_14443a(UID))
            with VpcdCard(room.connect, OTHER_UID):
                await witness.until_seen(card_14443a(OTHER_UID))
                witness.forget()
                await asyncio.sleep(0.2)
                assert {event.cards for event in witness.seen} == {(card_14443a(OTHER_UID),)}

    run(scenario)


@pytest.mark.slow
@pytest.mark.parametrize(
    ("port", "cause"),
    [("No Such Reader", "no PC/SC reader is named No Such Reader"), ("Virtual PCD", "2 PC/SC readers could be meant")],
)
def test_a_name_that_fits_none_or_two_is_told_with_the_names_there_are(port: str, cause: str, room: pcsc_room.Room):
    async def scenario():
        async with watched(a_reader(port=port)) as witness:
            await witness.until(lambda w: bool(w.lost))
            assert cause in witness.lost[0].cause
            assert pcsc_room.READER in witness.lost[0].cause + witness.lost[0].hint

    run(scenario)


@pytest.mark.parametrize(
    ("raw", "text"),
    [
        ("3B8180018080", "80"),
        ("3B80800101", ""),
        ("3B8F8001804F0CA0000003060300030000000068", "804F0CA00000030603000300000000"),
        ("3B00", ""),
        ("3B8180018081", None),
        ("3B8180018080FF", None),
        ("3B81800180", None),
        ("3BFF", None),
        ("", None),
        ("0000", None),
    ],
)
def test_the_text_of_an_atr_is_found_and_a_damaged_atr_is_none(raw: str, text: str | None):
    assert historical_bytes(bytes.fromhex(raw)) == (None if text is None else bytes.fromhex(text))
