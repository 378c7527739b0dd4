"""Gather what proves one session: where its records are in the journal, and the signed documents that belong to it."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from agent.cache.archive import Archive
from agent.core.facts import Checkpoint, DecisionMade, SessionAuthorised, SessionEnded, SessionSigned
from agent.journal import Journal
from agent.wire import TYPES
from sync.bundle import SignedBundle


class NoEvidence(Exception):
    """It cannot be had. `later`: it can once the session has ended and a checkpoint has closed it."""

    def __init__(self, text: str, *, later: bool = False) -> None:
        super().__init__(text)
        self.later = later


@dataclass(frozen=True, slots=True, kw_only=True)
class Span:
    """The records `first` to `last`, the closing checkpoint; `fingerprint` names the bundle that decided."""

    session: str
    first: int
    last: int
    fingerprint: str | None


def span_of(journal: Journal, session: str) -> Span:
    """Raises NoEvidence."""
    about = journal.by_subject(session)
    authorised = next((each.fact for each in about if isinstance(each.fact, SessionAuthorised)), None)
    if authorised is None:
        raise NoEvidence(
            f"session {session} is not in the journal, or its beginning is not kept any more: see `roamkey sessions`"
        )
    ended = next((each for each in about if isinstance(each.fact, SessionEnded)), None)
    if ended is None:
        raise NoEvidence(f"session {session} has not ended yet", later=True)
    last = max(each.sequence for each in about if isinstance(each.fact, SessionEnded | SessionSigned))
    checkpoint = journal.first_of(TYPES[Checkpoint], after=last)
    if checkpoint is None:
        raise NoEvidence(f"session {session} is not closed by a checkpoint yet", later=True)
    decided = journal.by_subject(authorised.decision)
    made = next((each.fact for each in decided if isinstance(each.fact, DecisionMade)), None)
    stamp = made.policy if made is not None else None
    return Span(
        session=session,
        first=min(each.sequence for each in (*about, *decided)),
        last=checkpoint,
        fingerprint=stamp.fingerprint if stamp is not None else None,
    )


def documents_of(
    archive: Archive, *, deciding: str | None, active: str | None, device: str, kid: str
) -> tuple[list[SignedBundle], list[str]]:
    """(bundles, what is missing). One bundle is enough when the one that decided also names the device's key."""
    from agent.cache.documents import DEVICES, DocumentUnfit, read_devices

    def vouches(bundle: SignedBundle) -> bool:
        try:
            return DEVICES in bundle.parts and kid in read_devices(bundle.parts[DEVICES]).get(device, {})
        except DocumentUnfit:
            return False

    missing: list[str] = []
    decided = archive.bundle(deciding) if deciding is not None else None
    if decided is None:
        missing.append("the policy that decided is not kept (any more) on this device")
    bundles = [] if decided is None else [decided]
    if not any(vouches(bundle) for bundle in bundles):
        newest = archive.bundle(active) if active is not None else None
        if newest is not None and vouches(newest):
            bundles.append(newest)
        else:
            missing.append(
                f"the fleet's documents do not name this device's key ({kid}): put vault/device.jwk of {device} into "
                f"devices/{device}.jwk beside policy.toml and publish; or verify with --device-key"
            )
    return bundles, missing


def told(span: Span, bundles: list[SignedBundle], missing: list[str], roots: list[bytes]) -> dict[str, Any]:
    """As the local API answers; the records themselves are read page by page."""
    return {
        "session": span.session,
        "first": span.first,
        "last": span.last,
        "roots": [root.decode() for root in roots],
        "bundles": [
            {
                "root": bundle.root,
                "timestamp": bundle.timestamp.decode(),
                "snapshot": bundle.snapshot.decode(),
                "targets": bundle.targets.decode(),
                "parts": {name: body.decode() for name, body in bundle.parts.items()},
            }
            for bundle in bundles
        ],
        "missing": missing,
    }
