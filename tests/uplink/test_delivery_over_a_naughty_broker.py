"""Brokers that enforce their limits, refuse, fall silent or talk junk: the records stay, and it shows."""

from __future__ import annotations

import asyncio
import contextlib
import os

import pytest

from sync.backoff import Backoff
from sync.batch import BatchLimits
from sync.link import Protocol
from sync.memory_outbox import MemoryOutbox
from sync.ports import Connected, Disconnected
from tests.uplink.closed_loop import DEVICE, FLEET, Fleet, eventually
from tests.uplink.fault_proxy import fault_proxy
from tests.uplink.strict_broker import strict_broker

SMALL = BatchLimits(records=5)


@pytest.mark.parametrize("receive_maximum", [1, 10, 20])
def test_receive_maximum_is_never_exceeded(fleet: Fleet, receive_maximum: int) -> None:
    async def story() -> None:
        fleet.outbox.seal_many(150)
        async with (
            strict_broker(receive_maximum=receive_maximum, puback_delay_s=0.002) as broker,
            fleet.receiver(broker.port),
            fleet.device(broker.port, batch=SMALL),
        ):
            await fleet.until_delivered()
            assert broker.violations == 0
            assert broker.connects == 2
            assert max(broker.most_in_flight.values()) <= receive_maximum

    asyncio.run(story())
    assert fleet.assert_complete(150).duplicates_on_wire == 0


@pytest.mark.slow
def test_the_own_window_holds_when_the_broker_allows_more(fleet: Fleet) -> None:
    async def story() -> None:
        fleet.outbox.seal_many(500)
        async with strict_broker(receive_maximum=1000, puback_delay_s=0.05) as broker:
            settings = {"batch": SMALL, "window_batches": 7}
            async with fleet.receiver(broker.port), fleet.device(broker.port, **settings):
                await fleet.until_delivered()
            assert broker.most_in_flight[DEVICE] <= 7

    asyncio.run(story())


@pytest.mark.slow
def test_cuts_after_every_few_publishes_lose_nothing(fleet: Fleet) -> None:
    async def story() -> None:
        fleet.outbox.seal_many(200)
        async with strict_broker(cut_after_publishes=7) as broker:
            async with fleet.receiver(broker.port), fleet.device(broker.port, batch=SMALL):
                await fleet.until_delivered()
            assert broker.connects > 5

    asyncio.run(story())
    fleet.assert_complete(200)


@pytest.mark.slow
def test_without_a_receiver_the_records_stay_and_it_shows(fleet: Fleet) -> None:
    async def story() -> None:
        fleet.outbox.seal_many(50)
        async with strict_broker() as broker, fleet.device(broker.port):
            await eventually(lambda: "no-receiver" in fleet.alarms())
            await asyncio.sleep(0.3)
            assert not any("/records" in topic for topic, _ in broker.published)
            assert fleet.outbox.acknowledged == 0
            async with fleet.receiver(broker.port):
                await fleet.until_delivered()

    asyncio.run(story())
    assert fleet.assert_complete(50).duplicates_on_wire == 0


@pytest.mark.slow
@pytest.mark.parametrize(
    ("reason", "alarm"),
    [
        (0x10, "no-receiver"),
        (0x97, "quota-exceeded"),
        (0x87, "refused-by-broker"),
        (0x80, "refused-by-broker"),
        (0x90, "refused-by-broker"),
        (0x99, "refused-by-broker"),
    ],
)
def test_a_publish_that_the_broker_did_not_take_is_not_called_delivered(fleet: Fleet, reason: int, alarm: str) -> None:
    async def story() -> None:
        fleet.outbox.seal_many(50)
        async with strict_broker() as broker:
            broker.reason_for = lambda topic: reason if "/records" in topic else None
            settings = {"refused_pause_s": 0.2, "quota_pause_s": 0.05, "batch": SMALL}
            async with fleet.receiver(broker.port), fleet.device(broker.port, **settings):
                await eventually(lambda: alarm in fleet.alarms())
                assert fleet.outbox.acknowledged == 0
                tried = sum("/records" in topic for topic, _ in broker.published)
                await asyncio.sleep(0.15)
                later = sum("/records" in topic for topic, _ in broker.published)
                assert later - tried <= 25
                broker.reason_for = lambda topic: None
                await fleet.until_delivered()

    asyncio.run(story())
    fleet.assert_complete(50)


def test_a_broker_that_takes_and_loses_messages_costs_only_time(fleet: Fleet) -> None:
    async def story() -> None:
        fleet.outbox.seal_many(100)
        async with strict_broker() as broker:
            forgotten = iter([True, False, True, True] + [False] * 1000)
            broker.hands_on = lambda topic, payload: "/records" not in topic or not next(forgotten)
            settings = {"batch": SMALL, "ack_timeout_s": 0.3}
            async with fleet.receiver(broker.port), fleet.device(broker.port, **settings):
                await fleet.until_delivered()

    asyncio.run(story())
    fleet.assert_complete(100)


@pytest.mark.slow
def test_a_broker_that_withholds_pubacks_is_left_and_tried_again(fleet: Fleet) -> None:
    async def story() -> None:
        fleet.outbox.seal_many(20)
        async with strict_broker() as broker, fleet.receiver(broker.port):
            settings = {"ack_timeout_s": 0.1, "answer_timeout_s": 0.3}
            async with fleet.device(broker.port, **settings):
                broker.withhold_pubacks = True
                await eventually(lambda: any(isinstance(event, Disconnected) for event in fleet.events))
                broker.withhold_pubacks = False
                await fleet.until_delivered()

    asyncio.run(story())
    fleet.assert_complete(20)


