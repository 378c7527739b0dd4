"""The process dies between any two lines while it moves a damaged journal aside and takes over what can be read.

Whatever was readable is there afterwards, under the journal id it was sealed for; the session still runs (P1, P3).
"""

from __future__ import annotations

import os
import shutil
import sys
from pathlib import Path
from types import FrameType
from typing import Any

import pytest

from agent.core.facts import JournalOpened
from agent.journal import Journal
from agent.journal.folder import JournalFolder
from agent.journal.salvage import readable
from agent.wire import open_record
from tests.journal.samples import SOURCE, at, authorised, bodies_of, ended, metered, open_journal, started

WATCHED = str(Path(__file__).parents[2] / "agent" / "journal")
FILES = str(Path(__file__).parents[2] / "agent" / "files.py")
KILLED = 97
# Lines of the salvage between two kills; the first kill of a pair is aimed everywhere, the second a bit further on.
STEP = 41


@pytest.fixture
def damaged(tmp_path: Path) -> tuple[Path, dict[int, bytes]]:
    """A journal with a hole in the middle, an open session, and a WAL; and what can be read of it."""
    folder = tmp_path / "damaged"
    with open_journal(folder) as journal:
        journal.append(at(authorised("done"), started("done"), ended("done"), authorised("open"), started("open")))
        for number in range(50):
            journal.append(at(*(metered("open", number * 5 + more) for more in range(5))))
        journal.acknowledge(journal=journal.head().journal, through=20, quarantined={7: "unknown type"})
        journal._fold()
        journal.append(at(metered("open", 9_000)))
        copy = tmp_path / "copy"
        shutil.copytree(folder, copy)
    shutil.rmtree(folder)
    database = copy / "journal.db"
    with database.open("r+b") as file:
        file.seek(database.stat().st_size // 8192 * 4096)
        file.write(b"\x5a" * 4096)
    survey = {found.sequence: found.body for found in readable(database, SOURCE)}
    assert 100 < len(survey) < 257
    return copy, survey


def taken_over(folder: Path) -> Journal:
    journal = open_journal(folder)
    while journal.adopt():
        pass
    return journal


def dies_at_line(folder: Path, line: int) -> bool:
    """Whether it came so far: a child opens and takes over, and is gone without any clean-up at its n-th line."""
    child = os.fork()
    if child == 0:
        try:
            left = line

            def watch(frame: FrameType, event: str, argument: object) -> Any:
                nonlocal left
                if not frame.f_code.co_filename.startswith((WATCHED, FILES)):
                    return None
                if event == "line":
                    left -= 1
                    if left == 0:
                        os._exit(KILLED)
                return watch

            sys.settrace(watch)
            taken_over(folder).close()
            os._exit(0)
        finally:
            os._exit(2)
    _, status = os.waitpid(child, 0)
    code = os.waitstatus_to_exitcode(status)
    assert code in (0, KILLED)
    return code == KILLED


def assert_taken_over(folder: Path, survey: dict[int, bytes], line: object) -> None:
    journal = taken_over(folder)
    try:
        old = {each.journal: each for each in journal.heads()[1:]}
        held: dict[int, bytes] = {}
        for each in old:
            for one in journal.read(0, records=10_000, size_bytes=1 << 30, journal=each):
                held[one.sequence] = one.body
        assert survey.items() <= held.items(), f"line {line}: readable records are gone"
        assert len(old) == 1, f"line {line}: earlier journals {list(old)}"
        first = open_record(bodies_of(journal)[0]).fact
        assert isinstance(first, JournalOpened)
        assert first.reason == "corrupt", f"line {line}: {first}"
        assert [facts[0].session for facts in journal.open_sessions()] == ["open"], f"line {line}"
    finally:
        journal.close()


def test_a_salvage_that_died_before_its_journal_began_is_taken_up_again(
    damaged: tuple[Path, dict[int, bytes]],
) -> None:
    """Else the session that was running would be forgotten, and its end never recorded."""
    folder, survey = damaged
    JournalFolder(folder).move_aside("corrupt")

    assert_taken_over(folder, survey, "of the move")


@pytest.mark.slow
def test_a_kill_between_any_lines_of_a_salvage_loses_nothing_readable(
    damaged: tuple[Path, dict[int, bytes]], tmp_path: Path
) -> None:
    template, survey = damaged
    line, died, kills = 1, True, 0
    while died:
        folder = tmp_path / f"killed-at-{line}"
        shutil.copytree(template, folder)
        died = dies_at_line(folder, line)
        if died and kills % 2:
            dies_at_line(folder, line // 2 + 1)  # and the start that should have mended it
        assert_taken_over(folder, survey, line)
        shutil.rmtree(folder)
        kills += died
        line += STEP if line < 3_000 else 40 * STEP
    assert kills > 50


@pytest.mark.parametrize("mark", ["journal.running", "journal.id"])
@pytest.mark.parametrize("has_store", [True, False])
def test_a_mark_that_cannot_even_be_looked_at_does_not_stop_a_start(tmp_path: Path, mark: str, has_store: bool) -> None:
    """A flash that lied leaves entries in a folder that the file system itself refuses (EBADMSG)."""
    with open_journal(tmp_path) as journal:
        journal.append(at(authorised("open")))
    (tmp_path / mark).unlink(missing_ok=True)
    (tmp_path / mark).symlink_to("x" * 300)  # ENAMETOOLONG at every look
    if not has_store:
        (tmp_path / "journal.db").unlink()

    with open_journal(tmp_path) as journal:
        assert [facts[0].session for facts in journal.open_sessions()] == (["open"] if has_store else [])
        first = open_record(bodies_of(journal)[0]).fact
        assert isinstance(first, JournalOpened)
        assert first.reason == ("created" if has_store else "storage lost")
