"""Which rules may object to a question, seen at a glance: the others need not be asked.

It only saves time (a decision takes a tenth of it). A rule that is not in COVERED is always asked, and one that is
asked in vain has nothing to say; so what is written here may be too careful, but never too bold. Tests ask every rule
of many random questions and compare. What the rules mean is in the other files of this folder.
"""

from __future__ import annotations

from bisect import bisect_right
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from decimal import Decimal
from functools import lru_cache
from operator import attrgetter
from zoneinfo import ZoneInfo

from agent.core.answers import Whitelist
from agent.core.countries import normalise_country
from agent.core.credentials import Assurance
from agent.core.instants import ClockQuality, Instant
from agent.core.limits import Limits
from agent.core.networks import normalise_network
from agent.core.policy import Group, Policy, TokenStatus
from agent.core.prices import PriceCaps, Prices
from agent.core.requests import Request, Usage
from agent.core.rules.budget import budget_known, within_budget
from agent.core.rules.bundle import clock_trusted, group_known, policy_in_force
from agent.core.rules.card import assured_enough, card_undoubted, not_revoked, one_card, token_active, token_known
from agent.core.rules.charger import (
    battery_needs_it,
    charger_free,
    charger_reachable,
    connector_allowed,
    power_within,
    storage_ready,
)
from agent.core.rules.hours import calendar_current, contains, inside_window, no_holiday
from agent.core.rules.live import backend_agrees
from agent.core.rules.place import (
    countries_of,
    country_allowed,
    inside_fence,
    network_allowed,
    networks_of,
    place_sure,
    site_allowed,
    site_preferred,
)
from agent.core.rules.price import DIMENSIONS, currency_known, energy_metered, price_within, session_affordable
from agent.core.rules.prompts import odometer_given, pin_given
from agent.core.rules.question import Check
from agent.core.rules.usage import not_concurrent, not_too_often, not_too_soon
from agent.core.tariff.tariffs import Basis
from agent.core.terms import Schedule

DAY_MINUTES = 24 * 60
# Looked up once: to find a member of an enumeration takes longer than most of what is asked here.
UNPROVEN, ACTIVE, RANDOM, LOSSY = ClockQuality.UNKNOWN, TokenStatus.ACTIVE, Assurance.RANDOM, Assurance.LOSSY
ASKING = frozenset(each for each in Whitelist if each.asks)

COVERED: frozenset[Check] = frozenset(
    {
        *(policy_in_force, clock_trusted, group_known, not_revoked, backend_agrees, within_budget, budget_known),
        *(one_card, card_undoubted, token_known, token_active, assured_enough),
        *(network_allowed, country_allowed, inside_fence, site_allowed, site_preferred, place_sure),
        *(inside_window, no_holiday, calendar_current, not_concurrent, not_too_often, not_too_soon),
        *(connector_allowed, power_within, battery_needs_it, charger_free, charger_reachable, storage_ready),
        *(price_within, currency_known, session_affordable, energy_metered, pin_given, odometer_given),
    }
)
CARD = (one_card, card_undoubted, token_known)
PRICE = (price_within, currency_known)
METER = (energy_metered, session_affordable)
BUDGET = (within_budget, budget_known)

plain_network = lru_cache(maxsize=4096)(normalise_network)
plain_country = lru_cache(maxsize=1024)(normalise_country)


@dataclass(frozen=True, slots=True, kw_only=True)
class Week:
    """The minutes of the local week at which a schedule opens and closes; open at first if `from_start`."""

    zone: ZoneInfo
    edges: tuple[int, ...]
    from_start: bool


@dataclass(frozen=True, slots=True, kw_only=True)
class Bounds:
    """A group and its ancestors folded into one: what each of them asks for. `always` are rules that are not judged
    here. `limits` hold where no rule has anything to say."""

    always: tuple[Check, ...]
    limits: Limits
    stale_ms: float
    networks: frozenset[str] | None
    countries: frozenset[str] | None
    denied_sites: frozenset[str] | None
    preferred_sites: frozenset[str] | None
    connectors: frozenset[str] | None
    weeks: tuple[Week, ...]
    max_power_w: int | None
    below_soc_percent: int | None
    caps: tuple[tuple[str, tuple[tuple[Callable[[Prices], Decimal | None], Decimal], ...]], ...]
    demands: bool
    sessions_of_token: int
    sessions_of_vehicle: int
    velocity: int | None
    has_gap: bool


