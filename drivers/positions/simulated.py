"""A receiver that a test, or a demonstration, drives about."""

from __future__ import annotations

import asyncio
import time

from drivers.positions.receiver import Emit, Measured, ReceiverEvent, ReceiverFound, ReceiverLost, Unmeasured


class SimulatedReceiver:
    """What it is told before anybody listens is told when somebody does."""

    def __init__(self) -> None:
        self._emit: Emit | None = None
        self._waiting: list[ReceiverEvent] = [ReceiverFound(detail="simulated")]

    async def run(self, emit: Emit) -> None:
        self._emit = emit
        try:
            for event in self._waiting:
                emit(event)
            self._waiting.clear()
            await asyncio.Event().wait()
        finally:
            self._emit = None

    def is_at(self, latitude: float, longitude: float, *, accuracy_m: int | None = 5) -> None:
        self._tell(
            Measured(
                latitude_udeg=round(latitude * 1_000_000),
                longitude_udeg=round(longitude * 1_000_000),
                accuracy_m=accuracy_m,
                monotonic_ms=time.monotonic_ns() // 1_000_000,
            )
        )

    def goes_underground(self) -> None:
        self._tell(Unmeasured(cause="the receiver has no fix"))

    def dies(self) -> None:
        self._tell(ReceiverLost(cause="the receiver is gone", hint="plug it in again"))

    def _tell(self, event: ReceiverEvent) -> None:
        if self._emit is None:
            self._waiting.append(event)
        else:
            self._emit(event)
