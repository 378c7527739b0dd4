"""Readers on a serial line that are asked who is there: StrongLink, Elatec TWN4. Talks to the port on the loop.

What is asked and how answers are understood is dialects.py, belief in answers and the empty polls after a card left
sightings.py, trying again supervision.py.

A question that is not answered is asked again at once; the third time in a row the reader is lost, well within a
second of its death.
"""

from __future__ import annotations

import asyncio
import contextlib
import logging
import re
import time
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

from drivers.readers.decoders import as_on_air
from drivers.readers.dialects import Dialect, Sighting, open_dialect
from drivers.readers.firmware import Admission, admit
from drivers.readers.reader import Emit, Feedback, ReaderFound, Seen
from drivers.readers.rejects import Reason, Rejected
from drivers.readers.sightings import Confirmation, EmptyPolls
from drivers.readers.supervision import ReaderGone, State, Supervision
from drivers.serial_port import PortFailed, SerialPort
from firmware_profiles.profile import commands_for

if TYPE_CHECKING:
    from firmware_profiles.profile import Profile

READ_BYTES = 256  # a quarter of a second at 9600 baud
BREATHER_S = 0.02  # after a full read: whatever sends faster than any reader gets 13 kB/s of our attention
ANSWER_WITHIN_S = 0.25  # a TWN4 at 9600 baud needs 40 ms for the bytes and some tens for the search
FAILED_QUESTIONS = 3
UNCONFIRMED_LOOKS = 3  # in a row and at once, then the usual pace: two cards may take turns for ever
SIGNAL_WITHIN_S = 0.8

log = logging.getLogger(__name__)


@dataclass(eq=False, slots=True)
class _Wish:
    """A signal that waits for its turn between two polls."""

    feedback: Feedback
    commands: tuple[bytes, ...]
    shown: asyncio.Future[None] = field(default_factory=lambda: asyncio.get_running_loop().create_future())

    def over(self) -> None:
        if not self.shown.done():  # whoever waited may have lost patience
            self.shown.set_result(None)


class PolledSerialReader:
    def __init__(self, name: str, *, profile: Profile, port: str) -> None:
        if profile.transport.baud is None:
            raise ValueError(f"profile {profile.id} has no baud; a serial reader needs one")
        self.name = name
        self._profile = profile
        self._port = port
        self._baud = profile.transport.baud
        self._dialect = open_dialect(profile)
        self._connected: _Polling | None = None
        self._supervision = Supervision(name, path=port, connect=self._connect)

    @property
    def state(self) -> State:
        return self._supervision.state

    async def run(self, emit: Emit) -> None:
        await self._supervision.run(emit)

    async def signal(self, feedback: Feedback, text: str) -> None:
        """Shown between two polls, until it has been shown for the profile's feedback_ms or something else is."""
        commands = commands_for(self._profile, feedback.value)
        if not commands or self._connected is None:
            log.debug("reader %s has no way to show %s", self.name, feedback.value)
            return
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(SIGNAL_WITHIN_S):
                await self._connected.show(_Wish(feedback, commands))

    async def _connect(self, emit: Emit) -> None:
        with SerialPort(self._port, baud=self._baud) as port:
            line = _Line(port, self._dialect)
            polling = _Polling(self.name, self._profile, line, self._dialect)
            emit(await polling.opened())
            self._connected = polling
            try:
                await polling.for_ever(emit)
            finally:
                self._connected = None
                polling.let_go()


class _Line:
    """Question and answer over an open port."""

    def __init__(self, port: SerialPort, dialect: Dialect) -> None:
        self.path = port.path
        self._port = port
        self._dialect = dialect
        self._codec = dialect.codec()

    async def ask(self, command: bytes) -> Any:
        """The answer to this command. TimeoutError when there is none, PortFailed when the port has gone."""
        self._port.discard_input()  # what comes late is no answer to this
        self._codec.forget()
        self.tell(command)
        async with asyncio.timeout(ANSWER_WITHIN_S):
            while True:
                chunk = await self._port.read(READ_BYTES)
                for result in self._codec.feed(chunk):
                    if isinstance(result, Rejected):
                        log.debug("%s: damaged answer (%s)", self.path, result.reason.value)
                    elif self._dialect.is_answer(result, command):
                        return result
                if len(chunk) == READ_BYTES:
                    await asyncio.sleep(BREATHER_S)

    def tell(self, command: bytes) -> None:
        self._port.write(self._dialect.encode(command))


