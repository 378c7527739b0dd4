"""One tap for one presence: the machine of the cards reference, section 13, told as polls of one reader."""

from __future__ import annotations

from collections.abc import Sequence
from itertools import pairwise

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from agent.core.credentials import RANDOM, Credential
from agent.core.presence import Crowd, Presence, Tap, look, reader_back
from tests.core.builders import a_credential, a_phone

A, B, C = a_credential("04AAAAAA"), a_credential("04BBBBBB"), a_credential("04CCCCCC")
POLL_MS = 150
Script = Sequence[tuple[int, Sequence[Credential]]]


def watch(script: Script, presence: Presence | None = None) -> list[tuple[int, str]]:
    """(time, what came out) of looks at (time, cards in the field)."""
    presence = presence or Presence()
    out: list[tuple[int, str]] = []
    for at_ms, cards in script:
        presence, outcome = look(presence, cards, at_ms)
        match outcome:
            case Tap(credential):
                out.append((at_ms, NAMES[credential]))
            case Crowd():
                out.append((at_ms, "crowd"))
    return out


NAMES = {A: "A", B: "B", C: "C", RANDOM: "phone"}


def lies(*cards: Credential, from_ms: int = 0, to_ms: int, poll_ms: int = POLL_MS) -> Script:
    return [(at_ms, cards) for at_ms in range(from_ms, to_ms, poll_ms)]


def gone(from_ms: int, to_ms: int, poll_ms: int = POLL_MS) -> Script:
    return lies(from_ms=from_ms, to_ms=to_ms, poll_ms=poll_ms)


def test_ten_polls_of_one_card_are_one_tap() -> None:
    assert watch(lies(A, to_ms=1_500)) == [(0, "A")]


def test_a_card_left_on_the_reader_for_an_hour_is_one_tap() -> None:
    assert watch(lies(A, to_ms=3_600_000)) == [(0, "A")]


def test_a_card_that_left_and_came_back_later_is_a_second_tap() -> None:
    assert watch([*lies(A, to_ms=300), *gone(300, 1_800), *lies(A, from_ms=1_800, to_ms=2_000)]) == [
        (0, "A"),
        (1_800, "A"),
    ]


@pytest.mark.parametrize("misses", [1, 2])
def test_one_or_two_misses_are_no_absence_however_long_they_take(misses: int) -> None:
    polls = [(0, [A]), *((1_000 * n, []) for n in range(1, misses + 1)), (1_000 * (misses + 1), [A])]

    assert watch(polls) == [(0, "A")]


def test_many_misses_in_less_than_600_ms_are_no_absence() -> None:
    polls = [*lies(A, to_ms=3_000), *gone(3_000, 3_400, poll_ms=10), *lies(A, from_ms=3_400, to_ms=4_000)]

    assert watch(polls) == [(0, "A")]


def test_three_misses_over_600_ms_are_an_absence() -> None:
    assert watch([(0, [A]), (2_000, [A]), (2_200, []), (2_400, []), (2_600, []), (2_700, [A])]) == [
        (0, "A"),
        (2_700, "A"),
    ]


def test_the_same_card_within_a_second_and_a_half_of_its_tap_is_the_same_wish() -> None:
    polls = [(0, [A]), (200, []), (400, []), (650, []), (1_499, [A]), *lies(A, from_ms=1_600, to_ms=9_000)]

    assert watch(polls) == [(0, "A")]


def test_after_a_second_and_a_half_it_is_a_new_wish() -> None:
    assert watch([(0, [A]), (200, []), (400, []), (650, []), (1_500, [A])]) == [(0, "A"), (1_500, "A")]


@pytest.mark.parametrize("later_ms", [1, 150, 600, 1_499, 5_000])
def test_a_different_card_is_never_masked(later_ms: int) -> None:
    assert watch([(0, [A]), (later_ms, [B])]) == [(0, "A"), (later_ms, "B")]


def test_a_different_card_between_does_not_make_the_first_one_bounce() -> None:
    polls = [(0, [A]), (100, [B]), (300, []), (500, []), (720, []), (1_400, [A])]

    assert watch(polls) == [(0, "A"), (100, "B")]


