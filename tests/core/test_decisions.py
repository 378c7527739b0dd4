"""decide() as a whole: every reason at once, laws that hold for all policies, and a second evaluator that agrees."""

from __future__ import annotations

import random
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from functools import partial
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from agent.core import decisions, rules
from agent.core.answers import Heard, Silence, Whitelist
from agent.core.credentials import Credential
from agent.core.decisions import AskBackend, Granted, NeedsInput, Refused, decide
from agent.core.instants import ClockQuality
from agent.core.overrides import NEVER_WAIVED
from agent.core.policy import Group, Policy, TokenStatus
from agent.core.reasons import ReasonCode
from agent.core.requests import Given, Place, Usage
from agent.core.terms import Effect, Fence, Kind, Lenience, Prompt, Velocity
from tests.core.builders import (
    NOON,
    a_group,
    a_place,
    a_policy,
    a_request,
    a_schedule,
    a_token,
    an_instant,
    ask,
    codes,
)
from tests.core.naive_evaluator import naive
from tests.core.random_questions import (
    AMOUNTS,
    CONNECTORS,
    COUNTRIES,
    NETWORKS,
    SITES,
    a_question,
    some_demand,
    some_fence,
    some_group,
    some_holidays,
    some_schedule,
)

LOOK_BACK_S = 31 * 24 * 3_600


def test_all_reasons_come_at_once_most_severe_first() -> None:
    token = a_token(status=TokenStatus.BLOCKED, until=NOON)
    policy = a_policy(networks={"NL*XYZ"}, countries=set(), schedule=a_schedule(), confirmed=NOON - timedelta(days=30))
    usage = Usage(sessions_of_token=("s1",), session_at_charger="s2", charger_reachable=False, storage_full=True)
    broken = an_instant(floor=NOON + timedelta(days=1))

    decision = ask(a_request(token, crowded=True), policy, usage=usage, now=broken)

    assert codes(decision) == (
        *("TOKEN_BLOCKED", "TOKEN_EXPIRED", "POLICY_EXPIRED", "NETWORK", "COUNTRY", "TIME_WINDOW"),
        *("CONCURRENT_SESSION", "EVSE_OCCUPIED", "EVSE_UNAVAILABLE", "SEVERAL_CARDS", "CLOCK_UNTRUSTED"),
        "STORAGE_FULL",
    )


