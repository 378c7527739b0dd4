"""An OSDP reader on a pseudo-terminal, for tests and the demo: real frames and a real secure channel, no antenna."""

from __future__ import annotations

import time
from pathlib import Path
from typing import Any

from drivers.readers import osdp_frames
from drivers.readers.disturbances import Disturbance, disturbed
from drivers.readers.osdp_library import Peripheral
from drivers.readers.pseudo_terminal import OnATerminal, PseudoTerminal

STEP_S = 0.02
NAK_UNKNOWN_COMMAND = b"\x41\x03"


class OsdpSimulator(OnATerminal):
    """`key` None: a reader without a key of its own, as delivered. It outlives whoever asks it."""

    def __init__(self, *, key: bytes | None, address: int = 0, link: Path | None = None, baud: int = 9_600) -> None:
        self._line = _Line(key, address, baud)
        self._terminal = PseudoTerminal(self._line, link=link)

    @property
    def commands(self) -> tuple[dict[str, Any], ...]:
        """For lamps, buzzer and display, as the library tells them."""
        return self._terminal.ask(lambda: tuple(self._line.reader.commands))

    @property
    def said(self) -> bytes:
        """Every byte that the reader put on the wire, for those who listen to it."""
        return self._terminal.ask(lambda: bytes(self._line.said))

    @property
    def heard_bytes(self) -> bytes:
        return self._terminal.ask(lambda: bytes(self._line.heard_bytes))

    def present(self, data: bytes, *, bits: int | None = None) -> None:
        """A card is read, once: OSDP readers tell that a card came and not that it stays."""
        self._terminal.ask(lambda: self._line.reader.read(data, bits=bits or 8 * len(data)))

    def disturb(self, disturbance: Disturbance, *, times: int | None = 1) -> None:
        """The next answers arrive so; times None: all, until calm()."""
        self._terminal.ask(lambda: self._line.disturb(disturbance, times))

    def calm(self) -> None:
        self._terminal.ask(lambda: self._line.disturb(None, None))

    def replug(self) -> None:
        """At the same path, and freshly powered."""
        self._terminal.ask(self._line.power_cycle)
        super().replug()


class _Line:
    """The reader as the far end of a terminal. Lives in the terminal's thread."""

    def __init__(self, key: bytes | None, address: int, baud: int) -> None:
        self.said, self.heard_bytes = bytearray(), bytearray()
        self._key, self._address, self._baud = key, address, baud
        self._next_s = 0.0
        self._coming: list[Disturbance] = []
        self._for_ever: Disturbance | None = None
        self.power_cycle()

    def power_cycle(self) -> None:
        self.reader = Peripheral(address=self._address, key=self._key)

    def disturb(self, disturbance: Disturbance | None, times: int | None) -> None:
        self._for_ever = disturbance if times is None else None
        self._coming = [] if disturbance is None or times is None else self._coming + [disturbance] * times

    def heard(self, chunk: bytes, *, baud: int) -> bytes:
        if baud != self._baud:
            return b""
        self.heard_bytes += chunk
        self.reader.received(chunk)
        return self.speak()

    def due_s(self) -> float | None:
        return self._next_s

    def speak(self) -> bytes:
        self._next_s = time.monotonic() + STEP_S
        self.reader.step()
        answers, self.reader.said[:] = tuple(self.reader.said), ()
        for answer in answers:
            self.said += answer
        return b"".join(map(self._on_its_way, answers))

    def _on_its_way(self, answer: bytes) -> bytes:
        now = self._for_ever or (self._coming.pop(0) if self._coming else None)
        return disturbed(answer, now, other=self._other_answer)

    def _other_answer(self) -> bytes:
        return osdp_frames.encode(NAK_UNKNOWN_COMMAND, address=self._address, reply=True)
