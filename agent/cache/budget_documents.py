"""A budget as the fleet writes it: one entry of the policy, read by devices and by the backend that lends from it.

[budgets.vans]                       each van has 400 EUR a month
scope = "vehicle"                    fleet, cost_centre, vehicle or driver; of = "..." names one, else each
money = 400                          or energy_wh = ..., or sessions = ...
money_per_session = 60               the most that one session may reserve; energy_wh_per_session likewise
currency = "EUR"                     basis = "gross" (with taxes) or "net"
period = "month"                     day, week, month or once; zone = "Europe/Berlin"
lease_hours = 72                     how long a device may go on with what it was lent
on_missing = "deny"                  or warn: without a lease or a price, charge all the same and count nothing
cover_copies = 0                     hold the limit also for so many copies of a device; lends so much less
"""

from __future__ import annotations

from datetime import timedelta
from decimal import Decimal
from typing import TYPE_CHECKING, Annotated, Any, Literal
from zoneinfo import ZoneInfo

from pydantic import BaseModel, BeforeValidator, ConfigDict, Field, model_validator

from agent.core.budgets import MICRO, Budget, Scope, Unit
from agent.core.tariff.tariffs import Basis

if TYPE_CHECKING:
    from sync.backend.budgets import Terms

MAX_BUDGETS = 1_000


def _zone(value: Any) -> Any:
    try:
        return ZoneInfo(value).key
    except (ValueError, OSError, KeyError, TypeError):  # ZoneInfoNotFoundError is a KeyError
        raise ValueError("is no IANA time zone") from None


def _amount(value: Any) -> Any:
    try:
        amount = Decimal(value) if isinstance(value, str) and len(value) <= 16 else None
    except ArithmeticError:
        amount = None
    if amount is None or not 0 < amount < 10**9 or (amount * MICRO) % 1 != 0:
        raise ValueError('must be an amount as text, such as "400.00"')
    return amount


Money = Annotated[Decimal, BeforeValidator(_amount)]
WattHours = Annotated[int, Field(ge=1, le=10**12)]
# The key is its name and the subject's, on the wire: name/subject.
BudgetName = Annotated[str, Field(pattern=r"^[A-Za-z0-9][A-Za-z0-9_-]{0,63}$")]


class BudgetDocument(BaseModel):
    model_config = ConfigDict(extra="forbid", frozen=True)

    scope: Scope
    of: Annotated[str, Field(min_length=1, max_length=64)] | None = None
    money: Money | None = None
    money_per_session: Money | None = None
    currency: Annotated[str, Field(pattern=r"^[A-Z]{3}$")] | None = None
    basis: Basis = Basis.GROSS
    energy_wh: WattHours | None = None
    energy_wh_per_session: WattHours | None = None
    sessions: Annotated[int, Field(ge=1, le=10**9)] | None = None
    period: Literal["day", "week", "month", "once"] = "month"
    zone: Annotated[str, BeforeValidator(_zone)] = "UTC"
    lease_hours: Annotated[int, Field(ge=1, le=24 * 31)] = 72
    on_missing: Literal["deny", "warn"] = "deny"
    cover_copies: Annotated[int, Field(ge=0, le=3)] = 0

    @model_validator(mode="after")
    def _one_unit(self) -> BudgetDocument:
        if sum(each is not None for each in (self.money, self.energy_wh, self.sessions)) != 1:
            raise ValueError("give one of money, energy_wh and sessions")
        if (self.money is None) != (self.currency is None):
            raise ValueError("a budget in money names its currency, and no other does")
        if (self.money is None and self.money_per_session) or (self.energy_wh is None and self.energy_wh_per_session):
            raise ValueError("what one session may reserve is in the unit of the budget")
        if self.scope is Scope.FLEET and self.of is not None:
            raise ValueError("the fleet is one: leave out `of`")
        return self

    @property
    def unit(self) -> Unit:
        if self.money is not None:
            return Unit.MONEY
        return Unit.ENERGY if self.energy_wh is not None else Unit.SESSIONS

    @property
    def limit(self) -> int:
        if self.money is not None:
            return int(self.money * MICRO)
        return self.energy_wh or self.sessions or 0

    @property
    def per_session(self) -> int:
        if self.unit is Unit.SESSIONS:
            return 1
        said = self.energy_wh_per_session if self.money_per_session is None else int(self.money_per_session * MICRO)
        return min(self.limit, said or self.limit)


def budget_of(name: str, document: BudgetDocument) -> Budget:
    """As a device sees it: whom it binds, and in what it is counted."""
    return Budget(
        id=name,
        scope=document.scope,
        unit=document.unit,
        limit=document.limit,
        of=document.of,
        currency=document.currency,
        basis=document.basis,
        advisory=document.on_missing == "warn",
    )


def terms_of(name: str, document: BudgetDocument) -> Terms:
    """As the backend lends from it."""
    from sync.backend.budgets import Span, Terms

    return Terms(
        id=name,
        scope=document.scope.value,
        unit=document.unit.value,
        limit=document.limit,
        per_session=document.per_session,
        span=Span(document.period),
        zone=ZoneInfo(document.zone),
        of=document.of,
        currency=document.currency,
        lease=timedelta(hours=document.lease_hours),
        cover_copies=document.cover_copies,
    )
