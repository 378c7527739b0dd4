"""min_price and max_price: the total before and after taxes is held within each, independently of the other."""

from __future__ import annotations

from collections.abc import Callable
from decimal import Decimal

from agent.core.findings import Finding, Severity
from agent.core.tariff.amounts import ZERO, Amount, TaxAmount
from agent.core.tariff.codes import Code
from agent.core.tariff.tariffs import PriceLimit, Tariff

Adjustment = tuple[str, Amount, str]
"""The name of the limit, what it adds, and why."""


def adjustments(amount: Amount, tariff: Tariff) -> tuple[tuple[Adjustment, ...], tuple[Finding, ...]]:
    """What has to be added to, or taken from, the sum of the lines: first up to min_price, then down to max_price."""
    raised, notes = _held("min_price", amount, tariff.min_price, max)
    lowered, more = _held("max_price", raised, tariff.max_price, min)
    moves = (
        ("MIN_PRICE", amount, raised, "the total is raised to min_price"),
        ("MAX_PRICE", raised, lowered, "the total is lowered to max_price"),
    )
    found = tuple((name, _move(before, after), why) for name, before, after, why in moves if before != after)
    return found, (*notes, *more)


def _held(
    name: str, amount: Amount, limit: PriceLimit, pick: Callable[[Decimal, Decimal], Decimal]
) -> tuple[Amount, tuple[Finding, ...]]:
    """Where only one basis is limited and moves, the other follows in proportion: nobody taxes what is not charged."""
    notes = [
        _note(name, f"limits the price {basis} taxes, which is unknown here; it is not applied")
        for basis, bound, value in (("before", limit.net, amount.net), ("after", limit.gross, amount.gross))
        if bound is not None and value is None
    ]
    net = amount.net if amount.net is None or limit.net is None else pick(amount.net, limit.net)
    gross = amount.gross if amount.gross is None or limit.gross is None else pick(amount.gross, limit.gross)
    if net != amount.net and limit.gross is None and amount.gross is not None:
        gross = _in_proportion(amount.net, net, amount.gross)
        notes.append(_note(name, "limits only the price before taxes; the taxes follow in proportion"))
    elif gross != amount.gross and limit.net is None and amount.net is not None:
        net = _in_proportion(amount.gross, gross, amount.net)
        notes.append(_note(name, "limits only the price after taxes; the taxes follow in proportion"))
    return Amount(net=net, taxes=amount.taxes, gross=gross), tuple(notes)


def _in_proportion(before: Decimal | None, after: Decimal | None, other: Decimal) -> Decimal | None:
    """Unknown when there was nothing whose taxes could be kept."""
    return None if not before or after is None else other * after / before


def _move(before: Amount, after: Amount) -> Amount:
    net, gross = _step(before.net, after.net), _step(before.gross, after.gross)
    if before.taxes is None or net is None or gross is None:
        return Amount(net=net, taxes=None, gross=gross)
    taxes = () if net == gross else (TaxAmount(name="price limit", percent=None, amount=gross - net),)
    return Amount(net=net, taxes=taxes, gross=gross)


def _step(before: Decimal | None, after: Decimal | None) -> Decimal | None:
    """What was unknown already adds nothing; what has become unknown makes the sum unknown."""
    return ZERO if before is None else None if after is None else after - before


def _note(name: str, text: str) -> Finding:
    return Finding(code=Code.LIMIT_ON_ONE_BASIS, path=f"$.{name}", severity=Severity.WARNING, text=f"{name} {text}")
