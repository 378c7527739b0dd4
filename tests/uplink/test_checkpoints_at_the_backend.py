"""The backend knows the devices' keys: what no device has signed is shown, however well it continues the chain."""

from __future__ import annotations

import asyncio
import contextlib
import hashlib
import json
import logging
from pathlib import Path

import pytest

from agent.cli import main
from agent.core.facts import Checkpoint
from agent.wire import CHECKPOINT_TYPE as AGENTS_TYP
from agent.wire import TYPES, checkpoint_claims
from sync import signing
from sync.backend.checkpoints import CHECKPOINT_TYP, CHECKPOINT_TYPE, DeviceKeys, Word, word_of
from sync.backend.records import read_record
from sync.backend.store import Delivery, Store, StreamAudit
from sync.batch import Codec, content_type, pack
from sync.memory_outbox import MemoryOutbox
from sync.topics import DeviceTopics
from tests.uplink.closed_loop import DEVICE, FLEET, Fleet, eventually
from tests.uplink.strict_broker import strict_broker

TOPICS = DeviceTopics(fleet=FLEET, device=DEVICE)


@pytest.fixture
def key() -> signing.SigningKey:
    return signing.generate()


def seal_checkpoint(outbox: MemoryOutbox, key: signing.SigningKey, **lies: object) -> None:
    """As the agent's journal does it."""
    head = asyncio.run(outbox.head())
    claims = checkpoint_claims(source=TOPICS.source, journal=outbox.journal, sequence=head.last, hash=head.hash)
    outbox.seal(type=CHECKPOINT_TYPE, jws=signing.sign({**claims, **lies}, key, typ=CHECKPOINT_TYP))


def a_journal() -> MemoryOutbox:
    return MemoryOutbox(fleet=FLEET, device=DEVICE)


def audited(folder: Path, outbox: MemoryOutbox, key: signing.SigningKey | None, *, without: int = 0) -> StreamAudit:
    last = asyncio.run(outbox.head()).last
    lines = tuple(read_record(outbox.body(at), TOPICS.source) for at in range(1, last + 1) if at != without)
    with contextlib.closing(Store(folder / "s.sqlite")) as store:
        store.take([Delivery(device=DEVICE, lines=lines)])
        (audit,) = store.audit(lambda device: None if key is None else {key.kid: key.public_jwk})
    return audit


def test_the_names_are_those_that_the_agent_signs_with() -> None:
    assert (TYPES[Checkpoint], AGENTS_TYP) == (CHECKPOINT_TYPE, CHECKPOINT_TYP)


def test_records_up_to_the_last_good_checkpoint_are_signed_for(tmp_path: Path, key: signing.SigningKey) -> None:
    journal = a_journal()
    journal.seal_many(5)
    seal_checkpoint(journal, key)
    journal.seal_many(3)
    seal_checkpoint(journal, key)
    journal.seal_many(2)

    audit = audited(tmp_path, journal, key)

    # The checkpoint's own bytes wait for the next one, as the two after it do.
    assert (audit.unsigned, audit.bad_checkpoints) == (((10, 12),), ())


def test_without_the_devices_key_nothing_is_claimed(tmp_path: Path, key: signing.SigningKey) -> None:
    journal = a_journal()
    journal.seal_many(2)
    seal_checkpoint(journal, key)
    assert audited(tmp_path, journal, None).unsigned is None


def test_a_checkpoint_reaches_back_only_as_far_as_the_chain_is_whole(tmp_path: Path, key: signing.SigningKey) -> None:
    journal = a_journal()
    journal.seal_many(8)
    seal_checkpoint(journal, key)
    assert audited(tmp_path, journal, key, without=4).unsigned == ((1, 3), (9, 9))


def test_over_a_record_that_cannot_be_read_no_signature_reaches(tmp_path: Path, key: signing.SigningKey) -> None:
    journal = a_journal()
    journal.seal_many(3)
    journal.append(b"not json")
    journal.seal_many(2)
    seal_checkpoint(journal, key)
    assert audited(tmp_path, journal, key).unsigned == ((1, 3), (7, 7))


@pytest.mark.parametrize(
    "lie",
    [
        {"sequence": 1},
        {"hash": "ab" * 32},
        {"journal": "another"},
        {"device": "gw-2"},
        {"fleet": "f2"},
    ],
)
def test_a_checkpoint_that_was_signed_for_something_else_is_named(
    tmp_path: Path, key: signing.SigningKey, lie: dict[str, object]
) -> None:
    journal = a_journal()
    journal.seal_many(3)
    seal_checkpoint(journal, key, **lie)
    audit = audited(tmp_path, journal, key)
    assert (audit.unsigned, audit.bad_checkpoints) == (((1, 4),), (4,))


