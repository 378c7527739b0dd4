"""What has been, as far as rules ask for it: earlier sessions of each card. Read from the journal after a restart.

Reading it is agent/past.py.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from datetime import datetime, timedelta
from types import MappingProxyType

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

    def of(self, reference: str) -> tuple[Visit, ...]:
        return self.visits.get(reference, ())

    def with_visit(self, reference: str, visit: Visit) -> History:
        """Cards whose last visit is too long ago to matter are forgotten."""
        recent = {card: visits for card, visits in self.visits.items() if visits[-1].ended > visit.ended - LONGEST}
        recent[reference] = (*recent.get(reference, ()), visit)[-MOST_VISITS:]
        return replace(self, visits=MappingProxyType(recent))
