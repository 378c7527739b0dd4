"""Delivery over brokers that are not mosquitto: RabbitMQ's MQTT plugin and NATS, both MQTT 3.1.1 only.

One start of each serves one long story: RabbitMQ takes ten seconds to come up.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from contextlib import AbstractAsyncContextManager
from pathlib import Path

import pytest

from sync.link import Protocol, open_link
from sync.ports import Connected
from sync.topics import FleetTopics
from tests.uplink.closed_loop import FLEET, Fleet, eventually, link_settings
from tests.uplink.foreign_brokers import ForeignBroker, nats, rabbitmq

pytestmark = [pytest.mark.slow, pytest.mark.timeout(300)]

Broker = Callable[[Path], AbstractAsyncContextManager[ForeignBroker]]


@pytest.mark.parametrize("make", [rabbitmq, nats])
def test_a_backlog_arrives_complete_and_once_and_a_killed_broker_costs_only_time(fleet: Fleet, make: Broker) -> None:
    topics = FleetTopics(fleet=FLEET)

    async def story() -> int:
        fleet.outbox.seal_many(2000)
        async with (
            make(fleet.folder) as broker,
            fleet.receiver(broker.port),
            fleet.device(broker.port) as uplink,
        ):
            await fleet.until_delivered(within_s=60)
            on_the_wire = fleet.audit().duplicates_on_wire

            # Killed with a backlog on its way; started again over the store that it left.
            fleet.outbox.seal_many(2000)
            await eventually(lambda: fleet.outbox.acknowledged > 2000, within_s=20)
            await broker.kill()
            fleet.outbox.seal_many(500)
            await broker.start()
            await fleet.until_delivered(within_s=60)

            # Documents of the policy by exact topic: a wildcard would get nothing from RabbitMQ.
            office = link_settings(broker.port, "publisher")
            async with open_link(office, protocol=Protocol.MQTT_3_1_1) as publisher:
                await publisher.publish(topics.policy("metadata/timestamp.json"), b"signed", retain=True)
            assert await uplink.carrier().fetch("metadata/timestamp.json", 100) == b"signed"
        return on_the_wire

    assert asyncio.run(story()) == 0
    fleet.assert_complete(4500)
    assert {event.protocol for event in fleet.events if isinstance(event, Connected)} == {"3.1.1"}
