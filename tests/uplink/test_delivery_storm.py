"""Everything at once: cut links, killed brokers, receivers and devices that come and go. Seeds are kept."""

from __future__ import annotations

import asyncio
import contextlib
import random
import sqlite3
import time
from collections.abc import Sequence

import pytest

from sync.backend.receiver import Receiver
from sync.backend.store import Delivery, Store, StreamState
from sync.backoff import Backoff
from sync.uplink import Uplink
from tests.uplink.closed_loop import Fleet, eventually, mosquitto, running
from tests.uplink.fault_proxy import fault_proxy
from tests.uplink.strict_broker import strict_broker


@pytest.mark.slow
@pytest.mark.parametrize("seed", [1, 2])
def test_nothing_is_missing_and_nothing_twice_after_a_storm(fleet: Fleet, seed: int) -> None:
    chance = random.Random(seed)
    patience = Backoff(base_s=0.005, cap_s=0.02)

    async def coming_and_going(make: object, longest_s: float) -> None:
        while True:
            async with make():  # type: ignore[operator]
                await asyncio.sleep(chance.uniform(0.05, longest_s))

    async def storm(broker: object) -> None:
        while True:
            await asyncio.sleep(chance.uniform(0.2, 0.8))
            await broker.kill()  # type: ignore[attr-defined]
            await broker.start()  # type: ignore[attr-defined]

    async def growth() -> None:
        for _ in range(40):
            fleet.outbox.seal_many(chance.randint(1, 60))
            await asyncio.sleep(0.05)

    async def story() -> None:
        async with (
            mosquitto(fleet.folder) as broker,
            fault_proxy(broker.port, cut_after=lambda: chance.randint(300, 20_000)) as link,
        ):
            tasks = [
                asyncio.create_task(storm(broker)),
                asyncio.create_task(
                    coming_and_going(lambda: fleet.device(link.port, reconnect=patience, ack_timeout_s=0.3), 1)
                ),
                asyncio.create_task(
                    coming_and_going(lambda: running(Receiver(fleet.receiver_settings(broker.port)).run()), 1.5)
                ),
            ]
            await growth()
            for task in tasks:
                assert not task.done(), task
                task.cancel()
                with contextlib.suppress(asyncio.CancelledError):
                    await task
            await broker.kill()
            await broker.start()
            async with fleet.receiver(broker.port), fleet.device(broker.port):
                await fleet.until_delivered()

    asyncio.run(story())
    last = asyncio.run(fleet.outbox.head()).last
    fleet.assert_complete(last)
    assert not fleet.alarms() - {"no-receiver"}


def test_a_full_disk_at_the_backend_acknowledges_nothing(fleet: Fleet) -> None:
    with contextlib.closing(Store(fleet.database)) as store:
        store._db.execute("CREATE TRIGGER full BEFORE INSERT ON records BEGIN SELECT RAISE(ABORT, 'disk is full'); END")

    async def story() -> None:
        fleet.outbox.seal_many(10)
        async with strict_broker() as broker:
            receiver = asyncio.create_task(Receiver(fleet.receiver_settings(broker.port)).run())
            async with fleet.device(broker.port):
                with pytest.raises(sqlite3.IntegrityError, match="disk is full"):
                    await asyncio.wait_for(receiver, 5)
            assert fleet.outbox.acknowledged == 0

    asyncio.run(story())
    assert fleet.audit().stored == 0


def test_an_outbox_that_fails_ends_the_uplink_visibly(fleet: Fleet) -> None:
    async def broken() -> None:
        raise OSError("journal cannot be read")

    async def story() -> None:
        async with strict_broker() as broker, fleet.receiver(broker.port):
            uplink = Uplink(fleet.uplink_settings(broker.port), fleet.outbox, fleet.keys, fleet.events.append)
            service = asyncio.create_task(uplink.run())
            await eventually(lambda: broker.connects == 2)
            fleet.outbox.changed = broken  # type: ignore[method-assign]
            fleet.outbox.seal_many(1)
            await asyncio.wait_for(service, 5)

    with pytest.raises(OSError, match="journal cannot be read"):
        asyncio.run(story())


def test_a_receiver_that_is_cancelled_amid_a_commit_finishes_it(fleet: Fleet, monkeypatch: pytest.MonkeyPatch) -> None:
    """SQLite crashes the whole process when its connection is closed under a running statement."""
    order: list[str] = []

    class SlowStore(Store):
        def take(self, deliveries: Sequence[Delivery]) -> list[StreamState]:
            order.append("begun")
            time.sleep(0.1)
            states = super().take(deliveries)
            order.append("committed")
            return states

        def close(self) -> None:
            order.append("closed")
            super().close()

    monkeypatch.setattr("sync.backend.receiver.Store", SlowStore)

    async def story() -> None:
        fleet.outbox.seal_many(10)
        async with strict_broker() as broker, fleet.device(broker.port), fleet.receiver(broker.port):
            await eventually(lambda: "begun" in order)

    asyncio.run(story())
    assert order == ["begun", "committed", "closed"]
    assert fleet.audit().stored == 10
