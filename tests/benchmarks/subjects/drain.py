"""A backlog is delivered: from the device's hello to the signed acknowledgement of its last record."""

from __future__ import annotations

import shutil
from collections.abc import Sequence
from contextlib import closing
from pathlib import Path

from agent.demo.fleet import DEVICE
from agent.journal.copies import contents, stopped_store
from sync.backend.store import Store
from tests.benchmarks import bridge
from tests.benchmarks.gateway import Gateway, backend, settled_gateway
from tests.benchmarks.measurement import Bench, Benchmark, Pairs, Row, load, spread
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
    plain, tls, limit = Pairs(), Pairs(), Pairs()
    waits = []
    for run in range(runs):
        moved = bridge.drain(home / f"bridge-{run}", lines, sink=bridge.python_backend)
        waits.append(moved.noticed_s)
        plain.add(one_drain(gateway, home / f"plain-{run}", records, tls=False), moved.per_second)
        tls.add(one_drain(gateway, home / f"tls-{run}", records, tls=True), plain.ours[-1])
        alone = bridge.drain(home / f"alone-{run}", lines, sink=bridge.mosquitto_sub)
        limit.add(plain.ours[-1], alone.per_second)
    note = (
        f"{size:.0f} bytes a record, zlib; runs {spread(plain.ours)}; both ends commit to SQLite FULL. The bridge "
        f"commits nothing, and a Python subscriber only counts (runs {spread(plain.peers)}, after "
        f"{spread(waits, 1)} s until it noticed); {load()}"
    )
    return [
        Row(
            name=f"drain {records}, plain",
            value=plain.value,
            unit="records/s",
            peer="mosquitto bridge to a Python subscriber",
            peer_value=plain.peer_value,
            ratio=plain.ratio,
            runs=runs,
            note=note,
            target=">= 25,000/s, >= 2 x bridge",
        ),
        Row(
            name=f"drain {records}, beside the bridge alone",
            value=limit.value,
            unit="records/s",
            peer="mosquitto bridge to mosquitto_sub",
            peer_value=limit.peer_value,
            ratio=limit.ratio,
            runs=runs,
            note=f"shown as the limit: three C programs that pass bytes on in memory; runs {spread(limit.peers)}",
        ),
        Row(
            name=f"drain {records}, mutual TLS",
            value=tls.value,
            unit="records/s",
            peer="the same without TLS",
            peer_value=tls.peer_value,
            ratio=tls.ratio,
            runs=runs,
            note=f"runs {spread(tls.ours)}",
        ),
    ]


def one_drain(settled: Gateway, root: Path, records: int, *, tls: bool) -> float:
    """Records per second; raises unless the backend really has them all, once, in one chain."""
    with backend(root / "backend", settled.office, tls=tls) as there, closing(there.observer()) as observer:
        gateway = settled.copied_to(root / "gateway", port=there.device_port, tls=there.device_tls)
        try:
            gateway.start()
            begun = observer.hello()
            done = observer.acknowledged(records)
            until("nothing waits", gateway.has_delivered)
        finally:
            gateway.service.kill()
        there.receiver.kill()
        with closing(Store(there.database)) as store:
            (audit,) = [each for each in store.audit() if each.device == DEVICE]
        if audit.stored < records or audit.gaps or audit.forks or not audit.chain_ok:
            raise RuntimeError(f"not delivered: {audit}")
    shutil.rmtree(root)
    return records / (done.at - begun.at)


BENCHMARK = Benchmark(name="drain", about="a backlog until it is committed and acknowledged", measure=measure)
