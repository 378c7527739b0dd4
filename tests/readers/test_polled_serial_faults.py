"""What can go wrong between us and a reader that is asked: a clean read or ReaderLost within a second, nothing else."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Coroutine, Iterator
from pathlib import Path

import pytest

import firmware_profiles
from drivers.readers import open_reader
from drivers.readers.disturbances import Disturbance
from drivers.readers.polled_serial_simulator import PolledSerialSimulator
from drivers.readers.reader import Feedback, Reader, card_14443a
from tests.readers.witness import Witness, watched

UID, OTHER_UID = bytes.fromhex("04A23B4C5D6080"), bytes.fromhex("DEADBEEF")
CARD, OTHER_CARD = card_14443a(UID), card_14443a(OTHER_UID)
HARMLESS = {Disturbance.TWICE}
HARMLESS_TO = {
    "readers/stronglink_sl025": HARMLESS | {Disturbance.STRAY_BYTES},
    "readers/twn4_simple_binary": HARMLESS | {Disturbance.STRAY_BYTES},
    # Without CRC a wrong bit in a digit is another UID, which is why two equal answers are wanted; and 0D ends a line.
    "readers/twn4_simple": HARMLESS | {Disturbance.BIT_FLIPPED, Disturbance.STRAY_BYTES},
}
SIMULATORS = {
    "readers/stronglink_sl025": lambda link: PolledSerialSimulator.stronglink(link=link),
    "readers/twn4_simple": lambda link: PolledSerialSimulator.twn4(link=link),
    "readers/twn4_simple_binary": lambda link: PolledSerialSimulator.twn4(link=link, mode="binary", crc=True),
}


@pytest.fixture(
    params=[
        "readers/stronglink_sl025",
        pytest.param("readers/twn4_simple", marks=pytest.mark.slow),
        pytest.param("readers/twn4_simple_binary", marks=pytest.mark.slow),
    ]
)
def profile_id(request: pytest.FixtureRequest) -> str:
    return str(request.param)


@pytest.fixture
def module(profile_id: str, tmp_path: Path) -> Iterator[PolledSerialSimulator]:
    with SIMULATORS[profile_id](tmp_path / "reader") as module:
        yield module


@pytest.fixture
def reader(profile_id: str, module: PolledSerialSimulator) -> Reader:
    profile = firmware_profiles.load(profile_id)
    hasty = profile.model_copy(
        update={"polling": profile.polling.model_copy(update={"poll_ms": 50}), "feedback_ms": 200}
    )
    return open_reader("gate", profile=hasty, port=module.port)


def run(scenario: Callable[[], Coroutine[None, None, None]]) -> None:
    asyncio.run(asyncio.wait_for(scenario(), 30))


def only_sound_events(witness: Witness) -> bool:
    return {event.cards for event in witness.seen} <= {(CARD,), ()}


# All of them on one reader; of the others those that their codecs tell apart.
ON_ANOTHER_CODEC = [
    (profile_id, each)
    for profile_id in ("readers/twn4_simple", "readers/twn4_simple_binary")
    for each in (Disturbance.LAST_BYTE_WRONG, Disturbance.STRAY_BYTES)
]
STAYING = [("readers/stronglink_sl025", each) for each in Disturbance] + ON_ANOTHER_CODEC
QUICK = [("readers/stronglink_sl025", each) for each in (Disturbance.BIT_FLIPPED, Disturbance.STRAY_BYTES)]


@pytest.mark.parametrize(
    ("profile_id", "disturbance"),
    # Each waits 0.25 s for an answer; two of them are quick enough for every run.
    [each if each in QUICK else pytest.param(*each, marks=pytest.mark.slow) for each in STAYING],
    indirect=["profile_id"],
)
def test_one_damaged_answer_costs_no_more_than_a_poll_or_two(
    disturbance: Disturbance, module: PolledSerialSimulator, reader: Reader
):
    async def scenario():
        async with watched(reader) as witness:
            module.present(UID)
            await witness.until_seen(CARD)
            module.disturb(disturbance)
            await asyncio.sleep(0.1)
            witness.forget()
            await witness.until_seen(CARD, within_s=2.0)
            assert not witness.lost
            assert only_sound_events(witness)

    run(scenario)


@pytest.mark.slow
@pytest.mark.parametrize(("profile_id", "disturbance"), STAYING, indirect=["profile_id"])
def test_a_fault_that_stays_is_a_lost_reader_within_a_second_until_it_goes(
    disturbance: Disturbance, profile_id: str, module: PolledSerialSimulator, reader: Reader
):
    async def scenario():
        async with watched(reader) as witness:
            module.present(UID)
            await witness.until_seen(CARD)
            module.disturb(disturbance, times=None)
            if disturbance in HARMLESS_TO[profile_id]:
                await asyncio.sleep(0.3)
                assert not witness.lost
            else:
                await witness.until(lambda w: bool(w.lost), within_s=1.0)
                assert len(witness.lost) == 1
                assert witness.lost[0].hint
                assert only_sound_events(witness)
            module.calm()
            witness.forget()
            await witness.until_seen(CARD, within_s=5.0)

    run(scenario)


@pytest.mark.slow
@pytest.mark.parametrize("profile_id", ["readers/stronglink_sl025"], indirect=True)
def test_a_reader_that_dies_in_silence_is_told_within_a_second(module: PolledSerialSimulator, reader: Reader):
    async def scenario():
        async with watched(reader) as witness:
            await witness.until(lambda w: bool(w.found))
            module.disturb(Disturbance.SILENCE, times=None)
            assert await witness.until(lambda w: bool(w.lost), within_s=1.0) < 1.0
            assert "answers wrongly or not at all" in witness.lost[0].cause

    run(scenario)


@pytest.mark.slow
@pytest.mark.parametrize("profile_id", ["readers/stronglink_sl025"], indirect=True)
def test_a_reader_that_dies_under_a_signal_is_told_within_a_second_too(module: PolledSerialSimulator, reader: Reader):
    async def scenario():
        async with watched(reader) as witness:
            await witness.until(lambda w: bool(w.found))
            module.disturb(Disturbance.SILENCE, times=None)
            await asyncio.gather(*(reader.signal(each, "") for each in (Feedback.REFUSED, Feedback.GRANTED)))
            await witness.until(lambda w: bool(w.lost), within_s=0.6)

    run(scenario)


def test_bytes_that_nobody_asked_for_change_nothing(module: PolledSerialSimulator, reader: Reader):
    async def scenario():
        async with watched(reader) as witness:
            module.present(UID)
            await witness.until_seen(CARD)
            for noise in (b"\xbd", b"\xff" * 3_000, b"\r00018038", bytes(range(256)) * 8):
                module.say(noise)
                witness.forget()
                await witness.until_seen(CARD, within_s=3.0)
                assert only_sound_events(witness)

    run(scenario)


def test_two_equal_looks_are_wanted_where_the_profile_says_so_and_taken_at_once(
    profile_id: str, module: PolledSerialSimulator, reader: Reader
):
    async def scenario():
        async with watched(reader) as witness:
            await witness.until(lambda w: bool(w.found))
            before = module.polls
            module.present(UID)
            await witness.until_seen(CARD)
            assert module.polls - before >= firmware_profiles.load(profile_id).confirm_frames

    run(scenario)


@pytest.mark.parametrize(
    "feedback",
    [Feedback.GRANTED, *(pytest.param(each, marks=pytest.mark.slow) for each in (Feedback.REFUSED, Feedback.FAULT))],
)
def test_a_signal_is_shown_at_once_and_ends_by_itself(
    feedback: Feedback, profile_id: str, module: PolledSerialSimulator, reader: Reader
):
    profile = firmware_profiles.load(profile_id)

    async def scenario():
        async with watched(reader) as witness:
            await witness.until(lambda w: bool(w.found))
            set_up = len(module.shown)
            assert module.shown == (*profile.setup, *profile.rest)
            async with asyncio.timeout(0.5):
                await reader.signal(feedback, "")
            assert module.shown[set_up:] == profile.feedback[feedback.value]
            await asyncio.sleep(0.35)
            assert module.shown[set_up:] == (*profile.feedback[feedback.value], *profile.rest)
            assert not witness.lost

    run(scenario)


def test_lamps_are_out_when_the_reader_is_let_go(profile_id: str, module: PolledSerialSimulator, reader: Reader):
    async def scenario():
        async with watched(reader) as witness:
            await witness.until(lambda w: bool(w.found))
            await reader.signal(Feedback.REFUSED, "")
        await asyncio.sleep(0.05)
        assert module.shown[-1] == firmware_profiles.load(profile_id).rest[-1]

    run(scenario)


def test_the_device_says_what_it_is(profile_id: str, reader: Reader):
    async def scenario():
        async with watched(reader) as witness:
            await witness.until(lambda w: bool(w.found))
            assert witness.found[0].firmware in ("SL025-1.3", "TWN4/B1.50/NCF3.51/PRS1.04")
            assert not witness.found[0].findings

    run(scenario)


def test_two_cards_at_once_are_no_card_of_a_stronglink_and_no_loss(tmp_path: Path):
    async def scenario():
        with PolledSerialSimulator.stronglink(link=tmp_path / "reader") as module:
            profile = firmware_profiles.load("readers/stronglink_sl032")
            async with watched(open_reader("gate", profile=profile, port=module.port)) as witness:
                await witness.until(lambda w: bool(w.found))
                module.present(UID, OTHER_UID)
                await asyncio.sleep(0.2)
                assert not witness.seen
                assert not witness.lost
                module.present(OTHER_UID)
                await witness.until_seen(OTHER_CARD)

    run(scenario)


def test_a_phone_is_never_an_identity_here_either(module: PolledSerialSimulator, reader: Reader):
    async def scenario():
        async with watched(reader) as witness:
            module.present(bytes.fromhex("08F07D71"))
            await witness.until(lambda w: bool(w.seen))
            assert {card.assurance for event in witness.seen for card in event.cards} == {"random"}

    run(scenario)


@pytest.mark.slow
def test_another_device_on_the_port_is_lost_with_advice(tmp_path: Path):
    async def scenario():
        with PolledSerialSimulator.twn4(link=tmp_path / "reader") as module:
            profile = firmware_profiles.load("readers/twn4_simple_crc")
            async with watched(open_reader("gate", profile=profile, port=module.port)) as witness:
                await witness.until(lambda w: bool(w.lost), within_s=2.0)
                assert "profile" in witness.lost[0].hint

    run(scenario)


@pytest.mark.parametrize(("action", "expected"), [("warn", "static"), ("lossy", "lossy"), ("refuse", None)])
def test_what_the_profile_says_of_a_firmware_is_done(action: str, expected: str | None, tmp_path: Path):
    profile = firmware_profiles.load("readers/stronglink_sl025")
    firmware = profile.firmware.model_copy(update={"minimum": "1.4", "below_minimum": action})
    strict = profile.model_copy(update={"firmware": firmware})

    async def scenario():
        with PolledSerialSimulator.stronglink(link=tmp_path / "reader") as module:
            module.present(UID)
            async with watched(open_reader("gate", profile=strict, port=module.port)) as witness:
                await witness.until(lambda w: bool(w.seen or w.lost))
                if expected is None:
                    assert "is refused" in witness.lost[0].cause
                    assert not witness.seen
                    return
                assert "older than 1.4" in str(witness.found[0].findings)
                assert {card.assurance for event in witness.seen for card in event.cards} == {expected}

    run(scenario)