class _Polling:
    """One connection."""

    def __init__(self, name: str, profile: Profile, line: _Line, dialect: Dialect) -> None:
        self._name = name
        self._profile = profile
        self._line = line
        self._dialect = dialect
        self._poll_s = profile.polling.poll_ms / 1_000
        self._confirmation = Confirmation(profile.confirm_frames, within_ms=2 * profile.polling.poll_ms)
        self._empty_polls = EmptyPolls()
        self._admission: Admission | None = None
        self._unconfirmed = 0
        self._failed = 0
        self._wish: _Wish | None = None
        self._wished = asyncio.Event()
        self._rest_at_s: float | None = None  # on the loop's clock; None: nothing is shown

    async def opened(self) -> ReaderFound:
        """Ask what it is, and set it up. ReaderGone when it does not answer."""
        firmware = await self._firmware()
        self._admission = admit(self._profile, _version_in(firmware))
        findings = list(self._admission.findings)
        for command in (*self._profile.setup, *self._profile.rest):
            if not await self._done(command):
                findings.append(f"does not accept the setting {command.hex().upper()}")
        model = f"{self._profile.make} {self._profile.model}"
        return ReaderFound(reader=self._name, model=model, firmware=firmware, findings=tuple(findings))

    async def for_ever(self, emit: Emit) -> None:
        loop = asyncio.get_running_loop()
        while True:
            await self._show()
            began_s = loop.time()
            try:
                answer = await self._line.ask(self._dialect.poll)
            except TimeoutError:
                self._count_failure()
                continue
            self._failed = 0
            if not self._looked(self._dialect.sighting(answer), emit):
                continue
            with contextlib.suppress(TimeoutError):
                async with asyncio.timeout_at(began_s + self._poll_s):
                    await self._wished.wait()

    async def show(self, wish: _Wish) -> None:
        if self._wish is not None:
            self._wish.over()  # overtaken before its turn
        self._wish = wish
        self._wished.set()
        await wish.shown

    def let_go(self) -> None:
        """Lamps out, as far as a line that may be dead allows. Nothing is waited for."""
        if self._wish is not None:
            self._wish.over()
        with contextlib.suppress(PortFailed):
            for command in self._profile.rest if self._rest_at_s is not None else ():
                self._line.tell(command)

    def _looked(self, sighting: Sighting | Rejected, emit: Emit) -> bool:
        """Tell what was seen. False: look again at once, this may be a card."""
        if not isinstance(sighting, Rejected) and self._profile.uid is not None:
            sighting = as_on_air(sighting, self._profile.uid)
        now_ms = time.monotonic_ns() // 1_000_000
        match sighting:
            case Rejected(reason=reason):
                log.debug("reader %s: nothing told (%s)", self._name, reason.value)
                if reason is Reason.COLLISION:
                    self._empty_polls.card_seen()  # neither a card nor an empty field
            case ():
                self._unconfirmed = 0
                if self._empty_polls.empty(now_ms):
                    emit(Seen(reader=self._name, cards=(), monotonic_ms=now_ms))
            case cards:
                if not self._confirmation.confirms(cards, now_ms):
                    self._unconfirmed += 1
                    return self._unconfirmed % UNCONFIRMED_LOOKS == 0
                self._unconfirmed = 0
                self._empty_polls.card_seen()
                if self._admission is not None:
                    cards = self._admission.cards(cards)
                emit(Seen(reader=self._name, cards=cards, monotonic_ms=now_ms))
        return True

    async def _show(self) -> None:
        """Whatever is to be shown now, or to end."""
        loop = asyncio.get_running_loop()
        if self._wish is not None:
            wish, self._wish = self._wish, None
            self._wished.clear()
            await self._tell(wish.commands)
            self._rest_at_s = loop.time() + self._profile.feedback_ms / 1_000
            wish.over()
        elif self._rest_at_s is not None and loop.time() >= self._rest_at_s:
            self._rest_at_s = None
            await self._tell(self._profile.rest)

    async def _tell(self, commands: tuple[bytes, ...]) -> None:
        """What the reader refuses is not shown. One that is silent is told no more: the next poll is its chance."""
        try:
            for command in commands:
                await self._line.ask(command)
                self._failed = 0
        except TimeoutError:
            self._count_failure()

    async def _done(self, command: bytes) -> bool:
        """Whether the reader accepts a setting."""
        try:
            return self._dialect.is_done(await self._line.ask(command))
        except TimeoutError:
            log.debug("reader %s did not answer %s", self._name, command.hex().upper())
            return False

    async def _firmware(self) -> str:
        while True:
            try:
                text = self._dialect.version_text(await self._line.ask(self._dialect.version))
            except TimeoutError:
                self._count_failure()
                continue
            self._failed = 0
            return text or "unknown"

    def _count_failure(self) -> None:
        self._failed += 1
        if self._failed >= FAILED_QUESTIONS:
            raise ReaderGone(
                f"the reader on {self._line.path} answers wrongly or not at all",
                hint="check power, wiring (TX to RX) and baud rate, and that the profile fits the reader",
            )


def _version_in(text: str) -> str | None:
    """The one dotted number in what the device says of itself, if there is exactly one."""
    numbers = re.findall(r"\d+(?:\.\d+)+", text)
    return numbers[0] if len(numbers) == 1 else None
