"""The whole delivery with real parts: device, broker, receiver, and what stands between them."""

from __future__ import annotations

import asyncio
import contextlib
import sqlite3
from collections.abc import AsyncIterator, Callable, Mapping
from contextlib import asynccontextmanager
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import pytest

from sync import signing
from sync.backend.receiver import Receiver, ReceiverSettings
from sync.backend.store import Store, StreamAudit
from sync.backoff import Backoff
from sync.link import LinkSettings
from sync.loopback_broker import Engine, LoopbackBroker, NoBroker, loopback_broker
from sync.memory_outbox import MemoryOutbox
from sync.ports import Alarm, UplinkEvent
from sync.uplink import Uplink, UplinkSettings

FLEET, DEVICE = "f1", "gw-1"
QUICK = Backoff(base_s=0.02, cap_s=0.2)


@dataclass
class Fleet:
    """A device with its journal and a backend with its store. `start_*` run until `stop`."""

    folder: Path
    key: signing.SigningKey
    outbox: MemoryOutbox
    events: list[UplinkEvent] = field(default_factory=list)
    trusted: dict[str, str] = field(default_factory=dict)
    name: str = FLEET
    device_name: str = DEVICE

    @property
    def database(self) -> Path:
        return self.folder / "backend.sqlite"

    @asynccontextmanager
    async def device(self, port: int, **changes: Any) -> AsyncIterator[Uplink]:
        emit = changes.pop("emit", self.events.append)
        uplink = Uplink(self.uplink_settings(port, **changes), self.outbox, self.keys, emit)
        async with running(uplink.run()):
            yield uplink

    @asynccontextmanager
    async def receiver(self, port: int, **changes: Any) -> AsyncIterator[Receiver]:
        ready = asyncio.Event()
        receiver = Receiver(self.receiver_settings(port, **changes), connected=ready.set)
        async with running(receiver.run()):
            async with asyncio.timeout(10):
                await ready.wait()
            yield receiver

    def uplink_settings(self, port: int, **changes: Any) -> UplinkSettings:
        settings = UplinkSettings(
            link=link_settings(port, self.device_name),
            fleet=self.name,
            device=self.device_name,
            ack_timeout_s=1.0,
            hello_backoff=Backoff(base_s=0.1, cap_s=0.5),
            reconnect=QUICK,
            retained_silence_s=0.3,
        )
        link_changes = {name: changes.pop(name) for name in list(changes) if hasattr(settings.link, name)}
        return replace(settings, link=replace(settings.link, **link_changes), **changes)

    def receiver_settings(self, port: int, **changes: Any) -> ReceiverSettings:
        settings = ReceiverSettings(
            link=link_settings(port, "receiver-1"),
            fleet=self.name,
            database=self.database,
            signing_key=self.folder / "service.pem",
            reconnect=QUICK,
            resend_interval_s=0.3,
        )
        link_changes = {name: changes.pop(name) for name in list(changes) if hasattr(settings.link, name)}
        return replace(settings, link=replace(settings.link, **link_changes), **changes)

    def keys(self) -> Mapping[str, str]:
        return self.trusted

    def audit(self) -> StreamAudit:
        with contextlib.closing(Store(self.database)) as store:
            (audit,) = store.audit()
        return audit

    def alarms(self) -> set[str]:
        return {event.code for event in self.events if isinstance(event, Alarm)}

    async def until_delivered(self, within_s: float = 20.0) -> None:
        last = (await self.outbox.head()).last
        await eventually(lambda: self.outbox.acknowledged == last, within_s=within_s)

    def assert_complete(self, count: int) -> StreamAudit:
        """Every record is stored once, byte for byte, in one chain."""
        audit = self.audit()
        assert (audit.stored, audit.distinct_ids, audit.last) == (count, count, count)
        assert (audit.gaps, audit.forks, audit.chain_ok) == ((), 0, True)
        return audit


@asynccontextmanager
async def running(service: Any) -> AsyncIterator[None]:
    """The service beside the body; if it ends early, its error is the test's."""
    task = asyncio.ensure_future(service)
    try:
        yield
        assert not task.done(), f"the service ended: {task}"
    finally:
        task.cancel()
        # Waiting, unlike awaiting with suppress, lets a cancellation of the body itself through.
        await asyncio.wait([task])
        if not task.cancelled() and (error := task.exception()) is not None:
            raise error


async def eventually(claim: Callable[[], bool], *, within_s: float = 5.0) -> None:
    async with asyncio.timeout(within_s):
        while not claim():
            await asyncio.sleep(0.005)


def copy_database(source: Path, target: Path) -> None:
    with (
        contextlib.closing(sqlite3.connect(source)) as old,
        contextlib.closing(sqlite3.connect(target)) as new,
    ):
        old.backup(new)


def link_settings(port: int, name: str) -> LinkSettings:
    return LinkSettings(
        host="127.0.0.1",
        port=port,
        client_id=name,
        tls=None,
        keepalive_s=5,
        connect_timeout_s=2.0,
        answer_timeout_s=2.0,
    )


def a_fleet(folder: Path, *, name: str = FLEET, device: str = DEVICE) -> Fleet:
    key = signing.generate()
    (folder / "service.pem").write_bytes(key.private_pem)
    outbox = MemoryOutbox(fleet=name, device=device)
    trusted = {key.kid: key.public_jwk}
    return Fleet(folder=folder, key=key, outbox=outbox, trusted=trusted, name=name, device_name=device)


@asynccontextmanager
async def mosquitto(folder: Path, *options: str) -> AsyncIterator[LoopbackBroker]:
    """Without the real broker the delivery is not tested at all: that is a failure, not a skip."""
    home = folder / "broker"
    home.mkdir(exist_ok=True)
    try:
        async with loopback_broker(home, engine=Engine.MOSQUITTO, options=options) as broker:
            yield broker
    except NoBroker as error:
        pytest.fail(str(error))
