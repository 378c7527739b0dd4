"""A journal that fails under a running service is opened again, loses and doubles nothing, and the work goes on."""

from __future__ import annotations

import asyncio
import sqlite3
import time
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import pytest

from agent import main
from agent.config import Config
from agent.core import observations
from agent.core.facts import JournalOpened, RecordsQuarantined
from agent.core.sessions import fold
from agent.journal import Journal, StorageBroken, StorageFull
from agent.store import MOST_MENDINGS, Store
from agent.wire import open_record
from sync.ports import OutboxBusy
from tests.journal.samples import MORNING, SOURCE, a_refusal, an_instant, at, authorised, bodies_of, ended, started
from tests.space.small_service import HandSetClock, a_service_on, records_of


class FailingConnection:
    """A database whose device fails at chosen statements."""

    def __init__(self, real: sqlite3.Connection, fails: Callable[[str], bool], *, after: bool) -> None:
        self._real, self._fails, self._after = real, fails, after

    def execute(self, statement: str, *values: Any) -> Any:
        if not self._fails(statement):
            return self._real.execute(statement, *values)
        if self._after:
            self._real.execute(statement, *values)
        error = sqlite3.OperationalError("disk I/O error")
        error.sqlite_errorcode = sqlite3.SQLITE_IOERR_WRITE
        raise error

    def __getattr__(self, name: str) -> Any:
        return getattr(self._real, name)


def break_at(journal: Journal, word: str, *, after: bool = False) -> None:
    journal._database = FailingConnection(journal._database, lambda text: text.startswith(word), after=after)  # type: ignore[assignment]


@asynccontextmanager
async def a_store(folder: Path) -> AsyncIterator[Store]:
    store = Store()
    await store.open(lambda: Journal.open(folder, source=SOURCE, now=an_instant()))
    try:
        yield store
    finally:
        await store.close()


@pytest.mark.parametrize("was_made", [False, True])
def test_a_commit_that_failed_is_made_exactly_once(was_made: bool, tmp_path: Path) -> None:
    async def story() -> None:
        async with a_store(tmp_path) as store:
            before = await store.append(at(a_refusal()))
            await store.ask(lambda journal: break_at(journal, "COMMIT", after=was_made))
            sealed = await store.append(at(authorised(), started()))
            assert [one.sequence for one in sealed] == [3, 4]
            assert store.mended == 1
            bodies = await store.ask(bodies_of)
            assert bodies[1:] == [one.body for one in [*before, *sealed]]
            await store.append(at(ended()))

    asyncio.run(story())


def test_a_malformed_page_under_a_running_service_is_salvaged_and_the_rest_delivered_later(tmp_path: Path) -> None:
    async def story() -> None:
        async with a_store(tmp_path) as store:
            first = (await store.head()).journal
            for _ in range(20):
                await store.append(at(*[a_refusal()] * 10))
            await store.ask(damage)
            await store.append(at(authorised()))
            assert store.mended == 1
            head = await store.head()
            opened = open_record((await store.ask(bodies_of))[0]).fact
            assert isinstance(opened, JournalOpened)
            assert (opened.reason, opened.predecessor) == ("corrupt", first)
            while await store.ask(Journal.adopt):
                pass
            assert [each.journal for each in await store.heads()] == [head.journal, first]

    def damage(journal: Journal) -> None:
        journal._database.execute("PRAGMA wal_checkpoint(TRUNCATE)").fetchone()
        path = tmp_path / "journal.db"
        content = bytearray(path.read_bytes())
        for page in range(len(content) // 4096 - 8, len(content) // 4096):  # the newest ones: append needs them
            content[page * 4096 : page * 4096 + 4096] = b"\x5a" * 4096
        path.write_bytes(content)
        journal._database.execute("PRAGMA shrink_memory")

    asyncio.run(story())


def test_sessions_that_only_memory_knows_are_told_to_the_mended_journal(tmp_path: Path) -> None:
    """The damage took their beginning: without this a restart would not know of them."""
    session = fold([authorised(), started()])
    assert session is not None

    async def story() -> None:
        async with a_store(tmp_path) as store:
            service = a_service_on(store, HandSetClock(MORNING))
            await service.handle(observations.Woken(version="0", sessions=(session,)))
            await store.ask(lambda journal: break_at(journal, "BEGIN"))
            await service.handle(
                observations.Noted(fact=RecordsQuarantined(journal="j", sequences=(1,), reasons=("why",)))
            )
            await service._look_around()
            assert store.mended == 1
            (facts,) = await store.ask(lambda journal: journal.open_sessions())
            again = fold(facts)
            assert again is not None
            assert (again.id, again.meter_start_wh, again.started_at) == ("s-1", 1_204_500, session.started_at)
            count = len(await records_of(service))
            await service._look_around()
            assert len(await records_of(service)) == count, "told once"

    asyncio.run(story())


def test_a_device_that_fails_all_the_time_ends_the_service(tmp_path: Path) -> None:
    async def story() -> None:
        async with a_store(tmp_path) as store:
            for _ in range(MOST_MENDINGS):
                await store.ask(lambda journal: break_at(journal, "BEGIN"))
                await store.append(at(a_refusal()))
            await store.ask(lambda journal: break_at(journal, "BEGIN"))
            with pytest.raises(StorageBroken):
                await store.append(at(a_refusal()))

    asyncio.run(story())


def test_the_watchdog_is_fed_while_a_large_journal_is_checked(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    fed = 0

    def feed() -> None:
        nonlocal fed
        fed += 1

    async def story() -> None:
        async with a_store(tmp_path) as store:
            store.on_mending = feed
            make = store._make
            assert make is not None

            def slowly() -> Journal:
                time.sleep(0.3)
                return make()

            store._make = slowly
            monkeypatch.setattr("agent.store.MENDING_LOOK_S", 0.05)
            await store.append(at(a_refusal()))
            assert fed == 0
            await store.ask(lambda journal: break_at(journal, "BEGIN"))
            await store.append(at(a_refusal()))
            assert 3 <= fed <= 8

    asyncio.run(story())


def test_an_acknowledgement_without_room_changes_nothing_and_is_told_again(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def no_room(self: Journal, **_: object) -> None:
        raise StorageFull("no room")

    async def story() -> None:
        async with a_store(tmp_path) as store:
            head = await store.head()
            with monkeypatch.context() as full:
                full.setattr(Journal, "acknowledge", no_room)
                with pytest.raises(OutboxBusy, match="no room"):
                    await store.acknowledge(journal=head.journal, through=1, quarantined={})
            assert (await store.head()).acknowledged == 0
            await store.acknowledge(journal=head.journal, through=1, quarantined={})
            assert (await store.head()).acknowledged == 1

    asyncio.run(story())


def test_a_journal_that_cannot_be_mended_ends_with_the_code_for_a_bad_device(monkeypatch: pytest.MonkeyPatch) -> None:
    class Dying:
        config: Any = None

        async def run(self, *_: object) -> None:
            async with asyncio.TaskGroup() as parts:
                parts.create_task(self.fail())

        async def fail(self) -> None:
            raise StorageBroken("the journal failed")

    async def until_told(runtime: Dying) -> None:
        await runtime.run()

    monkeypatch.setattr(main, "_until_told", until_told)
    config: Any = Config
    assert main.serve(config, lambda _: Dying()) == main.IO_ERROR  # type: ignore[arg-type, return-value]
