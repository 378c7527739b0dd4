"""A fact becomes the bytes of one record, once; and the bytes of a record become a fact again.

A record is a CloudEvents 1.0 event in structured JSON on one line. Chaining records is agent/journal, batching and
sending them is sync. JSON is written by hand here, so that no library's release can change what a sealed fact looks
like; reading is checked by pydantic, loaded only when something is read.
"""

from __future__ import annotations

import hashlib
import json
import re
import uuid
from collections.abc import Mapping
from dataclasses import dataclass, fields, is_dataclass
from datetime import UTC, datetime
from decimal import Decimal
from functools import cache
from typing import TYPE_CHECKING, Any, Final, assert_never, get_args, get_type_hints

from agent.core.facts import (
    AgentStarted,
    AgentStopped,
    BackendAnswered,
    BudgetAsked,
    BudgetGranted,
    ChargerFaulted,
    ChargerFound,
    ChargerLost,
    Checkpoint,
    ClockStepped,
    ClockSynchronised,
    CodeTried,
    ContractClosed,
    ContractOpened,
    DecisionMade,
    Fact,
    JournalOpened,
    OverrideReceived,
    OverrideUsed,
    PinTried,
    PolicyActivated,
    PolicyRejected,
    ReaderFound,
    ReaderLost,
    RecordsGivenUp,
    RecordsQuarantined,
    RecordsShed,
    SessionAuthorised,
    SessionContradicted,
    SessionEnded,
    SessionInterrupted,
    SessionMetered,
    SessionPriced,
    SessionResumed,
    SessionSigned,
    SessionStarted,
    SessionStopRequested,
)
from agent.core.instants import ClockQuality, Instant, seeded_id

if TYPE_CHECKING:
    from pydantic import TypeAdapter

_ENCODER: Final = json.JSONEncoder(ensure_ascii=False, separators=(",", ":"), allow_nan=False)

GENESIS: Final = "0" * 64

# The `typ` of a checkpoint's JWS: what signs a journal's head can sign nothing else.
CHECKPOINT_TYPE: Final = "roamkey-checkpoint+jws"

NAMESPACE: Final = "io.roamkey."

TYPES: Final[Mapping[type[Fact], str]] = {
    DecisionMade: "io.roamkey.decision.made",
    BackendAnswered: "io.roamkey.backend.answered",
    OverrideReceived: "io.roamkey.override.received",
    OverrideUsed: "io.roamkey.override.used",
    CodeTried: "io.roamkey.break_glass.tried",
    PinTried: "io.roamkey.pin.tried",
    ContractOpened: "io.roamkey.contract.opened",
    ContractClosed: "io.roamkey.contract.closed",
    SessionAuthorised: "io.roamkey.session.authorised",
    SessionPriced: "io.roamkey.session.priced",
    SessionStarted: "io.roamkey.session.started",
    SessionMetered: "io.roamkey.session.metered",
    SessionStopRequested: "io.roamkey.session.stop_requested",
    SessionInterrupted: "io.roamkey.session.interrupted",
    SessionResumed: "io.roamkey.session.resumed",
    SessionEnded: "io.roamkey.session.ended",
    SessionContradicted: "io.roamkey.session.anomaly",
    SessionSigned: "io.roamkey.session.signed",
    BudgetGranted: "io.roamkey.budget.granted",
    BudgetAsked: "io.roamkey.budget.asked",
    AgentStarted: "io.roamkey.agent.started",
    AgentStopped: "io.roamkey.agent.stopped",
    ReaderFound: "io.roamkey.reader.found",
    ReaderLost: "io.roamkey.reader.lost",
    ChargerFound: "io.roamkey.charger.found",
    ChargerLost: "io.roamkey.charger.lost",
    ChargerFaulted: "io.roamkey.charger.faulted",
    PolicyActivated: "io.roamkey.policy.activated",
    PolicyRejected: "io.roamkey.policy.rejected",
    ClockStepped: "io.roamkey.clock.stepped",
    ClockSynchronised: "io.roamkey.clock.synchronised",
    JournalOpened: "io.roamkey.journal.opened",
    RecordsQuarantined: "io.roamkey.records.quarantined",
    RecordsShed: "io.roamkey.records.shed",
    RecordsGivenUp: "io.roamkey.records.given_up",
    Checkpoint: "io.roamkey.checkpoint",
}

