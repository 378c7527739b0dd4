"""A fleet's policy of seventeen rules and questions about it: as our values, and as plain JSON for other engines.

Nothing is ever missing in a question, since what missing data means is where engines differ most. Fifty groups below
the fleet's root, twelve networks each. About five questions in six are granted: mostly cards work.
"""

from __future__ import annotations

import hashlib
import random
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from decimal import Decimal
from typing import Any
from zoneinfo import ZoneInfo

from agent.core.credentials import Assurance, Credential
from agent.core.history import Visit
from agent.core.instants import ClockQuality, Instant
from agent.core.policy import Group, Policy, Token, TokenStatus
from agent.core.prices import PriceCaps, plain_prices
from agent.core.requests import Place, Request, Usage
from agent.core.tariff.tariffs import Basis
from agent.core.terms import Schedule, Velocity, Window

BEGAN = datetime(2027, 3, 8, tzinfo=UTC)  # a Monday
DAY = timedelta(days=1)
ZONE = ZoneInfo("Europe/Berlin")
NETWORKS = tuple(f"DE*N{number:02}" for number in range(40))
COUNTRIES = ("DE", "NL", "FR")
DENIED = ("closed-1", "closed-2")
CONNECTORS = ("IEC_62196_T2", "IEC_62196_T2_COMBO")
GROUPS = 50
WEEK = (0, 1, 2, 3, 4, 5)
OPENS, CLOSES = 5 * 60, 23 * 60
MAX_SOC, MAX_RUNNING, MAX_RECENT = 90, 1, 3
BOOT = "bench"


@dataclass(frozen=True, slots=True, kw_only=True)
class Case:
    """One question: for us, and for others with the groups of `plain_groups`."""

    request: Request
    usage: Usage
    now: Instant
    plain: dict[str, Any]


@dataclass(frozen=True, slots=True, kw_only=True)
class Fleet:
    policy: Policy
    plain_groups: dict[str, dict[str, Any]]
    networks: dict[str, tuple[str, ...]]


def reference_of(number: int) -> str:
    return hashlib.sha256(b"bench %d" % number).hexdigest()


def a_fleet(draw: random.Random) -> Fleet:
    """The fleet's root says the countries, denied sites and connectors; each group all the rest."""
    everywhere = {"countries": COUNTRIES, "denied_sites": DENIED, "connectors": CONNECTORS}
    root = Group(id="fleet", **{name: frozenset(values) for name, values in everywhere.items()})
    groups, plain, networks = {"fleet": root}, {}, {}
    window = Window(weekdays=frozenset(WEEK), start_minute=OPENS, end_minute=CLOSES)
    for number in range(GROUPS):
        name = f"group {number}"
        networks[name] = tuple(draw.sample(NETWORKS, 12))
        max_power_w, cents = draw.choice((50_000, 150_000, 350_000)), draw.choice((59, 65, 79))
        groups[name] = Group(
            id=name,
            parent="fleet",
            networks=frozenset(networks[name]),
            schedule=Schedule(zone=ZONE, windows=(window,)),
            max_power_w=max_power_w,
            prices=PriceCaps(currency="EUR", basis=Basis.GROSS, per_kwh=Decimal(cents) / 100),
            max_start_soc_percent=MAX_SOC,
            velocity=Velocity(sessions=MAX_RECENT, window_s=86_400),
        )
        plain[name] = {
            "networks": list(networks[name]),
            "countries": list(COUNTRIES),
            "denied_sites": list(DENIED),
            "connectors": list(CONNECTORS),
            "weekdays": list(WEEK),
            "start": OPENS,
            "end": CLOSES,
            "max_power_w": max_power_w,
            "max_price": cents,
            "max_soc": MAX_SOC,
            "max_running": MAX_RUNNING,
            "max_recent": MAX_RECENT,
        }
    policy = Policy(
        fleet="bench",
        revision=1,
        fingerprint="f" * 64,
        confirmed=BEGAN,
        confirmed_boot=BOOT,
        confirmed_ms=0,
        stale_after=5 * DAY,
        expired_after=7 * DAY,
        groups=groups,
        drivers={},
        vehicles={},
    )
    return Fleet(policy=policy, plain_groups=plain, networks=networks)


