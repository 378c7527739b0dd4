"""What a tap costs in software: a UID at simulated readers, from the tap to the green light, and a reader at rest.

No antenna and no card: their time comes on top. Readers are simulated in the benchmark's process; at rest and from tap
to light the service is a process of its own.
"""

from __future__ import annotations

import asyncio
import random
import statistics
import threading
import time
from collections.abc import Iterator, Sequence
from contextlib import ExitStack, contextmanager, suppress
from pathlib import Path
from typing import Any

import firmware_profiles
from drivers.cards.proof import NoKeys
from drivers.readers import open_reader
from drivers.readers.dialects import open_dialect
from drivers.readers.pn532 import _nfc, _Polling
from drivers.readers.pn532_simulator import Pn532Simulator
from drivers.readers.pn532_transport import Pn532Transport
from drivers.readers.polled_serial import _Line
from drivers.readers.polled_serial_simulator import PolledSerialSimulator, Twn4Module
from drivers.readers.reader import ReaderEvent, ReaderFound, Seen
from drivers.readers.serial_ascii_simulator import SerialAsciiSimulator
from drivers.readers.stop import Stop
from drivers.readers.virtual_cards import Type2Card
from drivers.serial_port import SerialPort
from tests.benchmarks.gateway import Gateway, settled_gateway
from tests.benchmarks.measurement import Bench, Benchmark, Pairs, Row, load, median, spread

UID = bytes.fromhex("04A23B4C5D6080")
WARM_UP = 5
GREEN, RED = bytes.fromhex("040202"), bytes.fromhex("040201")
GONE_S = 1.0  # a card that has left for so long is a new tap
PATIENCE_S = 10.0


def measure(bench: Bench) -> Sequence[Row]:
    return [
        *uid_at_a_pn532(bench.size(1_000, 30)),
        tap_to_event(bench.size(40, 1)),
        *uid_at_framed_readers(bench.size(1_000, 30)),
        *at_the_service(bench),
    ]


def uid_at_a_pn532(times: int) -> list[Row]:
    """One look that sees the card, ours and one turn of nfcpy's connect() over the same line, in turn."""
    pairs = Pairs()
    with a_pn532() as (chip, polling, frontend):
        chip.present(Type2Card(UID))
        for number in range(times + WARM_UP):
            began = time.perf_counter_ns()
            (card,) = polling._look(frontend)
            ours = (time.perf_counter_ns() - began) / 1e6
            peer = one_connect_ms(frontend)
            if card.uid != UID:
                raise RuntimeError("another card was read")
            if number >= WARM_UP:
                pairs.add(ours, peer)
    note = f"4 chip commands, and one more that looks for a second card; ours {spread(pairs.ours, 2)} ms; {load()}"
    return [*halves("UID at a PN532", pairs, "one turn of nfcpy's connect(), activation included", note, "<= 1 ms")]


def one_connect_ms(frontend: Any) -> float:
    """nfcpy's own loop with the card in the field: until it calls back. It activates the tag, which a UID needs not."""
    told: list[int] = []
    began = time.perf_counter_ns()
    options = {
        "targets": ["106A"],
        "on-connect": lambda tag: bool(told.append(time.perf_counter_ns())),
        "beep-on-connect": False,
    }
    frontend.connect(rdwr=options)
    return (told[0] - began) / 1e6


def tap_to_event(times: int) -> Row:
    """From laying the card on, at any moment, to the event: with our pace of polls, and with connect() as it comes."""
    dice = random.Random(5)
    pauses = [dice.uniform(0.0, 0.5) for _ in range(times)]
    ours = our_taps_ms(pauses)
    peers = nfcpys_taps_ms(pauses)
    return Row(
        name="from laying a card on to the event, PN532, p50",
        value=median(ours),
        unit="ms",
        peer="nfcpy's connect() with its defaults",
        peer_value=median(peers),
        ratio=median(ours) / median(peers),
        runs=times,
        note=f"a poll each 150 ms; ours {spread(ours)} ms, nfcpy {spread(peers)} ms",
    )


