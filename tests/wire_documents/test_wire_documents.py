"""The wire's documents are what the program does: made from its models, held against its readers, judged by others."""

from __future__ import annotations

import json
import re
import shutil
import subprocess
from collections.abc import Iterator
from contextlib import closing
from dataclasses import fields, replace
from pathlib import Path
from typing import Any

import pytest
from jsonschema import Draft202012Validator

from agent.core.facts import Fact
from agent.journal.verification import Anchor, verify
from agent.wire import hash_of
from sync import signing
from sync.backend.records import Record, read_record
from sync.backend.store import Delivery, Store
from sync.batch import Codec, codec_of, unpack
from sync.grants import GRANT_TYP, parse_grant
from sync.messages import ACK_TYP, Acknowledgement, BadMessage, Hello, parse_acknowledgement, parse_hello
from tests.journal.samples import LEASE, SAMPLES, SOURCE
from tests.journal.write_golden import FOLDER as RECORDS
from tests.journal.write_golden import golden_bytes, golden_file
from tests.wire_documents import wire_schemas
from tests.wire_documents.write_golden_messages import FOLDER as MESSAGES
from tests.wire_documents.write_wire_documents import DOCS, documents

ASYNCAPI_CHECK = DOCS.parent / ".ci" / "asyncapi"
SCHEMAS = wire_schemas.schemas()
NAMES = [type(fact).__name__ for fact in SAMPLES]


def validator(name: str) -> Draft202012Validator:
    return Draft202012Validator(json.loads((DOCS / "schemas" / f"{name}.json").read_text(encoding="utf-8")))


def fits(name: str, value: Any) -> bool:
    return bool(validator(name).is_valid(value))


def golden(name: str) -> bytes:
    return (MESSAGES / name).read_bytes()


def test_the_documents_are_what_the_models_make() -> None:
    made = documents()
    stale = [str(path) for path, text in made.items() if not path.exists() or path.read_text(encoding="utf-8") != text]
    assert stale == [], "make them anew with: make docs"
    assert {path for path in (DOCS / "schemas").iterdir() if path.is_file()} == {
        path for path in made if path.parent.name == "schemas"
    }


@pytest.mark.parametrize("name", sorted(SCHEMAS))
def test_a_schema_is_a_schema_and_asks_for_no_other_file(name: str) -> None:
    Draft202012Validator.check_schema(SCHEMAS[name])
    assert set(re.findall(r'"\$ref": "([^#"]+)', json.dumps(SCHEMAS[name]))) == set()


@pytest.mark.parametrize("fact", SAMPLES, ids=NAMES)
def test_a_golden_record_fits_the_schema_of_its_kind_and_of_every_record(fact: Fact) -> None:
    event = json.loads(golden_file(fact).read_bytes())
    for name in (wire_schemas.kind_of(type(fact)), "record"):
        assert [error.message for error in validator(name).iter_errors(event)] == []
    others = [name for name in SCHEMAS if name not in (f"{wire_schemas.kind_of(type(fact))}.json", "record.json")]
    assert not any(fits(name.removesuffix(".json"), event) for name in others if name not in MESSAGE_SCHEMAS)


MESSAGE_SCHEMAS = {"hello.json", "ack.json", "status.json", "checkpoint-claims.json", "grant.json"} | {
    f"{name}.json" for name in ("question", "answer", "override")
}


@pytest.mark.parametrize("fact", SAMPLES, ids=NAMES)
def test_a_record_without_its_optional_fields_fits_too_and_one_with_unknown_fields(fact: Fact) -> None:
    kind = type(fact)
    hollow = replace(fact, **dict.fromkeys(wire_schemas.optional(kind)))
    event = json.loads(golden_bytes(hollow))
    newer = {**event, "newattribute": "x", "data": {**event["data"], "mood": "good"}}
    assert fits(wire_schemas.kind_of(kind), event)
    assert fits(wire_schemas.kind_of(kind), newer)


@pytest.mark.parametrize("fact", SAMPLES, ids=NAMES)
def test_a_record_without_a_field_that_it_needs_does_not_fit(fact: Fact) -> None:
    event = json.loads(golden_bytes(fact))
    kind = wire_schemas.kind_of(type(fact))
    for field in fields(fact):
        if field.name not in wire_schemas.optional(type(fact)):
            rest = {name: value for name, value in event["data"].items() if name != field.name}
            assert not fits(kind, {**event, "data": rest}), field.name
    for name in wire_schemas.required_attributes():
        assert not fits(kind, {each: value for each, value in event.items() if each != name}), name


