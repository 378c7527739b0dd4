"""Readers that only talk: they print a frame while a tag is there and cannot be asked. Reads the port on the loop.

The frames are ascii_frames.py, belief in them and the empty polls after a silence sightings.py, trying again
supervision.py.
"""

from __future__ import annotations

import asyncio
import logging
import time
from typing import TYPE_CHECKING

from drivers.readers.decoders import open_decoder
from drivers.readers.reader import Card, Emit, Feedback, ReaderFound, Seen
from drivers.readers.rejects import Rejected
from drivers.readers.sightings import Confirmation, EmptyPolls
from drivers.readers.supervision import ReaderGone, State, Supervision
from drivers.serial_port import SerialPort

if TYPE_CHECKING:
    from firmware_profiles.profile import Profile

READ_BYTES = 256  # a quarter of a second at 9600 baud
BREATHER_S = 0.02  # after a full read: whatever sends faster than any reader gets 13 kB/s of our attention
NOISE_BYTES = 4_096  # four seconds at 9600 baud without one good frame: this is no reader of ours
SAME_CARD_MS = 25  # a repeated frame sooner than any reader's next one says nothing new

log = logging.getLogger(__name__)


class SerialAsciiReader:
    """RDM6300, ID-12LA and their like, as the profile says."""

    def __init__(self, name: str, *, profile: Profile, port: str) -> None:
        baud, silence_ms = profile.transport.baud, profile.polling.silence_ms
        if baud is None or silence_ms is None:
            raise ValueError(f"profile {profile.id} has no baud or no silence_ms; a serial reader needs both")
        self.name = name
        self._profile = profile
        self._port = port
        self._baud = baud
        self._silence_s = silence_ms / 1_000
        self._poll_s = profile.polling.poll_ms / 1_000
        self._supervision = Supervision(name, path=port, connect=self._connect)

    @property
    def state(self) -> State:
        return self._supervision.state

    async def run(self, emit: Emit) -> None:
        await self._supervision.run(emit)

    async def signal(self, feedback: Feedback, text: str) -> None:
        """These readers have only a transmit line: nothing can be shown, and nothing is pretended."""
        log.debug("reader %s has no way to show %s", self.name, feedback.value)

    async def _connect(self, emit: Emit) -> None:
        loop = asyncio.get_running_loop()
        decoder = open_decoder(self._profile)
        listening = _Listening(self.name, self._profile.confirm_frames, silence_s=self._silence_s, emit=emit)
        noise_bytes = 0
        with SerialPort(self._port, baud=self._baud) as port:
            emit(self._found())
            while True:
                empty_at_s = listening.empty_at_s
                try:
                    async with asyncio.timeout_at(empty_at_s):
                        chunk = await port.read(READ_BYTES)
                except TimeoutError:
                    listening.silent(next_in_s=self._poll_s)
                    continue
                noise_bytes += len(chunk)
                for result in decoder.feed(chunk):
                    if isinstance(result, Rejected):
                        log.debug("reader %s: damaged frame (%s)", self.name, result.reason.value)
                    else:
                        noise_bytes = 0
                        listening.heard(result, now_s=loop.time())
                if noise_bytes >= NOISE_BYTES:
                    raise ReaderGone(
                        f"{noise_bytes} bytes on {self._port} without one good frame",
                        hint="check the wiring, the baud rate and that the profile fits the reader",
                    )
                if len(chunk) == READ_BYTES:
                    await asyncio.sleep(BREATHER_S)

    def _found(self) -> ReaderFound:
        return ReaderFound(
            reader=self.name,
            model=f"{self._profile.make} {self._profile.model}",
            firmware="unknown",
            findings=("cannot be asked whether it is alive; only the loss of its port is noticed",),
        )


class _Listening:
    """One connection's frames as Seen events, with the empty polls that the device never sends."""

    def __init__(self, name: str, confirm_frames: int, *, silence_s: float, emit: Emit) -> None:
        self.empty_at_s: float | None = None  # on the loop's clock; None: nothing to tell
        self._name = name
        self._silence_s = silence_s
        self._emit = emit
        self._confirmation = Confirmation(confirm_frames, within_ms=round(silence_s * 1_000))
        self._empty_polls = EmptyPolls()
        self._told: tuple[tuple[Card, ...], int] = ((), 0)

    def heard(self, cards: tuple[Card, ...], *, now_s: float) -> None:
        now_ms = _monotonic_ms()
        if self.empty_at_s is not None:  # a sound frame is no silence, believed or not
            self.empty_at_s = now_s + self._silence_s
        if not self._confirmation.confirms(cards, now_ms):
            return
        self._empty_polls.card_seen()
        self.empty_at_s = now_s + self._silence_s
        told_cards, told_ms = self._told
        if cards != told_cards or now_ms - told_ms >= SAME_CARD_MS:
            self._told = (cards, now_ms)
            self._emit(Seen(reader=self._name, cards=cards, monotonic_ms=now_ms))

    def silent(self, *, next_in_s: float) -> None:
        now_ms = _monotonic_ms()
        if self._empty_polls.empty(now_ms):
            self._emit(Seen(reader=self._name, cards=(), monotonic_ms=now_ms))
        loop_s = asyncio.get_running_loop().time()
        self.empty_at_s = loop_s + next_in_s if self._empty_polls.outstanding else None


def _monotonic_ms() -> int:
    return time.monotonic_ns() // 1_000_000
