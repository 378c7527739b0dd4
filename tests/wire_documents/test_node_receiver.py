"""A second receiver, written from docs/wire.md alone: it takes all that our delivery sends, and keeps it right."""

from __future__ import annotations

import asyncio
import contextlib
import json
import shutil
import subprocess
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import pytest

from agent.journal.verification import Anchor, verify
from agent.wire import hash_of
from sync import signing
from sync.backend.records import read_record
from sync.backend.store import Delivery, Store
from sync.link import Protocol
from sync.memory_outbox import MemoryOutbox
from sync.ports import Head, Quarantined
from tests.end_to_end.premises import built_premises, found_office
from tests.uplink.closed_loop import DEVICE, FLEET, Fleet, a_fleet, eventually, mosquitto
from tests.wire_documents.write_golden_messages import FOLDER as GOLDEN

RECEIVER = Path(__file__).parents[2] / "docs" / "examples" / "node-receiver"

pytestmark = pytest.mark.slow


@pytest.fixture(scope="module")
def node() -> str:
    """Without it the wire's page is not tried by anybody else: that is a failure, not a skip."""
    found = shutil.which("node")
    assert found is not None, "Debian's nodejs is missing: make needs"
    assert (RECEIVER / "node_modules").is_dir(), "the receiver's packages are not installed: make node"
    return found


@pytest.fixture
def fleet(tmp_path: Path) -> Fleet:
    return a_fleet(tmp_path)


class NodeReceiver:
    def __init__(self, node: str, folder: Path, port: int, *, fleet: str = FLEET, key: Path | None = None) -> None:
        self.data = folder / "node-data"
        self.log = folder / "node.log"
        self._node, self._fleet = node, fleet
        self._words = ("--broker", f"mqtt://127.0.0.1:{port}", "--key", str(key or folder / "service.pem"))
        self._process: asyncio.subprocess.Process | None = None

    async def start(self, *words: str) -> None:
        with self.log.open("wb") as log:
            self._process = await asyncio.create_subprocess_exec(
                *(self._node, str(RECEIVER / "receiver.mjs"), "--fleet", self._fleet, "--data", str(self.data)),
                *(*self._words, *words),
                stdout=log,
                stderr=log,
            )
        await eventually(lambda: b"ready" in self.log.read_bytes(), within_s=15)

    async def kill(self) -> None:
        if self._process is not None and self._process.returncode is None:
            self._process.kill()
            await self._process.wait()

    def audit(self, *words: str) -> list[dict[str, Any]]:
        """By the receiver's own verification; it must find all well."""
        command = [self._node, str(RECEIVER / "receiver.mjs"), "--fleet", self._fleet, "--data", str(self.data)]
        done = subprocess.run([*command, "--verify", *words], capture_output=True, text=True, check=False, timeout=30)
        assert done.returncode == 0, done.stdout + done.stderr
        told: list[dict[str, Any]] = json.loads(done.stdout)
        return told

    def bodies(self, journal: str, device: str = DEVICE) -> list[bytes]:
        """The records' exact bytes, read from its file without its help."""
        lines = (self.data / device / f"{journal}.log").read_bytes().split(b"\n")
        return [line[2:] for line in lines if line.startswith(b"R ")]


@asynccontextmanager
async def node_receiver(node: str, folder: Path, port: int, *words: str) -> AsyncIterator[NodeReceiver]:
    receiver = NodeReceiver(node, folder, port)
    await receiver.start(*words)
    try:
        yield receiver
    finally:
        await receiver.kill()


async def held(outbox: MemoryOutbox) -> tuple[Head, list[bytes]]:
    head = await outbox.head()
    return head, [each.body for each in await outbox.read(0, records=10**6, size_bytes=10**9)]


