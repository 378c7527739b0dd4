"""The fleet's word on contracts travels in the same signed bundle: published, judged on the device, kept, replaced."""

from __future__ import annotations

import json
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import pytest

from agent.cache.cache import Activated, PartLost
from agent.cli import main
from agent.contracts.trust_documents import ANCHORS, REVOCATIONS, read_trust
from agent.core.credentials import contract_reference
from sync.carriers import FolderCarrier

EMAID = "DE-8AA-001234567-0"
ANCHORS_BODY = b'{"schema": 1, "anchors": []}'
REVOCATIONS_BODY = b'{"schema": 1, "issued": "2026-11-22T12:00:00Z", "cancelled": ["DE-8AA-001234567-0"]}'


@pytest.fixture
def source(tmp_path: Path) -> Path:
    folder = tmp_path / "source"
    (folder / "contracts").mkdir(parents=True)
    (folder / "policy.toml").write_text("[groups.vans]\n")
    (folder / "drivers.toml").write_text("")
    (folder / "vehicles.toml").write_text("")
    (folder / "tokens.toml").write_text(f'[[tokens]]\nemaid = "{EMAID}"\nlabel = "van 7"\ngroup = "vans"\n')
    (folder / ANCHORS).write_bytes(ANCHORS_BODY)
    (folder / REVOCATIONS).write_bytes(REVOCATIONS_BODY)
    return folder


@pytest.fixture
def office(tmp_path: Path) -> Path:
    folder = tmp_path / "office"
    assert main(["fleet", "init", str(folder), "--fleet", "meadow", "--json"]) == 0
    return folder


def a_device(office: Path, make: Any) -> Any:
    files = office.parent / "files"
    assert main(["fleet", "device-files", str(office), "--out", str(files)]) == 0
    key = bytes.fromhex((files / "token.key").read_text())
    return make.ADevice(office.parent / "device", "meadow", (files / "root.json").read_bytes(), key), key


def published(office: Path, source: Path) -> int:
    return main(["fleet", "publish", str(office), "--policy", str(source)])


def updated(device: Any, office: Path, make: Any) -> Any:
    return device.updates(FolderCarrier(office / "repository"), make.replace(make.at(), utc=datetime.now(UTC)))


def test_contracts_and_whom_to_trust_reach_the_device(office: Path, source: Path, make: Any) -> None:
    assert published(office, source) == 0
    device, key = a_device(office, make)

    assert isinstance(updated(device, office, make), Activated)

    assert device.cache.trust_papers() == {ANCHORS: ANCHORS_BODY, REVOCATIONS: REVOCATIONS_BODY}
    assert read_trust(device.cache.trust_papers()).cancelled == {"DE8AA001234567"}
    assert device.cache.lookup(contract_reference(key, "DE8AA001234567")).label == "van 7"
    assert device.cache.lookup(make.ref("DE8AA001234567", key)) is None, "a card of these seven bytes is no contract"
    device.stops()


def test_a_later_list_takes_the_place_of_the_earlier(office: Path, source: Path, make: Any) -> None:
    published(office, source)
    device, _ = a_device(office, make)
    updated(device, office, make)
    (source / REVOCATIONS).unlink()
    published(office, source)

    assert isinstance(updated(device, office, make), Activated)

    assert set(device.cache.trust_papers()) == {ANCHORS}
    device.stops()


def test_a_list_that_the_storage_lost_is_never_taken_for_an_empty_one(office: Path, source: Path, make: Any) -> None:
    published(office, source)
    device, _ = a_device(office, make)
    updated(device, office, make)
    for part in (office.parent / "device").rglob("parts/*"):
        if part.read_bytes() == REVOCATIONS_BODY:
            part.write_bytes(b"")

    with pytest.raises(PartLost):
        device.cache.trust_papers()

    updated(device, office, make)
    assert device.cache.trust_papers()[REVOCATIONS] == REVOCATIONS_BODY
    device.stops()


@pytest.mark.parametrize(
    ("file", "body", "told"),
    [
        (ANCHORS, b"{}", "contracts/anchors.json: lacks"),
        (ANCHORS, b'{"schema": 2, "anchors": []}', "contracts/anchors.json: has schema 2"),
        (REVOCATIONS, b'{"schema": 1, "issued": "yesterday"}', "contracts/revocations.json: issued: is no time"),
    ],
)
def test_what_is_no_document_about_contracts_is_not_published(
    office: Path, source: Path, capsys: pytest.CaptureFixture[str], file: str, body: bytes, told: str
) -> None:
    (source / file).write_bytes(body)
    assert published(office, source) == 65
    assert told in capsys.readouterr().err


def test_a_contract_that_was_mistyped_is_not_published(
    office: Path, source: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    (source / "tokens.toml").write_text('[[tokens]]\nemaid = "DE-8AA-001234568-0"\nlabel = "van 7"\ngroup = "vans"\n')
    assert published(office, source) == 65
    complaint = capsys.readouterr().err
    assert "tokens.toml:2: token 1.emaid: " in complaint
    assert "001234568" not in complaint


def test_a_contract_is_named_once(office: Path, source: Path, capsys: pytest.CaptureFixture[str]) -> None:
    (source / "tokens.csv").write_text(f"emaid,label,group\n{EMAID},again,vans\n")
    assert published(office, source) == 65
    assert "is the same contract as in tokens.toml:1" in capsys.readouterr().err


def test_the_other_names_are_refused_on_the_device() -> None:
    from agent.cache.documents import DocumentUnfit, _judge_trust

    with pytest.raises(DocumentUnfit, match=r"contracts/more\.json"):
        _judge_trust({"contracts/more.json": json.dumps({}).encode()})
