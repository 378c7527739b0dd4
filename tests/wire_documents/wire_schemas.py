"""JSON Schemas (2020-12) of everything on the wire, made from the models that the agent and the receiver use."""

from __future__ import annotations

import types
from collections.abc import Iterator
from dataclasses import fields, is_dataclass
from datetime import datetime
from decimal import Decimal
from enum import StrEnum
from functools import cache
from typing import Any, Union, get_args, get_origin, get_type_hints

from agent.core.facts import Fact
from agent.core.instants import ClockQuality
from agent.core.statuses import TABLE
from agent.wire import NAMESPACE, TYPES, subject_of
from sync import claims, grants, messages, overrides, questions
from sync.signing import MAX_TOKEN_BYTES
from tests.journal.samples import SAMPLES
from tests.wire_documents.wire_words import ATTRIBUTES, SAID, meaning

DIALECT = "https://json-schema.org/draft/2020-12/schema"
HEX_256 = {"type": "string", "pattern": "^[0-9a-f]{64}$"}
MOMENT = {
    "type": "string",
    "pattern": "^[0-9]{4}-[0-9]{2}-[0-9]{2}T[0-9]{2}:[0-9]{2}:[0-9]{2}([.][0-9]{1,6})?Z$",
}
SEQUENCE = {"type": "integer", "minimum": 1, "maximum": 2**63 - 1}
NUMBER = {**SEQUENCE, "minimum": 0}
RANGE = {"type": "array", "prefixItems": [SEQUENCE, SEQUENCE], "minItems": 2, "maxItems": 2}
SEQUENCE_NAME = {"type": "string", "pattern": "^[0-9]{1,19}$"}
REASON = {"type": "string", "maxLength": messages.MAX_REASON_CHARS}


def kind_of(fact: type[Fact]) -> str:
    return TYPES[fact].removeprefix(NAMESPACE)


def schemas() -> dict[str, dict[str, Any]]:
    """File name to schema."""
    records = {f"{kind_of(fact)}.json": record_schema(fact) for fact in TYPES}
    return {
        **records,
        "record.json": any_record(),
        "checkpoint-claims.json": checkpoint_claims(),
        "hello.json": hello(),
        "ack.json": acknowledgement(),
        "status.json": status(),
        "question.json": question(),
        "answer.json": answer(),
        "override.json": override(),
        "grant.json": grant(),
    }


def record_schema(fact: type[Fact]) -> dict[str, Any]:
    """One kind of record: its attributes and its data. Unknown attributes and fields are allowed, and to be ignored."""
    kind = kind_of(fact)
    definitions: dict[str, Any] = {}
    data = object_schema(fact, definitions)
    attributes = envelope_properties()
    attributes["type"] = {"const": TYPES[fact], "description": ATTRIBUTES["type"]}
    attributes["dataschema"] = {"const": f"urn:roamkey:schema:{kind}:1", "description": ATTRIBUTES["dataschema"]}
    attributes["data"] = data
    return {
        "$schema": DIALECT,
        "$id": f"urn:roamkey:schema:{kind}:1",
        "title": kind,
        "description": said_of(fact),
        "type": "object",
        "required": [*required_attributes(), *(["subject"] if has_subject(fact) else [])],
        "properties": attributes,
        **({"$defs": dict(sorted(definitions.items()))} if definitions else {}),
    }


def any_record() -> dict[str, Any]:
    return {
        "$schema": DIALECT,
        "$id": "urn:roamkey:schema:record:1",
        "title": "record",
        "description": "What every record has, also one of a kind that a receiver does not know (yet).",
        "type": "object",
        "required": required_attributes(),
        "properties": envelope_properties(),
    }


def envelope_properties() -> dict[str, Any]:
    shapes: dict[str, Any] = {
        "specversion": {"const": "1.0"},
        "id": {"type": "string", "pattern": UUID7},
        "source": {"type": "string", "pattern": "^/fleets/[^/\\s]+/devices/[^/\\s]+$"},
        "type": {"type": "string", "pattern": "^io[.]roamkey[.][a-z_.]+$"},
        "subject": {"type": "string", "minLength": 1},
        "time": MOMENT,
        "datacontenttype": {"const": "application/json"},
        "dataschema": {"type": "string", "pattern": "^urn:roamkey:schema:[a-z_.]+:[0-9]+$"},
        "sequence": {"type": "string", "pattern": "^[1-9][0-9]{0,17}$"},
        "sequencetype": {"const": "Integer"},
        "journal": {"type": "string", "minLength": 1, "maxLength": 64},
        "previous": HEX_256,
        "former": {"type": "string", "pattern": UUID7},
        "boot": {"type": "string", "minLength": 1},
        "monotonicms": {"type": "string", "pattern": "^(0|[1-9][0-9]{0,17})$"},
        "clockquality": {"enum": [quality.value for quality in ClockQuality]},
        "data": {"type": "object"},
    }
    return {name: {**shape, "description": ATTRIBUTES[name]} for name, shape in shapes.items()}


