"""One tap for one presence, once for all readers. Pure: the look of a reader and the time in, a tap or nothing out.

Each card by itself: absent -> (a good look) -> present -> (at least 3 looks without it and 600 ms) -> absent. A
different card is a tap at once and is never masked. Random UIDs change at every poll, so all of them are one presence.
Two cards in one look are a crowd until only one of them is left. How many equal frames make a good look is the
reader's business (firmware_profiles: confirm_frames).
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace

from agent.core.credentials import RANDOM, Assurance, Credential

MISSES_TO_LEAVE = 3
ABSENCE_TO_LEAVE_MS = 600
REPEAT_AFTER_MS = 1_500  # the same card again within this time after its tap is the same wish (contact bounce)
UNSEEN_TO_LEAVE_MS = (
    5_000  # no look at all for so long: the looks of its leaving were lost; readers poll at 5 Hz or more
)
FIRST_LOOKS_MS = 600  # a reader at 5 Hz has looked by then; whoever taps later than that taps anew


@dataclass(frozen=True, slots=True, kw_only=True)
class Lying:
    """A card in the field, or one that was not seen to leave yet. `tapped` outlives a crowd."""

    card: Credential
    seen_ms: int
    misses: int = 0
    tapped: bool = False


@dataclass(frozen=True, slots=True, kw_only=True)
class Presence:
    """What one reader has in its field. `taps` outlive the presence so that a bounce is not a second tap."""

    lying: tuple[Lying, ...] = ()
    crowded: bool = False
    taps: tuple[tuple[Credential, int], ...] = ()


@dataclass(frozen=True, slots=True)
class Tap:
    credential: Credential


@dataclass(frozen=True, slots=True)
class Crowd:
    """More than one card in the field: one card, please."""


def look(presence: Presence, cards: Sequence[Credential], monotonic_ms: int) -> tuple[Presence, Tap | Crowd | None]:
    """One poll's result. At most one tap or crowd a call; the state afterwards."""
    named = [anonymous(card) for card in cards]
    seen = tuple(dict.fromkeys(named))
    before = {each.card: each for each in presence.lying if monotonic_ms - each.seen_ms < UNSEEN_TO_LEAVE_MS}
    here = [replace(before.get(card, Lying(card=card, seen_ms=0)), seen_ms=monotonic_ms, misses=0) for card in seen]
    lingering = [missed(each) for card, each in before.items() if card not in seen]
    lying = (*here, *(each for each in lingering if not has_left(each, monotonic_ms)))
    taps = tuple(tap for tap in presence.taps if monotonic_ms - tap[1] < REPEAT_AFTER_MS)
    several = len(seen) > 1 or named.count(RANDOM) > 1
    crowded = several or (presence.crowded and len(lying) > 1)
    after = Presence(lying=lying, crowded=crowded, taps=taps)
    if several:
        return after, None if presence.crowded and before else Crowd()
    if crowded or not here or here[0].tapped:
        return after, None
    (card,) = seen
    after = replace(after, lying=(replace(here[0], tapped=True), *lying[1:]))
    if card in dict(taps):
        return after, None
    return replace(after, taps=(*taps, (card, monotonic_ms))), Tap(card)


def reader_back(presence: Presence, monotonic_ms: int) -> Presence:
    """The reader was lost and is back: what lay on it is still there if it is seen again soon, else it has left."""
    return replace(presence, lying=tuple(replace(each, seen_ms=monotonic_ms) for each in presence.lying))


def lay_already(card: Credential, monotonic_ms: int) -> Presence:
    """The reader was opened just now: if this card is among the first looks, it was tapped before we looked."""
    seen_ms = monotonic_ms - UNSEEN_TO_LEAVE_MS + FIRST_LOOKS_MS
    return Presence(lying=(Lying(card=card, seen_ms=seen_ms, tapped=True),))


def missed(lying: Lying) -> Lying:
    return replace(lying, misses=lying.misses + 1)


def has_left(lying: Lying, monotonic_ms: int) -> bool:
    return lying.misses >= MISSES_TO_LEAVE and monotonic_ms - lying.seen_ms >= ABSENCE_TO_LEAVE_MS


def anonymous(card: Credential) -> Credential:
    """All random UIDs are the same stranger."""
    return RANDOM if card.assurance is Assurance.RANDOM else card
