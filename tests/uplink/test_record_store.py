"""The backend's store: each record once, in chain; forks kept beside; nothing waits behind what cannot be read."""

from __future__ import annotations

import contextlib
import sqlite3
from collections.abc import Iterator
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from sync.backend.records import read_record
from sync.backend.store import Delivery, Store, StreamAudit, StreamState
from sync.memory_outbox import MemoryOutbox
from sync.messages import Hello, Withheld
from sync.topics import DeviceTopics

SOURCE = DeviceTopics(fleet="f1", device="gw-1").source


@pytest.fixture
def store(tmp_path: Path) -> Iterator[Store]:
    with contextlib.closing(Store(tmp_path / "records.sqlite")) as store:
        yield store


def a_journal(count: int) -> MemoryOutbox:
    outbox = MemoryOutbox(fleet="f1", device="gw-1")
    outbox.seal_many(count)
    return outbox


def deliver(store: Store, outbox: MemoryOutbox, *sequences: int) -> StreamState:
    lines = tuple(read_record(outbox.body(sequence), SOURCE) for sequence in sequences)
    (state,) = store.take([Delivery(device="gw-1", lines=lines)])
    return state


def hello(outbox: MemoryOutbox, **changes: object) -> Hello:
    fields = {"nonce": "n", "journal": outbox.journal, "first": 1, "last": 10, "hash": "", **changes}
    return Hello(**fields)  # type: ignore[arg-type]


def audit(store: Store) -> StreamAudit:
    (stream,) = store.audit()
    return stream


def test_the_acknowledged_prefix_is_contiguous(store: Store) -> None:
    journal = a_journal(6)
    assert deliver(store, journal, 1, 2).through == 2
    assert deliver(store, journal, 5, 6).missing == ((3, 4),)
    assert deliver(store, journal, 4).through == 2
    state = deliver(store, journal, 3)
    assert (state.through, state.missing) == (6, ())


def test_a_record_delivered_again_is_counted_and_not_stored_again(store: Store) -> None:
    journal = a_journal(3)
    deliver(store, journal, 1, 2, 3)
    assert deliver(store, journal, 2, 3).through == 3
    assert (audit(store).stored, audit(store).duplicates_on_wire) == (3, 2)


@settings(max_examples=30, deadline=None)
@given(st.permutations(range(1, 13)), st.lists(st.integers(1, 12), max_size=10))
def test_order_and_repetition_on_the_wire_never_matter(order: list[int], again: list[int]) -> None:
    journal = a_journal(12)
    with contextlib.closing(Store(Path(":memory:"))) as store:
        for sequence in [*order, *again]:
            deliver(store, journal, sequence)
        result = audit(store)
        assert (result.stored, result.through, result.gaps, result.chain_ok) == (12, 12, (), True)
        assert result.duplicates_on_wire == len(again)
        assert list(store.bodies("gw-1", journal.journal)) == [journal.body(at) for at in range(1, 13)]


def test_other_bytes_for_a_known_sequence_are_a_fork_and_overwrite_nothing(store: Store) -> None:
    journal = a_journal(5)
    original = [journal.body(at) for at in range(1, 6)]
    deliver(store, journal, 1, 2, 3)
    journal.rewrite(3)

    state = deliver(store, journal, 3)

    assert state.through == 3
    assert audit(store).forks == 1
    assert list(store.bodies("gw-1", journal.journal)) == original[:3]
    # What continues the falsified record does not continue ours.
    state = deliver(store, journal, 4)
    assert (state.through, state.fork) == (3, 4)
    assert audit(store).forks == 2


def test_a_broken_chain_is_found_also_when_the_gap_is_filled_later(store: Store) -> None:
    journal = a_journal(5)
    deliver(store, journal, 1)
    journal.rewrite(2)
    deliver(store, journal, 3, 4)
    other = MemoryOutbox(fleet="f1", device="gw-1", journal=journal.journal)
    other._bodies, other._hashes = [journal.body(1)], list(journal._hashes[:1])
    other.seal(something="else")

    state = deliver(store, other, 2)

    assert (state.through, state.fork) == (2, 3)


