"""What a driver needs between a decoded answer and a Seen: belief in repeated frames, and the end of a presence. Pure.

Presence itself ("one tap per presence") is agent/core/presence.py.
"""

from __future__ import annotations

from drivers.readers.reader import Card

EMPTY_POLLS_AT_LEAST = 4  # presence needs three misses; one is spare
EMPTY_FOR_AT_LEAST_MS = 1_000  # presence needs 600 ms


class EmptyPolls:
    """An empty field is worth telling only while a card has just left it."""

    def __init__(self) -> None:
        self._told = EMPTY_POLLS_AT_LEAST
        self._since_ms: int | None = None

    @property
    def outstanding(self) -> bool:
        return self._told < EMPTY_POLLS_AT_LEAST or self._since_ms is not None

    def card_seen(self) -> None:
        self._told = 0
        self._since_ms = None

    def empty(self, now_ms: int) -> bool:
        """Whether this empty poll is to be told."""
        if not self.outstanding:
            return False
        if self._since_ms is None:
            self._since_ms = now_ms
        self._told += 1
        if self._told >= EMPTY_POLLS_AT_LEAST and now_ms - self._since_ms >= EMPTY_FOR_AT_LEAST_MS:
            self._since_ms = None
        return True


class Confirmation:
    """Believes cards after `frames` equal answers in a row, none further than `within_ms` from the one before."""

    def __init__(self, frames: int, *, within_ms: int) -> None:
        self._frames = frames
        self._within_ms = within_ms
        self._cards: tuple[Card, ...] = ()
        self._count = 0
        self._at_ms = 0

    def confirms(self, cards: tuple[Card, ...], now_ms: int) -> bool:
        again = self._count > 0 and cards == self._cards and now_ms - self._at_ms <= self._within_ms
        self._count = self._count + 1 if again else 1
        self._cards = cards
        self._at_ms = now_ms
        return self._count >= self._frames
