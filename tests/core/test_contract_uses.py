"""A signature that was permitted counts as a session of the contract and of the vehicle, from the yes on."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from datetime import timedelta
from typing import Any

import pytest

from agent.core import observations as seen
from agent.core.agent import Agent
from agent.core.contract_uses import ContractUse
from agent.core.decisions import Granted, NeedsInput, Refused
from agent.core.effects import Reply
from agent.core.facts import ContractClosed, ContractOpened, UseEnd
from agent.core.history import MOST_USES, History
from agent.core.instants import ClockQuality, Instant
from agent.core.policy import Token, Velocity
from agent.core.requests import Signs
from agent.core.terms import Prompt
from tests.core.builders import (
    BOOT,
    NOON,
    a_group,
    a_place,
    a_policy,
    a_token,
    an_agent,
    an_instant,
    of,
    presented,
    recorded,
)

CONTRACT, OTHER = "AA01", "AA02"
LATER = timedelta(seconds=30)
SIGNS = Signs()


def at(passed: timedelta = timedelta(0), **changes: Any) -> Instant:
    moment = an_instant(NOON + passed, monotonic_ms=1_000_000 + int(passed.total_seconds() * 1000))
    return replace(moment, entropy=str(passed).encode(), **changes)


def asked(uid: str = CONTRACT, token: Token | None = None, signs: Signs | None = SIGNS) -> seen.DecisionRequested:
    return seen.DecisionRequested(
        request="r", presented=presented(uid, token), charger=None, place=a_place(), signs=signs
    )


def verdict(agent: Agent, question: seen.DecisionRequested, now: Instant) -> tuple[Reply, list[ContractOpened]]:
    effects = agent.handle(question, now)
    (reply,) = of(Reply, effects)
    return reply, of(ContractOpened, recorded(effects))


def reasons(reply: Reply) -> tuple[str, ...]:
    return tuple(each.code for each in reply.decision.reasons) if isinstance(reply.decision, Refused) else ()


def test_two_questions_at_once_are_not_both_granted_and_the_end_of_the_first_lets_another_in() -> None:
    agent = an_agent(a_policy())
    first, (opened,) = verdict(agent, asked(signs=Signs(session="8F3A")), at())
    assert isinstance(first.decision, Granted)
    assert (opened.decision, opened.session, opened.lasts_s) == (first.decision_id, "8F3A", 86_400)

    second, none = verdict(agent, asked(), at(timedelta(milliseconds=23)))
    assert (reasons(second), none) == (("CONCURRENT_SESSION",), [])

    ended = seen.ContractReleased(decision=first.decision_id, reason=UseEnd.ENDED, request="e")
    effects = agent.handle(ended, at(LATER))
    assert of(ContractClosed, recorded(effects)) == [ContractClosed(decision=first.decision_id, reason=UseEnd.ENDED)]
    assert of(Reply, effects)
    assert of(ContractClosed, recorded(agent.handle(ended, at(LATER)))) == [], "told again it changes nothing"
    third, _ = verdict(agent, asked(), at(2 * LATER))
    assert isinstance(third.decision, Granted)


def test_a_question_without_a_signature_opens_nothing() -> None:
    agent = an_agent(a_policy())
    for number in range(2):
        reply, opened = verdict(agent, asked(signs=None), at(number * LATER))
        assert (isinstance(reply.decision, Granted), opened) == (True, [])


def test_another_contract_of_the_same_vehicle_waits_and_one_of_another_does_not() -> None:
    policy = a_policy()
    agent = an_agent(policy)
    ours, theirs = a_token(OTHER, vehicle="VAN-1"), a_token(OTHER, vehicle="VAN-2")
    assert isinstance(verdict(agent, asked(token=a_token(CONTRACT, vehicle="VAN-1")), at())[0].decision, Granted)
    assert reasons(verdict(agent, asked(OTHER, ours), at(LATER))[0]) == ("CONCURRENT_SESSION",)
    assert isinstance(verdict(agent, asked(OTHER, theirs), at(LATER))[0].decision, Granted)


def test_what_goes_on_with_a_use_is_not_in_its_own_way_and_opens_nothing() -> None:
    agent = an_agent(a_policy())
    first, _ = verdict(agent, asked(), at())
    receipt, opened = verdict(agent, asked(signs=Signs(within=first.decision_id)), at(LATER))
    assert (isinstance(receipt.decision, Granted), opened) == (True, [])


@pytest.mark.parametrize("reason", [each for each in UseEnd if each is not UseEnd.ENDED])
def test_where_nothing_was_signed_there_was_no_session(reason: UseEnd) -> None:
    agent = an_agent(a_policy(a_group(velocity=Velocity(sessions=1, window_s=3600), min_gap_s=3600)))
    first, _ = verdict(agent, asked(), at())
    agent.handle(seen.ContractReleased(decision=first.decision_id, reason=reason), at())
    assert isinstance(verdict(agent, asked(), at(LATER))[0].decision, Granted)


LIMITED: Mapping[str, dict[str, Any]] = {
    "so many in an hour": {"velocity": Velocity(sessions=1, window_s=3600)},
    "an hour after the last": {"min_gap_s": 3600},
}


@pytest.mark.parametrize("limit", LIMITED)
def test_sessions_that_ended_count_for_how_often_and_how_soon(limit: str) -> None:
    agent = an_agent(a_policy(a_group(**LIMITED[limit])))
    first, _ = verdict(agent, asked(), at())
    agent.handle(seen.ContractReleased(decision=first.decision_id, reason=UseEnd.ENDED), at(LATER))
    assert reasons(verdict(agent, asked(), at(2 * LATER))[0]) == ("VELOCITY",)
    assert isinstance(verdict(agent, asked(), at(timedelta(hours=2)))[0].decision, Granted)


def test_an_end_that_nobody_told_is_believed_after_the_time_limit_or_the_longest_session_allowed() -> None:
    for policy, lasts in (
        (a_policy(), timedelta(days=1)),
        (a_policy(a_group(max_duration_s=7200)), timedelta(hours=2)),
    ):
        agent = an_agent(policy)
        verdict(agent, asked(), at())
        assert reasons(verdict(agent, asked(), at(lasts - LATER))[0]) == ("CONCURRENT_SESSION",)
        assert isinstance(verdict(agent, asked(), at(lasts))[0].decision, Granted)


USE = ContractUse(
    decision="d", reference="r", vehicle=None, began=NOON, boot=BOOT, monotonic_ms=1_000_000, lasts_s=3600
)
HOUR = timedelta(hours=1)
CLOCKS: Mapping[str, tuple[Instant, bool]] = {
    "an hour by the monotonic clock, whatever the wall clock says": (an_instant(monotonic_ms=4_600_000), False),
    "the wall clock leapt ahead in one boot": (an_instant(NOON + HOUR), True),
    "an hour by a wall clock that is believed, after a restart": (
        an_instant(NOON + HOUR, boot="boot-2", monotonic_ms=60_000), False,
    ),
    "a clock that nobody believes, after a restart": (
        an_instant(NOON + HOUR, boot="boot-2", monotonic_ms=60_000, quality=ClockQuality.UNKNOWN), True,
    ),
    "up for an hour, whatever the time is": (
        an_instant(boot="boot-2", monotonic_ms=3_600_000, quality=ClockQuality.UNKNOWN), False,
    ),
}  # fmt: skip


@pytest.mark.parametrize("clock", CLOCKS)
def test_the_time_limit_is_counted_by_clocks_that_are_believed(clock: str) -> None:
    now, is_open = CLOCKS[clock]
    assert USE.is_open(now) is is_open


def test_the_memory_of_uses_is_bounded_and_forgets_open_ones_last() -> None:
    history = History().with_use(USE)
    for number in range(MOST_USES + 5):
        name = f"d-{number}"
        history = history.with_use(replace(USE, decision=name)).with_use_ended(name, NOON)
    assert len(history.uses) == MOST_USES
    assert history.open_uses(an_instant()) == (USE,)


def test_what_the_driver_must_still_tell_opens_nothing() -> None:
    agent = an_agent(a_policy(a_group(prompts=frozenset({Prompt.ODOMETER}))))
    reply, opened = verdict(agent, asked(), at())
    assert (type(reply.decision), opened) == (NeedsInput, [])
