"""What the backend says of a token when it is asked live, and how long that may be remembered.

Silence is not a verdict: no answer in time says nothing about the token and is never remembered. Asking is tapping.py,
what follows from an answer is rules/live.py; the signed message is sync/live.py.
"""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime, timedelta
from enum import StrEnum

from agent.core.instants import Instant

# Absolute, from the backend's word and never from the last use: a card that is used daily does not live for ever.
LONGEST_KEPT = timedelta(hours=24)


class Whitelist(StrEnum):
    """OCPI's words for when the backend must be asked: always for NEVER, if it can be reached for ALLOWED_OFFLINE."""

    ALWAYS = "ALWAYS"
    ALLOWED = "ALLOWED"
    ALLOWED_OFFLINE = "ALLOWED_OFFLINE"
    NEVER = "NEVER"

    @property
    def asks(self) -> bool:
        return self in (Whitelist.ALLOWED_OFFLINE, Whitelist.NEVER)


class Verdict(StrEnum):
    """OCPI's AllowedType, and UNKNOWN for its error 2004."""

    ALLOWED = "ALLOWED"
    BLOCKED = "BLOCKED"
    EXPIRED = "EXPIRED"
    NO_CREDIT = "NO_CREDIT"
    NOT_ALLOWED = "NOT_ALLOWED"
    UNKNOWN = "UNKNOWN"


class Silence(StrEnum):
    """Why the backend's word could not be had."""

    OFFLINE = "offline"
    DEADLINE = "no answer in time"
    BUSY = "too many questions at once"


class Mode(StrEnum):
    """Online: with the backend's word on this very question. Offline: by what the device holds."""

    ONLINE = "online"
    OFFLINE = "offline"


@dataclass(frozen=True, slots=True, kw_only=True)
class Heard:
    """What came of asking: a verdict, or silence. `kept` is what the backend said earlier, if that is not too old."""

    verdict: Verdict | None = None
    silence: Silence | None = None
    kept: Verdict | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class Answer:
    """A signed answer to one question. `answered_at` is the backend's time, `jws` its proof."""

    verdict: Verdict
    answered_at: datetime
    keep: timedelta
    jws: str


@dataclass(frozen=True, slots=True, kw_only=True)
class Kept:
    """What was answered, and when, on all clocks. A later answer replaces it; use never refreshes it."""

    verdict: Verdict
    answered_at: datetime
    boot: str
    monotonic_ms: int
    keep: timedelta

    def in_force(self, now: Instant) -> bool:
        """A yes must be proven young, a no must be proven old: a clock that nobody believes proves neither."""
        age = max(timedelta(0), now.latest - self.answered_at)
        if now.boot == self.boot:
            age = max(age, timedelta(milliseconds=now.monotonic_ms - self.monotonic_ms))
        elif not now.trusted:
            return self.verdict is not Verdict.ALLOWED
        return age < min(self.keep, LONGEST_KEPT)
