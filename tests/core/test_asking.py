"""How a question to the backend ends: with one answer in time, or with silence that is no verdict and is not kept."""

from __future__ import annotations

from dataclasses import replace
from datetime import timedelta
from pathlib import Path
from typing import Any

import pytest

from agent.core import observations as seen
from agent.core.agent import Agent
from agent.core.answers import LONGEST_KEPT, Answer, Kept, Silence, Verdict, Whitelist
from agent.core.decisions import Granted
from agent.core.effects import Ask, Feedback, Reply, Signal, StartCharging
from agent.core.facts import BackendAnswered, DecisionMade, Outcome
from agent.core.instants import ClockQuality
from agent.core.memory import State
from agent.core.pending import MOST_PENDING
from agent.core.pins import Pin
from agent.core.policy import Driver, TokenStatus
from agent.core.terms import Prompt
from agent.past import history_of
from tests.core.builders import (
    CARD,
    NOON,
    Yard,
    a_policy,
    a_request,
    a_tap,
    a_token,
    a_yard,
    an_instant,
    ask,
    of,
    presented,
    shown,
)
from tests.core.live_rows import SAYS_YES
from tests.journal.samples import open_journal

OTHER = "04FFEEDDCCBBAA"


def online(whitelist: Whitelist = Whitelist.NEVER, policy: Any = None, **token: Any) -> Yard:
    yard = a_yard(policy, tokens={uid: a_token(uid, whitelist=whitelist, **token) for uid in (CARD, OTHER)})
    yard.tell(seen.LinkChanged(up=True))
    return yard


def asks(yard: Yard, uid: str = CARD, **changes: Any) -> str:
    (asked,) = of(Ask, yard.shows(uid, **changes))
    return asked.ask


def says(yard: Yard, ask: str, verdict: Verdict = Verdict.ALLOWED, *, keep: timedelta = timedelta(0)) -> Any:
    answer = Answer(verdict=verdict, answered_at=yard.now.utc, keep=keep, jws="e30.e30.e30")
    return yard.tell(seen.BackendAnswered(ask=ask, answer=answer))


def outcomes(yard: Yard) -> list[Outcome]:
    return [each.outcome for each in yard.told(DecisionMade)]


def test_the_question_names_the_policy_that_the_device_holds() -> None:
    (asked,) = of(Ask, online().shows(CARD))

    assert (asked.policy_revision, asked.deadline_ms) == (7, 1_500)
    assert asked.asked.place.network == "DE*ABC"


def test_a_late_answer_changes_nothing() -> None:
    yard = online()
    question = asks(yard)
    yard.tick_after(milliseconds=1_500)
    before = yard.agent.state

    assert says(yard, question, keep=timedelta(hours=24)) == ()
    assert yard.agent.state == before
    assert outcomes(yard) == [Outcome.REFUSED]


def test_an_answer_at_its_deadline_is_late_even_before_the_timer_has_rung() -> None:
    yard = online()
    question = asks(yard)
    yard.passes(milliseconds=1_500)

    assert says(yard, question) == ()
    yard.tell(seen.Tick())
    assert outcomes(yard) == [Outcome.REFUSED]


def test_an_answer_counts_once_and_one_that_nobody_asked_for_never() -> None:
    yard = online()
    question = asks(yard)
    assert of(StartCharging, says(yard, question))

    assert says(yard, question) == says(yard, "a question of before the restart") == ()
    assert outcomes(yard) == [Outcome.GRANTED]


@pytest.mark.parametrize("end", [Silence.DEADLINE, Silence.OFFLINE])
def test_silence_is_no_verdict_and_enters_no_memory(end: Silence) -> None:
    yard = online(Whitelist.ALLOWED_OFFLINE)
    asks(yard)
    history = yard.agent.state.history

    if end is Silence.DEADLINE:
        yard.tick_after(milliseconds=1_500)
    else:
        yard.tell(seen.LinkChanged(up=False))

    (made,) = yard.told(DecisionMade)
    assert made.outcome is Outcome.GRANTED
    assert made.backend is not None
    assert made.backend.silence is end
    assert yard.told(BackendAnswered) == []
    assert yard.agent.state.history.answers == history.answers
    assert yard.agent.state.pending == {}


def test_a_refusal_for_want_of_a_connection_alone_is_shown_as_that() -> None:
    yard = online()
    asks(yard)
    (signal,) = of(Signal, yard.tell(seen.LinkChanged(up=False)))
    assert signal.feedback is Feedback.OFFLINE

    blocked = online(status=TokenStatus.BLOCKED)
    asks(blocked)
    (signal,) = of(Signal, blocked.tell(seen.LinkChanged(up=False)))
    assert signal.feedback is Feedback.REFUSED


def test_a_link_that_ends_decides_at_once_what_waited_for_it() -> None:
    yard = online()
    asks(yard)

    effects = yard.tell(seen.LinkChanged(up=False))

    assert shown(effects) == ["offline"]
    assert yard.told(DecisionMade)[0].waited_ms == 0


