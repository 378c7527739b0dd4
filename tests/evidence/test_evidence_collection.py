"""What a device keeps for evidence, what it says when there is none, and the fleet's list of devices."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from agent.cache.archive import Archive
from agent.cache.documents import DocumentUnfit, read_contents, read_devices
from agent.evidence.collection import NoEvidence, span_of
from agent.evidence.document import to_bytes
from agent.fleet.source import SourceUnfit, read_source
from sync.bundle import SignedBundle
from sync.signing import generate
from tests.evidence.charging_case import NOON, TOKEN_KEY, Case, at

KEY = generate()
JWK = json.loads(KEY.public_jwk)


def a_bundle(number: int) -> SignedBundle:
    return SignedBundle(
        root=1,
        timestamp=b"t",
        snapshot=b"s",
        targets=b"%d" % number,
        parts={"policy.json": b"{}", "people.json": b"{}"},
    )


def test_a_session_that_goes_on_has_no_evidence_yet(case: Case) -> None:
    case.journal.append([(fact, at()) for fact in case.tap("s-1", 0)])
    with pytest.raises(NoEvidence, match="has not ended yet") as raised:
        span_of(case.journal, "s-1")
    assert raised.value.later
    case.journal.append([(case.end("s-1", 0), at(60))])
    with pytest.raises(NoEvidence, match="not closed by a checkpoint yet") as raised:
        span_of(case.journal, "s-1")
    assert raised.value.later


def test_a_session_that_nobody_knows_has_no_evidence(case: Case) -> None:
    with pytest.raises(NoEvidence, match="s-9 is not in the journal") as raised:
        span_of(case.journal, "s-9")
    assert not raised.value.later


def test_records_of_other_sessions_in_between_are_part_of_the_chain(case: Case) -> None:
    case.journal.append([(fact, at()) for fact in case.tap("s-1", 0)])
    case.charges("s-2", minute=1)
    case.journal.append([(case.end("s-1", 0), at(90))])
    case.journal.seal_checkpoint(case.vault, at(90))

    about = [json.loads(body).get("subject") for body in case.evidence("s-1").records]

    assert about == ["d-s-1", "s-1", "d-s-2", "s-2", "s-2", "s-2", None, "s-1", None]


def test_what_is_missing_is_told(tmp_path: Path) -> None:
    case = Case(tmp_path, vouched=False)
    case.charges()
    for path in (tmp_path / "policy" / "archive" / "bundles").iterdir():
        path.unlink()
    bundles, missing = case.bundles()
    case.close()

    assert bundles == []
    assert [text[:30] for text in missing] == ["the policy that decided is not", "the fleet's documents do not n"]
    assert "devices/van-7.jwk" in missing[1]


def test_a_damaged_archive_is_no_proof_and_no_crash(case: Case) -> None:
    case.charges()
    (path,) = (case.folder / "policy" / "archive" / "bundles").glob("*.z")
    path.write_bytes(b"\x00" * 100)
    assert case.bundles()[0] == []
    case.reopens_its_cache()
    assert case.cache.active is not None


def test_the_archive_is_bounded_and_keeps_the_newest(tmp_path: Path) -> None:
    archive = Archive(tmp_path, most_bundles=3)
    for number in range(8):
        archive.add(a_bundle(number), revision=number)
    assert archive.bundle(a_bundle(4).fingerprint) is None
    assert archive.bundle(a_bundle(7).fingerprint) == replace(a_bundle(7), parts={"policy.json": b"{}"})


def test_another_line_of_roots_replaces_the_old_one(tmp_path: Path) -> None:
    def root(version: int, line: str) -> bytes:
        return json.dumps({"signed": {"version": version, "line": line}}).encode()

    archive = Archive(tmp_path)
    archive.add_roots([root(1, "old"), root(2, "old"), root(3, "old")])
    archive.add_roots([root(1, "old"), root(3, "old")])
    assert len(archive.roots()) == 3
    archive.add_roots([root(1, "new"), root(2, "new")])
    assert archive.roots() == [root(1, "new"), root(2, "new")]


def devices(*entries: dict[str, Any]) -> bytes:
    return json.dumps({"schema": 1, "devices": list(entries)}).encode()


def test_the_list_of_devices_names_their_keys() -> None:
    other = generate()
    body = devices(
        {
            "device": "van-7",
            "keys": [{"kid": KEY.kid, "jwk": JWK}, {"kid": other.kid, "jwk": json.loads(other.public_jwk)}],
        }
    )
    assert set(read_devices(body)["van-7"]) == {KEY.kid, other.kid}


BAD: list[tuple[bytes, str]] = [
    (devices({"device": "van-7", "keys": []}), "at least 1"),
    (devices({"device": "van-7", "keys": [{"kid": "x", "jwk": JWK}]}), "has the thumbprint"),
    (devices({"device": "van-7", "keys": [{"kid": KEY.kid, "jwk": {**JWK, "d": "x"}}]}), "private half"),
    (devices({"device": "van-7", "keys": [{"kid": KEY.kid, "jwk": {"kty": "RSA"}}]}), "key type"),
    (devices({"device": "Van 7", "keys": [{"kid": KEY.kid, "jwk": JWK}]}), "pattern"),
    (devices(*[{"device": "van-7", "keys": [{"kid": KEY.kid, "jwk": JWK}]}] * 2), "here twice"),
    (devices({"device": "van-7", "keys": [{"kid": KEY.kid, "jwk": JWK}], "colour": "red"}), "Extra inputs"),
    (b'{"schema":2,"devices":[]}', "update roamkey"),
    (b"[]", "devices.json"),
]


@pytest.mark.parametrize(("body", "told"), BAD, ids=[told for _, told in BAD])
def test_a_list_of_devices_that_is_wrong_spoils_the_bundle(case: Case, body: bytes, told: str) -> None:
    with pytest.raises(DocumentUnfit, match=told):
        read_contents({**case.documents(), "devices.json": body})


def test_a_bundle_without_a_list_of_devices_is_as_good(case: Case) -> None:
    bodies = case.documents()
    del bodies["devices.json"]
    assert read_contents(bodies).fleet == "meadow"


@pytest.fixture
def source(tmp_path: Path) -> Path:
    folder = tmp_path / "source"
    (folder / "devices").mkdir(parents=True)
    (folder / "policy.toml").write_text("[groups.fleet]\n")
    for name in ("drivers.toml", "vehicles.toml", "tokens.toml"):
        (folder / name).write_text("")
    return folder


def published(source: Path) -> dict[str, bytes]:
    keys = {"schema": 1, "keys": [{"kid": KEY.kid, "use": "ack", "jwk": JWK}]}
    return read_source(source, fleet="meadow", revision=2, issued=NOON, token_key=TOKEN_KEY, keys=keys)


def test_the_fleet_office_lists_the_keys_that_lie_in_its_folder(source: Path) -> None:
    second = json.loads(generate().public_jwk)
    (source / "devices" / "van-7.jwk").write_text(KEY.public_jwk)
    (source / "devices" / "van-8.jwk").write_text(json.dumps({"keys": [JWK, second]}))
    listed = read_devices(published(source)["devices.json"])
    assert {name: len(keys) for name, keys in listed.items()} == {"van-7": 1, "van-8": 2}


def test_without_keys_there_is_no_list(source: Path) -> None:
    assert "devices.json" not in published(source)


@pytest.mark.parametrize("junk", ["", "[]", "{}", '{"keys": 5}', '{"kty": "oct", "k": "AA"}', "\x00"])
def test_what_is_no_public_key_is_named(source: Path, junk: str) -> None:
    (source / "devices" / "van-7.jwk").write_text(junk)
    with pytest.raises(SourceUnfit, match=r"devices/van-7\.jwk: is no public JSON Web Key"):
        published(source)


def test_a_private_key_is_never_published(source: Path) -> None:
    (source / "devices" / "van-7.jwk").write_text(json.dumps({**JWK, "d": "AAAA"}))
    with pytest.raises(SourceUnfit, match="private half"):
        published(source)


def test_evidence_is_written_the_same_way_each_time(case: Case) -> None:
    case.charges()
    assert to_bytes(case.evidence()) == to_bytes(case.evidence())
