"""What has been is remembered: while the machine runs, and from the journal after a restart."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from pathlib import Path

from agent.core.facts import AgentStopped, ClockSynchronised
from agent.core.history import LONGEST, MOST_VISITS, UNTOLD, History, Visit
from agent.core.instants import EPOCH, ClockQuality
from agent.core.observations import Noted, Woken
from agent.core.policy import Policy
from agent.core.terms import Velocity
from agent.past import history_of
from tests.core.builders import CARD, NOON, Yard, a_group, a_policy, a_yard, an_instant, shown
from tests.journal.samples import open_journal

MS = timedelta(milliseconds=1)


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


def test_a_log_that_was_lost_in_1970_is_young_once_the_time_is_known(tmp_path: Path) -> None:
    """Without a clock of its own the device begins its new log long ago: that must not look like a long log."""
    lost = an_instant(datetime(1970, 1, 1, tzinfo=UTC), quality=ClockQuality.UNKNOWN, monotonic_ms=5_000)
    open_journal(tmp_path, now=an_instant()).close()
    for left in tmp_path.glob("journal.db*"):
        left.unlink()
    with open_journal(tmp_path, now=lost) as journal:
        history = history_of(journal)
        synchronised = ClockSynchronised(boot=lost.boot, offset_ms=(NOON - EPOCH) // MS - 60_000, was=lost.quality)
        yard = a_yard(once_an_hour())
        yard.tell(Woken(version="test", sessions=(), history=history))
        assert shown(yard.taps()) == ["refused"]

        yard.tell(Noted(fact=synchronised))
        yard.passes(minutes=59)
        assert shown(yard.taps()) == ["refused"]
        yard.passes(minutes=2)
        assert shown(yard.taps()) == ["granted"]

        journal.append([(synchronised, an_instant())])
        assert history_of(journal).since == NOON - timedelta(seconds=55)


def test_a_log_without_the_moment_its_clock_was_right_is_as_young_as_its_first_good_time(tmp_path: Path) -> None:
    lost = an_instant(datetime(1970, 1, 1, tzinfo=UTC), quality=ClockQuality.UNKNOWN)
    open_journal(tmp_path, now=an_instant()).close()
    for left in tmp_path.glob("journal.db*"):
        left.unlink()
    with open_journal(tmp_path, now=lost) as journal:
        assert history_of(journal).since == UNTOLD
        journal.append([(AgentStopped(open_sessions=0), lost), (AgentStopped(open_sessions=0), an_instant())])

        assert history_of(journal).since == NOON


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
