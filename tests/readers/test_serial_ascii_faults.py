"""What can go wrong between us and a reader that only talks."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Coroutine, Iterator
from pathlib import Path

import pytest

import firmware_profiles
from drivers.readers import open_reader
from drivers.readers.ascii_frames import encode
from drivers.readers.reader import Reader, card_em4100
from drivers.readers.serial_ascii_simulator import SerialAsciiSimulator
from tests.readers.witness import watched

TAG, OTHER_TAG = bytes.fromhex("6200E31716"), bytes.fromhex("01007A5D3C")
CARD, OTHER_CARD = card_em4100(TAG), card_em4100(OTHER_TAG)


@pytest.fixture
def module(tmp_path: Path) -> Iterator[SerialAsciiSimulator]:
    with SerialAsciiSimulator.rdm6300(link=tmp_path / "reader") as module:
        yield module


def a_reader(module: SerialAsciiSimulator) -> Reader:
    return open_reader("gate", profile=firmware_profiles.load("readers/rdm6300"), port=module.port)


def run(scenario: Callable[[], Coroutine[None, None, None]]) -> None:
    asyncio.run(asyncio.wait_for(scenario(), 30))


def test_one_frame_of_a_repeating_reader_is_not_believed_and_the_second_equal_one_is(module: SerialAsciiSimulator):
    async def scenario():
        async with watched(a_reader(module)) as witness:
            await witness.until(lambda w: bool(w.found))
            module.say(encode(TAG))
            module.say(encode(OTHER_TAG))
            module.say(encode(TAG))
            await asyncio.sleep(0.1)
            assert not witness.seen
            module.say(encode(TAG))
            await witness.until_seen(CARD)

    run(scenario)


@pytest.mark.slow
def test_two_equal_frames_too_far_apart_are_two_first_ones(module: SerialAsciiSimulator):
    async def scenario():
        async with watched(a_reader(module)) as witness:
            await witness.until(lambda w: bool(w.found))
            for _ in range(2):
                module.say(encode(TAG))
                await asyncio.sleep(0.35)
            assert not witness.seen

    run(scenario)


def test_a_damaged_frame_between_good_ones_is_neither_a_card_nor_an_absence(module: SerialAsciiSimulator):
    async def scenario():
        async with watched(a_reader(module)) as witness:
            await witness.until(lambda w: bool(w.found))
            module.present(TAG)
            for _ in range(5):
                module.say(encode(TAG)[:7])
                module.say(encode(TAG).replace(b"E", b"e"))
                await asyncio.sleep(0.04)
            assert {event.cards for event in witness.seen} == {(CARD,)}
            assert not witness.lost

    run(scenario)


@pytest.mark.slow
def test_endless_noise_is_a_lost_reader_with_advice_and_the_loop_stays_free(module: SerialAsciiSimulator):
    async def scenario():
        async with watched(a_reader(module)) as witness:
            await witness.until(lambda w: bool(w.found))
            turns = 0
            while not witness.lost:
                module.say(b"\x02\xff6200" * 100)
                await asyncio.sleep(0.005)
                turns += 1
                assert turns < 500
            assert "without one good frame" in witness.lost[0].cause
            assert "baud" in witness.lost[0].hint
            witness.forget()
            module.present(TAG)
            await witness.until_seen(CARD)

    run(scenario)


def test_unplugged_in_mid_frame_and_plugged_in_again_it_reads_on(module: SerialAsciiSimulator):
    async def scenario():
        async with watched(a_reader(module)) as witness:
            await witness.until(lambda w: bool(w.found))
            module.say(encode(TAG)[:8])
            await asyncio.sleep(0.02)
            module.unplug()
            await witness.until(lambda w: bool(w.lost), within_s=1.0)
            module.replug()
            await witness.until(lambda w: len(w.found) == 2)
            module.say(encode(TAG)[8:])
            module.present(OTHER_TAG)
            await witness.until_seen(OTHER_CARD)
            assert {event.cards for event in witness.seen} == {(OTHER_CARD,)}

    run(scenario)


def test_what_was_said_before_anybody_listened_is_not_heard(module: SerialAsciiSimulator):
    async def scenario():
        module.say(encode(TAG) * 5)
        async with watched(a_reader(module)) as witness:
            await witness.until(lambda w: bool(w.found))
            await asyncio.sleep(0.1)
            assert not witness.seen

    run(scenario)


def test_a_file_that_is_no_port_is_refused_with_advice(tmp_path: Path):
    path = tmp_path / "reader"
    path.write_text("not a terminal")

    async def scenario():
        reader = open_reader("gate", profile=firmware_profiles.load("readers/rdm6300"), port=str(path))
        async with watched(reader) as witness:
            await witness.until(lambda w: bool(w.lost))
            assert "is no serial port" in witness.lost[0].cause
            assert "configuration" in witness.lost[0].hint

    run(scenario)
    assert path.read_text() == "not a terminal"
