"""What may be under way at once, and how large a step is. Pure.

A batch is in the window from its publish until the backend's signed acknowledgement covers it; PUBACK alone never
counts as arrival. The broker's own limit of unacknowledged packets is kept in `sync.link` as well.
"""

from __future__ import annotations

from dataclasses import dataclass, replace


@dataclass(frozen=True, slots=True, kw_only=True)
class Flight:
    """One batch under way: the range it carries of which journal, and its payload's size."""

    first: int
    last: int
    size_bytes: int
    journal: str = ""


@dataclass(frozen=True, slots=True, kw_only=True)
class Window:
    """Batches under way, oldest first. At most `batches` (already cut to Receive Maximum) and `size_bytes`."""

    batches: int = 20
    size_bytes: int = 256 * 1024
    flights: tuple[Flight, ...] = ()

    @property
    def is_empty(self) -> bool:
        return not self.flights

    def admits(self, size_bytes: int) -> bool:
        """Whether one more may start. A batch larger than the whole window may travel alone."""
        if not self.flights:
            return True
        under_way = sum(flight.size_bytes for flight in self.flights)
        return len(self.flights) < self.batches and under_way + size_bytes <= self.size_bytes

    def started(self, flight: Flight) -> Window:
        return replace(self, flights=(*self.flights, flight))

    def arrived(self, through: int, *, journal: str = "") -> Window:
        """Without the flights that a cumulative acknowledgement covers."""
        left = (flight for flight in self.flights if flight.last > through or flight.journal != journal)
        return replace(self, flights=tuple(left))

    def cleared(self, *, journal: str = "") -> Window:
        """Without all flights of this journal."""
        return replace(self, flights=tuple(flight for flight in self.flights if flight.journal != journal))

    def narrowed(self, batches: int) -> Window:
        return replace(self, batches=max(1, min(self.batches, batches)))

    def widened(self, most: int) -> Window:
        """One step back towards the full window, after progress."""
        return replace(self, batches=min(most, self.batches + 1))


@dataclass(frozen=True, slots=True, kw_only=True)
class Stride:
    """How much to put in one batch. On a link that is cut every few hundred bytes only small steps arrive at all,
    so the step is halved whenever a connection ends without progress and doubled with each acknowledgement."""

    most_bytes: int = 64 * 1024
    # About one record with its envelope: smaller steps only add overhead.
    least_bytes: int = 512
    bytes_now: int = 64 * 1024

    def shorter(self) -> Stride:
        return replace(self, bytes_now=max(self.least_bytes, self.bytes_now // 2))

    def longer(self) -> Stride:
        return replace(self, bytes_now=min(self.most_bytes, self.bytes_now * 2))


@dataclass(frozen=True, slots=True, kw_only=True)
class Pace:
    """How many bytes may be under way to the broker, so that a question which must overtake them finds a short queue.

    What is in a socket cannot be overtaken. PUBACK tells how long a packet stood in the queues on the way: longer than
    the quickest one by `queue_s` means that too much is under way. A long way alone (a satellite) does not.
    """

    most_bytes: int = 256 * 1024
    least_bytes: int = 4 * 1024
    bytes_now: int = 32 * 1024
    queue_s: float = 0.3
    quickest_s: float = float("inf")

    def took(self, seconds: float) -> Pace:
        quickest_s = min(self.quickest_s, seconds)
        if seconds - quickest_s > self.queue_s:
            bytes_now = max(self.least_bytes, self.bytes_now // 2)
        elif seconds - quickest_s < self.queue_s / 2:
            bytes_now = min(self.most_bytes, self.bytes_now + self.bytes_now // 4)
        else:
            bytes_now = self.bytes_now
        return replace(self, quickest_s=quickest_s, bytes_now=bytes_now)
