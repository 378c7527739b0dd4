"""The far end of a serial line, for simulators: a pseudo-terminal with its own thread. What it says is the device's.

The near end is a path that stays the same (a link that is repointed), so that unplugged and plugged in again looks as
it does with /dev/serial/by-id. A slave end is kept open here, so that the agent may come and go, or be killed.
"""

from __future__ import annotations

import contextlib
import os
import queue
import select
import termios
import threading
import time
import tty
from collections.abc import Callable
from concurrent.futures import Future
from pathlib import Path
from typing import Protocol, Self, TypeVar

READ_BYTES = 4096
ASK_TIMEOUT_S = 5.0
BAUDS = {
    getattr(termios, f"B{baud}"): baud
    for baud in (9600, 19200, 38400, 57600, 115200, 230400, 460800, 921600)
}  # fmt: skip
_T = TypeVar("_T")


class FarEnd(Protocol):
    """A simulated device. Called in the terminal's thread only."""

    def heard(self, chunk: bytes, *, baud: int) -> bytes:
        """The answer to these bytes, which the near end sent at this speed."""

    def due_s(self) -> float | None:
        """When it wants to speak by itself, on time.monotonic(); None: not at all."""

    def speak(self) -> bytes: ...


class PseudoTerminal:
    """Use as a context manager. `port` is the path to configure."""

    def __init__(self, device: FarEnd, *, link: Path | None = None) -> None:
        self._device = device
        self._link = link
        self._master = self._slave = -1
        self._asked: queue.SimpleQueue[Callable[[], None]] = queue.SimpleQueue()
        self._wake = os.eventfd(0, os.EFD_CLOEXEC | os.EFD_NONBLOCK)
        self._over = False
        self._plug()
        self._thread = threading.Thread(target=self._live, name="pseudo-terminal", daemon=True)
        self._thread.start()

    @property
    def port(self) -> str:
        return str(self._link) if self._link is not None else self.ask(lambda: os.ttyname(self._slave))

    def ask(self, action: Callable[[], _T]) -> _T:
        """Do this in the device's thread and wait for it: one owner, no locks."""
        answer: Future[_T] = Future()

        def act() -> None:
            try:
                answer.set_result(action())
            except BaseException as error:  # noqa: BLE001 - handed to the caller, who raises it
                answer.set_exception(error)

        self._asked.put(act)
        os.eventfd_write(self._wake, 1)
        return answer.result(ASK_TIMEOUT_S)

    def send(self, raw: bytes) -> None:
        """Put these bytes on the line, whatever they are."""
        self.ask(lambda: self._write(raw))

    def unplug(self) -> None:
        self.ask(self._unplug)

    def replug(self) -> None:
        self.ask(self._plug)

    def close(self) -> None:
        if self._over:
            return

        def end() -> None:
            self._over = True
            self._unplug()

        self.ask(end)
        self._thread.join(ASK_TIMEOUT_S)
        os.close(self._wake)

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def _live(self) -> None:
        while not self._over:
            due_s = self._device.due_s() if self._master >= 0 else None
            wait_s = None if due_s is None else max(0.0, due_s - time.monotonic())
            watched = [self._wake] + ([self._master] if self._master >= 0 else [])
            readable, _, _ = select.select(watched, [], [], wait_s)
            if self._wake in readable:
                os.eventfd_read(self._wake)
                with contextlib.suppress(queue.Empty):
                    while True:
                        self._asked.get_nowait()()
                continue  # the terminal may have been unplugged
            if self._master in readable:
                self._listen()
            due_s = self._device.due_s()
            if due_s is not None and due_s <= time.monotonic():
                self._write(self._device.speak())

    def _listen(self) -> None:
        baud = BAUDS.get(termios.tcgetattr(self._slave)[4], 0)
        self._write(self._device.heard(os.read(self._master, READ_BYTES), baud=baud))

    def _write(self, raw: bytes) -> None:
        # Nobody reads: a wire does not wait, and neither do we. A full terminal loses what does not fit.
        with contextlib.suppress(BlockingIOError):
            if raw and self._master >= 0:
                os.write(self._master, raw)

    def _plug(self) -> None:
        if self._master >= 0:
            return
        self._master, self._slave = os.openpty()
        tty.setraw(self._slave)
        os.set_blocking(self._master, False)
        if self._link is not None:
            fresh = self._link.with_name(f".{self._link.name}.new")
            fresh.unlink(missing_ok=True)
            fresh.symlink_to(os.ttyname(self._slave))
            fresh.replace(self._link)

    def _unplug(self) -> None:
        if self._master < 0:
            return
        if self._link is not None:
            self._link.unlink(missing_ok=True)
        os.close(self._slave)
        os.close(self._master)
        self._master = self._slave = -1


class OnATerminal:
    """What can be done with every simulated device on a terminal, whatever it is."""

    _terminal: PseudoTerminal

    @property
    def port(self) -> str:
        return self._terminal.port

    def say(self, raw: bytes) -> None:
        """Bytes on the line that nobody asked for: noise, or half a frame, as it comes out of a bad cable."""
        self._terminal.send(raw)

    def unplug(self) -> None:
        self._terminal.unplug()

    def replug(self) -> None:
        """At the same path."""
        self._terminal.replug()

    def close(self) -> None:
        self._terminal.close()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()
