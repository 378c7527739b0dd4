"""Decide whether a token may charge. Pure: the cache is read and time is told by the caller.

The rules are in rules/, their mapping to OCPI, OCPP and OICP in statuses.py.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from decimal import Decimal
from typing import TypeVar

from agent.core.instants import Instant
from agent.core.limits import Limits
from agent.core.policy import Group, Policy, Token
from agent.core.prices import CostLimit, Prices
from agent.core.reasons import Reason, ReasonCode
from agent.core.requests import Request, Usage
from agent.core.rules import objections
from agent.core.statuses import by_severity
from agent.core.tariff.tariffs import Basis
from agent.core.terms import Prompt

N = TypeVar("N", int, Decimal)


@dataclass(frozen=True, slots=True, kw_only=True)
class Granted:
    limits: Limits
    warnings: tuple[Reason, ...] = ()


@dataclass(frozen=True, slots=True, kw_only=True)
class Refused:
    """Every failed rule, most severe first; never empty."""

    reasons: tuple[Reason, ...]
    warnings: tuple[Reason, ...] = ()


@dataclass(frozen=True, slots=True, kw_only=True)
class NeedsInput:
    """Neither yes nor no: it would be a yes if the driver told what is asked for. Asked again with it."""

    prompts: frozenset[Prompt]
    reasons: tuple[Reason, ...]
    warnings: tuple[Reason, ...] = ()


Decision = Granted | Refused | NeedsInput


def decide(request: Request, policy: Policy | None, usage: Usage, now: Instant) -> Decision:
    """All rules, always; a refusal carries every reason. Total: whatever is missing, the answer is a value."""
    found = objections(request, policy, usage, now)
    warnings = by_severity(found.warnings)
    if found.refusals:
        return Refused(reasons=by_severity(found.refusals), warnings=warnings)
    if policy is None or request.token is None:  # rules have refused already; a hole in them must not become a grant
        return Refused(reasons=(Reason(code=ReasonCode.NO_POLICY, rule="decide", missing=True),))
    if found.prompts:
        return NeedsInput(prompts=found.prompts, reasons=by_severity(found.wanted), warnings=warnings)
    return Granted(limits=limits_for(request, request.token, policy, stated_wh=found.max_energy_wh), warnings=warnings)


def limits_for(request: Request, token: Token, policy: Policy, *, stated_wh: int | None = None) -> Limits:
    """The narrowest of every level: a child may only narrow. `stated_wh` is what missing data leaves."""
    levels = tuple(policy.levels(token.group) or ())
    return Limits(
        max_energy_wh=least([stated_wh, *(level.max_energy_wh for level in levels)]),
        max_duration_s=least(level.max_duration_s for level in levels),
        target_soc_percent=least(level.target_soc_percent for level in levels),
        cost=None if request.prices is None else cost_limit(request.prices, levels),
    )


def cost_limit(prices: Prices, levels: tuple[Group, ...]) -> CostLimit | None:
    """In another currency it cannot be counted; the rules have refused that, or were told to let it pass."""
    caps = [level.prices for level in levels if level.prices is not None and level.prices.currency == prices.currency]
    net = least(each.session for each in caps if each.basis is Basis.NET)
    gross = least(each.session for each in caps if each.basis is Basis.GROSS)
    return None if net is None and gross is None else CostLimit(prices=prices, net=net, gross=gross)


def least(values: Iterable[N | None]) -> N | None:
    return min((each for each in values if each is not None), default=None)
