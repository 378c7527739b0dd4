"""Judge a journal from its bytes alone: is every record there, unchanged, in its place, and signed for?

Pure. The chain proves order and wholeness among the records; a signed checkpoint proves everything before it; what was
cut off at the end only a point known from outside can show: the backend's acknowledgement, or a head seen before.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from enum import StrEnum
from typing import Final

from agent.core.facts import Checkpoint
from agent.wire import CHECKPOINT_TYPE, GENESIS, TYPES, Unreadable, checkpoint_claims, hash_of, open_envelope


class Damage(StrEnum):
    """What was done to the first bad record."""

    CHANGED = "changed"
    MISSING = "missing"
    REORDERED = "reordered"
    INSERTED = "inserted"
    TRUNCATED = "truncated"
    FOREIGN = "foreign"
    REWRITTEN = "rewritten"
    WRONG_SIGNATURE = "wrong signature"


@dataclass(frozen=True, slots=True, kw_only=True)
class Anchor:
    """A point of a journal that is known from elsewhere. `hash` None: only the position is known."""

    sequence: int
    hash: str | None


START: Final = Anchor(sequence=0, hash=GENESIS)


@dataclass(frozen=True, slots=True, kw_only=True)
class Finding:
    """The first bad record by its sequence (of the missing one, if one is missing); `position` counts from 0."""

    damage: Damage
    position: int
    at: int
    detail: str


@dataclass(frozen=True, slots=True, kw_only=True)
class Verdict:
    """`signed_through`: the last record that a good checkpoint covers; what follows is chained, not yet signed.

    With signatures left unjudged it stays at the base.
    """

    journal: str | None
    records: int
    last: int
    hash: str
    checkpoints: int
    signed_through: int
    finding: Finding | None

    @property
    def ok(self) -> bool:
        return self.finding is None


@dataclass(frozen=True, slots=True, kw_only=True)
class Seen:
    """What the chain needs of one record as it lies there; `sequence` is None when the bytes are no record at all."""

    hash: str
    sequence: int | None = None
    previous: str = ""
    journal: str = ""
    source: str = ""
    jws: str | None = None


def verify(
    records: Iterable[bytes],
    *,
    keys: Mapping[str, str] | None,
    base: Anchor = START,
    head: Anchor | None = None,
) -> Verdict:
    """Name the first bad record.

    `base` is the record before the first one (of a pruned journal), `head` a point that the journal surely reached,
    `keys` kid to public key (None leaves signatures unjudged).
    """
    seen = [_seen(body) for body in records]
    finding = _first_break(seen, base, head)
    whole = seen if finding is None else seen[: finding.position]
    checkpoints, signed_through, unsigned = _signatures(whole, keys, base)
    return Verdict(
        journal=next((one.journal for one in seen if one.sequence is not None), None),
        records=len(seen),
        last=base.sequence + len(seen),
        hash=seen[-1].hash if seen else (base.hash or ""),
        checkpoints=checkpoints,
        signed_through=signed_through,
        finding=unsigned or finding,  # a checkpoint is judged only before the break, so it comes first
    )


def _seen(body: bytes) -> Seen:
    try:
        envelope = open_envelope(body)
    except Unreadable:
        return Seen(hash=hash_of(body))
    return Seen(
        hash=hash_of(body),
        sequence=envelope.sequence,
        previous=envelope.previous,
        journal=envelope.journal,
        source=envelope.source,
        jws=str(envelope.data.get("jws")) if envelope.type == TYPES[Checkpoint] else None,
    )


def _first_break(seen: Sequence[Seen], base: Anchor, head: Anchor | None) -> Finding | None:
    """Walk the chain. A record's hash must be named by its successor, or be the known head; else it was changed."""
    named = {one.previous for one in seen}
    if head is not None and head.hash is not None:
        named.add(head.hash)
    times = Counter(one.sequence for one in seen)
    previous = base.hash
    for position, one in enumerate(seen):
        expected = base.sequence + 1 + position
        if one.sequence is None:
            return _finding(Damage.CHANGED, position, expected, "its bytes are not a record")
        if one.sequence != expected:
            return _misplaced(one.sequence, expected, position, links=one.previous == previous, times=times)
        if times[expected] > 1 and one.hash not in named:
            return _finding(Damage.INSERTED, position, expected, "another record has this sequence, and is chained")
        if one.hash not in named and _culprit(seen, position, named, head):
            return _finding(Damage.CHANGED, position, expected, "its hash is not the one that was chained")
        if previous is not None and one.previous != previous:
            return _finding(Damage.CHANGED, position, expected, "it does not follow the record before it")
        if (one.journal, one.source) != (seen[0].journal, seen[0].source):
            return _finding(Damage.FOREIGN, position, expected, f"it belongs to journal {one.journal}")
        previous = one.hash
    return _end(seen, base, head)


