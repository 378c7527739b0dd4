"""`make bench`: runs the benchmarks, prints a table and writes build/bench.json.

    python -m tests.benchmarks.runner [--only NAME] [--quick] [--out FILE] [--list]

A subject is a file in tests/benchmarks/subjects/ with a `BENCHMARK`; no list has to be kept.
"""

from __future__ import annotations

import argparse
import importlib
import json
import pkgutil
import sys
import tempfile
from collections.abc import Sequence
from pathlib import Path

from rich.console import Console
from rich.table import Table

from tests.benchmarks.measurement import Bench, Benchmark, Row, load

PROJECT = Path(__file__).parents[2]
SUBJECTS = Path(__file__).parent / "subjects"


def main(words: Sequence[str] | None = None) -> int:
    arguments = arguments_of(words)
    found = benchmarks()
    if arguments.list:
        for each in found.values():
            print(f"{each.name:12} {each.about}")  # noqa: T201
        return 0
    if arguments.only and arguments.only not in found:
        print(f"no benchmark is named {arguments.only!r}; there are: {', '.join(found)}", file=sys.stderr)  # noqa: T201
        return 64
    wanted = [found[arguments.only]] if arguments.only else list(found.values())
    console = Console(stderr=True)
    rows: list[Row] = []
    for each in wanted:
        console.print(f"[bold]{each.name}[/bold]: {each.about} ({load()})")
        rows += measured(each, quick=arguments.quick)
    arguments.out.parent.mkdir(parents=True, exist_ok=True)
    arguments.out.write_text(json.dumps([row.to_json() for row in rows], indent=2, ensure_ascii=False) + "\n")
    report = Console()
    report.print(table(rows))
    for row in rows:
        report.print(f"[bold]{row.name}[/bold]: {row.note}", highlight=False)
    console.print(f"written to {arguments.out}; {load()}")
    return 0


def benchmarks() -> dict[str, Benchmark]:
    """Every subject by its name, in the order of the names."""
    found = {}
    for module in sorted(each.name for each in pkgutil.iter_modules([str(SUBJECTS)])):
        benchmark: Benchmark = importlib.import_module(f"tests.benchmarks.subjects.{module}").BENCHMARK
        found[benchmark.name] = benchmark
    return found


def measured(benchmark: Benchmark, *, quick: bool) -> Sequence[Row]:
    # Not in memory: what is measured is the disk, too.
    (PROJECT / "build").mkdir(exist_ok=True)
    with tempfile.TemporaryDirectory(prefix="bench-", dir=PROJECT / "build") as folder:
        return benchmark.measure(Bench(folder=Path(folder), quick=quick))


def table(rows: Sequence[Row]) -> Table:
    made = Table(title="roamkey, and its peers in the same run")
    for column in ("what", "roamkey", "target", "peer", "ratio", "runs"):
        made.add_column(column, justify="right" if column in ("roamkey", "ratio", "runs") else "left", overflow="fold")
    for row in rows:
        peer = "" if row.peer is None else f"{row.peer}: {figure(row.peer_value)}"
        made.add_row(
            row.name,
            f"{figure(row.value)} {row.unit}",
            row.target,
            peer,
            "" if row.ratio is None else f"{row.ratio:.2f}",
            str(row.runs),
        )
    return made


def figure(value: float | None) -> str:
    if value is None:
        return "-"
    return f"{value:,.0f}" if abs(value) >= 100 else f"{value:,.1f}" if abs(value) >= 10 else f"{value:,.2f}"


def arguments_of(words: Sequence[str] | None) -> argparse.Namespace:
    parser = argparse.ArgumentParser(prog="make bench", description="Run the benchmarks.")
    parser.add_argument("--only", metavar="NAME", help="one subject")
    parser.add_argument("--quick", action="store_true", help="small sizes, once: to see that they work")
    parser.add_argument("--list", action="store_true", help="which there are")
    parser.add_argument("--out", type=Path, default=PROJECT / "build" / "bench.json", metavar="FILE")
    return parser.parse_args(words)


if __name__ == "__main__":
    sys.exit(main())