_FACTS: Final[Mapping[str, type[Fact]]] = {name: fact for fact, name in TYPES.items()}

_SEQUENCE = re.compile(r"[1-9][0-9]{0,17}")
_NUMBER = re.compile(r"0|[1-9][0-9]{0,17}")
_HASH = re.compile(r"[0-9a-f]{64}")
_SOURCE = re.compile(r"/fleets/([^/\s]+)/devices/([^/\s]+)")


class Unreadable(Exception):
    """These bytes are no record that this version can read. The text says where, and shows no content."""


class UnknownType(Unreadable):
    """A well-formed record of a type that this version does not know, perhaps a newer one."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Envelope:
    """A record's attributes, and its data as plain JSON: all that the chain and its verification need."""

    sequence: int
    journal: str
    previous: str
    source: str
    id: str
    type: str
    time: datetime
    boot: str
    monotonic_ms: int
    quality: ClockQuality
    subject: str | None
    data: Mapping[str, Any]


@dataclass(frozen=True, slots=True, kw_only=True)
class Record:
    """A record that was read: where it stands in its journal, when it was sealed, what happened; and its bytes."""

    sequence: int
    journal: str
    previous: str
    source: str
    id: str
    type: str
    time: datetime
    boot: str
    monotonic_ms: int
    quality: ClockQuality
    subject: str | None
    fact: Fact
    body: bytes


def seal(fact: Fact, *, sequence: int, previous: str, journal: str, source: str, now: Instant) -> bytes:
    """The record's bytes for ever. The same arguments give the same bytes; its id is unique in (journal, sequence)."""
    name = TYPES[type(fact)]
    subject = subject_of(fact)
    envelope: dict[str, object] = {
        "specversion": "1.0",
        "id": _record_id(now, journal, sequence),
        "source": source,
        "type": name,
        **({} if subject is None else {"subject": subject}),
        "time": _rfc3339(now.utc, timespec="milliseconds"),
        "datacontenttype": "application/json",
        "dataschema": f"urn:roamkey:schema:{name.removeprefix(NAMESPACE)}:1",
        # CloudEvents sequence extension: with this type, plain decimal numbers need no zero padding to be orderable.
        "sequence": str(sequence),
        "sequencetype": "Integer",
        "journal": journal,
        "previous": previous,
        "boot": now.boot,
        # A string: a CloudEvents Integer has 32 bits, which is 25 days of uptime.
        "monotonicms": str(now.monotonic_ms),
        "clockquality": now.quality.value,
        "data": _plain(fact),
    }
    return _ENCODER.encode(envelope).encode()


def reseal(body: bytes, *, sequence: int, previous: str, journal: str) -> bytes:
    """The same fact and moment as a record of another journal, which has an id of its own and names the `former`."""
    event = _json_object(body)
    former = str(event["id"])
    digest = hashlib.sha256(f"{former}/{journal}/{sequence}".encode()).digest()
    # UUIDv7: its first 48 bits are the time and stay, version and variant stay, the rest is new.
    old, fresh = uuid.UUID(former).int, int.from_bytes(digest[:16], "big")
    random_bits = (2**12 - 1) << 64 | (2**62 - 1)
    again = str(uuid.UUID(int=(old & ~random_bits) | (fresh & random_bits)))
    event |= {"id": again, "sequence": str(sequence), "journal": journal, "previous": previous, "former": former}
    return json.dumps(event, ensure_ascii=False, separators=(",", ":"), allow_nan=False).encode()