def suspects(request: Request, policy: Policy | None, usage: Usage, now: Instant) -> list[Check] | None:
    """The covered rules that may object; None where nothing can be said at a glance. Missing data is suspect."""
    token, card, place, utc = request.token, request.credential, request.place, now.utc
    if policy is None or token is None or now.quality is UNPROVEN or utc < now.floor:
        return None
    bounds = bounds_of(policy, token.group)
    if bounds is None:
        return None
    found = list(bounds.always)
    if utc - policy.confirmed > policy.stale_after or (
        now.boot == policy.confirmed_boot and now.monotonic_ms - policy.confirmed_ms > bounds.stale_ms
    ):
        found.append(policy_in_force)

    assurance = card.assurance
    if (
        request.crowded
        or request.lookup_failed
        or request.doubt is not None
        or assurance is RANDOM
        or not card.reference
    ):
        found += CARD
    if assurance is LOSSY or bounds.demands:
        found.append(assured_enough)
    if card.reference in policy.revoked:
        found.append(not_revoked)
    if token.whitelist in ASKING:
        found.append(backend_agrees)
    begins, ends = token.not_before, token.until
    if token.status is not ACTIVE or (begins is not None and utc < begins) or (ends is not None and utc >= ends):
        found.append(token_active)

    if bounds.networks is not None and plain_network(place.network or "") not in bounds.networks:
        found.append(network_allowed)
    country, connector = place.country or "", place.connector or ""  # mostly written as they are compared
    if (
        bounds.countries is not None
        and country not in bounds.countries
        and plain_country(country) not in bounds.countries
    ):
        found.append(country_allowed)
    if bounds.denied_sites is not None and plain_network(place.site or "") in bounds.denied_sites:
        found.append(site_allowed)
    if bounds.preferred_sites is not None and place.site and plain_network(place.site) not in bounds.preferred_sites:
        found.append(site_preferred)
    if place.doubt is not None:
        found.append(place_sure)
    for week in bounds.weeks:
        local = utc.astimezone(week.zone)
        minute = local.weekday() * DAY_MINUTES + local.hour * 60 + local.minute
        if (bisect_right(week.edges, minute) % 2 == 1) is week.from_start:
            found.append(inside_window)
            break

    if (
        bounds.connectors is not None
        and connector not in bounds.connectors
        and connector.upper() not in bounds.connectors
    ):
        found.append(connector_allowed)
    if bounds.max_power_w is not None and (place.power_w is None or place.power_w > bounds.max_power_w):
        found.append(power_within)
    soc = request.soc_percent
    if bounds.below_soc_percent is not None and (soc is None or soc >= bounds.below_soc_percent):
        found.append(battery_needs_it)
    if bounds.caps and not affordable(request.prices, bounds):
        found += PRICE
    if not request.metered:
        found += METER
    if usage.claims:
        found += BUDGET

    sessions = len(usage.sessions_of_token)
    if sessions >= bounds.sessions_of_token or len(usage.sessions_of_vehicle) >= bounds.sessions_of_vehicle:
        found.append(not_concurrent)
    if bounds.velocity is not None and (sessions + len(usage.past) >= bounds.velocity or usage.known_since is not None):
        found.append(not_too_often)
    if bounds.has_gap and (usage.past or usage.known_since is not None):
        found.append(not_too_soon)
    if usage.session_at_charger is not None:
        found.append(charger_free)
    if not usage.charger_reachable:
        found.append(charger_reachable)
    if usage.storage_full:
        found.append(storage_ready)
    return found


def affordable(prices: Prices | None, bounds: Bounds) -> bool:
    """Told, lasting, in every level's currency, and known and low enough wherever a level caps it."""
    if prices is None or prices.until is not None:
        return False
    for currency, caps in bounds.caps:
        if prices.currency != currency:
            return False
        for price_of, cap in caps:
            price = price_of(prices)
            if price is None or price > cap:
                return False
    return True


