"""Rows of the rules' table about budgets: what the claims say, and what the fleet's file makes of it."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from agent.core.budgets import Budget, Scope, Unit
from agent.core.claims import Claim
from agent.core.reasons import ReasonCode
from tests.core.builders import Usage, ask

Row = tuple[str, Callable[[], Any], str]


def claimed(code: ReasonCode | None, *, missing: bool = False, advisory: bool = False) -> Callable[[], Any]:
    budget = Budget(id="all", scope=Scope.FLEET, unit=Unit.SESSIONS, limit=9, advisory=advisory)
    claim = Claim(budget=budget, key="all", needed=1, code=code, missing=missing)
    return lambda: ask(usage=Usage(claims=(claim,)))


BUDGET_ROWS: list[Row] = [
    ("a budget that covers it", claimed(None), ""),
    ("nothing is left of the budget", claimed(ReasonCode.BUDGET_EXHAUSTED), "BUDGET_EXHAUSTED"),
    ("not enough is left here", claimed(ReasonCode.LEASE_EMPTY), "LEASE_EMPTY"),
    ("not even where the budget only advises", claimed(ReasonCode.LEASE_EMPTY, advisory=True), "LEASE_EMPTY"),
    ("nothing was lent", claimed(ReasonCode.LEASE_MISSING, missing=True), "LEASE_MISSING"),
    ("what was lent is over", claimed(ReasonCode.LEASE_EXPIRED, missing=True), "LEASE_EXPIRED"),
    (
        "a warning where the budget only advises",
        claimed(ReasonCode.LEASE_MISSING, missing=True, advisory=True),
        "!LEASE_MISSING",
    ),
]