UUID7 = "^[0-9a-f]{8}-[0-9a-f]{4}-7[0-9a-f]{3}-[89ab][0-9a-f]{3}-[0-9a-f]{12}$"
SOMETIMES = ("subject", "former")


def required_attributes() -> list[str]:
    return [name for name in ATTRIBUTES if name not in SOMETIMES]


@cache
def has_subject(fact: type[Fact]) -> bool:
    return subject_of(next(each for each in SAMPLES if type(each) is fact)) is not None and "session" not in optional(
        fact
    )


# A decimal number as text, so that no reader makes a binary fraction of it.
AMOUNT = {"type": "string", "pattern": r"^-?[0-9]+(\.[0-9]+)?([eE][+-]?[0-9]+)?$"}


def optional(kind: type) -> set[str]:
    return {name for name, hint in get_type_hints(kind).items() if type(None) in get_args(hint)}


def object_schema(kind: type, definitions: dict[str, Any]) -> dict[str, Any]:
    assert is_dataclass(kind)
    hints = get_type_hints(kind)
    return {
        "type": "object",
        "required": [field.name for field in fields(kind) if field.name not in optional(kind)],
        "properties": {
            field.name: {
                **value_schema(hints[field.name], definitions),
                "description": meaning(kind.__name__, field.name),
            }
            for field in fields(kind)
        },
    }


def value_schema(hint: Any, definitions: dict[str, Any]) -> dict[str, Any]:
    if get_origin(hint) in (Union, types.UnionType):
        (hint,) = (each for each in get_args(hint) if each is not type(None))
    if get_origin(hint) is tuple:
        return {"type": "array", "items": value_schema(get_args(hint)[0], definitions)}
    if hint is datetime:
        return MOMENT
    if hint is Decimal:
        return AMOUNT
    if issubclass(hint, StrEnum):
        return {"enum": [member.value for member in hint]}
    if is_dataclass(hint):
        definitions.setdefault(hint.__name__, {})
        definitions[hint.__name__] = object_schema(hint, definitions)
        return {"$ref": f"#/$defs/{hint.__name__}"}
    return {"type": {str: "string", int: "integer", bool: "boolean"}[hint]}


def summary_of(kind: type) -> str:
    """The first paragraph of its docstring, or of a dataclass without one nothing."""
    text = (kind.__doc__ or "").strip()
    if text.startswith(f"{kind.__name__}("):
        return ""
    return " ".join(text.split("\n\n")[0].split())


def said_of(fact: type[Fact]) -> str:
    return SAID.get(kind_of(fact)) or summary_of(fact)


def columns(kind: type) -> Iterator[tuple[str, str, bool, str]]:
    """(field, type in words, required, meaning) of a dataclass, for tables."""
    hints = get_type_hints(kind)
    for field in fields(kind):  # type: ignore[arg-type]
        yield (
            field.name,
            in_words(hints[field.name]),
            field.name not in optional(kind),
            meaning(kind.__name__, field.name),
        )


def in_words(hint: Any) -> str:
    if get_origin(hint) in (Union, types.UnionType):
        (hint,) = (each for each in get_args(hint) if each is not type(None))
    if get_origin(hint) is tuple:
        return f"list of {in_words(get_args(hint)[0])}"
    if hint is datetime:
        return "time"
    if hint is Decimal:
        return "amount as text"
    if issubclass(hint, StrEnum) and hint.__name__ not in LONG:
        return " \\| ".join(f"`{member.value}`" for member in hint)
    if is_dataclass(hint) or issubclass(hint, StrEnum):
        return hint.__name__
    return {str: "text", int: "integer", bool: "boolean"}[hint]


LONG = {"ReasonCode"}
REASON_CODES = tuple(TABLE)


# The messages around the records: their models are hand-written readers (sync/messages.py), so these are, too. A test
# holds each of them against its reader, message by message.


