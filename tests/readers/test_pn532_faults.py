"""What can go wrong between us and a PN532: each fault ends in a clean read or in ReaderLost, and in nothing else."""

from __future__ import annotations

import asyncio
import os
import signal
import subprocess
import sys
from collections.abc import Callable, Coroutine, Iterator
from pathlib import Path

import pytest

import firmware_profiles
from drivers.readers import open_reader
from drivers.readers.pn532_chip import Fault
from drivers.readers.pn532_simulator import Pn532Simulator
from drivers.readers.reader import Assurance, Reader, card_14443a
from drivers.readers.virtual_cards import ClassicCard, Phone, Selected, Type2Card
from tests.readers.witness import Witness, watched

LIST_TARGETS = 0x4A
UID, OTHER_UID = bytes.fromhex("04A23B4C5D6080"), bytes.fromhex("DEADBEEF")
CARD, OTHER_CARD = card_14443a(UID), card_14443a(OTHER_UID)
HARMLESS = {Fault.STRAY_BYTES, Fault.LONG_PREAMBLE}
NOT_SLOW = (Fault.STRAY_BYTES, Fault.BAD_CHECK)


@pytest.fixture
def chip(tmp_path: Path) -> Iterator[Pn532Simulator]:
    with Pn532Simulator(link=tmp_path / "reader") as chip:
        yield chip


def a_reader(chip: Pn532Simulator, *, poll_ms: int = 50) -> Reader:
    profile = firmware_profiles.load("readers/pn532_hsu")
    hasty = profile.model_copy(update={"polling": profile.polling.model_copy(update={"poll_ms": poll_ms})})
    return open_reader("gate", profile=hasty, port=chip.port)


def run(scenario: Callable[[], Coroutine[None, None, None]]) -> None:
    asyncio.run(asyncio.wait_for(scenario(), 60))


def only_sound_events(witness: Witness) -> bool:
    return {event.cards for event in witness.seen} <= {(CARD,), ()}


@pytest.mark.parametrize(
    "fault",
    [pytest.param(fault, marks=() if fault in NOT_SLOW else pytest.mark.slow) for fault in Fault],
)
@pytest.mark.parametrize(
    "command",
    [pytest.param(LIST_TARGETS, id="of the target list"), pytest.param(None, id="of any", marks=pytest.mark.slow)],
)
def test_one_damaged_answer_costs_no_more_than_a_poll_or_two(fault: Fault, command: int | None, chip: Pn532Simulator):
    async def scenario():
        async with watched(a_reader(chip)) as witness:
            chip.present(Type2Card(UID))
            await witness.until_seen(CARD)
            chip.disturb(fault, command=command)
            await asyncio.sleep(0.08)
            witness.forget()
            await witness.until_seen(CARD, within_s=3.0)
            assert not witness.lost
            assert only_sound_events(witness)

    run(scenario)


@pytest.mark.slow
@pytest.mark.parametrize("fault", Fault)
def test_a_fault_that_stays_is_a_lost_reader_until_it_goes(fault: Fault, chip: Pn532Simulator):
    async def scenario():
        async with watched(a_reader(chip)) as witness:
            chip.present(Type2Card(UID))
            await witness.until_seen(CARD)
            chip.disturb(fault, times=None)
            if fault in HARMLESS:
                await asyncio.sleep(0.2)
                witness.forget()
                await witness.until_seen(CARD)
                assert not witness.lost
                return
            await witness.until(lambda w: bool(w.lost), within_s=1.0 if fault is Fault.SILENCE else 3.0)
            assert len(witness.lost) == 1
            chip.calm()
            witness.forget()
            await witness.until_seen(CARD, within_s=10.0)
            assert only_sound_events(witness)

    run(scenario)


@pytest.mark.parametrize(
    "baud", [921_600, pytest.param(460_800, marks=pytest.mark.slow), pytest.param(230_400, marks=pytest.mark.slow)]
)
def test_a_chip_that_was_left_at_another_speed_is_brought_back_without_a_loss(baud: int, chip: Pn532Simulator):
    async def scenario():
        chip.wedge_at_baud(baud)
        async with watched(a_reader(chip)) as witness:
            await witness.until(lambda w: bool(w.found), within_s=3.0)  # 0.15 to 0.4 s on a quiet machine
            assert not witness.lost
            assert any(str(baud) in finding for finding in witness.found[0].findings)
        assert chip.baud == 115_200

    run(scenario)


VICTIM = """
import asyncio, sys
import firmware_profiles
from drivers.readers import open_reader
reader = open_reader("gate", profile=firmware_profiles.load("readers/pn532_hsu"), port=sys.argv[1])
asyncio.run(reader.run(lambda event: print(type(event).__name__, flush=True)))
"""


@pytest.mark.slow
def test_a_killed_process_leaves_a_reader_that_the_next_one_can_use_at_once(chip: Pn532Simulator):
    chip.present(Type2Card(UID))
    victim = subprocess.Popen([sys.executable, "-c", VICTIM, chip.port], stdout=subprocess.PIPE, text=True)
    assert victim.stdout is not None
    with victim.stdout:
        assert victim.stdout.readline() == "ReaderFound\n"
        assert victim.stdout.readline() == "Seen\n"
        victim.send_signal(signal.SIGKILL)
        victim.wait(5)
    chip.wedge_at_baud(921_600)

    async def scenario():
        async with watched(a_reader(chip)) as witness:
            await witness.until(lambda w: bool(w.found), within_s=3.0)  # 0.15 to 0.4 s on a quiet machine
            await witness.until_seen(CARD)
            assert not witness.lost

    run(scenario)


