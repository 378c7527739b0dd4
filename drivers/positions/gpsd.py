"""A gpsd, asked over TCP for every fix of its receivers. What its lines say is gpsd_reports.py.

A fix counts from when its report came, by the monotonic clock. The receiver's own time never sets anything: it is
only compared with the one before, so that a receiver that repeats itself for ever does not stay young.
"""

from __future__ import annotations

import asyncio
import json
import logging
import time
from collections.abc import AsyncIterator, Callable, Iterator
from contextlib import asynccontextmanager, suppress

from drivers.back_off import delays_s
from drivers.positions.gpsd_reports import (
    LONGEST_LINE_BYTES,
    PROTOCOL,
    Complaint,
    Devices,
    Fix,
    NoFix,
    NotGpsd,
    Report,
    Version,
    read_report,
)
from drivers.positions.receiver import Emit, Measured, ReceiverFound, ReceiverLost, Unmeasured

PORT = 2947
CONNECT_TIMEOUT_S = 5.0
SILENCE_S = 15.0  # then it is asked for its version; a gpsd without a receiver has nothing else to say
ANSWER_TIMEOUT_S = 5.0
STABLE_AFTER_S = 5.0  # talking for so long was no flicker: the next loss is retried quickly again
LINES_A_SECOND = 500  # a receiver of 25 Hz makes about 100
EMIT_EVERY_MS = 1_000  # a vehicle that charges stands still

log = logging.getLogger(__name__)


class GpsdGone(Exception):
    """This connection is over; the one exception with which it ends."""

    def __init__(self, cause: str, *, hint: str) -> None:
        super().__init__(f"{cause}; {hint}")
        self.cause = cause
        self.hint = hint


class Gpsd:
    """`device` is the path of one of its receivers, for a gpsd that has several."""

    def __init__(
        self,
        host: str,
        port: int = PORT,
        *,
        device: str | None = None,
        delays: Callable[[], Iterator[float]] = delays_s,
        silence_s: float = SILENCE_S,
    ) -> None:
        self._host = host
        self._port = port
        self._device = device
        self._delays = delays
        self._silence_s = silence_s

    async def run(self, emit: Emit) -> None:
        """One ReceiverLost an outage, however many tries it takes."""
        delays, told_lost = self._delays(), ""
        while True:
            began_s, conversation = time.monotonic(), Conversation(emit)
            try:
                await self._converse(conversation)
            except GpsdGone as gone:
                if conversation.is_found or not told_lost:
                    emit(ReceiverLost(cause=gone.cause, hint=gone.hint))
                elif gone.cause != told_lost:
                    log.warning("gpsd is still lost: %s (%s)", gone.cause, gone.hint)
                told_lost = gone.cause
            if conversation.is_found and time.monotonic() - began_s >= STABLE_AFTER_S:
                delays = self._delays()
            await asyncio.sleep(next(delays))

    async def _converse(self, conversation: Conversation) -> None:
        async with connected(self._host, self._port) as (reader, writer):
            pace = Pace(LINES_A_SECOND)
            asked = False
            try:
                await self._write(writer, watch(self._device))
                while True:
                    try:
                        async with asyncio.timeout(ANSWER_TIMEOUT_S if asked else self._silence_s):
                            line = await reader.readuntil(b"\n")
                    except TimeoutError:
                        if asked:
                            raise GpsdGone("gpsd does not answer", hint="is it stopped? it is tried again") from None
                        asked = True
                        await self._write(writer, b"?VERSION;\n")
                        continue
                    asked = False
                    pace.step()
                    conversation.hear(read_report(line))
            except NotGpsd as error:
                raise GpsdGone(f"{self._at} sent {error}", hint="is that port a gpsd's?") from error
            except asyncio.LimitOverrunError as error:
                raise GpsdGone(f"{self._at} sent a line without end", hint="is that port a gpsd's?") from error
            except (OSError, asyncio.IncompleteReadError) as error:
                raise GpsdGone("gpsd ended the connection", hint="did it stop? it is tried again") from error

    async def _write(self, writer: asyncio.StreamWriter, words: bytes) -> None:
        writer.write(words)
        with suppress(TimeoutError):
            async with asyncio.timeout(ANSWER_TIMEOUT_S):
                await writer.drain()

    @property
    def _at(self) -> str:
        return f"{self._host}:{self._port}"


