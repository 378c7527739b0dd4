"""The store is bounded, warned about in time, and what may be given up goes in the right order (P3)."""

from __future__ import annotations

import sqlite3
from contextlib import suppress
from datetime import timedelta
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from agent.core.facts import SessionEnded
from agent.journal import Journal, StorageFull
from agent.journal.schema import MIGRATIONS
from agent.journal.space import BEGINS, HYSTERESIS, Level, Space, level_of
from agent.journal.verification import Anchor, verify
from agent.wire import GENESIS, hash_of, seal
from tests.journal.samples import (
    JOURNAL,
    MORNING,
    SOURCE,
    a_refusal,
    an_instant,
    at,
    authorised,
    bodies_of,
    ended,
    everything,
    metered,
    open_journal,
    started,
)

KIB, MIB = 1024, 1024 * 1024
DAY = timedelta(days=1)


def a_space(fraction: float, *, no_reserve: bool = False) -> Space:
    return Space(used_bytes=int(fraction * 10**6), room_bytes=10**6, no_reserve=no_reserve)


@pytest.mark.parametrize(
    ("fraction", "level"),
    [
        (0.0, Level.OK),
        (0.699, Level.OK),
        (0.70, Level.FILLING),
        (0.85, Level.SCARCE),
        (0.949, Level.SCARCE),
        (0.95, Level.TIGHT),
        (1.0, Level.TIGHT),
    ],
)
def test_levels_begin_at_70_85_and_95_percent(fraction: float, level: Level) -> None:
    assert level_of(a_space(fraction)) is level


def test_without_any_reserve_nothing_new_may_begin_however_much_the_figures_say() -> None:
    assert level_of(a_space(0.1, no_reserve=True)) is Level.TIGHT


@given(st.floats(0, 1), st.sampled_from(list(Level)))
def test_a_level_once_reached_stays_until_it_is_clearly_left(fraction: float, before: Level) -> None:
    fresh, level = level_of(a_space(fraction)), level_of(a_space(fraction), before)
    order = list(Level)
    assert order.index(fresh) <= order.index(level) <= max(order.index(fresh), order.index(before))
    if level is not fresh:
        assert BEGINS[level] - HYSTERESIS - 1e-6 <= fraction < BEGINS[level]


