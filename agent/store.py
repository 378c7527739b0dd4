"""The journal behind one thread: the loop awaits durability and never sits in an fsync itself.

Also the outbox that sync/uplink.py drains: not a second store but a cursor over the journal.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import TypeVar

from agent.core.facts import Fact
from agent.core.instants import Instant
from agent.journal import Journal
from sync.ports import Head, Sealed

T = TypeVar("T")


class Store:
    """Owns the journal's one thread. `opened` by the runtime; every method may raise what the journal raises."""

    def __init__(self) -> None:
        self._thread = ThreadPoolExecutor(max_workers=1, thread_name_prefix="journal")
        self._appended = asyncio.Event()
        self._journal: Journal | None = None

    async def open(self, make: Callable[[], Journal]) -> None:
        self._journal = await asyncio.get_running_loop().run_in_executor(self._thread, make)

    async def ask(self, question: Callable[[Journal], T]) -> T:
        """Run one question on the journal's thread; questions are served in the order they are put."""
        journal = self._journal
        if journal is None:
            raise RuntimeError("the journal is not open")
        return await asyncio.get_running_loop().run_in_executor(self._thread, question, journal)

    async def append(self, entries: Sequence[tuple[Fact, Instant]]) -> list[Sealed]:
        """Durable on return, in one transaction."""
        sealed = await self.ask(lambda journal: journal.append(entries))
        self._appended.set()
        return sealed

    async def close(self) -> None:
        if self._journal is not None:
            await self.ask(lambda journal: journal.close())
        self._thread.shutdown(wait=True)

    async def head(self) -> Head:
        return await self.ask(lambda journal: journal.head())

    async def read(self, after: int, *, records: int, size_bytes: int) -> list[Sealed]:
        return await self.ask(lambda journal: journal.read(after, records=records, size_bytes=size_bytes))

    async def hash_at(self, sequence: int) -> str | None:
        return await self.ask(lambda journal: journal.hash_at(sequence))

    async def acknowledge(self, *, journal: str, through: int, quarantined: Mapping[int, str]) -> None:
        await self.ask(lambda each: each.acknowledge(journal=journal, through=through, quarantined=quarantined))

    async def changed(self) -> None:
        await self._appended.wait()
        self._appended.clear()

    async def export(self, path: Path) -> None:
        await self.ask(lambda journal: journal.export(path))
