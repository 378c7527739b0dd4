"""What binds one card after inheritance: each limit, which group it comes from, and which others it outweighs.

A child only narrows, so sets meet, ceilings are the least, and whatever is judged level by level stands once a level.
Only a picture for people: decisions are made in agent/core, level by level.
"""

from __future__ import annotations

import difflib
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass, fields, is_dataclass
from datetime import datetime
from decimal import Decimal
from enum import StrEnum
from typing import Any

from agent.cache.contents import Contents
from agent.core.policy import Group, Token
from agent.core.rules.hours import spelled
from agent.core.rules.price import DIMENSIONS, SESSION
from agent.core.rules.price import spelled as spelled_price
from agent.core.terms import Calendar, Holidays, Schedule, Velocity
from agent.fleet.source import NO_TOKEN_KEY, Source, Wrong, reference_of

ID, PARENT, PRICES = "id", "parent", "prices"
LEAST = (
    "max_energy_wh",
    "max_power_w",
    "max_duration_s",
    "max_start_soc_percent",
    "target_soc_percent",
    "max_odometer_increase_km",
)
LEAST_ELSE_ONE = ("max_sessions_per_token", "max_sessions_per_vehicle")
MOST = ("min_gap_s",)
MEET = ("networks", "countries", "connectors")
JOIN = ("denied_sites", "prompts")


