"""The limits of one connection as a broker sees them: keep-alive, patience, packet size, window."""

from __future__ import annotations

import asyncio
import random

import pytest

from sync.backoff import Backoff
from sync.batch import BatchLimits
from sync.link import BrokerRefused, Protocol
from sync.ports import AlarmOver, Connected, Disconnected
from tests.uplink.closed_loop import DEVICE, Fleet, eventually
from tests.uplink.fault_proxy import fault_proxy
from tests.uplink.strict_broker import strict_broker


def connections(fleet: Fleet) -> int:
    return sum(isinstance(event, Connected) for event in fleet.events)


def disconnections(fleet: Fleet) -> int:
    return sum(isinstance(event, Disconnected) for event in fleet.events)


@pytest.mark.slow
@pytest.mark.parametrize("protocol", list(Protocol))
def test_keep_alive_finds_a_half_open_link_on_which_nothing_is_sent(fleet: Fleet, protocol: Protocol) -> None:
    async def story() -> float:
        loop = asyncio.get_running_loop()
        async with (
            strict_broker() as broker,
            fleet.receiver(broker.port),
            fault_proxy(broker.port) as link,
            fleet.device(link.port, protocol=protocol, keepalive_s=1, ack_timeout_s=60.0, idle_hello_s=600.0),
        ):
            await eventually(lambda: connections(fleet) == 1)
            fleet.outbox.seal_many(5)
            await fleet.until_delivered()
            link.blackhole = True
            began = loop.time()
            await eventually(lambda: disconnections(fleet) == 1, within_s=6)
            took = loop.time() - began
            link.blackhole = False
            fleet.outbox.seal_many(5)
            await fleet.until_delivered()
        return took

    assert asyncio.run(story()) < 4
    fleet.assert_complete(10)


@pytest.mark.slow
def test_a_broker_that_lets_us_in_and_throws_us_out_is_met_with_growing_patience(fleet: Fleet) -> None:
    """Connecting is no proof of a good link: only one that stood for long forgets the failures before."""

    async def story(stable_s: float) -> int:
        async with strict_broker(cut_after_publishes=0) as broker:
            patience = Backoff(base_s=0.02, cap_s=10.0, stable_s=stable_s)
            async with fleet.device(broker.port, reconnect=patience):
                await asyncio.sleep(1.5)
            return broker.connects

    growing, forgetful = asyncio.run(story(60.0)), asyncio.run(story(0.0))
    assert growing <= 15 < forgetful


def test_the_waits_of_a_fleet_are_spread_over_the_whole_time() -> None:
    """Full jitter: a thousand devices that lost one broker do not come back as one wave."""
    chance, step = random.Random(3), Backoff(base_s=1.0, failures=5)
    waits = sorted(step.wait_s(chance.random) for _ in range(1000))
    tenths = [sum(low <= wait / step.ceiling_s * 10 < low + 1 for wait in waits) for low in range(10)]
    assert min(tenths) > 60
    assert max(tenths) < 140


@pytest.mark.parametrize("size", [600, 1500, 6000])
def test_every_packet_fits_what_the_broker_announced(fleet: Fleet, size: int) -> None:
    async def story() -> None:
        fleet.outbox.seal_many(120)
        async with (
            strict_broker(maximum_packet_size=size) as broker,
            fleet.receiver(broker.port),
            fleet.device(broker.port),
        ):
            await fleet.until_delivered()
            assert broker.violations == 0

    asyncio.run(story())
    fleet.assert_complete(120)


@pytest.mark.slow
@pytest.mark.parametrize(
    ("protocol", "window", "receive_maximum"),
    [
        (Protocol.MQTT_5, 3, 20),
        (Protocol.MQTT_5, 20, 3),
        (Protocol.MQTT_5, 1, 1),
        # 3.1.1 knows no Receive Maximum: the own window is the only limit.
        (Protocol.MQTT_3_1_1, 3, 65535),
        (Protocol.MQTT_3_1_1, 1, 65535),
    ],
)
def test_no_more_is_under_way_than_the_smaller_of_window_and_receive_maximum(
    fleet: Fleet, protocol: Protocol, window: int, receive_maximum: int
) -> None:
    async def story() -> int:
        fleet.outbox.seal_many(100)
        async with strict_broker(receive_maximum=receive_maximum, puback_delay_s=0.01) as broker:
            settings = {"batch": BatchLimits(records=2), "window_batches": window, "protocol": protocol}
            async with fleet.receiver(broker.port, protocol=protocol), fleet.device(broker.port, **settings):
                await fleet.until_delivered()
            assert broker.violations == 0
            return broker.most_in_flight[DEVICE]

    assert asyncio.run(story()) <= min(window, receive_maximum)
    fleet.assert_complete(100)


@pytest.mark.parametrize(("code", "alarm"), [(0x87, "connection-refused"), (0x88, None), (0x97, None)])
def test_only_a_refusal_that_people_must_mend_is_an_alarm(code: int, alarm: str | None) -> None:
    assert BrokerRefused(code, "refused").alarm == alarm


REASONS = {0x10: "no-receiver", 0x87: "refused-by-broker", 0x97: "quota-exceeded"}


@pytest.mark.slow
@pytest.mark.parametrize("reason", REASONS)
def test_what_a_puback_complained_of_is_over_once_the_backend_answers(fleet: Fleet, reason: int) -> None:
    alarm = REASONS[reason]

    async def story() -> None:
        fleet.outbox.seal_many(20)
        async with strict_broker() as broker:
            broker.reason_for = lambda topic: reason if "/records" in topic else None
            settings = {"refused_pause_s": 0.2, "quota_pause_s": 0.05}
            async with fleet.receiver(broker.port), fleet.device(broker.port, **settings):
                await eventually(lambda: alarm in fleet.alarms())
                broker.reason_for = lambda topic: None
                await fleet.until_delivered()
                await eventually(lambda: AlarmOver(code=alarm) in fleet.events)

    asyncio.run(story())
    fleet.assert_complete(20)
