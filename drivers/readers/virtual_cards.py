"""Cards that exist in memory only, for the simulated PN532: what they answer when selected and when talked to."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field
from secrets import token_bytes
from typing import Protocol

PAGE_BYTES = 4
NTAG215_PAGES = 135
NTAG215_VERSION = bytes.fromhex("0004040201001103")
SENS_RES_OF_SIZE = {4: b"\x00\x04", 7: b"\x00\x44", 10: b"\x00\x84"}  # as the PN532 tells it, MSB first
RANDOM_ID = b"\x08"


@dataclass(frozen=True, slots=True, kw_only=True)
class Selected:
    """What the PN532 learns by anticollision and selection."""

    sens_res: bytes
    sel_res: int
    uid: bytes = field(repr=False)


class VirtualCard(Protocol):
    def select(self) -> Selected: ...

    def lose_field(self) -> None: ...

    def transceive(self, command: bytes) -> bytes | None:
        """The answer without CRC; None when the card stays mute."""


class Type2Card:
    """An NTAG215, or with another UID length any Type 2 tag. Reads; refuses to be written."""

    def __init__(self, uid: bytes) -> None:
        self._uid = uid
        self._pages = _identity_pages(uid) + bytes(PAGE_BYTES * NTAG215_PAGES - len(_identity_pages(uid)))

    def select(self) -> Selected:
        return Selected(sens_res=SENS_RES_OF_SIZE[len(self._uid)], sel_res=0x00, uid=self._uid)

    def lose_field(self) -> None:
        pass

    def transceive(self, command: bytes) -> bytes | None:
        match list(command):
            case [0x30, page] if page < NTAG215_PAGES:  # READ
                rolled = self._pages + self._pages[:16]  # a read over the end begins again at page 0
                return rolled[page * PAGE_BYTES : page * PAGE_BYTES + 16]
            case [0x60]:  # GET_VERSION
                return NTAG215_VERSION
            case _:
                return None


class ClassicCard:
    """A MIFARE Classic as far as a UID reader sees it; it would want to authenticate before anything else."""

    def __init__(self, uid: bytes) -> None:
        self._uid = uid

    def select(self) -> Selected:
        return Selected(sens_res=SENS_RES_OF_SIZE[len(self._uid)], sel_res=0x08, uid=self._uid)

    def lose_field(self) -> None:
        pass

    def transceive(self, command: bytes) -> bytes | None:
        return None


class Phone:
    """Draws a new random ID each time the field drops, as phones and private cards do."""

    def __init__(self, draw: Callable[[int], bytes] = token_bytes) -> None:
        self._draw = draw
        self._uid = self._random_id()

    def select(self) -> Selected:
        return Selected(sens_res=SENS_RES_OF_SIZE[4], sel_res=0x20, uid=self._uid)

    def lose_field(self) -> None:
        self._uid = self._random_id()

    def transceive(self, command: bytes) -> bytes | None:
        return None

    def _random_id(self) -> bytes:
        return RANDOM_ID + self._draw(3)


def _identity_pages(uid: bytes) -> bytes:
    """Pages 0 to 2 of a Type 2 tag: the UID with its check bytes in between (ISO 14443-3 BCC)."""
    if len(uid) != 7:
        return uid
    first, second = uid[:3], uid[3:]
    return first + bytes([_xor(b"\x88" + first)]) + second + bytes([_xor(second)])


def _xor(octets: bytes) -> int:
    check = 0
    for octet in octets:
        check ^= octet
    return check
