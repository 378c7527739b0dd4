"""Where settled sessions come from: a backend's database, a stopped device's journal, or a copy of one."""

from __future__ import annotations

import sqlite3
from collections.abc import Iterator
from contextlib import closing
from itertools import chain, groupby
from operator import itemgetter
from pathlib import Path

from agent.settlement.settled import Settled, once, settled_in

# An exported journal and a backend's database are both SQLite; their tables tell them apart.
_BACKEND_TABLE = "SELECT 1 FROM sqlite_schema WHERE name = 'streams'"


class SourceUnfit(Exception):
    """There are no sessions to be had there; the text says why."""


def sessions_of(path: Path, *, worked_out: bool = True) -> Iterator[Settled]:
    """Of a database of `roamkey receive`, or a journal exported by `roamkey journal export`. Raises SourceUnfit."""
    if not path.is_file():
        raise SourceUnfit(f"{path}: no such file")
    read = sessions_of_backend if is_backend(path) else sessions_of_copy
    yield from read(path, worked_out=worked_out)


def sessions_of_backend(path: Path, *, worked_out: bool) -> Iterator[Settled]:
    from sync.backend.store import Store

    try:
        with closing(Store(path)) as store:
            for device, journals in groupby(store.journals(), key=itemgetter(0)):
                each = [settled_in(store.bodies(device, journal), worked_out=worked_out) for _, journal in journals]
                # Only where a device began another journal can a session have been sealed twice.
                yield from each[0] if len(each) == 1 else once(chain.from_iterable(each))
    except sqlite3.Error as error:
        raise SourceUnfit(f"{path}: {error}") from error


def sessions_of_copy(path: Path, *, worked_out: bool) -> Iterator[Settled]:
    from agent.journal.copies import exported_file
    from agent.journal.errors import JournalError

    try:
        with exported_file(path) as database:
            yield from settled_in(stored(database), worked_out=worked_out)
    except JournalError as error:
        raise SourceUnfit(str(error)) from error


def sessions_of_device(state: Path) -> Iterator[Settled]:
    """Of a stopped service. Raises AlreadyRunning and JournalError."""
    from agent.journal.copies import stopped_store

    with stopped_store(state / "journal") as database:
        yield from settled_in(stored(database))


def stored(database: sqlite3.Connection) -> Iterator[bytes]:
    for (body,) in database.execute("SELECT body FROM record ORDER BY sequence"):
        yield body


def is_backend(path: Path) -> bool:
    address = f"{path.absolute().as_uri()}?mode=ro"
    try:
        with closing(sqlite3.connect(address, uri=True)) as database:
            return database.execute(_BACKEND_TABLE).fetchone() is not None
    except sqlite3.Error as error:
        raise SourceUnfit(f"{path}: {error}") from error