def name_of(what: str, most: int, *, least: int = 1) -> dict[str, Any]:
    return {"type": "string", "minLength": least, "maxLength": most, "description": what}


def hello() -> dict[str, Any]:
    withheld = {
        "type": "object",
        "required": ["hash"],
        "properties": {"hash": HEX_256, "reason": {"type": "string"}},
    }
    journal = {
        "type": "object",
        "required": ["journal", "first", "last", "hash"],
        "properties": {
            "journal": name_of("id of the journal", 64),
            "first": {**NUMBER, "description": "the oldest record that the device still holds"},
            "last": {**NUMBER, "description": "the newest one; 0 with an empty `hash`: none yet"},
            "hash": {
                "type": "string",
                "pattern": "^([0-9a-f]{64})?$",
                "description": "SHA-256 of the bytes of record `last`",
            },
            "withheld": {
                "type": "object",
                "description": "records that cannot travel here (too large for the broker), by sequence",
                "maxProperties": 10_000,
                "propertyNames": SEQUENCE_NAME,
                "additionalProperties": withheld,
            },
            "lost": {
                "type": "array",
                "description": "ranges that the device can no longer read, each [first, last]",
                "maxItems": 1000,
                "items": RANGE,
            },
            "marks": {
                "type": "object",
                "description": "hashes of some of its records, by sequence, when the two journals differ",
                "maxProperties": 100,
                "propertyNames": SEQUENCE_NAME,
                "additionalProperties": HEX_256,
            },
        },
    }
    return {
        "$schema": DIALECT,
        "$id": "urn:roamkey:schema:hello:1",
        "title": "hello",
        "description": "What a device holds, told after each connect and whenever it wants to know where to resume.",
        "type": "object",
        "required": ["nonce", "journals"],
        "properties": {
            "nonce": name_of("of this connection; every acknowledgement for it carries it back", 64),
            "journals": {"type": "array", "minItems": 1, "maxItems": 8, "items": journal},
        },
    }


REFERENCE = {**HEX_256, "description": "keyed reference of the token"}
PLACE_WORDS = {
    "charger": "the charger, as the device's configuration names it",
    "evse": "EVSE id",
    "network": "operator of the charger",
    "country": "ISO 3166-1, as known",
    "site": "site",
    "connector": "its type, in OCPI's words",
}


def question() -> dict[str, Any]:
    names = {"group": "its group in the policy", "label": "what the fleet wrote on the card", "driver": "its driver"}
    return {
        "$schema": DIALECT,
        "$id": "urn:roamkey:schema:question:1",
        "title": "question",
        "description": "May this token charge here? Asked for tokens whose whitelist type is NEVER or ALLOWED_OFFLINE; "
        f"at most {questions.MAX_QUESTION_BYTES} bytes.",
        "type": "object",
        "required": ["ask", "token", "whitelist", "assurance", "deadline_ms"],
        "properties": {
            "ask": name_of("id of the question", 64),
            "token": REFERENCE,
            "whitelist": name_of("OCPI's type of the token", 64),
            "assurance": name_of("what the reading proves, as in records", 64),
            "deadline_ms": {
                "type": "integer",
                "minimum": 0,
                "maximum": questions.MAX_DEADLINE_MS,
                "description": "after so long nobody listens any more",
            },
            **{name: name_of(told, 64) for name, told in names.items()},
            "vehicle": name_of("the vehicle", 64),
            **{name: name_of(told, 200) for name, told in PLACE_WORDS.items()},
            "power_w": {**NUMBER, "maximum": claims.MOST, "description": "what the charging point is rated for, W"},
            "policy_revision": {**NUMBER, "maximum": claims.MOST, "description": "of the policy that the device holds"},
        },
    }


MOMENT_S = {"type": "integer", "minimum": 0, "maximum": 253_402_300_799}


def answer() -> dict[str, Any]:
    return {
        "$schema": DIALECT,
        "$id": "urn:roamkey:schema:answer:1",
        "title": "answer",
        "description": f"The claims of an answer; it travels as a compact JWS of type {questions.ANSWER_TYP}.",
        "type": "object",
        "required": ["fleet", "device", "ask", "question", "verdict", "iat", "exp"],
        "properties": {
            "fleet": name_of("the fleet", 64),
            "device": name_of("the device it is for", 64),
            "ask": name_of("id of the question", 64),
            "question": name_of("SHA-256 of the question's bytes as they came, hex", 64),
            "verdict": {"enum": list(questions.VERDICTS), "description": "OCPI's AllowedType; UNKNOWN: no such token"},
            "keep_s": {
                "type": "integer",
                "minimum": 0,
                "maximum": questions.MAX_KEEP_S,
                "description": "so long the device may go by it while it cannot ask; absent: not at all",
            },
            "iat": {**MOMENT_S, "description": "when it was signed, seconds since 1970"},
            "exp": {**MOMENT_S, "description": "from when on it answers nothing, seconds since 1970"},
        },
    }


