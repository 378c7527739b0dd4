"""The real service over a real journal, on one loop: no devices, a clock that is set by hand."""

from __future__ import annotations

from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from functools import partial
from pathlib import Path

from agent.core.agent import Agent, Setup
from agent.core.instants import ClockQuality, Instant
from agent.core.requests import Place
from agent.journal import Journal
from agent.notify import Notifier
from agent.performer import Performer
from agent.service import Service
from agent.store import Store
from agent.wire import Envelope, open_envelope
from sync.ports import Sealed
from tests.journal.samples import SOURCE, an_instant, bodies_of

EPOCH = datetime(1970, 1, 1, tzinfo=UTC)


class HandSetClock:
    """Boot time goes on by `pass_time`; the wall is where it was put, and goes on with it."""

    def __init__(self, wall: datetime, *, quality: ClockQuality = ClockQuality.SYNCHRONISED, boot: str = "b-1") -> None:
        self._instant = an_instant(wall, quality=quality, monotonic_ms=10_000)
        self._instant = replace(self._instant, boot=boot)

    def now(self) -> Instant:
        return replace(self._instant, entropy=an_instant().entropy)

    def raise_floor(self, proven: datetime) -> None:
        self._instant = replace(self._instant, floor=max(self._instant.floor, proven))

    def pass_time(self, **duration: float) -> None:
        gone = timedelta(**duration)
        self._instant = replace(
            self._instant,
            utc=self._instant.utc + gone,
            monotonic_ms=self._instant.monotonic_ms + gone // timedelta(milliseconds=1),
        )

    def set_wall(self, wall: datetime, *, quality: ClockQuality | None = None) -> None:
        self._instant = replace(self._instant, utc=wall, quality=quality or self._instant.quality)


@asynccontextmanager
async def a_service(folder: Path, clock: HandSetClock, *, max_bytes: int = 2**28) -> AsyncIterator[Service]:
    store = Store()
    await store.open(lambda: Journal.open(folder, source=SOURCE, now=clock.now(), max_bytes=max_bytes))
    try:
        yield a_service_on(store, clock)
    finally:
        await store.close()


def a_service_on(store: Store, clock: HandSetClock) -> Service:
    setup = Setup(version="0", readers={"front": "left"}, chargers={"left": Place(evse="DE*ABC*E1")})
    performer = Performer(
        store=store,
        seal=partial(no_seal),
        readers={},
        chargers={},
        spawn=lambda work: work.close(),
        on_records=lambda records: None,
    )
    return Service(agent=Agent(setup), performer=performer, clock=clock, notifier=Notifier(""))


async def no_seal(now: Instant) -> list[Sealed]:
    return []


async def records_of(service: Service) -> Sequence[Envelope]:
    return [open_envelope(body) for body in await service.performer.store.ask(bodies_of)]
