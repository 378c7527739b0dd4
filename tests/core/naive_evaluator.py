"""A second evaluator, written from the reference page's sentences with sets and minutes of the week: no rule table.

Warnings begin with `!`, what the driver can put right with `?`, what the backend can with `^`, what an override has
waived with `~`.
"""

from __future__ import annotations

import itertools
import math
from datetime import datetime
from decimal import Decimal
from fractions import Fraction
from typing import Any

from agent.core.countries import ALPHA_2
from agent.core.instants import Instant
from agent.core.policy import Group, Policy
from agent.core.requests import Request, Usage

# What missing data means by itself: these warn, the others refuse.
FORGIVEN = {"place", "connectors", "power", "cost", "limits", "soc"}
BINDING = ("deny", "require")
# No person's word outweighs these.
FINAL = {"REVOKED", "TOKEN_BLOCKED", "TOKEN_UNKNOWN", "TOKEN_RANDOM_UID", "NO_POLICY", "CACHE_UNREADABLE"}
FINAL |= {
    "CARD_NOT_GENUINE",
    "CARD_TORN",
    "PHONE",
    "TOKEN_AMBIGUOUS",
    "CLOCK_UNTRUSTED",
    "SEVERAL_CARDS",
    "STORAGE_FULL",
    "EVSE_OCCUPIED",
    "EVSE_UNAVAILABLE",
}
PRICED = ("per_kwh", "per_hour", "per_parking_hour", "fixed")
TINY = Decimal("1e-9")  # what runs adds to what is fixed
GRADES = {"lossy": 0, "random": 1, "static": 2, "authenticated": 3}


def naive(request: Request, policy: Policy | None, usage: Usage, now: Instant) -> set[str]:
    why = by_the_rules(request, policy, usage, now)
    against = {code for code in why if code[0] not in "!?^~"}
    if against and any(fits(each, against, request, usage, now) for each in usage.overrides):
        return {f"~{code}" if code in against else code for code in why}
    return why | {"!OVERRIDE_UNFIT"} if against and usage.overrides else why


def fits(override: Any, against: set[str], request: Request, usage: Usage, now: Instant) -> bool:
    newest, span = max(now.utc, now.floor), override.not_after - override.issued
    if not override.counted:
        doubtful = now.quality == "unknown" or (now.floor - now.utc).total_seconds() > 120
        here_s = (now.monotonic_ms - override.received_ms) / 1000 if now.boot == override.boot else -math.inf
        if doubtful or newest >= override.not_after or here_s >= span.total_seconds() or span.total_seconds() > 86_400:
            return False
        if (override.issued - newest).total_seconds() > 120:
            return False
        if usage.known_since is not None and usage.known_since >= override.issued:
            return False
    limits = (override.max_energy_wh, override.max_duration_s, override.max_cost)
    if limits == (None, None, None) or (not request.metered and limits[0] is not None and limits[1] is None):
        return False
    if override.max_cost is not None:
        here = [
            price_on(each, "gross", override.max_cost.currency, request, newest)
            for each in PRICED
            if "park" not in each
        ]
        if None in here or (here[0] and not request.metered and not override.max_duration_s):
            return False
    if request.heard and not request.heard.verdict and request.heard.kept in ("BLOCKED", "UNKNOWN"):
        return False
    return not against & FINAL and ("*" in override.waives or against <= {"POLICY_EXPIRED", "CACHE_STALE"})


