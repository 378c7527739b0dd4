"""What is sound in a fleet's policy and still odd: rules that nobody can satisfy, hours that never come, limits without
effect. Pure: today is told. What cannot be published at all is source.py.

An ERROR is a rule by which nobody of a group can charge, though the group does not say so plainly; a WARNING is
something without the effect that its author expects; an INFO is worth a look.
"""

from __future__ import annotations

import difflib
from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from functools import cache
from typing import Any
from zoneinfo import ZoneInfo

from agent.cache.contents import Contents
from agent.core.budgets import Scope
from agent.core.countries import ALPHA_2
from agent.core.findings import Severity
from agent.core.networks import normalise_network
from agent.core.policy import Group, TokenStatus
from agent.core.rules import opens
from agent.core.rules.hours import spelled
from agent.core.terms import Effect, Kind, Prompt, Schedule
from agent.fleet.remarks import Code, Remark, in_order
from agent.fleet.source import Source

A_YEAR = timedelta(days=366)
SOON = timedelta(days=60)
MOST_UNUSED = 20  # of a kind, that are named one by one
MILD = (Effect.WARN, Effect.ALLOW)
# OCPI 2.3.0, ConnectorType, without the twelve DOMESTIC ones. It is an open enumeration.
CONNECTORS = (
    "CHADEMO", "CHAOJI", "GBT_AC", "GBT_DC", "IEC_60309_2_single_16", "IEC_60309_2_three_16", "IEC_60309_2_three_32",
    "IEC_60309_2_three_64", "IEC_62196_T1", "IEC_62196_T1_COMBO", "IEC_62196_T2", "IEC_62196_T2_COMBO",
    "IEC_62196_T3A", "IEC_62196_T3C", "MCS", "NEMA_5_20", "NEMA_6_30", "NEMA_6_50", "NEMA_10_30", "NEMA_10_50",
    "NEMA_14_30", "NEMA_14_50", "PANTOGRAPH_BOTTOM_UP", "PANTOGRAPH_TOP_DOWN", "SAE_J3400", "TESLA_R", "TESLA_S",
)  # fmt: skip

# The fields that each kind of rule reads: without any of them, `effects` and `missing` of that kind do nothing.
FIELDS_OF: Mapping[Kind, tuple[str, ...]] = {
    Kind.NETWORKS: ("networks",),
    Kind.COUNTRIES: ("countries",),
    Kind.SITES: ("denied_sites",),
    Kind.GEOFENCE: ("fence",),
    Kind.SCHEDULE: ("schedule",),
    Kind.HOLIDAYS: ("holidays",),
    Kind.CONNECTORS: ("connectors",),
    Kind.POWER: ("max_power_w",),
    Kind.ASSURANCE: ("demands",),
    Kind.PRICES: ("prices",),
    Kind.COST: ("prices",),
    Kind.LIMITS: ("max_energy_wh",),
    Kind.SOC: ("max_start_soc_percent", "target_soc_percent"),
    Kind.VELOCITY: ("velocity", "min_gap_s"),
}
SETS = (("networks", Kind.NETWORKS), ("countries", Kind.COUNTRIES), ("connectors", Kind.CONNECTORS))
CEILINGS = (
    "max_energy_wh",
    "max_power_w",
    "max_duration_s",
    "max_start_soc_percent",
    "target_soc_percent",
    "max_sessions_per_token",
    "max_sessions_per_vehicle",
)


@dataclass(frozen=True, slots=True, kw_only=True)
class Review:
    """What is looked at. `members`: how many tokens each group has itself; `below`: with those of its descendants."""

    source: Source
    contents: Contents
    now: datetime
    members: Counter[str]
    below: Counter[str]

    def levels(self, name: str) -> Iterator[Group]:
        """The group and its ancestors; the documents' reader has found that they end."""
        above: str | None = name
        while above is not None:
            level = self.contents.groups[above]
            yield level
            above = level.parent

    def of_group(self, name: str, code: Code, severity: Severity, text: str, *within: str | int) -> Remark:
        return self.source.spots["groups", name].remark(code, text, *within, severity=severity)


def review(source: Source, *, now: datetime) -> list[Remark]:
    """Nothing for a source that cannot be published: its own remarks come first."""
    if source.contents is None:
        return []
    members = Counter(token.group for token in source.tokens.values())
    below: Counter[str] = Counter()
    found = Review(source=source, contents=source.contents, now=now, members=members, below=below)
    for name, count in members.items():
        for level in found.levels(name):
            below[level.id] += count
    return in_order(remark for look in LOOKS for remark in look(found))


