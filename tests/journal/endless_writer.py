"""Appends to a journal as fast as it can and tells each durable sequence over its standard output, until it is killed.

python -m tests.journal.endless_writer FOLDER SEED
"""

from __future__ import annotations

import os
import random
import sys
from datetime import timedelta
from pathlib import Path

from agent.journal import Journal
from tests.journal.samples import MORNING, SOURCE, a_refusal, an_instant, at, authorised, ended, metered, started


def main(folder: Path, seed: int) -> None:
    dice = random.Random(seed)
    journal = Journal.open(folder, source=SOURCE, now=an_instant())
    number = 0
    while True:
        number += 1
        session = f"{seed}-{number}"
        batch = [at(authorised(session)), at(started(session)), at(*[metered(session)] * dice.randrange(1, 12))]
        batch.append(at(ended(session)) if dice.random() < 0.9 else at(a_refusal()))
        for entries in batch:
            tell("appended", journal.append(entries)[-1].sequence)
        if dice.random() < 0.2:
            through = dice.randrange(journal.head().acknowledged, journal.head().last + 1)
            journal.acknowledge(journal=journal.head().journal, through=through, quarantined={through: "chance"})
            tell("acknowledged", through)
        if dice.random() < 0.1:
            journal.prune(keep=timedelta(days=1), now=an_instant(MORNING + timedelta(days=30)))


def tell(word: str, sequence: int) -> None:
    os.write(1, f"{word} {sequence}\n".encode())  # one write: it is in the pipe whole, whatever happens next


if __name__ == "__main__":
    main(Path(sys.argv[1]), int(sys.argv[2]))
