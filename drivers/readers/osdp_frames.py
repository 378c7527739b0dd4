"""OSDP frames on RS-485, and the card in a reader's reply. Pure and incremental.

    [FF] 53 ADDR LEN16 CTRL [SCB: size type data] CODE DATA [MAC 4] CRC16

(OSDP 2.2, 5.8; LEN16 and CRC16 little-endian, CRC 1021 from 1D0F, LEN16 counts from 53 to the CRC.) A reply sets bit 7
of ADDR, CTRL bit 3 says that a security block follows. Encryption, sequence numbers and polling are the library's
(osdp_library.py); what reaches it are whole frames with a sound CRC from the reader that was asked, and nothing else.
Frames with the old one-byte checksum are refused: our questions carry a CRC, and a reader answers in kind.
"""

from __future__ import annotations

from binascii import crc_hqx
from dataclasses import dataclass, field

from drivers.readers.reader import Assurance, Card, Technology, card_14443a
from drivers.readers.rejects import Reason, Rejected
from drivers.readers.resync import Resync, Unfinished, Whole
from drivers.readers.wiegand import HALF_OF_BITS, data_of

START, MARK = 0x53, 0xFF
REPLY, HAS_CRC, HAS_SECURITY = 0x80, 0x04, 0x08
HEAD_BYTES, CRC_BYTES = 5, 2
FRAME_MAX_BYTES = 512  # a card is 20 bytes, an identification 30; files are never transferred
RAW, KEYPAD, FORMATTED = 0x50, 0x53, 0x51
UID_BITS = (32, 56, 80)


@dataclass(frozen=True, slots=True, kw_only=True)
class OsdpFrame:
    """`raw` and `data` may hold a UID and are therefore not shown. The data of a secured frame is encrypted."""

    address: int
    is_reply: bool
    security: int | None  # type of the security block; None: in clear
    code: int
    data: bytes = field(default=b"", repr=False)
    raw: bytes = field(default=b"", repr=False)


def frames() -> Resync[OsdpFrame]:
    return Resync(_judged, may_begin=START.__eq__, head_bytes=HEAD_BYTES)


def encode(payload: bytes, *, address: int, reply: bool, sequence: int = 0) -> bytes:
    """A frame in clear around code and data. For vectors and tests: the library makes those that are sent."""
    size = HEAD_BYTES + len(payload) + CRC_BYTES
    head = bytes([START, address | REPLY if reply else address]) + size.to_bytes(2, "little")
    frame = head + bytes([sequence | HAS_CRC]) + payload
    return frame + crc16(frame).to_bytes(CRC_BYTES, "little")


def crc16(frame: bytes) -> int:
    return crc_hqx(frame, 0x1D0F)


class OsdpReplies:
    """The cards in replies that came in clear. Secured ones are opened by the library first."""

    def __init__(self, technology: str) -> None:
        self._technology = Technology(technology)

    def codec(self) -> Resync[OsdpFrame]:
        return frames()

    def sighting(self, frame: OsdpFrame) -> tuple[Card, ...] | Rejected:
        if not frame.is_reply or frame.security is not None or frame.code != RAW:
            return Rejected(reason=Reason.IDENTIFIER)
        if len(frame.data) < 4:
            return Rejected(reason=Reason.LENGTH)
        bits = int.from_bytes(frame.data[2:4], "little")
        return card_in(frame.data[4:], bits=bits, technology=self._technology)


def card_in(data: bytes, *, bits: int, technology: Technology) -> tuple[Card, ...] | Rejected:
    """A reader's card data, first bit first. 32, 56 and 80 bits are a UID; 26, 34 and 37 a Wiegand number."""
    if len(data) != (bits + 7) // 8:
        return Rejected(reason=Reason.LENGTH)
    if bits in UID_BITS:
        return (card_14443a(data),)
    if bits not in HALF_OF_BITS:
        return Rejected(reason=Reason.LENGTH)
    number = data_of(format(int.from_bytes(data, "big"), f"0{8 * len(data)}b")[:bits])
    if isinstance(number, Rejected):
        return number
    return (Card(uid=number, technology=technology, assurance=Assurance.LOSSY),)


def _judged(held: bytes) -> Whole[OsdpFrame] | Rejected | Unfinished:
    size, control = int.from_bytes(held[2:4], "little"), held[4]
    if not HEAD_BYTES + 1 + CRC_BYTES <= size <= FRAME_MAX_BYTES:
        return Rejected(reason=Reason.LENGTH)
    if not control & HAS_CRC:
        return Rejected(reason=Reason.FRAMING)
    if len(held) < size:
        return Unfinished(size)
    if crc16(held[:-CRC_BYTES]) != int.from_bytes(held[-CRC_BYTES:], "little"):
        return Rejected(reason=Reason.CHECKSUM)
    content, security = held[HEAD_BYTES:-CRC_BYTES], None
    if control & HAS_SECURITY:
        if len(content) < 3 or not 2 <= content[0] < len(content):
            return Rejected(reason=Reason.CONTENT)
        security, content = content[1], content[content[0] :]
    frame = OsdpFrame(
        address=held[1] & ~REPLY,
        is_reply=bool(held[1] & REPLY),
        security=security,
        code=content[0],
        data=content[1:],
        raw=held,
    )
    return Whole(frame)
