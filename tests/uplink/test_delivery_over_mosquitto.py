"""Delivery through the real broker: complete, once, in chain, whatever happens to either side."""

from __future__ import annotations

import asyncio
import contextlib
import json
import random
import signal
import sys
from dataclasses import replace
from pathlib import Path

import pytest

from sync.backend.store import Store
from sync.backoff import Backoff
from sync.batch import BatchLimits, Codec, unpack
from sync.carriers import CarrierError
from sync.link import Protocol, open_link
from sync.loopback_broker import Engine, loopback_broker
from sync.memory_outbox import MemoryOutbox
from sync.ports import Connected, PolicyHint, Quarantined
from sync.topics import FleetTopics
from sync.uplink import Uplink
from tests.uplink.closed_loop import (
    FLEET,
    Fleet,
    copy_database,
    eventually,
    link_settings,
    mosquitto,
    running,
)
from tests.uplink.fault_proxy import fault_proxy
from tests.uplink.strict_broker import strict_broker

# Real brokers, kills and cuts: the whole file is left out of the fast tests.
pytestmark = pytest.mark.slow


@pytest.mark.parametrize("protocol", list(Protocol))
def test_a_backlog_arrives_complete_and_once(fleet: Fleet, protocol: Protocol) -> None:
    async def story() -> None:
        fleet.outbox.seal_many(3000)
        async with (
            mosquitto(fleet.folder) as broker,
            fleet.receiver(broker.port, protocol=protocol),
            fleet.device(broker.port, protocol=protocol),
        ):
            await fleet.until_delivered()

    asyncio.run(story())
    audit = fleet.assert_complete(3000)
    assert audit.duplicates_on_wire == 0
    assert fleet.alarms() == set()


@pytest.mark.parametrize(("unpacks", "expected"), [(("zstd",), "zstd"), ((), "zlib")])
def test_zstd_travels_only_to_a_backend_that_names_it(
    fleet: Fleet, monkeypatch: pytest.MonkeyPatch, unpacks: tuple[str, ...], expected: str
) -> None:
    monkeypatch.setattr("sync.backend.receiver._EXTRA_CODECS", unpacks)
    packed: list[Codec] = []

    def noted(payload: bytes, codec: Codec) -> list[bytes]:
        packed.append(codec)
        return unpack(payload, codec)

    monkeypatch.setattr("sync.backend.receiver.unpack", noted)

    async def story() -> None:
        fleet.outbox.seal_many(500)
        async with (
            mosquitto(fleet.folder) as broker,
            fleet.receiver(broker.port),
            fleet.device(broker.port, codec=Codec.ZSTD),
        ):
            await fleet.until_delivered()

    asyncio.run(story())
    fleet.assert_complete(500)
    assert set(packed) == {Codec(expected)}


def test_a_new_record_leaves_at_once_when_connected(fleet: Fleet) -> None:
    async def story() -> float:
        fleet.outbox.seal_many(1)
        async with (
            mosquitto(fleet.folder) as broker,
            fleet.receiver(broker.port),
            fleet.device(broker.port),
        ):
            await fleet.until_delivered()
            loop = asyncio.get_running_loop()
            slowest = 0.0
            for _ in range(5):
                began = loop.time()
                fleet.outbox.seal()
                await fleet.until_delivered()
                slowest = max(slowest, loop.time() - began)
            return slowest

    assert asyncio.run(story()) < 0.2


def test_a_link_cut_every_few_hundred_bytes_loses_nothing_and_repeats_little(fleet: Fleet) -> None:
    chance = random.Random(17)

    async def story() -> int:
        fleet.outbox.seal_many(2000)
        async with (
            mosquitto(fleet.folder) as broker,
            fleet.receiver(broker.port),
            fault_proxy(broker.port, cut_after=lambda: chance.randint(200, 3000)) as link,
            fleet.device(link.port, reconnect=Backoff(base_s=0.001, cap_s=0.002)),
        ):
            await fleet.until_delivered(within_s=60)
            return link.cuts

    cuts = asyncio.run(story())
    audit = fleet.assert_complete(2000)
    assert cuts > 20
    assert audit.duplicates_on_wire <= 200


def test_a_broker_that_is_killed_and_loses_its_store_costs_nothing(fleet: Fleet) -> None:
    async def story() -> None:
        fleet.outbox.seal_many(2000)
        async with (
            mosquitto(fleet.folder) as broker,
            fleet.receiver(broker.port),
            fault_proxy(broker.port, latency_s=0.01) as link,
            fleet.device(link.port),
        ):
            for at in (200, 900):
                await eventually(lambda at=at: fleet.outbox.acknowledged >= at)
                await broker.kill()
                (broker.folder / "mosquitto.db").unlink(missing_ok=True)
                await broker.start()
            await fleet.until_delivered()

    asyncio.run(story())
    fleet.assert_complete(2000)


