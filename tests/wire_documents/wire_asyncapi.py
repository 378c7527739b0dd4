"""docs/asyncapi.yaml: the wire as AsyncAPI 3, told by the fleet backend that one may want to write."""

from __future__ import annotations

from typing import Any

import yaml

from sync.batch import Codec, content_type
from sync.topics import DEFAULT_ROOT, DeviceTopics, FleetTopics
from tests.wire_documents import wire_schemas

PLACE = DeviceTopics(fleet="FLEET", device="DEVICE", root=DEFAULT_ROOT)
FLEET = FleetTopics(fleet="FLEET", root=DEFAULT_ROOT)
SHA256 = "0" * 64


def address(topic: str) -> str:
    return topic.replace("FLEET", "{fleet}").replace("DEVICE", "{device}")


def channel(topic: str, told: str, *messages: str, parameters: tuple[str, ...] = ("fleet", "device")) -> dict[str, Any]:
    return {
        "address": address(topic),
        "description": told,
        "parameters": {name: {"$ref": f"#/components/parameters/{name}"} for name in parameters},
        "messages": {name: {"$ref": f"#/components/messages/{name}"} for name in messages},
    }


def operation(action: str, name: str, told: str, *messages: str, retain: bool = False) -> dict[str, Any]:
    return {
        "action": action,
        "channel": {"$ref": f"#/channels/{name}"},
        "summary": told,
        "messages": [{"$ref": f"#/channels/{name}/messages/{each}"} for each in messages],
        "bindings": {"mqtt": {"qos": 1, "retain": retain, "bindingVersion": "0.2.0"}},
    }


def schema(name: str) -> dict[str, str]:
    return {"$ref": f"./schemas/{name}.json"}