@pytest.mark.slow
def test_a_half_open_link_is_left_and_the_records_arrive_by_the_next(fleet: Fleet) -> None:
    async def story() -> None:
        async with (
            strict_broker() as broker,
            fleet.receiver(broker.port),
            fault_proxy(broker.port) as link,
            fleet.device(link.port, ack_timeout_s=0.1),
        ):
            fleet.outbox.seal_many(20)
            await fleet.until_delivered()
            link.blackhole = True
            fleet.outbox.seal_many(20)
            await eventually(lambda: any(isinstance(event, Disconnected) for event in fleet.events))
            link.blackhole = False
            await fleet.until_delivered()

    asyncio.run(story())
    fleet.assert_complete(40)


@pytest.mark.slow
@pytest.mark.parametrize("fault", ["refuses", "hangs half-open", "talks junk", "talks random bytes", "closes"])
def test_a_broker_that_cannot_be_talked_to_is_tried_again_with_patience(fleet: Fleet, fault: str) -> None:
    async def story() -> None:
        fleet.outbox.seal_many(20)
        async with strict_broker() as broker, fault_proxy(broker.port) as link:
            match fault:
                case "refuses":
                    broker.speaks_mqtt_5 = False
                    link.refuse = True
                case "hangs half-open":
                    broker.silent = True
                case "talks junk":
                    broker.junk = b"HTTP/1.1 400 Bad Request\r\n\r\n" * 20
                case "talks random bytes":
                    broker.junk = os.urandom(3000)
                case "closes":
                    link.cut_after = lambda: 1
            async with fleet.device(link.port, connect_timeout_s=0.2):
                await eventually(lambda: sum(isinstance(event, Disconnected) for event in fleet.events) >= 3)
                broker.silent, broker.junk, broker.speaks_mqtt_5 = False, None, True
                link.refuse, link.cut_after = False, lambda: None
                async with fleet.receiver(broker.port):
                    await fleet.until_delivered()

    asyncio.run(story())
    fleet.assert_complete(20)


def test_a_broker_without_mqtt_5_is_spoken_to_in_3_1_1(fleet: Fleet) -> None:
    async def story() -> None:
        fleet.outbox.seal_many(20)
        async with (
            strict_broker(speaks_mqtt_5=False) as broker,
            fleet.receiver(broker.port),
            fleet.device(broker.port),
        ):
            await fleet.until_delivered()

    asyncio.run(story())
    fleet.assert_complete(20)
    assert [event.protocol for event in fleet.events if isinstance(event, Connected)] == ["3.1.1"]


@pytest.mark.slow
@pytest.mark.parametrize("protocol", list(Protocol))
def test_a_service_that_is_cancelled_ends_at_once_whatever_the_broker_does(fleet: Fleet, protocol: Protocol) -> None:
    async def story() -> float:
        loop = asyncio.get_running_loop()
        async with strict_broker() as broker, fault_proxy(broker.port) as link:
            async with fleet.device(link.port, protocol=protocol):
                await eventually(lambda: any(isinstance(event, Connected) for event in fleet.events))
                link.blackhole = True
                began = loop.time()
            return loop.time() - began

    assert asyncio.run(story()) < 2.5


def test_the_window_recovers_after_the_broker_asked_to_slow_down(fleet: Fleet) -> None:
    async def story() -> None:
        fleet.outbox.seal_many(300)
        refusals = iter([0x97] * 3)
        async with strict_broker() as broker:
            broker.reason_for = lambda topic: next(refusals, None) if "/records" in topic else None
            settings = {"quota_pause_s": 0.02, "batch": SMALL, "reconnect": Backoff(base_s=0.01)}
            async with fleet.receiver(broker.port), fleet.device(broker.port, **settings):
                await fleet.until_delivered()

    asyncio.run(story())
    fleet.assert_complete(300)


def test_a_receiver_that_comes_back_is_noticed_long_before_the_next_hello_is_due(fleet: Fleet) -> None:
    async def story() -> float:
        fleet.outbox.seal_many(5)
        patient = {"hello_backoff": Backoff(base_s=0.05, factor=1000.0)}
        async with strict_broker() as broker, contextlib.AsyncExitStack() as device:
            async with fleet.receiver(broker.port):
                await device.enter_async_context(fleet.device(broker.port, **patient))
                await fleet.until_delivered()
            fleet.outbox.seal_many(5)
            await eventually(lambda: "no-receiver" in fleet.alarms())
            await asyncio.sleep(0.2)
            began = asyncio.get_running_loop().time()
            async with fleet.receiver(broker.port):
                await fleet.until_delivered()
            return asyncio.get_running_loop().time() - began

    assert asyncio.run(story()) < 1.0
    fleet.assert_complete(10)


def test_a_journal_of_former_times_raises_no_alarm_when_the_receiver_returns(fleet: Fleet) -> None:
    former = MemoryOutbox(fleet=FLEET, device=DEVICE)
    former.seal_many(3)

    async def story() -> None:
        async with strict_broker() as broker:
            async with fleet.receiver(broker.port):
                fleet.outbox, present = former, fleet.outbox
                async with fleet.device(broker.port):
                    await fleet.until_delivered()
                fleet.outbox = present
            async with fleet.device(broker.port):
                await eventually(lambda: "no-receiver" in fleet.alarms())
                async with fleet.receiver(broker.port):
                    fleet.outbox.seal_many(3)
                    await fleet.until_delivered()

    asyncio.run(story())
    assert fleet.alarms() == {"no-receiver"}
