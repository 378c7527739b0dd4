"""Read one line of a batch as a record: only what delivery needs, and nothing of its meaning.

A record that cannot be read is not an error but a value: it is kept aside and the others go on.
"""

from __future__ import annotations

import hashlib
import json
import re
from dataclasses import dataclass
from typing import Any

MAX_SEQUENCE = 2**63 - 1
_HASH = re.compile(r"[0-9a-f]{64}")


@dataclass(frozen=True, slots=True, kw_only=True)
class Record:
    """One readable record. `hash` is the SHA-256 of exactly `body`."""

    journal: str
    sequence: int
    id: str
    previous: str
    hash: str
    body: bytes


@dataclass(frozen=True, slots=True, kw_only=True)
class Unreadable:
    """Bytes that are no record of this device. Its place is known if at least journal and sequence can be read."""

    hash: str
    body: bytes
    reason: str
    journal: str | None = None
    sequence: int | None = None
    previous: str | None = None


def read_record(line: bytes, source: str) -> Record | Unreadable:
    """The line as a record of the device whose CloudEvents source this is."""
    digest = hashlib.sha256(line).hexdigest()
    try:
        event = json.loads(line.decode("utf-8"))
    except (ValueError, RecursionError) as error:
        return Unreadable(hash=digest, body=line, reason=f"not JSON: {type(error).__name__}")
    if not isinstance(event, dict):
        return Unreadable(hash=digest, body=line, reason="not a JSON object")
    journal, sequence, previous = _journal(event), _sequence(event), _previous(event)
    if (
        journal is not None
        and sequence is not None
        and previous is not None
        and event.get("specversion") == "1.0"
        and _is_short_text(event.get("id"))
        and _is_short_text(event.get("type"))
        and event.get("source") == source
    ):
        return Record(journal=journal, sequence=sequence, id=event["id"], previous=previous, hash=digest, body=line)
    faults = (
        "journal is not a short text" if journal is None else None,
        "sequence is not a decimal string from 1" if sequence is None else None,
        "previous is not a hex SHA-256" if previous is None else None,
        None if event.get("specversion") == "1.0" else "specversion is not 1.0",
        None if _is_short_text(event.get("id")) else "id is not a short text",
        None if _is_short_text(event.get("type")) else "type is not a short text",
        None if event.get("source") == source else f"source is not {source}",
    )
    return Unreadable(
        hash=digest,
        body=line,
        reason="; ".join(fault for fault in faults if fault is not None),
        journal=journal,
        sequence=sequence,
        previous=previous,
    )


def _is_short_text(value: object) -> bool:
    return isinstance(value, str) and 1 <= len(value) <= 256


def _journal(event: dict[str, Any]) -> str | None:
    journal = event.get("journal")
    return journal if isinstance(journal, str) and 1 <= len(journal) <= 64 else None


def _sequence(event: dict[str, Any]) -> int | None:
    text = event.get("sequence")
    if not isinstance(text, str) or not text.isascii() or not text.isdecimal() or len(text) > 19:
        return None
    sequence = int(text)
    return sequence if 1 <= sequence <= MAX_SEQUENCE and str(sequence) == text else None


def _previous(event: dict[str, Any]) -> str | None:
    previous = event.get("previous")
    return previous if isinstance(previous, str) and _HASH.fullmatch(previous) else None
