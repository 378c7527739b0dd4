"""One journal's delivery on one connection, and the search for where it parted from the backend's. Pure values."""

from __future__ import annotations

from collections import deque
from dataclasses import dataclass, field
from enum import Enum, auto

# Hashes told in one hello: each round narrows the search by this factor, and stays a few KiB.
MARKS = 32


class Phase(Enum):
    """GREETING: it is not agreed where to resume, nothing is sent. DRAINING: batches flow."""

    GREETING = auto()
    DRAINING = auto()


@dataclass(slots=True, kw_only=True)
class Search:
    """The last record in common lies from `agreed` to before `before`. `apart`: known to differ from there on."""

    apart: int | None
    agreed: int = 0
    before: int
    marks: dict[int, str] = field(default_factory=dict)

    @property
    def is_done(self) -> bool:
        return self.before - self.agreed <= 1

    def next_marks(self, first: int) -> list[int]:
        """Evenly over what is left, the newest included; `first` is the oldest record that is still here."""
        low, high = max(self.agreed, first - 1), self.before - 1
        count = min(MARKS, high - low)
        return [low + (high - low) * number // count for number in range(1, count + 1)] if count > 0 else []

    def learn(self, agreed: int) -> None:
        """The backend holds the same record there; not at the marks after it."""
        if agreed in self.marks:
            self.agreed = max(self.agreed, agreed)
        self.before = min([self.before, *(mark for mark in self.marks if mark > self.agreed)])
        self.marks = {}


@dataclass(slots=True, kw_only=True)
class Lane:
    """`through`: what the backend holds by its last word; `sent`: what was published on this connection."""

    journal: str
    phase: Phase = Phase.GREETING
    through: int = 0
    sent: int = 0
    resend: deque[tuple[int, int]] = field(default_factory=deque)
    search: Search | None = None

    def rewind(self) -> None:
        """Everything after the last acknowledged record is sent again."""
        self.sent = self.through
        self.resend.clear()