def test_a_hole_in_the_rules_is_no_grant(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(rules, "RULES", ())

    assert codes(decide(replace(a_request(), token=None), a_policy(), Usage(), an_instant())) == ("NO_POLICY",)
    assert codes(decide(a_request(), None, Usage(), an_instant())) == ("NO_POLICY",)


def test_a_second_evaluator_agrees() -> None:
    disagreeing, granted = compare(range(2_500))

    assert disagreeing == []
    assert granted > 250  # else the sample says little about grants


@pytest.mark.slow
@pytest.mark.timeout(600)
def test_a_second_evaluator_agrees_on_many_more() -> None:
    assert compare(range(10_000, 110_000))[0] == []


def compare(seeds: range) -> tuple[list[int], int]:
    disagreeing, granted = [], 0
    for seed in seeds:
        question = a_question(random.Random(seed))
        decision = decide(*question)
        granted += isinstance(decision, Granted)
        if said(decision) != expected(question):
            disagreeing.append(seed)
    return disagreeing, granted


def said(decision: Any) -> set[str]:
    sign = {NeedsInput: "?", AskBackend: "^"}.get(type(decision), "")
    waived = (f"~{each.code.value}" for each in getattr(decision, "waived", ()))
    warned = (f"!{each.code.value}" for each in decision.warnings)
    return {*(sign + code for code in codes(decision)), *warned, *waived}


def expected(question: Any) -> set[str]:
    """Nothing is asked of a driver who would be refused all the same, nor of the backend before the driver."""
    why = naive(*question)
    if any(code[0] not in "!?^~" for code in why):
        return {code.strip("^") for code in why if code[0] != "?" and code != "^NO_ANSWER"}
    if any(code[0] == "?" for code in why):
        return {code for code in why if code[0] not in "^~"}
    return {code for code in why if code[0] != "~"} if any(code[0] == "^" for code in why) else why


def test_the_sample_meets_every_reason() -> None:
    met = {code.strip("!?^~") for seed in range(2_500) for code in naive(*a_question(random.Random(seed)))}

    assert met == {code.value for code in ReasonCode}


# Laws

questions = st.integers(0, 10**9).map(lambda seed: a_question(random.Random(seed)))
fast = settings(max_examples=150, deadline=None)


@fast
@given(questions, st.permutations(rules.RULES))
def test_the_order_of_the_rules_never_matters(question: Any, order: Any) -> None:
    usual = decide(*question)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(decisions, "objections", partial(rules.objections_of, tuple(order)))

        assert decide(*question) == usual


@fast
@given(questions, st.sampled_from(rules.RULES))
def test_adding_a_rule_never_turns_a_refusal_into_a_grant(question: Any, extra: Any) -> None:
    complete = decide(*question)
    with pytest.MonkeyPatch.context() as patch:
        others = tuple(rule for rule in rules.RULES if rule is not extra)
        patch.setattr(decisions, "objections", partial(rules.objections_of, others))
        fewer = decide(*question)

    assert isinstance(fewer, Granted) or not isinstance(complete, Granted)


@fast
@given(questions, st.integers(0, 10**9))
def test_narrowing_a_group_never_turns_a_refusal_into_a_grant(question: Any, seed: int) -> None:
    request, policy, usage, now = question
    if policy is None:
        return
    draw = random.Random(seed)
    name = draw.choice(list(policy.groups))
    groups = {**policy.groups, name: narrower(policy.groups[name], draw)}

    before, after = decide(*question), decide(request, replace(policy, groups=groups), usage, now)

    assert never_wider(before, after)


def narrower(group: Group, draw: random.Random) -> Group:
    def fewer(values: frozenset[str] | None, all_values: tuple[str, ...]) -> frozenset[str]:
        have = sorted(all_values if values is None else values)
        return frozenset(draw.sample(have, draw.randrange(len(have) + 1)))

    def less(limit: int | None, otherwise: int) -> int:
        return draw.randrange((otherwise if limit is None else limit) + 1)

    schedule = group.schedule or some_schedule(draw)
    fewer_caps = [each for each in ("per_kwh", "per_hour", "fixed", "session") if draw.random() < 0.5]
    return replace(
        group,
        networks=fewer(group.networks, NETWORKS),
        countries=fewer(group.countries, COUNTRIES),
        schedule=replace(schedule, windows=schedule.windows[draw.randrange(len(schedule.windows) + 1) :]),
        max_sessions_per_token=less(group.max_sessions_per_token, 1),  # where no level speaks, one it is
        max_sessions_per_vehicle=less(group.max_sessions_per_vehicle, 1),
        max_energy_wh=less(group.max_energy_wh, 10_000),
        denied_sites=(group.denied_sites or frozenset()) | {draw.choice(SITES)},
        holidays=group.holidays or some_holidays(draw),
        fence=narrower_fence(group.fence or some_fence(draw)),
        connectors=fewer(group.connectors, CONNECTORS),
        max_power_w=less(group.max_power_w, 300_000),
        demands=(*group.demands, some_demand(draw)),
        lossy_cards=group.lossy_cards and draw.choice((True, False)),
        prices=group.prices and replace(group.prices, **dict.fromkeys(fewer_caps, AMOUNTS[0])),
        max_duration_s=less(group.max_duration_s, 3_600),
        max_start_soc_percent=less(group.max_start_soc_percent, 100),
        target_soc_percent=less(group.target_soc_percent, 100),
        velocity=Velocity(sessions=1, window_s=LOOK_BACK_S),
        min_gap_s=LOOK_BACK_S,
        prompts=frozenset(Prompt),
        max_odometer_increase_km=less(group.max_odometer_increase_km, 500),
        effects={kind: effect for kind, effect in group.effects.items() if draw.random() < 0.5},
    )


def narrower_fence(fence: Fence) -> Fence:
    return replace(fence, polygons=fence.polygons[1:], max_age_s=1, max_accuracy_m=1)


@fast
@given(questions, st.integers(0, 10**9))
def test_a_further_level_never_turns_a_refusal_into_a_grant(question: Any, seed: int) -> None:
    """With exceptions that the rules name: the first level that speaks of concurrency or part UIDs ends a default."""
    request, policy, usage, now = question
    if policy is None or request.token is None:
        return
    draw = random.Random(seed)
    below = some_group(draw, "new", request.token.group, 0.5)
    below = replace(
        below,
        max_sessions_per_token=min(1, below.max_sessions_per_token or 0),
        max_sessions_per_vehicle=min(1, below.max_sessions_per_vehicle or 0),
        lossy_cards=below.lossy_cards and None,
    )
    deeper = replace(policy, groups={**policy.groups, "new": below})
    asked = replace(request, token=replace(request.token, group="new"))

    assert never_wider(decide(*question), decide(asked, deeper, usage, now))


def never_wider(before: Any, after: Any) -> bool:
    if not isinstance(before, Granted):
        return not is_a_yes(after)
    return not is_a_yes(after) or all(
        cap is None or (now is not None and now <= cap)
        for cap, now in zip(limits_of(before), limits_of(after), strict=True)
    )


def is_a_yes(decision: Any) -> bool:
    """Of the policy itself: an override says yes to a refusal, and would not have been asked of a driver's PIN."""
    return isinstance(decision, Granted) and decision.override is None


def limits_of(decision: Granted) -> tuple[Any, ...]:
    limits = decision.limits
    costs = (None, None) if limits.cost is None else (limits.cost.net, limits.cost.gross)
    return (limits.max_energy_wh, limits.max_duration_s, limits.target_soc_percent, *costs)


@fast
@given(questions)
def test_taking_an_input_away_never_turns_a_refusal_into_a_grant(question: Any) -> None:
    """Where the policy lets missing data pass, it says so; here every level's missing data refuses.

    The backend's silence passes for ALLOWED_OFFLINE, as OCPI says: so what was heard is taken away by not asking.
    """
    request, policy, usage, now = question
    policy = strict(policy)
    if isinstance(decide(request, policy, usage, now), Granted):
        return
    nobody = Credential(reference="", assurance=request.credential.assurance)
    inputs = set(Place.__dataclass_fields__) - {"doubt"}  # that is what comes of a missing input
    poorer = [
        *(replace(request, place=replace(request.place, **{each: None})) for each in inputs),
        replace(request, place=Place(doubt=request.place.doubt)),
        replace(request, token=None),
        replace(request, credential=nobody),
        replace(request, credential=nobody, token=None),
        replace(request, prices=None),
        replace(request, soc_percent=None),
        replace(request, metered=False),
        replace(request, given=Given()),
        replace(request, reader=None),
        replace(request, charger=None),
        replace(request, vehicle=None),
        *((replace(request, heard=None),) if asks(request) else ()),
    ]

    assert not any(is_a_yes(decide(each, policy, usage, now)) for each in poorer)
    lost = replace(usage, past=(), known_since=now.latest)
    assert not is_a_yes(decide(request, policy, lost, now))
    assert not isinstance(decide(request, policy, replace(usage, overrides=()), now), Granted)
    assert isinstance(decide(request, None, usage, now), Refused)
    assert policy is None or isinstance(decide(request, replace(policy, groups={}), usage, now), Refused)


def asks(request: Any) -> bool:
    return request.token is not None and request.token.whitelist.asks


@fast
@given(questions)
def test_silence_never_turns_a_refusal_into_a_grant_but_for_tokens_that_may_charge_offline(question: Any) -> None:
    request, policy, usage, now = question
    silent = replace(request, heard=Heard(silence=Silence.DEADLINE))
    offline = request.token is not None and request.token.whitelist is Whitelist.ALLOWED_OFFLINE

    if not isinstance(decide(*question), Granted) and not offline:
        assert not is_a_yes(decide(silent, policy, usage, now))


@fast
@given(questions)
def test_an_override_changes_refusals_only_and_never_those_that_nothing_outweighs(question: Any) -> None:
    request, policy, usage, now = question
    without = decide(request, policy, replace(usage, overrides=()), now)
    decision = decide(*question)

    if not isinstance(without, Refused):
        assert decision == without
    if isinstance(decision, Granted) and decision.override is not None:
        assert isinstance(without, Refused)
        assert set(decision.waived) <= set(without.reasons)
        assert not {each.code for each in decision.waived} & NEVER_WAIVED
        assert {each.rule for each in decision.waived} <= rules.waivable()
        assert decision.override in usage.overrides
        for mine, most in ((decision.limits.max_energy_wh, decision.override.max_energy_wh),
                           (decision.limits.max_duration_s, decision.override.max_duration_s)):  # fmt: skip
            assert most is None or (mine is not None and mine <= most)


def strict(policy: Policy | None) -> Policy | None:
    if policy is None:
        return None
    refusing = dict.fromkeys(Kind, Lenience(effect=Effect.DENY))
    return replace(policy, groups={name: replace(each, missing=refusing) for name, each in policy.groups.items()})


@fast
@given(questions, st.integers(1, 10**9))
def test_a_clock_set_back_never_turns_a_refusal_for_age_into_a_grant(question: Any, back_s: int) -> None:
    """`now` is the truth; the same moment is then seen by a clock that was set back, whose floor remembers it."""
    request, policy, usage, now = question
    now = replace(now, floor=now.utc)
    wrong = replace(now, utc=max(now.utc - timedelta(seconds=back_s), datetime(1970, 1, 1, tzinfo=UTC)))

    truth, seen = decide(request, policy, usage, now), decide(request, policy, usage, wrong)

    assert not isinstance(seen, Granted) or isinstance(truth, Granted)


@fast
@given(questions)
def test_a_clock_that_became_unknown_never_turns_a_refusal_into_a_grant(question: Any) -> None:
    request, policy, usage, now = question

    seen = decide(request, policy, usage, replace(now, quality=ClockQuality.UNKNOWN))

    assert not isinstance(seen, Granted) or isinstance(decide(*question), Granted)


@fast
@given(questions)
def test_a_refusal_has_reasons_and_deciding_has_no_memory(question: Any) -> None:
    decision = decisions.decide(*question)

    assert decision == decisions.decide(*question)
    assert isinstance(decision, Granted) or decision.reasons


def test_the_limits_of_a_grant_are_those_of_the_token_s_group() -> None:
    policy = a_policy(a_group(max_energy_wh=5_000), a_group("others", max_energy_wh=1))

    decision = ask(a_request(place=a_place()), policy)

    assert isinstance(decision, Granted)
    assert decision.limits.max_energy_wh == 5_000
