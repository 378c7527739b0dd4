"""StrongLink SL025, SL032 and their sisters: frames on a UART, and the card inside an answer. Pure and incremental.

    host    BA Len Cmd Data... CS          reader  BD Len Cmd Status Data... CS

Len counts from Cmd to CS, CS is the XOR of all bytes before it (SL025M user manual 4-2, SL032 user manual 4-2). The
driver is polled_serial.py. One XOR byte leaves no single-bit error undetected and one in a few hundred worse ones: how
many equal answers are believed is `confirm_frames` of the profile.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from functools import reduce
from operator import xor

from drivers.readers.reader import UID_SIZES_14443A, Card, card_14443a
from drivers.readers.rejects import Reason, Rejected
from drivers.readers.resync import Resync, Unfinished, Whole

FROM_HOST, FROM_READER = 0xBA, 0xBD
SELECT, RED_LED, FIRMWARE = 0x01, 0x40, 0xF0
OK, NO_TAG, COLLISION, BAD_CHECKSUM = 0x00, 0x01, 0x0A, 0xF0
LEN_MAX = 40  # the longest answer that we ask for is a version text of some 20 characters
HEAD_BYTES = 2


@dataclass(frozen=True, slots=True, kw_only=True)
class Answer:
    """`data` may be a UID and is therefore not shown."""

    command: int
    status: int
    data: bytes = field(default=b"", repr=False)


def answers() -> Resync[Answer]:
    """The codec of what the reader says."""

    def judged(held: bytes) -> Whole[Answer] | Rejected | Unfinished:
        match _judged(held, 3):
            case Whole(value=frame):
                return Whole(Answer(command=frame[2], status=frame[3], data=frame[4:-1]))
            case other:
                return other

    return Resync(judged, may_begin=FROM_READER.__eq__, head_bytes=HEAD_BYTES)


def commands() -> Resync[bytes]:
    """The codec of what the host says: command and data. For the simulator."""

    def judged(held: bytes) -> Whole[bytes] | Rejected | Unfinished:
        match _judged(held, 2):
            case Whole(value=frame):
                return Whole(frame[2:-1])
            case other:
                return other

    return Resync(judged, may_begin=FROM_HOST.__eq__, head_bytes=HEAD_BYTES)


def encode(payload: bytes, *, start: int = FROM_HOST) -> bytes:
    """A frame around command and data, or as the reader sends it around command, status and data."""
    frame = bytes([start, len(payload) + 1]) + payload
    return frame + bytes([check(frame)])


def check(frame: bytes) -> int:
    """Zero over a whole frame."""
    return reduce(xor, frame, 0)


def sighting(answer: Answer) -> tuple[Card, ...] | Rejected:
    """Who is there, in the answer to SELECT. The UID's size is the frame's, never that of the type byte: the SL025
    and the SL032 use the same numbers for different cards."""
    if answer.command != SELECT:
        return Rejected(reason=Reason.IDENTIFIER)
    match answer.status:
        case 0x00 if len(answer.data) - 1 in UID_SIZES_14443A:
            return (card_14443a(answer.data[:-1]),)
        case 0x01 if not answer.data:
            return ()
        case 0x0A:
            return Rejected(reason=Reason.COLLISION)
        case 0xF0:
            return Rejected(reason=Reason.CHECKSUM)  # it is the reader that heard us badly
        case _:
            return Rejected(reason=Reason.CONTENT)


def _judged(held: bytes, len_min: int) -> Whole[bytes] | Rejected | Unfinished:
    if not len_min <= held[1] <= LEN_MAX:
        return Rejected(reason=Reason.LENGTH)
    if len(held) < (size := HEAD_BYTES + held[1]):
        return Unfinished(size)
    return Rejected(reason=Reason.CHECKSUM) if check(held) else Whole(held)