def sets_meet(asked: Review) -> Iterator[Remark]:
    """What a group allows and what its ancestors allow have something in common; an empty set says no to all."""
    for name, group in asked.contents.groups.items():
        for field, kind in SETS:
            if getattr(group, field) is None:
                continue  # its parent's, which are looked at there
            common: frozenset[str] | None = None
            for level in asked.levels(name):
                said = _compared(field, getattr(level, field))
                if said is None or level.effects.get(kind) in MILD:
                    continue
                if not said:
                    if level.id == name:
                        told = f"is empty: nobody of {name} can charge anywhere"
                        yield asked.of_group(name, Code.NOBODY_CHARGES, Severity.WARNING, told, field)
                    break
                common = said if common is None else common & said
                if not common:
                    told = f"nothing in it is allowed by {level.id!r} above, too: nobody of {name} can charge"
                    yield asked.of_group(name, Code.CONTRADICTION, Severity.ERROR, told, field)
                    break


def sets_narrow(asked: Review) -> Iterator[Remark]:
    """A child can only narrow: what its ancestors do not allow, it names in vain."""
    for name, group in asked.contents.groups.items():
        for field, kind in SETS:
            said = _compared(field, getattr(group, field))
            for level in list(asked.levels(name))[1:]:
                above = _compared(field, getattr(level, field))
                if not said or above is None or level.effects.get(kind) in MILD or not said & above:
                    continue
                vain = sorted(said - above)
                if vain:
                    told = f"{', '.join(vain[:5])} is not allowed by {level.id!r} above, so naming it has no effect"
                    yield asked.of_group(name, Code.NO_EFFECT, Severity.WARNING, told, field)


def networks_are_in_the_countries(asked: Review) -> Iterator[Remark]:
    """A network's id begins with its country (ISO 15118, OCPI); networks also operate abroad, so this may be meant."""
    for name, group in asked.contents.groups.items():
        countries = [level.countries for level in asked.levels(name) if level.countries is not None]
        if not group.networks or not countries:
            continue
        allowed = frozenset.intersection(*countries)
        homes = {each[:2] for each in group.networks}
        if allowed and not homes & allowed:
            told = f"all of {', '.join(sorted(homes))}, but the countries allowed are {', '.join(sorted(allowed))}"
            yield asked.of_group(name, Code.CONTRADICTION, Severity.INFO, told, "networks")


def ceilings_narrow(asked: Review) -> Iterator[Remark]:
    for name, group in asked.contents.groups.items():
        for field in CEILINGS:
            said = getattr(group, field)
            if said is None:
                continue
            if said == 0 and field != "max_start_soc_percent":
                told = f"is 0: nobody of {name} can charge"
                yield asked.of_group(name, Code.NOBODY_CHARGES, Severity.WARNING, told, field)
            for level in list(asked.levels(name))[1:]:
                above = getattr(level, field)
                if above is not None and above < said:
                    told = f"{said} is more than the {above} of {level.id!r} above, which holds"
                    yield asked.of_group(name, Code.NO_EFFECT, Severity.WARNING, told, field)
                    break


def prices_agree(asked: Review) -> Iterator[Remark]:
    """One currency on the way up: a price is in one, and the level in another refuses it."""
    for name, group in asked.contents.groups.items():
        if group.prices is None:
            continue
        amounts = {field: getattr(group.prices, field) for field in PRICES}
        if all(each is None for each in amounts.values()):
            told = "names no price, so it caps none"
            yield asked.of_group(name, Code.NO_EFFECT, Severity.WARNING, told, "prices")
        for level in list(asked.levels(name))[1:]:
            if level.prices is None or Effect.WARN in (level.effects.get(Kind.PRICES), group.effects.get(Kind.PRICES)):
                continue
            if level.prices.currency != group.prices.currency:
                told = (
                    f"{group.prices.currency} here and {level.prices.currency} in {level.id!r} above: no price is in "
                    f"both, so nobody of {name} can charge where prices are known"
                )
                yield asked.of_group(name, Code.CONTRADICTION, Severity.ERROR, told, "prices", "currency")
            elif level.prices.basis is group.prices.basis:
                for field, amount in amounts.items():
                    above = getattr(level.prices, field)
                    if amount is not None and above is not None and above < amount:
                        told = f"{amount} is more than the {above} of {level.id!r} above, which holds"
                        yield asked.of_group(name, Code.NO_EFFECT, Severity.WARNING, told, "prices", field)


PRICES = ("per_kwh", "per_hour", "per_parking_hour", "fixed", "session")


