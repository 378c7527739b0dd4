"""Get the readable records out of a damaged journal file. Nothing here writes to it: it is evidence.

Each row stores its record's hash just before its body, so a record is either exactly what was sealed or not taken.
Records come one by one and may come twice: a file of 256 MiB must not become as much memory.
"""

from __future__ import annotations

import json
import os
import sqlite3
from collections import defaultdict
from collections.abc import Generator, Iterator, Mapping
from contextlib import suppress
from dataclasses import dataclass
from datetime import datetime
from hashlib import sha256
from pathlib import Path
from typing import Final

from agent.core.facts import SessionAuthorised, SessionEnded, SessionFact, SessionMetered
from agent.wire import TYPES, Unreadable, hash_of, open_envelope, open_record

_BEGIN: Final = b'{"specversion":"1.0","id":"'
_HASH_BYTES = 32
# A page is 4 KiB; a longer body goes on in overflow pages, which only SQLite itself can follow.
_PAGE_BYTES = 4096
_BLOCK_BYTES = 64 * 1024
# Of the newest records the survey keeps the hashes: was a commit that failed made after all?
_TAIL_RECORDS = 2_000

_SESSION: Final = "io.roamkey.session."
_AUTHORISED, _METERED, _ENDED = TYPES[SessionAuthorised], TYPES[SessionMetered], TYPES[SessionEnded]


@dataclass(frozen=True, slots=True, kw_only=True)
class Found:
    """One record of ours, exactly as it was sealed, and where it belongs."""

    journal: str
    sequence: int
    type: str
    subject: str | None
    time: datetime
    body: bytes


@dataclass(frozen=True, slots=True, kw_only=True)
class Survey:
    """What a file still says: how many records, the facts of sessions that had not ended, the newest hashes."""

    journal: str | None
    records: int
    still_open: tuple[SessionFact, ...]
    tail: Mapping[tuple[str, int], str]


def readable(path: Path, source: str) -> Iterator[Found]:
    """What SQLite still reads, and what stands whole in the pages of file and WAL; of this device only."""
    yield from _found(_rows(path), source)
    yield from _found(_carved(path), source)
    yield from _found(_carved(path.with_name(path.name + "-wal")), source)


def survey(path: Path, source: str) -> Survey:
    seen: defaultdict[str, set[int]] = defaultdict(set)
    own: str | None = None
    tail: dict[tuple[str, int], str] = {}
    ended: set[str] = set()
    running: defaultdict[str, dict[tuple[bool, int], Found]] = defaultdict(dict)
    for found in readable(path, source):
        own = own or found.journal
        if found.sequence in seen[found.journal]:
            continue
        seen[found.journal].add(found.sequence)
        tail[found.journal, found.sequence] = hash_of(found.body)
        if len(tail) > 2 * _TAIL_RECORDS:
            tail = dict(sorted(tail.items(), key=lambda item: item[0][1])[-_TAIL_RECORDS:])
        if found.type == _ENDED and found.subject is not None:
            ended.add(found.subject)
            running.pop(found.subject, None)
        elif found.subject is not None and found.subject not in ended and found.type.startswith(_SESSION):
            _note(running[found.subject], found, is_own=found.journal == own)
    return Survey(
        journal=own,
        records=sum(len(sequences) for sequences in seen.values()),
        still_open=tuple(_facts_of(running)),
        tail=tail,
    )


def parted(path: Path) -> list[tuple[str, int]]:
    """(journal, agreed) of the journals that had parted from the backend's, as far as it can be read."""
    with suppress(sqlite3.Error):
        database = _open(path)
        try:
            rows = database.execute("SELECT journal, agreed FROM predecessor WHERE agreed IS NOT NULL").fetchall()
            return [(str(journal), int(agreed)) for journal, agreed in rows]
        finally:
            database.close()
    return []


