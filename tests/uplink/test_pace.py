"""The pure parts that decide how fast and how much: back-off, window, stride."""

from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from sync.backoff import Backoff
from sync.window import Flight, Stride, Window


def test_waits_double_up_to_the_cap() -> None:
    step = Backoff()
    ceilings = []
    for _ in range(11):
        ceilings.append(step.ceiling_s)
        step = step.after(connected_s=0)
    assert ceilings == [1, 2, 4, 8, 16, 32, 64, 128, 256, 300, 300]


def test_only_a_stable_connection_forgets_the_failures() -> None:
    step = Backoff(failures=5)
    assert step.after(connected_s=59.9).failures == 6
    assert step.after(connected_s=60.0).failures == 0


@given(st.integers(0, 10**6), st.floats(0, 1, exclude_max=True))
def test_every_wait_is_between_nothing_and_the_cap(failures: int, random: float) -> None:
    assert 0 <= Backoff(failures=failures).wait_s(lambda: random) <= 300


@given(st.integers(1, 30), st.integers(1, 5000), st.lists(st.tuples(st.integers(1, 3000), st.booleans())))
def test_the_window_is_never_exceeded(batches: int, size_bytes: int, steps: list[tuple[int, bool]]) -> None:
    window, last = Window(batches=batches, size_bytes=size_bytes), 0
    for size, answered in steps:
        if answered and window.flights:
            window = window.arrived(window.flights[0].last)
        elif window.admits(size):
            last += 1
            window = window.started(Flight(first=last, last=last, size_bytes=size))
        assert len(window.flights) <= batches
        under_way = sum(flight.size_bytes for flight in window.flights)
        assert under_way <= size_bytes or len(window.flights) == 1


def test_an_acknowledgement_covers_only_whole_batches() -> None:
    flights = (Flight(first=1, last=10, size_bytes=1), Flight(first=11, last=20, size_bytes=1))
    window = Window(flights=flights)
    assert window.arrived(9).flights == flights
    assert window.arrived(10).flights == flights[1:]
    assert window.arrived(15).flights == flights[1:]
    assert window.arrived(99).is_empty


def test_steps_shrink_on_cuts_and_grow_with_progress() -> None:
    stride = Stride()
    for _ in range(20):
        stride = stride.shorter()
    assert stride.bytes_now == 512
    for _ in range(20):
        stride = stride.longer()
    assert stride.bytes_now == 64 * 1024