def sites_are_not_denied(asked: Review) -> Iterator[Remark]:
    known = {normalise_network(each) for each in asked.contents.sites.by_id}
    for name, group in asked.contents.groups.items():
        preferred = {normalise_network(each) for each in group.preferred_sites or ()}
        for level in asked.levels(name):
            both = sorted(preferred & {normalise_network(each) for each in level.denied_sites or ()})
            if both and level.effects.get(Kind.SITES) not in MILD:
                told = f"{both[0]} is preferred here and denied by {level.id!r}"
                yield asked.of_group(name, Code.CONTRADICTION, Severity.WARNING, told, "preferred_sites")
        for field in ("denied_sites", "preferred_sites") if known else ():
            for site in sorted(getattr(group, field) or ()):
                if normalise_network(site) not in known:
                    told = f"no site is named {site!r}{_near(site, asked.contents.sites.by_id)}"
                    yield asked.of_group(name, Code.UNKNOWN_SITE, Severity.WARNING, told, field)


def countries_and_connectors_exist(asked: Review) -> Iterator[Remark]:
    countries, connectors = set(ALPHA_2.values()), {each.upper() for each in CONNECTORS}
    for name, group in asked.contents.groups.items():
        for country in sorted(group.countries or ()):
            if country not in countries:
                told = f"{country!r} is no country of ISO 3166-1{_near(country, countries)}"
                yield asked.of_group(name, Code.UNKNOWN_COUNTRY, Severity.WARNING, told, "countries")
        for connector in sorted(group.connectors or ()):
            if connector.upper() not in connectors and not connector.startswith("DOMESTIC_"):
                told = f"OCPI 2.3.0 has no connector {connector!r}{_near(connector, connectors)}"
                yield asked.of_group(name, Code.UNKNOWN_CONNECTOR, Severity.WARNING, told, "connectors")


def windows_open(asked: Review) -> Iterator[Remark]:
    """Within the coming year each window opens at some time, also with the windows of the ancestors."""
    for name, group in asked.contents.groups.items():
        if group.schedule is None:
            continue
        above = tuple(
            level.schedule
            for level in list(asked.levels(name))[1:]
            if level.schedule is not None and level.effects.get(Kind.SCHEDULE) not in MILD
        )
        severity = Severity.WARNING if group.effects.get(Kind.SCHEDULE) in MILD else Severity.ERROR
        if not group.schedule.windows:
            told = f"has no window: nobody of {name} can charge"
            yield asked.of_group(name, Code.NOBODY_CHARGES, Severity.WARNING, told, "schedule")
        elif not _ever_open((group.schedule, *above), asked.now):
            others = "; ".join(spelled(each) for each in above) or "the clock itself"
            told = f"{spelled(group.schedule)} never comes within {others}: nobody of {name} can charge"
            yield asked.of_group(name, Code.NEVER_OPEN, severity, told, "schedule")
        else:
            for index, window in enumerate(group.schedule.windows):
                alone = Schedule(zone=group.schedule.zone, windows=(window,))
                if not _ever_open((alone, *above), asked.now):
                    told = f"{spelled(alone)} never comes within the hours of the groups above"
                    yield asked.of_group(name, Code.NEVER_OPEN, Severity.WARNING, told, "schedule", "windows", index)


def calendars_reach(asked: Review) -> Iterator[Remark]:
    """A calendar says until when its author has thought; after that nobody knows."""
    used = {
        each.name for group in asked.contents.groups.values() if group.holidays for each in group.holidays.calendars
    }
    calendars = asked.source.policy.value.get("calendars", {})
    known = {
        each.name: each
        for group in asked.contents.groups.values()
        if group.holidays
        for each in group.holidays.calendars
    }
    for name in calendars:
        spot = asked.source.spots["calendars", name]
        if name not in used:
            yield spot.remark(Code.UNUSED, "no group names this calendar", severity=Severity.INFO)
            continue
        left = known[name].until - asked.now.date()
        if left < timedelta(0):
            told = f"ended on {known[name].until}: since then every day is taken for a working day, with a warning"
            yield spot.remark(Code.CALENDAR_PAST, told, "until", severity=Severity.WARNING)
        elif left < SOON:
            told = f"ends in {left.days} days: write the next year's days"
            yield spot.remark(Code.CALENDAR_ENDS_SOON, told, "until", severity=Severity.WARNING)
        if not known[name].days:
            yield spot.remark(Code.NO_EFFECT, "has no day", "days", severity=Severity.WARNING)