class NoSuchCard(Exception):
    """No card is called so, or several are; the text says which there are."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Origin:
    """A level that says something about a limit, where, and what."""

    group: str
    file: str
    line: int | None
    value: str

    def __str__(self) -> str:
        return f"{self.group} ({self.file}:{self.line})" if self.line else self.group


@dataclass(frozen=True, slots=True, kw_only=True)
class Binding:
    """`outweighed`: what other levels say, and does not count as this is narrower."""

    limit: str
    value: str
    origins: tuple[Origin, ...]
    outweighed: tuple[Origin, ...] = ()


def find_card(source: Source, name: str) -> Token:
    """By UID, eMAID, label or the beginning of a reference. Raises NoSuchCard, and never repeats a UID."""
    for kind in ("uid", "emaid"):
        named = reference_of(name, kind, NO_TOKEN_KEY)
        if not isinstance(named, Wrong) and named in source.tokens:
            return source.tokens[named]
    found = [token for token in source.tokens.values() if token.label == name]
    if len(found) > 1:
        places = ", ".join(str(source.spots["tokens", each.reference]) for each in found[:5])
        raise NoSuchCard(f"{len(found)} cards are called {name!r} ({places}): give the number of one")
    if found:
        return found[0]
    near = difflib.get_close_matches(name, [token.label for token in source.tokens.values()], n=1)
    raise NoSuchCard("no card has this label or number" + (f", did you mean {near[0]!r}?" if near else ""))


def of_card(source: Source, contents: Contents, token: Token) -> list[Binding]:
    spot = source.spots["tokens", token.reference]
    said = [
        Binding(
            limit=f"card {each.name}",
            value=show(getattr(token, each.name)),
            origins=(Origin(group="", file=spot.file, line=spot.line(each.name), value=""),),
        )
        for each in fields(token)
        if each.name not in ("reference", "group") and getattr(token, each.name) is not None
    ]
    return [*said, *of_group(source, contents, token.group)]


def of_group(source: Source, contents: Contents, name: str) -> list[Binding]:
    levels: list[Group] = []
    above: str | None = name
    while above is not None:
        levels.append(contents.groups[above])
        above = levels[-1].parent
    seen = _Seen(source, levels)
    policy = source.policy
    bindings = [
        Binding(
            limit=key,
            value=f"{int(getattr(contents, attribute).total_seconds() // 3600)}",
            origins=(
                Origin(
                    group="policy" if policy.line(key) else "by default",
                    file=policy.file,
                    line=policy.line(key),
                    value="",
                ),
            ),
        )
        for key, attribute in (("stale_after_hours", "stale_after"), ("expired_after_hours", "expired_after"))
    ]
    for each in fields(Group):
        bindings += seen.of_field(each.name)
    return bindings


class _Seen:
    """One group and its ancestors, nearest first."""

    def __init__(self, source: Source, levels: Sequence[Group]) -> None:
        self._source = source
        self._levels = levels

    def of_field(self, name: str) -> Iterator[Binding]:
        said = [(level, getattr(level, name)) for level in self._levels]
        said = [(level, value) for level, value in said if value is not None and value != () and value != {}]
        if name in (ID, PARENT):
            return
        if not said:
            if name in LEAST_ELSE_ONE:
                yield Binding(
                    limit=name, value="1", origins=(Origin(group="by default", file="", line=None, value=""),)
                )
        elif name in (*LEAST, *LEAST_ELSE_ONE):
            yield self._one(name, said, min)
        elif name in MOST:
            yield self._one(name, said, max)
        elif name in MEET:
            met = frozenset.intersection(*(value for _, value in said))
            yield self._all(name, show(met) or "nothing", said)
        elif name in JOIN:
            joined: frozenset[Any] = frozenset().union(*(value for _, value in said))
            if joined:
                yield self._all(name, show(joined), [(level, value) for level, value in said if value])
        elif name == PRICES:
            yield from self._prices(said)
        else:
            for level, value in said:
                if value != frozenset():
                    yield Binding(limit=name, value=show(value), origins=(self._origin(level, name, value),))

    def _one(self, name: str, said: list[tuple[Group, Any]], best: Callable[[Iterable[Any]], Any]) -> Binding:
        holds = best(value for _, value in said)
        return Binding(
            limit=name,
            value=show(holds),
            origins=tuple(self._origin(level, name, value) for level, value in said if value == holds),
            outweighed=tuple(self._origin(level, name, value) for level, value in said if value != holds),
        )

    def _all(self, name: str, value: str, said: list[tuple[Group, Any]]) -> Binding:
        return Binding(limit=name, value=value, origins=tuple(self._origin(level, name, each) for level, each in said))

    def _prices(self, said: list[tuple[Group, Any]]) -> Iterator[Binding]:
        """The least of each, where currency and basis are the same; of different ones all hold."""
        for name in (*DIMENSIONS, SESSION):
            kinds = dict.fromkeys((caps.currency, caps.basis) for _, caps in said)
            for currency, basis in kinds:
                alike = [
                    (level, caps)
                    for level, caps in said
                    if (caps.currency, caps.basis) == (currency, basis) and getattr(caps, name) is not None
                ]
                if not alike:
                    continue
                least: Decimal = min(getattr(caps, name) for _, caps in alike)
                told = [
                    (getattr(caps, name) == least, self._origin(level, PRICES, getattr(caps, name), name))
                    for level, caps in alike
                ]
                yield Binding(
                    limit=f"prices.{name}",
                    value=spelled_price(name, least, alike[0][1]),
                    origins=tuple(origin for holds, origin in told if holds),
                    outweighed=tuple(origin for holds, origin in told if not holds),
                )

    def _origin(self, level: Group, name: str, value: Any, *within: str) -> Origin:
        spot = self._source.spots["groups", level.id]
        return Origin(group=level.id, file=spot.file, line=spot.line(name, *within), value=show(value))


def show(value: Any) -> str:
    """As a person would write it."""
    match value:
        case bool():
            return "yes" if value else "no"
        case Schedule():
            return spelled(value)
        case Holidays():
            return f"no day of {', '.join(each.name for each in value.calendars)}, {value.zone.key}"
        case Velocity():
            return f"{value.sessions} sessions in {value.window_s} s"
        case Calendar():
            return value.name
        case StrEnum():
            return value.value
        case datetime():
            return f"{value:%Y-%m-%dT%H:%M:%SZ}"
        case frozenset():
            return ", ".join(sorted(show(each) for each in value))
        case tuple():
            return "; ".join(show(each) for each in value)
        case dict():
            return ", ".join(f"{show(name)} {show(each)}" for name, each in value.items())
        case _ if is_dataclass(value) and not isinstance(value, type):
            said = ((each.name, getattr(value, each.name)) for each in fields(value))
            return ", ".join(f"{name} {show(each)}" for name, each in said if each is not None)
        case _:
            return str(value)
