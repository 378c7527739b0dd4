"""Decisions: every reason of a policy of seventeen rules, beside other engines that answer the same yes or no.

The engines run in an environment of their own (make peers) and a process of their own, which times itself: nothing of
the way there is counted. Without that environment only our own figures are told.
"""

from __future__ import annotations

import json
import random
import statistics
import subprocess
import sys
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from itertools import groupby
from pathlib import Path
from typing import Any

from agent.cache.tokens import TokenTable, build_table
from agent.core.decisions import Granted, decide
from agent.core.requests import Request
from tests.benchmarks.measurement import Bench, Benchmark, Pairs, Row
from tests.benchmarks.policy_cases import Case, Fleet, a_case, a_fleet, a_token, reference_of

PROJECT = Path(__file__).parents[3]
PEERS = PROJECT / ".peers" / "bin" / "python"
SCRIPT = Path(__file__).parents[1] / "peers" / "policy_engines.py"
ENGINES = ("cedarpy", "common-expression-language", "pycasbin")
SIZES = ((1_000, "1k"), (100_000, "100k"), (1_000_000, "1M"))
UNKNOWN_SHARE = 0.03
TARGET = "30 times the best peer"


def measure(bench: Bench) -> Sequence[Row]:
    draw = random.Random(1)
    fleet = a_fleet(draw)
    cases = [a_case(draw, fleet, a_token(random.Random(number), number)) for number in range(bench.size(5_000, 200))]
    with peers_asked(bench.fresh("decisions"), fleet, cases) as peers:
        rows = alone(fleet, cases, peers, bench.runs(5))
    for size, name in SIZES:
        if bench.quick and size > 1_000:
            break
        rows += with_look_up(Table(bench, size), fleet, name, bench.size(10_000, 200), rows)
    return rows


class Peers:
    """The other engines' process."""

    def __init__(self, process: subprocess.Popen[str]) -> None:
        self._process = process

    def ask(self, engine: str, count: int) -> tuple[list[bool], list[float]]:
        """Verdicts, and the microseconds that each took."""
        assert self._process.stdin is not None
        assert self._process.stdout is not None
        self._process.stdin.write(f"{engine} {count}\n")
        self._process.stdin.flush()
        told: dict[str, Any] = json.loads(self._process.stdout.readline())
        return told["verdicts"], [each / 1e3 for each in told["taken_ns"]]


@contextmanager
def peers_asked(folder: Path, fleet: Fleet, cases: Sequence[Case]) -> Iterator[Peers | None]:
    if not PEERS.exists():
        yield None
        return
    (folder / "cases.json").write_text(
        json.dumps({"groups": fleet.plain_groups, "cases": [case.plain for case in cases]})
    )
    command = [str(PEERS), "-I", str(SCRIPT), str(folder / "cases.json")]
    with subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True) as process:
        yield Peers(process)
        process.communicate()


def alone(fleet: Fleet, cases: Sequence[Case], peers: Peers | None, runs: int) -> list[Row]:
    """The token in hand. Ours and each of the others take turns over the same questions, and agree on each."""
    ours = [decided(fleet, cases) for _ in range(2)][1]  # the first warms caches
    verdicts = ours[0]
    halves: dict[str, tuple[Pairs, Pairs]] = {}
    for _ in range(runs):
        for engine in ENGINES if peers is not None else ():
            assert peers is not None
            verdicts, taken_us = decided(fleet, cases)
            theirs, their_us = peers.ask(engine, len(cases))
            answers = enumerate(zip(verdicts, theirs, strict=True))
            disagreeing = [number for number, (ours_is, theirs_is) in answers if ours_is != theirs_is]
            assert not disagreeing, f"{engine} decides otherwise, such as question {disagreeing[0]}"
            p50, p99 = halves.setdefault(engine, (Pairs(), Pairs()))
            p50.add(percentile(taken_us, 50), percentile(their_us, 50))
            p99.add(percentile(taken_us, 99), percentile(their_us, 99))
    share = f"{sum(verdicts) / len(verdicts):.0%} of {len(cases)} questions granted; token in hand; all reasons"
    rows = []
    if not halves:
        for point in (50, 99):
            value = percentile(ours[1], point)
            note = f"{share}; `make peers` brings the engines to compare with"
            rows.append(Row(name=f"decision, p{point}", value=value, unit="us", runs=1, note=note, target=TARGET))
    for point, index in ((50, 0), (99, 1)):
        for engine, pairs in halves.items():
            found = pairs[index]
            rows.append(
                Row(
                    name=f"decision, p{point}, {engine}",
                    value=found.value,
                    unit="us",
                    peer=engine,
                    peer_value=found.peer_value,
                    ratio=found.ratio,
                    runs=runs,
                    note=f"{1 / found.ratio:,.1f} times as quick, agreeing on every verdict; {share}",
                    target=TARGET,
                )
            )
    return rows


def decided(fleet: Fleet, cases: Sequence[Case]) -> tuple[list[bool], list[float]]:
    verdicts, taken_us = [], []
    policy, clock = fleet.policy, time.perf_counter_ns
    for case in cases:
        request, usage, now = case.request, case.usage, case.now
        began = clock()
        decision = decide(request, policy, usage, now)
        taken_us.append((clock() - began) / 1e3)
        verdicts.append(isinstance(decision, Granted))
    return verdicts, taken_us


