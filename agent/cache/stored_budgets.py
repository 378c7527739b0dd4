"""A budget as a generation of the cache keeps it, and back: without the documents' checker, which loads slowly."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from agent.core.budgets import Budget, Scope, Unit
from agent.core.tariff.tariffs import Basis


def budget_document(budget: Budget) -> dict[str, Any]:
    names = ("id", "scope", "unit", "limit", "of", "currency", "basis", "advisory")
    return {name: getattr(budget, name) for name in names}


def budget_of(row: Mapping[str, Any]) -> Budget:
    """Raises KeyError, TypeError or ValueError for what `budget_document` did not write."""
    words = {"scope": Scope(row["scope"]), "unit": Unit(row["unit"]), "basis": Basis(row["basis"])}
    return Budget(**{**row, **words})