def _note(facts: dict[tuple[bool, int], Found], found: Found, *, is_own: bool) -> None:
    """Of meter values only the newest."""
    place = (is_own, found.sequence)
    if found.type == _METERED:
        older = [at for at, each in facts.items() if each.type == _METERED]
        if any(at > place for at in older):
            return
        for at in older:
            del facts[at]
    facts[place] = found


def _facts_of(running: Mapping[str, Mapping[tuple[bool, int], Found]]) -> Iterator[SessionFact]:
    """In order; of sessions whose beginning is readable. One of a newer version must not stop a start."""
    begun = {
        session for session, facts in running.items() if any(found.type == _AUTHORISED for found in facts.values())
    }
    placed = ((place, found) for session in begun for place, found in running[session].items())
    for _, found in sorted(placed, key=lambda each: each[0]):
        with suppress(Unreadable):
            fact = open_record(found.body).fact
            if isinstance(fact, SessionFact):
                yield fact


def _found(bodies: Iterator[bytes], source: str) -> Iterator[Found]:
    for body in bodies:
        try:
            envelope = open_envelope(body)
        except Unreadable:
            continue
        if envelope.source == source:
            yield Found(
                journal=envelope.journal,
                sequence=envelope.sequence,
                type=envelope.type,
                subject=envelope.subject,
                time=envelope.time,
                body=body,
            )


def _rows(path: Path) -> Iterator[bytes]:
    for table in _tables(path):
        # From the front up to the damage, then from the back down to it.
        if not (yield from _rows_of(path, table, "ASC")):
            yield from _rows_of(path, table, "DESC")


def _tables(path: Path) -> list[str]:
    """Of the journal itself first, then those of the journals before it (earlier.py)."""
    tables = ["record", "carried"]
    with suppress(sqlite3.Error):
        database = _open(path)
        try:
            names = database.execute("SELECT name FROM sqlite_schema WHERE name GLOB 'earlier_[0-9]*'").fetchall()
            tables += sorted(str(name) for (name,) in names if str(name).removeprefix("earlier_").isdecimal())
        finally:
            database.close()
    return tables


def _rows_of(path: Path, table: str, direction: str) -> Generator[bytes, None, bool]:
    """Returns whether the end was reached."""
    try:
        database = _open(path)
    except sqlite3.Error:
        return False
    try:
        for digest, body in database.execute(f"SELECT hash, body FROM {table} ORDER BY rowid {direction}"):
            if isinstance(body, bytes) and sha256(body).digest() == digest:
                yield body
    except sqlite3.Error:
        return False
    finally:
        database.close()
    return True


def _open(path: Path) -> sqlite3.Connection:
    return sqlite3.connect(f"file:{path}?mode=ro&immutable=1", uri=True, check_same_thread=False)


def _carved(path: Path) -> Iterator[bytes]:
    """Search block by block with read(2): a block that cannot be read costs only itself (in a mapping it kills)."""
    try:
        descriptor = os.open(path, os.O_RDONLY)
    except FileNotFoundError:
        return
    try:
        for offset in range(0, os.fstat(descriptor).st_size, _BLOCK_BYTES):
            block = _block(descriptor, max(0, offset - _HASH_BYTES), _HASH_BYTES + _BLOCK_BYTES + _PAGE_BYTES)
            start = block.find(_BEGIN)
            while start >= 0:
                body = _body_at(block[start : start + _PAGE_BYTES])
                if body and sha256(body).digest() == block[max(0, start - _HASH_BYTES) : start]:
                    yield body
                start = block.find(_BEGIN, start + 1)
    finally:
        os.close(descriptor)


def _block(descriptor: int, offset: int, size: int) -> bytes:
    try:
        return os.pread(descriptor, size, offset)
    except OSError:
        return b""


def _body_at(window: bytes) -> bytes:
    """The JSON object at the window's start, or nothing."""
    text = window.decode("utf-8", "replace")
    try:
        _, end = json.JSONDecoder().raw_decode(text)
    except (ValueError, RecursionError):
        return b""
    return text[:end].encode()
