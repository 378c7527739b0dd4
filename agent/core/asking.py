"""Which decisions wait for the backend's word, and what is heard of it: an answer in time, or silence.

What the word means is rules/live.py; what follows from a decision is tapping.py.
"""

from __future__ import annotations

from dataclasses import replace
from datetime import timedelta

from agent.core.answers import LONGEST_KEPT, Answer, Heard, Kept, Silence
from agent.core.instants import Instant, time_ordered_id
from agent.core.memory import Memory, with_item
from agent.core.pending import MOST_PENDING, Pending
from agent.core.requests import Request


class Asking:
    def __init__(self, memory: Memory) -> None:
        self._memory = memory

    def before(self, asked: Request, now: Instant) -> Heard | None:
        """None while the backend can be asked, or need not be."""
        if asked.token is None or not asked.token.whitelist.asks:
            return None
        if not self._memory.state.link_up:
            return self.silence(asked, Silence.OFFLINE, now)
        if len(self._memory.state.pending) >= MOST_PENDING:
            return self.silence(asked, Silence.BUSY, now)
        return None

    def silence(self, asked: Request, why: Silence, now: Instant) -> Heard:
        """With what the backend said of this token before, if that still counts."""
        kept = self._memory.state.history.answers.get(asked.credential.reference)
        verdict = kept.verdict if kept is not None and kept.in_force(now) else None
        return Heard(silence=why, kept=verdict)

    def waits(self, reader: str, asked: Request) -> bool:
        """This card at this reader is being asked about already."""
        return any(
            each.reader == reader and each.asked.credential == asked.credential
            for each in self._memory.state.pending.values()
        )

    def begin(self, case: Pending, now: Instant) -> tuple[str, Pending]:
        ask = time_ordered_id(now, 2)
        waiting = replace(case, due_ms=now.monotonic_ms + self._memory.setup.timing.ask_timeout_ms)
        self._memory.change(pending=with_item(self._memory.state.pending, ask, waiting))
        return ask, waiting

    def end(self, ask: str, now: Instant) -> Pending | None:
        """The question that this answers; None when nobody waits for that any more."""
        waiting = self._memory.state.pending.get(ask)
        if waiting is None or now.monotonic_ms >= waiting.due_ms:
            return None
        self._forget(ask)
        return waiting

    def unanswered(self, now: Instant, *, all_of_them: bool) -> tuple[Pending, ...]:
        """Those whose time is over; the others go on waiting."""
        over = {
            ask: each
            for ask, each in self._memory.state.pending.items()
            if all_of_them or now.monotonic_ms >= each.due_ms
        }
        for ask in over:
            self._forget(ask)
        return tuple(over.values())

    def remember(self, asked: Request, answer: Answer, now: Instant) -> None:
        """As long as the backend allows, counted from its word; a word that is not to be kept ends what was kept."""
        believed = min(answer.answered_at, now.latest) if now.trusted else answer.answered_at
        kept = Kept(
            verdict=answer.verdict,
            answered_at=believed,
            boot=now.boot,
            monotonic_ms=now.monotonic_ms,
            keep=max(timedelta(0), min(answer.keep, LONGEST_KEPT)),
        )
        self._memory.change(history=self._memory.state.history.with_answer(asked.credential.reference, kept))

    def _forget(self, ask: str) -> None:
        left = {name: each for name, each in self._memory.state.pending.items() if name != ask}
        self._memory.change(pending=left)
