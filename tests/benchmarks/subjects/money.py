"""Money: a CDR priced, a network's bill reconciled with the fleet's sessions, signed meter records verified."""

from __future__ import annotations

import json
import subprocess
import sys
import time
from collections.abc import Callable, Iterator, Sequence
from decimal import Decimal
from pathlib import Path

from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.hazmat.primitives.hashes import SHA256

from agent.core.ocmf import read
from agent.core.tariff.calculator import price
from agent.core.tariff.records import Total
from agent.core.tariff.rounding import Rounding
from agent.core.tariff.verdicts import Verdict as PriceVerdict
from agent.core.tariff.verdicts import compare
from agent.ocmf_signatures import Verdict, verify
from agent.ocpi.records import read_records
from tests.benchmarks.measurement import Bench, Benchmark, Pairs, Row, median, spread
from tests.benchmarks.settled_fleet import a_large_bill, a_large_fleet
from tests.tariffs.test_ocmf import KEY, a_payload, der, signed
from tests.tariffs.test_worked_examples import EXAMPLES, near

PROJECT = Path(__file__).parents[3]


def measure(bench: Bench) -> Sequence[Row]:
    rows = [examples_right()]
    for periods in (1, 50, 1_000):
        rows += priced(periods, bench.runs(7))
    rows.append(verified(bench.size(1_000, 100)))
    return [*rows, *reconciled(bench)]


def examples_right() -> Row:
    """The specification's worked examples with its two errata, each on every side that it prints."""
    right = 0
    for example in EXAMPLES:
        cost = price(example.record, (example.tariff,)).totals[Total.COST]
        net = near(cost.net) == (None if example.net is None else Decimal(example.net))
        wanted = None if example.gross is None or example.gross == "any" else Decimal(example.gross)
        right += net and (example.gross == "any" or near(cost.gross) == wanted)
    return Row(
        name="OCPI's worked examples that come out right",
        value=float(right),
        unit=f"of {len(EXAMPLES)}",
        runs=1,
        note="two of them as its errata say; the PyPI package ocpi-tariffs 0.1.0 holds no module, so there is no peer",
        target=f"all {len(EXAMPLES)}",
    )


