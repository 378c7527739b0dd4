"""Reads the clocks of this machine; the only place that does. What they mean is agent/core/instants.py.

Synchronised is what the system says it is: timesyncd's mark, or the kernel's own state (adjtimex; blocked by systemd's
ProtectClock, so only the second choice). Holdover: synchronised earlier in this boot. The floor is the newest moment
that is proven to have passed; only signed time, synchronised time and the build raise it, so that a clock once set
five years ahead does not condemn the device for five years.
"""

from __future__ import annotations

import ctypes
import os
import time
from collections.abc import Callable
from datetime import UTC, datetime
from pathlib import Path
from typing import Protocol

from agent.core.instants import ClockQuality, Instant

TIMESYNCD_MARK = Path("/run/systemd/timesync/synchronized")
BOOT_ID = Path("/proc/sys/kernel/random/boot_id")
BUILD_TIME = datetime(2026, 11, 1, tzinfo=UTC)
STEP_MS = 2_000  # a wall clock that moved this much against the monotonic one was stepped, not slewed


class Clock(Protocol):
    def now(self) -> Instant:
        """All clocks, read once, with fresh randomness."""

    def raise_floor(self, proven: datetime) -> None:
        """This moment is proven to have passed; lower ones change nothing."""


class SystemClock:
    """The machine's clocks. `trusted` is the operator's word that the wall clock is right (GNSS time, say)."""

    def __init__(
        self,
        *,
        floor: datetime = BUILD_TIME,
        trusted: bool = False,
        is_synchronised: Callable[[], bool] | None = None,
    ) -> None:
        self.floor = max(floor, BUILD_TIME)
        self._trusted = trusted
        self._is_synchronised = is_synchronised or system_is_synchronised
        self._was_synchronised = False
        self._boot = BOOT_ID.read_text(encoding="ascii").strip()

    def now(self) -> Instant:
        quality = self._quality()
        utc = datetime.now(UTC)
        if quality is ClockQuality.SYNCHRONISED:
            self.floor = max(self.floor, utc)
        return Instant(
            utc=utc,
            floor=self.floor,
            monotonic_ms=monotonic_ms(),
            boot=self._boot,
            quality=quality,
            entropy=os.urandom(16),
        )

    def raise_floor(self, proven: datetime) -> None:
        self.floor = max(self.floor, proven)

    def _quality(self) -> ClockQuality:
        if self._trusted or self._is_synchronised():
            self._was_synchronised = True
            return ClockQuality.SYNCHRONISED
        return ClockQuality.HOLDOVER if self._was_synchronised else ClockQuality.UNKNOWN


class StepDetector:
    """Notices that the wall clock moved against the monotonic one between two looks."""

    def __init__(self) -> None:
        self._offset_ms: int | None = None

    def step_ms(self, now: Instant) -> int:
        """0 when nothing happened, else by how much the wall clock jumped (negative: backwards)."""
        offset = int(now.utc.timestamp() * 1000) - now.monotonic_ms
        before, self._offset_ms = self._offset_ms, offset
        moved = 0 if before is None else offset - before
        return moved if abs(moved) >= STEP_MS else 0


def monotonic_ms() -> int:
    """CLOCK_BOOTTIME: it also counts while the machine sleeps."""
    return time.clock_gettime_ns(time.CLOCK_BOOTTIME) // 1_000_000


def system_is_synchronised() -> bool:
    return TIMESYNCD_MARK.exists() or kernel_is_synchronised()


def kernel_is_synchronised() -> bool:
    """adjtimex(2) returns TIME_ERROR (5) while unsynchronised, -1 when we may not ask; neither is a proof."""
    libc = ctypes.CDLL(None, use_errno=True)
    buffer = ctypes.create_string_buffer(256)  # struct timex, modes = 0: read only
    state = int(libc.adjtimex(buffer))
    return state not in (-1, 5)