def test_a_card_that_is_shown_again_meanwhile_asks_no_second_time() -> None:
    yard = online()
    asks(yard)
    yard.passes(milliseconds=1_000)

    effects = yard.tell(a_tap(CARD, a_token(whitelist=Whitelist.NEVER)))

    assert of(Ask, effects) == []
    assert shown(effects) == ["pending"]


def test_another_card_at_the_same_reader_is_asked_for_by_itself_and_one_gets_the_charger() -> None:
    yard = online()
    first = asks(yard)
    for _ in range(4):
        yard.passes(milliseconds=250)
        yard.shows()
    second = asks(yard, OTHER)

    says(yard, second)
    says(yard, first)

    assert outcomes(yard) == [Outcome.GRANTED, Outcome.REFUSED]
    assert [each.code for each in yard.told(DecisionMade)[1].reasons] == ["EVSE_OCCUPIED"]


def test_what_changed_while_the_backend_thought_counts() -> None:
    yard = online()
    question = asks(yard)
    yard.loses("bay")

    says(yard, question)

    assert [each.code for each in yard.told(DecisionMade)[0].reasons] == ["EVSE_UNAVAILABLE"]


def test_a_token_that_was_withdrawn_meanwhile_is_refused() -> None:
    yard = online()
    question = asks(yard)
    policy = a_policy(revoked=frozenset({a_token().reference}))
    yard.tell(seen.PolicyActivated(policy=policy, tokens=1, announce=False))

    says(yard, question)

    assert [each.code for each in yard.told(DecisionMade)[0].reasons] == ["REVOKED"]


def test_nobody_is_asked_about_a_card_that_is_refused_all_the_same() -> None:
    yard = online(policy=a_policy(networks=set()))

    effects = yard.shows(CARD)

    assert of(Ask, effects) == []
    assert [each.code for each in yard.told(DecisionMade)[0].reasons] == ["NETWORK"]


def test_the_driver_is_asked_before_the_backend() -> None:
    policy = a_policy(prompts=frozenset({Prompt.PIN}), drivers={"anna": Driver(id="anna", pin=Pin(salt="00", hash=""))})
    yard = online(policy=policy, driver="anna")

    effects = yard.shows(CARD)

    assert of(Ask, effects) == []
    assert outcomes(yard) == [Outcome.NEEDS_INPUT]


def test_whoever_asked_over_the_api_gets_the_reply_with_the_answer() -> None:
    yard = online()
    token = a_token(whitelist=Whitelist.NEVER)
    asked = seen.DecisionRequested(
        request="r-1", presented=presented(token=token), charger="bay", place=a_request().place
    )
    effects = yard.tell(asked)
    (question,) = of(Ask, effects)
    assert of(Reply, effects) == []

    (reply,) = of(Reply, says(yard, question.ask))

    assert (reply.request, type(reply.decision)) == ("r-1", Granted)


def test_questions_without_end_become_silence() -> None:
    yard = online()
    for _ in range(MOST_PENDING + 1):
        token = a_token(whitelist=Whitelist.NEVER)
        asked = seen.DecisionRequested(
            request="r", presented=presented(token=token), charger=None, place=a_request().place
        )
        effects = yard.tell(asked)

    assert of(Ask, effects) == []
    assert yard.told(DecisionMade)[0].backend.silence is Silence.BUSY  # type: ignore[union-attr]
    yard.tick_after(milliseconds=1_500)
    assert len({each.decision for each in yard.told(DecisionMade)}) == MOST_PENDING + 1


# What is remembered


def offline_tap(yard: Yard) -> DecisionMade:
    asked = seen.DecisionRequested(
        request="r", presented=presented(token=yard.tokens[CARD]), charger="bay", place=a_request().place
    )
    yard.tell(asked)
    return yard.told(DecisionMade)[-1]


def test_what_was_said_ends_by_its_age_though_the_card_is_used_every_hour() -> None:
    """libocpp counts from the last use: a card used daily would never expire."""
    policy = a_policy(stale_after=timedelta(0), expired_after=timedelta(days=60))
    yard = online(Whitelist.ALLOWED_OFFLINE, policy, offline=False)
    says(yard, asks(yard), keep=LONGEST_KEPT)
    yard.stopped(None, yard.session)
    yard.tell(seen.LinkChanged(up=False))
    yard.unplugs()

    granted = [(hour, yard.passes(hours=1), offline_tap(yard).outcome is Outcome.GRANTED) for hour in range(1, 49)]

    assert [hour for hour, _, yes in granted if yes] == list(range(1, 24))


@pytest.mark.parametrize("keep", [timedelta(0), timedelta(hours=1), timedelta(days=30)])
def test_it_is_kept_as_long_as_the_backend_allows_and_never_longer_than_a_day(keep: timedelta) -> None:
    kept = Kept(verdict=Verdict.BLOCKED, answered_at=NOON, boot="other", monotonic_ms=0, keep=keep)
    end = NOON + min(keep, LONGEST_KEPT)

    assert not kept.in_force(an_instant(end))
    assert kept.in_force(an_instant(end - timedelta(seconds=1))) == (keep > timedelta(0))


