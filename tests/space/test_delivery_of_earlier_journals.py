"""What a device lost of its storage and what it still has, delivered by the real uplink to the real receiver."""

from __future__ import annotations

import asyncio
import contextlib
from collections import Counter
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from pathlib import Path

import pytest

from agent.core.facts import Fact, ReaderLost
from agent.journal import Journal
from agent.store import Store
from agent.wire import open_envelope
from sync.backend.store import Store as Backend
from sync.backend.store import StreamAudit
from sync.ports import Alarm, Diverged, UplinkEvent
from sync.uplink import Uplink
from tests.journal.samples import an_instant, at
from tests.uplink.closed_loop import DEVICE, FLEET, Fleet, a_fleet, copy_database, eventually, mosquitto, running

pytestmark = pytest.mark.slow

SOURCE = f"/fleets/{FLEET}/devices/{DEVICE}"


def lost(number: int) -> Fact:
    return ReaderLost(reader="front", cause=f"number {number:04}")


@dataclass
class Device:
    """The device's half with a real journal; a parting of ways is answered as the runtime answers it."""

    folder: Path
    fleet: Fleet
    store: Store = field(default_factory=Store)
    events: list[UplinkEvent] = field(default_factory=list)
    partings: set[asyncio.Task[None]] = field(default_factory=set)

    @asynccontextmanager
    async def on(self, port: int, **changes: object) -> AsyncIterator[None]:
        uplink = Uplink(self.fleet.uplink_settings(port, **changes), self.store, self.fleet.keys, self.tell)
        async with running(uplink.run()):
            yield

    def tell(self, event: UplinkEvent) -> None:
        self.events.append(event)
        if isinstance(event, Diverged):
            task = asyncio.ensure_future(self.part(event))
            self.partings.add(task)
            task.add_done_callback(self.partings.discard)

    async def part(self, event: Diverged) -> None:
        await self.store.ask(lambda each: each.diverge(journal=event.journal, agreed=event.agreed, now=an_instant()))
        self.store.wake_uplink()

    async def record(self, *numbers: int) -> None:
        await self.store.append(at(*(lost(number) for number in numbers)))

    async def until_delivered(self, within_s: float = 20.0) -> None:
        async with asyncio.timeout(within_s):
            while await self.store.ask(lambda journal: journal.backlog()):
                await asyncio.sleep(0.01)

    @property
    def alarms(self) -> set[str]:
        return {event.code for event in self.events if isinstance(event, Alarm)}


@asynccontextmanager
async def a_device(fleet: Fleet, folder: Path) -> AsyncIterator[Device]:
    device = Device(folder=folder, fleet=fleet)
    await device.store.open(lambda: Journal.open(folder, source=SOURCE, now=an_instant()))
    try:
        yield device
    finally:
        await device.store.close()


def delivered(fleet: Fleet) -> Counter[str]:
    """How often each fact is among the backend's records; forks that were set aside are not."""
    with contextlib.closing(Backend(fleet.database)) as store:
        streams = [(state.device, state.journal) for state in store.states()]
        bodies = [body for stream in streams for body in store.bodies(*stream)]
    causes = (open_envelope(body).data.get("cause") for body in bodies)
    return Counter(str(cause) for cause in causes if cause is not None)


def audits(fleet: Fleet) -> dict[str, StreamAudit]:
    with contextlib.closing(Backend(fleet.database)) as store:
        return {audit.journal: audit for audit in store.audit()}