@pytest.mark.parametrize(
    "line",
    [
        b"",
        b"nonsense",
        b"[]",
        b"{}",
        b"\xff\xfe",
        b'{"specversion":"1.0"}',
        b"[" * 10_000,
        b'{"sequence": ' + b"9" * 5000 + b"}",
    ],
)
def test_an_unreadable_line_is_kept_aside_and_its_neighbours_go_on(store: Store, line: bytes) -> None:
    journal = a_journal(1)
    if line:
        journal.append(line)
    else:
        journal.append(b" ")
    journal.seal_many(1)

    state = deliver(store, journal, 1, 2, 3)

    assert (state.through, set(state.quarantined)) == (3, {2})
    assert (audit(store).stored, audit(store).chain_ok) == (2, True)


def test_a_record_of_another_device_is_kept_aside(store: Store) -> None:
    journal = a_journal(2)
    stranger = MemoryOutbox(fleet="f1", device="gw-9", journal=journal.journal)
    stranger._bodies, stranger._hashes = list(journal._bodies), list(journal._hashes)
    stranger.seal_many(1)

    state = deliver(store, stranger, 1, 2, 3)

    assert state.through == 3
    assert "source is not" in state.quarantined[3]


def test_two_unreadable_lines_alone_find_their_place_by_their_successors(store: Store) -> None:
    journal = a_journal(1)
    journal.append(b"\x00")
    journal.append(b"\x01")
    journal.seal_many(1)
    deliver(store, journal, 1)
    for sequence in (2, 3):
        assert store.take([Delivery(device="gw-1", lines=(read_record(journal.body(sequence), SOURCE),))]) == []
    assert store.unplaced() == {"gw-1": 2}

    state = deliver(store, journal, 4)
    assert (state.through, state.missing) == (1, ((2, 3),))

    # The device sends the gap with the record after it, as asked.
    assert deliver(store, journal, 2, 3, 4).through == 4
    assert audit(store).quarantined.keys() == {2, 3}


def test_a_withheld_record_counts_as_handled_and_keeps_the_chain(store: Store) -> None:
    journal = a_journal(4)
    deliver(store, journal, 1)
    withheld = {2: Withheld(hash=journal._hashes[1], reason="too large")}

    assert store.greet("gw-1", hello(journal, withheld=withheld)).through == 2
    assert deliver(store, journal, 3, 4).through == 4
    assert audit(store).chain_ok

    # The limit was raised: it arrives after all.
    deliver(store, journal, 2)
    assert (audit(store).stored, audit(store).quarantined) == (4, {})


def test_a_forged_claim_of_a_withheld_record_gives_way_to_the_record(store: Store) -> None:
    """A hello is not signed: whoever sits between could make one up."""
    journal = a_journal(4)
    forged = {at: Withheld(hash="ab" * 32, reason="made up") for at in (2, 4)}
    assert store.greet("gw-1", hello(journal, withheld=forged)).through == 0
    assert deliver(store, journal, 1).through == 2

    state = deliver(store, journal, 2, 3, 4)

    assert (state.through, state.hash, state.quarantined) == (4, journal._hashes[3], {})
    assert (audit(store).forks, audit(store).chain_ok, store.count()) == (0, True, 4)


def test_what_the_device_no_longer_holds_is_declared_and_not_waited_for(store: Store) -> None:
    journal = a_journal(10)
    deliver(store, journal, 1, 2)
    state = store.greet("gw-1", hello(journal, first=6))
    assert (state.through, state.hash) == (5, "")
    assert deliver(store, journal, 6, 7).through == 7
    result = audit(store)
    assert (result.gaps, result.declared_lost, result.chain_ok) == (((3, 5),), ((3, 5),), True)


