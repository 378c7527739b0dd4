"""How long to wait before a lost reader or charger is tried again."""

from __future__ import annotations

import random
from collections.abc import Callable, Iterator

FIRST_DELAY_S = 0.25  # a cable put back at once is noticed at once
JITTER = 0.25  # spreads retries, protects nothing
LONGEST_DELAY_S = 30.0  # a device that is away for the night costs two tries a minute


LONGEST_UNWATCHED_S = 2.0  # where no file appears when a device is plugged in, asking often is all there is


def delays_s(chance: Callable[[], float] = random.random, *, longest_s: float = LONGEST_DELAY_S) -> Iterator[float]:
    """0.25 s, doubled each time up to the longest, each shortened by up to a quarter so that many spread out."""
    delay_s = FIRST_DELAY_S
    while True:
        yield delay_s * (1 - JITTER * chance())
        delay_s = min(delay_s * 2, longest_s)
