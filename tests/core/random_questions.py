"""Random questions from a seed; in every second one all is in order but what the groups say."""

from __future__ import annotations

import random
from dataclasses import replace
from datetime import UTC, date, datetime, timedelta
from decimal import Decimal
from typing import Any

from agent.core.answers import Heard, Silence, Verdict, Whitelist
from agent.core.budgets import Budget, Scope, Unit
from agent.core.claims import Claim
from agent.core.credentials import RANDOM, Assurance, CardDoubt
from agent.core.history import Visit
from agent.core.instants import ClockQuality, Instant
from agent.core.overrides import EVERYTHING, MostCost, Override
from agent.core.pins import Pin, PinState
from agent.core.policy import Driver, Group, Policy, Token, TokenStatus
from agent.core.positions import Corner, Position
from agent.core.prices import PriceCaps, Prices, plain_prices
from agent.core.reasons import ReasonCode
from agent.core.requests import Given, Place, Request, Usage
from agent.core.sites import Doubt
from agent.core.tariff.tariffs import Basis
from agent.core.terms import Calendar, Demand, Effect, Fence, Holidays, Kind, Lenience, PriceAbove, Prompt, Velocity
from tests.core.builders import (
    a_credential,
    a_policy,
    a_request,
    a_schedule,
    a_token,
    a_window,
    an_instant,
)

NETWORKS = ("DE*ABC", "de-abc", "NL*XYZ", "FR*QQQ", "")
COUNTRIES = ("DE", "deu", "NL", "FR", " ")
SITES = ("depot", "yard", "Mall-7", "")
CONNECTORS = ("IEC_62196_T2", "IEC_62196_T2_COMBO", "CHADEMO")
DAYS = [date(2027, 1, 1) + timedelta(days=day) for day in range(365)]
AMOUNTS = (Decimal("0.50"), Decimal("0.55"), Decimal("0.654"), Decimal(2))
CARD = ("credential", "token", "lookup_failed", "doubt", "crowded")
GAPS = tuple(timedelta(minutes=each) for each in (0, 10, 59, 60, 61, 23 * 60, 24 * 60))
ZONES = ("Europe/Berlin", "America/New_York", "UTC")


def a_question(draw: random.Random) -> tuple[Request, Policy | None, Usage, Instant]:
    now = a_moment(draw)
    token = some_token(draw, now) if draw.random() < 0.9 else None
    credential = a_credential(assurance=draw.choice((*[Assurance.STATIC] * 12, *Assurance)))
    request = Request(
        credential=RANDOM if draw.random() < 0.03 else credential,
        token=token,
        lookup_failed=draw.random() < 0.03,
        doubt=draw.choice(list(CardDoubt)) if draw.random() < 0.03 else None,
        reader="door",
        charger="bay",
        place=Place(
            network=draw.choice((*NETWORKS, *["DE*ABC"] * 8, None)),
            country=draw.choice((*COUNTRIES, *["DE"] * 8, None)),
            site=draw.choice((*SITES, "DEPOT", None)),
            evse=draw.choice(("DE*ABC*E1", None)),
            connector=draw.choice((*CONNECTORS, "chademo", None)),
            power_w=draw.choice((11_000, 22_000, 22_001, 300_000, None)),
            position=some_position(draw) if draw.random() < 0.8 else None,
            doubt=draw.choice(list(Doubt)) if draw.random() < 0.1 else None,
        ),
        crowded=draw.random() < 0.03,
        prices=some_prices(draw, now) if draw.random() < 0.7 else None,
        soc_percent=draw.choice((None, 0, 50, 80, 100)),
        metered=draw.random() < 0.9,
        given=Given(pin=draw.choice((None, *PinState)), odometer_km=draw.choice((None, 99, 100, 600, 601))),
        heard=some_word(draw),
    )
    usage = Usage(
        wrong_pins=draw.choice((0, 0, 0, 4, 5)),
        last_odometer_km=draw.choice((None, 100)),
        sessions_of_token=tuple("ab"[: draw.choice((0, 0, 0, 0, 1, 2))]),
        sessions_of_vehicle=tuple("ab"[: draw.choice((0, 0, 0, 0, 1, 2))]),
        session_at_charger=draw.choice((*[None] * 15, "s")),
        charger_reachable=draw.random() < 0.95,
        storage_full=draw.random() < 0.03,
        past=some_visits(draw, now),
        known_since=draw.choice((None, None, None, now.utc, now.utc - timedelta(minutes=30), now.utc - timedelta(1))),
        overrides=tuple(some_override(draw, now) for _ in range(draw.choice((0, 0, 0, 1, 2)))),
        claims=tuple(some_claim(draw) for _ in range(draw.choice((0, 0, 0, 0, 1, 2)))),
    )
    policy = some_policy(draw, now) if draw.random() < 0.96 else None
    if policy is not None and draw.random() < 0.5:
        now = an_instant(now.utc, boot="boot-1")
        policy = replace(policy, confirmed=now.utc, confirmed_ms=0)
        mine = {name: getattr(a_request(), name) for name in CARD}
        kind = request.token.whitelist if request.token is not None else Whitelist.ALLOWED
        request = replace(request, **{**mine, "token": a_token(whitelist=kind)})
        usage = Usage(overrides=usage.overrides)
    return request, policy, usage, now


