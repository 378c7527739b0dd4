"""The fleet's policy as values: tokens, people, vehicles, groups and what each group may do.

Nothing here decides (rules/, decisions.py) and nothing here reads documents (agent/cache).
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from datetime import datetime, timedelta
from enum import StrEnum
from types import MappingProxyType
from typing import Any

from agent.core.answers import Whitelist
from agent.core.budgets import Budget
from agent.core.pins import Pin
from agent.core.prices import PriceCaps
from agent.core.sites import Sites
from agent.core.terms import Demand, Effects, Fence, Holidays, Leniences, Prompt, Schedule, Velocity

MAX_GROUP_DEPTH = 8


class TokenStatus(StrEnum):
    ACTIVE = "active"
    BLOCKED = "blocked"


@dataclass(frozen=True, slots=True, kw_only=True)
class Token:
    """One fleet credential. `parent` is OCPI's group_id: one token of it may start and another stop.

    `offline`: it may still charge while the policy is stale. `whitelist`: whether the backend is asked first.
    `aliases`: references of parts of its UID, by which some readers tell it; the token table's business.
    """

    reference: str
    label: str
    group: str
    status: TokenStatus = TokenStatus.ACTIVE
    not_before: datetime | None = None
    until: datetime | None = None
    parent: str | None = None
    driver: str | None = None
    vehicle: str | None = None
    offline: bool = True
    whitelist: Whitelist = Whitelist.ALLOWED
    aliases: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True, kw_only=True)
class Driver:
    id: str
    language: str = "en"
    cost_centre: str | None = None
    pin: Pin | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class Vehicle:
    id: str
    cost_centre: str | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class Group:
    """What its members may do. None means that this level says nothing; an empty set allows nothing.

    Inheritance is conjunction: a child may only narrow, so every level from the group to its root must agree.
    `effects` and `missing` change what this level's own rules do, never those of another level. `stale_max_energy_wh`:
    no more than that while the policy is stale, unless the backend itself has agreed.
    """

    id: str
    parent: str | None = None
    networks: frozenset[str] | None = None
    countries: frozenset[str] | None = None
    schedule: Schedule | None = None
    max_sessions_per_token: int | None = None
    max_sessions_per_vehicle: int | None = None
    max_energy_wh: int | None = None
    stale_max_energy_wh: int | None = None
    denied_sites: frozenset[str] | None = None
    preferred_sites: frozenset[str] | None = None
    fence: Fence | None = None
    holidays: Holidays | None = None
    connectors: frozenset[str] | None = None
    max_power_w: int | None = None
    demands: tuple[Demand, ...] = ()
    lossy_cards: bool | None = None
    prices: PriceCaps | None = None
    max_duration_s: int | None = None
    max_start_soc_percent: int | None = None
    target_soc_percent: int | None = None
    velocity: Velocity | None = None
    min_gap_s: int | None = None
    prompts: frozenset[Prompt] = frozenset()
    max_odometer_increase_km: int | None = None
    effects: Effects = field(default_factory=lambda: MappingProxyType({}))
    missing: Leniences = field(default_factory=lambda: MappingProxyType({}))


class Freshness(StrEnum):
    """The staleness ladder: fresh, then only tokens flagged for offline use, then nobody."""

    FRESH = "fresh"
    STALE = "stale"
    EXPIRED = "expired"


@dataclass(frozen=True, slots=True, kw_only=True)
class Policy:
    """The active bundle, without its token table (a token is looked up by the caller and handed to the request).

    `confirmed` is the signed time of the newest TUF timestamp role; `confirmed_boot` and `confirmed_ms` say when this
    device received it, so that age also grows when the wall clock stands still or goes back. `revoked`: references of
    tokens that nothing makes good again, whatever the table says. `override_energy_wh` and `override_hours` are the
    most that the fleet's root lets a one-time override give.
    """

    fleet: str
    revision: int
    fingerprint: str
    confirmed: datetime
    confirmed_boot: str
    confirmed_ms: int
    stale_after: timedelta
    expired_after: timedelta
    groups: Mapping[str, Group]
    drivers: Mapping[str, Driver]
    vehicles: Mapping[str, Vehicle]
    revoked: frozenset[str] = frozenset()
    override_energy_wh: int | None = None
    override_hours: int | None = None
    sites: Sites = field(default_factory=Sites)
    budgets: tuple[Budget, ...] = ()
    # What is worked out of its groups, once for each: by rules/sieve.py and by decisions.py.
    folded: dict[str, Any] = field(default_factory=dict, init=False, repr=False, compare=False)
    granted: dict[str, Any] = field(default_factory=dict, init=False, repr=False, compare=False)

    def levels(self, group: str) -> Iterator[Group] | None:
        """The group and its ancestors, nearest first; None when one is missing or they never end: no policy then."""
        found: list[Group] = []
        name: str | None = group
        while name is not None:
            level = self.groups.get(name)
            if level is None or len(found) >= MAX_GROUP_DEPTH:
                return None
            found.append(level)
            name = level.parent
        return iter(found)
