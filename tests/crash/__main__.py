"""The crash campaign: kills, cut links, full disks, power cuts, a flash that lies. A table, and build/crash.json.

python -m tests.crash [--seed N] [--kills N] [--records N] [--cuts N] [--fills N] [--long] [--required]
                      [--only kills,links,disks,power,lying,negative]

What cannot be run here is skipped and said loudly; with --required that is a failure, too.
"""

from __future__ import annotations

import argparse
import asyncio
import json
import random
import shutil
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

from tests.crash import disk_campaign, kill_campaign, link_campaign, power_cuts, power_fleet
from tests.crash.power_cuts import FileSystem, Tally, Unavailable, Verdict
from tests.crash.power_judges import NEGATIVE, OurJudge
from tests.journal import small_disks

ROOT = Path(__file__).parents[2]
RESULT = ROOT / "build" / "crash.json"
PARTS = ("kills", "links", "disks", "power", "lying", "negative")
SAY_EVERY_S = 5.0
EVENTS, SHORT_EVENTS = 200, 8
# Workloads differ by their seed: no single one is cut more often than this.
CUTS_A_RECORDING = 500
XFS_SHARE = 5  # one cut in so many is on xfs, whose images are large
NEGATIVE_CUTS = 60
# From so many kills on each step must have been hit; fewer cannot promise it.
ALL_STEPS_FROM = 1_000
BROKEN = (Verdict.LOST, Verdict.UNREADABLE, Verdict.UNMOUNTABLE)


@dataclass(frozen=True, slots=True, kw_only=True)
class Row:
    """One line of the table. `ok` is None for what could not be run here."""

    what: str
    done: str
    found: str
    ok: bool | None
    seconds: float
    details: dict[str, Any] = field(default_factory=dict)


class Ticker:
    """A line now and then, so that long work is seen to go on."""

    def __init__(self) -> None:
        self._said = time.monotonic()

    def __call__(self, line: str) -> None:
        if time.monotonic() - self._said >= SAY_EVERY_S:
            self._said = time.monotonic()
            say(f"  {line}")


def main(words: list[str]) -> int:
    wanted = arguments(words)
    say(f"seed {wanted.seed}: the same seed gives the same plan; what the machine makes of it differs")
    rows: list[Row] = []
    with tempfile.TemporaryDirectory(prefix="roamkey-crash-", dir=power_cuts.memory()) as memory:
        for part in wanted.only:
            for row in run(part, wanted, Path(memory)):
                rows.append(row)
                say(f"{mark(row)} {row.what}: {row.done}; {row.found} ({row.seconds:.0f} s)")
                write(wanted.seed, rows)
    table(rows)
    left_out = [row for row in rows if row.ok is None]
    for row in left_out:
        say(f"!!! NOT RUN, so NOT SHOWN here: {row.what}: {row.found}")
    return exit_code(rows, required=wanted.required)


def exit_code(rows: list[Row], *, required: bool) -> int:
    if any(row.ok is False for row in rows):
        return 1
    return 2 if required and any(row.ok is None for row in rows) else 0


def arguments(words: list[str]) -> argparse.Namespace:
    parser = argparse.ArgumentParser(prog="make crash", description=__doc__)
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument("--kills", type=int)
    parser.add_argument("--records", type=int)
    parser.add_argument("--cuts", type=int)
    parser.add_argument("--fills", type=int)
    parser.add_argument("--long", action="store_true")
    parser.add_argument("--required", action="store_true")
    parser.add_argument("--only", type=lambda text: tuple(text.split(",")), default=PARTS)
    wanted = parser.parse_args(words)
    wanted.kills = wanted.kills or (10_000 if wanted.long else 1_000)
    wanted.records = wanted.records or (1_000_000 if wanted.long else 100_000)
    wanted.cuts = wanted.cuts or (10_000 if wanted.long else 1_000)
    wanted.fills = wanted.fills or (300 if wanted.long else 30)
    if unknown := set(wanted.only) - set(PARTS):
        parser.error(f"--only knows {', '.join(PARTS)}; not {', '.join(sorted(unknown))}")
    return wanted


