"""The power fails at any moment: what was promised is there, and the tester destroys what deserves it (P1, P3)."""

from __future__ import annotations

import random
import tempfile
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.crash import power_cuts, power_fleet
from tests.crash.power_cuts import FileSystem, Tally, Unavailable, Verdict
from tests.crash.power_judges import NEGATIVE, OurJudge

pytestmark = pytest.mark.slow

EVENTS = "120"
SHORT_EVENTS = "8"
BROKEN = (Verdict.LOST, Verdict.UNREADABLE, Verdict.UNMOUNTABLE)


@pytest.fixture
def room() -> Iterator[Path]:
    """In memory: images are written there a thousand times."""
    with tempfile.TemporaryDirectory(prefix="roamkey-cuts-", dir=power_cuts.memory()) as folder:
        yield Path(folder)


@pytest.fixture
def fleet(room: Path) -> Path:
    return power_fleet.found(room / "fleet")


def recorded(room: Path, system: FileSystem, *workload: str) -> power_cuts.Trace:
    try:
        return power_cuts.record(room / "recording", system, workload)
    except Unavailable as reason:
        pytest.skip(str(reason))


def judged(cuts: Iterator[power_cuts.Cut], room: Path, system: FileSystem, judge: power_cuts.Judge) -> Tally:
    (room / "cuts").mkdir()
    return power_cuts.judged(cuts, room / "cuts", system, judge, lambda tally: None)


@pytest.mark.parametrize(("system", "cuts"), [(FileSystem.EXT4, 200), (FileSystem.XFS, 30)])
def test_power_cuts_at_any_moment_lose_nothing_promised(room: Path, fleet: Path, system: FileSystem, cuts: int) -> None:
    trace = recorded(room, system, "roamkey", "1", EVENTS, str(fleet))
    assert trace.promises > 100

    tally = judged(power_cuts.random_cuts(trace, cuts, random.Random(1)), room, system, OurJudge(fleet))

    assert tally.verdicts == {Verdict.GOOD: cuts}, tally.details
    assert tally.dropped > 0
    assert tally.torn > 0


def test_cuts_all_along_a_short_life_with_subsets_of_the_unflushed_writes_are_survived(room: Path, fleet: Path) -> None:
    trace = recorded(room, FileSystem.EXT4, "roamkey", "1", SHORT_EVENTS, str(fleet))
    every = power_cuts.every_cut(trace, random.Random(1))
    some = (cut for number, cut in enumerate(every) if number % 12 == 0)

    tally = judged(some, room, FileSystem.EXT4, OurJudge(fleet))

    assert set(tally.verdicts) == {Verdict.GOOD}, tally.details
    assert tally.cuts > 50


def test_a_flash_that_lies_about_flush_is_found_out_and_lived_with(room: Path, fleet: Path) -> None:
    """What never reached the medium at all leaves no trace there; everything else must be told."""
    trace = recorded(room, FileSystem.EXT4, "roamkey", "2", EVENTS, str(fleet))

    tally = judged(
        power_cuts.lying_cuts(trace, 60, random.Random(2)), room, FileSystem.EXT4, OurJudge(fleet, lying=True)
    )

    silent = [each for each in tally.details if any(f": {bad}: " in each for bad in (Verdict.LOST, Verdict.UNREADABLE))]
    assert silent == []
    assert tally.count(Verdict.FLAGGED) > 0, "nothing was corrupt: the tester lied too little"
    assert tally.count(Verdict.TAIL) > 0


@pytest.mark.parametrize("name", list(NEGATIVE))
def test_the_tester_destroys_what_does_not_flush(room: Path, name: str) -> None:
    """Else it proves nothing about the journal."""
    trace = recorded(room, FileSystem.EXT4, name, "1", "200")

    tally = judged(power_cuts.random_cuts(trace, 20, random.Random(1)), room, FileSystem.EXT4, NEGATIVE[name])

    assert tally.count(*BROKEN) >= 3, tally.verdicts
