"""Messages of the Elatec TWN4 Simple Protocol, and the tag inside one. Pure and incremental.

    ASCII     hexadecimal digits of the message, CR
    binary    LEN16 (little-endian) and the message; only with CRC here, as nothing else tells where one begins
    CRC       CRC-16 (reflected 8408, from FFFF), little-endian, behind the message and counted by LEN16

The CRC and its reference messages are in Elatec's own source of the protocol's app (main.c V1.04): GetUSBType is
"000515A7\\r" and its answer "000131E1\\r". The driver is polled_serial.py.

Without CRC an ASCII message has no check at all, only digits that must be digits and sizes that must agree: how many
equal answers are believed is `confirm_frames` of the profile.
"""

from __future__ import annotations

from binascii import crc_hqx
from typing import Protocol

from drivers.readers.reader import UID_SIZE_EM4100, UID_SIZES_14443A, Card, card_14443a, card_em4100
from drivers.readers.rejects import Reason, Rejected
from drivers.readers.resync import Begin, Resync, Unfinished, Whole

CR = 0x0D
HEX_DIGITS = frozenset(b"0123456789ABCDEF")
MESSAGE_MAX_BYTES = 80  # the longest answer that we ask for is a version text of at most 64
LENGTH_BYTES, CRC_BYTES = 2, 2

SEARCH_TAG = bytes([0x05, 0x00])
GET_VERSION = bytes([0x00, 0x04])
VERSION_MAX_BYTES = 64
UID_MAX_BYTES = 0x20
OK = 0x00
EM4102, MIFARE = 0x40, 0x80


class Messages(Protocol):
    @property
    def pending(self) -> bool: ...

    def forget(self) -> None: ...

    def feed(self, chunk: bytes) -> list[bytes | Rejected]: ...


def open_messages(mode: str, *, crc: bool) -> Messages:
    """The codec of both directions; a message is an error byte or a function, and what belongs to it."""
    if mode == "ascii":
        return AsciiMessages(crc=crc)
    return Resync(_judged_binary, may_begin=lambda _: True, head_bytes=LENGTH_BYTES)


def encode(message: bytes, *, mode: str, crc: bool) -> bytes:
    checked = message + crc16(message).to_bytes(CRC_BYTES, "little") if crc else message
    if mode == "ascii":
        return checked.hex().upper().encode("ascii") + bytes([CR])
    return len(checked).to_bytes(2, "little") + checked


def crc16(message: bytes) -> int:
    turned = crc_hqx(message.translate(_TURNED), 0xFFFF)  # the library knows the CRC that reads bits the other way
    return _TURNED[turned & 0xFF] << 8 | _TURNED[turned >> 8]


def sighting(message: bytes) -> tuple[Card, ...] | Rejected:
    """Who is there, in the answer to SearchTag: error, found, type, bits, bytes, ID."""
    if len(message) < 2:
        return Rejected(reason=Reason.IDENTIFIER)  # an answer to something else
    if message[0] != OK:
        return Rejected(reason=Reason.CONTENT)
    if message[1:] == b"\x00":
        return ()
    if message[1] != 1 or len(message) < 5:
        return Rejected(reason=Reason.CONTENT)
    kind, bits, size, uid = message[2], message[3], message[4], message[5:]
    if len(uid) != size or bits != 8 * size:
        return Rejected(reason=Reason.CONTENT)
    match kind:
        case 0x80 if size in UID_SIZES_14443A:
            return (card_14443a(uid),)
        case 0x40 if size == UID_SIZE_EM4100:
            return (card_em4100(uid),)
        case 0x80 | 0x40:
            return Rejected(reason=Reason.CONTENT)
        case _:
            return Rejected(reason=Reason.IDENTIFIER)  # a technology that we do not take for an identity


class AsciiMessages:
    """Feed bytes as they come, take messages and rejects line by line. Holds at most one line."""

    def __init__(self, *, crc: bool) -> None:
        self._crc = crc
        self._line = bytearray()
        self._overlong = False

    @property
    def pending(self) -> bool:
        return bool(self._line)

    def forget(self) -> None:
        self._line.clear()
        self._overlong = False

    def feed(self, chunk: bytes) -> list[bytes | Rejected]:
        results: list[bytes | Rejected] = []
        for byte in chunk:
            if byte == CR:
                if self._line:
                    results.append(self._complete())
                self.forget()
            elif len(self._line) < 2 * (MESSAGE_MAX_BYTES + CRC_BYTES):
                self._line.append(byte)
            else:
                self._overlong = True
        return results

    def _complete(self) -> bytes | Rejected:
        if self._overlong:
            return Rejected(reason=Reason.LENGTH)
        if not HEX_DIGITS.issuperset(self._line):
            return Rejected(reason=Reason.NOT_HEX)
        if len(self._line) % 2:
            return Rejected(reason=Reason.TRUNCATED)
        message = bytes.fromhex(self._line.decode("ascii"))
        if not self._crc:
            return message
        if len(message) <= CRC_BYTES:
            return Rejected(reason=Reason.TRUNCATED)
        return _checked(message)


def _checked(message: bytes) -> bytes | Rejected:
    content, crc = message[:-CRC_BYTES], message[-CRC_BYTES:]
    return content if crc16(content) == int.from_bytes(crc, "little") else Rejected(reason=Reason.CHECKSUM)


def _judged_binary(held: bytes) -> Whole[bytes] | Rejected | Unfinished | Begin:
    length = int.from_bytes(held[:LENGTH_BYTES], "little")
    if not CRC_BYTES < length <= MESSAGE_MAX_BYTES + CRC_BYTES:
        return Begin.NOTHING
    if len(held) < LENGTH_BYTES + length:
        return Unfinished(LENGTH_BYTES + length)
    checked = _checked(held[LENGTH_BYTES:])
    return checked if isinstance(checked, Rejected) else Whole(checked)


_TURNED = bytes(int(f"{byte:08b}"[::-1], 2) for byte in range(256))
