"""A serial port or pseudo-terminal, raw 8N1, held by one process: open, read, write, change speed. No protocol.

Nothing here ever blocks: read() waits on the event loop, read_now() and fileno() are for a thread that waits itself.
"""

from __future__ import annotations

import asyncio
import errno
import fcntl
import os
import termios
import tty
from types import TracebackType
from typing import Self

READ_BYTES = 4096
BAUDS = {
    9600: termios.B9600,
    19200: termios.B19200,
    38400: termios.B38400,
    57600: termios.B57600,
    115200: termios.B115200,
    230400: termios.B230400,
    460800: termios.B460800,
    921600: termios.B921600,
}


class PortFailed(Exception):
    """The port cannot be opened or has gone. `hint` says what a technician can do."""

    def __init__(self, cause: str, *, hint: str) -> None:
        super().__init__(f"{cause}; {hint}")
        self.cause = cause
        self.hint = hint


class SerialPort:
    """What arrived before it was opened is thrown away, as a real UART does."""

    def __init__(self, path: str, *, baud: int) -> None:
        self.path = path
        try:
            # Non-blocking: opening must not wait for a carrier, and no read or write ever holds the caller.
            self._fd = os.open(path, os.O_RDWR | os.O_NOCTTY | os.O_NONBLOCK | os.O_CLOEXEC)
        except OSError as error:
            raise PortFailed(f"cannot open {path}: {error.strerror}", hint=_open_hint(error)) from error
        try:
            # flock, not TIOCEXCL: the kernel drops it when the process is killed, whoever else holds the terminal.
            fcntl.flock(self._fd, fcntl.LOCK_EX | fcntl.LOCK_NB)
            _make_raw(self._fd, BAUDS[baud])
        except BlockingIOError as error:
            self.close()
            raise PortFailed(f"{path} is in use by another program", hint="stop the other program") from error
        except (OSError, termios.error) as error:
            self.close()
            raise PortFailed(f"{path} is no serial port", hint="correct the port in the configuration") from error

    async def read(self, max_bytes: int = READ_BYTES) -> bytes:
        """The next bytes, at least one. Raises PortFailed when the port has gone."""
        while True:
            await self._readable()
            if chunk := self.read_now(max_bytes):
                return chunk

    def read_now(self, max_bytes: int = READ_BYTES) -> bytes:
        """What has arrived, perhaps nothing. Raises PortFailed when the port has gone."""
        try:
            chunk = os.read(self._fd, max_bytes)
        except BlockingIOError:
            return b""
        except OSError as error:
            raise self._gone() from error
        if not chunk:  # a raw port that is readable and has nothing to read was hung up
            raise self._gone()
        return chunk

    def write(self, line: bytes) -> None:
        """All of it at once; a command is far smaller than a port's buffer. Raises PortFailed when it does not fit."""
        try:
            written = os.write(self._fd, line)
        except BlockingIOError:
            written = 0
        except OSError as error:
            raise self._gone() from error
        if written < len(line):
            raise PortFailed(f"{self.path} takes no more bytes", hint="check the cable and the power of the device")

    def set_baud(self, baud: int) -> None:
        """The new speed, for what is written and read from now on. What is under way is not waited for."""
        try:
            attributes = termios.tcgetattr(self._fd)
            attributes[4] = attributes[5] = BAUDS[baud]
            termios.tcsetattr(self._fd, termios.TCSANOW, attributes)
        except termios.error as error:
            raise self._gone() from error

    def discard_input(self) -> None:
        try:
            termios.tcflush(self._fd, termios.TCIFLUSH)
        except termios.error as error:
            raise self._gone() from error

    def fileno(self) -> int:
        return self._fd

    def close(self) -> None:
        fd, self._fd = self._fd, -1
        if fd >= 0:
            os.close(fd)

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    async def _readable(self) -> None:
        loop = asyncio.get_running_loop()
        ready: asyncio.Future[None] = loop.create_future()
        loop.add_reader(self._fd, _resolve, ready)
        try:
            await ready
        finally:
            loop.remove_reader(self._fd)

    def _gone(self) -> PortFailed:
        return PortFailed(f"{self.path} has gone", hint="check the cable and the power of the device")


def _resolve(ready: asyncio.Future[None]) -> None:
    if not ready.done():
        ready.set_result(None)


def _make_raw(fd: int, speed: int) -> None:
    tty.setraw(fd)
    attributes = termios.tcgetattr(fd)
    attributes[2] |= termios.CLOCAL | termios.CREAD
    attributes[2] &= ~(termios.CSTOPB | termios.PARENB)
    attributes[4] = attributes[5] = speed
    termios.tcsetattr(fd, termios.TCSANOW, attributes)
    termios.tcflush(fd, termios.TCIOFLUSH)


def _open_hint(error: OSError) -> str:
    match error.errno:
        case errno.ENOENT | errno.ENXIO | errno.ENODEV | errno.EIO:
            return "check the cable and the port in the configuration"
        case errno.EACCES | errno.EPERM:
            return "let the service's user open it (group dialout, or the udev rules that come with roamkey)"
        case _:
            return "check the port in the configuration"
