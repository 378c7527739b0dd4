"""Meter samples that wait to be sealed together; where room is short only the newest of each session is kept.

Giving one up harms no bill: the meter is cumulative. But it is never done in silence: how many, of which sessions and
why goes into the journal with the next thing that is stored. What is sealed already is not touched here or anywhere.
"""

from __future__ import annotations

import logging
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Final

from agent.core.facts import Fact, RecordsShed, SessionMetered
from agent.core.instants import Instant
from agent.wire import NAMESPACE, TYPES

log = logging.getLogger("roamkey")

WAITING_LIMIT: Final = 600  # held back while nothing can be stored at all; beyond it the oldest are given up
THINNED_EVERY_MS: Final = 15 * 60_000  # one sample of each session in this time, where room is short
NAMED_SESSIONS: Final = 20

Entry = tuple[Fact, Instant]


@dataclass(slots=True, kw_only=True)
class Samples:
    """`scarce`: why samples are thinned out now, None while there is room."""

    scarce: str | None = None
    _waiting: list[Entry] = field(default_factory=list)
    _since_ms: int = 0
    _shed: Counter[str] = field(default_factory=Counter)
    _why: str = ""

    def __len__(self) -> int:
        return len(self._waiting)

    def hold(self, entries: Sequence[Entry]) -> None:
        for entry in entries:
            if not self._waiting:
                self._since_ms = entry[1].monotonic_ms
            if self.scarce is not None:
                self._drop([old for old in self._waiting if _session_of(old) == _session_of(entry)], self.scarce)
            self._waiting.append(entry)
        over = len(self._waiting) - WAITING_LIMIT
        if over > 0:
            log.error("storage is full: %d meter samples given up; ends of sessions are kept", over)
            self._drop(self._waiting[:over], "storage full")

    def is_due(self, now: Instant) -> bool:
        """Together after a second; where room is short, one of each session after a long while."""
        if self.scarce is None:
            return bool(self._waiting)
        return bool(self._waiting) and now.monotonic_ms - self._since_ms >= THINNED_EVERY_MS

    def give_up(self, session: str, why: str) -> None:
        """A sample that was dropped elsewhere, before it was a fact."""
        self._shed[session] += 1
        self._why = why

    def entries(self, now: Instant | None = None) -> list[Entry]:
        """What waits, and what was given up since the last time; until `stored`."""
        moments = [moment for _, moment in self._waiting]
        at = now or (moments[-1] if moments else None)
        if not self._shed or at is None:
            return list(self._waiting)
        shed = RecordsShed(
            kind=TYPES[SessionMetered].removeprefix(NAMESPACE),
            count=self._shed.total(),
            sessions=tuple(sorted(self._shed))[:NAMED_SESSIONS],
            reason=self._why,
        )
        return [*self._waiting, (shed, at)]

    def stored(self) -> None:
        self._waiting.clear()
        self._shed.clear()

    def _drop(self, entries: Sequence[Entry], why: str) -> None:
        for entry in entries:
            self.give_up(_session_of(entry), why)
        gone = {id(entry) for entry in entries}
        self._waiting = [entry for entry in self._waiting if id(entry) not in gone]


def _session_of(entry: Entry) -> str:
    fact = entry[0]
    return fact.session if isinstance(fact, SessionMetered) else ""
