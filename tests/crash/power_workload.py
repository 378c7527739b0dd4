"""What runs while the power fails: our own stores, and three popular ways of storing that a power cut destroys.

Each promise is told as a mark, after the call that makes it has returned. Judged by power_judges.py.

python -m tests.crash.power_workload NAME STATE MARK SEED EVENTS [FLEET]
"""

from __future__ import annotations

import asyncio
import json
import random
import sqlite3
import sys
from collections.abc import Callable
from datetime import timedelta
from pathlib import Path

from tests.crash.power_cuts import put_mark

Tell = Callable[[str], None]


def roamkey(state: Path, tell: Tell, chance: random.Random, events: int, fleet: Path) -> None:
    """First start with its keys, then sessions, checkpoints, acknowledgements, pruning, restarts, new policies."""
    from agent.journal import Journal
    from agent.vault import Vault
    from tests.crash.power_fleet import a_cache, next_revision
    from tests.journal.samples import MORNING, SOURCE, a_refusal, an_instant, at, authorised, ended, metered, started

    def opened() -> Journal:
        journal = Journal.open(state / "journal", source=SOURCE, now=an_instant())
        tell(f"journal {journal.head().journal}")
        return journal

    vault = Vault.open(state / "vault", token_key=fleet / "token.key")
    tell(f"key {vault.kid}")
    tell(f"old {write_version_1(state / 'old')}")
    Journal.open(state / "old", source=SOURCE, now=an_instant()).close()
    journal, cache = opened(), a_cache(state, fleet)
    policy_due = {events * share // 5 for share in range(5)}
    restarts = {events // 3, events * 2 // 3}
    for number in range(events):
        name = f"{number // 4}"
        facts = (authorised(name), started(name), metered(name), ended(name))
        batch = [facts[number % 4]] if chance.random() < 0.8 else [facts[number % 4], a_refusal()]
        sealed = journal.append(at(*batch))
        if number % 9 == 8:
            sealed = [journal.seal_checkpoint(vault, an_instant())]
        tell(f"sealed {sealed[-1].sequence} {journal.head().hash}")
        if number % 7 == 6:
            head = journal.head()
            through = chance.randint(head.acknowledged, head.last)
            journal.acknowledge(journal=head.journal, through=through, quarantined={through: "unknown type"})
            tell(f"acknowledged {through}")
        if number % 13 == 12:
            journal.prune(keep=timedelta(days=1), now=an_instant(MORNING + timedelta(days=30)))
        if number in policy_due:
            tell(f"revision {asyncio.run(next_revision(cache, fleet))}")
        if number in restarts:
            journal.close()
            cache.close()
            journal, cache = opened(), a_cache(state, fleet)
    journal.close()
    cache.close()


OLD_RECORDS = 20


def write_version_1(folder: Path) -> str:
    """A journal as the first version left it, for its next start to bring up to date; its id."""
    from agent.journal.opening import chain
    from agent.journal.schema import MIGRATIONS, connect, insert
    from agent.wire import GENESIS
    from sync.ports import Head
    from tests.journal.samples import JOURNAL, SOURCE, a_refusal, at

    folder.mkdir()
    entries = at(*[a_refusal()] * OLD_RECORDS)
    sealed = chain(entries, head=Head(journal=JOURNAL, first=1, last=0, hash="", acknowledged=0), source=SOURCE)
    database = connect(folder / "journal.db")
    database.execute("BEGIN")
    for statement in filter(str.strip, MIGRATIONS[0].split(";")):
        database.execute(statement)
    database.execute(
        "INSERT INTO about (only, journal, source, base_hash) VALUES (1, ?, ?, ?)", (JOURNAL, SOURCE, GENESIS)
    )
    database.execute("INSERT INTO quarantine VALUES (3, 'unknown type', ?)", (sealed[2].body,))
    insert(database, entries, sealed)
    database.execute("PRAGMA user_version = 1")
    database.execute("COMMIT")
    database.close()
    return JOURNAL


# What the tester must be able to destroy; if it cannot, it proves nothing about ours.


def sqlite_normal(state: Path, tell: Tell, chance: random.Random, events: int) -> None:
    """The popular advice for WAL."""
    database = sqlite3.connect(state / "events.db", isolation_level=None)
    for pragma in ("locking_mode = EXCLUSIVE", "journal_mode = WAL", "synchronous = NORMAL", "wal_autocheckpoint = 60"):
        database.execute(f"PRAGMA {pragma}")
    database.execute("CREATE TABLE event (sequence INTEGER PRIMARY KEY, body TEXT)")
    for number in range(1, events + 1):
        database.execute("INSERT INTO event VALUES (?, ?)", (number, an_event(number)))
        tell(f"stored {number}")


def json_rename(state: Path, tell: Tell, chance: random.Random, events: int) -> None:
    """Temporary file and rename, but no fsync."""
    stored: dict[str, str] = {}
    for number in range(1, events + 1):
        stored[str(number)] = an_event(number)
        temporary = state / "events.new"
        temporary.write_text(json.dumps(stored))
        temporary.rename(state / "events.json")
        tell(f"stored {number}")


def tinydb_prune(state: Path, tell: Tell, chance: random.Random, events: int) -> None:
    """TinyDB as it comes, with retention."""
    from tinydb import TinyDB, where

    table = TinyDB(state / "events.json").table("event")
    for number in range(1, events + 1):
        table.insert({"sequence": number, "body": an_event(number)})
        tell(f"stored {number}")
        if number % 10 == 0:
            table.remove(where("sequence") <= number - 30)


def an_event(number: int) -> str:
    return json.dumps(
        {"sequence": number, "type": "metered", "session": f"s-{number // 4}", "wh": 500, "pad": "x" * 99}
    )


WORKLOADS = {"sqlite-normal": sqlite_normal, "json-rename": json_rename, "tinydb-prune": tinydb_prune}


def main(name: str, state: str, mark: str, seed: str, events: str, fleet: str = "") -> None:
    def tell(text: str) -> None:
        put_mark(Path(mark), text)

    chance = random.Random(int(seed))
    if name == "roamkey":
        roamkey(Path(state), tell, chance, int(events), Path(fleet))
    else:
        WORKLOADS[name](Path(state), tell, chance, int(events))


if __name__ == "__main__":
    main(*sys.argv[1:])
