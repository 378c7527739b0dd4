"""What a benchmark says: one row a figure, with its peer measured in the same run; and how figures are taken.

Numbers of a shared machine are noise, their ratios less so: peer and subject take turns, and medians are told.
"""

from __future__ import annotations

import os
import statistics
from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any


@dataclass(frozen=True, slots=True, kw_only=True)
class Row:
    """One figure. `ratio` is ours by the peer's, the median over pairs where they were taken in pairs. None where it
    could not be taken, with the reason in the note: a row that is missing tells nobody anything.

    `target` is for people's eyes, in the table only; whether it is met is for them to judge, never for a test.
    """

    name: str
    value: float | None
    unit: str
    peer: str | None = None
    peer_value: float | None = None
    ratio: float | None = None
    runs: int
    note: str = ""
    target: str = ""

    def to_json(self) -> dict[str, Any]:
        plain = asdict(self)
        del plain["target"]
        return {name: round(value, 4) if isinstance(value, float) else value for name, value in plain.items()}


def not_run(name: str, unit: str, *, because: str, target: str = "") -> Row:
    return Row(name=name, value=None, unit=unit, runs=0, note=f"NOT RUN: {because}", target=target)


@dataclass(frozen=True, slots=True, kw_only=True)
class Bench:
    """What a subject is given: an empty folder, and how much effort is wanted."""

    folder: Path
    quick: bool

    def runs(self, many: int) -> int:
        """How often to measure; once is enough to see that a benchmark works."""
        return 1 if self.quick else many

    def size(self, full: int, quick: int) -> int:
        return quick if self.quick else full

    def fresh(self, name: str) -> Path:
        """A new folder for one run."""
        taken = sum(1 for each in self.folder.iterdir() if each.name.startswith(name))
        path = self.folder / f"{name}-{taken}"
        path.mkdir()
        return path


@dataclass(frozen=True, slots=True, kw_only=True)
class Benchmark:
    """A subject: a name for the command line, and what makes its rows."""

    name: str
    about: str
    measure: Callable[[Bench], Sequence[Row]]


@dataclass(slots=True)
class Pairs:
    """Figures of ours and of a peer, taken in turn."""

    ours: list[float] = field(default_factory=list)
    peers: list[float] = field(default_factory=list)

    def add(self, ours: float, peer: float) -> None:
        self.ours.append(ours)
        self.peers.append(peer)

    @property
    def value(self) -> float:
        return statistics.median(self.ours)

    @property
    def peer_value(self) -> float:
        return statistics.median(self.peers)

    @property
    def ratio(self) -> float:
        return statistics.median(ours / peer for ours, peer in zip(self.ours, self.peers, strict=True))


def median(values: Sequence[float]) -> float:
    return statistics.median(values)


def spread(values: Sequence[float], digits: int = 0) -> str:
    """The lowest and the highest, for a note."""
    return f"{min(values):,.{digits}f} to {max(values):,.{digits}f}"


def load() -> str:
    """How busy the machine is: a figure taken under load says little."""
    return f"load {os.getloadavg()[0]:.1f} on {os.cpu_count()} cores"
