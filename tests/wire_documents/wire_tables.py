"""The tables of docs/wire.md, made from the models. Each is one block between markers."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import fields, is_dataclass
from typing import Any, Final, get_args, get_type_hints

from agent.core.facts import EndReason, Fact
from agent.core.statuses import TABLE
from agent.wire import TYPES, subject_of
from sync import batch, messages, overrides, questions, signing
from sync.batch import BatchLimits, Codec
from sync.settings import UplinkSettings
from sync.topics import DeviceTopics, FleetTopics
from tests.journal.samples import SAMPLES
from tests.wire_documents import wire_schemas
from tests.wire_documents.wire_schemas import columns, kind_of, said_of, summary_of
from tests.wire_documents.wire_words import ATTRIBUTES


def table(head: Sequence[str], rows: Iterable[Sequence[str]]) -> str:
    lines = [head, ["---"] * len(head), *rows]
    return "\n".join("| " + " | ".join(cell.strip() for cell in line) + " |" for line in lines)


def topics() -> str:
    of_device = DeviceTopics(fleet="FLEET", device="DEVICE", root="ROOT")
    of_fleet = FleetTopics(fleet="FLEET", root="ROOT")

    def shown(topic: str) -> str:
        for name in ("ROOT", "FLEET", "DEVICE"):
            topic = topic.replace(name, f"{{{name.lower()}}}")
        return f"`{topic}`"

    sha256 = "0" * 64
    return table(
        ("topic", "from", "QoS", "retained", "payload"),
        (
            (shown(of_device.records), "device", "1", "no", "a batch of records (MQTT 5)"),
            (shown(of_device.records + "/") + "*codec*", "device", "1", "no", "the same on an MQTT 3.1.1 broker"),
            (shown(of_device.hello), "device", "1", "no", "hello"),
            (shown(of_device.status), "device", "1", "yes, and last will", "status"),
            (shown(of_device.ask), "device", "1", "no", "a live question"),
            (shown(of_device.ack), "backend", "1", "no", "acknowledgement"),
            (shown(of_device.answer), "backend", "1", "no", "the answer to a live question"),
            (shown(of_device.grant), "backend", "1", "yes", "leases of budgets"),
            (shown(of_device.override), "backend", "1", "yes", "one-time overrides, one a line"),
            (shown(of_fleet.policy_timestamp), "backend", "1", "yes", "TUF metadata `timestamp.json`"),
            (
                shown(of_fleet.policy("metadata/1.root.json")).replace("1-root", "{version}-{role}"),
                "backend",
                "1",
                "yes",
                "TUF metadata `{version}.{role}.json`",
            ),
            (shown(of_fleet.policy(f"targets/{sha256}")).replace(sha256, "{sha256}"), "backend", "1", "yes", "a part"),
        ),
    )


def attributes() -> str:
    optional = wire_schemas.SOMETIMES
    return table(
        ("attribute", "always", "meaning"),
        ((f"`{name}`", "" if name in optional else "yes", text) for name, text in ATTRIBUTES.items()),
    )


def kinds() -> str:
    return table(
        ("kind", "subject", "what it says"),
        (
            (
                f"[`{kind_of(fact)}`](schemas/{kind_of(fact)}.json)",
                subject(fact),
                said_of(fact),
            )
            for fact in TYPES
        ),
    )


def subject(fact: type[Fact]) -> str:
    names = {field.name for field in fields(fact)}
    if "session" in names:
        return "session"
    sample = next(each for each in SAMPLES if type(each) is fact)
    return "decision" if subject_of(sample) is not None else ""


def record_fields() -> str:
    parts: list[str] = []
    nested: dict[str, type] = {}
    for fact in TYPES:
        parts.append(f"#### {kind_of(fact)}\n\n{fields_of(fact)}")
        nested |= nested_in(fact)
    for name, kind in sorted(nested.items()):
        said = summary_of(kind)
        parts.append(f"#### {name}\n\n{said + chr(10) + chr(10) if said else ''}{fields_of(kind)}")
    return "\n\n".join(parts)


def fields_of(kind: type) -> str:
    return table(
        ("field", "type", "always", "meaning"),
        ((f"`{name}`", shape, "yes" if needed else "", text) for name, shape, needed, text in columns(kind)),
    )


def nested_in(kind: type) -> dict[str, type]:
    found: dict[str, type] = {}
    for hint in get_type_hints(kind).values():
        for each in (hint, *get_args(hint)):
            if is_dataclass(each) and isinstance(each, type):
                found |= {each.__name__: each, **nested_in(each)}
    return found


def reason_codes() -> str:
    return table(
        ("code", "OCPI", "OCPP 1.6", "OCPP 2.0.1", "OICP"),
        (
            (f"`{code.value}`", said.ocpi or "(error 2004)", said.ocpp16, said.ocpp201, said.oicp)
            for code, said in TABLE.items()
        ),
    )


def end_reasons() -> str:
    return ", ".join(f"`{reason.value}`" for reason in EndReason)


def codecs() -> str:
    return table(
        ("codec", "content type (MQTT 5)", "last level of the topic (MQTT 3.1.1)"),
        ((codec.value, f"`{batch.content_type(codec)}`", f"`records/{codec.value}`") for codec in Codec),
    )


def limits() -> str:
    device = {field.name: field.default for field in fields(UplinkSettings)}
    most = BatchLimits()
    return table(
        ("what", "limit"),
        (
            ("records in a batch that a device sends", f"{most.records}, and about {most.size_bytes} bytes unpacked"),
            ("one MQTT packet that a device sends", f"{device['packet_bytes']} bytes, less if the broker says so"),
            ("a batch unpacked, as a receiver must take it", f"{batch.MAX_UNPACKED_BYTES} bytes"),
            ("lines in a batch, as a receiver must take it", f"{batch.MAX_UNPACKED_RECORDS}"),
            (
                "batches under way without an acknowledgement",
                f"{device['window_batches']} or the broker's Receive Maximum, and {device['window_bytes']} bytes",
            ),
            ("patience of a device for an acknowledgement", f"{device['ack_timeout_s']:g} s, then it sends again"),
            (
                "after so many such waits in a row it connects anew",
                f"{device['ack_timeouts_before_reconnect']}",
            ),
            ("hello of a device that has nothing to send", f"every {device['idle_hello_s']:g} s"),
            ("hello or status", "262144 bytes"),
            ("journals in a hello", "8"),
            ("ranges in `lost` and entries in `marks`, for each journal", "1000 and 100"),
            ("acknowledgement", f"{signing.MAX_TOKEN_BYTES} bytes"),
            ("ranges in `resend`", f"{messages.MAX_RANGES}; tell the others in a later acknowledgement"),
            ("entries in `quarantined`", f"{messages.MAX_QUARANTINED}"),
            ("live question or its answer", f"{questions.MAX_QUESTION_BYTES} bytes"),
            ("overrides in one message", f"{overrides.MAX_OVERRIDES}, and {overrides.MAX_MESSAGE_BYTES} bytes"),
            ("characters of a reason", f"{messages.MAX_REASON_CHARS}"),
            ("names of fleets, devices and journals", "64 characters; fleets and devices of A-Z a-z 0-9 _ -"),
            ("one policy part or metadata file, as a device takes it", "1900000 bytes"),
        ),
    )


def message_fields(name: str) -> Callable[[], str]:
    def made() -> str:
        return table(("field", "type", "always", "meaning"), rows_of(wire_schemas.schemas()[f"{name}.json"]))

    return made


def rows_of(schema: Mapping[str, Any], prefix: str = "") -> Iterator[Sequence[str]]:
    for name, shape in schema["properties"].items():
        needed = "yes" if name in schema.get("required", ()) else ""
        yield f"`{prefix}{name}`", kind_in_words(shape), needed, shape.get("description", "")
        inner = shape.get("items", shape.get("additionalProperties"))
        if isinstance(inner, dict) and "properties" in inner:
            place = "[]" if shape["type"] == "array" else ".*"
            yield from rows_of(inner, f"{prefix}{name}{place}.")


def kind_in_words(shape: Mapping[str, Any]) -> str:
    match shape:
        case {"enum": values}:
            return " \\| ".join(f"`{value}`" for value in values)
        case {"type": "string", "pattern": pattern} if "64" in pattern:
            return "hex SHA-256" + (" or empty" if pattern.endswith(")?$") else "")
        case {"type": "array", "items": {"prefixItems": _}}:
            return "list of [integer, integer]"
        case {"type": list() as kinds}:
            return " or ".join(kinds)
        case {"type": kind}:
            return {"array": "list", "string": "text"}.get(kind, str(kind))
        case _:
            return ""


BLOCKS: Final[dict[str, Callable[[], str]]] = {
    "topics": topics,
    "attributes": attributes,
    "kinds": kinds,
    "record fields": record_fields,
    "reason codes": reason_codes,
    "end reasons": end_reasons,
    "codecs": codecs,
    "hello fields": message_fields("hello"),
    "ack fields": message_fields("ack"),
    "checkpoint fields": message_fields("checkpoint-claims"),
    "status fields": message_fields("status"),
    "question fields": message_fields("question"),
    "answer fields": message_fields("answer"),
    "grant fields": message_fields("grant"),
    "override fields": message_fields("override"),
    "limits": limits,
}


def refreshed(text: str) -> str:
    """The document with every block made anew. A block that is not there, or not known, is an error."""
    for name, made in BLOCKS.items():
        begin, end = f"<!-- made: {name} -->\n", "\n<!-- end -->"
        head, found, rest = text.partition(begin)
        if not found or end not in rest:
            raise ValueError(f"docs/wire.md has no block {name!r}")
        text = head + begin + made() + end + rest.partition(end)[2]
    known = text.count("<!-- made: ")
    if known != len(BLOCKS):
        raise ValueError(f"docs/wire.md has {known} blocks, {len(BLOCKS)} are known")
    return text
