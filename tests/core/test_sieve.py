"""Rules that are not asked have nothing to say: of many random questions every rule is asked all the same."""

from __future__ import annotations

import random
from dataclasses import replace
from datetime import timedelta
from typing import Any

import pytest

from agent.core.decisions import Granted, decide, limits_for
from agent.core.requests import Usage
from agent.core.rules import RULES, SILENCE, objections, objections_of, sieve
from agent.core.rules.hours import opens
from agent.core.statuses import by_severity
from tests.core.builders import NOON, a_group, a_policy, a_request, a_schedule, a_window, an_instant
from tests.core.random_questions import a_question, some_schedule


def test_what_is_left_out_would_have_been_silent() -> None:
    assert compare(range(3_000)) > 50


@pytest.mark.slow
@pytest.mark.timeout(300)
def test_what_is_left_out_would_have_been_silent_in_many_more() -> None:
    assert compare(range(200_000, 240_000)) > 500


def compare(seeds: range) -> int:
    """How many had nothing against them at a glance."""
    silent = 0
    for seed in seeds:
        request, policy, usage, now = a_question(random.Random(seed))
        found, of_all = objections(request, policy, usage, now), objections_of(RULES, request, policy, usage, now)
        assert spelled(found) == spelled(of_all), seed
        if found is SILENCE:
            silent += 1
            assert policy is not None
            assert request.token is not None
            granted = decide(request, policy, usage, now)
            assert granted == Granted(limits=limits_for(request, request.token, policy, now)), seed
    return silent


def spelled(found: Any) -> tuple[Any, ...]:
    told = (found.refusals, found.warnings, found.wanted, found.open)
    return (*(by_severity(each) for each in told), found.prompts, found.max_energy_wh)


def test_a_rule_that_the_sieve_does_not_know_is_always_asked() -> None:
    """So a new rule needs nothing here; this test says which are quick."""
    assert {rule.check for rule in RULES} >= sieve.COVERED
    assert [rule.name for rule in RULES if rule.check not in sieve.COVERED] == []


def test_an_ordinary_question_is_answered_at_a_glance() -> None:
    assert objections(a_request(), a_policy(networks={"DE*ABC"}, countries={"DE"}), Usage(), an_instant()) is SILENCE


def test_a_policy_that_is_confirmed_anew_is_folded_anew() -> None:
    policy = a_policy(a_group(networks={"DE*ABC"}))
    objections(a_request(), policy, Usage(), an_instant())

    narrower = replace(policy, groups={"drivers": a_group(networks={"NL*XYZ"})})

    assert objections(a_request(), narrower, Usage(), an_instant()).refusals


@pytest.mark.parametrize("seed", range(40))
def test_a_folded_week_opens_and_closes_as_its_windows_do(seed: int) -> None:
    draw = random.Random(seed)
    schedule = some_schedule(draw)
    policy = a_policy(a_group(schedule=schedule))
    for _ in range(150):
        utc = NOON + timedelta(minutes=draw.randrange(-300_000, 300_000), seconds=draw.randrange(60))
        now = an_instant(utc, floor=utc)
        found = sieve.suspects(a_request(), policy, Usage(), now) or []
        assert (sieve.inside_window not in found) is opens(schedule, utc)


def test_a_week_without_windows_never_opens() -> None:
    assert sieve.week_of(a_schedule()).edges == ()
    assert sieve.week_of(a_schedule(a_window("00:00", "24:00"))).from_start
