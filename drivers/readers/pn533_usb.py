"""A PN533 on USB, in the shape that nfcpy drives and the PN532's polling uses. No speed to find, nobody to wake.

In place of nfcpy's own transport because that one finds devices by bus address only and cannot be stopped while it
waits. Frames are pn532_frames.py, polling is pn532.py. Belongs to one thread; only its Stop may be set from another.
"""

from __future__ import annotations

import errno
import os
import time
from collections import deque
from collections.abc import Callable
from functools import partial
from typing import TYPE_CHECKING

from drivers.back_off import LONGEST_UNWATCHED_S, delays_s
from drivers.cards.proof import CardKeys
from drivers.readers.pn532 import Pn532Reader
from drivers.readers.pn532_frames import ACK, FROM_CHIP, FROM_HOST, NACK, Frame, Kind, Pn532Frames, encode
from drivers.readers.pn532_transport import HOME_BAUD, Awake
from drivers.readers.stop import Stop
from drivers.readers.supervision import ReaderGone
from drivers.readers.usb_pipe import UsbPipe, open_usb_pipe
from drivers.serial_port import PortFailed

if TYPE_CHECKING:
    from firmware_profiles.profile import Profile

GET_FIRMWARE_VERSION = 0x02
PN533_IC = 0x33
PATIENCE_MS = 500
LOOK_AT_STOP_EVERY_S = 0.1

OpenPipe = Callable[[str, tuple[str, ...]], UsbPipe]


def pn533_reader(
    name: str, *, profile: Profile, port: str, keys: CardKeys | None = None, open_pipe: OpenPipe = open_usb_pipe
) -> Pn532Reader:
    return Pn532Reader(
        name,
        profile=profile,
        port=port,
        keys=keys,
        transport=lambda stop: Pn533Transport(open_pipe(port, profile.match.usb), stop),
        delays=partial(delays_s, longest_s=LONGEST_UNWATCHED_S),
    )


class Pn533Transport:
    """`TYPE`, `read`, `write` and `close` are what nfcpy's Chipset and Device use."""

    TYPE = "USB"
    chip = "pn533"
    two_targets = False  # nfcpy 1.0.4 clf/pn533.py: the PN533 does not support two simultaneous targets

    def __init__(self, pipe: UsbPipe, stop: Stop) -> None:
        self.lost: PortFailed | None = None
        self.path = pipe.path
        self._pipe = pipe
        self._stop: Stop | None = stop
        self._frames = Pn532Frames()
        self._received: deque[Frame] = deque()

    def write(self, raw: bytes | bytearray, timeout: float = 0) -> None:
        """Send a frame. What was still to come from the one before is thrown away."""
        self._received.clear()
        self._frames.forget()
        try:
            self._pipe.write(bytes(raw))
        except PortFailed as error:
            self.lost = error
            raise OSError(errno.ENODEV, error.cause) from error

    def read(self, timeout: float = 0) -> bytearray:
        """The next sound frame within `timeout` milliseconds."""
        frame = self._next_frame(timeout)
        match frame.kind:
            case Kind.ACK:
                return bytearray(ACK)
            case Kind.NACK:
                return bytearray(NACK)
            case Kind.DATA | Kind.ERROR:
                return bytearray(encode(frame.payload))

    def wake(self) -> Awake:
        """End whatever the opener before us had begun, and ask who is there."""
        try:
            self.write(ACK)  # nfcpy 1.0.4 clf/pn533.py: a soft reset; ends what is still running
            self.write(encode(bytes([FROM_HOST, GET_FIRMWARE_VERSION])))
            acknowledged = self._next_frame(PATIENCE_MS).kind is Kind.ACK
            version = self._next_frame(PATIENCE_MS).payload
        except OSError:
            if self.lost is not None:
                raise self.lost from None
            if self.stopped:
                raise
            raise ReaderGone(f"no PN533 answers at {self.path}", hint="unplug it and plug it in again") from None
        if (
            not acknowledged
            or len(version) != 6
            or version[:3] != bytes([FROM_CHIP, GET_FIRMWARE_VERSION + 1, PN533_IC])
        ):
            raise ReaderGone(f"the chip at {self.path} is no PN533", hint="choose the profile that fits the reader")
        return Awake(firmware=f"{version[3]}.{version[4]}", found_at_baud=HOME_BAUD)

    @property
    def stopped(self) -> bool:
        return self._stop is not None and self._stop.wait(0)

    def heed_no_stop(self) -> None:
        """For the last words to the chip, whose waits are short enough."""
        self._stop = None

    def close(self) -> None:
        self._pipe.close()

    def _next_frame(self, timeout_ms: float) -> Frame:
        until_s = time.monotonic() + timeout_ms / 1_000
        while not self._received:
            left_s = until_s - time.monotonic()
            if left_s <= 0:
                raise OSError(errno.ETIMEDOUT, os.strerror(errno.ETIMEDOUT))
            if self.stopped:
                raise OSError(errno.ECANCELED, os.strerror(errno.ECANCELED))
            try:
                chunk = self._pipe.read(min(left_s, LOOK_AT_STOP_EVERY_S))
            except PortFailed as error:
                self.lost = error
                raise OSError(errno.ENODEV, error.cause) from error
            self._received.extend(each for each in self._frames.feed(chunk) if isinstance(each, Frame))
        return self._received.popleft()
