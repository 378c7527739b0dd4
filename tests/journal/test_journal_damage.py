"""Lost, damaged and foreign stores: the service goes on under a new journal id, and says what happened (P3)."""

from __future__ import annotations

import shutil
from collections.abc import Callable
from pathlib import Path

import pytest

from agent.core.facts import Fact, JournalOpened, ReaderLost
from agent.journal import StorageBroken
from agent.journal.salvage import readable
from agent.journal.verification import verify
from agent.wire import hash_of, open_record
from tests.journal.samples import SOURCE, at, authorised, bodies_of, ended, metered, open_journal, started


def a_used_store(folder: Path) -> tuple[str, list[bytes]]:
    """About 50 pages, closed cleanly, with one session still open. Its journal id and records."""
    with open_journal(folder) as journal:
        journal.append(at(authorised("done"), started("done"), ended("done"), authorised("open"), started("open")))
        for energy_wh in range(0, 200, 20):
            journal.append(at(*(metered("open", energy_wh + more) for more in range(20))))
        return journal.head().journal, bodies_of(journal)


def opened_fact(folder: Path) -> JournalOpened:
    """The first fact of the store as it opens now; and the store works."""
    with open_journal(folder) as journal:
        first = open_record(bodies_of(journal)[0]).fact
        journal.append(at(metered()))
        assert verify(bodies_of(journal), keys=None).ok
    assert isinstance(first, JournalOpened)
    return first


def overwrite(path: Path, offset: int, content: bytes) -> None:
    with path.open("r+b") as file:
        file.seek(offset)
        file.write(content)


def zero_header(path: Path) -> None:
    overwrite(path, 0, bytes(100))


def zero_first_page(path: Path) -> None:
    overwrite(path, 0, bytes(4096))


def rot_the_schema(path: Path) -> None:
    overwrite(path, 100, b"\xa5" * 3000)


