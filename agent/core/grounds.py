"""What a yes rests on: each rule that bound this card here and was kept, with what was seen against what was allowed.

For the decision's record, so that a grant can be explained as well as a refusal. Nothing is decided here.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator
from datetime import datetime

from agent.core.instants import Instant
from agent.core.policy import Group, Policy
from agent.core.reasons import Ground, Reason
from agent.core.requests import Request
from agent.core.rules import freshness_at, policy_age
from agent.core.rules.question import hours, listed
from agent.core.terms import Prompt

Row = tuple[str, Callable[[Group], object], Callable[[Request, Instant], object]]

# Rule, what the level says (None or empty: nothing), and what was seen.
BY_LEVEL: tuple[Row, ...] = (
    ("network_allowed", lambda level: level.networks, lambda asked, now: asked.place.network),
    ("country_allowed", lambda level: level.countries, lambda asked, now: asked.place.country),
    (
        "inside_fence",
        lambda level: f"{len(level.fence.polygons)} areas" if level.fence else None,
        lambda asked, now: "inside",
    ),
    (
        "site_allowed",
        lambda level: f"none of {few(level.denied_sites)}" if level.denied_sites else None,
        lambda asked, now: asked.place.site,
    ),
    (
        "inside_window",
        lambda level: f"{len(level.schedule.windows)} windows, {level.schedule.zone}" if level.schedule else None,
        lambda asked, now: stamp(now.latest),
    ),
    (
        "no_holiday",
        lambda level: few(each.name for each in level.holidays.calendars) if level.holidays else None,
        lambda asked, now: stamp(now.latest),
    ),
    ("connector_allowed", lambda level: level.connectors, lambda asked, now: asked.place.connector),
    (
        "power_within",
        lambda level: unit(level.max_power_w, "W"),
        lambda asked, now: unit(asked.place.power_w, "W"),
    ),
    (
        "price_within",
        lambda level: unit(level.prices.per_kwh, f"{level.prices.currency}/kWh") if level.prices else None,
        lambda asked, now: price(asked),
    ),
    (
        "assured_enough",
        lambda level: few(each.assurance for each in level.demands) if level.demands else None,
        lambda asked, now: asked.credential.assurance,
    ),
    (
        "not_too_often",
        lambda level: f"{level.velocity.sessions} in {level.velocity.window_s} s" if level.velocity else None,
        lambda asked, now: "fewer",
    ),
    (
        "battery_needs_it",
        lambda level: unit(level.max_start_soc_percent, "%"),
        lambda asked, now: unit(asked.soc_percent, "%"),
    ),
    (
        "pin_given",
        lambda level: "a PIN" if Prompt.PIN in level.prompts else None,
        lambda asked, now: asked.given.pin,
    ),
    (
        "odometer_given",
        lambda level: "an odometer" if Prompt.ODOMETER in level.prompts else None,
        lambda asked, now: unit(asked.given.odometer_km, "km"),
    ),
)


def grounds_of(request: Request, policy: Policy, now: Instant, *, but: Iterable[Reason] = ()) -> tuple[Ground, ...]:
    """`but` are the rules that objected: they are told with their reasons."""
    objected = {(reason.rule, reason.group) for reason in but}
    found = (*_of_everybody(request, policy, now), *_of_levels(request, policy, now))
    return tuple(each for each in found if (each.rule, each.group) not in objected)


def _of_everybody(request: Request, policy: Policy, now: Instant) -> Iterator[Ground]:
    fresh = freshness_at(policy, now)
    limit = f"{hours(policy.stale_after)}, or {hours(policy.expired_after)} offline"
    yield Ground(rule="policy_in_force", observed=f"{hours(policy_age(policy, now))} ({fresh})", limit=limit)
    token = request.token
    if token is None:
        return
    until = f"active until {stamp(token.until)}" if token.until is not None else "active"
    yield Ground(rule="token_active", observed=token.status, limit=until)
    if token.whitelist.asks and request.heard is not None:
        heard = request.heard
        said = f"says {heard.verdict}" if heard.verdict else f"said {heard.kept} before" if heard.kept else "is silent"
        yield Ground(rule="backend_agrees", observed=f"the backend {said}", limit=token.whitelist)


def _of_levels(request: Request, policy: Policy, now: Instant) -> Iterator[Ground]:
    levels = () if request.token is None else policy.levels(request.token.group) or ()
    for level in levels:
        for rule, says, saw in BY_LEVEL:
            limit = says(level)
            if limit is None or limit == "":
                continue
            seen = saw(request, now)
            told = few(limit) if isinstance(limit, frozenset) else str(limit)
            yield Ground(rule=rule, observed="unknown" if seen is None else str(seen), limit=told, group=level.id)


def few(values: Iterable[str] | None) -> str:
    return listed(frozenset(values)) if values else ""


def unit(value: object, name: str) -> str | None:
    return None if value is None else f"{value} {name}"


def price(asked: Request) -> str | None:
    prices = asked.prices
    if prices is None or prices.per_kwh.gross is None:
        return None
    return f"{prices.per_kwh.gross} {prices.currency}/kWh gross"


def stamp(moment: datetime) -> str:
    return f"{moment:%Y-%m-%dT%H:%M:%SZ}"