def test_a_receiver_that_dies_between_commit_and_answer_stores_nothing_twice(fleet: Fleet) -> None:
    async def story() -> None:
        fleet.outbox.seal_many(300)
        async with mosquitto(fleet.folder) as broker, fleet.device(broker.port):
            for _ in range(3):
                fleet.outbox.seal_many(50)
                dying = await asyncio.create_subprocess_exec(
                    sys.executable,
                    str(Path(__file__).with_name("dying_receiver.py")),
                    str(broker.port),
                    str(fleet.folder),
                )
                assert await asyncio.wait_for(dying.wait(), 15) == -signal.SIGKILL
            async with fleet.receiver(broker.port):
                await fleet.until_delivered()

    asyncio.run(story())
    audit = fleet.assert_complete(450)
    assert "no-receiver" in fleet.alarms()
    assert audit.forks == 0


def test_a_backend_restored_from_an_old_copy_gets_the_records_again(fleet: Fleet) -> None:
    old = fleet.folder / "old.sqlite"

    async def story() -> None:
        fleet.outbox.seal_many(100)
        async with mosquitto(fleet.folder) as broker, fleet.device(broker.port):
            async with fleet.receiver(broker.port):
                await fleet.until_delivered()
            copy_database(fleet.database, old)
            fleet.outbox.seal_many(200)
            async with fleet.receiver(broker.port):
                await fleet.until_delivered()
            assert fleet.assert_complete(300)

            for suffix in ("", "-wal", "-shm"):
                fleet.database.with_name(fleet.database.name + suffix).unlink(missing_ok=True)
            copy_database(old, fleet.database)
            async with fleet.receiver(broker.port):
                # The device is idle: nothing but the receiver's own word makes it look.
                await eventually(lambda: fleet.audit().stored == 300)

    asyncio.run(story())
    fleet.assert_complete(300)
    assert fleet.alarms() <= {"no-receiver"}


def test_a_gap_in_the_backend_is_asked_for_exactly(fleet: Fleet) -> None:
    lost = {3, 4}

    async def story() -> list[tuple[int, int]]:
        async with strict_broker() as broker:
            seen: list[tuple[int, int]] = []

            def hands_on(topic: str, payload: bytes) -> bool:
                if "/up/records" not in topic:
                    return True
                sequences = [int(json.loads(line)["sequence"]) for line in unpack(payload, Codec.ZLIB)]
                seen.append((sequences[0], sequences[-1]))
                keeps = not lost & set(sequences)
                lost.difference_update(sequences)
                return keeps

            broker.hands_on = hands_on
            fleet.outbox.seal_many(6)
            settings = {"batch": BatchLimits(records=1), "ack_timeout_s": 30.0}
            async with fleet.receiver(broker.port), fleet.device(broker.port, **settings):
                await fleet.until_delivered()
            return seen

    seen = asyncio.run(story())
    assert seen[:6] == [(at, at) for at in range(1, 7)]
    assert sorted(seen[6:]) == [(3, 3), (4, 4)]
    assert fleet.assert_complete(6).duplicates_on_wire == 0


def test_one_unreadable_record_delays_no_other(fleet: Fleet) -> None:
    async def story() -> None:
        for at in range(1, 103):
            match at:
                case 50:
                    fleet.outbox.append(b'{"poison": ')
                case 51:
                    fleet.outbox.append(b"\xff\xfe not even text")
                case _:
                    fleet.outbox.seal()
        async with (
            mosquitto(fleet.folder) as broker,
            fleet.receiver(broker.port),
            fleet.device(broker.port),
        ):
            await fleet.until_delivered()

    asyncio.run(story())
    audit = fleet.audit()
    assert (audit.stored, audit.through, audit.gaps, audit.chain_ok) == (100, 102, (), True)
    assert set(audit.quarantined) == set(fleet.outbox.quarantined) == {50, 51}
    assert {event.sequence for event in fleet.events if isinstance(event, Quarantined)} == {50, 51}


@pytest.mark.parametrize("alone", [1, 2, 5])
def test_an_unreadable_record_in_a_batch_of_its_own_finds_its_place(fleet: Fleet, alone: int) -> None:
    """Its successor names its hash."""

    async def story() -> None:
        for at in range(1, 7):
            if at == alone:
                fleet.outbox.append(b"\x00\x01\x02")
            else:
                fleet.outbox.seal()
        async with (
            mosquitto(fleet.folder) as broker,
            fleet.receiver(broker.port),
            fleet.device(broker.port, batch=BatchLimits(records=1)),
        ):
            await fleet.until_delivered()

    asyncio.run(story())
    assert set(fleet.outbox.quarantined) == {alone}
    assert fleet.audit().stored == 5


@pytest.mark.parametrize("protocol", list(Protocol))
def test_a_record_too_large_for_the_broker_is_named_and_the_others_go_on(fleet: Fleet, protocol: Protocol) -> None:
    noise = random.Random(1).randbytes(150_000).hex()

    async def story() -> None:
        fleet.outbox.seal_many(20)
        fleet.outbox.seal(picture=noise)
        fleet.outbox.seal_many(20)
        async with (
            mosquitto(fleet.folder, "max_packet_size 131072") as broker,
            fleet.receiver(broker.port, protocol=protocol),
            fleet.device(broker.port, protocol=protocol),
        ):
            await fleet.until_delivered()

    asyncio.run(story())
    audit = fleet.audit()
    assert (audit.stored, audit.through, audit.chain_ok, audit.forks) == (40, 41, True, 0)
    assert set(fleet.outbox.quarantined) == {21}
    assert fleet.alarms() == {"record-too-large"}


