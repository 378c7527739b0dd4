"""Coverage-guided fuzzing of every parser, `make fuzz`. What breaks one is kept in build/fuzz/NAME/ and told at
the end.

One process a parser: libFuzzer (atheris) never returns, and counts the edges that an input takes. What was found
before is where the next run begins. A finding that is mended becomes a file in tests/fuzz/regressions/NAME/.
"""

from __future__ import annotations

import argparse
import itertools
import subprocess
import sys
import time
from pathlib import Path

from tests.fuzz.targets import LARGEST_PEAK_BYTES, REGRESSIONS, TARGETS

FOUND = Path("build/fuzz")
LARGEST_BYTES = 8192
SLOWEST_MS = 50  # of processor time; half of it again is a machine's own moods
MEMORY_MB = 1024  # of the whole process
MEMORY_EVERY = 500  # inputs: tracing each would make them all slow


def main() -> int:
    parser = argparse.ArgumentParser(prog="make fuzz", description=__doc__)
    parser.add_argument("--seconds", type=int, default=30, help="for each parser (default: 30)")
    parser.add_argument("--runs", type=int, help="inputs for each parser, instead of a time")
    parser.add_argument("--only", help="names, separated by commas: " + ", ".join(TARGETS))
    parser.add_argument("--seed", type=int, default=0, help="0: another one each time")
    parser.add_argument("--guide", help=argparse.SUPPRESS)
    arguments, rest = parser.parse_known_args()
    if arguments.guide is not None:
        guide(arguments.guide, rest)
    names = arguments.only.split(",") if arguments.only else list(TARGETS)
    unknown = [name for name in names if name not in TARGETS]
    if unknown:
        parser.error(f"no parser is called {', '.join(unknown)}; they are {', '.join(TARGETS)}")
    broken = [name for name in names if not survives(name, arguments)]
    print(f"{len(names) - len(broken)} of {len(names)} parsers broke on nothing", flush=True)  # noqa: T201
    for name in broken:
        print(f"BROKEN: {name}: the input is in {FOUND / name}, what it did in {FOUND / name}.log")  # noqa: T201
    return 1 if broken else 0


def survives(name: str, arguments: argparse.Namespace) -> bool:
    folder = FOUND / name
    corpus = folder / "corpus"
    corpus.mkdir(parents=True, exist_ok=True)
    for number, seed in enumerate(TARGETS[name]().seeds):
        (corpus / f"seed-{number}").write_bytes(seed)
    limit = f"-runs={arguments.runs}" if arguments.runs else f"-max_total_time={arguments.seconds}"
    command = [sys.executable, "-m", "tests.fuzz.campaign", "--guide", name, str(corpus), limit]
    command += [f"-max_len={LARGEST_BYTES}", "-timeout=10", f"-rss_limit_mb={MEMORY_MB}"]
    command += [f"-artifact_prefix={folder}/", f"-seed={arguments.seed}"]
    command += ["-print_final_stats=1", *(str(each) for each in [REGRESSIONS / name] if each.is_dir())]
    began = time.monotonic()
    done = subprocess.run(command, capture_output=True, text=True, errors="replace", check=False)
    said = done.stdout + done.stderr
    (FOUND / f"{name}.log").write_text(said)
    counted = next((line.split()[-1] for line in said.splitlines() if "number_of_executed_units" in line), "?")
    verdict = "nothing" if done.returncode == 0 else "BROKEN"
    took = time.monotonic() - began
    print(f"{name:16} {counted:>10} inputs in {took:5.0f} s: {verdict}", flush=True)  # noqa: T201
    return done.returncode == 0


def guide(name: str, options: list[str]) -> None:
    """Never returns. Only what is imported in here is instrumented: the code under test, not its libraries."""
    import atheris

    with atheris.instrument_imports(include=["agent", "drivers", "sync", "firmware_profiles"]):
        target = TARGETS[name]()

    fed = itertools.count(1)

    def once(data: bytes) -> None:
        if next(fed) % MEMORY_EVERY == 0 and (peak := target.peak_bytes(data)) > LARGEST_PEAK_BYTES:
            raise MemoryError(f"{peak:,} bytes of memory for {len(data)} of input")
        began = time.thread_time_ns()
        target.feed(data)
        took_ms = (time.thread_time_ns() - began) / 1e6
        if took_ms > 1.5 * SLOWEST_MS and slow_again(data):
            raise TimeoutError(f"{took_ms:.0f} ms for {len(data)} bytes")

    def slow_again(data: bytes) -> bool:
        """Neither the first call of something nor the collector's turn."""
        began = time.thread_time_ns()
        target.feed(data)
        return (time.thread_time_ns() - began) / 1e6 > SLOWEST_MS

    atheris.Setup([sys.argv[0], *options], once)
    atheris.Fuzz()


if __name__ == "__main__":
    sys.exit(main())
