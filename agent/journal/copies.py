"""Read a journal that nobody writes: an exported copy, or the store of a stopped service. And make such copies.

The live store is the running service's alone (journal.py); it exports through `copy_out`.
"""

from __future__ import annotations

import os
import sqlite3
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from functools import partial
from pathlib import Path

from agent.files import sync_folder
from agent.journal.errors import JournalError
from agent.journal.folder import JournalFolder
from agent.journal.schema import connect


@dataclass(frozen=True, slots=True, kw_only=True)
class Contents:
    """All records, and what the store itself says of its two ends; as told, for verification.py to judge."""

    bodies: list[bytes]
    base_sequence: int
    base_hash: str
    last_hash: str | None


@contextmanager
def stopped_store(folder: Path) -> Iterator[sqlite3.Connection]:
    """The store of a stopped service, for reading; its lock is held meanwhile. Raises AlreadyRunning.

    After a clean stop nothing is touched. After a crash SQLite folds the WAL into the file, as the service's next start
    would; the mark of the unclean stop stays, so that this start still checks everything.
    """
    place = JournalFolder(folder)
    if not place.database.exists():
        raise JournalError(f"there is no journal in {folder}: name the service's state folder")
    lock = place.claim()
    try:
        if place.wal.exists() and place.wal.stat().st_size > 0:
            with _closing(partial(connect, place.database), place.database) as database:
                yield database
        else:
            with exported_file(place.database) as database:
                yield database
    finally:
        os.close(lock)


@contextmanager
def exported_file(path: Path) -> Iterator[sqlite3.Connection]:
    address = f"{path.absolute().as_uri()}?mode=ro&immutable=1"
    with _closing(partial(sqlite3.connect, address, uri=True, isolation_level=None), path) as database:
        yield database


def contents(database: sqlite3.Connection) -> Contents:
    base_sequence, base_hash = database.execute("SELECT base_sequence, base_hash FROM about").fetchone()
    rows = database.execute("SELECT body, hash FROM record ORDER BY sequence").fetchall()
    return Contents(
        bodies=[row[0] for row in rows],
        base_sequence=base_sequence,
        base_hash=base_hash,
        last_hash=rows[-1][1].hex() if rows else None,
    )


def copy_out(database: sqlite3.Connection, target: Path) -> None:
    """A whole, consistent copy as one file that any SQLite opens. Refuses to overwrite."""
    if target.exists():
        raise JournalError(f"{target} exists: name a new file")
    temporary = target.with_name(f".{target.name}.new")
    try:
        temporary.unlink(missing_ok=True)
        temporary.touch(mode=0o600)
        _back_up(database, temporary)
        with temporary.open("rb") as file:
            os.fsync(file.fileno())
        temporary.rename(target)
        sync_folder(target.parent)
    except (sqlite3.Error, OSError) as error:
        temporary.unlink(missing_ok=True)
        raise JournalError(f"cannot export to {target} ({error}): check the folder and the room there") from error


def _back_up(database: sqlite3.Connection, temporary: Path) -> None:
    copy = sqlite3.connect(temporary, isolation_level=None)
    try:
        database.backup(copy)
        copy.execute("PRAGMA journal_mode = DELETE")  # the copy inherits WAL, and would come with side files
    finally:
        copy.close()


@contextmanager
def _closing(open_it: Callable[[], sqlite3.Connection], path: Path) -> Iterator[sqlite3.Connection]:
    try:
        database = open_it()
    except sqlite3.Error as error:
        raise JournalError(f"{path} cannot be opened ({error}): check its name and permissions") from error
    try:
        yield database
    except sqlite3.Error as error:
        raise JournalError(f"{path} cannot be read as a journal ({error})") from error
    finally:
        database.close()