def test_two_devices_do_not_meet(fleet: Fleet) -> None:
    other = replace(fleet, outbox=MemoryOutbox(fleet=FLEET, device="gw-2"), events=[])

    async def story() -> None:
        fleet.outbox.seal_many(200)
        other.outbox.seal_many(300)
        async with mosquitto(fleet.folder) as broker, fleet.receiver(broker.port), fleet.device(broker.port):
            settings = other.uplink_settings(broker.port, client_id="gw-2", device="gw-2")
            async with running(Uplink(settings, other.outbox, other.keys, other.events.append).run()):
                await fleet.until_delivered()
                await other.until_delivered()

    asyncio.run(story())
    with contextlib.closing(Store(fleet.database)) as store:
        assert [(audit.device, audit.stored) for audit in store.audit()] == [("gw-1", 200), ("gw-2", 300)]


def test_the_policy_is_fetched_from_retained_topics_and_its_change_is_told(fleet: Fleet) -> None:
    topics = FleetTopics(fleet=FLEET)
    digest = "ab" * 32

    async def story() -> None:
        async with (
            mosquitto(fleet.folder) as broker,
            open_link(link_settings(broker.port, "publisher")) as publisher,
        ):
            await publisher.publish(topics.policy("metadata/timestamp.json"), b"first", retain=True)
            await publisher.publish(topics.policy(f"targets/{digest}"), b"x" * 1000, retain=True)
            async with fleet.device(broker.port) as uplink:
                hints = lambda: [event for event in fleet.events if isinstance(event, PolicyHint)]  # noqa: E731
                await eventually(lambda: len(hints()) == 1)
                carrier = uplink.carrier()
                assert await carrier.fetch("metadata/timestamp.json", 100) == b"first"
                assert await carrier.fetch(f"targets/{digest}", 1000) == b"x" * 1000
                assert await carrier.fetch("metadata/2.root.json", 100) is None
                with pytest.raises(CarrierError, match="1000 bytes"):
                    await carrier.fetch(f"targets/{digest}", 999)

                await publisher.publish(topics.policy("metadata/timestamp.json"), b"second", retain=True)
                await eventually(lambda: len(hints()) == 2)
                assert await carrier.fetch("metadata/timestamp.json", 100) == b"second"
            with pytest.raises(CarrierError, match="no connection"):
                await carrier.fetch("metadata/timestamp.json", 100)

    asyncio.run(story())


def test_the_status_says_online_and_offline(fleet: Fleet) -> None:
    async def story() -> list[bool]:
        said = []
        async with (
            mosquitto(fleet.folder) as broker,
            open_link(link_settings(broker.port, "watcher")) as watcher,
        ):
            await watcher.subscribe([FleetTopics(fleet=FLEET).status])
            async with fleet.device(broker.port):
                said.append(json.loads((await watcher.receive()).payload))
            said.append(json.loads((await watcher.receive()).payload))
        assert said[0]["nonce"] == said[1]["nonce"]
        return [status["online"] for status in said]

    assert asyncio.run(story()) == [True, False]


def test_delivery_works_over_the_embedded_broker_of_the_demo(fleet: Fleet) -> None:
    home = fleet.folder / "broker"
    home.mkdir()

    async def story() -> None:
        fleet.outbox.seal_many(500)
        async with (
            loopback_broker(home, engine=Engine.AMQTT) as broker,
            fleet.receiver(broker.port),
            fleet.device(broker.port),
        ):
            await fleet.until_delivered()
            await broker.kill()
            fleet.outbox.seal_many(100)
            await broker.start()
            await fleet.until_delivered()

    asyncio.run(story())
    fleet.assert_complete(600)
    connected = [event.protocol for event in fleet.events if isinstance(event, Connected)]
    assert set(connected) == {"3.1.1"}


def test_a_backend_that_comes_back_after_the_device_is_greeted_at_once(fleet: Fleet) -> None:
    """The broker tells that nobody listens, and the back-off begins; the backend's own word ends it."""

    async def story() -> float:
        fleet.outbox.seal_many(10)
        async with mosquitto(fleet.folder) as broker:
            async with fleet.receiver(broker.port), fleet.device(broker.port):
                await fleet.until_delivered()
            fleet.outbox.seal_many(10)
            async with fleet.device(broker.port, hello_backoff=Backoff(base_s=60.0)):
                await eventually(lambda: "no-receiver" in fleet.alarms())
                async with fleet.receiver(broker.port):
                    began = asyncio.get_running_loop().time()
                    await fleet.until_delivered()
                    return asyncio.get_running_loop().time() - began

    assert asyncio.run(story()) < 5
    fleet.assert_complete(20)