def run(part: str, wanted: argparse.Namespace, memory: Path) -> Iterator[Row]:
    match part:
        case "kills":
            yield kills(wanted.seed, wanted.kills)
        case "links":
            yield links(wanted.seed, wanted.records)
        case "disks":
            for disk in disk_campaign.DISKS:
                yield full_disks(disk, wanted.seed, wanted.fills)
        case "power":
            yield power(FileSystem.EXT4, wanted.seed, wanted.cuts - wanted.cuts // XFS_SHARE, memory)
            yield power(FileSystem.XFS, wanted.seed, wanted.cuts // XFS_SHARE, memory)
            yield exhaustive(wanted.seed, memory)
        case "lying":
            yield power(FileSystem.EXT4, wanted.seed, wanted.cuts // 5, memory, lying=True)
        case _:
            for name in NEGATIVE:
                yield negative(name, wanted.seed, memory)


def kills(seed: int, count: int) -> Row:
    folder, tick = kept_folder("kills"), Ticker()

    def progress(tally: kill_campaign.Tally) -> None:
        tick(f"{tally.total} of {count} kills, {tally.records} records stored, {tally.greens} green lights")

    tally = asyncio.run(kill_campaign.campaign(folder, seed=seed, kills=count, progress=progress))
    clean_up(folder, tally.complaints)
    named = len(set(tally.by_step) - {"any moment"})
    missed = kill_campaign.missed_steps(tally)
    found = complaints(tally.complaints, "lost 0, twice 0, chain whole")
    if missed:
        found += f"; never died at {len(missed)} of {named + len(missed)} steps: {', '.join(missed)}"
    return Row(
        what="SIGKILL of agent and receiver",
        done=f"{tally.total} kills at {named} steps and at any moment, {tally.broker_kills} of the broker; "
        f"{tally.records} records, {tally.greens} green lights, {tally.sessions} sessions",
        found=found,
        ok=not tally.complaints and not (missed and count >= ALL_STEPS_FROM),
        seconds=tally.seconds,
        details=asdict(tally) | {"missed": missed},
    )


def links(seed: int, count: int) -> Row:
    folder, tick = kept_folder("links"), Ticker()

    def progress(tally: link_campaign.Tally) -> None:
        tick(f"{tally.acknowledged} of {count} records, {tally.cuts} cuts")

    tally = asyncio.run(link_campaign.campaign(folder, seed=seed, records=count, progress=progress))
    clean_up(folder, tally.complaints)
    return Row(
        what="link cut every 0.2 to 3 kB",
        done=f"{tally.records} records, {tally.cuts} cuts; {tally.duplicates_on_wire} came again over the wire "
        f"({tally.duplicates_on_wire / max(1, tally.records):.1%}, at most {link_campaign.MOST_DUPLICATES:.0%})",
        found=complaints(tally.complaints, "lost 0, twice 0, chain whole"),
        ok=not tally.complaints,
        seconds=tally.seconds,
        details=asdict(tally),
    )


def full_disks(disk: str, seed: int, fills: int) -> Row:
    folder, tick = kept_folder("disks"), Ticker()
    try:
        tally = asyncio.run(
            disk_campaign.campaign(
                folder, disk=disk, seed=seed, fills=fills, progress=lambda tally: tick(f"{tally.fills} times full")
            )
        )
    except small_disks.Unavailable as reason:
        return skipped(f"full disk, {disk}", str(reason))
    clean_up(folder, tally.complaints)
    return Row(
        what=f"full disk, {disk}",
        done=f"{tally.fills} times full, {tally.ends_while_full} sessions ended meanwhile, "
        f"{tally.kills_while_full} kills and starts while full, {tally.records} records",
        found=complaints(tally.complaints, "every end recorded, lost 0, no other death"),
        ok=not tally.complaints,
        seconds=tally.seconds,
        details=asdict(tally),
    )


def power(system: FileSystem, seed: int, cuts: int, memory: Path, *, lying: bool = False) -> Row:
    what = f"flash that lies about FLUSH, {system}" if lying else f"power cut, {system}"

    def some(trace: power_cuts.Trace, count: int, chance: random.Random) -> Iterator[power_cuts.Cut]:
        make = power_cuts.lying_cuts if lying else power_cuts.random_cuts
        return make(trace, count, chance)

    began, total = time.monotonic(), Tally()
    tick = Ticker()
    while total.cuts < cuts:
        share = min(CUTS_A_RECORDING, cuts - total.cuts)
        chance = random.Random(f"{seed} {total.cuts}")
        try:
            add(total, ours(system, chance, EVENTS, memory, lambda trace, c=chance, n=share: some(trace, n, c), lying,
                            lambda tally: tick(f"{total.cuts + tally.cuts} of {cuts} cuts")))  # fmt: skip
        except Unavailable as reason:
            return skipped(what, str(reason))
    return judged_row(what, total, began, allowed=(Verdict.FLAGGED, Verdict.TAIL, Verdict.UNMOUNTABLE) if lying else ())


def exhaustive(seed: int, memory: Path) -> Row:
    began, chance, tick = time.monotonic(), random.Random(seed), Ticker()
    what = "power cut after every write of a short life, every subset of what is unflushed"
    try:
        tally = ours(FileSystem.EXT4, chance, SHORT_EVENTS, memory,
                     lambda trace: power_cuts.every_cut(trace, chance), False,
                     lambda tally: tick(f"{tally.cuts} cuts"))  # fmt: skip
    except Unavailable as reason:
        return skipped(what, str(reason))
    return judged_row(what, tally, began, allowed=())


def ours(
    system: FileSystem,
    chance: random.Random,
    events: int,
    memory: Path,
    cuts: Callable[[power_cuts.Trace], Iterator[power_cuts.Cut]],
    lying: bool,
    progress: Callable[[Tally], None],
) -> Tally:
    with tempfile.TemporaryDirectory(dir=memory) as name:
        folder = Path(name)
        fleet = power_fleet.found(folder / "fleet")
        workload = ("roamkey", str(chance.getrandbits(32)), str(events), str(fleet))
        trace = power_cuts.record(folder / "recording", system, workload)
        (folder / "cuts").mkdir()
        return power_cuts.judged(cuts(trace), folder / "cuts", system, OurJudge(fleet, lying=lying), progress)


def negative(name: str, seed: int, memory: Path) -> Row:
    """Must be destroyed, or the tester proves nothing."""
    what, began = f"power cut, {name}: must be destroyed", time.monotonic()
    with tempfile.TemporaryDirectory(dir=memory) as folder_name:
        folder = Path(folder_name)
        try:
            trace = power_cuts.record(folder / "recording", FileSystem.EXT4, (name, str(seed), "300"))
        except Unavailable as reason:
            return skipped(what, str(reason))
        (folder / "cuts").mkdir()
        cuts = power_cuts.random_cuts(trace, NEGATIVE_CUTS, random.Random(seed))
        tally = power_cuts.judged(cuts, folder / "cuts", FileSystem.EXT4, NEGATIVE[name], lambda tally: None)
    row = judged_row(what, tally, began, allowed=BROKEN)
    return Row(**{**row_fields(row), "ok": tally.count(*BROKEN) > 0})


def add(total: Tally, more: Tally) -> None:
    total.cuts += more.cuts
    total.dropped += more.dropped
    total.torn += more.torn
    total.details += more.details
    for verdict, times in more.verdicts.items():
        total.verdicts[verdict] = total.verdicts.get(verdict, 0) + times


def judged_row(what: str, tally: Tally, began: float, *, allowed: tuple[Verdict, ...]) -> Row:
    bad = tally.cuts - tally.count(Verdict.GOOD, *allowed)
    return Row(
        what=what,
        done=f"{tally.cuts} cuts, {tally.dropped} writes lost, {tally.torn} torn",
        found=", ".join(f"{times} {verdict}" for verdict, times in sorted(tally.verdicts.items())),
        ok=bad == 0,
        seconds=time.monotonic() - began,
        details={"verdicts": {str(key): times for key, times in tally.verdicts.items()}, "not good": tally.details},
    )


def skipped(what: str, why: str) -> Row:
    return Row(what=what, done="NOT RUN", found=why, ok=None, seconds=0.0)


def row_fields(row: Row) -> dict[str, Any]:
    return {name: getattr(row, name) for name in Row.__slots__}


def complaints(found: list[str], none: str) -> str:
    return none if not found else f"{len(found)} complaints, the first: {found[0]}"


def kept_folder(name: str) -> Path:
    return Path(tempfile.mkdtemp(prefix=f"roamkey-{name}-"))


def clean_up(folder: Path, found: list[str]) -> None:
    if found:
        say(f"  everything is kept in {folder}")
    else:
        shutil.rmtree(folder, ignore_errors=True)


def mark(row: Row) -> str:
    return {True: "ok  ", False: "FAIL", None: "skip"}[row.ok]


def table(rows: list[Row]) -> None:
    from rich.console import Console
    from rich.table import Table

    made = Table(title="Crash campaign", show_lines=True)
    for name in ("", "what", "done", "found", "s"):
        made.add_column(name, overflow="fold")
    for row in rows:
        made.add_row(mark(row), row.what, row.done, row.found, f"{row.seconds:.0f}")
    Console(width=140).print(made)
    say(f"written to {RESULT.relative_to(ROOT)}")


def write(seed: int, rows: list[Row]) -> None:
    RESULT.parent.mkdir(exist_ok=True)
    RESULT.write_text(json.dumps({"seed": seed, "rows": [row_fields(row) for row in rows]}, indent=2) + "\n")


def say(line: str) -> None:
    sys.stdout.write(line + "\n")
    sys.stdout.flush()


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