def effects_have_rules(asked: Review) -> Iterator[Remark]:
    for name, group in asked.contents.groups.items():
        for field in ("effects", "missing"):
            for kind in getattr(group, field):
                read = FIELDS_OF.get(kind, ())
                if read and all(getattr(group, each) in (None, ()) for each in read):
                    told = f"{name} has no {' or '.join(read)} of its own, and this changes only its own"
                    yield asked.of_group(name, Code.NO_EFFECT, Severity.WARNING, told, field, kind.value)
        if group.max_odometer_increase_km is not None and Prompt.ODOMETER not in group.prompts:
            told = f"{name} does not ask for the odometer: add it to its prompts"
            yield asked.of_group(name, Code.NO_EFFECT, Severity.WARNING, told, "max_odometer_increase_km")


def prompts_can_be_answered(asked: Review) -> Iterator[Remark]:
    """Who is asked for a PIN has one; without one on file nobody can give it, and the card never charges."""
    pinless: Counter[str] = Counter()
    one: dict[str, str] = {}
    for token in asked.source.tokens.values():
        driver = asked.contents.drivers.get(token.driver or "")
        if driver is None or driver.pin is None:
            for level in asked.levels(token.group):
                pinless[level.id] += 1
                one.setdefault(level.id, token.label)
    for name, group in asked.contents.groups.items():
        required = next((kind for kind, effect in group.effects.items() if effect is Effect.REQUIRE), None)
        if not pinless[name] or (Prompt.PIN not in group.prompts and required is None):
            continue
        told = f"{pinless[name]} of {asked.below[name]} cards (such as {one[name]!r}) have no driver with a PIN"
        if Prompt.PIN in group.prompts:
            severity = Severity.ERROR if pinless[name] == asked.below[name] else Severity.WARNING
            yield asked.of_group(name, Code.UNANSWERABLE, severity, f"{told}: they can never charge", "prompts")
        elif required is not None:
            told = f"{told}: this stays a refusal to them"
            yield asked.of_group(name, Code.UNANSWERABLE, Severity.WARNING, told, "effects", required.value)


def demands_can_be_met(asked: Review) -> Iterator[Remark]:
    for name, group in asked.contents.groups.items():
        lossy = [level.lossy_cards for level in asked.levels(name)]
        if group.lossy_cards and False in lossy:
            told = "a group above says no to such cards, which holds"
            yield asked.of_group(name, Code.NO_EFFECT, Severity.WARNING, told, "lossy_cards")
        if group.lossy_cards and any(
            level.demands and level.effects.get(Kind.ASSURANCE) not in MILD and not _conditional(level)
            for level in asked.levels(name)
        ):
            told = "a demand for better cards applies everywhere here, so such cards never charge"
            yield asked.of_group(name, Code.CONTRADICTION, Severity.WARNING, told, "lossy_cards")


def groups_and_people_are_used(asked: Review) -> Iterator[Remark]:
    for name in asked.contents.groups:
        if not asked.below[name]:
            told = "no card is of this group, or of one below it"
            yield asked.of_group(name, Code.UNUSED, Severity.INFO, told)
    drivers = {token.driver for token in asked.source.tokens.values()}
    vehicles = {token.vehicle for token in asked.source.tokens.values()}
    for plural, known, used in (
        ("drivers", asked.contents.drivers, drivers),
        ("vehicles", asked.contents.vehicles, vehicles),
    ):
        unused = sorted(set(known) - used)
        for number, name in enumerate(unused[:MOST_UNUSED], start=1):
            rest = len(unused) - MOST_UNUSED if number == MOST_UNUSED else 0
            told = "no card names this one" + (f", nor {rest} more" if rest > 0 else "")
            yield asked.source.spots[plural, name].remark(Code.UNUSED, told, severity=Severity.INFO)


def budgets_bind_somebody(asked: Review) -> Iterator[Remark]:
    """The driver, vehicle or cost centre that a budget names exists; else it is nobody's."""
    centres = {each.cost_centre for each in asked.contents.drivers.values()}
    centres |= {each.cost_centre for each in asked.contents.vehicles.values()}
    known: Mapping[Scope, tuple[Code, Iterable[str]]] = {
        Scope.DRIVER: (Code.UNKNOWN_DRIVER, asked.contents.drivers),
        Scope.VEHICLE: (Code.UNKNOWN_VEHICLE, asked.contents.vehicles),
        Scope.COST_CENTRE: (Code.NO_EFFECT, {each for each in centres if each is not None}),
    }
    for budget in asked.contents.budgets:
        code, names = known.get(budget.scope, (Code.NO_EFFECT, ()))
        if budget.of is not None and budget.scope in known and budget.of not in set(names):
            told = (
                f"no {budget.scope.replace('_', ' ')} is named {budget.of!r}{_near(budget.of, names)}: it binds nobody"
            )
            place = ("budgets", budget.id, "of")
            yield asked.source.policy.remark(code, told, *place, severity=Severity.WARNING)


