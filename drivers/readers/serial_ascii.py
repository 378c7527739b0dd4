"""Readers that only talk: they print a frame while a tag is there and cannot be asked. Reads the port on the loop.

The frames are ascii_frames.py, belief in them and the empty polls after a silence sightings.py, trying again
supervision.py.
"""

from __future__ import annotations

import asyncio
import logging
from typing import TYPE_CHECKING

from drivers.readers.decoders import open_decoder
from drivers.readers.firmware import Admission, admit
from drivers.readers.listening import Listening
from drivers.readers.reader import Emit, Feedback, ReaderFound
from drivers.readers.rejects import Rejected
from drivers.readers.supervision import ReaderGone, State, Supervision
from drivers.serial_port import SerialPort

if TYPE_CHECKING:
    from firmware_profiles.profile import Profile

READ_BYTES = 256  # a quarter of a second at 9600 baud
BREATHER_S = 0.02  # after a full read: whatever sends faster than any reader gets 13 kB/s of our attention
NOISE_BYTES = 4_096  # four seconds at 9600 baud without one good frame: this is no reader of ours

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
        listening = Listening(self.name, self._profile.confirm_frames, silence_s=self._silence_s, emit=emit)
        noise_bytes = 0
        admission = admit(self._profile, None)
        with SerialPort(self._port, baud=self._baud) as port:
            emit(self._found(admission))
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
                        listening.heard(admission.cards(result), now_s=loop.time())
                if noise_bytes >= NOISE_BYTES:
                    raise ReaderGone(
                        f"{noise_bytes} bytes on {self._port} without one good frame",
                        hint="check the wiring, the baud rate and that the profile fits the reader",
                    )
                if len(chunk) == READ_BYTES:
                    await asyncio.sleep(BREATHER_S)

    def _found(self, admission: Admission) -> ReaderFound:
        return ReaderFound(
            reader=self.name,
            model=f"{self._profile.make} {self._profile.model}",
            firmware=admission.firmware,
            findings=(
                *admission.findings,
                "cannot be asked whether it is alive; only the loss of its port is noticed",
            ),
        )
