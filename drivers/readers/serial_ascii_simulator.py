"""An RDM6300, an ID-12LA or a Wiegand converter on a pseudo-terminal, for tests and the demo. No antenna."""

from __future__ import annotations

import time
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Self

from drivers.readers.ascii_frames import encode
from drivers.readers.pseudo_terminal import OnATerminal, PseudoTerminal
from drivers.readers.wiegand import bits_of
from drivers.readers.wiegand_lines import encode as wiegand_line

RDM6300_REPEAT_S = 0.065
ID12LA_TRAILER = b"\r\n"
WIEGAND_REPEAT_S = 0.5


class SerialAsciiSimulator(OnATerminal):
    """Prints the tag's frame when it is laid on, and again every `repeat_s` until it is taken away (None: once)."""

    def __init__(
        self,
        *,
        link: Path | None = None,
        frame_of: Callable[[bytes], bytes] = encode,
        repeat_s: float | None = RDM6300_REPEAT_S,
    ) -> None:
        self._talker = _Talker(frame_of, repeat_s=repeat_s)
        self._terminal = PseudoTerminal(self._talker, link=link)

    @classmethod
    def rdm6300(cls, *, link: Path | None = None) -> Self:
        return cls(link=link)

    @classmethod
    def id12la(cls, *, link: Path | None = None) -> Self:
        return cls(link=link, frame_of=partial(encode, trailer=ID12LA_TRAILER), repeat_s=None)

    @classmethod
    def wiegand(cls, size: int, *, form: str, link: Path | None = None, repeat_s: float = WIEGAND_REPEAT_S) -> Self:
        """A reader of so many bits that repeats while a card is held, behind a converter of this form."""
        return cls(link=link, frame_of=lambda data: wiegand_line(bits_of(data, size), form=form), repeat_s=repeat_s)

    def present(self, tag: bytes) -> None:
        """Lay on this tag: version byte and four tag bytes, or the data of a Wiegand number."""
        self._terminal.ask(lambda: self._talker.lay_on(tag))

    def remove(self) -> None:
        self._terminal.ask(self._talker.take_away)


class _Talker:
    """Lives in the terminal's thread."""

    def __init__(self, frame_of: Callable[[bytes], bytes], *, repeat_s: float | None) -> None:
        self._frame_of = frame_of
        self._repeat_s = repeat_s
        self._frame = b""
        self._next_s: float | None = None

    def lay_on(self, tag: bytes) -> None:
        self._frame = self._frame_of(tag)
        self._next_s = time.monotonic()

    def take_away(self) -> None:
        self._next_s = None

    def heard(self, chunk: bytes, *, baud: int) -> bytes:
        return b""  # its receive line is not connected

    def due_s(self) -> float | None:
        return self._next_s

    def speak(self) -> bytes:
        self._next_s = time.monotonic() + self._repeat_s if self._repeat_s is not None else None
        return self._frame
