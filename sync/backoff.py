"""How long to wait before the next attempt: full jitter, and memory of failure until the link proved stable. Pure."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, replace


@dataclass(frozen=True, slots=True, kw_only=True)
class Backoff:
    """One step of a growing wait. Full jitter: a fleet that lost its broker must not return as one wave."""

    base_s: float = 1.0
    factor: float = 2.0
    cap_s: float = 300.0
    stable_s: float = 60.0
    failures: int = 0

    @property
    def ceiling_s(self) -> float:
        """The longest wait of this step; the wait itself is uniform between 0 and this."""
        # Beyond 64 doublings every cap is reached; the bound keeps the power finite.
        return min(self.cap_s, self.base_s * self.factor ** min(self.failures, 64))

    def wait_s(self, random: Callable[[], float]) -> float:
        return random() * self.ceiling_s

    def after(self, *, connected_s: float) -> Backoff:
        """The next step, given how long the last connection stood (0 when there was none)."""
        if connected_s >= self.stable_s:
            return replace(self, failures=0)
        return replace(self, failures=self.failures + 1)