def test_a_forged_hello_costs_nothing_once_the_device_says_hello_itself(store: Store) -> None:
    journal = a_journal(10)
    deliver(store, journal, 1, 2)
    assert store.greet("gw-1", hello(journal, first=10**12, last=10**12)).through == 10**12 - 1

    state = store.greet("gw-1", hello(journal))

    assert (state.through, state.hash) == (2, journal._hashes[1])
    assert deliver(store, journal, 3, 4, 5).through == 5
    assert audit(store).declared_lost == ()


def test_a_store_survives_being_opened_again(tmp_path: Path) -> None:
    journal = a_journal(3)
    with contextlib.closing(Store(tmp_path / "s")) as store:
        deliver(store, journal, 1, 2, 3)
    with contextlib.closing(Store(tmp_path / "s")) as store:
        (state,) = store.states()
        assert (state.through, state.hash) == (3, journal._hashes[2])


def test_a_store_of_a_newer_program_is_refused(tmp_path: Path) -> None:
    with contextlib.closing(sqlite3.connect(tmp_path / "s")) as db:
        db.execute("PRAGMA user_version = 7")
    with pytest.raises(sqlite3.DatabaseError, match="schema version 7"):
        Store(tmp_path / "s")


def test_a_changed_byte_in_the_store_is_found_by_the_audit(store: Store) -> None:
    journal = a_journal(3)
    deliver(store, journal, 1, 2, 3)
    store._db.execute("UPDATE records SET body = ? WHERE sequence = 2", (b"x",))
    assert not audit(store).chain_ok


def test_a_store_of_the_first_format_is_taken_over_whole(tmp_path: Path) -> None:
    with contextlib.closing(sqlite3.connect(tmp_path / "old.sqlite", isolation_level=None)) as db:
        db.executescript(FIRST_FORMAT)
        db.execute("INSERT INTO streams VALUES (1, 'gw-1', 'j', '', 2, ?, 0)", ("b" * 64,))
        rows = [(1, 1, "a" * 64, "0" * 64, "id-1", b"{}", None), (1, 2, "b" * 64, None, None, b"junk", "not JSON")]
        db.executemany("INSERT INTO records VALUES (?, ?, ?, ?, ?, ?, ?)", rows)

    with contextlib.closing(Store(tmp_path / "old.sqlite")) as store:
        (state,) = store.states()

        assert (state.through, state.hash, state.quarantined) == (2, "b" * 64, {2: "not JSON"})
        assert list(store.bodies("gw-1", "j")) == [b"{}"]


FIRST_FORMAT = """
CREATE TABLE streams (
    stream INTEGER PRIMARY KEY, device TEXT NOT NULL, journal TEXT NOT NULL, nonce TEXT NOT NULL DEFAULT '',
    through INTEGER NOT NULL DEFAULT 0, through_hash TEXT NOT NULL, duplicates INTEGER NOT NULL DEFAULT 0,
    UNIQUE (device, journal)
) STRICT;
CREATE TABLE records (
    stream INTEGER NOT NULL REFERENCES streams (stream), sequence INTEGER NOT NULL, hash TEXT NOT NULL,
    previous TEXT, id TEXT, body BLOB, quarantined TEXT, PRIMARY KEY (stream, sequence)
) STRICT, WITHOUT ROWID;
CREATE INDEX quarantined_records ON records (stream, sequence) WHERE quarantined IS NOT NULL;
CREATE TABLE lost (
    stream INTEGER NOT NULL, first INTEGER NOT NULL, last INTEGER NOT NULL, PRIMARY KEY (stream, first)
) STRICT, WITHOUT ROWID;
CREATE TABLE forks (
    stream INTEGER NOT NULL, sequence INTEGER NOT NULL, hash TEXT NOT NULL, reason TEXT NOT NULL,
    body BLOB NOT NULL, seen INTEGER NOT NULL DEFAULT 1, PRIMARY KEY (stream, sequence, hash)
) STRICT;
CREATE TABLE unplaced (
    device TEXT NOT NULL, hash TEXT NOT NULL, reason TEXT NOT NULL, body BLOB NOT NULL,
    seen INTEGER NOT NULL DEFAULT 1, PRIMARY KEY (device, hash)
) STRICT;
PRAGMA user_version = 1;
"""
