"""What every reader keeps, whatever it is made of. One body over all of them."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Callable, Coroutine, Iterator
from contextlib import AbstractContextManager
from dataclasses import dataclass
from functools import partial
from pathlib import Path

import pytest

import firmware_profiles
from drivers.readers import open_reader
from drivers.readers.charger_register_simulator import ChargerRegisterSimulator
from drivers.readers.hid_keys import HidKeysReader
from drivers.readers.hid_keys_simulator import HidKeysSimulator, lock
from drivers.readers.osdp_simulator import OsdpSimulator
from drivers.readers.pcsc_simulator import VpcdCard
from drivers.readers.pn532_simulator import Pn532Simulator
from drivers.readers.pn533_simulator import Pn533Simulator
from drivers.readers.pn533_usb import pn533_reader
from drivers.readers.polled_serial_simulator import PolledSerialSimulator
from drivers.readers.reader import (
    Assurance,
    Card,
    Feedback,
    Reader,
    ReaderFound,
    ReaderLost,
    Seen,
    Technology,
    card_14443a,
    card_em4100,
)
from drivers.readers.secure_line import SecureLine
from drivers.readers.serial_ascii_simulator import SerialAsciiSimulator
from drivers.readers.simulated import SimulatedReader
from drivers.readers.virtual_cards import Type2Card
from tests.readers import pcsc_room
from tests.readers.witness import watched

LINE_KEY = bytes(range(1, 17))
TAG, OTHER_TAG = bytes.fromhex("6200E31716"), bytes.fromhex("01007A5D3C")
UID, OTHER_UID = bytes.fromhex("04A23B4C5D6080"), bytes.fromhex("DEADBEEF")


@dataclass(kw_only=True)
class Bench:
    """One reader with somebody standing at it."""

    reopen: Callable[[], Reader]
    cards: tuple[Card, Card]
    lay_on: Callable[[Card], None]
    take_away: Callable[[], None]
    unplug: Callable[[], None]
    replug: Callable[[], None]


def simulated(tmp_path: Path) -> Iterator[Bench]:
    reader = open_reader("gate", profile=firmware_profiles.load("readers/simulated"), port="")
    assert isinstance(reader, SimulatedReader)
    yield Bench(
        reopen=lambda: reader,
        cards=(card_14443a(UID), card_em4100(TAG)),
        lay_on=reader.present,
        take_away=reader.remove,
        unplug=reader.vanish,
        replug=reader.return_,
    )


def ascii_bench(profile_id: str, simulator: SerialAsciiSimulator) -> Iterator[Bench]:
    profile = firmware_profiles.load(profile_id)
    with simulator:
        port = simulator.port
        yield Bench(
            reopen=lambda: open_reader("gate", profile=profile, port=port),
            cards=(card_em4100(TAG), card_em4100(OTHER_TAG)),
            lay_on=lambda card: simulator.present(card.uid),
            take_away=simulator.remove,
            unplug=simulator.unplug,
            replug=simulator.replug,
        )


def rdm6300(tmp_path: Path) -> Iterator[Bench]:
    return ascii_bench("readers/rdm6300", SerialAsciiSimulator.rdm6300(link=tmp_path / "reader"))


def id12la(tmp_path: Path) -> Iterator[Bench]:
    return ascii_bench("readers/id12la", SerialAsciiSimulator.id12la(link=tmp_path / "reader"))


def pn532(tmp_path: Path) -> Iterator[Bench]:
    profile = firmware_profiles.load("readers/pn532_hsu")
    profile = profile.model_copy(update={"polling": profile.polling.model_copy(update={"poll_ms": 50})})
    with Pn532Simulator(link=tmp_path / "reader") as chip:
        port = chip.port
        yield Bench(
            reopen=lambda: open_reader("gate", profile=profile, port=port),
            cards=(card_14443a(UID), card_14443a(OTHER_UID)),
            lay_on=lambda card: chip.present(Type2Card(card.uid)),
            take_away=chip.remove,
            unplug=chip.unplug,
            replug=chip.replug,
        )


def polled_bench(profile_id: str, simulator: PolledSerialSimulator) -> Iterator[Bench]:
    profile = firmware_profiles.load(profile_id)
    with simulator:
        port = simulator.port
        yield Bench(
            reopen=lambda: open_reader("gate", profile=profile, port=port),
            cards=(card_14443a(UID), card_14443a(OTHER_UID)),
            lay_on=lambda card: simulator.present(card.uid),
            take_away=simulator.remove,
            unplug=simulator.unplug,
            replug=simulator.replug,
        )


def stronglink(tmp_path: Path) -> Iterator[Bench]:
    return polled_bench("readers/stronglink_sl025", PolledSerialSimulator.stronglink(link=tmp_path / "reader"))


def twn4(tmp_path: Path) -> Iterator[Bench]:
    return polled_bench("readers/twn4_simple", PolledSerialSimulator.twn4(link=tmp_path / "reader"))


def twn4_binary(tmp_path: Path) -> Iterator[Bench]:
    simulator = PolledSerialSimulator.twn4(link=tmp_path / "reader", mode="binary", crc=True)
    return polled_bench("readers/twn4_simple_binary", simulator)


def wiegand(tmp_path: Path) -> Iterator[Bench]:
    profile = firmware_profiles.load("readers/wiegand_counted")
    hasty = profile.model_copy(update={"polling": profile.polling.model_copy(update={"silence_ms": 300})})
    link = tmp_path / "reader"
    with SerialAsciiSimulator.wiegand(34, form="counted_left", link=link, repeat_s=0.1) as simulator:
        yield Bench(
            reopen=lambda: open_reader("gate", profile=hasty, port=str(link)),
            cards=(a_wiegand_card("04A23B4C"), a_wiegand_card("DEADBEEF")),
            lay_on=lambda card: simulator.present(card.uid),
            take_away=simulator.remove,
            unplug=simulator.unplug,
            replug=simulator.replug,
        )


def osdp(tmp_path: Path) -> Iterator[Bench]:
    profile = firmware_profiles.load("readers/osdp_v2")
    with OsdpSimulator(key=LINE_KEY, link=tmp_path / "reader") as simulator:
        yield Bench(
            reopen=lambda: open_reader(
                "gate", profile=profile, port=str(tmp_path / "reader"), line=SecureLine(key=lambda: LINE_KEY)
            ),
            cards=(card_14443a(UID), card_14443a(OTHER_UID)),
            lay_on=lambda card: simulator.present(card.uid),
            take_away=lambda: None,
            unplug=simulator.unplug,
            replug=simulator.replug,
        )


def a_wiegand_card(data: str) -> Card:
    return Card(uid=bytes.fromhex(data), technology=Technology.EM4100, assurance=Assurance.LOSSY)


def pcsc(tmp_path: Path) -> Iterator[Bench]:
    """A real pcscd and the virtual reader vpcd."""
    if (obstacle := pcsc_room.obstacle()) is not None:
        pytest.skip(obstacle)
    profile = firmware_profiles.load("readers/pcsc_contactless")
    profile = profile.model_copy(update={"polling": profile.polling.model_copy(update={"poll_ms": 50})})
    with pcsc_room.Room(tmp_path) as room:
        field: list[VpcdCard] = []

        def take_away() -> None:
            while field:
                field.pop().take_away()

        def lay_on(card: Card) -> None:
            take_away()
            field.append(VpcdCard(room.connect, card.uid))
            field[0].lay_on()

        def unplug() -> None:
            take_away()
            room.stop()

        yield Bench(
            reopen=lambda: open_reader("gate", profile=profile, port=pcsc_room.READER),
            cards=(card_14443a(UID), card_14443a(OTHER_UID)),
            lay_on=lay_on,
            take_away=take_away,
            unplug=unplug,
            replug=room.start,
        )
        take_away()


def pn533_usb(tmp_path: Path) -> Iterator[Bench]:
    """No USB here: the real frames through the driver's own seam for the two endpoints."""
    profile = firmware_profiles.load("readers/scl3711")
    profile = profile.model_copy(update={"polling": profile.polling.model_copy(update={"poll_ms": 50})})
    chip = Pn533Simulator()
    yield Bench(
        reopen=lambda: pn533_reader("gate", profile=profile, port="", open_pipe=chip.open_pipe),
        cards=(card_14443a(UID), card_14443a(OTHER_UID)),
        lay_on=lambda card: chip.present(Type2Card(card.uid)),
        take_away=chip.remove,
        unplug=chip.unplug,
        replug=chip.replug,
    )


