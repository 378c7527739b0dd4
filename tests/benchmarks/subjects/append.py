"""One fact becomes durable: sealed, chained, committed. Beside it plain SQLite, and the disk itself."""

from __future__ import annotations

import itertools
import os
import sqlite3
import time
from collections.abc import Callable, Sequence
from contextlib import closing
from functools import partial
from pathlib import Path

from agent.journal import Journal
from tests.benchmarks.charging_records import Entry, fill, sessions
from tests.benchmarks.gateway import SOURCE
from tests.benchmarks.measurement import Bench, Benchmark, Pairs, Row, load, spread

COMMITS = 100  # a turn
BACKLOG = 50_000
ALL = 1 << 30


def measure(bench: Bench) -> Sequence[Row]:
    return [*beside_plain_sqlite(bench), with_a_backlog(bench)]


def beside_plain_sqlite(bench: Bench) -> list[Row]:
    """The same bytes go to both: what the journal sealed is inserted beside it."""
    turns, commits = bench.runs(15), bench.size(COMMITS, 5)
    folder = bench.fresh("append")
    entries = sessions()
    to_sqlite, to_disk = Pairs(), Pairs()
    with (
        Journal.open(folder / "journal", source=SOURCE, now=next(entries)[1]) as journal,
        closing(plain_sqlite(folder / "plain.db")) as database,
        (folder / "bare").open("ab", buffering=0) as bare,
    ):
        for fact in itertools.islice(entries, commits):
            journal.append([fact])  # the first ones warm up
        for turn in range(turns):
            facts = list(itertools.islice(entries, commits))
            bodies = [one.body for one in journal.read(journal.head().last - commits, records=commits, size_bytes=ALL)]
            candidates = {
                "ours": partial(rate, commits, partial(append_one, journal), facts),
                "plain": partial(rate, commits, partial(insert, database), bodies),
                "disk": partial(rate, commits, partial(write, bare.fileno()), bodies),
            }
            # Who goes first changes from turn to turn: a disk is not as quick at the end of one as at its start.
            rates = {name: candidates[name]() for name in (reversed(candidates) if turn % 2 else candidates)}
            to_sqlite.add(rates["ours"], rates["plain"])
            to_disk.add(rates["ours"], rates["disk"])
    size = os.path.getsize(folder / "bare") / turns / commits
    return [
        Row(
            name="durable append, single",
            value=to_sqlite.value,
            unit="appends/s",
            peer="SQLite WAL FULL, the same bytes",
            peer_value=to_sqlite.peer_value,
            ratio=to_sqlite.ratio,
            runs=turns,
            note=(
                f"{commits} commits a turn, {size:.0f} bytes each; {spread(to_sqlite.ours)}; {load()}. The quicker the "
                f"disk, the more shows what a record takes beside its commit: profiled at 155 us a commit, 27 us to "
                f"seal and chain, 18 for the page of the index by session, 15 for its columns, 6 to look at the ballast"
            ),
            target=">= 0.9 x SQLite",
        ),
        Row(
            name="durable append, the disk's limit",
            value=to_disk.value,
            unit="appends/s",
            peer="write + fdatasync",
            peer_value=to_disk.peer_value,
            ratio=to_disk.ratio,
            runs=turns,
            note="shown as the limit; a journal that can be searched and pruned writes more than the bytes",
        ),
    ]


def with_a_backlog(bench: Bench) -> Row:
    turns, commits, waiting = bench.runs(15), bench.size(COMMITS, 5), bench.size(BACKLOG, 500)
    folder = bench.fresh("backlog")
    entries = sessions(seed=2)
    fill(folder / "full", waiting, source=SOURCE)
    now = next(entries)[1]
    pairs = Pairs()
    with (
        Journal.open(folder / "full", source=SOURCE, now=now) as full,
        Journal.open(folder / "empty", source=SOURCE, now=now) as empty,
    ):
        for turn in range(turns):
            facts = list(itertools.islice(entries, commits))
            # Who goes first changes from turn to turn: the disk is not as quick at the end of one as at its start.
            order = (full, empty) if turn % 2 else (empty, full)
            rates = {id(each): rate(commits, partial(append_one, each), facts) for each in order}
            pairs.add(rates[id(full)], rates[id(empty)])
    return Row(
        name=f"append with {waiting} waiting",
        value=pairs.value,
        unit="appends/s",
        peer="an empty journal",
        peer_value=pairs.peer_value,
        ratio=pairs.ratio,
        runs=turns,
        note=f"{spread(pairs.ours)} against {spread(pairs.peers)}; {load()}",
        target=">= 0.9 x empty",
    )


def rate(count: int, act: Callable[..., object], things: Sequence[Entry] | Sequence[bytes]) -> float:
    started = time.perf_counter()
    for thing in things:
        act(thing)
    return count / (time.perf_counter() - started)


def append_one(journal: Journal, entry: Entry) -> None:
    journal.append([entry])


def plain_sqlite(path: Path) -> sqlite3.Connection:
    """A journal as one would write it in an afternoon: a key, a kind, a state, the bytes."""
    database = sqlite3.connect(path, isolation_level=None)
    database.execute("PRAGMA journal_mode = WAL")
    database.execute("PRAGMA synchronous = FULL")
    database.execute("CREATE TABLE record (sequence INTEGER PRIMARY KEY, kind TEXT, body BLOB, state INTEGER)")
    return database


def insert(database: sqlite3.Connection, body: bytes) -> None:
    database.execute("BEGIN IMMEDIATE")
    database.execute("INSERT INTO record (kind, body, state) VALUES ('session', ?, 0)", (body,))
    database.execute("COMMIT")


def write(file: int, body: bytes) -> None:
    os.write(file, body)
    os.fdatasync(file)


BENCHMARK = Benchmark(name="append", about="one fact, durable", measure=measure)
