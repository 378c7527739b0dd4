"""A serial port or pseudo-terminal, raw 8N1, held by one process: open, read, write, change speed. No protocol.

Nothing here ever blocks: read() waits on the event loop, read_now() and fileno() are for a thread that waits itself.
"""

from __future__ import annotations

import asyncio
import errno
import os
import termios
from types import TracebackType
from typing import Self

import serial

READ_BYTES = 4096
BAUDS = (9600, 19200, 38400, 57600, 115200, 230400, 460800, 921600)


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
            # exclusive is flock, not TIOCEXCL: the kernel drops it when the process is killed, whoever else holds the
            # terminal. A timeout of 0 is non-blocking: no read or write ever holds the caller.
            self._port = serial.Serial(path, baud, timeout=0, write_timeout=0, exclusive=True)
            self._port.reset_input_buffer()
        except (OSError, termios.error) as error:  # SerialException is an OSError; on a plain file termios speaks
            raise _unopened(path, error) from error

    async def read(self, max_bytes: int = READ_BYTES) -> bytes:
        """The next bytes, at least one. Raises PortFailed when the port has gone."""
        while True:
            await self._readable()
            if chunk := self.read_now(max_bytes):
                return chunk

    def read_now(self, max_bytes: int = READ_BYTES) -> bytes:
        """What has arrived, perhaps nothing. Raises PortFailed when the port has gone."""
        try:
            return bytes(self._port.read(max_bytes))
        except (OSError, termios.error) as error:
            raise self._gone() from error

    def write(self, line: bytes) -> None:
        """All of it at once; a command is far smaller than a port's buffer. Raises PortFailed when it does not fit."""
        try:
            written = self._port.write(line)
        except serial.SerialTimeoutException:
            written = 0
        except (OSError, termios.error) as error:
            raise self._gone() from error
        if written is None or written < len(line):
            raise PortFailed(f"{self.path} takes no more bytes", hint="check the cable and the power of the device")

    def set_baud(self, baud: int) -> None:
        """The new speed, for what is written and read from now on. What is under way is not waited for."""
        try:
            self._port.baudrate = baud
        except (OSError, termios.error) as error:
            raise self._gone() from error

    def discard_input(self) -> None:
        try:
            self._port.reset_input_buffer()
        except (OSError, termios.error) as error:
            raise self._gone() from error

    def fileno(self) -> int:
        return int(self._port.fileno())

    def close(self) -> None:
        self._port.close()

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    async def _readable(self) -> None:
        loop = asyncio.get_running_loop()
        ready: asyncio.Future[None] = loop.create_future()
        loop.add_reader(self.fileno(), _resolve, ready)
        try:
            await ready
        finally:
            loop.remove_reader(self.fileno())

    def _gone(self) -> PortFailed:
        return PortFailed(f"{self.path} has gone", hint="check the cable and the power of the device")


def _resolve(ready: asyncio.Future[None]) -> None:
    if not ready.done():
        ready.set_result(None)


def _unopened(path: str, error: Exception) -> PortFailed:
    match getattr(error, "errno", None):
        case errno.EAGAIN:
            return PortFailed(f"{path} is in use by another program", hint="stop the other program")
        case errno.ENOENT | errno.ENXIO | errno.ENODEV | errno.EIO as number:
            hint = "check the cable and the port in the configuration"
        case errno.EACCES | errno.EPERM as number:
            hint = "let the service's user open it (group dialout, or the udev rules that come with roamkey)"
        case errno.ENOTTY | errno.EINVAL | None:
            return PortFailed(f"{path} is no serial port", hint="correct the port in the configuration")
        case number:
            hint = "check the port in the configuration"
    return PortFailed(f"cannot open {path}: {os.strerror(number)}", hint=hint)
