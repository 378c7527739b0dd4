"""What has been, as far as rules ask for it: sessions of each card, wrong PINs, odometers.

Reading it from the journal after a restart is agent/past.py.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from datetime import datetime, timedelta
from types import MappingProxyType

from agent.core.pins import Pin, Tries

LONGEST = timedelta(days=31)  # no rule looks back further (agent/cache/documents.py)
MOST_VISITS = 100  # of each card; no rule counts further


@dataclass(frozen=True, slots=True, kw_only=True)
class Visit:
    """An earlier session in which energy flowed."""

    began: datetime
    ended: datetime


@dataclass(frozen=True, slots=True, kw_only=True)
class History:
    """`since`: nothing is known of the time before; None when there is nothing that could be missing."""

    visits: Mapping[str, tuple[Visit, ...]] = field(default_factory=lambda: MappingProxyType({}))
    since: datetime | None = None
    wrong_pins: Mapping[str, Tries] = field(default_factory=lambda: MappingProxyType({}))
    odometers_km: Mapping[str, int] = field(default_factory=lambda: MappingProxyType({}))

    def of(self, reference: str) -> tuple[Visit, ...]:
        return self.visits.get(reference, ())

    def wrong_in_a_row(self, driver: str, pin: Pin) -> int:
        """A new PIN begins anew."""
        tries = self.wrong_pins.get(driver)
        return tries.wrong if tries is not None and tries.salt == pin.salt else 0

    def with_try(self, driver: str, salt: str, *, right: bool) -> History:
        before = self.wrong_pins.get(driver)
        wrong = before.wrong if before is not None and before.salt == salt else 0
        tries = Tries(salt=salt, wrong=0 if right else wrong + 1)
        return replace(self, wrong_pins=MappingProxyType({**self.wrong_pins, driver: tries}))

    def with_odometer(self, vehicle: str, reading_km: int) -> History:
        return replace(self, odometers_km=MappingProxyType({**self.odometers_km, vehicle: reading_km}))

    def with_visit(self, reference: str, visit: Visit) -> History:
        """Cards whose last visit is too long ago to matter are forgotten."""
        recent = {card: visits for card, visits in self.visits.items() if visits[-1].ended > visit.ended - LONGEST}
        recent[reference] = (*recent.get(reference, ()), visit)[-MOST_VISITS:]
        return replace(self, visits=MappingProxyType(recent))
