"""Decide whether a token may charge. Pure: the cache is read and time is told by the caller.

The rules are in rules/, their mapping to OCPI, OCPP and OICP in statuses.py.
"""

from __future__ import annotations

from dataclasses import dataclass

from agent.core.instants import Instant
from agent.core.policy import Policy, Token
from agent.core.reasons import Reason, ReasonCode
from agent.core.requests import Request, Usage
from agent.core.rules import objections
from agent.core.statuses import by_severity


@dataclass(frozen=True, slots=True, kw_only=True)
class Limits:
    """What a granted session may not exceed; None is no limit of the fleet's own."""

    max_energy_wh: int | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class Granted:
    limits: Limits
    warnings: tuple[Reason, ...] = ()


@dataclass(frozen=True, slots=True, kw_only=True)
class Refused:
    """Every failed rule, most severe first; never empty."""

    reasons: tuple[Reason, ...]
    warnings: tuple[Reason, ...] = ()


Decision = Granted | Refused


def decide(request: Request, policy: Policy | None, usage: Usage, now: Instant) -> Decision:
    """All rules, always; a refusal carries every reason. Total: whatever is missing, the answer is a value."""
    found = objections(request, policy, usage, now)
    warnings = by_severity(found.warnings)
    if found.refusals:
        return Refused(reasons=by_severity(found.refusals), warnings=warnings)
    if policy is None or request.token is None:  # rules have refused already; a hole in them must not become a grant
        return Refused(reasons=(Reason(code=ReasonCode.NO_POLICY, rule="decide", missing=True),))
    return Granted(limits=limits_for(request.token, policy, stated_wh=found.max_energy_wh), warnings=warnings)


def limits_for(token: Token, policy: Policy, *, stated_wh: int | None = None) -> Limits:
    """The narrowest of every level: a child may only narrow. `stated_wh` is what missing data leaves."""
    caps = [stated_wh, *(level.max_energy_wh for level in policy.levels(token.group) or ())]
    return Limits(max_energy_wh=min((cap for cap in caps if cap is not None), default=None))