def damage(folder: Path) -> None:
    path = folder / "journal.db"
    with path.open("r+b") as file:
        file.seek(path.stat().st_size // 8192 * 4096)
        file.write(b"\x5a" * 8192)
    (folder / "journal.running").touch()


def keep_image(folder: Path, image: Path) -> None:
    image.mkdir()
    for name in ("journal.db", "journal.id"):
        (image / name).write_bytes((folder / name).read_bytes())


def restore_image(folder: Path, image: Path) -> None:
    for file in folder.glob("journal.*"):
        file.unlink()
    for file in image.iterdir():
        (folder / file.name).write_bytes(file.read_bytes())


def test_of_a_damaged_journal_all_that_is_readable_arrives_and_the_rest_is_a_declared_gap(tmp_path: Path) -> None:
    fleet, folder = a_fleet(tmp_path), tmp_path / "journal"

    async def story() -> None:
        async with mosquitto(tmp_path) as broker, fleet.receiver(broker.port):
            async with a_device(fleet, folder) as device, device.on(broker.port):
                await device.record(*range(100))
                await device.until_delivered()
            async with a_device(fleet, folder) as device:
                await device.record(*range(100, 500))
                first = await device.store.head()
            damage(folder)
            async with a_device(fleet, folder) as device:
                while await device.store.ask(Journal.adopt):
                    pass
                _, earlier = await device.store.heads()
                holes = {number for low, high in earlier.lost for number in range(low, high + 1)}
                async with device.on(broker.port):
                    await device.record(*range(1000, 1010))
                    await device.until_delivered()
                    backlog = await device.store.ask(lambda journal: journal.backlog())
                assert backlog == 0
                assert device.alarms == set()
                second = await device.store.head()
        got = delivered(fleet)
        missing = {number for number in holes if number > 101}  # what had arrived before is not lost
        expected = {f"number {number:04}" for number in (*range(500), *range(1000, 1010))}
        assert missing
        assert set(got) == expected - {f"number {number - 2:04}" for number in missing}
        assert max(got.values()) == 1
        before, after = audits(fleet)[first.journal], audits(fleet)[second.journal]
        assert before.through == first.last
        assert {n for low, high in before.declared_lost for n in range(low, high + 1)} == missing
        assert (after.through, after.gaps, after.chain_ok, before.chain_ok) == (second.last, (), True, True)

    asyncio.run(story())


@pytest.mark.parametrize("recorded_since", [1, 40])
def test_storage_that_lost_what_it_had_confirmed_costs_no_fact_and_books_none_twice(
    recorded_since: int, tmp_path: Path
) -> None:
    """The numbering went back by 20; what was recorded since then took numbers that the backend already holds."""
    fleet, folder = a_fleet(tmp_path), tmp_path / "journal"

    async def story() -> None:
        async with mosquitto(tmp_path) as broker, fleet.receiver(broker.port):
            async with a_device(fleet, folder) as device, device.on(broker.port):
                await device.record(*range(80))
                await device.until_delivered()
            keep_image(folder, tmp_path / "image")
            async with a_device(fleet, folder) as device, device.on(broker.port):
                await device.record(*range(80, 100))
                await device.until_delivered()
                old = await device.store.head()
            restore_image(folder, tmp_path / "image")
            async with a_device(fleet, folder) as device:
                await device.record(*range(1000, 1000 + recorded_since))
                async with device.on(broker.port):
                    async with asyncio.timeout(20):
                        while (await device.store.head()).journal == old.journal:
                            await asyncio.sleep(0.01)
                    await device.record(2000)
                    await device.until_delivered()
                present, earlier = await device.store.heads()
                assert device.alarms & {"backend-ahead", "fork"}
                assert (earlier.journal, earlier.last) == (old.journal, 81)
        got = delivered(fleet)
        told = [*range(100), *range(1000, 1000 + recorded_since), 2000]
        assert got == Counter({f"number {number:04}": 1 for number in told})
        assert audits(fleet)[present.journal].through == present.last
        assert all(audit.chain_ok for audit in audits(fleet).values())

    asyncio.run(story())


def test_a_restored_backend_gets_earlier_journals_again_too(tmp_path: Path) -> None:
    fleet, folder = a_fleet(tmp_path), tmp_path / "journal"

    async def story() -> None:
        async with mosquitto(tmp_path) as broker:
            async with a_device(fleet, folder) as device, fleet.receiver(broker.port), device.on(broker.port):
                await device.record(*range(50))
                await device.until_delivered()
            copy_database(fleet.database, tmp_path / "backup.sqlite")
            async with a_device(fleet, folder) as device:
                await device.record(*range(50, 200))
            (folder / "journal.running").touch()
            with (folder / "journal.db").open("r+b") as file:
                file.write(bytes(100))
            async with a_device(fleet, folder) as device:
                while await device.store.ask(Journal.adopt):
                    pass
                async with fleet.receiver(broker.port), device.on(broker.port):
                    await device.until_delivered()
                copy_database(tmp_path / "backup.sqlite", fleet.database)
                assert len(delivered(fleet)) == 50
                async with fleet.receiver(broker.port), device.on(broker.port):
                    async with asyncio.timeout(20):
                        while len(delivered(fleet)) < 200:
                            await asyncio.sleep(0.05)
        assert max(delivered(fleet).values()) == 1

    asyncio.run(story())


def test_one_journal_that_cannot_be_agreed_about_holds_up_no_other(tmp_path: Path) -> None:
    """An earlier journal was falsified here: it is named, and the present one flows."""
    fleet, folder = a_fleet(tmp_path), tmp_path / "journal"

    async def story() -> None:
        async with mosquitto(tmp_path) as broker, fleet.receiver(broker.port):
            async with a_device(fleet, folder) as device, device.on(broker.port):
                await device.record(*range(50))
                await device.until_delivered()
            damage(folder)
            async with a_device(fleet, folder) as device:
                while await device.store.ask(Journal.adopt):
                    pass
                await device.store.ask(falsify)
                async with device.on(broker.port):
                    await device.record(*range(1000, 1100))
                    await eventually(lambda: "fork" in device.alarms)
                    head = await device.store.head()
                    async with asyncio.timeout(20):
                        while (await device.store.head()).acknowledged < head.last:
                            await asyncio.sleep(0.01)

    def falsify(journal: Journal) -> None:
        from agent.wire import hash_of

        name = journal.heads()[1].journal
        (last,) = journal.read(journal.heads()[1].last - 1, records=1, size_bytes=1, journal=name)
        body = last.body.replace(b"number", b"humber")
        values = (body, bytes.fromhex(hash_of(body)), last.sequence)
        journal._database.execute("UPDATE earlier_1 SET body = ?, hash = ? WHERE sequence = ?", values)

    asyncio.run(story())
