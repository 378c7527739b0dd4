"""What a driver does with the firmware that a device told: findings, weaker cards, or no reader at all.

The judgement itself is firmware_profiles/judgement.py.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import TYPE_CHECKING

from drivers.readers.reader import Assurance, Card
from drivers.readers.supervision import ReaderGone
from firmware_profiles.judgement import judge

if TYPE_CHECKING:
    from firmware_profiles.profile import Profile

HINT = "update its firmware or replace it; the profile says why: roamkey profiles show {}"


@dataclass(frozen=True, slots=True, kw_only=True)
class Admission:
    """The reader may be used. `weakened`: its cards count no more than lossy ones."""

    firmware: str
    findings: tuple[str, ...]
    weakened: bool

    def cards(self, cards: tuple[Card, ...]) -> tuple[Card, ...]:
        if not self.weakened:
            return cards
        return tuple(
            card if card.assurance is Assurance.RANDOM else replace(card, assurance=Assurance.LOSSY) for card in cards
        )


def admit(profile: Profile, said: str | None) -> Admission:
    """ReaderGone when the profile refuses this firmware. None: the device does not tell it."""
    judgement = judge(profile, said)
    if judgement.action == "refuse":
        raise ReaderGone(
            f"{profile.make} {profile.model} is refused: {judgement.findings[0]}", hint=HINT.format(profile.id)
        )
    weakened = judgement.action == "lossy"
    return Admission(
        firmware=said or "unknown",
        findings=judgement.findings + (("its cards count as lossy ones",) if weakened else ()),
        weakened=weakened,
    )