async def assert_same(fleet: Fleet, receiver: NodeReceiver) -> None:
    """Everything arrived once, byte for byte, and both sides find the same chain whole."""
    head, sealed = await held(fleet.outbox)
    (audit,) = receiver.audit()
    assert (audit["stored"], audit["distinct"], audit["through"]) == (len(sealed), len(sealed), head.last)
    assert (audit["hash"], audit["chain"], audit["forks"], audit["missing"]) == (head.hash, True, [], [])
    assert sorted(receiver.bodies(head.journal)) == sorted(sealed)
    ours = [read_record(body, f"/fleets/{FLEET}/devices/{DEVICE}") for body in receiver.bodies(head.journal)]
    with contextlib.closing(Store(fleet.folder / "ours.db")) as store:
        (state,) = store.take([Delivery(device=DEVICE, lines=tuple(ours))])
    assert (state.through, state.hash, state.fork) == (head.last, head.hash, None)


@pytest.mark.parametrize("version", ["5", "3.1.1"])
def test_everything_arrives_once_and_is_acknowledged_for_good(fleet: Fleet, node: str, version: str) -> None:
    async def story() -> None:
        async with (
            mosquitto(fleet.folder) as broker,
            node_receiver(node, fleet.folder, broker.port, "--mqtt", version) as receiver,
        ):
            fleet.outbox.seal_many(1_500)
            async with fleet.device(broker.port, protocol=Protocol(version)):
                await fleet.until_delivered()
                fleet.outbox.seal_many(100)
                await fleet.until_delivered()
            await assert_same(fleet, receiver)
            assert fleet.alarms() == set()

    asyncio.run(story())


def test_kills_of_the_receiver_lose_nothing_and_store_nothing_twice(fleet: Fleet, node: str) -> None:
    async def story() -> None:
        async with mosquitto(fleet.folder) as broker:
            receiver = NodeReceiver(node, fleet.folder, broker.port)
            await receiver.start()
            async with fleet.device(broker.port):
                for _ in range(5):
                    fleet.outbox.seal_many(400)
                    await asyncio.sleep(0.05)
                    await receiver.kill()
                    await receiver.start()
                await fleet.until_delivered(within_s=40)
            await receiver.kill()
            await assert_same(fleet, receiver)

    asyncio.run(story())


def test_a_restored_old_copy_gets_what_it_lacks(fleet: Fleet, node: str) -> None:
    async def story() -> None:
        async with mosquitto(fleet.folder) as broker:
            receiver = NodeReceiver(node, fleet.folder, broker.port)
            await receiver.start()
            async with fleet.device(broker.port):
                fleet.outbox.seal_many(200)
                await fleet.until_delivered()
                shutil.copytree(receiver.data, fleet.folder / "backup")
                fleet.outbox.seal_many(200)
                await fleet.until_delivered()
                await receiver.kill()
                shutil.rmtree(receiver.data)
                (fleet.folder / "backup").rename(receiver.data)
                await receiver.start()
                last = (await fleet.outbox.head()).last
                await eventually(lambda: receiver.audit()[0]["through"] == last, within_s=20)
            await receiver.kill()
            await assert_same(fleet, receiver)

    asyncio.run(story())


def test_a_torn_last_line_was_never_acknowledged_and_comes_again(fleet: Fleet, node: str) -> None:
    async def story() -> None:
        async with mosquitto(fleet.folder) as broker:
            receiver = NodeReceiver(node, fleet.folder, broker.port)
            await receiver.start()
            async with fleet.device(broker.port):
                fleet.outbox.seal_many(50)
                await fleet.until_delivered()
                await receiver.kill()
                head = await fleet.outbox.head()
                with (receiver.data / DEVICE / f"{head.journal}.log").open("ab") as file:
                    file.write(b'R {"specversion":"1.0","id":"01')
                fleet.outbox.seal_many(50)
                await receiver.start()
                await fleet.until_delivered()
            await receiver.kill()
            await assert_same(fleet, receiver)

    asyncio.run(story())


