"""When a lost reader is tried again, and what belief and absence mean between two frames."""

from __future__ import annotations

import asyncio
import itertools
from functools import partial
from pathlib import Path

import pytest

from drivers.back_off import delays_s
from drivers.readers.reader import ReaderFound, ReaderLost, card_em4100
from drivers.readers.sightings import Confirmation, EmptyPolls
from drivers.readers.supervision import ReaderGone, State, Supervision, plugged_in

A, B = (card_em4100(b"\x62\x00\xe3\x17\x16"),), (card_em4100(b"\x01\x00\x7a\x5d\x3c"),)


def test_delays_double_from_a_quarter_of_a_second_to_half_a_minute_and_never_grow_by_chance():
    latest = list(itertools.islice(delays_s(chance=lambda: 0.0), 10))
    assert latest == [0.25, 0.5, 1, 2, 4, 8, 16, 30, 30, 30]
    assert list(itertools.islice(delays_s(chance=lambda: 1.0), 10)) == [0.75 * delay_s for delay_s in latest]


def test_a_device_that_comes_back_ends_the_waiting(tmp_path: Path):
    async def scenario():
        loop = asyncio.get_running_loop()
        loop.call_later(0.05, (tmp_path / "tty").touch)
        began_s = loop.time()
        assert await plugged_in(str(tmp_path / "tty"), within_s=30)
        assert loop.time() - began_s < 1
        assert not await plugged_in(str(tmp_path / "tty"), within_s=0.25)

    asyncio.run(scenario())


def test_one_outage_is_told_once_however_many_tries_it_takes():
    tries = 0

    async def connect(emit):
        nonlocal tries
        tries += 1
        if tries in (4, 5):
            emit(ReaderFound(reader="gate", model="m", firmware="1"))
        raise ReaderGone(f"try {tries}", hint="wait")

    async def scenario():
        events = []
        often = partial(itertools.repeat, 0.01)
        supervision = Supervision("gate", path="/nonexistent", connect=connect, delays=often)
        assert supervision.state is State.DISCOVERED
        with pytest.raises(TimeoutError):
            async with asyncio.timeout(0.3):
                await supervision.run(events.append)
        assert supervision.state is State.LOST
        told = [event.cause if isinstance(event, ReaderLost) else "found" for event in events]
        assert told == ["try 1", "found", "try 4", "found", "try 5"]
        assert tries > 5

    asyncio.run(scenario())


def test_equal_answers_in_a_row_are_believed_others_begin_again():
    confirmation = Confirmation(2, within_ms=300)
    told = [confirmation.confirms(cards, ms) for cards, ms in [(A, 0), (B, 65), (A, 130), (A, 195), (A, 260), (B, 325)]]
    assert told == [False, False, False, True, True, False]


def test_answers_too_far_apart_do_not_confirm_each_other():
    confirmation = Confirmation(2, within_ms=300)
    assert [confirmation.confirms(A, ms) for ms in (0, 301, 601)] == [False, False, True]


def test_one_answer_is_enough_where_the_profile_says_so():
    assert Confirmation(1, within_ms=300).confirms(A, 0)


@pytest.mark.parametrize(("poll_ms", "told_for_ms", "told"), [(100, 1_000, 11), (150, 1_050, 8), (500, 1_500, 4)])
def test_an_empty_field_is_told_at_least_four_times_and_for_a_second(poll_ms: int, told_for_ms: int, told: int):
    polls = EmptyPolls()
    assert not polls.empty(0)
    polls.card_seen()
    times = [ms for ms in range(0, 5_000, poll_ms) if polls.empty(ms)]
    assert (times[-1], len(times)) == (told_for_ms, told)
    assert not polls.outstanding