def by_the_rules(request: Request, policy: Policy | None, usage: Usage, now: Instant) -> set[str]:
    why: set[str] = set()
    card = request.token
    chain = ancestors(policy, card.group) if policy and card else []
    newest = max(now.utc, now.floor)
    asks = bool(card) and card.whitelist in ("NEVER", "ALLOWED_OFFLINE")
    agreed_now, agreed = the_backend(request, asks, why)
    turn = "^" if asks and request.heard is None else ""
    if policy and request.credential.reference in policy.revoked:
        why.add("REVOKED")
    back = (now.floor - now.utc).total_seconds() > 120
    doubtful = back or now.quality == "unknown"

    if not policy or (card and chain is None):
        why.add("NO_POLICY")
    chain = chain or []

    old = False
    if policy:
        seconds = (newest - policy.confirmed).total_seconds()
        same_boot = policy.confirmed_boot == now.boot
        if same_boot:
            seconds = max(seconds, (now.monotonic_ms - policy.confirmed_ms) / 1000)
        old = seconds > policy.stale_after.total_seconds() or (doubtful and not same_boot)
        if seconds > policy.expired_after.total_seconds():
            why.add("POLICY_EXPIRED")
        elif old:
            why |= {f"{turn}CACHE_STALE"} if card and not card.offline and not agreed else set()

    timed = any(
        (level.schedule and level.effects.get("schedule", "deny") in BINDING)  # type: ignore[call-overload]
        or (level.holidays and level.effects.get("holidays", "deny") in BINDING)  # type: ignore[call-overload]
        or ((level.velocity or level.min_gap_s) and level.effects.get("velocity", "deny") in BINDING)  # type: ignore[call-overload]
        for level in chain
    ) or (card and (card.until or card.not_before))
    if back or (doubtful and timed):
        why.add("CLOCK_UNTRUSTED")

    for claim in usage.claims:
        if claim.code is not None:
            why.add("!" * (claim.missing and claim.budget.advisory) + claim.code)

    if request.crowded:
        why.add("SEVERAL_CARDS")
    elif request.doubt:
        told = {"not_genuine": "CARD_NOT_GENUINE", "torn": "CARD_TORN", "phone": "PHONE"}
        why.add(told.get(request.doubt, "TOKEN_AMBIGUOUS"))
    elif request.lookup_failed:
        why.add("CACHE_UNREADABLE")
    elif request.credential.assurance == "random" or request.credential.reference == "":
        why.add("TOKEN_RANDOM_UID")
    elif not card:
        why.add("TOKEN_UNKNOWN")

    if card:
        if card.status == "blocked" and not agreed_now:
            why.add(f"{turn}TOKEN_BLOCKED")
        if card.not_before and not card.not_before <= now.utc and not agreed_now:
            why.add(f"{turn}TOKEN_NOT_YET_VALID")
        if card.until and not newest < card.until and not agreed_now:
            why.add(f"{turn}TOKEN_EXPIRED")
        if chain_limit(chain, "max_sessions_per_token") <= len(usage.sessions_of_token):
            why.add("CONCURRENT_SESSION")
        if chain_limit(chain, "max_sessions_per_vehicle") <= len(usage.sessions_of_vehicle):
            why.add("CONCURRENT_SESSION")

    for level in chain:
        troubles = (
            level_troubles(level, request, now),
            money_troubles(level, request, now, old and not agreed_now),
            haste(level, usage, now),
        )
        for code, kind, missing in itertools.chain(*troubles):
            why |= judged(code, kind, missing, level, request, pin_trouble(policy, request, usage))

    for level in chain:
        if "pin" in level.prompts:
            why |= pin_trouble(policy, request, usage)
        if "odometer" in level.prompts:
            reading, last = request.given.odometer_km, usage.last_odometer_km
            most = math.inf if level.max_odometer_increase_km is None else level.max_odometer_increase_km
            if reading is None or (last is not None and not last <= reading <= last + most):
                why.add("?ODOMETER")

    if chain and request.credential.assurance == "lossy":
        said = {level.lossy_cards for level in chain} - {None}
        if said != {True}:
            why.add("ASSURANCE")

    if usage.session_at_charger:
        why.add("EVSE_OCCUPIED")
    if not usage.charger_reachable:
        why.add("EVSE_UNAVAILABLE")
    if usage.storage_full:
        why.add("STORAGE_FULL")
    return why


def the_backend(request: Request, asks: bool, why: set[str]) -> tuple[bool, bool]:
    """(it says yes now, or said so lately), and what follows where it does not."""
    heard, said = request.heard, ""
    if not asks:
        return False, False
    if heard is None:
        why.add("^NO_ANSWER")
        return False, False
    offline = request.token is not None and request.token.whitelist == "ALLOWED_OFFLINE"
    said = str(heard.verdict or (heard.kept if offline else None) or "")
    if not said:
        why.add("!NO_ANSWER" if offline else "NO_ANSWER")
    elif said != "ALLOWED":
        words = {"BLOCKED": "TOKEN_BLOCKED", "EXPIRED": "TOKEN_EXPIRED", "UNKNOWN": "TOKEN_UNKNOWN"}
        why.add(words.get(said) or {"NOT_ALLOWED": "BACKEND_REFUSED"}.get(said, said))
    return heard.verdict == "ALLOWED", said == "ALLOWED"