def test_a_checkpoint_by_another_key_is_named(tmp_path: Path, key: signing.SigningKey) -> None:
    journal = a_journal()
    journal.seal_many(3)
    seal_checkpoint(journal, signing.generate())
    assert audited(tmp_path, journal, key).bad_checkpoints == (4,)


@pytest.mark.parametrize(
    "body",
    [
        b'{"type":"io.roamkey.checkpoint"}',
        b'"io.roamkey.checkpoint"',
        b'["io.roamkey.checkpoint"]',
        b'{"type":"io.roamkey.checkpoint","source":"x","data":{}}',
        b'{"type":"io.roamkey.checkpoint","source":"/fleets/f1/devices/gw-1","sequence":"x","data":{"jws":1}}',
        b'{"io.roamkey.checkpoint": ' * 10_000,
    ],
)
def test_junk_is_no_good_checkpoint(body: bytes) -> None:
    assert word_of(body, {}) is not Word.GOOD


def test_keys_are_read_again_when_they_change_and_a_damaged_file_is_as_good_as_none(tmp_path: Path) -> None:
    old, new = signing.generate(), signing.generate()
    keys = DeviceKeys(tmp_path)
    assert keys.of("gw-1") is None
    (tmp_path / "gw-1.jwk").write_text(old.public_jwk)
    assert set(keys.of("gw-1") or ()) == {old.kid}
    both = {"keys": [json.loads(each.public_jwk) for each in (old, new)]}
    (tmp_path / "gw-1.jwk").write_text(json.dumps(both, indent=1))
    assert set(keys.of("gw-1") or ()) == {old.kid, new.kid}
    for damaged in ("", "[]", "{}", '{"keys": [1]}', "\udcff"):
        (tmp_path / "gw-1.jwk").write_bytes(damaged.encode(errors="surrogateescape"))
        assert keys.of("gw-1") is None


def test_records_that_a_rogue_broker_invents_stay_unsigned_and_its_checkpoints_are_noticed(
    fleet: Fleet,
    key: signing.SigningKey,
    caplog: pytest.LogCaptureFixture,
    capsys: pytest.CaptureFixture[str],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """It continues the chain perfectly. Nothing is trimmed for it on the device, and the audit shows what it is."""
    folder = fleet.folder / "keys"
    folder.mkdir()
    (folder / f"{DEVICE}.jwk").write_text(key.public_jwk)
    fleet.outbox.seal_many(9)
    seal_checkpoint(fleet.outbox, key)

    async def story() -> None:
        async with strict_broker() as broker, fleet.receiver(broker.port, device_keys=folder):
            async with fleet.device(broker.port):
                await fleet.until_delivered()
            # The device is away; somebody writes in its name.
            forger = MemoryOutbox(fleet=FLEET, device=DEVICE, journal=fleet.outbox.journal)
            forger._bodies = list(fleet.outbox._bodies)
            forger._hashes = [hashlib.sha256(body).hexdigest() for body in forger._bodies]
            forger.seal(type="io.roamkey.session.ended", energy_wh=1_000_000)
            head = await forger.head()
            claims = checkpoint_claims(source=TOPICS.source, journal=head.journal, sequence=head.last, hash=head.hash)
            token = signing.sign(claims, signing.generate(), typ=CHECKPOINT_TYP)
            forger.seal(type=CHECKPOINT_TYPE, jws=token)
            for peer in broker._peers:
                if peer.name == "receiver-1":
                    media = content_type(Codec.PLAIN).encode()
                    peer.deliver(TOPICS.records, pack(forger._bodies[10:], Codec.PLAIN), media)
            await eventually(lambda: fleet.audit().stored == 12)
            async with fleet.device(broker.port):
                await asyncio.sleep(0.3)

    with caplog.at_level(logging.ERROR):
        asyncio.run(story())
    assert fleet.outbox.acknowledged == 10
    assert any("who writes in its name" in each.message for each in caplog.records)

    words = ["receive", "--audit", "--db", str(fleet.database), "--device-keys", str(folder)]
    unused = ["--broker", "localhost:1", "--fleet", FLEET, "--key", "none"]
    assert main([*words, *unused, "--json"]) == 1
    (audit,) = json.loads(capsys.readouterr().out)
    assert (audit["unsigned"], audit["bad_checkpoints"]) == ([[10, 12]], [12])
    monkeypatch.setenv("COLUMNS", "200")
    assert main([*words, *unused]) == 1
    assert "FORGED" in capsys.readouterr().out
