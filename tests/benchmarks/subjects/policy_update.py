"""One card of 100,000 changes: what travels, and how long until the device decides by it. Beside it the whole bundle.

Publisher and device are the real ones, over a folder: a carrier's own speed is not in these figures. The process of its
own in which a device examines a bundle is, as the service has it.
"""

from __future__ import annotations

import asyncio
import shutil
import time
from collections.abc import Sequence
from contextlib import closing
from datetime import UTC, datetime, timedelta
from pathlib import Path

from agent.cache.cache import Activated, PolicyCache
from agent.cache.examination import in_a_process
from agent.core.credentials import reference
from agent.core.instants import ClockQuality, Instant
from agent.core.policy import TokenStatus
from agent.fleet.source import read_source
from sync.backend.publisher import Publisher
from sync.carriers import FolderCarrier
from tests.benchmarks.measurement import Bench, Benchmark, Row, load, median, spread

KEY = bytes(range(32))
FLEET = "meadow"
CARDS = 100_000


class Counting:
    """A folder, and how many bytes were taken from it."""

    def __init__(self, folder: Path) -> None:
        self._carrier = FolderCarrier(folder)
        self.taken = 0
        self.documents = 0

    async def fetch(self, name: str, max_bytes: int) -> bytes | None:
        body = await self._carrier.fetch(name, max_bytes)
        if body is not None:
            self.taken += len(body)
            self.documents += 1
        return body


def measure(bench: Bench) -> Sequence[Row]:
    cards, runs = bench.size(CARDS, 500), bench.runs(7)
    home = bench.fresh("update")
    source = home / "source"
    write_source(source, cards)
    publisher = Publisher.init(home / "office", fleet=FLEET, now=moment(0))
    publish(publisher, source, 0)
    whole, whole_s = Counting(home / "office/repository"), []
    with closing(opened(home / "device", publisher)) as cache:
        started = time.perf_counter()
        result = asyncio.run(cache.update(whole, at(0)))
        whole_s.append(time.perf_counter() - started)
        if not isinstance(result, Activated) or result.tokens != cards:
            raise RuntimeError(f"the first bundle did not become active: {result}")
        moved, took, documents = [], [], 0
        for run in range(1, runs + 1):
            block(source, run)
            publish(publisher, source, run)
            carrier = Counting(home / "office/repository")
            started = time.perf_counter()
            result = asyncio.run(cache.update(carrier, at(run)))
            took.append(time.perf_counter() - started)
            token = cache.lookup(reference(KEY, uid(run)))
            if not isinstance(result, Activated) or token is None or token.status is not TokenStatus.BLOCKED:
                raise RuntimeError(f"the changed card is not in force: {result}")
            moved.append(float(carrier.taken))
            documents = carrier.documents
    shutil.rmtree(home)
    note = f"{documents} documents: the list of parts, one of {256} shards, what carries the revision; {spread(moved)}"
    return [
        Row(
            name=f"policy update of one card in {cards}: moved",
            value=median(moved) / 1000,
            unit="kB",
            peer="the whole bundle",
            peer_value=whole.taken / 1000,
            ratio=median(moved) / whole.taken,
            runs=runs,
            note=note,
            target="one small part",
        ),
        Row(
            name=f"policy update of one card in {cards}: to active",
            value=median(took),
            unit="s",
            peer="the whole bundle, for the first time",
            peer_value=whole_s[0],
            ratio=median(took) / whole_s[0],
            runs=runs,
            note=f"fetched, judged, the table revised in a copy, switched; {spread(took, 2)}; {load()}",
        ),
    ]


def write_source(source: Path, cards: int) -> None:
    source.mkdir()
    (source / "policy.toml").write_text("[groups.fleet]\nnetworks = ['DE*ABC']\n")
    (source / "drivers.toml").write_text("")
    (source / "vehicles.toml").write_text("")
    lines = (f"{uid(number)},card {number},fleet,active" for number in range(cards))
    (source / "tokens.csv").write_text("uid,label,group,status\n" + "\n".join(lines) + "\n")


def block(source: Path, number: int) -> None:
    path = source / "tokens.csv"
    path.write_text(path.read_text().replace(f"card {number},fleet,active\n", f"card {number},fleet,blocked\n"))


def publish(publisher: Publisher, source: Path, hours: int) -> None:
    bodies = read_source(
        source,
        fleet=FLEET,
        revision=publisher.next_version,
        issued=moment(hours),
        token_key=KEY,
        keys={"schema": 1, "keys": []},
    )
    publisher.publish(bodies, now=moment(hours))


def opened(folder: Path, publisher: Publisher) -> PolicyCache:
    return PolicyCache(folder, fleet=FLEET, root=publisher.root, key=KEY, now=at(0), examine=in_a_process)


def uid(number: int) -> str:
    return f"04{number:012X}"


def moment(hours: int) -> datetime:
    return datetime(2026, 11, 22, 12, tzinfo=UTC) + timedelta(hours=hours)


def at(hours: int) -> Instant:
    return Instant(
        utc=moment(hours),
        floor=datetime(2026, 11, 1, tzinfo=UTC),
        monotonic_ms=3_600_000 * (1 + hours),
        boot="bench",
        quality=ClockQuality.SYNCHRONISED,
        entropy=b"",
    )


BENCHMARK = Benchmark(name="policy_update", about="one card of many changes", measure=measure)
