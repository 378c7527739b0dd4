"""The evidence of one session as one file: what it holds, and its one way to be written.

Written in exactly one form, with a digest over it, so that no changed byte passes unseen. What it proves is judged in
judgement.py, where it comes from is collection.py.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Final

from agent.wire import Unreadable, open_envelope
from sync.bundle import SignedBundle

FORMAT: Final = "roamkey-evidence/1"
# A session of three weeks with a sample a minute is 30 MB; nothing larger is taken.
MAX_BYTES = 64 * 1024 * 1024

ABOUT: Final = (
    "Evidence of one charging session. `records` are the device's sealed records, byte for byte, from the first one "
    "about the session to the checkpoint that closed it: each names the SHA-256 of the one before, and the checkpoint "
    "is signed by the device. Records of other sessions in between are here, because a record can only be linked by "
    "its bytes. `bundles` are the fleet's signed documents: the policy that decided, and the list of devices that "
    "names the signing key. `roots` lead from the root that devices were set up with to the one that signed those. "
    "Check it with: roamkey evidence --verify FILE --root root.json"
)


class NotEvidence(Exception):
    """The bytes are no evidence file; the text says why."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Evidence:
    """Claims, until it is judged."""

    fleet: str
    device: str
    session: str
    records: Sequence[bytes]
    device_key: Mapping[str, str]
    roots: Sequence[bytes]
    bundles: Sequence[SignedBundle]


def to_bytes(evidence: Evidence) -> bytes:
    told: dict[str, Any] = {
        "format": FORMAT,
        "about": ABOUT,
        "fleet": evidence.fleet,
        "device": evidence.device,
        "session": evidence.session,
        "summary": summary(evidence.records, evidence.session),
        "records": [body.decode() for body in evidence.records],
        "device_key": dict(evidence.device_key),
        "roots": [body.decode() for body in evidence.roots],
        "bundles": [
            {
                "root": bundle.root,
                "fingerprint": bundle.fingerprint,
                "timestamp": bundle.timestamp.decode(),
                "snapshot": bundle.snapshot.decode(),
                "targets": bundle.targets.decode(),
                "parts": {name: body.decode() for name, body in bundle.parts.items()},
            }
            for bundle in evidence.bundles
        ],
    }
    told["digest"] = hashlib.sha256(_written(told)).hexdigest()
    return _written(told)


def from_bytes(body: bytes) -> Evidence:
    """What the file claims. Raises NotEvidence for anything that is not exactly as `to_bytes` writes it."""
    if len(body) > MAX_BYTES:
        raise NotEvidence(f"it has {len(body)} bytes, more than {MAX_BYTES}")
    try:
        told = json.loads(body)
        evidence = Evidence(
            fleet=_text(told["fleet"]),
            device=_text(told["device"]),
            session=_text(told["session"]),
            records=tuple(_text(each).encode() for each in told["records"]),
            device_key={_text(name): _text(value) for name, value in told["device_key"].items()},
            roots=tuple(_text(each).encode() for each in told["roots"]),
            bundles=tuple(_bundle(each) for each in told["bundles"]),
        )
        again = to_bytes(evidence)
    except (ValueError, KeyError, TypeError, AttributeError, RecursionError) as error:
        raise NotEvidence(f"it cannot be read: {type(error).__name__}: {str(error)[:100]}") from None
    if again != body:
        raise NotEvidence("it is not as it was written: its digest, its summary or its form does not fit what it holds")
    return evidence


def summary(records: Sequence[bytes], session: str) -> dict[str, Any]:
    """The session for people, made from its records: what it says is proven as far as they are."""
    told: dict[str, Any] = {}
    for body in records:
        try:
            envelope = open_envelope(body)
        except Unreadable:
            continue
        if envelope.subject != session:
            continue
        match envelope.type:
            case "io.roamkey.session.authorised":
                told |= _some(envelope.data, "decision", "holder", "place", "charger", "authorised_at")
            case "io.roamkey.session.ended":
                told |= _some(envelope.data, *_OF_THE_END)
                told["journal"], told["ended_in_record"] = envelope.journal, envelope.sequence
    return told


_OF_THE_END = (
    "started_at", "ended_at", "reason", "complete", "interrupted", "meter_start_wh", "meter_stop_wh", "energy_wh",
    "duration_s", "cost",
)  # fmt: skip


def _some(data: Mapping[str, Any], *names: str) -> dict[str, Any]:
    return {name: data[name] for name in names if name in data}


def _bundle(told: Mapping[str, Any]) -> SignedBundle:
    if not isinstance(told["root"], int):
        raise TypeError("a root version must be a number")
    return SignedBundle(
        root=told["root"],
        timestamp=_text(told["timestamp"]).encode(),
        snapshot=_text(told["snapshot"]).encode(),
        targets=_text(told["targets"]).encode(),
        parts={_text(name): _text(body).encode() for name, body in told["parts"].items()},
    )


def _written(told: Mapping[str, Any]) -> bytes:
    return json.dumps(told, ensure_ascii=False, indent=1).encode() + b"\n"


def _text(value: object) -> str:
    if not isinstance(value, str):
        raise TypeError("a text is missing")
    return value
