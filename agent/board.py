"""What is going on, for `roamkey status`: readers, chargers, link, storage. Kept up to date by the service."""

from __future__ import annotations

from dataclasses import dataclass, field
from datetime import datetime


@dataclass(slots=True, kw_only=True)
class Health:
    """One device at the edge. `since` is when the state began, UTC."""

    state: str
    detail: str = ""
    since: datetime | None = None


@dataclass(slots=True, kw_only=True)
class Board:
    readers: dict[str, Health] = field(default_factory=dict)
    chargers: dict[str, Health] = field(default_factory=dict)
    link: Health = field(default_factory=lambda: Health(state="off"))
    storage: Health = field(default_factory=lambda: Health(state="ok"))
    policy: Health = field(default_factory=lambda: Health(state="none"))
    # What measures where we are; None when nothing is configured to.
    receiver: Health | None = None
    # Of the connection to the broker; None when it is plain or there is no broker.
    certificate: Health | None = None
    alarms: dict[str, str] = field(default_factory=dict)
    acknowledged: int = 0
    backlog: int = 0
    taps: int = 0
    dropped_looks: int = 0
