"""What can happen to an answer on its way from a simulated reader to the host. Pure."""

from __future__ import annotations

from collections.abc import Callable
from enum import StrEnum
from typing import assert_never


class Disturbance(StrEnum):
    """What can be wrong with an answer on its way to the host."""

    CUT_AFTER_1 = "cut after 1 byte"
    CUT_AFTER_2 = "cut after 2 bytes"
    CUT_AFTER_4 = "cut after 4 bytes"
    CUT_MID_FRAME = "cut in mid-frame"
    BIT_FLIPPED = "one bit flipped"
    LAST_BYTE_WRONG = "last byte wrong"
    STRAY_BYTES = "four stray bytes before the frame"
    TWICE = "the same answer twice"
    SILENCE = "no answer"
    WRONG_ANSWER = "an answer to another command"
    GARBAGE = "a hundred bytes of noise instead"


def disturbed(answer: bytes, disturbance: Disturbance | None, *, other: Callable[[], bytes]) -> bytes:
    """What arrives. `other` is a sound answer to another question."""
    match disturbance:
        case None:
            return answer
        case Disturbance.CUT_AFTER_1:
            return answer[:1]
        case Disturbance.CUT_AFTER_2:
            return answer[:2]
        case Disturbance.CUT_AFTER_4:
            return answer[:4]
        case Disturbance.CUT_MID_FRAME:
            return answer[: len(answer) // 2]
        case Disturbance.BIT_FLIPPED:
            at = len(answer) // 2
            return answer[:at] + bytes([answer[at] ^ 0x04]) + answer[at + 1 :]
        case Disturbance.LAST_BYTE_WRONG:
            return answer[:-1] + bytes([answer[-1] ^ 0x10])
        case Disturbance.STRAY_BYTES:
            return b"\x00\xff\xbd\x0d" + answer
        case Disturbance.TWICE:
            return answer * 2
        case Disturbance.SILENCE:
            return b""
        case Disturbance.WRONG_ANSWER:
            return other()
        case Disturbance.GARBAGE:
            return bytes(range(1, 101))
        case _:
            assert_never(disturbance)
