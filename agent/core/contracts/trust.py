"""What the fleet believes about contracts: anchors and their roles, revocations, cancelled contracts. Values only.

They come signed with the policy bundle (or from a folder, for `roamkey contract verify`); reading them is elsewhere.
"""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime, timedelta
from enum import StrEnum

from agent.core.contracts.certificates import Certificate
from agent.core.instants import Instant


class Role(StrEnum):
    """What a root may vouch for. One certificate may stand in the bundle in several roles."""

    MOBILITY_OPERATOR = "mo"
    V2G = "v2g"
    CHARGE_POINT_OPERATOR = "cpo"
    MANUFACTURER = "oem"


@dataclass(frozen=True, slots=True, kw_only=True)
class Anchor:
    certificate: Certificate
    role: Role


@dataclass(frozen=True, slots=True, kw_only=True)
class RevocationKey:
    """Names a certificate by its issuer's key (SHA-256 as in OCSP, hex) and its serial (hex, no leading zeros)."""

    issuer_key_hash: str
    serial: str


@dataclass(frozen=True, slots=True, kw_only=True)
class TrustBundle:
    """`revoked_as_of`: when the fleet's list was issued; None when there is none, and then it proves nothing good.

    `allowed`: None lists nobody and allows every contract of a trusted issuer; an empty set allows none.
    """

    anchors: tuple[Anchor, ...] = ()
    revoked: frozenset[RevocationKey] = frozenset()
    revoked_as_of: datetime | None = None
    ocsp_responses: tuple[bytes, ...] = ()
    crls: tuple[bytes, ...] = ()
    cancelled: frozenset[str] = frozenset()
    allowed: frozenset[str] | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class Ladder:
    """How old the evidence against a revocation may be; between the two the verdict is marked, and the asker's limits
    for charging offline are to apply."""

    fresh_for: timedelta = timedelta(days=7)
    usable_for: timedelta = timedelta(days=30)


DEFAULT_LADDER = Ladder()


class Rung(StrEnum):
    """Where the oldest of the needed evidence stands on the ladder, best first."""

    FRESH = "fresh"
    STALE = "stale"
    TOO_OLD = "too_old"
    NONE = "none"


class ClockState(StrEnum):
    """Trusted: synchronised. Bounded: was, in this boot. Untrusted: neither, or behind a moment that surely passed."""

    TRUSTED = "trusted"
    BOUNDED = "bounded"
    UNTRUSTED = "untrusted"


def clock_state(now: Instant) -> ClockState:
    if not now.trusted:
        return ClockState.UNTRUSTED
    return ClockState.TRUSTED if now.quality is now.quality.SYNCHRONISED else ClockState.BOUNDED


def was_set_back(now: Instant) -> bool:
    """A clock that was believed in this boot stands before a moment that surely passed. One that was never set is not
    set back: it says nothing at all."""
    return now.quality is not now.quality.UNKNOWN and now.is_set_back


def moment_of(now: Instant) -> datetime:
    """What time it surely is: the clock's, or the floor when the clock cannot be believed.

    An untrusted clock has no say, neither for nor against: so setting it back can turn no refusal into a grant.
    """
    return now.floor if clock_state(now) is ClockState.UNTRUSTED else now.latest
