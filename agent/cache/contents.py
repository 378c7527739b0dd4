"""A bundle as values, its tokens apart: what documents.py reads and a generation stores."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import timedelta
from enum import StrEnum

from agent.core.budgets import Budget
from agent.core.policy import Driver, Group, Vehicle
from agent.core.sites import Sites


class KeyUse(StrEnum):
    """What a service key of the backend may sign."""

    ACKNOWLEDGEMENT = "ack"
    GRANT = "grant"
    ANSWER = "answer"
    OVERRIDE = "override"


@dataclass(frozen=True, slots=True, kw_only=True)
class ServiceKey:
    kid: str
    use: KeyUse
    jwk: str


@dataclass(frozen=True, slots=True, kw_only=True)
class Contents:
    """Read together or not at all: every reference from one document into another was found good."""

    fleet: str
    revision: int
    key_check: str
    stale_after: timedelta
    expired_after: timedelta
    groups: Mapping[str, Group]
    drivers: Mapping[str, Driver]
    vehicles: Mapping[str, Vehicle]
    keys: tuple[ServiceKey, ...]
    sites: Sites = field(default_factory=Sites)
    budgets: tuple[Budget, ...] = ()
    revoked: frozenset[str] = frozenset()