def open_record(body: bytes) -> Record:
    """Strict about what it knows (a number is a number), patient about attributes and fields that it does not know."""
    envelope = open_envelope(body)
    return Record(
        sequence=envelope.sequence,
        journal=envelope.journal,
        previous=envelope.previous,
        source=envelope.source,
        id=envelope.id,
        type=envelope.type,
        time=envelope.time,
        boot=envelope.boot,
        monotonic_ms=envelope.monotonic_ms,
        quality=envelope.quality,
        subject=envelope.subject,
        fact=_fact(envelope),
        body=body,
    )


def open_envelope(body: bytes) -> Envelope:
    """The attributes alone, also of a type that this version does not know."""
    event = _json_object(body)
    if event.get("specversion") != "1.0":
        raise Unreadable("not a CloudEvents 1.0 event: specversion is not 1.0")
    data = event.get("data")
    if not isinstance(data, dict):
        raise Unreadable("attribute data is not a JSON object")
    subject = event.get("subject")
    return Envelope(
        sequence=int(_text(event, "sequence", _SEQUENCE)),
        journal=_text(event, "journal"),
        previous=_text(event, "previous", _HASH),
        source=_text(event, "source"),
        id=_text(event, "id"),
        type=_text(event, "type"),
        time=_moment(_text(event, "time")),
        boot=_text(event, "boot"),
        monotonic_ms=int(_text(event, "monotonicms", _NUMBER)),
        quality=_quality(_text(event, "clockquality")),
        subject=None if subject is None else _text(event, "subject"),
        data=data,
    )


def hash_of(body: bytes) -> str:
    """What the next record names as its `previous`."""
    return hashlib.sha256(body).hexdigest()


def source_of(fleet: str, device: str) -> str:
    return f"/fleets/{fleet}/devices/{device}"


def origin_of(source: str) -> tuple[str, str]:
    """(fleet, device) of a record's source."""
    match = _SOURCE.fullmatch(source)
    if match is None:
        raise ValueError(f"source {source!r} is not /fleets/FLEET/devices/DEVICE")
    return match[1], match[2]


def checkpoint_claims(*, source: str, journal: str, sequence: int, hash: str) -> dict[str, object]:
    """What a checkpoint's JWS says: this device's journal had this record at its head."""
    fleet, device = origin_of(source)
    return {"fleet": fleet, "device": device, "journal": journal, "sequence": sequence, "hash": hash}


def subject_of(fact: Fact) -> str | None:
    """The session or decision that the fact is about, if any."""
    match fact:
        case DecisionMade() | BackendAnswered() | OverrideUsed() | ContractOpened() | ContractClosed():
            return fact.decision
        case (
            SessionAuthorised()
            | SessionPriced()
            | SessionStarted()
            | SessionMetered()
            | SessionStopRequested()
            | SessionInterrupted()
            | SessionResumed()
            | SessionEnded()
            | SessionContradicted()
            | SessionSigned()
        ):
            return fact.session
        case (
            PinTried()
            | CodeTried()
            | OverrideReceived()
            | BudgetGranted()
            | BudgetAsked()
            | AgentStarted()
            | AgentStopped()
            | ReaderFound()
            | ReaderLost()
            | ChargerFound()
            | ChargerLost()
            | ChargerFaulted()
            | PolicyActivated()
            | PolicyRejected()
            | ClockStepped()
            | ClockSynchronised()
            | JournalOpened()
            | RecordsQuarantined()
            | RecordsShed()
            | RecordsGivenUp()
            | Checkpoint()
        ):
            return None
        case other:
            assert_never(other)


def _record_id(now: Instant, journal: str, sequence: int) -> str:
    # The core makes session and decision ids from the same instant; mixing in the place keeps all ids apart.
    place = f"{journal}/{sequence}".encode()
    return seeded_id(now.utc, hashlib.sha256(now.entropy + place).digest())