def tear_a_page_in_the_middle(path: Path) -> None:
    overwrite(path, (path.stat().st_size // 8192) * 4096, b"\x5a" * 4096)


def cut_the_file(path: Path) -> None:
    with path.open("r+b") as file:
        file.truncate(path.stat().st_size // 2 + 100)


def lose_the_last_page(path: Path) -> None:
    overwrite(path, path.stat().st_size - 4096, bytes(4096))


def flip_a_bit_inside_a_record(path: Path) -> None:
    content = path.read_bytes()
    place = content.index(b'"energy_wh":100,') + 13
    overwrite(path, place, b"9")


def replace_with_junk(path: Path) -> None:
    path.write_bytes(b"this is no database, whatever it was before" * 1000)


WAYS = (
    zero_header,
    zero_first_page,
    rot_the_schema,
    tear_a_page_in_the_middle,
    cut_the_file,
    lose_the_last_page,
    flip_a_bit_inside_a_record,
    replace_with_junk,
)


@pytest.mark.parametrize("damage", WAYS, ids=lambda way: way.__name__)
def test_a_damaged_store_is_moved_aside_and_the_service_goes_on(damage: Callable[[Path], None], tmp_path: Path) -> None:
    name, bodies = a_used_store(tmp_path)
    damage(tmp_path / "journal.db")
    damaged = (tmp_path / "journal.db").read_bytes()
    (tmp_path / "journal.running").touch()  # as after a power cut

    with open_journal(tmp_path) as journal:
        head, records = journal.head(), [open_record(body) for body in bodies_of(journal)]
        running = journal.open_sessions()
        assert verify(bodies_of(journal), keys=None).ok
        journal.append(at(ended("open")))
        while journal.adopt():
            pass
        lines = [one.body for one in journal.read(0, records=10_000, size_bytes=10**9, journal=name)]

    first = records[0].fact
    assert isinstance(first, JournalOpened)
    assert (first.reason, first.predecessor) == ("corrupt", name)
    assert head.journal != name
    assert (tmp_path / "journal.db.adopted-1").read_bytes() == damaged, "the evidence is not touched"
    assert first.salvaged == len(lines)
    assert set(lines) <= set(bodies), "salvaged records are exactly what was sealed"
    if damage is not replace_with_junk:
        assert len(lines) >= len(bodies) // 3
    if any(open_record(line).fact == authorised("open") for line in lines):
        assert running
        assert running[0][:2] == [authorised("open"), started("open")]
        assert len(running[0]) <= 3, "of the meter values only the newest is carried over"


@pytest.mark.slow
@pytest.mark.parametrize("damage", WAYS, ids=lambda way: way.__name__)
def test_damage_below_a_clean_stop_is_found_at_the_latest_after_the_failure(
    damage: Callable[[Path], None], tmp_path: Path
) -> None:
    """A clean stop is believed, so it may take one failed start or read; it never crashes twice for one damage."""
    a_used_store(tmp_path)
    damage(tmp_path / "journal.db")
    for attempt in range(2):
        try:
            journal = open_journal(tmp_path)
            try:
                journal.append(at(ended("open")))
                whole = verify(bodies_of(journal), keys=None).ok
            finally:
                journal.close()
        except StorageBroken:
            assert attempt == 0
            continue
        assert whole
        break
    else:
        pytest.fail("the second start did not get through")


def test_bit_rot_in_a_large_record_beyond_a_page_loses_that_record_only(tmp_path: Path) -> None:
    with open_journal(tmp_path) as journal:
        journal.append(at(ReaderLost(reader="front", cause="x" * 20_000), metered()))
        bodies = bodies_of(journal)
    found = {each.sequence: each.body for each in readable(tmp_path / "journal.db", SOURCE)}
    assert list(found.values()) == bodies, "SQLite follows the overflow pages"


def test_every_damage_gets_a_place_of_its_own(tmp_path: Path) -> None:
    names = []
    for _ in range(3):
        names.append(a_used_store(tmp_path)[0])
        replace_with_junk(tmp_path / "journal.db")
    assert opened_fact(tmp_path).predecessor == names[-1]
    assert sorted(path.name for path in tmp_path.glob("journal.db.corrupt-?")) == [
        f"journal.db.corrupt-{number}" for number in (1, 2, 3)
    ]
    assert len(set(names)) == 3


def test_a_store_that_vanished_is_storage_lost_and_names_its_predecessor(tmp_path: Path) -> None:
    name, _ = a_used_store(tmp_path)
    (tmp_path / "journal.db").unlink()
    assert opened_fact(tmp_path) == JournalOpened(reason="storage lost", predecessor=name, salvaged=None)


def test_an_empty_but_healthy_database_is_storage_lost_on_a_device_with_a_history(tmp_path: Path) -> None:
    """A lying flash can lose the file's whole content (reliability reference, 2.3)."""
    name, _ = a_used_store(tmp_path)
    (tmp_path / "journal.db").write_bytes(b"")
    assert opened_fact(tmp_path) == JournalOpened(reason="storage lost", predecessor=name, salvaged=None)


def test_only_what_was_moved_aside_is_history_enough(tmp_path: Path) -> None:
    a_used_store(tmp_path)
    replace_with_junk(tmp_path / "journal.db")
    opened_fact(tmp_path)
    (tmp_path / "journal.db").unlink()
    (tmp_path / "journal.id").unlink()
    assert opened_fact(tmp_path).reason == "storage lost"


def test_an_empty_file_on_a_fresh_device_is_a_first_start(tmp_path: Path) -> None:
    (tmp_path / "journal.db").write_bytes(b"")
    assert opened_fact(tmp_path) == JournalOpened(reason="created", predecessor=None, salvaged=None)


def test_a_swapped_card_is_not_continued_but_kept(tmp_path: Path) -> None:
    name, _ = a_used_store(tmp_path)
    with open_journal(tmp_path, source="/fleets/nordlicht/devices/gw-99") as journal:
        first = open_record(bodies_of(journal)[0])
        assert journal.open_sessions() == []
    assert first.fact == JournalOpened(reason="device changed", predecessor=name, salvaged=None)
    assert (tmp_path / "journal.db.foreign-1").exists()


def test_a_wal_left_by_a_crash_is_part_of_the_store(tmp_path: Path) -> None:
    journal = open_journal(tmp_path / "live")
    journal.append(at(authorised(), started()))
    shutil.copytree(tmp_path / "live", tmp_path / "crashed")
    expected = bodies_of(journal)
    journal.close()
    with open_journal(tmp_path / "crashed") as after:
        assert bodies_of(after) == expected


def test_a_torn_wal_loses_only_its_tail(tmp_path: Path) -> None:
    journal = open_journal(tmp_path / "live")
    for _ in range(10):
        journal.append(at(metered()))
    shutil.copytree(tmp_path / "live", tmp_path / "crashed")
    expected = bodies_of(journal)
    journal.close()
    wal = tmp_path / "crashed" / "journal.db-wal"
    overwrite(wal, wal.stat().st_size - 6000, b"\x00" * 3000)
    with open_journal(tmp_path / "crashed") as after:
        kept = bodies_of(after)
    assert 0 < len(kept) < len(expected)
    assert kept == expected[: len(kept)]


def test_the_salvage_finds_records_that_are_only_in_the_wal(tmp_path: Path) -> None:
    journal = open_journal(tmp_path / "live")
    journal.append(at(authorised(), started()))
    shutil.copytree(tmp_path / "live", tmp_path / "crashed")
    expected = bodies_of(journal)
    journal.close()
    found = {each.sequence: each.body for each in readable(tmp_path / "crashed" / "journal.db", SOURCE)}
    assert [hash_of(found[sequence]) for sequence in sorted(found)] == [hash_of(body) for body in expected]


def test_carried_sessions_end_like_any_other(tmp_path: Path) -> None:
    a_used_store(tmp_path)
    zero_first_page(tmp_path / "journal.db")
    facts: list[Fact] = []
    with open_journal(tmp_path) as journal:
        facts = [open_record(body).fact for body in bodies_of(journal)]
        journal.append(at(ended("open")))
        assert journal.open_sessions() == []
    assert facts[1:] == [authorised("open"), started("open"), metered("open", 199)]
