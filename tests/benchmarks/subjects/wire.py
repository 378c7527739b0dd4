"""Bytes on the wire for a session record: what a device's connection really carries, both codecs."""

from __future__ import annotations

from collections.abc import Sequence
from contextlib import closing
from importlib.util import find_spec
from pathlib import Path

from agent.journal.copies import contents, stopped_store
from sync.batch import BatchLimits, Codec, pack
from tests.benchmarks.gateway import Gateway, backend, settled_gateway
from tests.benchmarks.measurement import Bench, Benchmark, Row
from tests.benchmarks.metered_proxy import MeteredProxy

TARGETS = {"zlib": 290, "zstd": 230}


def measure(bench: Bench) -> Sequence[Row]:
    records = bench.size(10_000, 300)
    home = bench.fresh("wire")
    gateway = settled_gateway(home, records=records)
    with stopped_store(gateway.state / "journal") as database:
        bodies = contents(database).bodies[-records:]
    rows = []
    for codec in codecs():
        up, down = carried(gateway, home / codec, records, codec)
        size = sum(map(len, bodies)) / records
        ends = [body for body in bodies if b'"io.roamkey.session.ended"' in body]
        rows.append(
            Row(
                name=f"bytes on the wire a record, {codec}",
                value=up / records,
                unit="bytes",
                peer="the record as it is stored",
                peer_value=size,
                ratio=up / records / size,
                runs=1,
                note=(
                    f"TCP payload from CONNECT on, of {records} records of whole sessions; the way back took "
                    f"{down / records:.1f} a record; ends of sessions alone ({mean(ends):.0f} bytes each) would take "
                    f"{alone(ends, codec):.0f}"
                ),
                target=f"<= {TARGETS[codec]}",
            )
        )
    return rows


def codecs() -> list[str]:
    """zstd where its package is installed: it is an extra."""
    known = [codec.value for codec in Codec if codec.value in TARGETS]
    return [name for name in known if name != "zstd" or find_spec("zstandard")]


def carried(settled: Gateway, root: Path, records: int, codec: str) -> tuple[int, int]:
    with (
        backend(root / "backend", settled.office) as there,
        MeteredProxy(there.broker.port) as proxy,
        closing(there.observer()) as observer,
    ):
        gateway = settled.copied_to(root / "gateway", port=proxy.port, codec=codec)
        try:
            gateway.begin()
            observer.acknowledged(records)
        finally:
            gateway.service.kill()
        return proxy.up, proxy.down


def alone(bodies: Sequence[bytes], codec: str) -> float:
    """Packed as the uplink packs them: up to the batch's limits."""
    size, limits = mean(bodies), BatchLimits()
    each = max(1, min(limits.records, int(limits.size_bytes / size)))
    packed = sum(len(pack(bodies[at : at + each], Codec(codec))) for at in range(0, len(bodies), each))
    return packed / len(bodies)


def mean(bodies: Sequence[bytes]) -> float:
    return sum(map(len, bodies)) / len(bodies)


BENCHMARK = Benchmark(name="wire", about="bytes on the wire a record", measure=measure)
