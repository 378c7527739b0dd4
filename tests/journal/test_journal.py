"""The journal keeps what it was given, in order, and knows what is open, acknowledged, quarantined and old."""

from __future__ import annotations

import sqlite3
from collections.abc import Iterator
from contextlib import suppress
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest

from agent.core.facts import ClockStepped, Fact, JournalOpened, SessionContradicted, SessionEnded
from agent.core.instants import ClockQuality
from agent.journal import AlreadyRunning, Journal, JournalError, JournalTooNew, StorageBroken, StorageFull
from agent.journal.verification import verify
from agent.wire import GENESIS, TYPES, hash_of, open_envelope, open_record
from tests.journal.samples import (
    MORNING,
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

DAY = timedelta(days=1)


@pytest.fixture
def journal(tmp_path: Path) -> Iterator[Journal]:
    with open_journal(tmp_path / "journal") as opened:
        yield opened


def test_a_new_journal_begins_with_the_reason_why(journal: Journal) -> None:
    only = open_record(bodies_of(journal)[0])
    assert only.fact == JournalOpened(reason="created", predecessor=None, salvaged=None)
    assert (only.sequence, only.previous) == (1, GENESIS)
    assert journal.head().hash == hash_of(only.body)


def test_records_are_gap_free_and_chained_over_restarts(tmp_path: Path) -> None:
    for _ in range(3):
        with open_journal(tmp_path) as journal:
            journal.append(at(authorised(), started()))
            journal.append(at(metered()))
    with open_journal(tmp_path) as journal:
        assert [one.sequence for one in everything(journal)] == list(range(1, 11))
        assert verify(bodies_of(journal), keys=None).ok
        assert len({open_envelope(body).journal for body in bodies_of(journal)}) == 1


def test_what_append_returns_is_what_is_read(journal: Journal) -> None:
    sealed = journal.append(at(authorised(), started()))
    assert list(everything(journal))[1:] == sealed
    assert journal.append([]) == []
    assert journal.head().last == 3
    assert journal.hash_at(3) == journal.head().hash == hash_of(sealed[-1].body)
    assert journal.hash_at(4) is None


def test_each_fact_keeps_the_instant_at_which_it_was_seen(journal: Journal) -> None:
    earlier, later = an_instant(MORNING), an_instant(MORNING + timedelta(seconds=40))
    journal.append([(metered(), earlier), (ended(), later)])
    assert [record.time for record in journal.recent(limit=2)] == [later.utc, earlier.utc]


def test_a_second_instance_is_told_that_one_is_running(journal: Journal, tmp_path: Path) -> None:
    with pytest.raises(AlreadyRunning, match="already running"):
        open_journal(tmp_path / "journal")
    journal.append(at(metered()))


def test_another_program_on_the_file_is_locked_out_and_named(tmp_path: Path) -> None:
    open_journal(tmp_path).close()
    other = sqlite3.connect(tmp_path / "journal.db", isolation_level=None)
    other.execute("BEGIN EXCLUSIVE")
    with pytest.raises(AlreadyRunning, match="open in another program"):
        open_journal(tmp_path)
    other.execute("ROLLBACK")
    other.close()
    with open_journal(tmp_path) as journal:
        assert journal.head().last == 1, "a lock is no damage: nothing was moved aside"


def test_the_store_is_set_up_as_promised(journal: Journal, tmp_path: Path) -> None:
    def pragma(name: str) -> object:
        return journal._database.execute(f"PRAGMA {name}").fetchone()[0]

    assert pragma("journal_mode") == "wal"
    assert pragma("locking_mode") == "exclusive"
    assert pragma("synchronous") == 2
    assert pragma("wal_autocheckpoint") == 100
    assert pragma("journal_size_limit") == 512 * 1024
    tables = journal._database.execute("SELECT sql FROM sqlite_schema WHERE type = 'table'").fetchall()
    assert all("STRICT" in sql for (sql,) in tables)
    assert not (tmp_path / "journal" / "journal.db-shm").exists()
    assert (tmp_path / "journal").stat().st_mode & 0o077 == 0


def test_reading_is_bounded_but_always_gets_on(journal: Journal) -> None:
    journal.append(at(*[metered()] * 20))
    assert [one.sequence for one in journal.read(5, records=3, size_bytes=10**6)] == [6, 7, 8]
    assert [one.sequence for one in journal.read(5, records=9, size_bytes=1)] == [6]
    assert len(journal.read(0, records=99, size_bytes=2_000)) == 3
    assert journal.read(21, records=9, size_bytes=10**6) == []


def test_acknowledgements_are_durable_and_never_move_back(tmp_path: Path) -> None:
    with open_journal(tmp_path) as journal:
        name = journal.head().journal
        journal.append(at(*[metered()] * 9))
        journal.acknowledge(journal=name, through=7, quarantined={})
        journal.acknowledge(journal=name, through=4, quarantined={})
        journal.acknowledge(journal="another", through=9, quarantined={})
        assert journal.head().acknowledged == 7
        with pytest.raises(JournalError, match="ends at 10"):
            journal.acknowledge(journal=name, through=11, quarantined={})
    with open_journal(tmp_path) as journal:
        assert journal.head().acknowledged == 7
        assert journal.statistics().backlog == 3
        assert len(everything(journal)) == 10, "acknowledging deletes nothing"


def test_quarantined_records_are_kept_whole_even_when_pruned(journal: Journal) -> None:
    journal.append(at(*[metered()] * 5))
    body = bodies_of(journal)[2]
    journal.acknowledge(journal=journal.head().journal, through=5, quarantined={3: "too large", 99: "never was"})
    journal.prune(keep=DAY, now=an_instant(MORNING + 30 * DAY))
    assert [(each.sequence, each.reason, each.body) for each in journal.quarantined()] == [(3, "too large", body)]


def test_pruning_takes_only_what_is_old_and_acknowledged(journal: Journal) -> None:
    name = journal.head().journal
    journal.append(at(*[metered()] * 4, now=an_instant(MORNING)))
    journal.append(at(*[metered()] * 4, now=an_instant(MORNING + 20 * DAY)))
    late = an_instant(MORNING + 22 * DAY)
    assert journal.prune(keep=7 * DAY, now=late) == 0, "nothing is acknowledged"
    journal.acknowledge(journal=name, through=3, quarantined={})
    assert journal.prune(keep=7 * DAY, now=late) == 3
    journal.acknowledge(journal=name, through=9, quarantined={})
    assert journal.prune(keep=7 * DAY, now=late) == 2, "the later ones are young"
    assert journal.prune(keep=DAY, now=late) == 3
    assert journal.prune(keep=DAY, now=late) == 0, "the last record stays: its hash is the head"
    assert (journal.head().first, journal.head().last) == (9, 9)
    assert journal.hash_at(8) == journal.base()[1] == open_envelope(bodies_of(journal)[0]).previous


def test_pruning_never_touches_an_open_session(journal: Journal) -> None:
    journal.append(at(metered(), authorised(), started(), metered()))
    journal.acknowledge(journal=journal.head().journal, through=5, quarantined={})
    late = an_instant(MORNING + 30 * DAY)
    assert journal.prune(keep=DAY, now=late) == 2
    assert [type(fact).__name__ for fact in journal.open_sessions()[0]] == [
        "SessionAuthorised",
        "SessionStarted",
        "SessionMetered",
    ]
    journal.append(at(ended()))
    assert journal.prune(keep=DAY, now=late) == 3


def test_pruning_is_bounded_and_survives_a_restart(tmp_path: Path) -> None:
    with open_journal(tmp_path) as journal:
        journal.append(at(*[metered()] * 600))
        journal.acknowledge(journal=journal.head().journal, through=601, quarantined={})
        assert journal.prune(keep=DAY, now=an_instant(MORNING + 30 * DAY)) == 500
    with open_journal(tmp_path) as journal:
        assert (journal.head().first, journal.head().last) == (501, 601)
        journal.append(at(metered()))
        assert journal.head().last == 602


def test_with_a_clock_in_doubt_nothing_is_old(journal: Journal) -> None:
    journal.append(at(*[metered()] * 4))
    journal.acknowledge(journal=journal.head().journal, through=4, quarantined={})
    doubtful = an_instant(MORNING + 3_650 * DAY, quality=ClockQuality.UNKNOWN)
    assert journal.prune(keep=DAY, now=doubtful) == 0


def test_a_record_sealed_in_1970_keeps_its_time_and_is_not_taken_for_old(journal: Journal) -> None:
    reset = an_instant(datetime(1970, 1, 1, tzinfo=UTC), floor=MORNING, quality=ClockQuality.UNKNOWN)
    journal.append([(metered(), reset)])
    journal.append(at(ClockStepped(step_ms=1_772_436_600_000, quality=ClockQuality.SYNCHRONISED)))
    journal.acknowledge(journal=journal.head().journal, through=3, quarantined={})
    record = journal.recent(limit=2)[1]
    assert (record.time.year, record.quality) == (1970, ClockQuality.UNKNOWN)
    assert record.id.startswith("00000000-0000-7")
    assert journal.prune(keep=7 * DAY, now=an_instant(MORNING + DAY)) == 0
    assert verify(bodies_of(journal), keys=None).ok


def test_sessions_without_an_end_are_found_after_a_restart(tmp_path: Path) -> None:
    with open_journal(tmp_path) as journal:
        journal.append(at(authorised("s-1"), started("s-1"), authorised("s-2")))
        journal.append(at(metered("s-1"), ended("s-1")))
        journal.append(at(metered("s-2")))
        journal.append(at(SessionContradicted(session="s-2", charger="left", event="x", phase="y", meter_wh=None)))
        journal.append(at(authorised("s-3")))
    with open_journal(tmp_path) as journal:
        assert journal.open_sessions() == [[authorised("s-2"), metered("s-2")], [authorised("s-3")]]
        assert journal.statistics().open_sessions == 2


def test_records_are_found_by_kind_and_by_what_they_are_about(journal: Journal) -> None:
    journal.append(at(a_refusal(), authorised("s-1"), ended("s-1"), authorised("s-2"), ended("s-2")))
    ends = journal.recent(TYPES[SessionEnded], limit=9)
    assert [record.subject for record in ends] == ["s-2", "s-1"]
    assert [record.subject for record in journal.recent(TYPES[SessionEnded], limit=9, before=ends[0].sequence)] == [
        "s-1"
    ]
    assert [record.sequence for record in journal.recent(limit=2)] == [6, 5]
    assert [record.fact for record in journal.by_subject(a_refusal().decision)] == [a_refusal()]
    assert [record.fact for record in journal.by_subject("s-1")] == [authorised("s-1"), ended("s-1")]
    assert journal.by_subject("nobody") == []


def test_an_export_is_a_whole_journal_in_one_file(journal: Journal, tmp_path: Path) -> None:
    journal.append(at(authorised(), started()))
    journal.export(tmp_path / "copy.db")
    copy = sqlite3.connect(tmp_path / "copy.db")
    assert [row[0] for row in copy.execute("SELECT body FROM record ORDER BY sequence")] == bodies_of(journal)
    copy.close()
    assert {path.name for path in tmp_path.iterdir()} == {"journal", "copy.db"}
    assert (tmp_path / "copy.db").stat().st_mode & 0o777 == 0o600
    with pytest.raises(JournalError, match="exists"):
        journal.export(tmp_path / "copy.db")
    with pytest.raises(JournalError, match="cannot export"):
        journal.export(tmp_path / "no" / "such" / "folder.db")
    journal.append(at(metered()))


def test_without_room_nothing_is_appended_and_the_journal_stays_usable(journal: Journal) -> None:
    journal.append(at(authorised()))
    limit_pages(journal, 10)
    fill(journal, a_refusal(), authorised("s-2"))
    before = journal.head()
    with pytest.raises(StorageFull, match="free some space"):
        journal.append(at(a_refusal(), authorised("s-3")))
    assert journal.head() == before
    assert len(everything(journal)) == before.last
    limit_pages(journal, 100_000)
    journal.append(at(ended()))
    assert verify(bodies_of(journal), keys=None).ok


def test_only_essential_facts_take_the_ballast(journal: Journal, tmp_path: Path) -> None:
    ballast = tmp_path / "journal" / "ballast"
    assert ballast.stat().st_size == 256 * 1024
    limit_pages(journal, 10)
    fill(journal, metered(), authorised("new"))
    assert ballast.exists()
    assert not journal.tight
    fill(journal, ended())
    assert not ballast.exists()
    assert journal.statistics().tight
    limit_pages(journal, 100_000)
    journal.append(at(metered(), now=an_instant(monotonic_ms=10**9)))
    assert ballast.exists(), "taken back as soon as there is room"


def limit_pages(journal: Journal, pages: int) -> None:
    """A full disk without a disk: SQLite then reports SQLITE_FULL. Real ones are in test_full_disk.py."""
    journal._limit_pages = lambda _: None  # type: ignore[method-assign]
    journal._database.execute(f"PRAGMA max_page_count = {pages}")


def fill(journal: Journal, *facts: Fact) -> None:
    """Append these until there is no room for them."""
    with suppress(StorageFull):
        for _ in range(1_000):
            journal.append(at(*facts))
        pytest.fail("it never got full")


def test_a_record_that_rotted_is_noticed_when_read_and_salvaged_at_the_next_start(tmp_path: Path) -> None:
    journal = open_journal(tmp_path)
    journal.append(at(authorised(), started(), metered()))
    name = journal.head().journal
    journal._database.execute("UPDATE record SET body = CAST(replace(CAST(body AS TEXT), '11000', '11001') AS BLOB)")
    with pytest.raises(StorageBroken, match="record 4"):
        everything(journal)
    with pytest.raises(StorageBroken, match="open it again"):
        journal.append(at(ended()))
    journal.close()
    with open_journal(tmp_path) as journal:
        first = open_record(bodies_of(journal)[0])
        assert first.fact == JournalOpened(reason="corrupt", predecessor=name, salvaged=3)
        assert journal.open_sessions() == [[authorised(), started()]]


def test_rot_in_the_facts_of_an_open_session_is_never_passed_over(journal: Journal) -> None:
    journal.append(at(authorised(), started()))
    journal._database.execute("UPDATE record SET body = CAST(replace(CAST(body AS TEXT), 'vans', 'vons') AS BLOB)")
    with pytest.raises(StorageBroken, match="record 2"):
        journal.open_sessions()


def test_a_journal_of_a_newer_version_is_left_alone(tmp_path: Path) -> None:
    with open_journal(tmp_path) as journal:
        journal._database.execute("PRAGMA user_version = 99")
    with pytest.raises(JournalTooNew, match="format 99"):
        open_journal(tmp_path)
    assert not list(tmp_path.glob("*.corrupt-*"))


def test_a_folder_that_cannot_be_used_is_named(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("not a folder")
    with pytest.raises(StorageBroken, match=r"file.*check it and its owner"):
        open_journal(tmp_path / "file")
