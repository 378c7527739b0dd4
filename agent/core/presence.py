"""One tap for one presence, once for all readers. Pure: the look of a reader and the time in, a tap or nothing out.

absent -> (a good look) -> present -> (at least 3 empty looks and 600 ms) -> absent. A different card is a tap at once
and is never masked. Random UIDs change at every poll, so all of them are one presence. How many equal frames make a
good look is the reader's business (firmware_profiles: confirm_frames).
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace

from agent.core.credentials import RANDOM, Assurance, Credential

MISSES_TO_LEAVE = 3
ABSENCE_TO_LEAVE_MS = 600
REPEAT_AFTER_MS = 1_500  # the same card again within this time after its tap is the same wish (contact bounce)


@dataclass(frozen=True, slots=True, kw_only=True)
class Presence:
    """What one reader has in its field. `last` outlives the presence so that a bounce is not a second tap."""

    present: Credential | None = None
    crowded: bool = False
    misses: int = 0
    seen_ms: int = 0
    last: Credential | None = None
    last_tap_ms: int = 0


@dataclass(frozen=True, slots=True)
class Tap:
    credential: Credential


@dataclass(frozen=True, slots=True)
class Crowd:
    """More than one card in the field: one card, please."""


def look(presence: Presence, cards: Sequence[Credential], monotonic_ms: int) -> tuple[Presence, Tap | Crowd | None]:
    """One poll's result. At most one tap or crowd a call; the state afterwards."""
    seen = {anonymous(card) for card in cards}
    if not seen:
        return missed(presence, monotonic_ms), None
    if len(seen) > 1 or len(cards) > 1:
        told = presence.crowded
        return replace(presence, crowded=True, misses=0, seen_ms=monotonic_ms), None if told else Crowd()
    (card,) = seen
    if presence.present == card:
        return replace(presence, crowded=False, misses=0, seen_ms=monotonic_ms), None
    arrived = replace(presence, present=card, crowded=False, misses=0, seen_ms=monotonic_ms)
    bounced = presence.present is None and presence.last == card
    if bounced and monotonic_ms - presence.last_tap_ms < REPEAT_AFTER_MS:
        return arrived, None
    return replace(arrived, last=card, last_tap_ms=monotonic_ms), Tap(card)


def missed(presence: Presence, monotonic_ms: int) -> Presence:
    misses = presence.misses + 1
    if misses >= MISSES_TO_LEAVE and monotonic_ms - presence.seen_ms >= ABSENCE_TO_LEAVE_MS:
        return replace(presence, present=None, crowded=False, misses=misses)
    return replace(presence, misses=misses)


def anonymous(card: Credential) -> Credential:
    """All random UIDs are the same stranger."""
    return RANDOM if card.assurance is Assurance.RANDOM else card