def some_claim(draw: random.Random) -> Claim:
    budget = Budget(id="all", scope=Scope.FLEET, unit=Unit.SESSIONS, limit=9, advisory=draw.random() < 0.5)
    code = draw.choice(
        (None, None, "BUDGET_EXHAUSTED", "LEASE_EMPTY", "LEASE_EXPIRED", "LEASE_MISSING", "PRICE_UNKNOWN")
    )
    missing = code not in (None, "BUDGET_EXHAUSTED", "LEASE_EMPTY")
    return Claim(budget=budget, key="all", code=None if code is None else ReasonCode(code), missing=missing)


def a_moment(draw: random.Random) -> Instant:
    utc = datetime(2027, 1, 1, tzinfo=UTC) + timedelta(minutes=draw.randrange(366 * 24 * 60))
    floors = (*[timedelta(days=-90)] * 12, timedelta(0), timedelta(seconds=120), timedelta(seconds=121), timedelta(2))
    return an_instant(
        utc,
        floor=utc + draw.choice(floors),
        quality=draw.choice((*[ClockQuality.SYNCHRONISED] * 4, *ClockQuality)),
        boot=draw.choice(("boot-1", "boot-1", "boot-2")),
        monotonic_ms=draw.randrange(10 * 24 * 3_600_000),
    )


def some_token(draw: random.Random, now: Instant) -> Token:
    near = (timedelta(days=-300), timedelta(seconds=-60), timedelta(0), timedelta(seconds=60), timedelta(days=300))
    return a_token(
        status=draw.choice((*[TokenStatus.ACTIVE] * 12, TokenStatus.BLOCKED)),
        not_before=draw.choice((None, None, now.utc + draw.choice((near[0], *near)))),
        until=draw.choice((None, None, now.utc + draw.choice((near[-1], *near)))),
        group=draw.choice((*["drivers"] * 20, "nobody")),
        offline=draw.random() < 0.8,
        whitelist=draw.choice((*[Whitelist.ALLOWED] * 4, *Whitelist)),
        driver=draw.choice((None, "anna", "ben", "nobody")),
    )


def some_policy(draw: random.Random, now: Instant) -> Policy:
    height = draw.choice((1, 1, 2, 2, 3, 8, 9))
    names = ["drivers", *(f"level {number}" for number in range(1, height))]
    top = draw.choice((*[None] * 20, "drivers", "missing"))
    chatty = 0.2 / height
    groups = [some_group(draw, each, up, chatty) for each, up in zip(names, [*names[1:], top], strict=True)]
    ages = (timedelta(hours=1), timedelta(hours=24), timedelta(hours=25), timedelta(days=7), timedelta(days=8))
    return a_policy(
        *groups,
        drivers={"anna": Driver(id="anna", pin=Pin(salt="00", hash="")), "ben": Driver(id="ben")},
        confirmed=now.utc - draw.choice((*ages[:1] * 6, *ages)),
        confirmed_ms=now.monotonic_ms - draw.choice((*[0] * 6, 25 * 3_600_000, 8 * 24 * 3_600_000)),
        revoked=frozenset(draw.choice((*[()] * 15, (a_token().reference,)))),
    )


