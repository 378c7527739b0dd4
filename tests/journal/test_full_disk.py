"""A full disk on real file systems: nothing durable is lost, no signal death, and a running session still ends (P3)."""

from __future__ import annotations

import subprocess
import sys
from collections.abc import Iterator
from contextlib import AbstractContextManager, suppress
from datetime import timedelta
from os import statvfs
from pathlib import Path

import pytest

from agent.journal import Journal, StorageFull
from agent.journal.verification import verify
from tests.journal.samples import (
    MORNING,
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
from tests.journal.small_disks import Unavailable, ext4, take_all_room, tmpfs

pytestmark = pytest.mark.slow

KIB, MIB = 1024, 1024 * 1024

DISKS = ("tmpfs 256 KiB", "tmpfs 1 MiB", "ext4 1 KiB blocks", "ext4 4 KiB blocks")


@pytest.fixture(params=DISKS)
def disk(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[Path]:
    folder = tmp_path / "disk"
    kinds: dict[str, AbstractContextManager[Path]] = {
        "tmpfs 256 KiB": tmpfs(folder, 256 * KIB),
        "tmpfs 1 MiB": tmpfs(folder, MIB),
        "ext4 1 KiB blocks": ext4(folder, 4 * MIB, block_bytes=1024),
        "ext4 4 KiB blocks": ext4(folder, 4 * MIB, block_bytes=4096),
    }
    chosen = kinds[request.param]
    try:
        mounted = chosen.__enter__()
    except Unavailable as reason:
        pytest.skip(f"cannot mount {request.param}: {reason}")
    try:
        yield mounted
    finally:
        chosen.__exit__(None, None, None)


def fill(journal: Journal) -> int:
    """Refusals until there is no room; how many."""
    count = 0
    with suppress(StorageFull):
        while True:
            journal.append(at(a_refusal()))
            count += 1
    return count


def test_what_was_durable_stays_and_the_running_session_ends(disk: Path) -> None:
    with open_journal(disk / "journal") as journal:
        journal.append(at(authorised("running"), started("running")))
        taken = fill(journal)
        last = journal.head().last
        assert taken > 20, "the journal must not starve on a small disk"
        with pytest.raises(StorageFull):
            journal.append(at(authorised("new")))
        journal.append(at(metered("running"), ended("running")))
        assert journal.head().last == last + 2
        assert verify(bodies_of(journal), keys=None).ok
    with open_journal(disk / "journal") as journal:
        assert journal.head().last == last + 2
        assert journal.open_sessions() == []


def test_it_opens_while_the_disk_is_full_and_ends_the_running_session(disk: Path) -> None:
    """The worst case of the reference: the writer stopped at SQLITE_FULL, a neighbour took the rest, then SIGKILL."""
    old_log = disk / "old-log"
    old_log.write_bytes(b"\xaa" * 64 * KIB)
    with subprocess.Popen(command("fill", disk), stdout=subprocess.PIPE, text=True) as writer:
        assert writer.stdout is not None
        word, last = writer.stdout.readline().split()
        take_all_room(disk)
        writer.kill()
    assert word == "full"

    done = subprocess.run(command("end", disk), capture_output=True, text=True, timeout=60, check=False)
    assert done.returncode == 0, f"exit {done.returncode}: {done.stderr}"
    assert done.stdout.splitlines() == [f"opened {last} open 1", f"ended {int(last) + 1}", "refused a new one"]

    old_log.unlink()
    with open_journal(disk / "journal") as journal:
        assert verify(bodies_of(journal), keys=None).ok
        journal.append(at(authorised("later")))


def command(verb: str, disk: Path) -> list[str]:
    return [sys.executable, "-m", "tests.journal.full_disk_writer", verb, str(disk / "journal")]


def test_a_neighbour_that_takes_what_the_reserve_gives_leaves_room_for_the_ends(disk: Path) -> None:
    """A log on the same file system grows into every block that becomes free."""
    room = statvfs(disk)
    names = [f"running-{number}" for number in range(2 if room.f_bavail * room.f_frsize < MIB // 2 else 30)]
    with open_journal(disk / "journal") as journal:
        for name in names:
            journal.append(at(authorised(name), started(name)))
        take_all_room(disk)
        fill(journal)
        for name in names:
            journal.append(at(ended(name)))
            take_all_room(disk)
        assert journal.open_sessions() == []
        assert verify(bodies_of(journal), keys=None).ok


def test_acknowledging_and_pruning_make_room_on_a_full_disk(disk: Path) -> None:
    with open_journal(disk / "journal") as journal:
        fill(journal)
        take_all_room(disk)
        journal.acknowledge(journal=journal.head().journal, through=journal.head().last - 1, quarantined={})
        late = an_instant(MORNING + timedelta(days=30))
        while journal.prune(keep=timedelta(days=7), now=late):
            pass
        if journal.statistics().size_bytes > MIB:
            assert not journal.tight, "the file system is as full as before, but the journal has room inside"
        assert fill(journal) > 20
        assert not verify(bodies_of(journal), keys=None).ok, "judged from the start it lacks what was pruned"


def test_a_first_start_on_a_full_disk_is_refused_clearly(disk: Path) -> None:
    take_all_room(disk)
    with pytest.raises(StorageFull, match="free some space"):
        open_journal(disk)
    (disk / "neighbour").unlink()
    open_journal(disk).close()