def bounds_of(policy: Policy, group: str) -> Bounds | None:
    """Folded once for a group of a policy. None when there is no such chain of groups."""
    folded: Bounds | None = policy.folded.get(group)
    if folded is None and (levels := tuple(policy.levels(group) or ())):
        folded = policy.folded[group] = folded_from(levels, policy)
    return folded


def folded_from(levels: tuple[Group, ...], policy: Policy) -> Bounds:
    denied = [networks_of(level.denied_sites) for level in levels if level.denied_sites]
    below = [each for level in levels for each in (level.max_start_soc_percent, level.target_soc_percent)]
    return Bounds(
        always=tuple(always_asked(levels)),
        limits=Limits(
            max_energy_wh=least(level.max_energy_wh for level in levels),
            max_duration_s=least(level.max_duration_s for level in levels),
            target_soc_percent=least(level.target_soc_percent for level in levels),
        ),
        stale_ms=policy.stale_after.total_seconds() * 1000,
        networks=common(networks_of(level.networks) for level in levels if level.networks is not None),
        countries=common(countries_of(level.countries) for level in levels if level.countries is not None),
        denied_sites=frozenset({""}).union(*denied) if denied else None,  # where no site is known, it is missing
        preferred_sites=common(
            networks_of(each.preferred_sites) for each in levels if each.preferred_sites is not None
        ),
        connectors=common(
            frozenset(each.upper() for each in level.connectors) for level in levels if level.connectors is not None
        ),
        weeks=tuple(week_of(level.schedule) for level in levels if level.schedule is not None),
        max_power_w=least(level.max_power_w for level in levels),
        below_soc_percent=least(below),
        caps=tuple(each for level in levels if level.prices is not None and (each := caps_of(level.prices))[1]),
        demands=any(level.demands for level in levels),
        sessions_of_token=or_one(least(level.max_sessions_per_token for level in levels)),
        sessions_of_vehicle=or_one(least(level.max_sessions_per_vehicle for level in levels)),
        velocity=least(None if level.velocity is None else level.velocity.sessions for level in levels),
        has_gap=any(level.min_gap_s is not None for level in levels),
    )


def always_asked(levels: Iterable[Group]) -> Iterable[Check]:
    """What takes more than a glance."""
    asked: set[Check] = set()
    for level in levels:
        if level.fence is not None:
            asked.add(inside_fence)
        if level.holidays is not None:
            asked |= {no_holiday, calendar_current}
        if level.prices is not None and level.prices.session is not None:
            asked |= {session_affordable, currency_known}
        if level.prompts:
            asked |= {pin_given, odometer_given}
    return sorted(asked, key=lambda check: check.__name__)


def caps_of(caps: PriceCaps) -> tuple[str, tuple[tuple[Callable[[Prices], Decimal | None], Decimal], ...]]:
    """The currency, and each price that is capped: how to find it, and its cap."""
    side = "net" if caps.basis is Basis.NET else "gross"
    named = ((name, getattr(caps, name)) for name in DIMENSIONS)
    return caps.currency, tuple((attrgetter(f"{name}.{side}"), cap) for name, cap in named if cap is not None)


def week_of(schedule: Schedule) -> Week:
    """Whether it is open changes at most where a window starts or ends, or a day does."""
    ends = (minute for each in schedule.windows for minute in (each.start_minute, each.end_minute))
    minutes = sorted({0, *(minute % DAY_MINUTES for minute in ends)})
    marks = [(day, minute) for day in range(7) for minute in minutes]
    opened = [any(contains(window, *mark) for window in schedule.windows) for mark in marks]
    edges = [
        day * DAY_MINUTES + minute
        for (day, minute), before, after in zip(marks[1:], opened, opened[1:], strict=False)
        if before is not after
    ]
    return Week(zone=schedule.zone, edges=tuple(edges), from_start=opened[0])


def common(sets: Iterable[frozenset[str]]) -> frozenset[str] | None:
    """What all of them hold; None without any. An empty name is never held: it is missing."""
    found: frozenset[str] | None = None
    for each in sets:
        found = each if found is None else found & each
    return None if found is None else found - {""}


def least(values: Iterable[int | None]) -> int | None:
    return min((each for each in values if each is not None), default=None)


def or_one(value: int | None) -> int:
    return 1 if value is None else value