def level_troubles(level: Group, request: Request, now: Instant) -> list[tuple[str, str, bool]]:
    """(code, kind, missing) of everything that one level has against it."""
    found: list[tuple[str, str, bool]] = []
    place, newest = request.place, max(now.utc, now.floor)

    def outside(code: str, kind: str, value: str, allowed: Any) -> None:
        if allowed is not None and value not in {*map(spelled, allowed)} - {""}:
            found.append((code, kind, value == ""))

    outside("NETWORK", "networks", spelled(place.network), level.networks)
    if level.countries is not None and two(place.country) not in {*map(two, level.countries)} - {""}:
        found.append(("COUNTRY", "countries", two(place.country) == ""))
    outside("CONNECTOR", "connectors", spelled(place.connector), level.connectors)

    denied = {*map(spelled, level.denied_sites or ())} - {""}
    if level.denied_sites and spelled(place.site) in {"", *denied}:
        found.append(("SITE", "sites", not spelled(place.site)))
    preferred = level.preferred_sites
    if spelled(place.site) and preferred is not None and spelled(place.site) not in map(spelled, preferred):
        found.append(("NON_PREFERRED_SITE", "", False))

    asks = level.networks is not None or level.countries is not None or level.denied_sites or preferred is not None
    if asks and place.doubt:
        found.append(("PLACE_UNSURE", "place", place.doubt != "contradicted"))

    if level.fence is not None:
        spot = place.position
        if spot is None or None in (spot.age_s, spot.accuracy_m) or spot.age_s > 300 or spot.accuracy_m > 100:  # type: ignore[operator]
            found.append(("GEOFENCE", "geofence", True))
        elif not any(in_area(spot.longitude_udeg, spot.latitude_udeg, each) for each in level.fence.polygons):
            found.append(("GEOFENCE", "geofence", False))

    if level.max_power_w is not None and not (place.power_w is not None and place.power_w <= level.max_power_w):
        found.append(("POWER_LIMIT", "power", place.power_w is None))

    if level.schedule is not None and minute_of_week(newest, level.schedule.zone) not in open_week(level.schedule):
        found.append(("TIME_WINDOW", "schedule", False))
    if level.holidays is not None:
        today = newest.astimezone(level.holidays.zone).date()
        found += [("HOLIDAY", "holidays", False)] * any(today in each.days for each in level.holidays.calendars)
        found += [("CALENDAR_STALE", "holidays", True) for each in level.holidays.calendars if each.until < today]

    for demand in level.demands:
        looked = []
        if demand.networks is not None:
            looked.append(spelled(place.network) and spelled(place.network) in map(spelled, demand.networks))
        if demand.outside_countries is not None:
            looked.append(two(place.country) and two(place.country) not in map(two, demand.outside_countries))
        if demand.above_power_w is not None:
            looked.append("" if place.power_w is None else place.power_w > demand.above_power_w)
        if demand.above_price is not None:
            dear = price_on("per_kwh", "gross", demand.above_price.currency, request, newest)
            looked.append("" if dear is None else dear > demand.above_price.per_kwh)
        if GRADES[request.credential.assurance] < GRADES[demand.assurance] and False not in looked:
            found.append(("ASSURANCE", "assurance", "" in looked))
    return found


def money_troubles(level: Group, request: Request, now: Instant, old: bool) -> list[tuple[str, str, bool]]:
    found: list[tuple[str, str, bool]] = []
    newest = max(now.utc, now.floor)
    soc_limits = [each for each in (level.max_start_soc_percent, level.target_soc_percent) if each is not None]
    if soc_limits and (request.soc_percent is None or any(each <= request.soc_percent for each in soc_limits)):
        found.append(("SOC", "soc", request.soc_percent is None))
    if (level.max_energy_wh is not None or (old and level.stale_max_energy_wh is not None)) and not request.metered:
        found.append(("LIMIT_UNENFORCEABLE", "limits", True))
    caps = level.prices
    if caps is None or all(getattr(caps, each) is None for each in (*PRICED, "session")):
        return found
    told = request.prices if request.prices and not (request.prices.until and request.prices.until <= newest) else None
    if told and told.currency != caps.currency:
        return [*found, ("CURRENCY_MISMATCH", "prices", False)]
    here = {each: price_on(each, caps.basis, caps.currency, request, newest) for each in PRICED}
    for each in PRICED:
        cap = getattr(caps, each)
        if cap is not None and here[each] is None:
            found.append(("PRICE_UNKNOWN", "prices", True))
        elif cap is not None and here[each] > cap:
            found.append(("PRICE_CAP", "prices", False))
    if caps.session is not None:
        if None in here.values():
            found.append(("LIMIT_UNENFORCEABLE", "cost", True))
        elif here["fixed"] + min(TINY, sum(here.values()) - here["fixed"]) > caps.session:
            found.append(("SESSION_COST_CAP", "cost", False))
        elif here["per_kwh"] and not request.metered:
            found.append(("LIMIT_UNENFORCEABLE", "cost", True))
    return found


