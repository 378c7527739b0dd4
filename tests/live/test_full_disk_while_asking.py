"""A disk that fills while the backend thinks: nothing was decided, and everybody who waits is told so."""

from __future__ import annotations

import asyncio
from collections.abc import Sequence
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest

from agent.core import observations as seen
from agent.core.answers import Answer, Verdict, Whitelist
from agent.core.effects import Ask
from agent.core.facts import Fact
from agent.core.instants import Instant
from agent.core.requests import Place
from agent.journal import StorageFull
from agent.service import NotStored
from agent.store import Store
from sync.ports import Sealed
from tests.core.builders import a_policy, a_token, presented
from tests.space.small_service import HandSetClock, a_service

MORNING = datetime(2026, 3, 2, 8, tzinfo=UTC)


class FillingStore:
    """The service's own store, until the disk is full."""

    def __init__(self, store: Store) -> None:
        self._store = store
        self.full = False

    def __getattr__(self, name: str) -> object:
        return getattr(self._store, name)

    async def append(self, entries: Sequence[tuple[Fact, Instant]]) -> list[Sealed]:
        if self.full:
            raise StorageFull("no room")
        return await self._store.append(entries)


def test_whoever_waits_for_the_backend_is_told_that_nothing_could_be_recorded(tmp_path: Path) -> None:
    async def story() -> None:
        async with a_service(tmp_path, HandSetClock(MORNING)) as service:
            disk = FillingStore(service.performer.store)
            service.performer.store = disk  # type: ignore[assignment]
            asked: list[Ask] = []
            service.performer.on_ask = asked.append
            policy = a_policy(confirmed=MORNING, confirmed_boot="b-1")
            await service.handle(seen.PolicyActivated(policy=policy, tokens=1, announce=False))
            await service.handle(seen.LinkChanged(up=True))
            question = seen.DecisionRequested(
                request="r-1",
                presented=presented(token=a_token(whitelist=Whitelist.NEVER)),
                charger=None,
                place=Place(network="DE*ABC"),
            )
            waiting = asyncio.create_task(service.ask(question, "r-1"))
            await asyncio.sleep(0)
            await service.handle(service.inbox.get_nowait())
            disk.full = True

            answer = Answer(verdict=Verdict.ALLOWED, answered_at=MORNING, keep=timedelta(0), jws="e30.e30.e30")
            told = seen.BackendAnswered(ask=asked[0].ask, answer=answer)
            await service.handle(told)

            with pytest.raises(NotStored):
                await waiting
            assert service.agent.state.pending == {}
            assert service.agent.state.storage_full
            disk.full = False
            service.agent.state = replace(service.agent.state, storage_full=False)
            await service.handle(told)  # the same answer again, once there is room: nobody waits for it
            assert service.agent.state.sessions == {}

    asyncio.run(story())
