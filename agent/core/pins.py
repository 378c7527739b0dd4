"""A driver's PIN: kept as a salted scrypt hash (RFC 7914), tried at most five times, then locked.

The hash slows a thief of the bundle down; four digits do not stop one. A right PIN ends the count; so does a new one.
"""

from __future__ import annotations

import hashlib
import hmac
from dataclasses import dataclass, field
from enum import StrEnum

PIN = r"^[0-9]{4,12}$"
MOST_TRIES = 5
BLOCK, PARALLEL = 8, 1  # RFC 7914, 2; with a cost of 2**14 this takes 16 MiB and some 40 ms
COST = 2**14
MEMORY_LIMIT = 64 * 1024 * 1024


class PinState(StrEnum):
    """What came of the PIN that was given."""

    RIGHT = "right"
    WRONG = "wrong"


@dataclass(frozen=True, slots=True, kw_only=True)
class Pin:
    """`salt` and `hash` in hexadecimal; a new PIN has a new salt, which names it."""

    salt: str
    hash: str = field(repr=False)
    cost: int = COST


@dataclass(frozen=True, slots=True, kw_only=True)
class Tries:
    """How often another PIN than this one was given in a row."""

    salt: str
    wrong: int


def hashed(text: str, salt: bytes) -> Pin:
    return Pin(salt=salt.hex(), hash=_scrypt(text, salt, COST))


def tried(pin: Pin, text: str) -> PinState:
    right = hmac.compare_digest(_scrypt(text, bytes.fromhex(pin.salt), pin.cost), pin.hash)
    return PinState.RIGHT if right else PinState.WRONG


def _scrypt(text: str, salt: bytes, cost: int) -> str:
    return hashlib.scrypt(text.encode(), salt=salt, n=cost, r=BLOCK, p=PARALLEL, maxmem=MEMORY_LIMIT, dklen=32).hex()
