"""Cards that prove themselves at a PN532: nfcpy, our transport, our blocks, the simulated chip, virtual cards."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Coroutine, Iterator
from pathlib import Path

import pytest

import firmware_profiles
from drivers.cards.proof import CardKey, Scheme
from drivers.cards.virtual_desfire import Generation, VirtualDesfire
from drivers.cards.virtual_ntag424 import VirtualNtag424
from drivers.readers import open_reader
from drivers.readers.pn532_chip import Fault
from drivers.readers.pn532_simulator import Pn532Simulator
from drivers.readers.reader import Assurance, Doubt, Reader, card_14443a
from drivers.readers.virtual_cards import IsoDepCard, Phone, Type2Card
from tests.readers.witness import watched

UID = bytes.fromhex("04958CAA5C5E80")
APPLICATION = bytes.fromhex("F51234")
OWN, INTRODUCTION = bytes(range(16)), b"introduction key"
THROUGH = 0x42


class Keys:
    """A vault for one card."""

    def __init__(self, scheme=Scheme.DESFIRE_EV2, own=OWN, introduced=True, known=True):
        self._own = CardKey(scheme=scheme, key=own, key_no=2, application=APPLICATION) if known else None
        told = CardKey(scheme=scheme, key=INTRODUCTION, key_no=1, application=APPLICATION)
        self._introductions = (told,) if introduced else ()

    def own(self, uid):
        return self._own if uid == UID else None

    def introductions(self):
        return self._introductions


def a_card(generation=Generation.EV2, **options):
    card = VirtualDesfire(UID, generation=generation, **options)
    card.install(APPLICATION, {0: bytes(16), 1: INTRODUCTION, 2: OWN})
    return card


@pytest.fixture
def chip(tmp_path: Path) -> Iterator[Pn532Simulator]:
    with Pn532Simulator(link=tmp_path / "reader") as chip:
        yield chip


def a_reader(chip: Pn532Simulator, keys: Keys | None) -> Reader:
    profile = firmware_profiles.load("readers/pn532_hsu")
    hasty = profile.model_copy(update={"polling": profile.polling.model_copy(update={"poll_ms": 50})})
    return open_reader("gate", profile=hasty, port=chip.port, keys=keys)


def run(scenario: Callable[[], Coroutine[None, None, None]]) -> None:
    asyncio.run(asyncio.wait_for(scenario(), 60))


def first_card(chip, keys, card, looks=2):
    """What the reader tells of this card; the same at each look."""
    told = []

    async def scenario():
        async with watched(a_reader(chip, keys)) as witness:
            chip.present(card)
            await witness.until(lambda w: sum(bool(event.cards) for event in w.seen) >= looks)
            told.extend(event.cards for event in witness.seen if event.cards)

    run(scenario)
    assert all(len(cards) == 1 for cards in told)
    return [cards[0] for cards in told]


@pytest.mark.parametrize("random_id", [False, True], ids=["fixed UID", "random UID"])
@pytest.mark.parametrize(
    ("generation", "scheme"),
    [
        (Generation.EV1, Scheme.DESFIRE_EV1),
        (Generation.EV2, Scheme.DESFIRE_EV2),
        (Generation.EV3, Scheme.DESFIRE_EV2),
    ],
)
def test_a_desfire_is_authenticated_and_tells_its_true_uid(chip, generation, scheme, random_id):
    virtual = a_card(generation, random_id=random_id)
    for told in first_card(chip, Keys(scheme), IsoDepCard(virtual)):
        assert (told.uid, told.assurance, told.doubt) == (UID, Assurance.AUTHENTICATED, None)


@pytest.mark.slow
def test_an_ntag424_with_a_random_uid_is_authenticated(chip):
    virtual = VirtualNtag424(UID, keys={1: INTRODUCTION, 2: OWN}, random_id=True)
    for told in first_card(chip, Keys(Scheme.NTAG_424), IsoDepCard(virtual, extensions=1)):
        assert (told.uid, told.assurance) == (UID, Assurance.AUTHENTICATED)


def test_a_fixed_uid_is_authenticated_once_a_presence_however_long_it_lies_there(chip):
    virtual = a_card()
    assert len(first_card(chip, Keys(), IsoDepCard(virtual), looks=5)) >= 5
    assert virtual.authentications == 1


def test_a_clone_of_the_uid_is_a_doubt_and_never_the_uid_alone(chip):
    clones = [
        Type2Card(UID),  # shows the number, cannot talk
        IsoDepCard(VirtualDesfire(UID)),  # talks, has no application
    ]
    other_key = VirtualDesfire(UID)
    other_key.install(APPLICATION, {0: bytes(16), 1: INTRODUCTION, 2: bytes(16)})
    other_uid = VirtualDesfire(b"\x04" + bytes(6))
    other_uid.install(APPLICATION, {2: OWN})
    liar = IsoDepCard(other_uid)
    liar.lose_field = lambda: setattr(liar, "_shown", UID) or setattr(liar, "_is_active", False)  # type: ignore[method-assign]
    liar._shown = UID
    for clone in (*clones, IsoDepCard(other_key)):
        for told in first_card(chip, Keys(), clone):
            assert (told.assurance, told.doubt) == (Assurance.STATIC, Doubt.NOT_GENUINE)
        chip.remove()


@pytest.mark.slow
def test_a_random_card_without_the_card_s_own_key_here_has_a_name_and_no_proof(chip):
    for told in first_card(chip, Keys(known=False), IsoDepCard(a_card(random_id=True))):
        assert (told.uid, told.assurance, told.doubt) == (UID, Assurance.STATIC, None)


def test_a_random_card_that_knows_only_the_introduction_key_is_not_genuine(chip):
    virtual = VirtualDesfire(UID, random_id=True)
    virtual.install(APPLICATION, {1: INTRODUCTION, 2: b"not the own key!"})
    for told in first_card(chip, Keys(), IsoDepCard(virtual)):
        assert told.doubt is Doubt.NOT_GENUINE
        assert told.assurance is not Assurance.AUTHENTICATED


@pytest.mark.slow
def test_a_random_card_of_another_fleet_stays_a_nameless_card(chip):
    virtual = VirtualDesfire(UID, random_id=True)
    for told in first_card(chip, Keys(), IsoDepCard(virtual)):
        assert (told.assurance, told.doubt, told.uid[:1]) == (Assurance.RANDOM, None, b"\x08")
        assert told.uid != UID


def test_a_random_card_of_another_fleet_with_the_same_application_stays_nameless_too(chip):
    virtual = VirtualDesfire(UID, random_id=True)
    virtual.install(APPLICATION, dict.fromkeys(range(3), b"another fleet's."))
    for told in first_card(chip, Keys(), IsoDepCard(virtual)):
        assert (told.assurance, told.doubt, told.uid[:1]) == (Assurance.RANDOM, None, b"\x08")


@pytest.mark.parametrize("keys", [None, Keys()], ids=["no keys", "keys"])
def test_a_phone_is_recognised_with_and_without_keys(chip, keys):
    for told in first_card(chip, keys, Phone()):
        assert (told.assurance, told.doubt) == (Assurance.RANDOM, Doubt.PHONE)


def test_a_card_without_a_key_is_what_its_uid_says_and_is_not_talked_to(chip):
    other = bytes.fromhex("04A23B4C5D6080")
    assert first_card(chip, Keys(), IsoDepCard(VirtualDesfire(other)))[0] == card_14443a(other)
    assert THROUGH not in chip.commands


def test_a_card_torn_away_is_silence_first_and_then_a_doubt(chip):
    card = IsoDepCard(a_card())
    card.frames_until_gone = 3
    told = first_card(chip, Keys(), card, looks=1)
    assert (told[0].doubt, told[0].assurance) == (Doubt.TORN, Assurance.STATIC)


@pytest.mark.slow
def test_a_card_laid_on_slowly_is_authenticated_after_all(chip):
    card = IsoDepCard(a_card())
    card.frames_to_lose = 2  # two attempts, and nothing is told of them
    told = first_card(chip, Keys(), card, looks=1)
    assert told[0].assurance is Assurance.AUTHENTICATED


@pytest.mark.slow
def test_a_card_told_to_be_torn_may_still_prove_itself_without_being_lifted(chip):
    card = IsoDepCard(a_card())
    card.frames_to_lose = 4
    told = first_card(chip, Keys(), card, looks=4)
    assert told[0].doubt is Doubt.TORN
    assert told[-1].assurance is Assurance.AUTHENTICATED


@pytest.mark.slow
@pytest.mark.parametrize("fault", [Fault.BAD_CHECK, Fault.CUT_MID_FRAME, Fault.STRAY_BYTES, Fault.LONG_PREAMBLE])
def test_a_damaged_frame_in_mid_authentication_ends_in_a_proof(chip, fault):
    chip.disturb(fault, command=THROUGH)
    told = first_card(chip, Keys(), IsoDepCard(a_card()), looks=1)
    assert told[0].assurance is Assurance.AUTHENTICATED


def test_the_commands_of_an_authentication_are_these_and_no_more(chip):
    """Deterministic, and so the better thing to pin than a time (reference 2.5)."""
    virtual = a_card()
    first_card(chip, Keys(), IsoDepCard(virtual), looks=1)
    assert chip.commands.count(THROUGH) == 5, "RATS, select, two of the authentication, the UID"
