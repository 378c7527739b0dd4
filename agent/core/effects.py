"""What must be done, in the order of the tuple: Record before Signal before anything else the outside can see.

Performing them is agent/performer.py.
"""

from __future__ import annotations

from dataclasses import dataclass
from enum import StrEnum

from agent.core.decisions import Decision
from agent.core.facts import Fact, Trigger
from agent.core.requests import Request


class Feedback(StrEnum):
    """What the person at the reader is shown."""

    GRANTED = "granted"
    REFUSED = "refused"
    FAULT = "fault"
    PENDING = "pending"
    OFFLINE = "offline"  # refused for want of the backend's word alone: it may be granted where there is a signal


@dataclass(frozen=True, slots=True, kw_only=True)
class Record:
    """Make these facts durable before the next effect. What is not `urgent` (a meter sample) may wait for company."""

    facts: tuple[Fact, ...]
    urgent: bool = True


@dataclass(frozen=True, slots=True, kw_only=True)
class Seal:
    """Close what was recorded with a signed checkpoint."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Signal:
    reader: str
    feedback: Feedback
    text: str


@dataclass(frozen=True, slots=True, kw_only=True)
class Reply:
    """The answer to a `DecisionRequested` of the local API."""

    request: str
    decision_id: str
    decision: Decision
    session: str | None


@dataclass(frozen=True, slots=True, kw_only=True)
class StartCharging:
    charger: str
    session: str
    max_energy_wh: int | None


@dataclass(frozen=True, slots=True, kw_only=True)
class StopCharging:
    charger: str
    session: str


@dataclass(frozen=True, slots=True, kw_only=True)
class QueryCharger:
    """Ask the charger what it is doing now; the answer is a ChargerFound."""

    charger: str


@dataclass(frozen=True, slots=True, kw_only=True)
class Ask:
    """Ask the backend about this; its answer within `deadline_ms` is a BackendAnswered with the same `ask`."""

    ask: str
    asked: Request
    trigger: Trigger
    deadline_ms: int
    policy_revision: int | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class WakeAt:
    """A Tick is wanted at this monotonic time."""

    monotonic_ms: int


Effect = Record | Seal | Signal | Reply | StartCharging | StopCharging | QueryCharger | Ask | WakeAt