def override() -> dict[str, Any]:
    amount = {"type": "string", "pattern": "^[0-9]{1,8}([.][0-9]{1,6})?$"}
    return {
        "$schema": DIALECT,
        "$id": "urn:roamkey:schema:override:1",
        "title": "override",
        "description": f"The claims of a one-time override; it travels as a compact JWS of type "
        f"{overrides.OVERRIDE_TYP}. Unknown claims are refused. At least one of the three limits is there.",
        "type": "object",
        "additionalProperties": False,
        "required": ["fleet", "device", "id", "token", "waives", "why", "by", "iat", "exp"],
        "anyOf": [{"required": [name]} for name in ("max_energy_wh", "max_duration_s", "max_cost")],
        "properties": {
            "fleet": name_of("the fleet", 64),
            "device": name_of("the device it is for", 64),
            "id": name_of("of this override: it is good once", 64),
            "token": {**REFERENCE, "description": "keyed reference of the token it is for"},
            "waives": {
                "type": "array",
                "description": "names of the rules that it may outweigh; `*` for every one that can be",
                "minItems": 1,
                "maxItems": overrides.MAX_RULES,
                "items": {"type": "string", "minLength": 1, "maxLength": 64},
            },
            "why": name_of("what for", overrides.MAX_WHY),
            "by": name_of("who gives it", 64),
            "iat": {**MOMENT_S, "description": "when it was signed, seconds since 1970"},
            "exp": {**MOMENT_S, "description": "from when on it is worth nothing; at most 24 h after `iat`"},
            "max_energy_wh": {**NUMBER, "maximum": claims.MOST, "description": "limit of the one session"},
            "max_duration_s": {**NUMBER, "maximum": claims.MOST, "description": "limit of the one session"},
            "max_cost": {
                "type": "object",
                "description": "limit of the one session, with taxes, as text",
                "additionalProperties": False,
                "required": ["currency", "gross"],
                "properties": {"currency": {"type": "string", "pattern": "^[A-Z]{3}$"}, "gross": amount},
            },
        },
    }


def grant() -> dict[str, Any]:
    moment = {"type": "string", "pattern": MOMENT["pattern"]}
    amount = {"type": "integer", "minimum": 0, "maximum": 2**53 - 1}
    lease = {
        "type": "object",
        "required": [
            "id",
            "budget",
            "journal",
            "amount",
            "per_session",
            "not_before",
            "spend_until",
            "settle_by",
            "issued_at",
            "number",
        ],
        "properties": {
            **{name: name_of(meaning("Lease", name), 64) for name in ("id", "journal")},
            "budget": name_of(meaning("Lease", "budget"), 160),
            **{name: {**amount, "description": meaning("Lease", name)} for name in ("amount", "per_session", "number")},
            **{
                name: {**moment, "description": meaning("Lease", name)}
                for name in ("not_before", "spend_until", "settle_by", "issued_at")
            },
            "replaces": {
                "type": "array",
                "description": "leases that the device gives back when it takes this one",
                "items": name_of("id of a lease", 64, least=0),
            },
        },
    }
    used_up = {
        "type": "object",
        "required": ["budget", "until"],
        "properties": {
            "budget": name_of(meaning("UsedUp", "budget"), 160),
            "until": {**moment, "description": meaning("UsedUp", "until")},
        },
    }
    return {
        "$schema": DIALECT,
        "$id": "urn:roamkey:schema:grant:1",
        "title": "grant",
        "description": f"The claims of a grant; it travels as a compact JWS of type {grants.GRANT_TYP}, "
        f"at most {MAX_TOKEN_BYTES} bytes.",
        "type": "object",
        "required": ["fleet", "device", "number", "leases"],
        "properties": {
            "fleet": name_of("the fleet", 64),
            "device": name_of("the device it is for", 64),
            "number": {**amount, "description": "grows with every grant to this device; an older one says nothing new"},
            "leases": {
                "type": "array",
                "description": "every lease that the backend counts as open at this device",
                "maxItems": grants.MAX_LEASES,
                "items": lease,
            },
            "used_up": {
                "type": "array",
                "description": "budgets of which nothing is left to lend to this device",
                "maxItems": grants.MAX_USED_UP,
                "items": used_up,
            },
            "iat": {**MOMENT_S, "description": "when it was signed, seconds since 1970"},
        },
    }


