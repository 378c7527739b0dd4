"""How long to wait before a lost charger is tried again."""

from __future__ import annotations

import random
from collections.abc import Iterator

FIRST_DELAY_S = 0.25  # a cable put back at once is noticed at once
LONGEST_DELAY_S = 30.0  # a charger that is away for the night costs two tries a minute


def delays_s() -> Iterator[float]:
    """0.25 s, doubled each time up to 30 s, each shortened by up to a quarter so that many devices spread out."""
    delay_s = FIRST_DELAY_S
    while True:
        yield delay_s * random.uniform(0.75, 1.0)  # noqa: S311 - spreads retries, protects nothing
        delay_s = min(delay_s * 2, LONGEST_DELAY_S)