@pytest.mark.parametrize(
    ("file", "schema"),
    [
        ("hello.json", "hello"),
        ("hello-empty.json", "hello"),
        ("hello-withheld.json", "hello"),
        ("ack.json", "ack"),
        ("ack-hello.json", "ack"),
        ("ack-fork.json", "ack"),
        ("status-online.json", "status"),
        ("status-offline.json", "status"),
    ],
)
def test_a_golden_message_fits_its_schema(file: str, schema: str) -> None:
    assert fits(schema, json.loads(golden(file)))


@pytest.mark.parametrize("name", ["hello", "hello-empty", "hello-withheld"])
def test_golden_hellos_are_read(name: str) -> None:
    (hello,) = parse_hello(golden(f"{name}.json"))
    assert hello.nonce == "8f3a6b1c2d4e5f60"
    assert hello.to_bytes() == golden(f"{name}.json")


@pytest.mark.parametrize("name", ["ack", "ack-hello", "ack-fork"])
def test_golden_acknowledgements_are_signed_by_the_golden_key_and_read(name: str) -> None:
    key = golden("service.jwk").decode()
    claims = signing.verify(golden(f"{name}.jws"), {signing.thumbprint(key): key}, typ=ACK_TYP)
    assert claims == json.loads(golden(f"{name}.json"))
    assert parse_acknowledgement(claims).through == 4


def test_the_golden_grant_is_signed_fits_its_schema_and_is_read() -> None:
    key = golden("grant.jwk").decode()
    claims = signing.verify(golden("grant.jws"), {signing.thumbprint(key): key}, typ=GRANT_TYP)
    assert claims == json.loads(golden("grant.json"))
    assert fits("grant", claims)
    grant = parse_grant(claims)
    assert (grant.leases[0].id, grant.leases[0].amount, grant.leases[0].replaces) == (LEASE.id, LEASE.amount, ("b1f0",))
    assert grant.to_claims(issued_at_s=claims["iat"]) == claims


GRANT = json.loads((MESSAGES / "grant.json").read_bytes())


def test_the_schema_of_a_grant_says_what_its_reader_takes() -> None:
    judged = [(accepted(parse_grant, each), fits("grant", each)) for each in spoilt(GRANT)]
    assert len(judged) > 500
    assert any(fit for _, fit in judged)
    assert sum(fit and not taken for taken, fit in judged) == 0


def golden_journal() -> list[bytes]:
    return golden("journal.jsonl").splitlines()


def test_the_golden_journal_is_whole_and_signed() -> None:
    key = golden("device.jwk").decode()
    bodies = golden_journal()
    verdict = verify(
        bodies, keys={signing.thumbprint(key): key}, head=Anchor(sequence=len(bodies), hash=hash_of(bodies[-1]))
    )
    assert (verdict.ok, verdict.checkpoints, verdict.signed_through) == (True, 1, len(bodies) - 1)
    jws = json.loads(bodies[-1])["data"]["jws"]
    claims = signing.verify(jws, {signing.thumbprint(key): key}, typ="roamkey-checkpoint+jws")
    assert fits("checkpoint-claims", claims)


@pytest.mark.parametrize("codec", list(Codec))
def test_there_is_a_golden_batch_of_every_codec(codec: Codec) -> None:
    assert unpack(golden(f"batch.{codec.value}"), codec) == golden_journal()[:3]
    assert codec_of(None, codec.value) is codec


def test_the_receiver_takes_the_golden_journal(tmp_path: Path) -> None:
    lines = tuple(read_record(line, SOURCE) for line in golden_journal())
    assert all(isinstance(line, Record) for line in lines)
    with closing(Store(tmp_path / "db")) as store:
        (state,) = store.take([Delivery(device="gw-17", lines=lines)])
        assert (state.through, state.hash) == (len(lines), hash_of(golden_journal()[-1]))


HELLO = json.loads((MESSAGES / "hello-withheld.json").read_bytes())
ACK = json.loads((MESSAGES / "ack.json").read_bytes())
VALUES: tuple[Any, ...] = (
    None, True, False, 0, 1, -1, 2**63 - 1, 2**63, 1.5, "", "x", "x" * 64, "x" * 65, "0" * 64, "G" * 64, [], {}, [[]],
    [[1, 2]], [[1]], [[0, 1]], [[1, 2, 3]], ["x"], {"1": "y"}, {"x": "y"}, {"1": {}}, {"1": {"hash": "0" * 64}},
    {"1": {"hash": "0" * 64, "reason": "r"}}, [HELLO["journals"][0]] * 8, [HELLO["journals"][0]] * 9,
)  # fmt: skip


