"""Frames of 125 kHz readers that print: 02, ten hex digits, two of check, a trailer, 03. Pure and incremental.

RDM6300 has no trailer (14 bytes), ID-12LA and ID-20LA have 0D 0A (16 bytes). Reading the port is serial_ascii.py.

The check is one XOR byte over five bytes: strict upper-case hex leaves no single-bit error undetected, but one in a
hundred double-bit errors and every swap of two bytes pass. How many equal frames are believed is `confirm_frames` of
the profile, counted in serial_ascii.py.
"""

from __future__ import annotations

from drivers.readers.reader import Card, card_em4100
from drivers.readers.rejects import Reason, Rejected

START, END = 0x02, 0x03
HEX_DIGITS = frozenset(b"0123456789ABCDEF")
CONTENT_DIGITS = 12  # version byte, four tag bytes, check


class AsciiFrames:
    """Feed bytes as they come, take cards and rejects as they are complete. Holds at most one frame."""

    def __init__(self, *, trailer: bytes = b"") -> None:
        self._tail = trailer + bytes([END])
        self._frame: bytearray | None = None  # what followed START; None while hunting for one

    def feed(self, chunk: bytes) -> list[Card | Rejected]:
        results: list[Card | Rejected] = []
        for byte in chunk:
            if (result := self._take(byte)) is not None:
                results.append(result)
        return results

    def _take(self, byte: int) -> Card | Rejected | None:
        if byte == START:  # cannot be part of a frame, so it always begins one: back in step within one frame
            interrupted = self._frame is not None
            self._frame = bytearray()
            return Rejected(reason=Reason.TRUNCATED) if interrupted else None
        if self._frame is None:
            return None
        position = len(self._frame)
        if position < CONTENT_DIGITS:
            if byte not in HEX_DIGITS:
                return self._reject(Reason.TRUNCATED if byte == END else Reason.NOT_HEX)
        elif byte != self._tail[position - CONTENT_DIGITS]:
            return self._reject(Reason.FRAMING)
        self._frame.append(byte)
        if len(self._frame) < CONTENT_DIGITS + len(self._tail):
            return None
        return self._complete(bytes.fromhex(self._frame[:CONTENT_DIGITS].decode("ascii")))

    def _complete(self, content: bytes) -> Card | Rejected:
        self._frame = None
        tag, check = content[:-1], content[-1]
        for byte in tag:
            check ^= byte
        return Rejected(reason=Reason.CHECKSUM) if check else card_em4100(tag)

    def _reject(self, reason: Reason) -> Rejected:
        self._frame = None
        return Rejected(reason=reason)


def encode(tag: bytes, *, trailer: bytes = b"") -> bytes:
    """The frame that a reader prints for this five-byte tag."""
    check = 0
    for byte in tag:
        check ^= byte
    return bytes([START]) + (tag + bytes([check])).hex().upper().encode("ascii") + trailer + bytes([END])
