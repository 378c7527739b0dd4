"""Why a frame was not believed. One list for all codecs, so that profiles can name the reason in their vectors."""

from __future__ import annotations

from dataclasses import dataclass
from enum import StrEnum


class Reason(StrEnum):
    TRUNCATED = "truncated"  # the next frame began before this one ended
    NOT_HEX = "not_hex"  # a character that may not be there; lower case counts as damage
    CHECKSUM = "checksum"
    FRAMING = "framing"  # the bytes around the content are not what the format says
    LENGTH = "length"  # the length field, or a length that the device's profile does not know
    IDENTIFIER = "identifier"  # a well-formed frame that nobody in this conversation sends
    CONTENT = "content"  # well framed, but what it says contradicts itself
    COLLISION = "collision"  # more than one card answers at once, and the device names none
    PARITY = "parity"


@dataclass(frozen=True, slots=True, kw_only=True)
class Rejected:
    """Carries no bytes of the frame: a damaged UID is still most of a UID."""

    reason: Reason
