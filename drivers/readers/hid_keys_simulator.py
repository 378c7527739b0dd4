"""A reader that types, on a pseudo-terminal: the kernel's own struct input_event, but no input device.

It cannot be grabbed as one; the driver is given `lock` instead of the grab. For the real thing a kernel with uinput is
needed.
"""

from __future__ import annotations

import fcntl
from pathlib import Path
from typing import Self

from drivers.readers.hid_keys import INPUT_EVENT
from drivers.readers.key_lines import EVENT, SYN, typed
from drivers.readers.pseudo_terminal import PseudoTerminal


def lock(descriptor: int) -> None:
    """In place of the grab: a second opener is refused in the same way."""
    fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)


class HidKeysSimulator:
    """Types a card's text when it is laid on, once a presence, as such readers do."""

    def __init__(self, *, link: Path | None = None) -> None:
        self._terminal = PseudoTerminal(_Keyboard(), link=link)

    @property
    def port(self) -> str:
        return self._terminal.port

    def type(self, text: str) -> None:
        self.send(typed(text))

    def send(self, events: bytes) -> None:
        """These events, each with a time stamp before it and a report behind it."""
        report = INPUT_EVENT.pack(0, 0, SYN, 0, 0)
        stamped = [INPUT_EVENT.pack(0, 0, *event) + report for event in EVENT.iter_unpack(events)]
        self._terminal.send(b"".join(stamped))

    def unplug(self) -> None:
        self._terminal.unplug()

    def replug(self) -> None:
        self._terminal.replug()

    def close(self) -> None:
        self._terminal.close()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()


class _Keyboard:
    """Says nothing by itself and hears nothing."""

    def heard(self, chunk: bytes, *, baud: int) -> bytes:
        return b""

    def due_s(self) -> float | None:
        return None

    def speak(self) -> bytes:
        return b""
