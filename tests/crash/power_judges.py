"""What a start finds after a power cut, against what was promised before. A judge opens, reads and believes nobody."""

from __future__ import annotations

import errno
import json
import sqlite3
from collections.abc import Sequence
from contextlib import closing
from dataclasses import dataclass
from pathlib import Path

from agent.core.facts import JournalOpened
from agent.journal import Journal, StorageBroken
from agent.journal.verification import Anchor, verify
from agent.vault import Vault
from agent.wire import open_record
from tests.crash.power_cuts import Verdict
from tests.crash.power_fleet import a_cache, revision_of
from tests.crash.power_workload import OLD_RECORDS
from tests.journal.samples import SOURCE, a_refusal, an_instant, at, bodies_of

Judgement = tuple[Verdict, str]
GOOD: Judgement = (Verdict.GOOD, "")


@dataclass(frozen=True, slots=True, kw_only=True)
class Promises:
    """Everything that the workload had been told is durable."""

    journal: str | None
    key: str | None
    old: str | None
    sealed: dict[int, str]
    acknowledged: int
    revision: int

    @classmethod
    def read(cls, marks: Sequence[str]) -> Promises:
        said = [mark.split() for mark in marks]
        return cls(
            journal=next((words[1] for words in said if words[0] == "journal"), None),
            key=next((words[1] for words in said if words[0] == "key"), None),
            old=next((words[1] for words in said if words[0] == "old"), None),
            sealed={int(words[1]): words[2] for words in said if words[0] == "sealed"},
            acknowledged=max((int(words[1]) for words in said if words[0] == "acknowledged"), default=0),
            revision=max((int(words[1]) for words in said if words[0] == "revision"), default=0),
        )


@dataclass(frozen=True, slots=True)
class OurJudge:
    """`lying`: the flash lost flushed writes. Then promises are broken; what is judged is whether that is told."""

    fleet: Path
    lying: bool = False

    def __call__(self, state: Path, marks: Sequence[str]) -> Judgement:
        promises = Promises.read(marks)
        try:
            for judge in (self._key, self._old_journal, self._journal, self._policy):
                try:
                    verdict = judge(state, promises)
                except StorageBroken:
                    verdict = judge(state, promises)  # as agent/store.py does: open it again, which salvages it
                if verdict is not GOOD:
                    return verdict
        except Exception as error:  # noqa: BLE001 - whatever it is: the service would not have started
            damaged = self.lying and _file_system_refuses(state)
            return (Verdict.UNMOUNTABLE if damaged else Verdict.UNREADABLE), f"{type(error).__name__}: {error}"
        return GOOD

    def _key(self, state: Path, promises: Promises) -> Judgement:
        try:
            vault = Vault.open(state / "vault", token_key=self.fleet / "token.key", stand_in=self.lying)
        except Exception as error:
            if self.lying:
                return Verdict.FLAGGED, f"the device key: {error}"
            raise
        if vault.fault is not None:
            return Verdict.FLAGGED, f"a stand-in signs: {vault.fault}"
        if promises.key in (None, vault.kid):
            return GOOD
        return Verdict.TAIL if self.lying else Verdict.LOST, "the device has another key"

    def _old_journal(self, state: Path, promises: Promises) -> Judgement:
        """Written by the first version; its next start brings the tables up to date, or will do so now."""
        if promises.old is None:
            return GOOD
        with Journal.open(state / "old", source=SOURCE, now=an_instant()) as journal:
            whole = (journal.head().journal, journal.head().last) == (promises.old, OLD_RECORDS)
            if whole and verify(bodies_of(journal), keys=None).ok and len(journal.quarantined()) == 1:
                return GOOD
            fact = open_record(bodies_of(journal)[0]).fact
            reason = fact.reason if isinstance(fact, JournalOpened) else "none"
            return self._renewed(reason), f"the journal of the version before: {reason}"

    def _journal(self, state: Path, promises: Promises) -> Judgement:
        with Journal.open(state / "journal", source=SOURCE, now=an_instant()) as journal:
            head = journal.head()
            bodies = bodies_of(journal)
            base = Anchor(sequence=journal.base()[0], hash=journal.base()[1])
            if promises.journal not in (None, head.journal):
                fact = open_record(bodies[0]).fact
                reason = fact.reason if isinstance(fact, JournalOpened) else "none"
                return self._renewed(reason), f"a new journal: {reason}"
            finding = verify(bodies, keys=None, base=base).finding
            if finding is not None:
                return Verdict.UNREADABLE, f"the chain is broken: {finding}"
            for sequence, due in promises.sealed.items():
                if journal.hash_at(sequence) not in (None, due):
                    other = journal.read(sequence - 1, records=1, size_bytes=1)[0].body
                    return Verdict.UNREADABLE, f"another record stands where {sequence} was sealed: {other!r}"
            journal.append(at(a_refusal()))  # it goes on
            return self._ends(promises, head.last, head.acknowledged, base.sequence)

    def _renewed(self, reason: str) -> Verdict:
        """A new id where the old one should be. "created": even the marks of a history never reached the medium."""
        if not self.lying:
            return Verdict.LOST
        return {"corrupt": Verdict.FLAGGED, "storage lost": Verdict.FLAGGED, "created": Verdict.TAIL}.get(
            reason, Verdict.LOST
        )

    def _ends(self, promises: Promises, last: int, acknowledged: int, pruned: int) -> Judgement:
        if pruned > acknowledged:
            return Verdict.LOST, f"pruned up to {pruned}, acknowledged up to {acknowledged}"
        if promises.acknowledged > last:
            return (Verdict.FLAGGED if self.lying else Verdict.LOST), "the backend is ahead, which its hello tells"
        sealed = max(promises.sealed, default=0)
        if last < sealed or acknowledged < promises.acknowledged:
            detail = f"{sealed} sealed, {promises.acknowledged} acknowledged; there are {last} and {acknowledged}"
            return (Verdict.TAIL if self.lying else Verdict.LOST), detail
        return GOOD

    def _policy(self, state: Path, promises: Promises) -> Judgement:
        with closing(a_cache(state, self.fleet)) as cache:
            found = revision_of(cache)
            if cache.findings:
                return (Verdict.FLAGGED if self.lying else Verdict.UNREADABLE), "; ".join(cache.findings)
            if found < promises.revision:
                return (Verdict.TAIL if self.lying else Verdict.LOST), f"revision {found} of {promises.revision}"
        return GOOD


