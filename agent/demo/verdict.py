"""Was anything lost, booked twice or bent? Judged from the device's journal and the backend's database at the end."""

from __future__ import annotations

from collections import Counter
from contextlib import closing
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from agent.clock import SystemClock
from agent.core.facts import DecisionMade, Outcome, SessionEnded, SessionStopRequested
from agent.demo.story import Done
from agent.journal import Journal
from agent.journal.verification import verify
from agent.wire import open_record, source_of
from sync.backend.store import Store


@dataclass(frozen=True, slots=True, kw_only=True)
class Verdict:
    """`lost`: sealed here and not stored there, byte for byte. `duplicated`: stored more than once."""

    taps: int
    decisions: int
    granted: int
    refused: int
    sessions: int
    energy_wh: int
    records_sealed: int
    records_stored: int
    lost: int
    duplicated: int
    duplicates_on_wire: int
    chain_ok: bool
    problems: tuple[str, ...]

    @property
    def good(self) -> bool:
        return not self.problems


def judge(*, state: Path, database: Path, fleet: str, device: str, keys: dict[str, str], done: Done) -> Verdict:
    """Compare what the drivers did, what the journal holds and what the backend stored."""
    clock = SystemClock(trusted=True)
    with closing(Journal.open(state / "journal", source=source_of(fleet, device), now=clock.now())) as journal:
        sealed = [each.body for each in journal.read(0, records=1_000_000, size_bytes=1 << 30)]
        name = journal.head().journal
    with closing(Store(database)) as store:
        stored = list(store.bodies(device, name))
        audit = next((each for each in store.audit() if each.journal == name), None)
    facts = [open_record(body).fact for body in sealed]
    decisions = [fact for fact in facts if isinstance(fact, DecisionMade)]
    stops = [fact for fact in facts if isinstance(fact, SessionStopRequested) and fact.by is not None]
    ends = [fact for fact in facts if isinstance(fact, SessionEnded)]
    counted = Counter(stored)
    verified = verify(sealed, keys=keys)
    verified_there = verify(stored, keys=keys)
    granted = sum(each.outcome is Outcome.GRANTED for each in decisions)
    lost = sum(body not in counted for body in sealed)
    duplicated = sum(times - 1 for times in counted.values())
    chain_ok = verified.ok and verified_there.ok and audit is not None and audit.chain_ok and not audit.forks
    problems = tuple(
        text
        for wrong, text in (
            (
                len(decisions) + len(stops) != done.taps,
                f"{done.taps} taps became {len(decisions)} decisions and {len(stops)} stops",
            ),
            (granted != done.granted, f"{granted} granted, {done.granted} were expected"),
            (
                len(decisions) - granted != done.refused,
                f"{len(decisions) - granted} refused, {done.refused} were expected",
            ),
            (len(ends) != done.sessions, f"{len(ends)} sessions ended, {done.sessions} were expected"),
            (lost > 0, f"{lost} records were lost"),
            (duplicated > 0, f"{duplicated} records were stored twice"),
            (not chain_ok, "the chain of records does not verify"),
        )
        if wrong
    )
    return Verdict(
        taps=len(decisions) + len(stops),
        decisions=len(decisions),
        granted=granted,
        refused=len(decisions) - granted,
        sessions=len(ends),
        energy_wh=sum(each.energy_wh for each in ends),
        records_sealed=len(sealed),
        records_stored=len(stored),
        lost=lost,
        duplicated=duplicated,
        duplicates_on_wire=audit.duplicates_on_wire if audit is not None else 0,
        chain_ok=chain_ok,
        problems=problems,
    )


def as_json(verdict: Verdict) -> dict[str, Any]:
    return {**asdict(verdict), "ok": verdict.good}
