"""The line to a PN532, in the shape that nfcpy drives: whole, checked frames, and nothing but OSError when it fails.

In place of nfcpy's own transport because that one pastes the port into a shell, opens only some names, loses step after
a stray byte, and cannot find a chip that was left at another speed. Frames are pn532_frames.py, polling is pn532.py.
Belongs to one thread; only the Stop that it is given may be set from another.
"""

from __future__ import annotations

import contextlib
import errno
import os
import select
import time
from collections import deque
from dataclasses import dataclass

from drivers.readers.pn532_frames import ACK, FROM_CHIP, FROM_HOST, NACK, WAKE_UP, Frame, Kind, Pn532Frames, encode
from drivers.readers.rejects import Reason, Rejected
from drivers.readers.stop import Stop
from drivers.readers.supervision import ReaderGone
from drivers.serial_port import PortFailed, SerialPort

HOME_BAUD = 115_200
SWEEP_BAUDS = (115_200, 921_600, 460_800, 230_400)  # where other programs leave it, likeliest first
HOME_BAUD_CODE = 0x04
PATIENCES_MS = (100, 500)  # the chip acknowledges within 15 ms, a slow USB bridge needs longer for its first bytes
SETTLES_S = (0.02, 0.1, 0.3)  # an ACK must have left a USB bridge's buffer before the speed changes under it
GAP_MS = 60  # silence inside a frame: at 115200 baud the next byte is due after 0.1 ms, a USB bridge adds 16 ms
REPEATS_ASKED = 2  # how often a damaged answer is asked for again, then the command has failed

GET_FIRMWARE_VERSION, SET_SERIAL_BAUD_RATE, SAM_CONFIGURATION = 0x02, 0x10, 0x14
SAM_NORMAL_MODE = bytes([0x01, 0x00, 0x00])
PN532_IC = 0x32


@dataclass(frozen=True, slots=True, kw_only=True)
class Awake:
    """What the chip said when it was woken. `found_at_baud` differs from HOME_BAUD if a crash had left it there."""

    firmware: str
    found_at_baud: int


