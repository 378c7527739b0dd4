"""A damaged journal's readable records are taken over, told with their holes, delivered and pruned by themselves."""

from __future__ import annotations

import os
import sqlite3
from contextlib import suppress
from datetime import timedelta
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from agent.core.facts import Checkpoint, Fact, JournalOpened, ReaderLost, SessionEnded
from agent.journal import Journal, StorageFull
from agent.journal.verification import verify
from agent.wire import hash_of, open_envelope, open_record
from sync.lane import MARKS, Search
from sync.ports import Head
from tests.journal.samples import (
    MORNING,
    SOURCE,
    a_refusal,
    an_instant,
    at,
    authorised,
    bodies_of,
    ended,
    metered,
    open_journal,
    started,
)

DAY = timedelta(days=1)


def lost(number: int) -> Fact:
    return ReaderLost(reader="front", cause=f"{number:04} " + "x" * 300)


def a_damaged_journal(folder: Path, *, records: int = 400) -> tuple[Head, list[bytes]]:
    """Two pages in the middle are gone; the head it had, and its records."""
    with open_journal(folder) as journal:
        journal.append(at(*(lost(number) for number in range(records))))
        journal.acknowledge(journal=journal.head().journal, through=10, quarantined={})
        head, bodies = journal.head(), bodies_of(journal)
    damage(folder)
    return head, bodies


