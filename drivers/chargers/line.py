"""A charger that speaks the line protocol over a serial port. The bytes are line_codec.py, the port serial_port.py."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import assert_never

from drivers.back_off import delays_s
from drivers.chargers import charger, line_codec
from drivers.chargers.charger import ChargerState, ChargerUnavailable, Emit, monotonic_ms
from drivers.chargers.line_codec import Command, LineDecoder, Report
from drivers.serial_port import BAUDS, PortFailed, SerialPort

DEFAULT_BAUD = 115200
COMMAND_TRIES = 3
UNANSWERED_AT_MOST = 3
STABLE_AFTER_S = 10.0  # a link that stood so long was no flicker: the next loss is retried quickly again


@dataclass(frozen=True, slots=True, kw_only=True)
class Patience:
    """How long to wait for the charger. A command is given up after COMMAND_TRIES times `acknowledge_s`."""

    ask_every_s: float = 5.0  # a quiet charger is asked how it is; a lost report is healed by the answer
    answer_s: float = 1.0  # an answer takes milliseconds; a second covers a charger busy with its contactor
    acknowledge_s: float = 1.0


@dataclass(slots=True)
class _Link:
    """One opened port and what was heard over it so far."""

    port: SerialPort
    decoder: LineDecoder[Report] = field(default_factory=lambda: LineDecoder(line_codec.parse_report))
    found: bool = False
    doing: tuple[ChargerState, str | None] | None = None
    unanswered: int = 0
    wanted: bool = True  # somebody waits for a ChargerFound; a STATUS that says nothing new is otherwise kept quiet


class LineCharger:
    def __init__(self, name: str, *, port: str, baud: int = DEFAULT_BAUD, patience: Patience | None = None) -> None:
        if baud not in BAUDS:
            raise ValueError(f"charger {name}: {baud} is no baud rate of ours; choose one of {sorted(BAUDS)}")
        self.name = name
        self._path = port
        self._baud = baud
        self._patience = patience or Patience()
        self._link: _Link | None = None
        self._waiting: list[tuple[Callable[[Report], bool], asyncio.Future[Report]]] = []

    async def run(self, emit: Emit) -> None:
        loop = asyncio.get_running_loop()
        reported: str | None = None
        delays = delays_s()
        while True:
            opened_at_s = loop.time()
            try:
                with SerialPort(self._path, baud=self._baud) as port:
                    self._link = link = _Link(port)
                    try:
                        await self._listen(link, emit)
                    finally:
                        self._link = None
                        self._release()
                        if link.found:
                            reported = None
            except PortFailed as failed:
                if failed.cause != reported:
                    reported = failed.cause
                    emit(self._lost(failed))
            if loop.time() - opened_at_s >= STABLE_AFTER_S:
                delays = delays_s()
            await asyncio.sleep(next(delays))

    async def start(self, session: str, max_energy_wh: int | None) -> None:
        def confirms(report: Report) -> bool:
            match report:
                case line_codec.Started() | line_codec.Refused():
                    return report.session == session
                case line_codec.Status():
                    return report.state is ChargerState.CHARGING and report.session == session
                case _:
                    return False

        await self._command(line_codec.Start(session=session, max_energy_wh=max_energy_wh), confirms)

    async def stop(self, session: str) -> None:
        def confirms(report: Report) -> bool:
            match report:
                case line_codec.Stopped() | line_codec.Refused():
                    return report.session == session
                case line_codec.Status():
                    return report.state is not ChargerState.CHARGING or report.session != session
                case _:
                    return False

        await self._command(line_codec.Stop(session=session), confirms)

    async def query(self) -> None:
        link = self._found_link()
        link.wanted = True
        self._say(link, line_codec.Query())

    async def _listen(self, link: _Link, emit: Emit) -> None:
        """Until the port fails or the charger stays mute. A talkative port without one sound line counts as mute."""
        loop = asyncio.get_running_loop()
        link.port.write(line_codec.encode(line_codec.Query()))
        ask_at_s = loop.time() + self._patience.answer_s
        while True:
            try:
                async with asyncio.timeout_at(ask_at_s):
                    chunk = await link.port.read()
            except TimeoutError:
                link.unanswered += 1
                if link.unanswered >= UNANSWERED_AT_MOST:
                    raise self._mute(link) from None
                link.port.write(line_codec.encode(line_codec.Query()))
                ask_at_s = loop.time() + self._patience.answer_s
                continue
            for report in link.decoder.feed(chunk):
                self._heard(link, report, emit)
                link.unanswered = 0
                ask_at_s = loop.time() + (self._patience.ask_every_s if link.found else self._patience.answer_s)

    def _heard(self, link: _Link, report: Report, emit: Emit) -> None:
        for confirms, future in self._waiting:
            if not future.done() and confirms(report):
                future.set_result(report)
        doing = _doing(report, link.doing)
        if isinstance(report, line_codec.Status):
            if link.found and not link.wanted and doing == link.doing:
                return
            link.found, link.wanted = True, False
        # Until the first STATUS we cannot tell what a report belongs to; STATUS holds what came before it.
        if not link.found:
            return
        link.doing = doing
        event = event_of(report, self.name)
        if event is not None:
            emit(event)

    async def _command(self, command: Command, confirms: Callable[[Report], bool]) -> None:
        """Said up to three times: commands can be repeated, and either direction may lose a line."""
        link = self._found_link()
        answer: asyncio.Future[Report] = asyncio.get_running_loop().create_future()
        waiting = (confirms, answer)
        self._waiting.append(waiting)
        try:
            for _ in range(COMMAND_TRIES):
                self._say(link, command)
                done, _pending = await asyncio.wait({answer}, timeout=self._patience.acknowledge_s)
                if done:
                    break
            if not answer.done():
                raise self._unavailable("it did not confirm the command")
            if answer.cancelled():
                raise self._unavailable("the link broke before it confirmed the command")
            report = answer.result()
            if isinstance(report, line_codec.Refused):
                raise self._unavailable(f"it refused: {report.reason}")
        finally:
            self._waiting.remove(waiting)

    def _say(self, link: _Link, command: Command) -> None:
        try:
            link.port.write(line_codec.encode(command))
        except PortFailed as failed:
            raise ChargerUnavailable(self.name, failed.cause, hint=failed.hint) from failed

    def _found_link(self) -> _Link:
        if self._link is None or not self._link.found:
            raise self._unavailable(f"nothing is heard from it on {self._path}")
        return self._link

    def _release(self) -> None:
        for _, answer in self._waiting:
            answer.cancel()

    def _unavailable(self, what: str) -> ChargerUnavailable:
        return ChargerUnavailable(self.name, what, hint="look at the charger, its cable and its power")

    def _mute(self, link: _Link) -> PortFailed:
        if link.decoder.dropped:
            return PortFailed(
                f"only noise from {self._path}",
                hint=f"check the baud rate and the wiring (last line: {link.decoder.last_complaint})",
            )
        return PortFailed(
            f"no answer from {self._path}", hint="check that the charger has power and speaks this protocol"
        )

    def _lost(self, failed: PortFailed) -> charger.ChargerLost:
        return charger.ChargerLost(charger=self.name, cause=failed.cause, hint=failed.hint, monotonic_ms=monotonic_ms())


def event_of(report: Report, name: str) -> charger.ChargerEvent | None:
    """The report in the words that all chargers share; None for the answer to a command alone."""
    now_ms = monotonic_ms()
    match report:
        case line_codec.Status(state=state, session=session, meter_wh=meter_wh):
            return charger.ChargerFound(
                charger=name, state=state, session=session, meter_wh=meter_wh, monotonic_ms=now_ms
            )
        case line_codec.Plugged():
            return charger.PluggedIn(charger=name, monotonic_ms=now_ms)
        case line_codec.Unplugged():
            return charger.Unplugged(charger=name, monotonic_ms=now_ms)
        case line_codec.Started(session=session, meter_wh=meter_wh):
            return charger.ChargingStarted(charger=name, session=session, meter_wh=meter_wh, monotonic_ms=now_ms)
        case line_codec.Meter(session=session, meter_wh=meter_wh, power_w=power_w):
            return charger.Metered(
                charger=name, session=session, meter_wh=meter_wh, power_w=power_w, monotonic_ms=now_ms
            )
        case line_codec.Stopped(session=session, meter_wh=meter_wh, reason=reason):
            return charger.ChargingStopped(
                charger=name, session=session, meter_wh=meter_wh, reason=reason, monotonic_ms=now_ms
            )
        case line_codec.Fault(code=code):
            return charger.Faulted(charger=name, code=code, monotonic_ms=now_ms)
        case line_codec.Refused():
            return None
        case _ as never:
            assert_never(never)


def _doing(report: Report, before: tuple[ChargerState, str | None] | None) -> tuple[ChargerState, str | None] | None:
    match report:
        case line_codec.Status(state=state, session=session):
            return state, session if state is ChargerState.CHARGING else None
        case line_codec.Started(session=session):
            return ChargerState.CHARGING, session
        case line_codec.Stopped(session=session):
            ended_another = before is not None and before[0] is ChargerState.CHARGING and before[1] != session
            return before if ended_another else (ChargerState.PLUGGED, None)
        case line_codec.Plugged():
            return ChargerState.PLUGGED, None
        case line_codec.Unplugged():
            return ChargerState.AVAILABLE, None
        case line_codec.Fault():
            return ChargerState.FAULTED, None
        case line_codec.Meter() | line_codec.Refused():
            return before
        case _ as never:
            assert_never(never)
