"""A backlog is delivered: from the device's hello to the signed acknowledgement of its last record."""

from __future__ import annotations

import shutil
from collections.abc import Sequence
from contextlib import closing
from dataclasses import dataclass
from pathlib import Path

from agent.demo.fleet import DEVICE
from agent.journal.copies import contents, stopped_store
from sync.backend.store import Store
from tests.benchmarks import bridge
from tests.benchmarks.gateway import Gateway, backend, processor_s, settled_gateway
from tests.benchmarks.measurement import Bench, Benchmark, Pairs, Row, load, median, spread
from tests.end_to_end.premises import until


def measure(bench: Bench) -> Sequence[Row]:
    rows: list[Row] = []
    for records, runs in ((bench.size(10_000, 200), bench.runs(5)), (bench.size(100_000, 500), bench.runs(3))):
        rows += drained(bench, records, runs)
    return rows


def drained(bench: Bench, records: int, runs: int) -> list[Row]:
    home = bench.fresh("drain")
    gateway = settled_gateway(home, records=records)
    with stopped_store(gateway.state / "journal") as database:
        lines = contents(database).bodies[-records:]
    size = sum(len(line) for line in lines) / len(lines)
    plain, tls, counted, limit = Pairs(), Pairs(), Pairs(), Pairs()
    drains: list[Drained] = []
    for run in range(runs):
        stored = bridge.drain(home / f"storing-{run}", lines, sink=bridge.storing(home))
        (home / "sink.db").unlink()
        drains.append(one_drain(gateway, home / f"plain-{run}", records, tls=False))
        plain.add(drains[-1].per_second, stored.per_second)
        tls.add(one_drain(gateway, home / f"tls-{run}", records, tls=True).per_second, plain.ours[-1])
        only_counted = bridge.drain(home / f"counting-{run}", lines, sink=bridge.counting())
        counted.add(plain.ours[-1], only_counted.per_second)
        alone = bridge.drain(home / f"alone-{run}", lines, sink=bridge.mosquitto_sub)
        limit.add(plain.ours[-1], alone.per_second)
    note = (
        f"{size:.0f} bytes a record, zlib; runs {spread(plain.ours)}. Ours is durable at both ends, checked record by "
        f"record and acknowledged by signature. The bridge's sender is durable by autosave only; its subscriber "
        f"commits to SQLite FULL before each PUBACK (runs {spread(plain.peers)}); {load()}"
    )
    what = "shown as the limit: nothing is stored or checked there"
    return [
        *(
            Row(
                name=f"drain {records}, {name}",
                value=pairs.value,
                unit="records/s",
                peer=peer,
                peer_value=pairs.peer_value,
                ratio=pairs.ratio,
                runs=runs,
                note=told,
                target=target,
            )
            for name, pairs, peer, told, target in (
                ("plain", plain, "mosquitto bridge to a store", note, ">= 25,000/s, >= 2 x bridge"),
                ("mutual TLS", tls, "the same without TLS", f"runs {spread(tls.ours)}", ""),
                (
                    "beside a bridge that is only counted",
                    counted,
                    "mosquitto bridge to a Python subscriber",
                    f"{what}; runs {spread(counted.peers)}",
                    "",
                ),
                (
                    "beside the bridge alone",
                    limit,
                    "mosquitto bridge to mosquitto_sub",
                    f"{what}; runs {spread(limit.peers)}",
                    "",
                ),
            )
        ),
        *bounds(records, drains),
    ]


def bounds(records: int, drains: Sequence[Drained]) -> list[Row]:
    """What a record costs each end, beside the time that it took: no drain is quicker than its busiest process."""
    took = median([1e6 / each.per_second for each in drains])
    return [
        Row(
            name=f"drain {records}, processor time {name}",
            value=median(costs),
            unit="us/record",
            peer="time from record to record",
            peer_value=took,
            ratio=median(costs) / took,
            runs=len(drains),
            note="one Python process: its threads share one interpreter lock",
        )
        for name, costs in (
            ("of the receiver", [each.receiver_us for each in drains]),
            ("of the device", [each.device_us for each in drains]),
        )
    ]


@dataclass(frozen=True, slots=True, kw_only=True)
class Drained:
    """One drain; the processor's time is a record's share."""

    per_second: float
    receiver_us: float
    device_us: float


def one_drain(settled: Gateway, root: Path, records: int, *, tls: bool) -> Drained:
    """Raises unless the backend really has them all, once, in one chain."""
    with backend(root / "backend", settled.office, tls=tls) as there, closing(there.observer()) as observer:
        gateway = settled.copied_to(root / "gateway", port=there.device_port, tls=there.device_tls)
        try:
            gateway.begin()
            begun = observer.hello()
            processes = (there.receiver.process.pid, gateway.service.process.pid)
            before = [processor_s(each) for each in processes]
            done = observer.acknowledged(records)
            used = [processor_s(each) - was for each, was in zip(processes, before, strict=True)]
            until("nothing waits", gateway.has_delivered)
        finally:
            gateway.service.kill()
        there.receiver.kill()
        with closing(Store(there.database)) as store:
            (audit,) = [each for each in store.audit() if each.device == DEVICE]
        if audit.stored < records or audit.gaps or audit.forks or not audit.chain_ok:
            raise RuntimeError(f"not delivered: {audit}")
    shutil.rmtree(root)
    receiver_us, device_us = (1e6 * each / records for each in used)
    return Drained(per_second=records / (done.at - begun.at), receiver_us=receiver_us, device_us=device_us)


BENCHMARK = Benchmark(name="drain", about="a backlog until it is committed and acknowledged", measure=measure)