def _file_system_refuses(state: Path) -> bool:
    """Its own metadata is damaged, which only its check at a boot can mend; nothing can even be renamed there."""
    try:
        for path in state.rglob("*"):
            if path.lstat() and path.is_file():
                path.read_bytes()
    except OSError as error:
        return error.errno in (errno.EBADMSG, errno.EUCLEAN, errno.EIO)
    return False


def judge_database(state: Path, marks: Sequence[str]) -> Judgement:
    def numbers() -> set[int]:
        with closing(sqlite3.connect(state / "events.db")) as database:
            if database.execute("PRAGMA integrity_check").fetchall() != [("ok",)]:
                raise sqlite3.DatabaseError("integrity check")
            return {row[0] for row in database.execute("SELECT sequence FROM event")}

    return _all_there(numbers, marks, keeps=None)


def judge_json(state: Path, marks: Sequence[str]) -> Judgement:
    return _all_there(lambda: {int(key) for key in json.loads((state / "events.json").read_text())}, marks, keeps=None)


def judge_tinydb(state: Path, marks: Sequence[str]) -> Judgement:
    def numbers() -> set[int]:
        document = json.loads((state / "events.json").read_text() or "{}")
        return {each["sequence"] for each in document.get("event", {}).values()}

    return _all_there(numbers, marks, keeps=20)


def _all_there(numbers: object, marks: Sequence[str], *, keeps: int | None) -> Judgement:
    """`keeps`: so many of the newest must be there, older ones may have been pruned."""
    stored = [int(mark.split()[1]) for mark in marks]
    due = set(stored if keeps is None else stored[-keeps:])
    try:
        found = numbers()  # type: ignore[operator]
    except (OSError, ValueError, KeyError, sqlite3.Error) as error:
        return (Verdict.UNREADABLE, f"{type(error).__name__}: {error}") if stored else GOOD
    missing = len(due - found)
    return (Verdict.LOST, f"{missing} events") if missing else GOOD


NEGATIVE = {"sqlite-normal": judge_database, "json-rename": judge_json, "tinydb-prune": judge_tinydb}
