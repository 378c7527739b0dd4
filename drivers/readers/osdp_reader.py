"""A reader on RS-485 that speaks OSDP, by default in a secure channel only. One thread a connection.

The protocol is libosdp's (osdp_library.py), frames are checked before it sees them (osdp_frames.py), where the key
comes from is secure_line.py, trying again supervision.py. Install mode is never entered and default keys are refused:
a key is given to a reader with its vendor's tool, not over a line that others can listen to.

The library itself leaves a mis-keyed reader alone for five minutes. Here each try is a new object, so a key that was
corrected works at the next one.
"""

from __future__ import annotations

import asyncio
import contextlib
import logging
import queue
import select
import time
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from functools import partial
from typing import TYPE_CHECKING

from drivers.readers.decoders import as_on_air
from drivers.readers.firmware import Admission, admit
from drivers.readers.osdp_frames import KEYPAD, RAW, OsdpFrame, card_in, frames
from drivers.readers.osdp_library import CardRead, Panel
from drivers.readers.reader import Card, Emit, Feedback, ReaderFound, Seen, Technology
from drivers.readers.rejects import Rejected
from drivers.readers.secure_line import KeyUnusable, SecureLine, checked
from drivers.readers.sightings import EmptyPolls
from drivers.readers.stop import Stop
from drivers.readers.supervision import ReaderGone, State, Supervision
from drivers.serial_port import SerialPort
from firmware_profiles.profile import commands_for

if TYPE_CHECKING:
    from firmware_profiles.profile import Profile

STEP_S = 0.02  # the library asks every 50 ms and looks for answers at each step; bytes that arrive are a step, too
OPEN_WITHIN_S = 2.0  # identification, capabilities and secure channel take 25 ms and eight questions
# A living reader answers every 50 ms. The library waits a second after a reply that was damaged; we begin a new
# session instead, which takes 25 ms, and only when that fails, too, the reader is lost: within a second of its death.
STALL_S = 0.3
RESTART_WITHIN_S = 0.4
CLOSE_WITHIN_S = 0.9
SIGNALS_MAX = 8  # waiting for the line; more is somebody hanging on to a button

log = logging.getLogger(__name__)


class OsdpReader:
    def __init__(self, name: str, *, profile: Profile, port: str, line: SecureLine) -> None:
        if profile.transport.baud is None or profile.polling.silence_ms is None:
            raise ValueError(f"profile {profile.id} has no baud or no silence_ms; an OSDP reader needs both")
        self.name = name
        self._profile = profile
        self._port = port
        self._baud = profile.transport.baud
        self._line = line
        self._signals: queue.Queue[tuple[Feedback, str]] = queue.Queue(SIGNALS_MAX)
        self._supervision = Supervision(name, path=port, connect=self._connect)

    @property
    def state(self) -> State:
        return self._supervision.state

    async def run(self, emit: Emit) -> None:
        await self._supervision.run(emit)

    async def signal(self, feedback: Feedback, text: str) -> None:
        """Shown by the reader's own timers; what cannot be delivered now is not shown later."""
        if self._supervision.state is not State.READY:
            return
        with contextlib.suppress(queue.Full):
            self._signals.put_nowait((feedback, text))

    async def _connect(self, emit: Emit) -> None:
        stop = Stop()
        thread = ThreadPoolExecutor(1, thread_name_prefix=f"reader-{self.name}")
        connection = asyncio.get_running_loop().run_in_executor(thread, self._serve, emit, stop)
        thread.shutdown(wait=False)
        try:
            await asyncio.shield(connection)
        finally:
            stop.set()
            await asyncio.wait({connection}, timeout=CLOSE_WITHIN_S)
            if connection.done() and not connection.cancelled():
                connection.exception()  # looked at: a cancelled run() does not tell it any more

    def _serve(self, emit: Emit, stop: Stop) -> None:
        """In the thread. Ends with ReaderGone or PortFailed, or quietly when stopped."""
        key = self._key()
        with contextlib.suppress(queue.Empty):
            while True:
                self._signals.get_nowait()
        with SerialPort(self._port, baud=self._baud) as port:
            open_panel = partial(Panel, address=self._line.address, key=key, write=port.write)
            connection = _Connection(self.name, self._profile, self._line, port, open_panel)
            while not connection.is_ready():
                if connection.step(stop):
                    return
            emit(connection.found())
            while not connection.step(stop):
                connection.check()
                connection.tell(emit)
                with contextlib.suppress(queue.Empty):
                    connection.show(*self._signals.get_nowait())

    def _key(self) -> bytes | None:
        if self._line.plain:
            return None
        try:
            return checked(self._line.key())
        except KeyUnusable as fault:
            raise ReaderGone(fault.cause, hint=fault.hint) from fault