def some_word(draw: random.Random) -> Heard | None:
    """Asked or not; a verdict, or silence and what was said before."""
    return draw.choice(
        (
            None,
            *[Heard(verdict=Verdict.ALLOWED)] * 3,
            Heard(verdict=draw.choice(list(Verdict))),
            Heard(silence=draw.choice(list(Silence)), kept=draw.choice((None, None, *Verdict))),
        )
    )


def some_override(draw: random.Random, now: Instant) -> Override:
    issued = now.utc - draw.choice((*[timedelta(hours=1)] * 6, timedelta(seconds=-120), timedelta(seconds=-121)))
    return Override(
        id=str(draw.randrange(3)),
        token=a_token().reference,
        waives=frozenset(draw.choice(((EVERYTHING,), (EVERYTHING,), ("policy_in_force",)))),
        why="no signal",
        by="ada",
        issued=issued,
        not_after=draw.choice((*[issued + timedelta(hours=12)] * 6, now.utc, issued + timedelta(hours=25))),
        max_energy_wh=draw.choice((None, 10_000, 10_000)),
        max_duration_s=draw.choice((None, None, 3_600)),
        max_cost=draw.choice((None, None, MostCost(currency="EUR", gross=Decimal(5)))),
        boot=draw.choice(("boot-1", "boot-2")),
        received_ms=now.monotonic_ms - draw.choice((0, 0, 0, 13 * 3_600_000)),
        counted=draw.random() < 0.1,
    )


def some_group(draw: random.Random, name: str, parent: str | None, chatty: float) -> Group:
    def maybe(value: Any) -> Any:
        return value() if draw.random() < chatty else None

    return Group(
        id=name,
        parent=parent,
        networks=maybe(lambda: frozenset(draw.sample(NETWORKS, draw.choice((0, 1, 2, 3, 4))))),
        countries=maybe(lambda: frozenset(draw.sample(COUNTRIES, draw.choice((0, 1, 2, 3, 4))))),
        schedule=maybe(lambda: some_schedule(draw)),
        max_sessions_per_token=maybe(lambda: draw.choice((0, 1, 2, 3))),
        max_sessions_per_vehicle=maybe(lambda: draw.choice((0, 1, 2, 3))),
        max_energy_wh=maybe(lambda: draw.choice((0, 10_000, 20_000))),
        stale_max_energy_wh=maybe(lambda: draw.choice((0, 5_000))),
        denied_sites=maybe(lambda: frozenset(draw.sample(SITES, draw.choice((0, 1, 1, 2))))),
        preferred_sites=maybe(lambda: frozenset(draw.sample(SITES, draw.choice((0, 1, 2, 3))))),
        fence=maybe(lambda: some_fence(draw)),
        holidays=maybe(lambda: some_holidays(draw)),
        connectors=maybe(lambda: frozenset(draw.sample(CONNECTORS, draw.choice((0, 1, 2, 3, 3))))),
        max_power_w=maybe(lambda: draw.choice((0, 22_000, 22_000, 300_000))),
        demands=maybe(lambda: tuple(some_demand(draw) for _ in range(draw.choice((1, 1, 2))))) or (),
        lossy_cards=maybe(lambda: draw.choice((True, True, False))),
        prices=maybe(lambda: some_caps(draw)),
        max_duration_s=maybe(lambda: draw.choice((60, 3_600))),
        max_start_soc_percent=maybe(lambda: draw.choice((50, 80))),
        target_soc_percent=maybe(lambda: draw.choice((80, 100))),
        velocity=maybe(lambda: Velocity(sessions=draw.choice((1, 2, 3)), window_s=draw.choice((3_600, 86_400)))),
        min_gap_s=maybe(lambda: draw.choice((600, 3_600))),
        prompts=maybe(lambda: frozenset(draw.sample(list(Prompt), draw.choice((1, 2))))) or frozenset(),
        max_odometer_increase_km=maybe(lambda: 500),
        effects={kind: draw.choice(list(Effect)) for kind in Kind if draw.random() < 0.15},
        missing={kind: some_lenience(draw) for kind in Kind if draw.random() < 0.15},
    )


