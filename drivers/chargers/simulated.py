"""Chargers without hardware: one on a pseudo-terminal for whole-program runs, one in process for tests.

Both are a Station (station.py) with a voice: a test or the demo says what happens to the charger in the words of
somebody standing beside it.
"""

from __future__ import annotations

import asyncio
import contextlib
import os
import pty
import tty
from collections.abc import Iterable
from pathlib import Path

from drivers.chargers import charger, line_codec
from drivers.chargers.charger import ChargerUnavailable, Emit, monotonic_ms
from drivers.chargers.line import event_of
from drivers.chargers.line_codec import Command, LineDecoder, Report
from drivers.chargers.station import Station
from drivers.serial_port import READ_BYTES

STEP_MS = 50  # how finely time flows in the simulator
METER_EVERY_MS = 1_000


class ChargerSimulator:
    """A charger that speaks the line protocol on a pseudo-terminal, reachable at `link`, a path that stays the same.

    It charges and meters whether or not anybody listens. `speed` is how many of its seconds pass in one of ours.
    Use as a context manager and await run(); all methods belong to the loop that runs it.
    """

    def __init__(
        self,
        link: Path,
        *,
        power_w: int = 11_000,
        speed: int = 1,
        meter_wh: int = 0,
        meter_every_ms: int = METER_EVERY_MS,
    ) -> None:
        self.station = Station(power_w=power_w, meter_wh=meter_wh)
        self.speed = speed
        self._link = link
        self._meter_every_ms = meter_every_ms
        self._decoder = LineDecoder(line_codec.parse_command)
        self._powered = False
        self._deaf = False
        self._master: int | None = None
        self._slave: int | None = None
        self._loop: asyncio.AbstractEventLoop | None = None

    def __enter__(self) -> ChargerSimulator:
        self.restore_power()
        return self

    def __exit__(self, *exc: object) -> None:
        self.lose_power()

    async def run(self) -> None:
        """For ever, until cancelled."""
        self._loop = asyncio.get_running_loop()
        try:
            self._attend()
            before_ms = metered_ms = monotonic_ms()
            while True:
                await asyncio.sleep(STEP_MS / 1000)
                now_ms = monotonic_ms()
                if self._powered:
                    self._say(self.station.advance((now_ms - before_ms) * self.speed))
                    if now_ms - metered_ms >= self._meter_every_ms:
                        metered_ms = now_ms
                        self._say(self.station.reading())
                before_ms = now_ms
        finally:
            self._ignore()
            self._loop = None

    def plug_in(self, demand_wh: int | None = None) -> None:
        self._say(self.station.plug_in(demand_wh))

    def unplug(self) -> None:
        self._say(self.station.unplug())

    def fail(self, code: str) -> None:
        self._say(self.station.fail(code))

    def repair(self) -> None:
        self._say(self.station.repair())

    def lose_power(self) -> None:
        """The port vanishes and the session is forgotten; the register and the plugged cable stay as they are."""
        self._powered = False
        self.station.lose_power()
        self.cut_cable()

    def restore_power(self) -> None:
        self._powered = True
        self.mend_cable()

    def cut_cable(self) -> None:
        """The port vanishes; the charger keeps its power and goes on charging."""
        self._ignore()
        for fd in (self._master, self._slave):
            if fd is not None:
                os.close(fd)
        self._master = self._slave = None
        with contextlib.suppress(FileNotFoundError):
            self._link.unlink()

    def mend_cable(self) -> None:
        if self._master is not None:
            return
        # The slave stays open here too: else the line would hang up each time the other side closes it.
        self._master, self._slave = pty.openpty()
        tty.setraw(self._slave)
        os.set_blocking(self._master, False)
        fresh = self._link.with_name(self._link.name + ".new")
        fresh.unlink(missing_ok=True)
        fresh.symlink_to(os.ttyname(self._slave))
        fresh.replace(self._link)
        self._attend()

    def go_deaf(self) -> None:
        """Commands reach it and are not obeyed."""
        self._deaf = True

    def make_noise(self, noise: bytes) -> None:
        """Bytes on the wire that no charger meant to send."""
        self._write(noise)

    def _attend(self) -> None:
        if self._loop is not None and self._master is not None:
            self._loop.add_reader(self._master, self._listen, self._master)

    def _ignore(self) -> None:
        if self._loop is not None and self._master is not None:
            self._loop.remove_reader(self._master)

    def _listen(self, master: int) -> None:
        with contextlib.suppress(BlockingIOError):
            for command in self._decoder.feed(os.read(master, READ_BYTES)):
                if not self._deaf:
                    self._say(self.station.obey(command))

    def _say(self, reports: Iterable[Report]) -> None:
        for report in reports:
            self._write(line_codec.encode(report))

    def _write(self, line: bytes) -> None:
        """What does not fit is lost, as on a wire with nobody at the other end; the charger never waits."""
        if self._master is not None:
            with contextlib.suppress(BlockingIOError):
                os.write(self._master, line)


class SimulatedCharger:
    """A Charger for tests, in process and without time: what happens, happens when the test says so."""

    def __init__(self, name: str = "charger", *, power_w: int = 11_000, meter_wh: int = 0) -> None:
        self.name = name
        self.station = Station(power_w=power_w, meter_wh=meter_wh)
        self.obeyed: list[Command] = []
        self._emit: Emit | None = None
        self._mute = False

    async def run(self, emit: Emit) -> None:
        self._emit = emit
        try:
            self._say((self.station.status(),))
            await asyncio.Event().wait()
        finally:
            self._emit = None

    async def start(self, session: str, max_energy_wh: int | None) -> None:
        self._obey(line_codec.Start(session=session, max_energy_wh=max_energy_wh))

    async def stop(self, session: str) -> None:
        self._obey(line_codec.Stop(session=session))

    async def query(self) -> None:
        self._obey(line_codec.Query())

    def car_arrives(self, demand_wh: int | None = None) -> None:
        self._say(self.station.plug_in(demand_wh))

    def car_leaves(self) -> None:
        self._say(self.station.unplug())

    def time_passes(self, *, minutes: int = 0, seconds: int = 0) -> None:
        """Energy flows for so long, then the meter is read once."""
        self._say(self.station.advance((minutes * 60 + seconds) * 1000))
        self._say(self.station.reading())

    def fail(self, code: str) -> None:
        self._say(self.station.fail(code))

    def repair(self) -> None:
        self._say(self.station.repair())

    def lose_power(self) -> None:
        self.station.lose_power()
        self.go_mute()

    def go_mute(self) -> None:
        """The link breaks; the car goes on charging, and nobody hears of it."""
        if not self._mute and self._emit is not None:
            self._emit(
                charger.ChargerLost(
                    charger=self.name,
                    cause="the simulated charger was told to be mute",
                    hint="call speak_again()",
                    monotonic_ms=monotonic_ms(),
                )
            )
        self._mute = True

    def speak_again(self) -> None:
        self._mute = False
        self._say((self.station.status(),))

    def _obey(self, command: Command) -> None:
        if self._mute or self._emit is None:
            raise ChargerUnavailable(self.name, "nothing is heard from it", hint="call speak_again(), or await run()")
        self.obeyed.append(command)
        reports = self.station.obey(command)
        self._say(reports)
        for report in reports:
            if isinstance(report, line_codec.Refused):
                raise ChargerUnavailable(self.name, f"it refused: {report.reason}", hint="look at the charger")

    def _say(self, reports: Iterable[Report]) -> None:
        for report in reports:
            event = event_of(report, self.name)
            if event is not None and self._emit is not None and not self._mute:
                self._emit(event)