def test_the_nearer_of_bound_and_free_disk_counts(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    with Journal.open(tmp_path, source=SOURCE, now=an_instant(), max_bytes=MIB) as journal:
        assert journal.space().room_bytes == MIB
        monkeypatch.setattr("agent.journal.journal.free_bytes", lambda folder: 64 * KIB)
        assert journal.space().room_bytes == journal.space().used_bytes + 64 * KIB


def test_the_last_of_the_bound_is_for_the_ends_of_sessions(tmp_path: Path) -> None:
    running = [f"s-{number}" for number in range(20)]
    with Journal.open(tmp_path, source=SOURCE, now=an_instant(), max_bytes=MIB) as journal:
        for name in running:
            journal.append(at(authorised(name), started(name)))
        with suppress(StorageFull):
            while True:
                journal.append(at(a_refusal()))
        assert level_of(journal.space()) is Level.TIGHT
        with pytest.raises(StorageFull):
            journal.append(at(*(authorised(f"new-{number}") for number in range(20))))
        for name in running:
            journal.append(at(ended(name)))
        assert (tmp_path / "ballast").exists(), "that is for a disk that is full, not for a bound"
        assert (tmp_path / "journal.db").stat().st_size <= MIB
        assert journal.open_sessions() == []
        assert verify(bodies_of(journal), keys=None).ok


@pytest.mark.slow
def test_a_long_life_in_little_room(tmp_path: Path) -> None:
    """Twenty times the bound goes through; pruned pages are filled again and the file never exceeds the bound."""
    body_bytes, appended, reliefs, largest = 0, 0, 0, 0
    with Journal.open(tmp_path, source=SOURCE, now=an_instant(), max_bytes=MIB) as journal:
        while body_bytes < 20 * MIB:
            sealed = journal.append(at(*[a_refusal()] * 20))
            appended += 20
            body_bytes += sum(len(one.body) for one in sealed)
            journal.acknowledge(journal=journal.head().journal, through=journal.head().last - 5, quarantined={})
            while journal.space().fraction > 0.6 and journal.relieve(now=an_instant()):
                reliefs += 1
            assert level_of(journal.space()) is Level.OK, "retention alone never warns"
            largest = max(largest, journal.statistics().size_bytes)
        base, base_hash = journal.base()
        assert journal.head().last == appended + reliefs + 1, "each relief is a record"
        assert verify(bodies_of(journal), keys=None, base=Anchor(sequence=base, hash=base_hash)).ok
    assert largest <= MIB + 600 * KIB, "the file, and its WAL"
    assert (tmp_path / "journal.db").stat().st_size <= MIB


def test_nothing_unacknowledged_is_ever_given_up(tmp_path: Path) -> None:
    with Journal.open(tmp_path, source=SOURCE, now=an_instant(), max_bytes=MIB) as journal:
        with suppress(StorageFull):
            while True:
                journal.append(at(*[a_refusal()] * 10))
        before = journal.head()
        assert journal.relieve(now=an_instant()) == 0
        assert journal.prune(keep=timedelta(0), now=an_instant(MORNING + 30 * DAY)) == 0
        journal.acknowledge(journal=before.journal, through=7, quarantined={})
        assert journal.relieve(now=an_instant()) == 7
        assert journal.relieve(now=an_instant()) == 0
        assert [one.sequence for one in everything(journal)] == list(range(8, before.last + 2)), "and what tells it"


def test_a_session_that_never_ends_does_not_hold_up_what_may_go(tmp_path: Path) -> None:
    facts = [authorised("long"), started("long"), metered("long", 100), metered("long", 200)]
    with open_journal(tmp_path) as journal:
        journal.append(at(*facts, a_refusal(), a_refusal()))
        journal.acknowledge(journal=journal.head().journal, through=7, quarantined={})
        late = an_instant(MORNING + 30 * DAY)
        assert journal.prune(keep=DAY, now=late) == 1, "by age, its records stay where they are"
        assert journal.relieve(now=an_instant()) == 5
        assert journal.head().first == 7
        journal.append(at(metered("long", 300)))
    with open_journal(tmp_path) as journal:
        (found,) = journal.open_sessions()
        assert found == [authorised("long"), started("long"), metered("long", 200), metered("long", 300)]
        journal.append(at(ended("long")))
    with open_journal(tmp_path) as journal:
        assert journal.open_sessions() == []
        assert journal._database.execute("SELECT count(*) FROM carried").fetchone() == (0,)


def test_a_store_of_the_first_format_is_taken_over_with_what_it_had_quarantined(tmp_path: Path) -> None:
    first = seal(a_refusal(), sequence=1, previous=GENESIS, journal=JOURNAL, source=SOURCE, now=an_instant())
    database = sqlite3.connect(tmp_path / "journal.db", isolation_level=None)
    database.executescript(MIGRATIONS[0])
    database.execute(
        "INSERT INTO about (only, journal, source, acknowledged, base_hash) VALUES (1, ?, ?, 1, ?)",
        (JOURNAL, SOURCE, GENESIS),
    )
    database.execute(
        "INSERT INTO record VALUES (1, 'io.roamkey.decision.made', NULL, 0, ?, ?)",
        (bytes.fromhex(hash_of(first)), first),
    )
    database.execute("INSERT INTO quarantine VALUES (1, 'too large', ?)", (first,))
    database.execute("PRAGMA user_version = 1")
    database.close()
    with open_journal(tmp_path) as journal:
        assert (journal.head().journal, journal.head().acknowledged) == (JOURNAL, 1)
        assert [(each.journal, each.sequence, each.body) for each in journal.quarantined()] == [(JOURNAL, 1, first)]
        journal.append(at(ended()))
        assert [type(record.fact) for record in journal.recent(limit=1)] == [SessionEnded]