def a_token(draw: random.Random, number: int) -> Token:
    """The same for the table, for us and for others."""
    return Token(
        reference=reference_of(number),
        label=f"card {number}",
        group=f"group {draw.randrange(GROUPS)}",
        status=TokenStatus.BLOCKED if draw.random() < 0.01 else TokenStatus.ACTIVE,
        not_before=BEGAN - DAY if draw.random() < 0.5 else None,
        until=BEGAN + draw.choice((400,) * 15 + (2,)) * DAY if draw.random() < 0.5 else None,
        offline=draw.random() < 0.9,
    )


def a_case(draw: random.Random, fleet: Fleet, token: Token) -> Case:
    """Each rule fails now and then; the day runs from Monday to the seventh after, mostly in daylight."""

    def mostly(good: Any, bad: Any, rarely: float = 0.01) -> Any:
        return bad if draw.random() < rarely else good

    days = mostly(draw.randrange(4), draw.choice((5, 6, 7)), 0.03)
    utc = BEGAN + days * DAY + timedelta(minutes=mostly(draw.randrange(6 * 60, 21 * 60), draw.randrange(1440), 0.05))
    local = utc.astimezone(ZONE)
    group = token.group
    network = mostly(draw.choice(fleet.networks[group]), draw.choice(NETWORKS), 0.04)
    country, site = mostly(draw.choice(COUNTRIES), "PL"), mostly(f"site {draw.randrange(500)}", draw.choice(DENIED))
    connector, power_w = (
        mostly(draw.choice(CONNECTORS), "CHADEMO"),
        mostly(22_000, draw.choice((60_000, 300_000)), 0.03),
    )
    cents, soc = mostly(draw.choice((39, 49, 55)), draw.choice((62, 70, 89)), 0.03), mostly(draw.randrange(80), 95)
    running, recent = mostly(0, 1), draw.choice((1, 1, 2, 3)) if draw.random() < 0.1 else 0
    began = [utc - timedelta(hours=hours + 2) for hours in range(recent)]
    visits = tuple(Visit(began=each, ended=each + timedelta(hours=1)) for each in began)
    request = Request(
        credential=Credential(reference=token.reference, assurance=Assurance.STATIC),
        token=token,
        reader="door",
        charger="bay",
        place=Place(
            evse=f"{network}*E1", network=network, country=country, site=site, connector=connector, power_w=power_w
        ),
        prices=plain_prices("EUR", basis=Basis.GROSS, tax_percent=Decimal(19), per_kwh=Decimal(cents) / 100),
        soc_percent=soc,
    )
    now = Instant(
        utc=utc,
        floor=BEGAN,
        monotonic_ms=int((utc - BEGAN).total_seconds() * 1000),
        boot=BOOT,
        quality=ClockQuality.SYNCHRONISED,
        entropy=b"",
    )
    return Case(
        request=request,
        usage=Usage(sessions_of_token=("one",) * running, past=visits),
        now=now,
        plain={
            "t": plain_token(token),
            "q": {
                "now": int(utc.timestamp()),
                "network": network,
                "country": country,
                "site": site,
                "connector": connector,
                "weekday": local.weekday(),
                "minute": local.hour * 60 + local.minute,
                "power_w": power_w,
                "price": cents,
                "soc": soc,
                "running": running,
                "recent": recent + running,
                "age_s": int((utc - BEGAN).total_seconds()),
                "stale_after_s": 5 * 86_400,
                "expired_after_s": 7 * 86_400,
            },
        },
    )


def plain_token(token: Token) -> dict[str, Any]:
    return {
        "reference": token.reference,
        "group": token.group,
        "status": token.status.value,
        "not_before": int(token.not_before.timestamp()) if token.not_before else 0,
        "until": int(token.until.timestamp()) if token.until else 2**40,
        "offline": token.offline,
    }