class _Connection:
    """An open line with the library's panel on it. Lives in the connection's thread."""

    def __init__(
        self, name: str, profile: Profile, line: SecureLine, port: SerialPort, open_panel: Callable[[], Panel]
    ) -> None:
        self._name = name
        self._profile = profile
        self._line = line
        self._port = port
        self._open_panel = open_panel
        self._panel = open_panel()
        self._restart_by_s: float | None = None  # a new session has begun and must stand by then
        self._frames = frames()
        self._opened_s = self._heard_s = time.monotonic()
        self._heard_any = False
        self._admission: Admission | None = None
        self._empty_polls = EmptyPolls()
        self._empty_at_s: float | None = None
        self._silence_s = (profile.polling.silence_ms or 0) / 1_000
        self._poll_s = profile.polling.poll_ms / 1_000

    def step(self, stop: Stop) -> bool:
        """Wait for bytes or the next turn, and take it. Whether to stop."""
        watched: list[SerialPort | Stop] = [self._port, stop]
        ready, _, _ = select.select(watched, [], [], STEP_S)
        if stop in ready:
            return True
        if ready:
            for frame in self._frames.feed(self._port.read_now()):
                if isinstance(frame, Rejected):
                    log.debug("reader %s: damaged frame (%s)", self._name, frame.reason.value)
                elif self._is_ours(frame):
                    self._heard_any, self._heard_s = True, time.monotonic()
                    self._panel.received(frame.raw)
        self._panel.step()
        return False

    def is_ready(self) -> bool:
        """Whether the reader is there, and as secure as it must be. ReaderGone when it will not be."""
        if self._stands():
            return True
        if self._heard_any and self._panel.refused:
            raise ReaderGone(
                f"the reader on {self._port.path} answers but refuses the secure channel",
                hint="check that reader and key file have the same key, and that the reader is not in install mode",
            )
        if time.monotonic() - self._opened_s > OPEN_WITHIN_S:
            raise ReaderGone(
                f"no OSDP reader answers on {self._port.path} at address {self._line.address}",
                hint="check power, the A and B wires, the baud rate and the address",
            )
        return False

    def found(self) -> ReaderFound:
        """ReaderGone where the profile refuses this firmware."""
        about = self._panel.about()
        self._admission = admit(self._profile, about.firmware)
        findings = list(self._admission.findings)
        if self._line.plain:
            findings.append("no secure channel, as configured: whoever reaches the wire can read and replay cards")
        return ReaderFound(
            reader=self._name,
            model=f"{self._profile.make} {self._profile.model} (vendor {about.vendor}, model {about.model})",
            firmware=about.firmware,
            findings=tuple(findings),
        )

    def check(self) -> None:
        """That it still answers, in the secure channel where there must be one. ReaderGone when it does not."""
        now_s = time.monotonic()
        if self._stands() and now_s - self._heard_s < STALL_S:
            self._restart_by_s = None
        elif self._restart_by_s is None:
            self._restart_by_s = now_s + RESTART_WITHIN_S
            self._frames.forget()
            self._panel = self._open_panel()
        elif now_s > self._restart_by_s:
            silent = now_s - self._heard_s >= STALL_S
            raise ReaderGone(
                f"the reader on {self._port.path} {'answers no more' if silent else 'has left the session'}",
                hint="check its power and its wires, and whether somebody else is on the line",
            )

    def tell(self, emit: Emit) -> None:
        """Cards that were read, and then the empty polls: OSDP says that a card came, never that it went."""
        now_s = time.monotonic()
        for read in self._take():
            if not isinstance(cards := self._cards_in(read), Rejected):
                self._empty_polls.card_seen()
                self._empty_at_s = now_s + self._silence_s
                emit(Seen(reader=self._name, cards=cards, monotonic_ms=_monotonic_ms()))
        if self._empty_at_s is not None and now_s >= self._empty_at_s:
            self._empty_at_s = now_s + self._poll_s if self._empty_polls.outstanding else None
            now_ms = _monotonic_ms()
            if self._empty_polls.empty(now_ms):
                emit(Seen(reader=self._name, cards=(), monotonic_ms=now_ms))

    def show(self, feedback: Feedback, text: str) -> None:
        for command in commands_for(self._profile, feedback.value):
            self._panel.do(command)
        if text and "display" in self._profile.capabilities:
            self._panel.show(text, seconds=max(1, self._profile.feedback_ms // 1_000))

    def _stands(self) -> bool:
        return self._panel.online and (self._line.plain or self._panel.secure)

    def _take(self) -> list[CardRead]:
        cards, self._panel.cards = self._panel.cards, []
        return cards

    def _cards_in(self, read: CardRead) -> tuple[Card, ...] | Rejected:
        uid = self._profile.uid
        technology = Technology(uid.technologies[0]) if uid is not None else Technology.ISO14443A
        said = card_in(read.data, bits=read.bits, technology=technology)
        if not isinstance(said, Rejected) and uid is not None:
            said = as_on_air(said, uid)
        if isinstance(said, Rejected):
            log.warning("reader %s: a card of %d bits was not read (%s)", self._name, read.bits, said.reason.value)
            return said
        return said if self._admission is None else self._admission.cards(said)

    def _is_ours(self, frame: OsdpFrame) -> bool:
        if not frame.is_reply or frame.address != self._line.address:
            return False  # our own question on a two-wire line, or another reader's answer
        if not self._line.plain and frame.security is None and frame.code in (RAW, KEYPAD):
            log.warning("reader %s: a card in clear on a secured line, not believed: look at the wire", self._name)
            return False
        return True


def _monotonic_ms() -> int:
    return time.monotonic_ns() // 1_000_000
