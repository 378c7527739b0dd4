"""Every parser on its seeds, on what once broke it, and on a few hundred damaged seeds. The long run is `make fuzz`."""

from __future__ import annotations

import random
import time
from functools import cache

import pytest

from tests.fuzz.targets import LARGEST_PEAK_BYTES, REGRESSIONS, TARGETS, Target

DAMAGED = 150
SLOWEST_S = 1.0  # of one input; the long run looks closer


@cache
def opened(name: str) -> Target:
    return TARGETS[name]()


@pytest.mark.parametrize("name", TARGETS)
def test_every_seed_is_understood(name: str) -> None:
    target = opened(name)
    assert target.seeds
    for seed in target.seeds:
        target.parse(seed)


@pytest.mark.parametrize("name", TARGETS)
def test_damaged_seeds_are_refused_or_understood_and_break_nothing(name: str) -> None:
    target, rng = opened(name), random.Random(name)
    for _ in range(DAMAGED):
        data = damaged(rng.choice(target.seeds), rng)
        began = time.thread_time()
        target.feed(data)
        assert time.thread_time() - began < SLOWEST_S, data


@pytest.mark.parametrize("name", TARGETS)
def test_no_input_takes_ten_megabytes(name: str) -> None:
    target, rng = opened(name), random.Random(name)
    for data in (*target.seeds[:3], *(damaged(rng.choice(target.seeds), rng) for _ in range(3))):
        target.feed(data)  # what is imported and cached by the first is not the input's
        assert target.peak_bytes(data) < LARGEST_PEAK_BYTES, data


def test_an_input_that_takes_memory_is_noticed() -> None:
    greedy = Target(parse=lambda data: bytes(LARGEST_PEAK_BYTES + len(data)), seeds=(b"a",))
    assert greedy.peak_bytes(b"a") > LARGEST_PEAK_BYTES


def test_what_once_broke_a_parser_breaks_it_no_more() -> None:
    for path in sorted(REGRESSIONS.glob("*/*")):
        opened(path.parent.name).feed(path.read_bytes())


def test_a_parser_that_breaks_is_noticed() -> None:
    def parse(data: bytes) -> None:
        raise KeyError(data[0])

    with pytest.raises(KeyError):
        Target(parse=parse, refusals=(ValueError,), seeds=(b"a",)).feed(b"a")


INTERESTING = (b"\x00", b"\xff", b"\x80", b"-1", b"1e999", b'"', b"{", b"[" * 60, b"null", b"\xed\xa0\x80", b"9" * 400)


def damaged(seed: bytes, rng: random.Random) -> bytes:
    """One to four changes: bits, bytes, pieces cut, doubled, moved or put in."""
    data = bytearray(seed)
    for _ in range(rng.randint(1, 4)):
        at = rng.randrange(len(data) + 1)
        until = min(len(data), at + rng.randint(1, 12))
        match rng.randrange(6):
            case 0 if at < len(data):
                data[at] ^= 1 << rng.randrange(8)
            case 1 if at < len(data):
                data[at] = rng.randrange(256)
            case 2:
                del data[at:until]
            case 3:
                data[at:at] = data[at:until]
            case 4:
                data[at:at] = rng.choice(INTERESTING)
            case _:
                del data[at:]
    return bytes(data)
