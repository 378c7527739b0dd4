"""A broker that lies: it may delay, but it cannot make a device drop a record, nor drown it in alarms."""

from __future__ import annotations

import asyncio
import contextlib
import json
from collections.abc import Callable
from dataclasses import replace
from typing import Any

import pytest

from sync import signing
from sync.backend.store import Store
from sync.backoff import Backoff
from sync.messages import ACK_TYP, Acknowledgement
from sync.ports import Alarm
from sync.topics import DeviceTopics
from tests.uplink.closed_loop import DEVICE, FLEET, Fleet, eventually
from tests.uplink.strict_broker import StrictBroker, strict_broker

ACK_TOPIC = DeviceTopics(fleet=FLEET, device=DEVICE).ack


def _nonce(broker: StrictBroker) -> str:
    (*_, hello) = (payload for topic, payload in broker.published if topic.endswith("/up/hello"))
    return str(json.loads(hello)["nonce"])


async def _genuine(home: Fleet, broker: StrictBroker, **changes: Any) -> Acknowledgement:
    """What an honest backend would say; `changes` make it a lie."""
    through = changes.get("through", 10)
    honest = Acknowledgement(
        fleet=FLEET,
        device=DEVICE,
        journal=home.outbox.journal,
        nonce=_nonce(broker),
        through=through,
        hash=await home.outbox.hash_at(through) or "",
        answers_hello=True,
    )
    return replace(honest, **changes)


def _signed(ack: Acknowledgement, key: signing.SigningKey, typ: str = ACK_TYP) -> bytes:
    return signing.sign(ack.to_claims(issued_at_s=0), key, typ=typ).encode()


LIES: dict[str, tuple[dict[str, Any], str]] = {
    "another journal": ({"journal": "other"}, "ack-wrong-journal"),
    "another device": ({"device": "gw-2"}, "ack-for-another"),
    "another fleet": ({"fleet": "f2"}, "ack-for-another"),
    "another hash": ({"hash": "ab" * 32}, "fork"),
    "no hash": ({"hash": ""}, "fork"),
    "beyond our last record": ({"through": 11, "hash": "ab" * 32}, "backend-ahead"),
    "far beyond": ({"through": 2**62, "hash": ""}, "backend-ahead"),
    "an earlier connection": ({"nonce": "00"}, ""),
    "no connection": ({"nonce": ""}, ""),
}


@pytest.mark.parametrize("lie", LIES)
def test_a_signed_acknowledgement_of_something_else_trims_nothing(fleet: Fleet, lie: str) -> None:
    changes, alarm = LIES[lie]

    async def story() -> None:
        fleet.outbox.seal_many(10)
        async with strict_broker() as broker, fleet.device(broker.port):
            await eventually(lambda: any(topic.endswith("/up/hello") for topic, _ in broker.published))
            broker.publish_to_all(ACK_TOPIC, _signed(await _genuine(fleet, broker, **changes), fleet.key))
            if alarm:
                await eventually(lambda: alarm in fleet.alarms())
            else:
                await asyncio.sleep(0.1)
            assert fleet.outbox.acknowledged == 0

            # The honest one still counts.
            broker.publish_to_all(ACK_TOPIC, _signed(await _genuine(fleet, broker), fleet.key))
            await eventually(lambda: fleet.outbox.acknowledged == 10)

    asyncio.run(story())


FORGERIES: dict[str, Callable[[Acknowledgement, signing.SigningKey], bytes]] = {
    "a key of its own": lambda ack, key: _signed(ack, signing.generate()),
    "another type": lambda ack, key: _signed(ack, key, typ="roamkey-answer+jwt"),
    "a cut token": lambda ack, key: _signed(ack, key)[:-9],
    "no signature": lambda ack, key: _signed(ack, key).rpartition(b".")[0] + b".",
    "junk": lambda ack, key: b"\x00\xff" * 50,
    "nothing": lambda ack, key: b"",
    "a megabyte": lambda ack, key: b"x" * 1_000_000,
    "negative through": lambda ack, key: _signed(replace(ack, through=-1), key),
    "no number": lambda ack, key: _signed(replace(ack, through="10"), key),  # type: ignore[arg-type]
}


