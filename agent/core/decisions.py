"""Decide whether a token may charge. Pure: the cache is read and time is told by the caller.

The rules are in rules/, their mapping to OCPI, OCPP and OICP in statuses.py.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass, replace
from decimal import Decimal
from typing import TypeVar

from agent.core.instants import Instant
from agent.core.limits import Limits
from agent.core.overrides import NEVER_WAIVED, MostCost, Override, unfit
from agent.core.policy import Freshness, Group, Policy, Token
from agent.core.prices import CostLimit, Prices
from agent.core.reasons import Reason, ReasonCode
from agent.core.requests import Request, Usage
from agent.core.rules import SILENCE, Findings, freshness_at, is_confirmed, objections, waivable
from agent.core.rules.live import CODES
from agent.core.rules.sieve import bounds_of
from agent.core.statuses import by_severity
from agent.core.tariff.tariffs import Basis
from agent.core.terms import Prompt

N = TypeVar("N", int, Decimal)


@dataclass(frozen=True, slots=True, kw_only=True)
class Granted:
    """`waived`: what would have refused, had `override` not outweighed it."""

    limits: Limits
    warnings: tuple[Reason, ...] = ()
    override: Override | None = None
    waived: tuple[Reason, ...] = ()


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


@dataclass(frozen=True, slots=True, kw_only=True)
class AskBackend:
    """Neither yes nor no: the fleet wants its backend to be asked. Decided again with what was heard of it."""

    reasons: tuple[Reason, ...]
    warnings: tuple[Reason, ...] = ()


Decision = Granted | Refused | NeedsInput | AskBackend


def decide(request: Request, policy: Policy | None, usage: Usage, now: Instant) -> Decision:
    """All rules, always; a refusal carries every reason. Total: whatever is missing, the answer is a value."""
    found = objections(request, policy, usage, now)
    if found is SILENCE and policy is not None and request.token is not None:
        return ordinary_grant(policy, request.token.group)
    warnings = by_severity(found.warnings)
    override = None
    if found.refusals:
        override, why_not = outweighing(found, request, policy, usage, now)
        if override is None:
            # What the backend might have put right refuses as well; that it was not asked does not.
            asked = (each for each in found.open if each.code is not ReasonCode.NO_ANSWER)
            reasons = by_severity((*found.refusals, *asked))
            return Refused(reasons=reasons, warnings=by_severity((*found.warnings, *why_not)))
    if policy is None or request.token is None:  # rules have refused already; a hole in them must not become a grant
        return Refused(reasons=(Reason(code=ReasonCode.NO_POLICY, rule="decide", missing=True),))
    if found.prompts:
        return NeedsInput(prompts=found.prompts, reasons=by_severity(found.wanted), warnings=warnings)
    if found.open:
        return AskBackend(reasons=by_severity(found.open), warnings=warnings)
    limits = limits_for(request, request.token, policy, now, stated_wh=found.max_energy_wh)
    if override is not None:
        limits = narrowed(limits, override, request, policy)
    return Granted(limits=limits, warnings=warnings, override=override, waived=by_severity(found.refusals))


def ordinary_grant(policy: Policy, group: str) -> Granted:
    """What a member of the group is granted where no rule has anything to say: made once, and given often."""
    granted: Granted | None = policy.granted.get(group)
    if granted is None:
        bounds = bounds_of(policy, group)
        granted = policy.granted[group] = Granted(limits=Limits() if bounds is None else bounds.limits)
    return granted


def outweighing(
    found: Findings, request: Request, policy: Policy | None, usage: Usage, now: Instant
) -> tuple[Override | None, tuple[Reason, ...]]:
    """The override that ends first among those that fit; else why each does not."""
    if not usage.overrides:
        return None, ()
    refusals = by_severity(found.refusals)
    why_not: list[Reason] = []
    for override in sorted(usage.overrides, key=lambda each: (each.not_after, each.id)):
        why = unfit(
            override,
            refusals,
            waivable(),
            request.prices,
            request.metered,
            usage.known_since,
            now,
            most_energy_wh=None if policy is None else policy.override_energy_wh,
            most_hours=None if policy is None else policy.override_hours,
        )
        why = why or said_before(request)
        if not why:
            return override, ()
        why_not.append(Reason(code=ReasonCode.OVERRIDE_UNFIT, rule="override", observed=why, limit=override.id))
    return None, tuple(why_not)


def said_before(request: Request) -> str:
    """What the backend said lately and nothing outweighs, also where it has to be asked each time; else empty."""
    kept = None if request.heard is None or request.heard.verdict is not None else request.heard.kept
    final = kept is not None and CODES.get(kept) in NEVER_WAIVED
    return f"the backend said {kept}" if final else ""


def narrowed(limits: Limits, override: Override, request: Request, policy: Policy) -> Limits:
    """What both allow."""
    return replace(
        limits,
        max_energy_wh=least([limits.max_energy_wh, override.max_energy_wh, policy.override_energy_wh]),
        max_duration_s=least([limits.max_duration_s, override.max_duration_s]),
        cost=limits.cost if override.max_cost is None else with_most_cost(limits.cost, override.max_cost, request),
    )


def with_most_cost(cost: CostLimit | None, most: MostCost, request: Request) -> CostLimit | None:
    if request.prices is None:  # the override would not have fitted
        return cost
    if cost is None:
        return CostLimit(prices=request.prices, net=None, gross=most.gross)
    return replace(cost, gross=least([cost.gross, most.gross]))


def limits_for(request: Request, token: Token, policy: Policy, now: Instant, *, stated_wh: int | None = None) -> Limits:
    """The narrowest of every level: a child may only narrow. `stated_wh` is what missing data leaves."""
    levels = tuple(policy.levels(token.group) or ())
    stale = freshness_at(policy, now) is not Freshness.FRESH and not is_confirmed(request)
    return Limits(
        max_energy_wh=least(
            [
                stated_wh,
                *(level.max_energy_wh for level in levels),
                *(level.stale_max_energy_wh for level in levels if stale),
            ]
        ),
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
