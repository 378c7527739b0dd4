"""The journal behind one thread: the loop awaits durability and never sits in an fsync itself.

Also the outbox that sync/uplink.py drains: not a second store but a cursor over the journal. A journal that fails (a
bad block, a malformed page) is closed and opened again here, which checks and salvages; only when that fails, too, or
happens again and again, does the failure reach the others and end the service.
"""

from __future__ import annotations

import asyncio
import logging
import time
from collections import deque
from collections.abc import Callable, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import TypeVar

from agent.core.facts import Fact
from agent.core.instants import Instant
from agent.journal import Journal, StorageBroken, StorageFull
from sync.ports import Head, OutboxBusy, Sealed

T = TypeVar("T")
log = logging.getLogger("roamkey")

# Opened again at most so often in this time: a device that fails all the time is systemd's, and a technician's.
MOST_MENDINGS = 3
MENDINGS_WITHIN_S = 600.0
# A large journal is checked record by record; so long the watchdog is kept from ending that.
MENDING_LIMIT_S = 180.0
MENDING_LOOK_S = 1.0


class Store:
    """Owns the journal's one thread. `opened` by the runtime; every method may raise what the journal raises.

    `on_mending` is called now and then while a journal is being opened again. `mended` counts how often that was.
    """

    def __init__(self) -> None:
        self.mended = 0
        self.on_mending: Callable[[], None] = lambda: None
        self._thread = ThreadPoolExecutor(max_workers=1, thread_name_prefix="journal")
        self._appended = asyncio.Event()
        self._make: Callable[[], Journal] | None = None
        self._journal: Journal | None = None
        self._mending_since: float | None = None
        self._mendings: deque[float] = deque(maxlen=MOST_MENDINGS)

    async def open(self, make: Callable[[], Journal]) -> None:
        """`make` opens the journal; it is called again, on the journal's thread, when that one has failed."""
        self._make = make
        self._journal = await asyncio.get_running_loop().run_in_executor(self._thread, make)

    async def ask(self, question: Callable[[Journal], T]) -> T:
        """Run one question on the journal's thread; questions are served in the order they are put.

        After a failure it is put again to the mended journal. Some questions leave a record behind (a checkpoint, what
        was given up): the uplink hears of it.
        """
        answer, grew = await self._run(lambda: self._answer(question))
        if grew:
            self._appended.set()
        return answer

    async def append(self, entries: Sequence[tuple[Fact, Instant]]) -> list[Sealed]:
        """Durable on return, in one transaction."""
        sealed = await self._run(lambda: self._append(entries))
        self._appended.set()
        return sealed

    async def close(self) -> None:
        if self._journal is not None:
            journal = self._journal
            await asyncio.get_running_loop().run_in_executor(self._thread, journal.close)
        self._thread.shutdown(wait=True)

    async def head(self) -> Head:
        return await self.ask(lambda journal: journal.head())

    async def heads(self) -> Sequence[Head]:
        return await self.ask(lambda journal: journal.heads())

    async def read(self, after: int, *, records: int, size_bytes: int, journal: str | None = None) -> list[Sealed]:
        return await self.ask(lambda each: each.read(after, records=records, size_bytes=size_bytes, journal=journal))

    async def hash_at(self, sequence: int, *, journal: str | None = None) -> str | None:
        return await self.ask(lambda each: each.hash_at(sequence, journal=journal))

    async def acknowledge(self, *, journal: str, through: int, quarantined: Mapping[int, str]) -> None:
        try:
            await self.ask(lambda each: each.acknowledge(journal=journal, through=through, quarantined=quarantined))
        except StorageFull as error:
            raise OutboxBusy(str(error)) from error

    async def changed(self) -> None:
        await self._appended.wait()
        self._appended.clear()

    def wake_uplink(self) -> None:
        """There is something else to deliver than before, such as an earlier journal."""
        self._appended.set()

    async def export(self, path: Path) -> None:
        await self.ask(lambda journal: journal.export(path))

    async def _run(self, work: Callable[[], T]) -> T:
        future = asyncio.get_running_loop().run_in_executor(self._thread, work)
        while not future.done():
            await asyncio.wait({future}, timeout=MENDING_LOOK_S)
            since = self._mending_since
            if since is not None and time.monotonic() - since < MENDING_LIMIT_S:
                self.on_mending()
        return future.result()

    # On the journal's thread

    def _answer(self, question: Callable[[Journal], T]) -> tuple[T, bool]:
        """The answer, and whether there are other records to deliver than before."""
        before = self._open_journal().head()
        try:
            answer = question(self._open_journal())
        except StorageBroken as error:
            answer = question(self._mend(error))
        after = self._open_journal().head()
        return answer, (after.journal, after.last) != (before.journal, before.last)

    def _append(self, entries: Sequence[tuple[Fact, Instant]]) -> list[Sealed]:
        """A commit that failed may have been made all the same: the mended journal knows."""
        journal = self._open_journal()
        try:
            return journal.append(entries)
        except StorageBroken as error:
            expected, name = journal.sealed_next(entries), journal.head().journal
            mended = self._mend(error)
            if expected and mended.holds(expected[-1], journal=name):
                return expected
            return mended.append(entries)

    def _open_journal(self) -> Journal:
        if self._journal is None:
            raise RuntimeError("the journal is not open")
        return self._journal

    def _mend(self, error: StorageBroken) -> Journal:
        now = time.monotonic()
        often = len(self._mendings) == MOST_MENDINGS and now - self._mendings[0] < MENDINGS_WITHIN_S
        if self._make is None or often:
            raise error
        log.error("the journal failed and is opened again: %s", error)
        self._mendings.append(now)
        self._mending_since = now
        try:
            self._open_journal().close()
            self._journal = self._make()
        finally:
            self._mending_since = None
        self.mended += 1
        log.warning("the journal is open again, as %s", self._journal.head().journal)
        return self._journal
