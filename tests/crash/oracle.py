"""Compares what drivers were told with what the journal holds with what the backend stored. It reads files at rest.

Nothing is asked of the programs that were killed: the files are copied, so that the next life finds them as they were.
"""

from __future__ import annotations

import json
import shutil
from collections.abc import Iterator, Mapping
from contextlib import closing
from dataclasses import dataclass, field
from pathlib import Path

from agent.journal.copies import contents, stopped_store
from agent.journal.verification import Anchor, verify
from agent.wire import hash_of
from sync.backend.store import Store, StreamAudit


@dataclass(slots=True, kw_only=True)
class Words:
    """Everything that was told so far, over all lives of the agent."""

    journal: str | None = None
    sealed: int = 0
    sealed_hash: str = ""
    acknowledged: int = 0
    greens: set[str] = field(default_factory=set)
    stopping: set[str] = field(default_factory=set)
    started: set[str] = field(default_factory=set)
    left: set[str] = field(default_factory=set)
    ended: set[str] = field(default_factory=set)
    deaths: dict[str, int] = field(default_factory=dict)
    lives: int = 0
    openings: int = 0

    def hear(self, line: str) -> Iterator[str]:
        """Takes one line; whatever contradicts the lines before is a complaint."""
        match line.split():
            case ["life", _]:
                self.lives += 1
            case ["opened", journal, last, acknowledged]:
                yield from self._hear_opened(journal, int(last), int(acknowledged))
            case ["sealed", last, hash]:
                self.sealed, self.sealed_hash = int(last), hash
            case ["acknowledged", through]:
                self.acknowledged = max(self.acknowledged, int(through))
            case ["green", decision, outcome]:
                if outcome != "granted":
                    yield f"a green light for decision {decision}, which was {outcome}"
                self.greens.add(decision)
            case ["stopping", session]:
                self.stopping.add(session)
            case ["groundless"]:
                yield "a green light without a decision"
            case ["left", session]:
                self.left.add(session)
            case ["ended", session]:
                self.ended.add(session)
            case ["started", session]:
                self.started.add(session)
            case ["died", *_]:
                step = line.removeprefix("died ")
                self.deaths[step] = self.deaths.get(step, 0) + 1
            case _:
                pass

    def _hear_opened(self, journal: str, last: int, acknowledged: int) -> Iterator[str]:
        if self.journal not in (None, journal):
            yield f"a kill made a new journal: {journal} after {self.journal}"
        if last < self.sealed:
            yield f"{self.sealed} was durable, the next life found {last}"
        if acknowledged < self.acknowledged:
            yield f"{self.acknowledged} was acknowledged, the next life found {acknowledged}"
        self.journal = journal
        self.openings += 1