def document() -> dict[str, Any]:
    batch = {
        "name": "batch",
        "title": "Records as JSON Lines, perhaps compressed",
        "contentType": content_type(Codec.ZLIB),
        "description": "Once unpacked, one record's exact bytes a line; each line fits `record`, and the schema of its "
        "kind. The bytes are hashed as they are and never written again.",
        "payload": {"type": "string", "format": "binary", "description": "see wire.md, Batches"},
    }
    ack = {
        "name": "ack",
        "title": "Signed, cumulative acknowledgement",
        "contentType": "application/jose",
        "description": "A compact JWS (ES256 or Ed25519) of type roamkey-ack+jwt; its claims fit `ack`.",
        "payload": {"type": "string", "pattern": "^[A-Za-z0-9_-]+[.][A-Za-z0-9_-]+[.][A-Za-z0-9_-]+$"},
    }
    jws = {
        "contentType": "application/jose",
        "description": "Compact JWS (ES256 or Ed25519); the claims fit the schema of the same name, see wire.md.",
        "payload": {"type": "string"},
    }
    kinds = [wire_schemas.kind_of(fact) for fact in wire_schemas.TYPES]
    return {
        "asyncapi": "3.0.0",
        "info": {
            "title": "roamkey fleet backend",
            "version": "1.0.0",
            "description": "What a backend receives from roamkey devices over MQTT, and what it must answer. "
            "wire.md tells it in words.",
            "license": {"name": "Apache-2.0", "url": "https://www.apache.org/licenses/LICENSE-2.0"},
        },
        "defaultContentType": "application/json",
        "servers": {
            "broker": {
                "host": "broker.example:8883",
                "protocol": "secure-mqtt",
                "protocolVersion": "5.0",
                "description": "Any MQTT 5 or 3.1.1 broker; TLS with client certificates.",
                "security": [{"$ref": "#/components/securitySchemes/certificate"}],
            }
        },
        "channels": {
            "records": channel(
                PLACE.records, "Batches of records. On a 3.1.1 broker with the codec behind it.", "batch"
            ),
            "recordsWithCodec": channel(
                PLACE.records + "/{codec}", "The same on MQTT 3.1.1.", "batch", parameters=("fleet", "device", "codec")
            ),
            "hello": channel(PLACE.hello, "What a device holds; answered with an acknowledgement.", "hello"),
            "status": channel(PLACE.status, "Retained: birth, changes and last will of a device.", "status"),
            "ack": channel(PLACE.ack, "Where the backend stands, for one device.", "ack"),
            "ask": channel(PLACE.ask, "Live questions: may this token charge here?", "question"),
            "answer": channel(PLACE.answer, "Signed answers to live questions.", "answer"),
            "grant": channel(PLACE.grant, "Retained: the leases of budgets that a device holds.", "grant"),
            "override": channel(PLACE.override, "Retained: one-time overrides that may still be used.", "override"),
            "policyMetadata": channel(
                FLEET.policy("metadata/1.root.json").replace("1-root", "{name}"),
                "Retained TUF metadata, one topic a file.",
                "policyDocument",
                parameters=("fleet", "name"),
            ),
            "policyPart": channel(
                FLEET.policy(f"targets/{SHA256}").replace(SHA256, "{sha256}"),
                "Retained parts of the policy bundle, named by their SHA-256.",
                "policyDocument",
                parameters=("fleet", "sha256"),
            ),
        },
        "operations": {
            "takeRecords": operation("receive", "records", "Store what is new; acknowledge once durable.", "batch"),
            "takeRecordsWithCodec": operation("receive", "recordsWithCodec", "The same on MQTT 3.1.1.", "batch"),
            "takeHello": operation("receive", "hello", "Answer with hello = true.", "hello"),
            "watchStatus": operation("receive", "status", "Who is there.", "status", retain=True),
            "acknowledge": operation("send", "ack", "After each commit, and after each hello.", "ack"),
            "takeQuestion": operation("receive", "ask", "Answer within its deadline, or not at all.", "question"),
            "answerQuestion": operation("send", "answer", "Bound to the question's bytes.", "answer"),
            "lend": operation("send", "grant", "After each change, all of it.", "grant", retain=True),
            "override": operation(
                "send", "override", "All that may still be used, one a line.", "override", retain=True
            ),
            "publishMetadata": operation(
                "send", "policyMetadata", "timestamp.json last.", "policyDocument", retain=True
            ),
            "publishPart": operation("send", "policyPart", "Before the metadata.", "policyDocument", retain=True),
        },
        "components": {
            "messages": {
                "batch": batch,
                "hello": {"name": "hello", "contentType": "application/json", "payload": schema("hello")},
                "status": {"name": "status", "contentType": "application/json", "payload": schema("status")},
                "ack": ack,
                "question": {"name": "question", "contentType": "application/json", "payload": schema("question")},
                "answer": {**jws, "name": "answer", "title": "Signed answer to a live question"},
                "grant": {**jws, "name": "grant", "title": "Signed leases of budgets"},
                "override": {**jws, "name": "override", "title": "Signed one-time overrides, one a line"},
                "policyDocument": {
                    "name": "policyDocument",
                    "contentType": "application/json",
                    "description": "As the fleet office's repository has it, byte for byte; empty withdraws it.",
                    "payload": {"type": "string", "format": "binary"},
                },
            },
            "schemas": {
                name.replace(".", "_").replace("-", "_"): schema(name)
                for name in ("record", "ack", "checkpoint-claims", "answer", "override", "grant", *kinds)
            },
            "parameters": {
                "fleet": {"description": "the fleet's name"},
                "device": {"description": "the device's name, as its certificate has it"},
                "codec": {"description": "how the lines are wrapped", "enum": [codec.value for codec in Codec]},
                "name": {"description": "timestamp for timestamp.json, VERSION-ROLE for VERSION.ROLE.json"},
                "sha256": {"description": "SHA-256 of the part, hex"},
            },
            "securitySchemes": {"certificate": {"type": "X509", "description": "client certificates"}},
        },
    }


def text() -> str:
    made: str = yaml.safe_dump(document(), sort_keys=False, allow_unicode=True, width=110)
    return "# Made by `make docs` from the models; see wire.md.\n" + made