def test_unplugged_in_mid_answer_and_plugged_in_again_it_reads_on(chip: Pn532Simulator):
    async def scenario():
        async with watched(a_reader(chip)) as witness:
            chip.present(Type2Card(UID))
            await witness.until_seen(CARD)
            chip.disturb(Fault.CUT_MID_FRAME, times=None)
            await asyncio.sleep(0.05)
            chip.unplug()
            await witness.until(lambda w: bool(w.lost), within_s=1.0)
            assert "has gone" in witness.lost[0].cause
            chip.calm()
            witness.forget()
            chip.replug()
            await witness.until_seen(CARD)
            assert only_sound_events(witness)

    run(scenario)


def test_bytes_that_nobody_asked_for_change_nothing(chip: Pn532Simulator):
    async def scenario():
        async with watched(a_reader(chip)) as witness:
            chip.present(Type2Card(UID))
            await witness.until_seen(CARD)
            for noise in (b"\x00\x00\xff", b"\xff" * 3_000, os.urandom(3_000), b"\x00\x00\xff\xff\xff\x01\x00\xff"):
                chip.say(noise)
                witness.forget()
                await witness.until_seen(CARD, within_s=3.0)
                assert only_sound_events(witness)

    run(scenario)


def test_two_cards_are_told_as_two(chip: Pn532Simulator):
    async def scenario():
        async with watched(a_reader(chip)) as witness:
            chip.present(Type2Card(UID), ClassicCard(OTHER_UID))
            await witness.until_seen(CARD, OTHER_CARD)

    run(scenario)


@pytest.mark.parametrize("uid", ["DEADBEEF", "04A23B4C5D6080", "04112233445566778899"])
def test_a_uid_of_every_size_arrives_in_on_air_order(uid: str, chip: Pn532Simulator):
    async def scenario():
        async with watched(a_reader(chip)) as witness:
            chip.present(Type2Card(bytes.fromhex(uid)))
            await witness.until(lambda w: bool(w.seen))
            assert [card.canonical for card in witness.seen[0].cards] == [uid]

    run(scenario)


def test_a_phone_shows_another_uid_at_each_poll_and_never_an_identity(chip: Pn532Simulator):
    async def scenario():
        async with watched(a_reader(chip)) as witness:
            chip.present(Phone())
            await witness.until(lambda w: len(w.seen) >= 3)
            cards = [event.cards[0] for event in witness.seen]
            assert len({card.uid for card in cards}) == len(cards)
            assert {card.assurance for card in cards} == {Assurance.RANDOM}

    run(scenario)


class LyingCard(Type2Card):
    """Says a UID length that no card has."""

    def select(self) -> Selected:
        return Selected(sens_res=b"\x00\x44", sel_res=0x00, uid=UID[:5])


def test_a_card_that_lies_about_its_uid_is_not_read_and_harms_nobody_after_it(chip: Pn532Simulator):
    async def scenario():
        async with watched(a_reader(chip)) as witness:
            chip.present(LyingCard(UID))
            await asyncio.sleep(0.5)
            assert not witness.seen
            assert not witness.lost
            chip.present(Type2Card(UID))
            await witness.until_seen(CARD)

    run(scenario)


def test_a_port_is_a_path_and_never_a_command(tmp_path: Path):
    async def scenario():
        with Pn532Simulator(link=tmp_path / f"x; touch {tmp_path.name}.owned; `touch owned` 'y") as chip:
            async with watched(a_reader(chip)) as witness:
                await witness.until(lambda w: bool(w.found))

    run(scenario)
    assert not list(Path.cwd().glob("*owned"))


@pytest.mark.slow
def test_polls_leave_air_for_others_and_cost_four_commands_when_the_field_is_empty(chip: Pn532Simulator):
    async def scenario():
        async with watched(a_reader(chip, poll_ms=150)) as witness:
            await witness.until(lambda w: bool(w.found))
            await asyncio.sleep(0.3)
            before = chip.commands
            await asyncio.sleep(0.9)
            polls = chip.commands[len(before) :]
            assert 4 <= polls.count(LIST_TARGETS) <= 8
            assert set(polls) == {0x32, 0x4A, 0x06}
            assert len(polls) <= 4 * (polls.count(LIST_TARGETS) + 1)

    run(scenario)


def test_a_closed_reader_leaves_the_chip_asleep_at_its_home_speed(chip: Pn532Simulator):
    async def scenario():
        async with watched(a_reader(chip)) as witness:
            await witness.until(lambda w: bool(w.found))
        assert chip.asleep
        assert chip.baud == 115_200

    run(scenario)


def test_another_chip_is_told_by_name_and_not_driven(chip: Pn532Simulator, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr("drivers.readers.pn532_chip.FIRMWARE", bytes([0x33, 0x02, 0x07, 0x07]))

    async def scenario():
        async with watched(a_reader(chip)) as witness:
            await witness.until(lambda w: bool(w.lost))
            assert "is no PN532" in witness.lost[0].cause

    run(scenario)