def tokens_can_be_valid(asked: Review) -> Iterator[Remark]:
    for token in asked.source.tokens.values():
        spot = asked.source.spots["tokens", token.reference]
        if token.not_before is not None and token.until is not None and token.until <= token.not_before:
            told = f"ends at {token.until:%Y-%m-%dT%H:%MZ}, before it begins: this card never charges"
            yield spot.remark(Code.NEVER_VALID, told, "until", severity=Severity.ERROR)
        elif token.until is not None and token.until <= asked.now and token.status is TokenStatus.ACTIVE:
            told = f"ended at {token.until:%Y-%m-%dT%H:%MZ}"
            yield spot.remark(Code.EXPIRED, told, "until", severity=Severity.INFO)


def fences_enclose(asked: Review) -> Iterator[Remark]:
    for name, group in asked.contents.groups.items():
        for index, polygon in enumerate(group.fence.polygons if group.fence else ()):
            corners = {(each.latitude_udeg, each.longitude_udeg) for each in polygon}
            if len(corners) < 3:
                told = "has fewer than three corners, so it encloses nothing"
                yield asked.of_group(name, Code.NO_EFFECT, Severity.WARNING, told, "fence", "polygons", index)


LOOKS: tuple[Callable[[Review], Iterable[Remark]], ...] = (
    sets_meet,
    sets_narrow,
    networks_are_in_the_countries,
    ceilings_narrow,
    prices_agree,
    sites_are_not_denied,
    countries_and_connectors_exist,
    windows_open,
    calendars_reach,
    effects_have_rules,
    prompts_can_be_answered,
    demands_can_be_met,
    groups_and_people_are_used,
    budgets_bind_somebody,
    tokens_can_be_valid,
    fences_enclose,
)


def _ever_open(schedules: tuple[Schedule, ...], now: datetime) -> bool:
    """Where all are open at some moment, they are so at a moment when one of them opens or some clock is changed."""
    return any(all(opens(each, moment) for each in schedules) for moment in _openings(schedules, _day_of(now)))


def _openings(schedules: tuple[Schedule, ...], start: datetime) -> Iterator[datetime]:
    for schedule in schedules:
        yield from _changes(schedule.zone, start)
    minutes = {(schedule.zone, window.start_minute) for schedule in schedules for window in schedule.windows}
    minutes |= {(schedule.zone, 0) for schedule in schedules}
    for day in range(A_YEAR.days + 1):
        for zone, minute in minutes:
            local = (start + timedelta(days=day)).replace(tzinfo=None) + timedelta(minutes=minute)
            for fold in (0, 1):
                yield local.replace(tzinfo=zone, fold=fold).astimezone(UTC)


@cache
def _changes(zone: ZoneInfo, start: datetime) -> tuple[datetime, ...]:
    """When this zone's clocks are changed in the coming year, to the minute."""
    found = []
    for day in range(A_YEAR.days + 1):
        low, high = start + timedelta(days=day), start + timedelta(days=day + 1)
        if _offset(zone, low) == _offset(zone, high):
            continue
        while high - low > timedelta(minutes=1):
            middle = low + timedelta(minutes=int((high - low) / timedelta(minutes=1)) // 2)
            low, high = (middle, high) if _offset(zone, low) == _offset(zone, middle) else (low, middle)
        found.append(high)
    return tuple(found)


def _offset(zone: ZoneInfo, utc: datetime) -> timedelta | None:
    return utc.astimezone(zone).utcoffset()


def _day_of(now: datetime) -> datetime:
    return now.astimezone(UTC).replace(hour=0, minute=0, second=0, microsecond=0)


def _compared(field: str, said: frozenset[str] | None) -> frozenset[str] | None:
    if said is None or field != "connectors":
        return said  # networks and countries are normalised by their reader
    return frozenset(each.upper() for each in said)


def _conditional(level: Group) -> bool:
    names = ("networks", "outside_countries", "above_power_w", "above_price")
    return all(any(getattr(demand, name) is not None for name in names) for demand in level.demands)


def _near(word: str, known: Iterable[Any]) -> str:
    near = difflib.get_close_matches(word, [str(each) for each in known], n=1)
    return f", did you mean {near[0]!r}?" if near else ""