class Table:
    """A token table of so many cards with its shards, made once and kept in build/."""

    def __init__(self, bench: Bench, size: int) -> None:
        self.size = size
        folder = (bench.folder if bench.quick else PROJECT / "build") / f"bench-tokens-{size}"
        self.path, self.shards = folder / "tokens.sqlite", folder / "shards"
        if not self.path.exists():
            self._make(folder)

    def _make(self, folder: Path) -> None:
        self.shards.mkdir(parents=True, exist_ok=True)
        references = sorted((reference_of(number), number) for number in range(self.size))
        tokens = (a_token(random.Random(number), number) for _, number in references)
        for shard in range(256):
            (self.shards / f"{shard:02x}").write_text("[]")
        for prefix, own in groupby((reference for reference, _ in references), key=lambda reference: reference[:2]):
            (self.shards / prefix).write_text(json.dumps(list(own)))
        unfinished = folder / "unfinished.sqlite"
        unfinished.unlink(missing_ok=True)
        build_table(unfinished, tokens)
        unfinished.rename(self.path)

    def open(self) -> TokenTable:
        return TokenTable(self.path, shard=lambda reference: (self.shards / reference[:2]).read_bytes())


def with_look_up(table: Table, fleet: Fleet, name: str, count: int, before: list[Row]) -> list[Row]:
    """From the reference of a card to the decision. A process of its own, so that its memory is its own."""
    draw = random.Random(2)
    numbers = [draw.randrange(table.size) for _ in range(count)]
    cases = [a_case(draw, fleet, a_token(random.Random(number), number)) for number in numbers]
    strangers = {number for number in range(count) if draw.random() < UNKNOWN_SHARE}
    asked = [reference_of(-1 - at if at in strangers else number) for at, number in enumerate(numbers)]
    tokens = table.open()
    known_us, unknown_us = [], []
    for at, (case, reference) in enumerate(zip(cases, asked, strict=True)):
        place, prices, usage, now = case.request.place, case.request.prices, case.usage, case.now
        began = time.perf_counter_ns()
        token = tokens.get(reference)
        request = Request(
            credential=case.request.credential,
            token=token,
            reader="door",
            charger="bay",
            place=place,
            prices=prices,
            soc_percent=case.request.soc_percent,
        )
        decision = decide(request, fleet.policy, usage, now)
        (unknown_us if at in strangers else known_us).append((time.perf_counter_ns() - began) / 1e3)
        assert (token is None) == (at in strangers)
        assert isinstance(decision, Granted) <= (token is not None)
    tokens.close()
    opened_ms, resident_mib = footprint(table, asked)
    beside = [best_peer(before, point, percentile(known_us, point)) for point in (50, 99)]
    return [
        Row(
            name=f"look-up and decision, {name} tokens, p50",
            value=percentile(known_us, 50),
            unit="us",
            runs=len(known_us),
            note=f"SQLite, its row's seal checked; of an unknown card {percentile(unknown_us, 50):.0f} us",
            target="<= 25 us",
            **beside[0],
        ),
        Row(
            name=f"look-up and decision, {name} tokens, p99",
            value=percentile(known_us, 99),
            unit="us",
            runs=len(known_us),
            note=f"as above; unknown cards, looked for in their signed shard, p99 {percentile(unknown_us, 99):.0f} us",
            **beside[1],
        ),
        Row(
            name=f"token table opened, {name}",
            value=opened_ms,
            unit="ms",
            runs=5,
            note="until the first card is found; a process of its own",
            target="<= 5 ms",
        ),
        Row(
            name=f"token table resident, {name}",
            value=resident_mib,
            unit="MiB",
            runs=1,
            note=f"after {len(asked)} look-ups, beyond what the process had before",
            target="<= 50 MB",
        ),
    ]


def best_peer(rows: Sequence[Row], point: int, value: float) -> dict[str, Any]:
    """The quickest of the others, which have their token in hand and look nothing up."""
    found = [row for row in rows if row.peer_value is not None and row.name.startswith(f"decision, p{point}")]
    if not found:
        return {}
    best = min(found, key=lambda row: row.peer_value or 0)
    peer_value = best.peer_value or 0
    return {"peer": f"{best.peer}, no look-up", "peer_value": peer_value, "ratio": value / peer_value}


MEASURE = """
import json, sys, time
from agent.cache.tokens import TokenTable
from pathlib import Path

def resident_kib():
    with open("/proc/self/status") as file:
        return next(int(line.split()[1]) for line in file if line.startswith("VmRSS"))

path, shards, asked = json.load(sys.stdin)
shard = lambda reference: (Path(shards) / reference[:2]).read_bytes()
found = []
before_kib = resident_kib()
for _ in range(5):
    began = time.perf_counter_ns()
    tokens = TokenTable(Path(path), shard=shard)
    tokens.get(asked[0])
    found.append((time.perf_counter_ns() - began) / 1e6)
for reference in asked:
    tokens.get(reference)
print(json.dumps([sorted(found)[2], (resident_kib() - before_kib) / 1024]))
"""


def footprint(table: Table, asked: Sequence[str]) -> tuple[float, float]:
    """Milliseconds to open, and what stays in memory after all the look-ups."""
    told = json.dumps([str(table.path), str(table.shards), list(asked)])
    done = subprocess.run(
        [sys.executable, "-c", MEASURE], input=told, capture_output=True, text=True, check=True, cwd=PROJECT
    )
    opened_ms, resident_mib = json.loads(done.stdout)
    return opened_ms, resident_mib


def percentile(values: Sequence[float], point: int) -> float:
    return statistics.quantiles(values, n=100)[point - 1]


BENCHMARK = Benchmark(
    name="decisions", about="a decision with all reasons beside other policy engines, and look-ups", measure=measure
)