def spoilt(message: Any) -> Iterator[Any]:
    """The message with each of its places taken out, and with each value in each place."""
    match message:
        case dict():
            for name in message:
                yield {other: value for other, value in message.items() if other != name}
                for value in VALUES:
                    yield {**message, name: value}
                for inner in spoilt(message[name]):
                    yield {**message, name: inner}
            yield {**message, "unknown": 1}
        case list():
            for place in range(len(message)):
                for inner in spoilt(message[place]):
                    yield [*message[:place], inner, *message[place + 1 :]]
        case _:
            pass


def accepted(read: Any, message: Any) -> bool:
    try:
        read(message)
    except BadMessage:
        return False
    return True


ANSWERS_HELLO = {"answers_hello": "hello"}
# A reader may be more patient than what a sender is asked to keep to, never stricter.
PATIENT_HELLO = ("reason",)


def test_the_schema_of_a_hello_says_what_its_reader_takes() -> None:
    for message in [*spoilt(HELLO), *VALUES]:
        taken = accepted(parse_hello, json.dumps(message).encode())
        if fits("hello", message):
            assert taken, message
        elif taken:
            assert any(word in json.dumps(message) for word in PATIENT_HELLO), message


def test_the_schema_of_an_acknowledgement_says_what_its_reader_takes() -> None:
    for message in spoilt(ACK):
        taken = accepted(parse_acknowledgement, message)
        if fits("ack", message) and message.get("resend") != [[2, 1]]:
            assert taken, message


@pytest.mark.parametrize(("kind", "schema", "others"), [(Hello, "hello", {}), (Acknowledgement, "ack", ANSWERS_HELLO)])
def test_a_field_that_a_message_gets_is_told_in_its_schema(kind: type, schema: str, others: dict[str, str]) -> None:
    told = SCHEMAS[f"{schema}.json"]["properties"]
    told = told | told.get("journals", {}).get("items", {}).get("properties", {})
    assert {others.get(field.name, field.name) for field in fields(kind)} <= set(told)


def test_the_status_says_what_a_running_service_says() -> None:
    """By the names of its fields: a field that the service adds must be told in the schema, too."""
    source = (DOCS.parent / "agent" / "runtime.py").read_text(encoding="utf-8")
    _, _, body = source.partition("def _describe(self)")
    said = set(re.findall(r'^            "([a-z_]+)":', body.partition("\n    def ")[0], flags=re.MULTILINE))
    assert said == set(SCHEMAS["status.json"]["properties"]) - {"online", "nonce"}


def test_every_link_of_the_wire_document_leads_somewhere() -> None:
    text = (DOCS / "wire.md").read_text(encoding="utf-8")
    targets = {target for target in re.findall(r"\]\(([^)#]+)\)", text) if "://" not in target}
    assert targets
    assert [target for target in sorted(targets) if not (DOCS / target).exists()] == []


def test_there_is_one_golden_record_of_each_kind_and_no_other() -> None:
    assert {path.name for path in RECORDS.iterdir()} == set(SCHEMAS) - MESSAGE_SCHEMAS - {"record.json"}


@pytest.mark.slow
def test_asyncapis_own_parser_takes_the_document() -> None:
    """Without it the document is not judged at all: that is a failure, not a skip."""
    node = shutil.which("node")
    assert node is not None, "Debian's nodejs is missing: make needs"
    assert (ASYNCAPI_CHECK / "node_modules").is_dir(), "AsyncAPI's parser is not installed: make node"
    check = [node, str(ASYNCAPI_CHECK / "check.mjs")]

    good = subprocess.run([*check, DOCS / "asyncapi.yaml"], capture_output=True, text=True, check=False, timeout=60)

    assert good.returncode == 0, good.stdout + good.stderr
    assert "11 channels" in good.stdout


@pytest.mark.slow
def test_asyncapis_own_parser_would_notice(tmp_path: Path) -> None:
    node = shutil.which("node")
    assert node is not None, "Debian's nodejs is missing: make needs"
    shutil.copytree(DOCS / "schemas", tmp_path / "schemas")
    text = (DOCS / "asyncapi.yaml").read_text(encoding="utf-8")
    for spoil in (
        ("action: receive", "action: take"),
        ("channels/hello", "channels/hallo"),
        ("/hello.json", "/no.json"),
    ):
        (tmp_path / "asyncapi.yaml").write_text(text.replace(*spoil), encoding="utf-8")
        bad = subprocess.run(
            [node, str(ASYNCAPI_CHECK / "check.mjs"), tmp_path / "asyncapi.yaml"],
            capture_output=True,
            text=True,
            check=False,
            timeout=60,
        )
        assert bad.returncode == 1, spoil