class Pn532Transport:
    """`TYPE`, `baudrate`, `read`, `write` and `close` are what nfcpy's Chipset and Device use."""

    TYPE = "TTY"
    chip = "pn532"
    two_targets = True

    def __init__(self, path: str, stop: Stop) -> None:
        self.lost: PortFailed | None = None  # the true cause, which nfcpy replaces by a number on its way up
        self._stop: Stop | None = stop
        self._frames = Pn532Frames()
        self._received: deque[Frame] = deque()
        self._damaged = False  # something arrived after the last sound frame, and it was not sound
        self._baud = HOME_BAUD
        self._port = SerialPort(path, baud=HOME_BAUD)
        self.path = path

    @property
    def baudrate(self) -> int:
        return self._baud

    @baudrate.setter
    def baudrate(self, baud: int) -> None:
        if baud != self._baud:
            with _OnlyOSError(self):
                self._port.set_baud(baud)
            self._baud = baud

    def write(self, raw: bytes | bytearray) -> None:
        """Send a frame. What was still to come from the one before is thrown away."""
        self._received.clear()
        self._frames.forget()
        self._damaged = False
        with _OnlyOSError(self):
            self._port.discard_input()
            self._port.write(bytes(raw))

    def read(self, timeout: float) -> bytearray:
        """The next sound frame within `timeout` milliseconds, as if it had arrived flawless."""
        frame = self._next_frame(timeout)
        match frame.kind:
            case Kind.ACK:
                return bytearray(ACK)
            case Kind.NACK:
                return bytearray(NACK)
            case Kind.DATA | Kind.ERROR:
                return bytearray(encode(frame.payload))

    def ask(self, command: int, parameters: bytes, *, patience_ms: float, preamble: bytes = b"") -> bytes:
        """One command without nfcpy: its answer's data. OSError when there is none."""
        self.write(preamble + encode(bytes([FROM_HOST, command]) + parameters))
        if self._next_frame(patience_ms).kind is not Kind.ACK:
            raise OSError(errno.EIO, "no acknowledgement")
        answer = self._next_frame(patience_ms)
        if answer.payload[:2] != bytes([FROM_CHIP, command + 1]):
            raise OSError(errno.EIO, "an answer to something else")
        return answer.payload[2:]

    def wake(self) -> Awake:
        """Find the chip at whatever speed it is, bring it to HOME_BAUD, and switch its card interface on."""
        for patience_ms in PATIENCES_MS:
            for baud in SWEEP_BAUDS:
                try:
                    return self._wake_at(baud, patience_ms)
                except OSError:
                    if self.lost is not None:
                        raise self.lost from None
                    if self.stopped:
                        raise
        raise ReaderGone(
            f"no PN532 answers on {self.path}",
            hint="check power and wiring (TX to RX), and that the module's switches select HSU",
        )

    def _wake_at(self, baud: int, patience_ms: float) -> Awake:
        self.baudrate = baud
        version = self.ask(GET_FIRMWARE_VERSION, b"", patience_ms=patience_ms, preamble=WAKE_UP)
        if len(version) != 4 or version[0] != PN532_IC:
            raise ReaderGone(f"the chip on {self.path} is no PN532", hint="choose the profile that fits the reader")
        if baud == HOME_BAUD:
            self.ask(SAM_CONFIGURATION, SAM_NORMAL_MODE, patience_ms=patience_ms)
        else:
            self._come_home(baud, patience_ms)
        return Awake(firmware=f"{version[1]}.{version[2]}", found_at_baud=baud)

    def _come_home(self, baud: int, patience_ms: float) -> None:
        """The chip changes its speed when it has our ACK. If our own change overtook that, once more and slower."""
        for settle_s in SETTLES_S:
            self.baudrate = baud
            self.ask(SET_SERIAL_BAUD_RATE, bytes([HOME_BAUD_CODE]), patience_ms=patience_ms)
            self.write(ACK)
            time.sleep(settle_s)
            self.baudrate = HOME_BAUD
            with contextlib.suppress(TimeoutError):
                self.ask(SAM_CONFIGURATION, SAM_NORMAL_MODE, patience_ms=patience_ms)
                return
        raise OSError(errno.ETIMEDOUT, os.strerror(errno.ETIMEDOUT))

    @property
    def stopped(self) -> bool:
        return self._stop is not None and self._stop.wait(0)

    def heed_no_stop(self) -> None:
        """For the last words to the chip, whose waits are short enough."""
        self._stop = None

    def close(self) -> None:
        self._port.close()

    def _next_frame(self, timeout_ms: float) -> Frame:
        until_s = time.monotonic() + timeout_ms / 1_000
        repeats = 0
        while not self._received:
            left_s = until_s - time.monotonic()
            if left_s <= 0:
                raise OSError(errno.ETIMEDOUT, os.strerror(errno.ETIMEDOUT))
            if self._damaged and repeats < REPEATS_ASKED:
                repeats += 1
                self.write(NACK)  # UM0701-02, 6.2.1.4: the chip sends its last answer again
            broken_off = self._frames.pending
            chunk = self._wait(min(left_s, GAP_MS / 1_000) if broken_off else left_s)
            self._damaged = broken_off and not chunk
            for result in self._frames.feed(chunk):
                self._damaged = _is_damaged(result)
                if isinstance(result, Frame):
                    self._received.append(result)
        return self._received.popleft()

    def _wait(self, at_most_s: float) -> bytes:
        with _OnlyOSError(self):
            watched: list[SerialPort | Stop] = [self._port]
            if self._stop is not None:
                watched.append(self._stop)
            ready, _, _ = select.select(watched, [], [], at_most_s)
            if self._stop in ready:
                raise OSError(errno.ECANCELED, os.strerror(errno.ECANCELED))
            return self._port.read_now() if ready else b""


class _OnlyOSError:
    """nfcpy understands OSError and nothing else; the true cause is kept for the one who reports it."""

    def __init__(self, transport: Pn532Transport) -> None:
        self._transport = transport

    def __enter__(self) -> None:
        pass

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, trace: object) -> None:
        if isinstance(error, PortFailed):
            self._transport.lost = error
            raise OSError(errno.ENODEV, error.cause) from error


def _is_damaged(result: Frame | Rejected) -> bool:
    return isinstance(result, Rejected) and result.reason in (Reason.CHECKSUM, Reason.LENGTH)
