"""A budget as the fleet writes it: what it means to a device and to the backend, and what is refused."""

from __future__ import annotations

from datetime import timedelta
from pathlib import Path
from typing import Any

import pytest

from agent.cache.budget_documents import BudgetDocument, budget_of, terms_of
from agent.cache.documents import entry_faults
from agent.cache.stored_budgets import budget_document
from agent.cache.stored_budgets import budget_of as budget_again
from agent.core.budgets import Scope, Unit
from agent.fleet.budget_file import read_budgets
from agent.fleet.source import SourceUnfit
from sync.backend.budgets import Span

GOOD: dict[str, Any] = {"scope": "vehicle", "money": "400.00", "currency": "EUR", "money_per_session": "60"}


def test_a_device_and_the_backend_read_the_same_budget():
    document = BudgetDocument.model_validate({**GOOD, "zone": "Europe/Berlin", "period": "week", "lease_hours": 24})
    budget, terms = budget_of("vans", document), terms_of("vans", document)
    assert (budget.scope, budget.unit, budget.limit, budget.currency) == (Scope.VEHICLE, Unit.MONEY, 400_000_000, "EUR")
    assert (terms.limit, terms.per_session, terms.span) == (400_000_000, 60_000_000, Span.WEEK)
    assert (terms.zone.key, terms.lease) == ("Europe/Berlin", timedelta(hours=24))
    assert budget_again(budget_document(budget)) == budget


@pytest.mark.parametrize(
    ("changes", "told"),
    [
        ({"money": None}, "one of money, energy_wh and sessions"),
        ({"sessions": 3}, "one of money, energy_wh and sessions"),
        ({"currency": None}, "names its currency"),
        ({"energy_wh_per_session": 9}, "in the unit of the budget"),
        ({"scope": "fleet", "of": "x"}, "leave out `of`"),
        ({"scope": "everyone"}, "scope"),
        ({"zone": "Europe/Berln"}, "is no IANA time zone"),
        ({"money": "0"}, "must be an amount"),
        ({"money": "1.0000001"}, "must be an amount"),
        ({"perod": "day"}, "did you mean 'period'?"),
        ({"lease_hours": 0}, "lease_hours"),
    ],
)
def test_what_does_not_fit_is_told(changes: dict[str, Any], told: str):
    entry = {name: value for name, value in {**GOOD, **changes}.items() if value is not None}
    faults = entry_faults("budget", entry)
    assert any(told in f"{fault.place} {fault.text}" for fault in faults), faults


def test_the_backend_reads_the_policy_file_of_the_office(tmp_path: Path):
    path = tmp_path / "policy.toml"
    path.write_text('[groups.vans]\n[budgets.all]\nscope = "fleet"\nmoney = 400\ncurrency = "EUR"\n')
    (terms,) = read_budgets(path)
    assert (terms.id, terms.limit, terms.per_session) == ("all", 400_000_000, 400_000_000)
    path.write_text("[groups.vans]\n")
    with pytest.raises(SourceUnfit, match="there are no budgets"):
        read_budgets(path)
    path.write_text('[budgets.all]\nscope = "fleet"\n')
    with pytest.raises(SourceUnfit, match=r"policy\.toml:1: budgets\.all"):
        read_budgets(path)