def test_a_poisoned_record_is_kept_aside_and_holds_up_nobody(fleet: Fleet, node: str) -> None:
    async def story() -> None:
        async with (
            mosquitto(fleet.folder) as broker,
            node_receiver(node, fleet.folder, broker.port) as receiver,
        ):
            fleet.outbox.seal_many(20)
            fleet.outbox.append(b"this is no record")
            fleet.outbox.seal_many(20)
            async with fleet.device(broker.port):
                await fleet.until_delivered()
            (audit,) = receiver.audit()
            assert (audit["stored"], audit["quarantined"], audit["through"]) == (40, 1, 41)
            assert [each.sequence for each in fleet.events if isinstance(each, Quarantined)] == [21]

    asyncio.run(story())


def test_the_golden_messages_are_read_and_verified_in_javascript_too(node: str, tmp_path: Path) -> None:
    script = tmp_path / "golden.mjs"
    script.write_text(
        f"""
import {{ readFileSync }} from 'node:fs';
import {{ GENESIS, readHello, readRecord, unpack, verified }} from {json.dumps(str(RECEIVER / "wire.mjs"))};
const golden = (name) => readFileSync({json.dumps(str(GOLDEN))} + '/' + name);
const plain = unpack(golden('batch.plain'), undefined, 'plain').map(String);
const packed = unpack(golden('batch.zlib'), 'application/cloudevents+jsonl; encoding=zlib').map(String);
let before = GENESIS;
const chain = golden('journal.jsonl').toString().trim().split('\\n').map((line) => {{
  const record = readRecord(Buffer.from(line), '/fleets/nordlicht/devices/gw-17');
  const good = record.reason === undefined && record.previous === before;
  before = record.hash;
  return good;
}});
const last = JSON.parse(golden('journal.jsonl').toString().trim().split('\\n').at(-1));
console.log(JSON.stringify({{
  batches: plain.length === 3 && plain.every((line, at) => line === packed[at]),
  chain,
  hello: readHello(golden('hello-withheld.json'))[0].withheld.length,
  ack: verified(golden('ack.jws').toString(), JSON.parse(golden('service.jwk')), 'roamkey-ack+jwt')?.through,
  other: verified(golden('ack.jws').toString(), JSON.parse(golden('device.jwk')), 'roamkey-ack+jwt') ?? null,
  checkpoint: verified(last.data.jws, JSON.parse(golden('device.jwk')), 'roamkey-checkpoint+jws')?.sequence,
}}));
"""
    )
    done = subprocess.run([node, str(script)], capture_output=True, text=True, check=False, timeout=30)
    assert done.returncode == 0, done.stderr
    assert json.loads(done.stdout) == {
        "batches": True,
        "chain": [True] * 6,
        "hello": 1,
        "ack": 4,
        "other": None,
        "checkpoint": 5,
    }


def test_a_real_agents_day_is_stored_and_proven_by_both(tmp_path: Path, node: str) -> None:
    """The service itself, its journal with signed checkpoints, over mosquitto, into the other receiver."""
    with built_premises(tmp_path / "van", found_office(tmp_path / "office"), broker=True, bays=()) as here:
        assert here.broker is not None
        assert here.receiver is not None
        here.receiver.kill()
        receiver = NodeReceiver(node, tmp_path, here.broker.port, fleet="acme", key=here.office.service_key)
        loop = asyncio.new_event_loop()
        with contextlib.closing(loop):
            loop.run_until_complete(receiver.start())
            try:
                here.start_ready()
                for uid in ("04A23B4C5D6080", "04111213141516"):
                    here.tap("door", bytes.fromhex(uid))
                here.until_delivered()
                here.stop()
            finally:
                loop.run_until_complete(receiver.kill())
        sealed = here.sealed()
        keys = here.keys()
        device_key = here.state / "vault" / "device.jwk"
        (audit,) = receiver.audit("--device-key", str(device_key))
        stored = receiver.bodies(audit["journal"], device="van-0007")

    assert stored == sealed[: len(stored)]
    assert audit["through"] == len(stored) >= len(sealed) - 1
    assert audit["chain"]
    assert verify(stored, keys=keys, head=Anchor(sequence=len(stored), hash=hash_of(stored[-1]))).ok
    assert audit["checkpoints"] == sum(b'"io.roamkey.checkpoint"' in body for body in stored)
    assert signing.thumbprint(next(iter(keys.values()))) in keys