def priced(periods: int, runs: int) -> list[Row]:
    """From the JSON of a CDR to its verdict, and the pricing alone."""
    text = a_cdr_of(periods)
    (record,) = read_records(text).records
    assert compare(price(record, record.tariffs), record, Rounding()).verdict is PriceVerdict.DISPUTE
    times = max(1, 2_000 // periods)
    whole = [timed(lambda: price_document(text), times) for _ in range(runs)]
    alone = [timed(lambda: price(record, record.tariffs), times) for _ in range(runs)]
    return [
        Row(
            name=f"a CDR of {periods} periods, read, priced and judged",
            value=median(whole),
            unit="ms",
            runs=runs,
            note=f"{spread(whole, 3)} ms; pricing alone {median(alone):.3f} ms, {median(alone) / periods:.4f} a period",
        )
    ]


def price_document(text: str) -> None:
    (record,) = read_records(text).records
    compare(price(record, record.tariffs), record, Rounding())


def timed(once: Callable[[], object], times: int) -> float:
    """Milliseconds a time."""
    began = time.perf_counter_ns()
    for _ in range(times):
        once()
    return (time.perf_counter_ns() - began) / 1e6 / times


def a_cdr_of(periods: int) -> str:
    """A minute a period, under a tariff with three prices of energy, one of them by power."""
    started = "2026-03-02T08:00:00Z"
    components = [{"type": "ENERGY", "price": 0.4, "vat": 19, "step_size": 1}]
    elements = [
        {"price_components": [{**components[0], "price": 0.6}], "restrictions": {"min_power": 60}},
        {"price_components": [{**components[0], "price": 0.5}], "restrictions": {"max_kwh": 5}},
        {"price_components": [*components, {"type": "PARKING_TIME", "price": 6, "vat": 19, "step_size": 60}]},
    ]
    listed = [
        {
            "start_date_time": f"2026-03-{2 + minute // 1440:02}T{(8 + minute // 60) % 24:02}:{minute % 60:02}:00Z",
            "dimensions": [
                {"type": "ENERGY", "volume": 0.5 + (minute % 7) / 10},
                {"type": "TIME", "volume": 0.0167},
                {"type": "POWER", "volume": 30 + minute % 60},
            ],
        }
        for minute in range(periods)
    ]
    return json.dumps(
        {
            "country_code": "DE", "party_id": "ABC", "id": "C", "start_date_time": started,
            "end_date_time": "2026-03-04T08:00:00Z", "currency": "EUR", "charging_periods": listed,
            "tariffs": [{"country_code": "DE", "party_id": "ABC", "id": "T", "currency": "EUR", "elements": elements}],
            "total_cost": {"excl_vat": 0, "incl_vat": 0}, "total_energy": 1, "total_time": 1,
            "last_updated": started,
        }
    )  # fmt: skip


def verified(count: int) -> Row:
    """Against the signature's mathematics alone: what reading, strictness and the key's spelling cost."""
    documents = [signed(a_payload(PG=f"T{number}")) for number in range(count)]
    key = der()
    bare = [
        (record.payload, bytes.fromhex(record.signature.text)) for each in documents if (record := read(each).record)
    ]
    public, pairs = KEY.public_key(), Pairs()
    for document, (payload, signature) in zip(documents, bare, strict=True):
        began = time.perf_counter_ns()
        public.verify(signature, payload, ec.ECDSA(SHA256()))
        alone = time.perf_counter_ns() - began
        began = time.perf_counter_ns()
        assert verify(read(document).record, key).verdict is Verdict.VALID
        pairs.add((time.perf_counter_ns() - began) / 1e6, alone / 1e6)
    return Row(
        name=f"{count} OCMF records verified, each",
        value=pairs.value,
        unit="ms",
        peer="the signature alone",
        peer_value=pairs.peer_value,
        ratio=pairs.ratio,
        runs=count,
        note=f"{sum(pairs.ours):,.0f} ms for all of them; secp256r1, the key read anew each time",
    )


def reconciled(bench: Bench) -> Iterator[Row]:
    """The verb as it is run, in a process of its own; a tenth of the size tells the growth."""
    size = bench.size(100_000, 300)
    before: tuple[float, float] | None = None
    for count in (size // 10, size):
        home = bench.fresh(f"reconcile-{count}")
        fleet = a_large_fleet(home / "fleet.db", count)
        bill = a_large_bill(home / "bill.jsonl", count)
        taken_s, memory_mib, counts = run_verb(bill, fleet)
        assert sum(counts.values()) >= count
        growth = "" if before is None else f"; {taken_s / before[0]:.1f} times the time of a tenth"
        memory = "" if before is None else f", {memory_mib - before[1]:+.0f} MiB"
        told = ", ".join(f"{name} {number}" for name, number in sorted(counts.items()))
        yield Row(
            name=f"{count} CDRs against {count} sessions",
            value=taken_s,
            unit="s",
            runs=1,
            note=f"{taken_s / count * 1e3:.2f} ms a CDR{growth}; {told}",
        )
        yield Row(
            name=f"memory of that, {count} CDRs",
            value=memory_mib,
            unit="MiB",
            runs=1,
            note=f"highest resident{memory}",
        )
        before = taken_s, memory_mib


_MEASURED = (
    # The mark is set back first: a child begins with its parent's.
    "import sys, time; open('/proc/self/clear_refs', 'w').write('5'); from agent.cli import main; "
    "began = time.perf_counter(); code = main(sys.argv[1:]); "
    "peak = next(line.split()[1] for line in open('/proc/self/status') if line.startswith('VmHWM')); "
    "print(time.perf_counter() - began, int(peak) / 1024, file=sys.stderr); sys.exit(code)"
)


def run_verb(bill: Path, fleet: Path) -> tuple[float, float, dict[str, int]]:
    words = ["reconcile", "--cdrs", str(bill), "--sessions", str(fleet), "--json"]
    ran = subprocess.run(
        [sys.executable, "-c", _MEASURED, *words], cwd=PROJECT, check=False, capture_output=True, text=True
    )
    taken_s, memory_mib = map(float, ran.stderr.split()[-2:])
    return taken_s, memory_mib, json.loads(ran.stdout.splitlines()[-1])["counts"]


BENCHMARK = Benchmark(name="money", about="CDRs priced, bills reconciled, meter records verified", measure=measure)
