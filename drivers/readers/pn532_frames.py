"""PN532 frames on a high-speed UART, and the list of targets inside one. Pure and incremental.

    normal    00 00 FF LEN LCS TFI PD... DCS 00          LEN + LCS = 0, TFI + PD... + DCS = 0 (mod 256)
    extended  00 00 FF FF FF LENM LENL LCS TFI PD... DCS 00
    ACK       00 00 FF 00 FF 00      NACK  00 00 FF FF 00 00      error  00 00 FF 01 FF 7F 81 00

(PN532 user manual, 6.2.1.) Preamble and postamble may be missing or longer; only 00 FF starts a frame. Talking to the
chip is pn532_transport.py, the poll loop is pn532.py.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from enum import StrEnum

from drivers.readers.reader import UID_SIZES_14443A, Card, card_14443a
from drivers.readers.rejects import Reason, Rejected

ACK = bytes.fromhex("0000FF00FF00")
NACK = bytes.fromhex("0000FFFF0000")
ERROR = bytes.fromhex("0000FF01FF7F8100")
WAKE_UP = bytes.fromhex("5555") + bytes(14)  # lost on a sleeping chip, noise to an awake one

START = b"\x00\xff"
FROM_HOST, FROM_CHIP, ERROR_CODE = 0xD4, 0xD5, 0x7F
NORMAL_MAX_BYTES = 255
PAYLOAD_MAX_BYTES = 265  # PN532 user manual: TFI and data of the longest frame; longer is noise
TARGETS_ANSWER = bytes([FROM_CHIP, 0x4B])  # answer to InListPassiveTarget
HAS_ATS = 0x20  # SEL_RES: the target speaks ISO 14443-4


class Kind(StrEnum):
    DATA = "data"
    ACK = "ack"
    NACK = "nack"
    ERROR = "error"


@dataclass(frozen=True, slots=True, kw_only=True)
class Frame:
    """`payload` is TFI and data; it may hold a UID and is therefore not shown."""

    kind: Kind
    payload: bytes = field(default=b"", repr=False)


class Pn532Frames:
    """Feed bytes as they come, take frames and rejects as they are complete. Holds at most one longest frame."""

    def __init__(self) -> None:
        self._buffer = bytearray()

    def feed(self, chunk: bytes) -> list[Frame | Rejected]:
        results: list[Frame | Rejected] = []
        self._buffer += chunk
        while (start := self._buffer.find(START)) >= 0:
            del self._buffer[:start]
            result, used = _first(self._buffer)
            if not used:
                return results  # the rest of this frame is still to come
            if result is not None:
                results.append(result)
            del self._buffer[:used]
        del self._buffer[: max(0, len(self._buffer) - 1)]  # a last 00 may be the first half of the next start
        return results

    @property
    def pending(self) -> bool:
        """Whether a frame has begun and not ended."""
        return len(self._buffer) > 1

    def forget(self) -> None:
        """Drop a half-received frame, for example before the next command."""
        self._buffer.clear()


def _first(buffer: bytearray) -> tuple[Frame | Rejected | None, int]:
    """The frame at the front and its size; size 0 asks for more bytes. Damage costs only the start code, so that
    a good frame inside a damaged one is still found."""
    if len(buffer) < 4:
        return None, 0
    length, check = buffer[2], buffer[3]
    if (length, check) == (0x00, 0xFF):
        return Frame(kind=Kind.ACK), 4
    if (length, check) == (0xFF, 0x00):
        return Frame(kind=Kind.NACK), 4
    head = 4
    if (length, check) == (0xFF, 0xFF):
        head = 7
        if len(buffer) < head:
            return None, 0
        length = buffer[4] << 8 | buffer[5]
        if sum(buffer[4:7]) & 0xFF:
            return Rejected(reason=Reason.LENGTH), 1
    elif (length + check) & 0xFF:
        return Rejected(reason=Reason.LENGTH), 1
    if not 1 <= length <= PAYLOAD_MAX_BYTES:
        return Rejected(reason=Reason.LENGTH), 1
    size = head + length + 1
    if len(buffer) < size:
        return None, 0
    if sum(buffer[head:size]) & 0xFF:
        return Rejected(reason=Reason.CHECKSUM), 1
    return _judged(bytes(buffer[head : size - 1])), size


def _judged(payload: bytes) -> Frame | Rejected:
    if payload[0] == ERROR_CODE and len(payload) == 1:
        return Frame(kind=Kind.ERROR, payload=payload)
    if payload[0] in (FROM_HOST, FROM_CHIP) and len(payload) >= 2:
        return Frame(kind=Kind.DATA, payload=payload)
    return Rejected(reason=Reason.IDENTIFIER)


def encode(payload: bytes) -> bytes:
    """The frame around TFI and data."""
    size = len(payload)
    if size <= NORMAL_MAX_BYTES:
        head = bytes([size, -size & 0xFF])
    else:
        length = size.to_bytes(2, "big")
        head = b"\xff\xff" + length + bytes([-sum(length) & 0xFF])
    return b"\x00" + START + head + payload + bytes([-sum(payload) & 0xFF, 0x00])


def targets(payload: bytes) -> tuple[Card, ...] | Rejected:
    """The Type A cards in an answer to InListPassiveTarget; none is an empty field.

    Every length in it is the card's to choose: none is believed before it is compared with the bytes that are there.
    """
    if not payload.startswith(TARGETS_ANSWER) or len(payload) < 3:
        return Rejected(reason=Reason.IDENTIFIER)
    count = payload[2]
    if count > 2:  # PN532 user manual, 7.3.5: at most two targets
        return Rejected(reason=Reason.CONTENT)
    cards = _listed(payload[3:], count)
    return Rejected(reason=Reason.CONTENT) if cards is None else cards


def _listed(rest: bytes, count: int) -> tuple[Card, ...] | None:
    """Tg, SENS_RES (2), SEL_RES, NFCIDLength, NFCID, perhaps ATS; `count` times, and nothing after it.

    Whether there is an ATS depends on a setting of the chip that the answer does not tell: what fits exactly is right.
    """
    if count == 0:
        return () if not rest else None
    if len(rest) < 5:
        return None
    size = rest[4]
    uid, after = rest[5 : 5 + size], rest[5 + size :]
    if size not in UID_SIZES_14443A or len(uid) != size:
        return None
    card = card_14443a(uid)
    tails = [after]
    if rest[3] & HAS_ATS and after and 1 <= after[0] <= len(after):  # the ATS counts its own length byte
        tails.insert(0, after[after[0] :])
    for tail in tails:
        if (others := _listed(tail, count - 1)) is not None:
            return (card, *others)
    return None