def haste(level: Group, usage: Usage, now: Instant) -> list[tuple[str, str, bool]]:
    found: list[tuple[str, str, bool]] = []
    newest = max(now.utc, now.floor)

    def lost(seconds: int) -> bool:
        return usage.known_since is not None and (newest - usage.known_since).total_seconds() < seconds

    if level.velocity is not None:
        span = level.velocity.window_s
        recent = [each for each in usage.past if (newest - each.began).total_seconds() < span]
        if level.velocity.sessions <= len(recent) + len(usage.sessions_of_token):
            found.append(("VELOCITY", "velocity", False))
        elif lost(span):
            found.append(("VELOCITY", "velocity", True))
    if level.min_gap_s is not None:
        if any((newest - each.ended).total_seconds() < level.min_gap_s for each in usage.past):
            found.append(("VELOCITY", "velocity", False))
        elif lost(level.min_gap_s):
            found.append(("VELOCITY", "velocity", True))
    return found


def in_area(x: int, y: int, polygon: Any) -> bool:
    """On an edge, or an odd number of edges above: where an edge is at this longitude is a fraction."""
    corners = [(each.longitude_udeg, each.latitude_udeg) for each in polygon]
    above = 0
    for (x1, y1), (x2, y2) in zip(corners, [*corners[1:], corners[0]], strict=True):
        if x1 == x2:
            if x == x1 and min(y1, y2) <= y <= max(y1, y2):
                return True
            continue
        height = y1 + Fraction((x - x1) * (y2 - y1), x2 - x1)
        if height == y and min(x1, x2) <= x <= max(x1, x2):
            return True
        above += height > y and min(x1, x2) <= x < max(x1, x2)
    return above % 2 == 1


def price_on(name: str, basis: str, currency: str, request: Request, newest: datetime) -> Any:
    prices = request.prices
    if prices is None or prices.currency != currency or (prices.until and newest >= prices.until):
        return None
    return getattr(getattr(prices, name), str(basis))


def judged(code: str, kind: str, missing: bool, level: Group, request: Request, pin: set[str]) -> set[str]:
    effect = str(level.effects.get(kind, "warn" if kind in ("", "place") else "deny"))  # type: ignore[call-overload]
    if missing:
        default = "warn" if kind in FORGIVEN or code == "CALENDAR_STALE" else "deny"
        mildest = next(each for each in ("allow", "warn", "require", "deny") if each in (effect, default))
        said = level.missing.get(kind)  # type: ignore[call-overload]
        effect = str(said.effect) if said else mildest
        if said and said.max_energy_wh is not None and not request.metered:
            effect = "deny"
    if effect == "require":
        sign = "!" if not pin else "?" if pin == {"?PIN"} else ""
        return {f"{sign}{code}"} | pin
    return {"deny": {code}, "warn": {f"!{code}"}, "allow": set()}[effect]


def pin_trouble(policy: Policy | None, request: Request, usage: Usage) -> set[str]:
    driver = policy.drivers.get(request.token.driver or "") if policy and request.token else None
    if request.given.pin == "right":
        return set()
    if usage.wrong_pins >= 5:
        return {"PIN_LOCKED"}
    return {"?PIN"} if driver and driver.pin else {"PIN"}


def two(country: str | None) -> str:
    code = (country or "").strip().upper()
    return ALPHA_2.get(code, code)


def ancestors(policy: Policy, name: str | None, depth: int = 0) -> list[Group] | None:
    if name is None:
        return []
    if depth == 8 or name not in policy.groups:
        return None
    rest = ancestors(policy, policy.groups[name].parent, depth + 1)
    return None if rest is None else [policy.groups[name], *rest]


def chain_limit(chain: list[Group], field: str) -> int:
    said = sorted(getattr(level, field) for level in chain if getattr(level, field) is not None)
    return said[0] if said else 1


def spelled(text: str | None) -> str:
    return "".join(letter for letter in (text or "").lower() if letter.isalnum())


def minute_of_week(utc: datetime, zone: Any) -> int:
    local = utc.astimezone(zone).replace(tzinfo=None)
    return int((local - datetime(2024, 1, 1)).total_seconds() // 60) % (7 * 1440)  # noqa: DTZ001 a Monday, local


def open_week(schedule: Any) -> set[int]:
    week: set[int] = set()
    for window in schedule.windows:
        length = window.end_minute - window.start_minute
        if length < 0:
            length += 1440
        for day in window.weekdays:
            week.update((day * 1440 + window.start_minute + minute) % (7 * 1440) for minute in range(length))
    return week
