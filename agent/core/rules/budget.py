"""Rules about budgets: what the session would reserve must be covered by leases that are here.

The sums are claims.py; they are made before the rules are asked, since they need what the policy allows.
"""

from __future__ import annotations

from collections.abc import Iterator

from agent.core.claims import Claim
from agent.core.reasons import ReasonCode
from agent.core.rules.question import Objection, Question


def within_budget(asked: Question) -> Iterator[Objection]:
    """Every budget that binds has enough set aside here. Without a lease, a price or a meter nobody can tell: no."""
    yield from (_objection(each) for each in failing(asked) if not (each.missing and each.budget.advisory))


def budget_known(asked: Question) -> Iterator[Objection]:
    """A budget that only advises warns where it could not be looked at; then nothing is counted in it."""
    yield from (_objection(each) for each in failing(asked) if each.missing and each.budget.advisory)


def failing(asked: Question) -> Iterator[Claim]:
    yield from (each for each in asked.usage.claims if each.code is not None)


def _objection(claim: Claim) -> Objection:
    return Objection(
        code=claim.code or ReasonCode.LEASE_MISSING, observed=claim.observed, limit=claim.limit, missing=claim.missing
    )