def some_visits(draw: random.Random, now: Instant) -> tuple[Visit, ...]:
    ends = [now.utc - draw.choice(GAPS) for _ in range(draw.choice((0, 0, 1, 3)))]
    return tuple(Visit(began=end - draw.choice(GAPS), ended=end) for end in sorted(ends))


def some_position(draw: random.Random) -> Position:
    return Position(
        latitude_udeg=draw.randrange(-4, 5) * 1_000,
        longitude_udeg=draw.randrange(-4, 5) * 1_000,
        accuracy_m=draw.choice((None, 10, 10, 10, 100, 101)),
        age_s=draw.choice((None, 0, 0, 0, 300, 301)),
    )


def some_fence(draw: random.Random) -> Fence:
    """Corners on a small grid, so that positions often lie on edges and corners; edges may cross each other."""

    def corner() -> Corner:
        return Corner(latitude_udeg=draw.randrange(-4, 5) * 1_000, longitude_udeg=draw.randrange(-4, 5) * 1_000)

    sizes = draw.choice(((3,), (4,), (5,), (3, 3), (4, 6)))
    return Fence(polygons=tuple(tuple(corner() for _ in range(size)) for size in sizes))


def some_caps(draw: random.Random) -> PriceCaps:
    def maybe(likely: float) -> Decimal | None:
        return draw.choice(AMOUNTS) if draw.random() < likely else None

    return PriceCaps(
        currency=draw.choice(("EUR", "EUR", "EUR", "CHF")),
        basis=draw.choice(list(Basis)),
        per_kwh=maybe(0.6),
        per_hour=maybe(0.3),
        per_parking_hour=maybe(0.3),
        fixed=maybe(0.3),
        session=maybe(0.4),
    )


def some_prices(draw: random.Random, now: Instant) -> Prices:
    return plain_prices(
        draw.choice(("EUR", "EUR", "EUR", "CHF")),
        basis=draw.choice((*Basis, None)),
        tax_percent=draw.choice((None, Decimal(19), Decimal(0))),
        per_kwh=draw.choice((Decimal(0), *AMOUNTS)),
        per_hour=draw.choice((Decimal(0), Decimal(0), *AMOUNTS)),
        per_parking_hour=draw.choice((Decimal(0), Decimal(0), *AMOUNTS)),
        fixed=draw.choice((Decimal(0), Decimal(0), *AMOUNTS)),
        until=draw.choice((None, None, None, now.utc + timedelta(seconds=60), now.utc)),
    )


def some_lenience(draw: random.Random) -> Lenience:
    effect = draw.choice(list(Effect))
    return Lenience(effect=effect, max_energy_wh=draw.choice((None, 5_000)) if effect is Effect.WARN else None)


def some_holidays(draw: random.Random) -> Holidays:
    return Holidays(
        zone=a_schedule(zone=draw.choice(ZONES)).zone,
        calendars=tuple(
            Calendar(
                name=name,
                days=frozenset(draw.sample(DAYS, draw.choice((5, 20, 200)))),
                until=date(2027, draw.randrange(1, 13), 28),
            )
            for name in ("public", "works")[: draw.choice((1, 2))]
        ),
    )


def some_demand(draw: random.Random) -> Demand:
    def maybe(value: Any) -> Any:
        return value() if draw.random() < 0.4 else None

    return Demand(
        assurance=draw.choice((Assurance.STATIC, Assurance.AUTHENTICATED, Assurance.AUTHENTICATED)),
        networks=maybe(lambda: frozenset(draw.sample(NETWORKS, 2))),
        outside_countries=maybe(lambda: frozenset(draw.sample(COUNTRIES, 2))),
        above_power_w=maybe(lambda: draw.choice((11_000, 22_000))),
        above_price=maybe(lambda: PriceAbove(currency="EUR", per_kwh=draw.choice(AMOUNTS))),
    )


def some_schedule(draw: random.Random) -> Any:
    ends = ("00:00", "02:00", "02:30", "06:00", "08:00", "12:00", "18:00", "22:00")
    windows = [
        a_window(draw.choice(ends), draw.choice((*ends, "24:00", "24:00")), draw.sample(range(7), draw.randrange(8)))
        for _ in range(draw.choice((0, 1, 2, 3)))
    ]
    return a_schedule(*windows, zone=draw.choice(ZONES))
