"""Builders for budgets: leases, policies that bind, and a yard whose machine holds what a backend lent it."""

from __future__ import annotations

from datetime import timedelta
from pathlib import Path
from typing import Any

from agent.core import observations as seen
from agent.core.budgets import MICRO, Budget, Lease, Scope, Unit
from agent.core.prices import plain_prices
from agent.core.tariff.tariffs import Basis
from tests.core.builders import NOON, Yard, a_group, a_place, a_policy, a_yard

JOURNAL = "journal-1"
# Nothing here dies with its power: what an fsync costs is left out where that can be.
IN_MEMORY = "/dev/shm" if Path("/dev/shm").is_dir() else None


def a_budget(unit: Unit = Unit.ENERGY, **changes: Any) -> Budget:
    defaults: dict[str, Any] = {"id": "all", "scope": Scope.FLEET, "unit": unit, "limit": 1_000_000}
    if unit is Unit.MONEY:
        defaults |= {"currency": "EUR", "limit": 1_000 * MICRO}
    return Budget(**{**defaults, **changes})


def a_lease(number: int = 1, **changes: Any) -> Lease:
    defaults: dict[str, Any] = {
        "id": f"lease-{number}",
        "budget": "all",
        "journal": JOURNAL,
        "amount": 100_000,
        "per_session": 40_000,
        "not_before": NOON - timedelta(hours=1),
        "spend_until": NOON + timedelta(days=3),
        "settle_by": NOON + timedelta(days=10),
        "issued_at": NOON - timedelta(hours=1),
        "number": number,
    }
    return Lease(**{**defaults, **changes})


def a_grant(*leases: Lease, number: int = 1, **changes: Any) -> seen.GrantReceived:
    return seen.GrantReceived(**{"number": number, "leases": leases, "used_up": {}, **changes})


def prices(per_kwh: str = "0.50", **changes: Any) -> Any:
    from decimal import Decimal

    return plain_prices("EUR", basis=Basis.GROSS, tax_percent=Decimal(19), per_kwh=Decimal(per_kwh), **changes)


def a_lending_yard(*budgets: Budget, online: bool = True, group: dict[str, Any] | None = None, **setup: Any) -> Yard:
    """A yard at a 22 kW charger whose fleet has these budgets, and whose journal has begun."""
    policy = a_policy(a_group(**(group or {})), budgets=budgets or (a_budget(),))
    place = a_place(power_w=22_000)
    yard = a_yard(policy, **{"chargers": {"bay": place, "yard": place}, **setup})
    yard.tell(seen.JournalChanged(journal=JOURNAL))
    yard.tell(seen.LinkChanged(up=online))
    return yard