def our_taps_ms(pauses: Sequence[float]) -> list[float]:
    taken: list[float] = []

    async def scenario(chip: Pn532Simulator) -> None:
        seen: asyncio.Queue[float] = asyncio.Queue()
        found = asyncio.Event()
        loop = asyncio.get_running_loop()

        def told(event: ReaderEvent) -> None:
            if isinstance(event, ReaderFound):
                loop.call_soon_threadsafe(found.set)
            elif isinstance(event, Seen) and event.cards:
                loop.call_soon_threadsafe(seen.put_nowait, time.monotonic())

        reader = open_reader("bench", profile=firmware_profiles.load("readers/pn532_hsu"), port=chip.port)
        running = asyncio.create_task(reader.run(told))
        await asyncio.wait_for(found.wait(), PATIENCE_S)
        for pause in pauses:
            await asyncio.sleep(pause)
            began = time.monotonic()
            chip.present(Type2Card(UID))
            taken.append(1e3 * (await asyncio.wait_for(seen.get(), PATIENCE_S) - began))
            chip.remove()
            await asyncio.sleep(0.3)
            while not seen.empty():
                seen.get_nowait()
        running.cancel()
        with suppress(asyncio.CancelledError):
            await running

    with Pn532Simulator() as chip:
        asyncio.run(scenario(chip))
    return taken


def nfcpys_taps_ms(pauses: Sequence[float]) -> list[float]:
    taken: list[float] = []
    with a_pn532() as (chip, _, frontend):
        for pause in pauses:
            told: list[float] = []
            options = {
                "on-connect": lambda tag, told=told: bool(told.append(time.monotonic())),
                "beep-on-connect": False,
            }
            looping = threading.Thread(target=frontend.connect, kwargs={"rdwr": options})
            looping.start()
            time.sleep(pause)
            began = time.monotonic()
            chip.present(Type2Card(UID))
            looping.join(PATIENCE_S)
            taken.append(1e3 * (told[0] - began))
            chip.remove()
    return taken


def uid_at_framed_readers(times: int) -> Iterator[Row]:
    for name, profile_id, simulator in (
        ("StrongLink", "readers/stronglink_sl025", PolledSerialSimulator.stronglink()),
        ("TWN4, ASCII", "readers/twn4_simple", PolledSerialSimulator.twn4()),
    ):
        with simulator:
            simulator.present(UID)
            taken = asyncio.run(looks_ms(profile_id, simulator.port, times))
        for quantile, value in (("p50", median(taken)), ("p99", statistics.quantiles(taken, n=100)[98])):
            note = f"one question and its answer on the loop; two are wanted; {spread(taken, 2)} ms"
            yield Row(
                name=f"UID at a {name}, {quantile}", value=value, unit="ms", runs=times, note=note, target="<= 1 ms"
            )


async def looks_ms(profile_id: str, port: str, times: int) -> list[float]:
    profile = firmware_profiles.load(profile_id)
    dialect, taken = open_dialect(profile), []
    with SerialPort(port, baud=profile.transport.baud or 0) as opened:
        line = _Line(opened, dialect)
        for _ in range(times + WARM_UP):
            began = time.perf_counter_ns()
            dialect.sighting(await line.ask(dialect.poll))
            taken.append((time.perf_counter_ns() - began) / 1e6)
    return taken[WARM_UP:]


def at_the_service(bench: Bench) -> Iterator[Row]:
    taps = bench.size(20, 1)
    home = bench.fresh("readers")
    settled = settled_gateway(home, tokens=taps + 1)
    (home / "dev").mkdir()
    yield tap_to_light(settled, home, taps)
    yield from at_rest(bench, settled, home)


def tap_to_light(settled: Gateway, home: Path, taps: int) -> Row:
    """From the reader's first answer with the card in it to the command for the lamp, another known card each time."""
    module = TimedTwn4()
    with PolledSerialSimulator(module, link=home / "dev" / "front") as simulator:
        gateway = settled.copied_to(home / "light")
        gateway.readers = {"front": ("readers/twn4_simple", str(home / "dev" / "front"))}
        gateway.begin()
        try:
            wait_until(gateway.answers)
            taken = [module.tapped(simulator, gateway, 0x05000000000000 + each * 7919) for each in range(taps + 1)][1:]
        finally:
            gateway.stop()
    lights = {"green": module.lit.count(GREEN), "red": module.lit.count(RED)}
    return Row(
        name="from the card's first answer to the light, p50",
        value=median(taken),
        unit="ms",
        runs=taps,
        note=(
            f"two equal answers, decision durable, then the lamp; {lights['green']} green, {lights['red']} red; "
            f"{spread(taken, 1)} ms; {load()}"
        ),
        target="<= 20 ms",
    )


