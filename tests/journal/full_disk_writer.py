"""The service's part on a full disk, as a process that can be killed. Tells what it did; any signal death shows.

python -m tests.journal.full_disk_writer fill FOLDER    authorise a session, fill the disk, wait to be killed
python -m tests.journal.full_disk_writer end FOLDER     open while full, end that session, try a new one
"""

from __future__ import annotations

import signal
import sys
from pathlib import Path

from agent.journal import Journal, StorageFull
from tests.journal.samples import SOURCE, a_refusal, an_instant, at, authorised, ended, started


def main(verb: str, folder: Path) -> None:
    with Journal.open(folder, source=SOURCE, now=an_instant()) as journal:
        if verb == "fill":
            fill(journal)
        else:
            end(journal)


def fill(journal: Journal) -> None:
    journal.append(at(authorised("running"), started("running")))
    try:
        while True:
            journal.append(at(a_refusal()))
    except StorageFull:
        tell(f"full {journal.head().last}")
    signal.pause()


def end(journal: Journal) -> None:
    tell(f"opened {journal.head().last} open {len(journal.open_sessions())}")
    journal.append(at(ended("running")))
    tell(f"ended {journal.head().last}")
    try:
        for number in range(10_000):
            journal.append(at(authorised(f"new-{number}")))
    except StorageFull:
        tell("refused a new one")


def tell(line: str) -> None:
    sys.stdout.write(line + "\n")
    sys.stdout.flush()


if __name__ == "__main__":
    main(sys.argv[1], Path(sys.argv[2]))