def acknowledgement() -> dict[str, Any]:
    return {
        "$schema": DIALECT,
        "$id": "urn:roamkey:schema:ack:1",
        "title": "ack",
        "description": f"The claims of an acknowledgement; it travels as a compact JWS of type {messages.ACK_TYP}, "
        f"at most {MAX_TOKEN_BYTES} bytes.",
        "type": "object",
        "required": ["fleet", "device", "journal", "nonce", "through", "hash"],
        "properties": {
            "fleet": name_of("the fleet", 64),
            "device": name_of("the device it is for", 64),
            "journal": name_of("the journal it is about", 64),
            "nonce": name_of("that of the device's last hello; empty: none was seen yet", 64, least=0),
            "through": {**NUMBER, "description": "everything up to here is durable at the backend, without a gap"},
            "hash": {
                "type": "string",
                "pattern": "^([0-9a-f]{64})?$",
                "description": "SHA-256 of what the backend holds at `through`; empty at 0, or where it was never sent",
            },
            "hello": {"type": "boolean", "default": False, "description": "this is the answer to a hello"},
            "resend": {
                "type": "array",
                "description": "ranges that are missing behind newer ones, each [first, last]",
                "items": RANGE,
            },
            "agreed": {
                **NUMBER,
                "description": "in the answer to a hello with marks: the newest mark that is the same here; 0: none is",
            },
            "unpacks": {
                "type": "array",
                "description": "in the answer to a hello: codecs that this backend takes apart besides plain and zlib",
                "items": {"type": "string"},
            },
            "fork": {
                **NUMBER,
                "description": "what came for this sequence does not continue what the backend holds",
            },
            "quarantined": {
                "type": "object",
                "description": "records kept aside, by sequence, with the reason; they count as handled",
                "propertyNames": SEQUENCE_NAME,
                "additionalProperties": {"type": "string"},
            },
            "iat": {"type": "integer", "description": "when it was signed, seconds since 1970; for people only"},
        },
    }


def checkpoint_claims() -> dict[str, Any]:
    return {
        "$schema": DIALECT,
        "$id": "urn:roamkey:schema:checkpoint-claims:1",
        "title": "checkpoint-claims",
        "description": "The claims of the JWS in a checkpoint record: where the journal stood just before it.",
        "type": "object",
        "required": ["fleet", "device", "journal", "sequence", "hash"],
        "properties": {
            "fleet": {"type": "string"},
            "device": {"type": "string"},
            "journal": {"type": "string"},
            "sequence": {**SEQUENCE, "description": "the checkpoint's own sequence minus 1"},
            "hash": {**HEX_256, "description": "the checkpoint's `previous`"},
        },
    }


def status() -> dict[str, Any]:
    states = {"type": "object", "additionalProperties": {"type": "string"}}
    return {
        "$schema": DIALECT,
        "$id": "urn:roamkey:schema:status:1",
        "title": "status",
        "description": "Retained: the device's birth, its changes, and its last will. More fields may come.",
        "type": "object",
        "required": ["online", "nonce"],
        "properties": {
            "online": {"type": "boolean"},
            "nonce": name_of("of the connection; a will counts only if it is the last birth's", 64),
            "version": {"type": "string", "description": "of the agent"},
            "clock": {"enum": [quality.value for quality in ClockQuality]},
            "policy_revision": {"type": ["integer", "null"]},
            "readers": {**states, "description": "`ready` or `lost`, by name"},
            "chargers": {**states, "description": "state by name"},
            "storage": {"type": "string", "description": "`ok`, `tight` or `full`; later versions may know more"},
            "certificate": {
                "type": ["string", "null"],
                "description": "of its client certificate: `good`, `expiring`, `expired` ...; null without TLS",
            },
            "storage_detail": {"type": "string", "description": "what is the matter with it, for people"},
            "backlog": {"type": "integer", "minimum": 0, "description": "records that are not acknowledged yet"},
            "open_sessions": {"type": "integer", "minimum": 0},
        },
    }