@dataclass(slots=True, kw_only=True)
class Oracle:
    """`complaints` must stay empty."""

    folder: Path
    device: str
    agent: Words = field(default_factory=Words)
    receiver: Words = field(default_factory=Words)
    complaints: list[str] = field(default_factory=list)
    looks: int = 0
    audit: StreamAudit | None = None
    journal_last: int = 0
    _read: dict[str, int] = field(default_factory=dict)
    _decisions: set[str] = field(default_factory=set)
    _authorised: set[str] = field(default_factory=set)
    _stopping: set[str] = field(default_factory=set)
    _open: set[str] = field(default_factory=set)
    _ended: dict[str, set[int]] = field(default_factory=dict)
    _stored_until: int = 0

    def listen(self) -> None:
        """Hear what was told since the last time. A line is whole: it was one write."""
        for role, words in (("agent", self.agent), ("receiver", self.receiver)):
            path = self.folder / f"told-{role}"
            if not path.exists():
                continue
            with path.open("rb") as file:
                file.seek(self._read.get(role, 0))
                text = file.read()
            self._read[role] = self._read.get(role, 0) + len(text)
            for line in text.decode().splitlines():
                self.complaints += words.hear(line)

    def look(self) -> None:
        """Nobody runs now. Every claim of the campaign is checked from the bytes on disk."""
        self.listen()
        self.looks += 1
        scratch = self.folder / "at-rest"
        shutil.rmtree(scratch, ignore_errors=True)
        stored = self._look_at_backend(scratch)
        held = self._look_at_journal(scratch, stored)
        for body in held:
            self._note(body)
        self._complain("green lights without a durable grant", self.agent.greens - self._decisions)
        self._complain("charging started without a durable authorisation", self.agent.started - self._authorised)
        self._complain("sessions forgotten", self._authorised - set(self._ended) - self._open)
        self._complain("a stop was shown that is not durable", self.agent.stopping - self._stopping)
        self._complain("sessions ended twice", {name for name, at in self._ended.items() if len(at) > 1})

    def look_at_the_end(self) -> None:
        """Everything was delivered and both stopped."""
        self.look()
        last = self.audit.through if self.audit else 0
        if self.journal_last != last:
            self.complaints.append(f"the journal ends at {self.journal_last}, the backend at {last}")

    def _look_at_backend(self, scratch: Path) -> Mapping[int, str]:
        scratch.mkdir()
        database = self.folder / "backend.db"
        if not database.exists():
            return {}
        for name in ("backend.db", "backend.db-wal"):
            if (self.folder / name).exists():
                shutil.copy(self.folder / name, scratch / name)
        with closing(Store(scratch / "backend.db")) as store:
            if store._db.execute("PRAGMA quick_check").fetchone() != ("ok",):
                self.complaints.append("the backend's database is corrupt")
            audits = store.audit()
            if len(audits) > 1 or store.unplaced():
                self.complaints.append(f"the backend holds {len(audits)} journals, {store.unplaced()} lines apart")
            for audit in audits:
                self._judge(audit)
            new = store._db.execute("SELECT sequence, body FROM records WHERE sequence > ?", (self._stored_until,))
            for _, body in new:
                self._note(body)
            self._stored_until = self.audit.through if self.audit else 0
            return dict(store._db.execute("SELECT sequence, hash FROM records").fetchall())

    def _judge(self, audit: StreamAudit) -> None:
        self.audit = audit
        wrong = {
            "stored twice": audit.stored - audit.distinct_ids,
            # Batches may overtake a lost one for a while: what is behind the gap is not acknowledged yet.
            "gaps": [gap for gap in audit.gaps if gap[0] <= audit.through],
            "declared lost": audit.declared_lost,
            "forks": audit.forks,
            "quarantined": audit.quarantined,
            "broken chain": not audit.chain_ok,
        }
        self.complaints += [f"at the backend: {what}: {found}" for what, found in wrong.items() if found]
        if audit.through < self.agent.acknowledged:
            self.complaints.append(f"acknowledged up to {self.agent.acknowledged}, stored up to {audit.through}")

    def _look_at_journal(self, scratch: Path, stored: Mapping[int, str]) -> list[bytes]:
        source = self.folder / "state" / "journal"
        if aside := list(source.glob("journal.db.*-[0-9]*")):
            self.complaints.append(f"a kill damaged the journal: {[path.name for path in aside]}")
        if self.agent.journal is None:
            return []  # killed before there was one
        shutil.copytree(source, scratch / "journal")
        with stopped_store(scratch / "journal") as database:
            held = contents(database)
            acknowledged = database.execute("SELECT acknowledged FROM about").fetchone()[0]
            self._open = {row[0] for row in database.execute("SELECT session FROM open_session")}
            if database.execute("PRAGMA integrity_check").fetchone() != ("ok",):
                self.complaints.append("the journal's database is corrupt")
        base = Anchor(sequence=held.base_sequence, hash=held.base_hash)
        self.journal_last = held.base_sequence + len(held.bodies)
        head = Anchor(sequence=self.agent.sealed, hash=self.agent.sealed_hash) if self.agent.sealed else None
        verdict = verify(held.bodies, keys=self._keys(), base=base, head=head)
        if not verdict.ok:
            self.complaints.append(f"the journal's chain: {verdict.finding}")
        if acknowledged < self.agent.acknowledged or held.base_sequence > acknowledged:
            self.complaints.append(
                f"acknowledged {acknowledged}, told {self.agent.acknowledged}, pruned up to {held.base_sequence}"
            )
        for number, body in enumerate(held.bodies, start=held.base_sequence + 1):
            if number in stored and stored[number] != hash_of(body):
                self.complaints.append(f"record {number} differs between journal and backend")
        return held.bodies

    def _keys(self) -> dict[str, str]:
        public = json.loads((self.folder / "state" / "vault" / "device.jwk").read_text())
        return {public["kid"]: json.dumps(public)}

    def _note(self, body: bytes) -> None:
        record = json.loads(body)
        match record["type"].removeprefix("io.roamkey."):
            case "decision.made" if record["data"]["outcome"] == "granted":
                self._decisions.add(record["data"]["decision"])
            case "session.authorised":
                self._authorised.add(record["data"]["session"])
            case "session.stop_requested":
                self._stopping.add(record["data"]["session"])
            case "session.ended":
                self._stopping.add(record["data"]["session"])
                self._ended.setdefault(record["data"]["session"], set()).add(int(record["sequence"]))
            case _:
                pass

    def _complain(self, what: str, which: set[str]) -> None:
        if which:
            self.complaints.append(f"{what}: {sorted(which)[:5]} ({len(which)})")