@pytest.mark.parametrize("forgery", FORGERIES)
def test_a_forged_acknowledgement_trims_nothing(fleet: Fleet, forgery: str) -> None:
    async def story() -> None:
        fleet.outbox.seal_many(10)
        async with strict_broker() as broker, fleet.device(broker.port):
            await eventually(lambda: any(topic.endswith("/up/hello") for topic, _ in broker.published))
            ack = await _genuine(fleet, broker)
            for _ in range(50):
                broker.publish_to_all(ACK_TOPIC, FORGERIES[forgery](ack, fleet.key))
            await eventually(lambda: "ack-refused" in fleet.alarms())
            assert fleet.outbox.acknowledged == 0

            broker.publish_to_all(ACK_TOPIC, _signed(ack, fleet.key))
            await eventually(lambda: fleet.outbox.acknowledged == 10)

    asyncio.run(story())
    assert sum(isinstance(event, Alarm) and event.code == "ack-refused" for event in fleet.events) == 1


def test_an_old_acknowledgement_played_again_after_a_restore_trims_nothing(fleet: Fleet) -> None:
    """The retained or replayed one is ahead of the restored backend; it belongs to another connection."""

    async def story() -> None:
        fleet.outbox.seal_many(10)
        async with strict_broker() as broker:
            async with fleet.device(broker.port):
                await eventually(lambda: any(topic.endswith("/up/hello") for topic, _ in broker.published))
                old = _signed(await _genuine(fleet, broker), fleet.key)
            fleet.outbox.acknowledged = 0
            broker.retained[ACK_TOPIC] = old
            broker.published.clear()
            async with fleet.device(broker.port):
                await eventually(lambda: any(topic.endswith("/up/hello") for topic, _ in broker.published))
                for _ in range(20):
                    broker.publish_to_all(ACK_TOPIC, old)
                await asyncio.sleep(0.3)
            hellos = sum(topic.endswith("/up/hello") for topic, _ in broker.published)
            assert hellos <= 5

    asyncio.run(story())
    assert fleet.outbox.acknowledged == 0


def test_a_falsified_journal_is_found_at_the_next_upload(fleet: Fleet) -> None:
    async def story() -> None:
        fleet.outbox.seal_many(10)
        async with strict_broker() as broker, fleet.receiver(broker.port):
            async with fleet.device(broker.port):
                await fleet.until_delivered()
            fleet.outbox.rewrite(5)
            fleet.outbox.seal_many(5)
            async with fleet.device(broker.port):
                await eventually(lambda: "fork" in fleet.alarms())

    asyncio.run(story())
    assert fleet.outbox.acknowledged == 10
    assert fleet.audit().stored == 10


def test_a_cut_tail_is_found_at_the_next_upload(fleet: Fleet) -> None:
    async def story() -> None:
        fleet.outbox.seal_many(10)
        async with strict_broker() as broker, fleet.receiver(broker.port):
            async with fleet.device(broker.port):
                await fleet.until_delivered()
            del fleet.outbox._bodies[7:], fleet.outbox._hashes[7:]
            async with fleet.device(broker.port):
                await eventually(lambda: "backend-ahead" in fleet.alarms())

    asyncio.run(story())


def test_a_new_journal_starts_again_at_one_and_nothing_is_merged(fleet: Fleet) -> None:
    async def story() -> None:
        fleet.outbox.seal_many(10)
        async with strict_broker() as broker, fleet.receiver(broker.port), fleet.device(broker.port):
            await fleet.until_delivered()
            # Storage was lost while the service ran on.
            fresh = type(fleet.outbox)(fleet=FLEET, device=DEVICE)
            fleet.outbox.journal = fresh.journal
            fleet.outbox.acknowledged = 0
            fleet.outbox._bodies.clear()
            fleet.outbox._hashes.clear()
            fleet.outbox.seal_many(7)
            await fleet.until_delivered()

    asyncio.run(story())
    with contextlib.closing(Store(fleet.database)) as store:
        assert sorted((audit.stored, audit.chain_ok) for audit in store.audit()) == [(7, True), (10, True)]


def test_without_service_keys_nobody_is_believed_until_a_bundle_names_them(fleet: Fleet) -> None:
    keys = dict(fleet.trusted)
    fleet.trusted.clear()

    async def story() -> None:
        fleet.outbox.seal_many(10)
        async with (
            strict_broker() as broker,
            fleet.receiver(broker.port),
            fleet.device(broker.port, hello_backoff=Backoff(base_s=30.0)) as uplink,
        ):
            await eventually(lambda: "no-service-keys" in fleet.alarms())
            assert fleet.outbox.acknowledged == 0
            fleet.trusted.update(keys)
            uplink.keys_changed()
            await fleet.until_delivered()

    asyncio.run(story())
    fleet.assert_complete(10)
