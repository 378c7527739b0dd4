"""Readers that type, readers in chargers, readers on USB: what the common contract does not ask."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Coroutine
from pathlib import Path
from typing import Any

import pytest

import firmware_profiles
from drivers.readers import open_reader
from drivers.readers.charger_register_simulator import ChargerRegisterSimulator
from drivers.readers.hid_keys import HidKeysReader
from drivers.readers.hid_keys_simulator import HidKeysSimulator, lock
from drivers.readers.key_lines import EVENT, KEY, typed
from drivers.readers.pn532_chip import Fault
from drivers.readers.pn532_simulator import Pn532Simulator
from drivers.readers.pn533_simulator import Pn533Simulator
from drivers.readers.pn533_usb import pn533_reader
from drivers.readers.reader import Assurance, Reader, card_14443a
from drivers.readers.usb_pipe import open_usb_pipe
from drivers.readers.virtual_cards import Type2Card
from drivers.serial_port import PortFailed
from firmware_profiles.profile import Profile
from tests.readers.witness import watched

UID, OTHER_UID = bytes.fromhex("04A23B4C5D6080"), bytes.fromhex("DEADBEEF")
CARD, OTHER_CARD = card_14443a(UID), card_14443a(OTHER_UID)


def run(scenario: Callable[[], Coroutine[None, None, None]]) -> None:
    asyncio.run(asyncio.wait_for(scenario(), 30))


def hasty(profile_id: str, **changes: Any) -> Profile:
    profile = firmware_profiles.load(profile_id)
    return profile.model_copy(update={"polling": profile.polling.model_copy(update={"poll_ms": 50}), **changes})


def a_keyboard_reader(keyboard: HidKeysSimulator, name: str = "gate") -> Reader:
    return HidKeysReader(name, profile=hasty("readers/hid_hex"), port=keyboard.port, grab=lock)


@pytest.fixture
def keyboard(tmp_path: Path):
    with HidKeysSimulator(link=tmp_path / "reader") as keyboard:
        yield keyboard


def test_half_a_line_is_forgotten_after_a_pause_that_no_reader_makes(keyboard: HidKeysSimulator):
    async def scenario():
        async with watched(a_keyboard_reader(keyboard)) as witness:
            await witness.until(lambda w: bool(w.found))
            keyboard.send(typed("04A2")[: 8 * EVENT.size])
            await asyncio.sleep(0.25)
            keyboard.type("DEADBEEF")
            await witness.until_seen(OTHER_CARD)
            assert {event.cards for event in witness.seen} == {(OTHER_CARD,)}

    run(scenario)


def test_what_a_person_types_is_no_card(keyboard: HidKeysSimulator):
    async def scenario():
        async with watched(a_keyboard_reader(keyboard)) as witness:
            await witness.until(lambda w: bool(w.found))
            keyboard.type("04A2")
            keyboard.send(b"".join(EVENT.pack(KEY, code, 1) for code in (35, 18, 38, 38, 24, 28)))  # hello
            await asyncio.sleep(0.1)
            keyboard.type("DEADBEEF")
            await witness.until_seen(OTHER_CARD)
            assert not witness.lost

    run(scenario)


def test_a_grabbed_keyboard_is_not_shared(keyboard: HidKeysSimulator):
    async def scenario():
        async with watched(a_keyboard_reader(keyboard, "first")) as first:
            await first.until(lambda w: bool(w.found))
            async with watched(a_keyboard_reader(keyboard, "second")) as second:
                await second.until(lambda w: bool(w.lost))
            assert "in use by another program" in second.lost[0].cause

    run(scenario)


def test_a_node_that_is_no_input_device_is_refused_by_the_real_grab(keyboard: HidKeysSimulator):
    async def scenario():
        reader = open_reader("gate", profile=hasty("readers/hid_hex"), port=keyboard.port)
        async with watched(reader) as witness:
            await witness.until(lambda w: bool(w.lost))
            assert "is no input device" in witness.lost[0].cause

    run(scenario)


@pytest.mark.slow
def test_a_card_that_the_charger_held_before_we_came_is_no_tap_and_one_that_stays_is_one_tap():
    profile = hasty("readers/amperfied")

    async def scenario():
        with ChargerRegisterSimulator(profile) as charger:
            charger.show(UID)
            async with watched(open_reader("gate", profile=profile, port=charger.port)) as witness:
                await witness.until(lambda w: bool(w.found))
                assert "a card of before" in " ".join(witness.found[0].findings)
                await asyncio.sleep(0.3)
                assert not witness.seen
                charger.show(OTHER_UID)
                await witness.until_seen(OTHER_CARD)
                await asyncio.sleep(0.6)
                assert sum(bool(event.cards) for event in witness.seen) == 1
                charger.forget()
                await asyncio.sleep(0.2)
                charger.show(OTHER_UID)
                await witness.until(lambda w: sum(bool(event.cards) for event in w.seen) == 2)

    run(scenario)


@pytest.mark.slow
def test_a_card_counts_only_in_the_states_in_which_the_charger_means_it():
    profile = hasty("readers/kathrein")
    waiting, confirmed = 2, 3

    async def scenario():
        with ChargerRegisterSimulator(profile) as charger:
            charger.state = waiting
            async with watched(open_reader("gate", profile=profile, port=charger.port)) as witness:
                await witness.until(lambda w: bool(w.found))
                charger.show(UID)
                await asyncio.sleep(0.3)
                assert not witness.seen
                charger.state = confirmed
                await witness.until_seen(CARD)
                assert not witness.lost

    run(scenario)


@pytest.mark.parametrize(
    ("firmware", "assurance", "finding"),
    [
        ("1.5.1", Assurance.LOSSY, "VDE-2024-019"),
        ("1.6.2", Assurance.STATIC, "VDE-2024-022"),
        ("1.7.0", Assurance.STATIC, ""),
    ],
)
def test_a_chargers_firmware_decides_what_its_cards_count(firmware: str, assurance: Assurance, finding: str):
    profile = hasty("readers/phoenix_charx")

    async def scenario():
        with ChargerRegisterSimulator(profile, firmware=firmware) as charger:
            async with watched(open_reader("gate", profile=profile, port=charger.port)) as witness:
                await witness.until(lambda w: bool(w.found))
                assert witness.found[0].firmware == firmware
                assert finding in " ".join(witness.found[0].findings)
                charger.show(UID)
                await witness.until(lambda w: bool(w.seen))
                assert [card.assurance for card in witness.seen[0].cards] == [assurance]

    run(scenario)


def test_a_charger_that_refuses_the_register_is_lost_with_a_hint_about_the_profile():
    shown, asked = hasty("readers/amperfied"), hasty("readers/keba_p30")

    async def scenario():
        with ChargerRegisterSimulator(shown) as charger:
            async with watched(open_reader("gate", profile=asked, port=charger.port)) as witness:
                await witness.until(lambda w: bool(w.lost))
                assert "does not tell the registers" in witness.lost[0].cause
                assert "profile" in witness.lost[0].hint

    run(scenario)


def test_a_weakness_of_every_version_makes_the_cards_of_a_reader_that_tells_none_lossy(
    keyboard: HidKeysSimulator,
):
    weakness = firmware_profiles.load("readers/phoenix_charx").security[0].model_copy(update={"affects": "all"})
    profile = hasty("readers/hid_hex", security=(weakness,))

    async def scenario():
        async with watched(HidKeysReader("gate", profile=profile, port=keyboard.port, grab=lock)) as witness:
            await witness.until(lambda w: bool(w.found))
            assert weakness.id in witness.found[0].findings[0]
            keyboard.type("DEADBEEF")
            await witness.until(lambda w: bool(w.seen))
            assert [card.assurance for card in witness.seen[0].cards] == [Assurance.LOSSY]

    run(scenario)


def test_a_pn532_whose_firmware_the_profile_refuses_is_never_read(tmp_path: Path):
    base = firmware_profiles.load("readers/pn532_hsu")
    strict = hasty(
        "readers/pn532_hsu",
        firmware=base.firmware.model_copy(update={"minimum": "1.7", "known": (), "below_minimum": "refuse"}),
    )

    async def scenario():
        with Pn532Simulator(link=tmp_path / "reader") as chip:
            chip.present(Type2Card(UID))
            async with watched(open_reader("gate", profile=strict, port=chip.port)) as witness:
                await witness.until(lambda w: bool(w.lost))
                await asyncio.sleep(0.2)
                assert "firmware 1.6 is older than 1.7" in witness.lost[0].cause
                assert not witness.found
                assert not witness.seen

    run(scenario)


def a_usb_reader(chip: Pn533Simulator) -> Reader:
    return pn533_reader("gate", profile=hasty("readers/scl3711"), port="", open_pipe=chip.open_pipe)


@pytest.mark.slow
@pytest.mark.parametrize("fault", [Fault.BAD_CHECK, Fault.CUT_MID_FRAME, Fault.STRAY_BYTES, Fault.WRONG_ANSWER])
def test_one_damaged_answer_of_a_pn533_costs_a_poll_and_no_reader(fault: Fault):
    async def scenario():
        chip = Pn533Simulator()
        chip.present(Type2Card(UID))
        async with watched(a_usb_reader(chip)) as witness:
            await witness.until_seen(CARD)
            chip.disturb(fault, command=0x4A)
            await asyncio.sleep(0.1)
            witness.forget()
            await witness.until_seen(CARD, within_s=3.0)
            assert not witness.lost
            assert {event.cards for event in witness.seen} <= {(CARD,), ()}

    run(scenario)


def test_a_claimed_usb_device_is_not_shared():
    async def scenario():
        chip = Pn533Simulator()
        async with watched(a_usb_reader(chip)) as first:
            await first.until(lambda w: bool(w.found))
            async with watched(a_usb_reader(chip)) as second:
                await second.until(lambda w: bool(w.lost))
            assert "in use" in second.lost[0].cause

    run(scenario)


@pytest.mark.parametrize(
    "port", ["", "usb:04e6:5591", "usb:04e6:5591:A1", "usb:04e6", "/dev/bus/usb/001/002", "usb:;x"]
)
def test_a_usb_device_that_is_not_there_is_told_and_a_port_is_never_a_command(port: str):
    with pytest.raises(PortFailed) as caught:
        open_usb_pipe(port, ("04e6:5591",))
    assert (
        "not there" in caught.value.cause
        or "names no USB device" in caught.value.cause
        or "cannot" in caught.value.cause
    )


@pytest.mark.slow
def test_a_chip_that_a_killed_program_left_at_921600_baud_is_back_within_a_quarter_of_a_second(tmp_path: Path):
    async def once(number: int) -> float:
        with Pn532Simulator(link=tmp_path / f"reader-{number}") as chip:
            chip.wedge_at_baud(921_600)
            async with watched(open_reader("gate", profile=hasty("readers/pn532_hsu"), port=chip.port)) as witness:
                took_s = await witness.until(lambda w: bool(w.found))
                assert "921600" in " ".join(witness.found[0].findings)
                assert not witness.lost
            return took_s

    # The best of five: what the sweep takes, and not what a busy machine adds.
    assert min(asyncio.run(once(number)) for number in range(5)) < 0.25
