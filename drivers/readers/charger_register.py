"""The reader that is built into a charger, told by the charger in its Modbus/TCP registers.

A register is no antenna: it keeps the last card for as long as the charger likes, also over a restart and with no car
there. So only what appears while we watch is a tap; what was there when we came is not, and a card that stays is not
another one. Frames are modbus_frames.py, texts text_forms.py, trying again supervision.py.
"""

from __future__ import annotations

import asyncio
import contextlib
import itertools
import logging
from typing import TYPE_CHECKING

from drivers.readers.decoders import told_as_text
from drivers.readers.firmware import Admission, admit
from drivers.readers.listening import Listening
from drivers.readers.modbus_frames import READ_HOLDING, READ_INPUT, ModbusFrames, Registers, request
from drivers.readers.reader import Card, Emit, Feedback, ReaderFound
from drivers.readers.rejects import Rejected
from drivers.readers.supervision import ReaderGone, State, Supervision

if TYPE_CHECKING:
    from firmware_profiles.profile import Framing, Profile, Uid

MODBUS_PORT = 502
CONNECT_WITHIN_S = 3.0
ANSWER_WITHIN_S = 0.3  # three of them are less than the second within which a loss is to be told
FAILED_POLLS = 3
READ_BYTES = 1024
TAP_LASTS_S = 0.3  # how long a card that appeared counts as being in the field

log = logging.getLogger(__name__)


class ChargerRegisterReader:
    """`port` is host or host:port."""

    def __init__(self, name: str, *, profile: Profile, port: str) -> None:
        if profile.uid is None:
            raise ValueError(f"profile {profile.id} says nothing about UIDs")
        self.name = name
        self._profile = profile
        self._uid = profile.uid
        host, _, number = port.rpartition(":") if ":" in port else (port, "", "")
        self._host = host
        self._port = int(number) if number.isdecimal() else MODBUS_PORT
        self._supervision = Supervision(name, path=port, connect=self._connect)

    @property
    def state(self) -> State:
        return self._supervision.state

    async def run(self, emit: Emit) -> None:
        await self._supervision.run(emit)

    async def signal(self, feedback: Feedback, text: str) -> None:
        """The charger shows what it likes; nothing here writes to its registers."""
        log.debug("reader %s has no way to show %s", self.name, feedback.value)

    async def _connect(self, emit: Emit) -> None:
        try:
            async with asyncio.timeout(CONNECT_WITHIN_S):
                incoming, outgoing = await asyncio.open_connection(self._host, self._port)
        except (OSError, TimeoutError) as error:
            raise ReaderGone(
                f"{self._host}:{self._port} does not answer ({error or 'nothing at all'})",
                hint="check the charger's network, and that Modbus/TCP is switched on in it",
            ) from error
        try:
            framing = self._profile.framing
            cards = _Questions(incoming, outgoing, framing, framing.register_address, framing.register_count)
            version = _Questions(incoming, outgoing, framing, framing.firmware_address, framing.firmware_count)
            admission = admit(self._profile, await self._firmware(version))
            state = _Questions(incoming, outgoing, framing, framing.state_address, 1)
            await self._watch(cards, state, admission, emit)
        except OSError as error:
            raise _gone(self._host) from error
        finally:
            outgoing.close()
            with contextlib.suppress(OSError):
                await outgoing.wait_closed()

    async def _watch(self, questions: _Questions, state: _Questions, admission: Admission, emit: Emit) -> None:
        loop = asyncio.get_running_loop()
        poll_s = self._profile.polling.poll_ms / 1_000
        last = await self._looked(questions, state)
        emit(self._found(admission, held=bool(last)))
        listening = Listening(self.name, 1, silence_s=TAP_LASTS_S, emit=emit)
        failed = 0
        while True:
            await asyncio.sleep(poll_s)
            if listening.empty_at_s is not None and loop.time() >= listening.empty_at_s:
                listening.silent(next_in_s=poll_s)
            try:
                now = await self._looked(questions, state)
                failed = 0
            except ReaderGone:
                failed += 1
                if failed >= FAILED_POLLS or questions.ended or state.ended:
                    raise
                continue
            if now and now != last:
                listening.heard(admission.cards(now), now_s=loop.time())
            last = now

    async def _firmware(self, questions: _Questions) -> str | None:
        if self._profile.framing.firmware_address is None:
            return None
        answer = await questions.ask()
        if not isinstance(answer, Registers):
            return None
        return answer.content.decode("ascii", "replace").partition("\0")[0].strip() or None

    async def _looked(self, questions: _Questions, state: _Questions) -> tuple[Card, ...]:
        """The card that counts now; none while the charger is in a state in which its registers hold an old one."""
        framing = self._profile.framing
        if framing.state_address is not None:
            now = int.from_bytes((await self._asked(state)).content, "big")
            if now not in framing.state_values:
                return ()
        return _told(self.name, (await self._asked(questions)).content, self._uid)

    async def _asked(self, questions: _Questions) -> Registers:
        answer = await questions.ask()
        if answer is None:
            raise _gone(self._host)
        if isinstance(answer, Rejected):
            raise ReaderGone(
                f"{self._host} does not tell the registers ({answer.reason.value})",
                hint="check that the profile fits the charger and its firmware",
            )
        return answer

    def _found(self, admission: Admission, *, held: bool) -> ReaderFound:
        stale = ("the charger still shows a card of before; it is no tap",) if held else ()
        return ReaderFound(
            reader=self.name,
            model=f"{self._profile.make} {self._profile.model}",
            firmware=admission.firmware,
            findings=(*admission.findings, *stale),
        )


class _Questions:
    """The same question again and again, and the answer that belongs to it."""

    def __init__(
        self,
        incoming: asyncio.StreamReader,
        outgoing: asyncio.StreamWriter,
        framing: Framing,
        address: int | None,
        count: int | None,
    ) -> None:
        self._incoming = incoming
        self._outgoing = outgoing
        self._unit, self._address, self._count = framing.unit, address or 0, count or 0
        self._function = READ_INPUT if framing.function == "input" else READ_HOLDING
        self._frames = ModbusFrames(function=self._function, count=self._count)
        self._transactions = itertools.cycle(range(1, 1 << 16))
        self.ended = False

    async def ask(self) -> Registers | Rejected | None:
        """None: no answer in time, or none any more."""
        transaction = next(self._transactions)
        self._outgoing.write(
            request(
                transaction=transaction,
                unit=self._unit,
                function=self._function,
                address=self._address,
                count=self._count,
            )
        )
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(ANSWER_WITHIN_S):
                while chunk := await self._incoming.read(READ_BYTES):
                    for answer in self._frames.feed(chunk):
                        if isinstance(answer, Rejected) or answer.transaction == transaction:
                            return answer
                self.ended = True
        return None


def _told(name: str, content: bytes, uid: Uid) -> tuple[Card, ...]:
    read = told_as_text(content, uid)
    if isinstance(read, Rejected):
        log.debug("reader %s: a text that is no UID (%s)", name, read.reason.value)
        return ()
    return read


def _gone(host: str) -> ReaderGone:
    return ReaderGone(f"{host} does not answer any more", hint="check the charger and its network")