def hid_keys(tmp_path: Path) -> Iterator[Bench]:
    """Not a kernel's input device, which would need uinput: its events on a pseudo-terminal, locked and not grabbed."""
    profile = firmware_profiles.load("readers/hid_hex")
    with HidKeysSimulator(link=tmp_path / "reader") as keyboard:
        port = keyboard.port
        yield Bench(
            reopen=lambda: HidKeysReader("gate", profile=profile, port=port, grab=lock),
            cards=(card_14443a(UID), card_14443a(OTHER_UID)),
            lay_on=lambda card: keyboard.type(card.canonical),
            take_away=lambda: None,
            unplug=keyboard.unplug,
            replug=keyboard.replug,
        )


def charger_register(tmp_path: Path) -> Iterator[Bench]:
    profile = firmware_profiles.load("readers/amperfied")
    profile = profile.model_copy(update={"polling": profile.polling.model_copy(update={"poll_ms": 50})})
    with ChargerRegisterSimulator(profile) as charger:
        port = charger.port
        yield Bench(
            reopen=lambda: open_reader("gate", profile=profile, port=port),
            cards=(card_14443a(UID), card_14443a(OTHER_UID)),
            lay_on=lambda card: charger.show(card.uid),
            take_away=charger.forget,
            unplug=charger.unplug,
            replug=charger.replug,
        )


