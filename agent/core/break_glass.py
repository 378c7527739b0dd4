"""Break-glass: a code that a dispatcher reads out over the phone, for a device without any connection.

Eight digits from the device's own secret, a counter and the card, as in RFC 4226 (HOTP): each is good once, for one
card, at one device, and needs no clock. It waives what an override may waive, within this file's limit of energy.
"""

from __future__ import annotations

import hashlib
import hmac
from dataclasses import dataclass
from datetime import datetime, timedelta

from agent.core.instants import Instant
from agent.core.overrides import EVERYTHING, LONGEST, Override

CODE = r"^[0-9]{8}$"
AHEAD = 20  # codes that were read out and never used may be skipped
MOST_TRIES = 5  # wrong ones in a row; then one each
AGAIN_AFTER = timedelta(minutes=15)
MAX_ENERGY_WH = 30_000  # enough to get home, not enough to be worth stealing
ID = "break-glass-"
BY = "break-glass code"


@dataclass(frozen=True, slots=True, kw_only=True)
class CodeTries:
    """`counter` of the last code that was used; wrong ones in a row since."""

    counter: int = 0
    wrong: int = 0
    last: datetime | None = None


def secret_of(fleet_key: bytes, device: str) -> bytes:
    """What one device holds: nobody can make another device's codes from it."""
    return hmac.digest(fleet_key, b"roamkey/break-glass/v1\x00" + device.encode(), "sha256")


def code_of(secret: bytes, counter: int, token: str) -> str:
    """RFC 4226, 5.3: dynamic truncation, of SHA-256 over counter and card."""
    digest = hmac.digest(secret, counter.to_bytes(8, "big") + token.encode(), hashlib.sha256)
    offset = digest[-1] & 0x0F
    return f"{(int.from_bytes(digest[offset : offset + 4], 'big') & 0x7FFFFFFF) % 10**8:08d}"


def counter_of(secret: bytes, code: str, token: str, *, after: int) -> int | None:
    """Which of the next codes it is."""
    found = None
    for counter in range(after + 1, after + 1 + AHEAD):
        if hmac.compare_digest(code_of(secret, counter, token), code):
            found = found or counter
    return found


def is_locked(tries: CodeTries, now: Instant) -> bool:
    """Guessing is slow: five at once, then four an hour. A clock set back keeps the lock."""
    return tries.wrong >= MOST_TRIES and (tries.last is None or now.latest - tries.last < AGAIN_AFTER)


def override_of(counter: int, token: str, why: str, now: Instant) -> Override:
    return Override(
        id=f"{ID}{counter}",
        token=token,
        waives=frozenset({EVERYTHING}),
        why=why,
        by=BY,
        issued=now.latest,
        not_after=now.latest + LONGEST,
        max_energy_wh=MAX_ENERGY_WH,
        boot=now.boot,
        received_ms=now.monotonic_ms,
        counted=True,
    )
