"""What has been is remembered: while the machine runs, and from the journal after a restart."""

from __future__ import annotations

from datetime import timedelta

from agent.core.history import LONGEST, MOST_VISITS, History, Visit
from agent.core.observations import Woken
from agent.core.policy import Policy
from agent.core.terms import Velocity
from tests.core.builders import CARD, NOON, Yard, a_group, a_policy, a_yard, shown


def once_an_hour() -> Policy:
    return a_policy(a_group(velocity=Velocity(sessions=1, window_s=3_600)))


def charges(yard: Yard) -> None:
    yard.taps()
    yard.started(yard.session, 1_000)
    yard.stopped(2_000, yard.session)


def test_a_second_session_within_the_time_is_refused_and_one_after_it_is_granted() -> None:
    yard = a_yard(once_an_hour())
    charges(yard)

    yard.passes(minutes=50)
    assert shown(yard.taps()) == ["refused"]
    yard.passes(minutes=10)
    assert shown(yard.taps()) == ["granted"]


def test_what_was_authorised_and_never_began_does_not_count() -> None:
    yard = a_yard(once_an_hour())
    yard.taps()
    yard.unplugs()

    assert shown(yard.taps()) == ["granted"]


def test_another_card_counts_for_itself() -> None:
    yard = a_yard(once_an_hour())
    charges(yard)

    assert shown(yard.taps("04AABBCCDDEEFF")) == ["granted"]


def test_what_the_service_remembers_at_its_start_counts() -> None:
    before = a_yard(once_an_hour())
    charges(before)
    after = a_yard(once_an_hour())
    after.now = before.now

    after.tell(Woken(version="test", sessions=(), history=before.agent.state.history))

    assert shown(after.taps()) == ["refused"]


def test_cards_that_came_long_ago_and_visits_beyond_counting_are_forgotten() -> None:
    history = History()
    for minute in range(MOST_VISITS + 5):
        moment = NOON + timedelta(minutes=minute)
        history = history.with_visit(CARD, Visit(began=moment, ended=moment))
    later = NOON + LONGEST + timedelta(days=1)
    grown = history.with_visit("another", Visit(began=later, ended=later))

    assert len(history.of(CARD)) == MOST_VISITS
    assert history.of(CARD)[-1].ended == NOON + timedelta(minutes=MOST_VISITS + 4)
    assert (grown.of(CARD), len(grown.of("another"))) == ((), 1)
