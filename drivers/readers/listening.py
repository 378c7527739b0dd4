"""Readers that only talk: frames as Seen events, with the empty polls that the device never sends.

Belief in repeated frames and the end of a presence are sightings.py; who listens to what is in the drivers.
"""

from __future__ import annotations

import asyncio
import time

from drivers.readers.reader import Card, Emit, Seen
from drivers.readers.sightings import Confirmation, EmptyPolls

SAME_CARD_MS = 25  # a repeated frame sooner than any reader's next one says nothing new


class Listening:
    """Of one connection. Belongs to the loop."""

    def __init__(self, name: str, confirm_frames: int, *, silence_s: float, emit: Emit) -> None:
        self.empty_at_s: float | None = None  # on the loop's clock; None: nothing to tell
        self._name = name
        self._silence_s = silence_s
        self._emit = emit
        self._confirmation = Confirmation(confirm_frames, within_ms=round(silence_s * 1_000))
        self._empty_polls = EmptyPolls()
        self._told: tuple[tuple[Card, ...], int] = ((), 0)

    def heard(self, cards: tuple[Card, ...], *, now_s: float) -> None:
        now_ms = _monotonic_ms()
        if self.empty_at_s is not None:  # a sound frame is no silence, believed or not
            self.empty_at_s = now_s + self._silence_s
        if not self._confirmation.confirms(cards, now_ms):
            return
        self._empty_polls.card_seen()
        self.empty_at_s = now_s + self._silence_s
        told_cards, told_ms = self._told
        if cards != told_cards or now_ms - told_ms >= SAME_CARD_MS:
            self._told = (cards, now_ms)
            self._emit(Seen(reader=self._name, cards=cards, monotonic_ms=now_ms))

    def silent(self, *, next_in_s: float) -> None:
        now_ms = _monotonic_ms()
        if self._empty_polls.empty(now_ms):
            self._emit(Seen(reader=self._name, cards=(), monotonic_ms=now_ms))
        loop_s = asyncio.get_running_loop().time()
        self.empty_at_s = loop_s + next_in_s if self._empty_polls.outstanding else None


def _monotonic_ms() -> int:
    return time.monotonic_ns() // 1_000_000