class TimedTwn4(Twn4Module):
    """Notes when it first told a card and when its lamp was lit."""

    def __init__(self) -> None:
        super().__init__(mode="ascii", crc=False)
        self.told_at: float | None = None
        self.lit_at: float | None = None
        self.lit: list[bytes] = []

    def _answer(self, command: bytes) -> bytes:
        answer = super()._answer(command)
        if command in (GREEN, RED) and self.told_at is not None and self.lit_at is None:
            self.lit_at = time.monotonic()
            self.lit.append(command)
        if command[:2] == b"\x05\x00" and self.uids and self.told_at is None:
            self.told_at = time.monotonic()
        return answer

    def tapped(self, simulator: PolledSerialSimulator, gateway: Gateway, uid: int) -> float:
        """At a free charger that nobody is plugged into; the session that is begun ends before the next tap."""
        for said in ({"event": "unplugged"}, {"event": "found", "state": "available", "meter_wh": 0}):
            gateway.api.post("/v1/chargers/bay/events", said)
        self.told_at = self.lit_at = None
        simulator.present(uid.to_bytes(7, "big"))
        wait_until(lambda: self.lit_at is not None)
        simulator.remove()
        time.sleep(GONE_S)
        if self.told_at is None or self.lit_at is None:
            raise RuntimeError("a light without a card")
        return 1e3 * (self.lit_at - self.told_at)


def at_rest(bench: Bench, settled: Gateway, home: Path) -> Iterator[Row]:
    """What the service costs while one reader polls an empty field and nobody comes. No network is tried."""
    watch_s, settle_s = (20.0, 5.0) if not bench.quick else (0.5, 0.5)
    readers = {
        "PN532": ("readers/pn532_hsu", Pn532Simulator),
        "StrongLink": ("readers/stronglink_sl025", PolledSerialSimulator.stronglink),
        "RDM6300": ("readers/rdm6300", SerialAsciiSimulator),
    }
    for number, (name, (profile_id, simulator)) in enumerate(readers.items()):
        with ExitStack() as stack:
            link = home / "dev" / f"rest-{number}"
            stack.enter_context(simulator(link=link))
            gateway = settled.copied_to(home / f"rest-{number}")
            gateway.readers = {"front": (profile_id, str(link))}
            gateway.begin()
            stack.callback(gateway.stop)
            time.sleep(settle_s)
            pid = gateway.service.process.pid
            used = -ran_s(pid)
            time.sleep(watch_s)
            used += ran_s(pid)
            yield Row(
                name=f"processor at rest, one {name}",
                value=100 * used / watch_s,
                unit="% of a core",
                runs=1,
                note=f"the whole service, {watch_s:.0f} s long, a poll each 150 ms where it polls; {load()}",
                target="<= 2 %",
            )


def ran_s(pid: int) -> float:
    """To the nanosecond: a poll takes less than the tick in which other counters count."""
    return sum(int(each.read_text().split()[0]) for each in Path(f"/proc/{pid}/task").glob("*/schedstat")) / 1e9


@contextmanager
def a_pn532() -> Iterator[tuple[Pn532Simulator, _Polling, Any]]:
    stop = Stop()
    with Pn532Simulator() as chip:
        transport = Pn532Transport(chip.port, stop)
        polling = _Polling("bench", firmware_profiles.load("readers/pn532_hsu"), transport, stop, NoKeys())
        frontend, _ = polling._opened()
        _nfc()
        try:
            yield chip, polling, frontend
        finally:
            polling._put_to_sleep(frontend)
            transport.close()


def halves(what: str, pairs: Pairs, peer: str, note: str, target: str) -> Iterator[Row]:
    ours_p99, peers_p99 = (statistics.quantiles(each, n=100)[98] for each in (pairs.ours, pairs.peers))
    for name, ours, theirs, ratio in (
        ("p50", pairs.value, pairs.peer_value, pairs.ratio),
        ("p99", ours_p99, peers_p99, ours_p99 / peers_p99),
    ):
        yield Row(
            name=f"{what}, {name}", value=ours, unit="ms", peer=peer, peer_value=theirs, ratio=ratio,
            runs=len(pairs.ours), note=note, target=target,
        )  # fmt: skip


def wait_until(claim: Any) -> None:
    until_s = time.monotonic() + PATIENCE_S
    while not claim():
        if time.monotonic() > until_s:
            raise RuntimeError("nothing happened")
        time.sleep(0.01)


BENCHMARK = Benchmark(name="readers", about="taps in software, tap to light, a reader at rest", measure=measure)