def _plain(value: object) -> object:
    """Absent fields are left out: a reader takes a missing optional field for None, today's and tomorrow's alike."""
    # Sealing is on the way of every tap, so the frequent kinds come first and ask for nothing twice.
    if isinstance(value, str):  # a lone surrogate (undecodable device text) has no UTF-8 and must not stop the journal
        return str.__str__(value) if value.isascii() else value.encode("utf-8", "replace").decode()
    if value is None or isinstance(value, int):
        return value
    kind: Any = type(value)
    if (names := _names(kind)) is not None:
        return {name: _plain(item) for name in names if (item := getattr(value, name)) is not None}
    match value:
        case Decimal():
            return str(value)
        case datetime():
            return _rfc3339(value, timespec="auto")
        case tuple():
            return [_plain(item) for item in value]
        case _:
            raise TypeError(f"a fact must not hold a {kind.__name__}")


@cache
def _names(kind: type[Any]) -> tuple[str, ...] | None:
    """The fields of a dataclass, in order."""
    return tuple(field.name for field in fields(kind)) if is_dataclass(kind) else None


def _rfc3339(moment: datetime, *, timespec: str) -> str:
    if moment.tzinfo is None:
        raise TypeError("a fact must not hold a datetime without zone")
    return moment.astimezone(UTC).replace(tzinfo=None).isoformat(timespec=timespec) + "Z"


def _fact(envelope: Envelope) -> Fact:
    from pydantic import ValidationError

    if envelope.type not in _FACTS:
        raise UnknownType(f"record {envelope.sequence}: type {envelope.type!r} is not known to this version")
    adapter, optional = _reading(envelope.type)
    complete = {**dict.fromkeys(optional), **envelope.data}
    try:
        fact = adapter.validate_json(json.dumps(complete), strict=True)
    except ValidationError as error:
        first = error.errors(include_input=False, include_url=False)[0]
        place = ".".join(str(part) for part in first["loc"])
        raise Unreadable(f"record {envelope.sequence}: data.{place}: {first['msg']}") from None
    _refuse_zoneless(fact, envelope.sequence)
    return fact


def _refuse_zoneless(fact: Fact, sequence: int) -> None:
    for field in fields(fact):
        value = getattr(fact, field.name)
        if isinstance(value, datetime) and value.tzinfo is None:
            raise Unreadable(f"record {sequence}: data.{field.name}: a time must carry its zone")


@cache
def _reading(name: str) -> tuple[TypeAdapter[Fact], tuple[str, ...]]:
    """The checker of one type, and its fields that may be absent. Built at first use: pydantic loads slowly."""
    from pydantic import TypeAdapter

    kind = _FACTS[name]
    hints = get_type_hints(kind)
    optional = tuple(name for name, hint in hints.items() if type(None) in get_args(hint))
    return TypeAdapter(kind), optional


def _json_object(body: bytes) -> dict[str, Any]:
    try:
        event = json.loads(body.decode("utf-8"), object_pairs_hook=_no_twins, parse_constant=_no_constant)
    except (ValueError, RecursionError) as error:
        raise Unreadable(f"not a JSON object: {type(error).__name__}") from None
    if not isinstance(event, dict):
        raise Unreadable("not a JSON object")
    return event


def _no_twins(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    members = dict(pairs)
    if len(members) != len(pairs):
        raise ValueError("a member occurs twice")
    return members


def _no_constant(name: str) -> None:
    raise ValueError(f"{name} is not JSON")


def _text(event: Mapping[str, Any], name: str, pattern: re.Pattern[str] | None = None) -> str:
    value = event.get(name)
    if not isinstance(value, str) or not value:
        raise Unreadable(f"attribute {name} is missing or not text")
    if pattern is not None and pattern.fullmatch(value) is None:
        raise Unreadable(f"attribute {name} is malformed")
    return value


def _moment(text: str) -> datetime:
    try:
        moment = datetime.fromisoformat(text)
    except ValueError:
        raise Unreadable("attribute time is not an RFC 3339 time") from None
    if moment.tzinfo is None:
        raise Unreadable("attribute time carries no zone")
    return moment


def _quality(text: str) -> ClockQuality:
    try:
        return ClockQuality(text)
    except ValueError:
        raise Unreadable("attribute clockquality is not a known quality") from None