def test_two_cards_that_a_poor_reader_sees_in_turn_are_two_taps_and_not_twenty() -> None:
    polls = [(at_ms, [A if (at_ms // POLL_MS) % 2 else B]) for at_ms in range(0, 30_000, POLL_MS)]

    assert watch(polls) == [(0, "B"), (150, "A")]


def test_two_cards_at_once_are_a_crowd_told_once() -> None:
    assert watch(lies(A, B, to_ms=5_000)) == [(0, "crowd")]


def test_a_second_card_beside_one_that_was_tapped_is_a_crowd() -> None:
    assert watch([(0, [A]), *lies(A, B, from_ms=150, to_ms=2_000)]) == [(0, "A"), (150, "crowd")]


def test_of_two_cards_the_one_left_lying_is_tapped_once_the_other_has_surely_gone() -> None:
    polls = [*lies(A, B, to_ms=1_500), *lies(A, from_ms=1_500, to_ms=6_000)]

    (_, first), (at_ms, second) = watch(polls)

    assert (first, second) == ("crowd", "A")
    assert 1_950 <= at_ms <= 2_250


def test_the_one_that_was_tapped_before_the_crowd_is_not_tapped_again() -> None:
    polls = [(0, [A]), *lies(A, B, from_ms=150, to_ms=2_000), *lies(A, from_ms=2_000, to_ms=9_000)]

    assert watch(polls) == [(0, "A"), (150, "crowd")]


def test_one_card_missed_in_a_crowd_does_not_make_the_other_a_tap() -> None:
    polls = [(0, [A]), (150, [A, B]), (300, [B]), (450, [A, B]), (600, [A]), (750, [B]), (900, [A, B])]

    assert watch(polls) == [(0, "A"), (150, "crowd")]


def test_a_crowd_that_left_and_came_back_is_told_again() -> None:
    assert watch([*lies(A, B, to_ms=500), *gone(500, 2_500), (2_500, [A, B])]) == [(0, "crowd"), (2_500, "crowd")]


def test_a_card_read_twice_in_one_poll_is_one_card() -> None:
    assert watch([(0, [A, A]), (150, [A])]) == [(0, "A")]


def test_random_uids_that_change_at_every_poll_are_one_presence_and_no_identity() -> None:
    polls = [(at_ms, [a_phone(f"08{at_ms:06X}")]) for at_ms in range(0, 10_000, POLL_MS)]

    assert watch(polls) == [(0, "phone")]


def test_two_phones_are_a_crowd() -> None:
    assert watch([(0, [a_phone("08000001"), a_phone("08000002")])]) == [(0, "crowd")]


def test_a_card_after_a_phone_is_never_masked() -> None:
    assert watch([(0, [a_phone()]), (150, [A])]) == [(0, "phone"), (150, "A")]


def test_a_card_of_which_nothing_was_heard_for_long_has_left() -> None:
    """The empty looks of its leaving were lost, with the reader or in a full inbox."""
    assert watch([(0, [A]), (60_000, [A])]) == [(0, "A"), (60_000, "A")]


def test_a_card_left_on_a_reader_that_was_lost_for_a_minute_is_not_tapped_again() -> None:
    presence, _ = look(Presence(), [A], 0)

    presence = reader_back(presence, 60_000)

    assert watch(lies(A, from_ms=60_500, to_ms=70_000), presence) == []


def test_a_card_taken_away_while_the_reader_was_lost_is_tapped_when_it_comes_again() -> None:
    presence, _ = look(Presence(), [A], 0)

    presence = reader_back(presence, 60_000)

    assert watch(lies(A, from_ms=70_000, to_ms=80_000), presence) == [(70_000, "A")]


polls = st.lists(
    st.tuples(
        st.sampled_from([1, 50, 150, 250, 700, 2_000, 10_000]),
        st.lists(st.sampled_from([A, B, C, a_phone("08000001"), a_phone("08000002")]), max_size=3),
    ),
    max_size=60,
)


def timed(steps: list[tuple[int, list[Credential]]]) -> Script:
    at_ms, script = 0, []
    for after_ms, cards in steps:
        at_ms += after_ms
        script.append((at_ms, cards))
    return script


@settings(max_examples=300, deadline=None)
@given(polls)
def test_whatever_is_seen_the_same_card_is_never_tapped_twice_within_a_second_and_a_half(
    steps: list[tuple[int, list[Credential]]],
) -> None:
    taps = [tap for tap in watch(timed(steps)) if tap[1] != "crowd"]

    for name in set(NAMES.values()):
        own = [at_ms for at_ms, tapped in taps if tapped == name]
        assert all(later - earlier >= 1_500 for earlier, later in pairwise(own))


@settings(max_examples=200, deadline=None)
@given(polls)
def test_whatever_was_seen_a_card_that_nobody_held_there_before_is_never_masked(
    steps: list[tuple[int, list[Credential]]],
) -> None:
    before = [(at_ms, [card for card in cards if card != A]) for at_ms, cards in timed(steps)]
    start = before[-1][0] if before else 0
    alone = not before or len(before[-1][1]) < 2

    taps = watch([*before, *((start + 150 * n, [A]) for n in range(1, 10))])

    assert "A" in [tapped for _, tapped in taps]
    assert not alone or "crowd" in [tapped for _, tapped in taps] or (start + 150, "A") in taps


@settings(max_examples=200, deadline=None)
@given(polls, st.sampled_from([A, B, C]))
def test_whatever_was_seen_after_ten_quiet_seconds_every_card_is_a_tap(
    steps: list[tuple[int, list[Credential]]], card: Credential
) -> None:
    before = timed(steps)
    later = (before[-1][0] if before else 0) + 10_000

    assert (later, NAMES[card]) in watch([*before, (later, [card])])
