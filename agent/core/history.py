"""What has been, as far as rules ask for it: sessions of each card, wrong PINs, odometers.

Reading it from the journal after a restart is agent/past.py.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from datetime import UTC, datetime, timedelta
from types import MappingProxyType

from agent.core.answers import Kept
from agent.core.break_glass import CodeTries
from agent.core.contract_uses import ContractUse
from agent.core.instants import Instant
from agent.core.overrides import Override
from agent.core.pins import Pin, Tries

UNTOLD = datetime.max.replace(tzinfo=UTC)
LONGEST = timedelta(days=31)  # no rule looks back further (agent/cache/documents.py)
MOST_ANSWERS = 2_000  # of the backend, one a card; the oldest is forgotten first
MOST_OVERRIDES = 100  # that wait to be used
MOST_USED = 1_000  # never forgotten for their age: a clock that jumped must not make one good again
MOST_USES = 500  # of contracts; some two months of a busy vehicle
MOST_VISITS = 100  # of each card; no rule counts further


@dataclass(frozen=True, slots=True, kw_only=True)
class Visit:
    """An earlier session in which energy flowed."""

    began: datetime
    ended: datetime


@dataclass(frozen=True, slots=True, kw_only=True)
class History:
    """`since`: nothing is known of the time before; None when there is nothing that could be missing.

    UNTOLD when the log began while nobody knew what time it was.
    """

    visits: Mapping[str, tuple[Visit, ...]] = field(default_factory=lambda: MappingProxyType({}))
    since: datetime | None = None
    wrong_pins: Mapping[str, Tries] = field(default_factory=lambda: MappingProxyType({}))
    odometers_km: Mapping[str, int] = field(default_factory=lambda: MappingProxyType({}))
    answers: Mapping[str, Kept] = field(default_factory=lambda: MappingProxyType({}))
    overrides: Mapping[str, Override] = field(default_factory=lambda: MappingProxyType({}))
    used: tuple[str, ...] = ()
    codes: CodeTries = field(default_factory=CodeTries)
    uses: tuple[ContractUse, ...] = ()

    def with_time_known(self, now: Instant) -> History:
        """The clock is right for the first time: a log that began before began at the latest now."""
        return replace(self, since=now.utc) if self.since == UNTOLD else self

    def of(self, reference: str) -> tuple[Visit, ...]:
        return self.visits.get(reference, ())

    def past_uses_of(self, reference: str, now: Instant) -> tuple[Visit, ...]:
        uses = (each for each in self.uses if each.reference == reference and not each.is_open(now))
        return tuple(Visit(began=each.began, ended=each.over) for each in uses)

    def open_uses(self, now: Instant) -> tuple[ContractUse, ...]:
        return tuple(each for each in self.uses if each.is_open(now))

    def use(self, decision: str) -> ContractUse | None:
        return next((each for each in self.uses if each.decision == decision), None)

    def with_use(self, use: ContractUse) -> History:
        """The newest are kept; one whose end was not told is forgotten last."""
        uses = (*self.uses, use)
        if len(uses) > MOST_USES:
            oldest = next((each for each in uses if each.ended is not None), uses[0])
            uses = tuple(each for each in uses if each is not oldest)
        return replace(self, uses=uses)

    def with_use_ended(self, decision: str, at: datetime) -> History:
        uses = (replace(each, ended=at) if each.decision == decision else each for each in self.uses)
        return replace(self, uses=tuple(uses))

    def without_use(self, decision: str) -> History:
        """It came to nothing, so it never counted."""
        return replace(self, uses=tuple(each for each in self.uses if each.decision != decision))

    def wrong_in_a_row(self, driver: str, pin: Pin) -> int:
        """A new PIN begins anew."""
        tries = self.wrong_pins.get(driver)
        return tries.wrong if tries is not None and tries.salt == pin.salt else 0

    def with_try(self, driver: str, salt: str, *, right: bool) -> History:
        before = self.wrong_pins.get(driver)
        wrong = before.wrong if before is not None and before.salt == salt else 0
        tries = Tries(salt=salt, wrong=0 if right else wrong + 1)
        return replace(self, wrong_pins=MappingProxyType({**self.wrong_pins, driver: tries}))

    def with_answer(self, reference: str, kept: Kept) -> History:
        """The newest word counts, whatever it was before."""
        others = {card: each for card, each in self.answers.items() if card != reference}
        newest = list(others.items())[-(MOST_ANSWERS - 1) :]
        return replace(self, answers=MappingProxyType({**dict(newest), reference: kept}))

    def with_override(self, override: Override) -> History:
        newest = list(self.overrides.items())[-(MOST_OVERRIDES - 1) :]
        return replace(self, overrides=MappingProxyType({**dict(newest), override.id: override}))

    def has_seen(self, override: str) -> bool:
        return override in self.overrides or override in self.used

    def with_used(self, override: str, counter: int | None = None) -> History:
        left = {name: each for name, each in self.overrides.items() if name != override}
        codes = self.codes if counter is None else CodeTries(counter=max(counter, self.codes.counter))
        used = (*self.used, override)[-MOST_USED:]
        return replace(self, overrides=MappingProxyType(left), used=used, codes=codes)

    def with_wrong_code(self, at: datetime) -> History:
        return replace(self, codes=replace(self.codes, wrong=self.codes.wrong + 1, last=at))

    def with_odometer(self, vehicle: str, reading_km: int) -> History:
        return replace(self, odometers_km=MappingProxyType({**self.odometers_km, vehicle: reading_km}))

    def with_visit(self, reference: str, visit: Visit) -> History:
        """Cards whose last visit is too long ago to matter are forgotten."""
        recent = {card: visits for card, visits in self.visits.items() if visits[-1].ended > visit.ended - LONGEST}
        recent[reference] = (*recent.get(reference, ()), visit)[-MOST_VISITS:]
        return replace(self, visits=MappingProxyType(recent))