class Conversation:
    """What one connection has told so far, and what of it is news."""

    def __init__(self, emit: Emit) -> None:
        self.is_found = False
        self._emit = emit
        self._is_lost_in_space = False
        self._time: str | None = None
        self._measured_ms = 0
        self._emitted: Measured | None = None

    def hear(self, report: Report | None) -> None:
        match report:
            case Version():
                if report.protocol != PROTOCOL:
                    raise NotGpsd(f"reports of protocol {report.protocol}, and only {PROTOCOL} is known")
                if not self.is_found:
                    self._emit(ReceiverFound(detail=f"gpsd {report.release}".strip()))
                self.is_found = True
            case _ if not self.is_found:
                raise NotGpsd("something else than its version first")
            case Devices(paths=()):
                self._no_fix("no receiver is attached to gpsd")
            case Complaint():
                log.warning("gpsd complains: %s", report.message)
            case NoFix():
                self._no_fix("the receiver has no fix")
            case Fix():
                self._measure(report, time.monotonic_ns() // 1_000_000)
            case _:
                pass

    def _no_fix(self, cause: str) -> None:
        if not self._is_lost_in_space:
            self._emit(Unmeasured(cause=cause))
        self._is_lost_in_space = True

    def _measure(self, fix: Fix, now_ms: int) -> None:
        if fix.time is None or fix.time != self._time:
            self._time, self._measured_ms = fix.time, now_ms
        measured = Measured(
            latitude_udeg=fix.latitude_udeg,
            longitude_udeg=fix.longitude_udeg,
            accuracy_m=fix.accuracy_m,
            monotonic_ms=self._measured_ms,
        )
        if not self._is_lost_in_space and self._emitted is not None and not is_news(measured, self._emitted):
            return
        self._is_lost_in_space = False
        self._emitted = measured
        self._emit(measured)


def is_news(measured: Measured, last: Measured) -> bool:
    """Later, or of the same moment and better."""
    if measured.monotonic_ms - last.monotonic_ms >= EMIT_EVERY_MS:
        return True
    return measured.accuracy_m is not None and (last.accuracy_m is None or measured.accuracy_m < last.accuracy_m)


class Pace:
    """Ends a conversation that would keep the whole processor busy."""

    def __init__(self, lines_a_second: int) -> None:
        self._limit = lines_a_second
        self._second = 0
        self._lines = 0

    def step(self) -> None:
        second = int(time.monotonic())
        if second != self._second:
            self._second, self._lines = second, 0
        self._lines += 1
        if self._lines > self._limit:
            raise NotGpsd(f"more than {self._limit} lines in a second")


@asynccontextmanager
async def connected(host: str, port: int) -> AsyncIterator[tuple[asyncio.StreamReader, asyncio.StreamWriter]]:
    try:
        async with asyncio.timeout(CONNECT_TIMEOUT_S):
            reader, writer = await asyncio.open_connection(host, port, limit=LONGEST_LINE_BYTES)
    except OSError as error:  # TimeoutError is one
        why = error.strerror or "no answer"
        raise GpsdGone(f"no gpsd at {host}:{port}: {why}", hint="start gpsd, or mend [gpsd]") from error
    try:
        yield reader, writer
    finally:
        writer.transport.abort()  # nothing that we say last matters, and nobody waits for a peer's farewell


def watch(device: str | None) -> bytes:
    """The command for a report of every fix, in degrees and metres, of every receiver or of one."""
    wanted = {"enable": True, "json": True} | ({} if device is None else {"device": device})
    return f"?WATCH={json.dumps(wanted, separators=(',', ':'))};\n".encode()
