"""Rules about money: the prices here against what each level pays at most, on the level's own tax basis."""

from __future__ import annotations

from collections.abc import Iterator
from decimal import Decimal

from agent.core.policy import Freshness, Group
from agent.core.prices import ZERO, PriceCaps, Prices
from agent.core.reasons import ReasonCode
from agent.core.rules.bundle import freshness_at
from agent.core.rules.live import is_confirmed
from agent.core.rules.question import Objection, Question

SESSION = "session"
DIMENSIONS = ("per_kwh", "per_hour", "per_parking_hour", "fixed")


def price_within(asked: Question) -> Iterator[Objection]:
    """Each price is at most the level's. An unknown price, basis or tax that matters here is missing data."""
    prices = known_prices(asked)
    for level, caps in capped(asked):
        named = [(name, getattr(caps, name)) for name in DIMENSIONS if getattr(caps, name) is not None]
        if not named:
            continue
        if prices is None:
            yield Objection(code=ReasonCode.PRICE_UNKNOWN, limit=spelled(*named[0], caps), level=level, missing=True)
            continue
        if prices.currency != caps.currency:
            continue  # currency_known says so
        for name, cap in named:
            price = getattr(prices, name).on(caps.basis)
            limit = spelled(name, cap, caps)
            if price is None:
                yield Objection(code=ReasonCode.PRICE_UNKNOWN, limit=limit, level=level, missing=True)
            elif price > cap:
                observed = spelled(name, price, caps)
                yield Objection(code=ReasonCode.PRICE_CAP, observed=observed, limit=limit, level=level)


def currency_known(asked: Question) -> Iterator[Objection]:
    """Prices are in the level's own currency; nothing is converted here."""
    prices = known_prices(asked)
    for level, caps in capped(asked):
        if prices is not None and prices.currency != caps.currency:
            yield Objection(
                code=ReasonCode.CURRENCY_MISMATCH, observed=prices.currency, limit=caps.currency, level=level
            )


def session_affordable(asked: Question) -> Iterator[Objection]:
    """The fixed price alone does not use up what a session may cost. What cannot be counted cannot be held."""
    prices = known_prices(asked)
    for level, caps in capped(asked):
        if caps.session is None or (prices is not None and prices.currency != caps.currency):
            continue
        limit = spelled(SESSION, caps.session, caps)
        each = [] if prices is None else [getattr(prices, name).on(caps.basis) for name in DIMENSIONS]
        known = [price for price in each if price is not None]
        if prices is None or len(known) < len(each):
            yield Objection(code=ReasonCode.LIMIT_UNENFORCEABLE, limit=limit, level=level, missing=True)
            continue
        fixed, runs = known[-1], any(price > ZERO for price in known[:-1])
        least = None if prices.least is None else prices.least.on(caps.basis)
        if least is not None and (least > caps.session or (least == caps.session and runs)):
            observed = spelled("least", least, caps)
            yield Objection(code=ReasonCode.SESSION_COST_CAP, observed=observed, limit=limit, level=level)
        elif fixed > caps.session or (fixed == caps.session and runs):
            observed = spelled("fixed", fixed, caps)
            yield Objection(code=ReasonCode.SESSION_COST_CAP, observed=observed, limit=limit, level=level)
        elif known[0] > ZERO and not asked.request.metered:
            yield Objection(
                code=ReasonCode.LIMIT_UNENFORCEABLE, observed="no meter", limit=limit, level=level, missing=True
            )


def energy_metered(asked: Question) -> Iterator[Objection]:
    """A limit of energy needs a meter."""
    if asked.request.metered:
        return
    for level in asked.levels:
        most = [each for each in (level.max_energy_wh, stale_limit(asked, level)) if each is not None]
        if most:
            limit = f"{min(most)} Wh"
            yield Objection(
                code=ReasonCode.LIMIT_UNENFORCEABLE, observed="no meter", limit=limit, level=level, missing=True
            )


def stale_limit(asked: Question, level: Group) -> int | None:
    """What the level allows while the policy is stale and the backend has not agreed; None when that is not so."""
    if asked.policy is None or is_confirmed(asked.request):
        return None
    return level.stale_max_energy_wh if freshness_at(asked.policy, asked.now) is not Freshness.FRESH else None


def known_prices(asked: Question) -> Prices | None:
    """None when nobody told, or when what was told has expired."""
    prices = asked.request.prices
    if prices is None or (prices.until is not None and asked.now.latest >= prices.until):
        return None
    return prices


def capped(asked: Question) -> Iterator[tuple[Group, PriceCaps]]:
    """The levels that cap any price, with their caps."""
    for level in asked.levels:
        if level.prices is not None and any(getattr(level.prices, name) is not None for name in (*DIMENSIONS, SESSION)):
            yield level, level.prices


def spelled(name: str, amount: Decimal, caps: PriceCaps) -> str:
    """`0.55 EUR/kWh gross`, for people."""
    return f"{amount} {caps.currency}{UNITS.get(name, '')} {caps.basis}"


UNITS = {
    "per_kwh": "/kWh",
    "per_hour": "/h",
    "per_parking_hour": "/h parked",
    "fixed": " fixed",
    "least": " at least",
}