# The others have the driver of one of these with other bytes, faults of their own in tests/readers, or take their time.
QUICK = (simulated, rdm6300, pn532, osdp, hid_keys, charger_register)
LONG_RUN = (id12la, wiegand, stronglink, twn4, twn4_binary, pn533_usb, pcsc)
BENCHES = [*QUICK, *(pytest.param(each, marks=pytest.mark.slow) for each in LONG_RUN)]
ONE_A_DRIVER = [*QUICK, stronglink, pcsc]


@pytest.fixture(params=BENCHES, ids=lambda make: make.__name__)
def bench(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[Bench]:
    yield from request.param(tmp_path)


def run(scenario: Callable[[], Coroutine[None, None, None]]) -> None:
    asyncio.run(asyncio.wait_for(scenario(), 30))


def test_a_reader_says_what_it_is_and_then_what_it_sees(bench: Bench):
    async def scenario():
        async with watched(bench.reopen()) as witness:
            await witness.until(lambda w: bool(w.found))
            bench.lay_on(bench.cards[0])
            await witness.until_seen(bench.cards[0])
            bench.lay_on(bench.cards[1])
            await witness.until_seen(bench.cards[1])
        assert isinstance(witness.events[0], ReaderFound)
        assert witness.events[0].model
        assert witness.events[0].firmware
        assert not witness.lost
        assert {event.reader for event in witness.events} == {"gate"}
        assert {event.cards for event in witness.seen} <= {(card,) for card in bench.cards} | {()}
        times = [event.monotonic_ms for event in witness.seen]
        assert times == sorted(times)

    run(scenario)


@pytest.mark.slow
@pytest.mark.parametrize("bench", ONE_A_DRIVER, indirect=True, ids=lambda make: make.__name__)
def test_after_a_card_has_left_the_empty_field_is_told_for_a_second_and_then_no_more(bench: Bench):
    async def scenario():
        async with watched(bench.reopen()) as witness:
            await witness.until(lambda w: bool(w.found))
            await asyncio.sleep(0.2)
            assert not witness.seen
            bench.lay_on(bench.cards[0])
            await witness.until_seen(bench.cards[0])
            bench.take_away()
            await witness.until_seen()
            await asyncio.sleep(1.5)
            empty = [event for event in witness.seen if not event.cards]
            assert len(empty) >= 4
            assert empty[-1].monotonic_ms - empty[0].monotonic_ms >= 950
            told = len(witness.seen)
            await asyncio.sleep(0.4)
            assert len(witness.seen) == told

    run(scenario)


def test_a_pulled_cable_is_one_loss_with_a_hint_and_putting_it_back_is_enough(bench: Bench):
    async def scenario():
        async with watched(bench.reopen()) as witness:
            await witness.until(lambda w: bool(w.found))
            bench.unplug()
            await witness.until(lambda w: bool(w.lost), within_s=1.0)
            await asyncio.sleep(0.1)
            assert len(witness.lost) == 1
            assert witness.lost[0].cause
            assert witness.lost[0].hint
            witness.forget()
            bench.replug()
            await witness.until(lambda w: bool(w.found), within_s=3.0)
            bench.lay_on(bench.cards[0])
            await witness.until_seen(bench.cards[0])
            assert not witness.lost

    run(scenario)


def test_a_cancelled_reader_lets_go_of_its_device_at_once(bench: Bench):
    async def scenario():
        for _ in range(2):
            async with watched(bench.reopen()) as witness:
                await witness.until(lambda w: bool(w.found), within_s=1.0)
            told = len(witness.events)
            bench.lay_on(bench.cards[0])
            await asyncio.sleep(0.05)
            assert len(witness.events) == told
            bench.take_away()

    run(scenario)


def test_feedback_never_raises_and_never_takes_long_wherever_the_reader_is(bench: Bench):
    async def scenario():
        reader = bench.reopen()
        async with asyncio.timeout(1):
            for feedback in Feedback:
                await reader.signal(feedback, "before it runs")
        async with watched(reader) as witness:
            await witness.until(lambda w: bool(w.found))
            async with asyncio.timeout(1):
                await reader.signal(Feedback.GRANTED, "while it runs")
            bench.unplug()
            await witness.until(lambda w: bool(w.lost))
            async with asyncio.timeout(1):
                await reader.signal(Feedback.REFUSED, "while it is away")

    run(scenario)


def test_no_uid_is_written_out_by_events_or_logs(bench: Bench, caplog: pytest.LogCaptureFixture):
    caplog.set_level(1)
    for name in ("nfc", "nfc.clf", "nfc.clf.pn532", "nfc.clf.pn53x"):
        assert logging.getLogger(name).level in (logging.NOTSET, logging.CRITICAL)

    async def scenario():
        async with watched(bench.reopen()) as witness:
            await witness.until(lambda w: bool(w.found))
            bench.lay_on(bench.cards[0])
            await witness.until_seen(bench.cards[0])
            bench.unplug()
            await witness.until(lambda w: bool(w.lost))
        written = f"{witness.events!r}{[str(event) for event in witness.events]}{caplog.text}".upper()
        assert bench.cards[0].canonical[2:] not in written
        assert bench.cards[0].uid.hex(" ").upper() not in written

    run(scenario)


SIMULATORS: dict[str, Callable[..., AbstractContextManager[object]]] = {
    "readers/rdm6300": SerialAsciiSimulator,
    "readers/id12la": SerialAsciiSimulator,
    "readers/pn532_hsu": Pn532Simulator,
    "readers/stronglink_sl025": PolledSerialSimulator.stronglink,
    "readers/osdp_v2": partial(OsdpSimulator, key=LINE_KEY),
}
NOT_SLOW = ("readers/rdm6300", "readers/pn532_hsu")


@pytest.mark.parametrize(
    "profile_id",
    [each if each in NOT_SLOW else pytest.param(each, marks=pytest.mark.slow) for each in SIMULATORS],
)
def test_a_reader_that_is_not_there_yet_is_lost_once_and_found_when_it_comes(profile_id: str, tmp_path: Path):
    path = tmp_path / "reader"

    async def scenario():
        line = SecureLine(key=lambda: LINE_KEY)
        reader = open_reader("gate", profile=firmware_profiles.load(profile_id), port=str(path), line=line)
        async with watched(reader) as witness:
            await witness.until(lambda w: bool(w.lost))
            await asyncio.sleep(0.3)
            assert [type(event) for event in witness.events] == [ReaderLost]
            assert str(path) in witness.lost[0].cause
            with SIMULATORS[profile_id](link=path):
                await witness.until(lambda w: bool(w.found), within_s=2.0)
        assert not any(isinstance(event, Seen) for event in witness.events)

    run(scenario)


@pytest.mark.parametrize("profile_id", ["readers/rdm6300", "readers/pn532_hsu"])
def test_a_port_that_another_program_holds_is_not_shared(profile_id: str, tmp_path: Path):
    profile = firmware_profiles.load(profile_id)

    async def scenario():
        with Pn532Simulator(link=tmp_path / "reader") as chip:
            async with watched(open_reader("first", profile=profile, port=chip.port)) as first:
                await first.until(lambda w: bool(w.found))
                async with watched(open_reader("second", profile=profile, port=chip.port)) as second:
                    await second.until(lambda w: bool(w.lost))
                assert "in use" in second.lost[0].cause
                assert not second.found

    run(scenario)