def test_a_clock_that_nobody_believes_ends_a_yes_and_no_no() -> None:
    yes = Kept(verdict=Verdict.ALLOWED, answered_at=NOON, boot="other", monotonic_ms=0, keep=LONGEST_KEPT)
    doubtful = an_instant(NOON - timedelta(days=400), quality=ClockQuality.UNKNOWN)

    assert not yes.in_force(doubtful)
    assert replace(yes, verdict=Verdict.BLOCKED).in_force(doubtful)
    assert replace(yes, boot=doubtful.boot, monotonic_ms=doubtful.monotonic_ms).in_force(doubtful)


def test_a_later_answer_takes_the_place_of_an_earlier_one_whatever_it_says() -> None:
    yard = online(Whitelist.ALLOWED_OFFLINE)
    says(yard, asks(yard), Verdict.BLOCKED, keep=LONGEST_KEPT)
    yard.tell(seen.LinkChanged(up=False))
    assert offline_tap(yard).outcome is Outcome.REFUSED

    yard.tell(seen.LinkChanged(up=True))
    yard.passes(minutes=1)
    yard.shows()
    yard.passes(seconds=3)
    yard.shows()
    says(yard, asks(yard), Verdict.ALLOWED)

    history = yard.agent.state.history
    assert [each.verdict for each in history.answers.values()] == [Verdict.ALLOWED]


def test_what_was_said_is_known_after_a_restart(tmp_path: Path) -> None:
    yard = online(Whitelist.ALLOWED_OFFLINE)
    says(yard, asks(yard), Verdict.BLOCKED, keep=LONGEST_KEPT)
    journal = open_journal(tmp_path, now=yard.now)
    journal.append([(fact, yard.now) for fact in yard.journal])

    yard.agent = Agent(yard.agent.setup, State(policy=yard.agent.state.policy, reachable=frozenset({"bay"})))
    yard.tell(seen.Woken(version="test", sessions=(), history=history_of(journal)))
    journal.close()

    made = offline_tap(yard)
    assert made.outcome is Outcome.REFUSED
    assert (made.backend.silence, made.backend.kept) == (Silence.OFFLINE, Verdict.BLOCKED)  # type: ignore[union-attr]


def test_a_yes_from_a_backend_whose_clock_is_ahead_ends_as_soon_after_a_restart(tmp_path: Path) -> None:
    policy = a_policy(stale_after=timedelta(0), expired_after=timedelta(days=60))
    yard = online(Whitelist.ALLOWED_OFFLINE, policy, offline=False)
    ahead = yard.now.utc + timedelta(days=20)
    answer = Answer(verdict=Verdict.ALLOWED, answered_at=ahead, keep=LONGEST_KEPT, jws="e30.e30.e30")
    yard.tell(seen.BackendAnswered(ask=asks(yard), answer=answer))
    journal = open_journal(tmp_path, now=yard.now)
    journal.append([(fact, yard.now) for fact in yard.journal])

    (kept,) = history_of(journal).answers.values()
    journal.close()

    assert kept.in_force(an_instant(NOON + timedelta(hours=23), boot="after the restart"))
    for days in (1, 10, 20, 21):
        assert not kept.in_force(an_instant(NOON + timedelta(days=days), boot="after the restart"))


# The staleness ladder


@pytest.mark.parametrize(
    ("age", "limit"),
    [
        (timedelta(hours=24), 40_000),  # normal, up to and with the soft end
        (timedelta(hours=24, seconds=1), 5_000),  # offline-limited
        (timedelta(days=7), 5_000),  # up to and with the hard end
        (timedelta(days=7, seconds=1), None),  # refuse
    ],
)
def test_each_rung_of_the_ladder_leaves_what_the_fleet_says(age: timedelta, limit: int | None) -> None:
    policy = a_policy(max_energy_wh=40_000, stale_max_energy_wh=5_000, confirmed=NOON - age, confirmed_boot="earlier")

    decision = ask(None, policy)
    with_the_backends_word = ask(a_request(a_token(whitelist=Whitelist.NEVER), heard=SAYS_YES), policy)

    assert (decision.limits.max_energy_wh if isinstance(decision, Granted) else None) == limit
    assert isinstance(with_the_backends_word, Granted) == (limit is not None)
    if isinstance(with_the_backends_word, Granted):
        assert with_the_backends_word.limits.max_energy_wh == 40_000


def test_an_unproven_clock_is_one_rung_down_at_least() -> None:
    fresh = a_policy(stale_max_energy_wh=5_000, confirmed_boot="earlier")

    decision = ask(None, fresh, now=an_instant(quality=ClockQuality.UNKNOWN))

    assert isinstance(decision, Granted)
    assert decision.limits.max_energy_wh == 5_000