def _misplaced(found: int, expected: int, position: int, *, links: bool, times: Counter[int | None]) -> Finding:
    if links:  # it hangs on the record before it, so it is the right one with another number
        return _finding(Damage.CHANGED, position, expected, f"it says that it is {found}")
    if found < expected or times[found] > 1:
        return _finding(
            Damage.INSERTED, position, found, f"it stands where {expected} belongs, and once more elsewhere"
        )
    if times[expected]:
        return _finding(Damage.REORDERED, position, expected, f"{found} stands in its place")
    return _finding(Damage.MISSING, position, expected, f"{found} follows {expected - 1}")


def _culprit(seen: Sequence[Seen], position: int, named: set[str], head: Anchor | None) -> bool:
    """Nobody names this record's hash: was it changed, or was the next one, or does nothing speak for or against?"""
    sequence = seen[position].sequence
    if position + 1 == len(seen):
        return head is not None and head.hash is not None and head.sequence == sequence
    following = seen[position + 1]
    if following.sequence is None or sequence is None or following.sequence != sequence + 1:
        return False  # the next one is gone, moved or broken, and is named when its turn comes
    if following.hash in named:
        return True
    # The next one is not vouched for either: then it is the next one that was changed, unless it is the unproven end.
    return position + 2 == len(seen) and not _culprit(seen, position + 1, named, head)


def _end(seen: Sequence[Seen], base: Anchor, head: Anchor | None) -> Finding | None:
    last = base.sequence + len(seen)
    if not seen:
        return _finding(Damage.TRUNCATED, 0, last + 1, "there is no record at all")
    if head is None or head.sequence <= base.sequence:
        return None
    if last < head.sequence:
        return _finding(Damage.TRUNCATED, len(seen), last + 1, f"the journal had reached {head.sequence}")
    position = head.sequence - base.sequence - 1
    if head.hash is not None and seen[position].hash != head.hash:
        return _finding(Damage.REWRITTEN, position, head.sequence, "another record was known to be here")
    return None


def _signatures(seen: Sequence[Seen], keys: Mapping[str, str] | None, base: Anchor) -> tuple[int, int, Finding | None]:
    """How many checkpoints there are, through which record the good ones reach, and the first bad one."""
    from sync.signing import SigningError
    from sync.signing import verify as payload_of

    count, through = 0, base.sequence
    for position, one in enumerate(seen):
        if one.jws is None or one.sequence is None:
            continue
        count += 1
        if keys is None:
            continue
        try:
            said = payload_of(one.jws, keys, typ=CHECKPOINT_TYPE)
        except SigningError as error:
            return count, through, _finding(Damage.WRONG_SIGNATURE, position, one.sequence, str(error))
        before = seen[position - 1].hash if position else base.hash
        if not _covers(said, one, before):
            detail = f"its signature is for another journal: records {through + 1} to {one.sequence} are not proven"
            return count, through, _finding(Damage.REWRITTEN, position, one.sequence, detail)
        through = one.sequence - 1
    return count, through, None


def _covers(said: Mapping[str, object], checkpoint: Seen, before: str | None) -> bool:
    if checkpoint.sequence is None:
        return False
    try:
        due = checkpoint_claims(
            source=checkpoint.source,
            journal=checkpoint.journal,
            sequence=checkpoint.sequence - 1,
            hash=before if before is not None else str(said.get("hash")),
        )
    except ValueError:
        return False
    return all(said.get(name) == value for name, value in due.items())


def _finding(damage: Damage, position: int, at: int, detail: str) -> Finding:
    return Finding(damage=damage, position=position, at=at, detail=detail)