def damage(folder: Path) -> None:
    path = folder / "journal.db"
    with path.open("r+b") as file:
        file.seek(path.stat().st_size // 8192 * 4096)
        file.write(b"\x5a" * 8192)
    (folder / "journal.running").touch()


def adopted(journal: Journal) -> Journal:
    while journal.adopt():
        pass
    return journal


def test_salvaged_records_are_offered_byte_for_byte_with_their_holes(tmp_path: Path) -> None:
    before, bodies = a_damaged_journal(tmp_path)
    with open_journal(tmp_path) as journal:
        assert [head.journal for head in journal.heads()] == [journal.head().journal], "not before all is taken over"
        present, earlier = adopted(journal).heads()
        assert present == journal.head()
        assert (earlier.journal, earlier.first, earlier.last, earlier.hash) == (
            before.journal,
            1,
            before.last,
            before.hash,
        )
        assert earlier.acknowledged == 0, "what a damaged file says of that is not believed"
        page = journal.read(0, records=1000, size_bytes=10**9, journal=earlier.journal)
        holes = {sequence for first, last in earlier.lost for sequence in range(first, last + 1)}
        assert 5 < len(holes) < 50
        assert {one.sequence: one.body for one in page} == {
            number: body for number, body in enumerate(bodies, 1) if number not in holes
        }
        assert journal.hash_at(1, journal=earlier.journal) == hash_of(bodies[0])
        assert journal.hash_at(min(holes), journal=earlier.journal) is None
        assert journal.backlog() == before.last + 1
    assert (tmp_path / "journal.db.adopted-1").exists()


def test_a_full_journal_that_is_damaged_still_fits_beside_the_new_one(tmp_path: Path) -> None:
    """Else it could never be delivered, and so never make room."""
    with Journal.open(tmp_path, source=SOURCE, now=an_instant(), max_bytes=2**20) as journal:
        with suppress(StorageFull):
            while True:
                journal.append(at(*[a_refusal()] * 10))
        before = journal.head()
    damage(tmp_path)
    with Journal.open(tmp_path, source=SOURCE, now=an_instant(), max_bytes=2**20) as journal:
        journal.append(at(*[a_refusal()] * 20))
        _, earlier = adopted(journal).heads()
        assert (earlier.first, earlier.last) == (1, before.last)
        with suppress(StorageFull):
            while True:
                journal.append(at(a_refusal()))
        assert journal.statistics().size_bytes < 2 * 2**20
        journal.acknowledge(journal=earlier.journal, through=earlier.last, quarantined={})
        while journal.relieve(now=an_instant()):
            pass
        journal.append(at(*[a_refusal()] * 20))


def test_an_interrupted_adoption_goes_on_at_the_next_start(tmp_path: Path) -> None:
    before, _ = a_damaged_journal(tmp_path)
    with open_journal(tmp_path) as journal:
        assert journal.adopt()
    with open_journal(tmp_path) as journal:
        assert adopted(journal).heads()[1].last == before.last
        assert not journal.adopt()


def test_an_earlier_journal_is_acknowledged_quarantined_and_pruned_by_itself(tmp_path: Path) -> None:
    before, bodies = a_damaged_journal(tmp_path)
    late = an_instant(MORNING + 60 * DAY)
    with open_journal(tmp_path) as journal:
        adopted(journal)
        name = before.journal
        assert journal.prune(keep=DAY, now=late) == 0, "nothing of it is acknowledged"
        journal.acknowledge(journal=name, through=30, quarantined={7: "too large"})
        journal.acknowledge(journal=name, through=20, quarantined={})
        assert journal.heads()[1].acknowledged == 30
        assert journal.head().acknowledged == 0
        assert [(each.journal, each.sequence, each.body) for each in journal.quarantined()] == [(name, 7, bodies[6])]
        assert journal.prune(keep=DAY, now=late) == 30
        assert journal.heads()[1].first == 31
        journal.acknowledge(journal=name, through=10**9, quarantined={})
        assert journal.heads()[1].acknowledged == before.last, "the backend may have more than was readable here"
        os.utime(tmp_path / "journal.db.adopted-1", (0, 0))
        while journal.prune(keep=DAY, now=late):
            pass
        assert journal.heads() == [journal.head()]
        assert not list(tmp_path.glob("journal.db.*-1")), "the evidence has had its time, too"
        journal.append(at(a_refusal()))
    with open_journal(tmp_path) as journal:
        assert verify(bodies_of(journal), keys=None).ok


def test_damage_over_damage_loses_no_more_than_what_is_unreadable(tmp_path: Path) -> None:
    """The second journal is destroyed to the last byte: the first one's file still has what it had."""
    before, bodies = a_damaged_journal(tmp_path)
    with open_journal(tmp_path) as journal:
        second = journal.head().journal
        adopted(journal)
    (tmp_path / "journal.db").write_bytes(b"nothing of a database is left " * 500)
    (tmp_path / "journal.running").touch()
    with open_journal(tmp_path) as journal:
        first = open_record(bodies_of(journal)[0]).fact
        assert isinstance(first, JournalOpened)
        assert (first.reason, first.predecessor) == ("corrupt", second)
        heads = adopted(journal).heads()
        assert [head.journal for head in heads] == [journal.head().journal, before.journal]
        page = journal.read(0, records=1000, size_bytes=10**9, journal=before.journal)
        assert len(page) >= len(bodies) - 50


def test_rot_in_an_earlier_journal_is_found_and_ends_in_another_salvage(tmp_path: Path) -> None:
    before, _ = a_damaged_journal(tmp_path)
    with open_journal(tmp_path) as journal:
        adopted(journal)
    database = sqlite3.connect(tmp_path / "journal.db", isolation_level=None)
    database.execute("UPDATE earlier_1 SET body = CAST(replace(CAST(body AS TEXT), '0399', '0398') AS BLOB)")
    database.close()
    (tmp_path / "journal.running").touch()
    with open_journal(tmp_path) as journal:
        heads = adopted(journal).heads()
        assert before.journal in [head.journal for head in heads]
        assert len(heads) == 3
        body = journal.read(before.last - 1, records=1, size_bytes=1, journal=before.journal)[0].body
        assert hash_of(body) == before.hash, "the first evidence still had it"


class TestPartingOfWays:
    """The backend and this device have different records under the same numbers."""

    def test_what_came_after_the_last_common_record_is_sealed_anew_in_order(self, tmp_path: Path) -> None:
        facts: list[Fact] = [authorised("a"), started("a"), a_refusal(), ended("a"), authorised("b"), started("b")]
        with open_journal(tmp_path) as journal:
            journal.append(at(*facts))
            journal.append(at(Checkpoint(jws="of the old chain")))
            journal.append(at(metered("b", 10)))
            old, bodies = journal.head(), bodies_of(journal)
            assert journal.diverge(journal=old.journal, agreed=4, now=an_instant())
            assert not journal.diverge(journal=old.journal, agreed=4, now=an_instant()), "told twice, done once"
            records = [open_record(body) for body in bodies_of(journal)]
            assert records[0].fact == JournalOpened(reason="diverged", predecessor=old.journal, salvaged=None, agreed=4)
            assert [record.fact for record in records[1:]] == [
                ended("a"),
                authorised("b"),
                started("b"),
                metered("b", 10),
            ]
            assert [record.time for record in records[1:]] == [open_envelope(bodies[at]).time for at in (4, 5, 6, 8)]
            assert len({record.id for record in records} | {open_envelope(body).id for body in bodies}) == 14
            assert verify(bodies_of(journal), keys=None).ok
            assert journal.open_sessions() == [[authorised("b"), started("b"), metered("b", 10)]]
            _, earlier = journal.heads()
            assert (earlier.journal, earlier.last, earlier.acknowledged) == (old.journal, 4, 4)
            assert journal._database.execute("SELECT max(sequence) FROM earlier_1").fetchone() == (9,), "evidence"
            journal.append(at(ended("b")))
        with open_journal(tmp_path) as journal:
            assert journal.open_sessions() == []
            assert journal.head().journal == records[0].journal
            assert verify(bodies_of(journal), keys=None).ok

    def test_a_session_that_began_before_it_goes_on_after_it(self, tmp_path: Path) -> None:
        with open_journal(tmp_path) as journal:
            journal.append(at(authorised(), started(), metered("s-1", 10), metered("s-1", 20), a_refusal()))
            assert journal.diverge(journal=journal.head().journal, agreed=5, now=an_instant())
            journal.append(at(metered("s-1", 30)))
        (tmp_path / "journal.running").touch()
        with open_journal(tmp_path) as journal:
            kept = [authorised(), started(), metered("s-1", 20), metered("s-1", 30)]
            assert journal.open_sessions() == [kept]
            journal.append(at(ended()))
            assert journal.open_sessions() == []

    def test_a_backend_that_only_has_more_costs_nothing_but_a_new_id(self, tmp_path: Path) -> None:
        with open_journal(tmp_path) as journal:
            journal.append(at(a_refusal()))
            old = journal.head()
            assert not journal.diverge(journal=old.journal, agreed=3, now=an_instant()), "never held here"
            assert journal.diverge(journal=old.journal, agreed=2, now=an_instant())
            assert journal.head().last == 1
            assert journal.head().journal != old.journal

    def test_it_survives_damage_of_the_new_journal(self, tmp_path: Path) -> None:
        with open_journal(tmp_path) as journal:
            journal.append(at(*(lost(number) for number in range(50))))
            old = journal.head()
            assert journal.diverge(journal=old.journal, agreed=40, now=an_instant())
            journal.append(at(*(lost(number) for number in range(200))))
        damage(tmp_path)
        with open_journal(tmp_path) as journal:
            heads = {head.journal: head for head in adopted(journal).heads()}
            assert heads[old.journal].last <= 40, "what the backend parted from is still not offered"

    def test_the_evidence_is_pruned_in_its_time(self, tmp_path: Path) -> None:
        with open_journal(tmp_path) as journal:
            journal.append(at(a_refusal(), ended(), a_refusal()))
            assert journal.diverge(journal=journal.head().journal, agreed=2, now=an_instant())
            assert journal.prune(keep=DAY, now=an_instant(MORNING + 30 * DAY)) == 4
            assert journal.heads() == [journal.head()]
            assert [type(record.fact) for record in journal.recent(limit=2)][1] is SessionEnded


@given(st.integers(1, 200_000), st.data())
def test_the_search_finds_the_last_common_record_in_a_few_rounds(last: int, data: st.DataObject) -> None:
    first = data.draw(st.integers(1, last))
    common = data.draw(st.integers(first - 1, last - 1))
    search = Search(apart=None, before=last + 1)
    rounds = 0
    while not search.is_done and (marks := search.next_marks(first)):
        rounds += 1
        assert len(marks) == len(set(marks)) <= MARKS
        assert all(first <= mark <= last for mark in marks)
        search.marks = dict.fromkeys(marks, "hash")
        search.learn(max((mark for mark in marks if mark <= common), default=0))
    assert max(search.agreed, first - 1) == common
    assert rounds <= 5


@pytest.mark.parametrize("agreed", [0, 3])
def test_a_search_is_not_led_astray_by_an_answer_to_nothing_it_asked(agreed: int) -> None:
    search = Search(apart=5, before=10)
    search.marks = {4: "a", 8: "b"}
    search.learn(agreed)
    assert (search.agreed, search.before) == (0, 4)
