"""Contracts in use: a permitted signature counts as a session from the permission on, until its end is told.

The machine sees no charging session of ISO 15118, only the question for a signature; whoever speaks with the charger
tells when the session has ended. Who never does is believed to have ended it after `lasts_s`.
"""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime, timedelta

from agent.core.instants import Instant


@dataclass(frozen=True, slots=True, kw_only=True)
class ContractUse:
    """`decision` permitted it, `reference` is the contract's; `began` was at `monotonic_ms` of `boot`."""

    decision: str
    reference: str
    vehicle: str | None
    began: datetime
    boot: str
    monotonic_ms: int
    lasts_s: int
    ended: datetime | None = None

    def is_open(self, now: Instant) -> bool:
        return self.ended is None and self._age(now) < timedelta(seconds=self.lasts_s)

    @property
    def over(self) -> datetime:
        return self.ended or self.began + timedelta(seconds=self.lasts_s)

    def _age(self, now: Instant) -> timedelta:
        """At least so much has passed: after a restart the device's uptime, more if the wall clock is believed."""
        if now.boot == self.boot:
            return timedelta(milliseconds=now.monotonic_ms - self.monotonic_ms)
        uptime = timedelta(milliseconds=now.monotonic_ms)
        return max(uptime, now.latest - self.began) if now.trusted else uptime
