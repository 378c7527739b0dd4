"""After a restart: contracts in use, and leases as the newest grant found them with all that was spent since. Pure.

Finding those records in the journal is agent/past.py.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import replace
from types import MappingProxyType

from agent.core.budgets import Held, Holdings, LeaseUse
from agent.core.contract_uses import ContractUse
from agent.core.facts import BudgetAsked, BudgetGranted, ContractOpened, Fact, SessionAuthorised, SessionEnded


def recalled(
    known: Holdings, granted: BudgetGranted | None, *, boot: str, received_ms: int, later: Iterable[Fact]
) -> Holdings:
    """`known` is what the journal itself says. How long leases are here counts from the grant's record."""
    if granted is None:
        return known
    held = {each.id: Held(lease=each, boot=boot, received_ms=received_ms) for each in granted.held}
    known = replace(
        known,
        message=granted.message,
        newest=granted.newest,
        held=MappingProxyType(held),
        used_up=MappingProxyType({each.budget: each.until for each in granted.used_up}),
    ).learned(granted.leases)
    closed: set[str] = set()
    for fact in later:
        known = known.learned(uses_of(fact))
        closed |= {use.lease for use in fact.closed} if isinstance(fact, BudgetAsked) else set()
    shut = {id: replace(each, closed=True) if id in closed else each for id, each in known.held.items()}
    return replace(known, held=MappingProxyType(shut))


def use_of(opened: ContractOpened) -> ContractUse:
    return ContractUse(
        decision=opened.decision,
        reference=opened.credential.reference,
        vehicle=opened.vehicle,
        began=opened.opened_at,
        boot=opened.boot,
        monotonic_ms=opened.monotonic_ms,
        lasts_s=opened.lasts_s,
    )


def uses_of(fact: Fact) -> tuple[LeaseUse, ...]:
    match fact:
        case BudgetAsked():
            return (*fact.closed, *(fact.leases or ()))
        case SessionAuthorised() | SessionEnded():
            return fact.leases or ()
        case _:
            return ()


def wanted_by(questions: Iterable[Fact]) -> Mapping[str, int]:
    """What was asked for lately goes on being asked for; oldest first."""
    wanted: dict[str, int] = {}
    for fact in questions:
        if isinstance(fact, BudgetAsked):
            wanted |= {each.budget: each.need for each in fact.wants}
    return MappingProxyType(wanted)
