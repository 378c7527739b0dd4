"""One-time overrides and break-glass codes: what they outweigh, what nothing outweighs, and that each is good once."""

from __future__ import annotations

import random
from collections.abc import Callable
from dataclasses import replace
from datetime import timedelta
from decimal import Decimal
from pathlib import Path
from typing import Any

import pytest

from agent.core import observations as seen
from agent.core.agent import Agent
from agent.core.answers import Whitelist
from agent.core.break_glass import AHEAD, MAX_ENERGY_WH, code_of, secret_of
from agent.core.decisions import Granted, NeedsInput, Refused
from agent.core.effects import StartCharging
from agent.core.facts import CodeTried, DecisionMade, Outcome, OverrideReceived, OverrideUsed
from agent.core.instants import ClockQuality
from agent.core.memory import State
from agent.core.overrides import NEVER_WAIVED, MostCost
from agent.core.pins import Pin
from agent.core.policy import Driver, TokenStatus
from agent.core.prices import plain_prices
from agent.core.reasons import ReasonCode
from agent.core.requests import Code, Told, Usage
from agent.core.rules import RULES, waivable
from agent.core.rules.card import DOUBTED
from agent.core.tariff.tariffs import Basis
from agent.core.terms import Prompt
from agent.past import history_of
from tests.core.builders import (
    CARD,
    NOON,
    Yard,
    a_policy,
    a_request,
    a_schedule,
    a_token,
    a_yard,
    an_instant,
    ask,
    codes,
    of,
    presented,
    recorded,
    shown,
)
from tests.core.live_rows import SAID_NO, SILENT, an_override
from tests.journal.samples import open_journal

NOWHERE = a_policy(networks={"NL*XYZ"})
SECRET = secret_of(b"the fleet's key", "van-7")
MINE = a_token().reference


def with_override(request: Any = None, policy: Any = None, usage: Usage | None = None, **changes: Any) -> Any:
    now = changes.pop("now", an_instant())
    usage = replace(usage or Usage(), overrides=(an_override(**changes),))
    return ask(request, policy or NOWHERE, usage=usage, now=now)


def test_an_override_outweighs_what_it_names_and_narrows_the_limits() -> None:
    policy = a_policy(networks={"NL*XYZ"}, max_energy_wh=50_000, max_duration_s=3_600)

    granted = with_override(None, policy, waives={"network_allowed"}, max_energy_wh=20_000, max_duration_s=7_200)

    assert isinstance(granted, Granted)
    assert (granted.limits.max_energy_wh, granted.limits.max_duration_s) == (20_000, 3_600)
    assert granted.override is not None
    assert [(each.code, each.observed, each.limit) for each in granted.waived] == [("NETWORK", "DE*ABC", "NL*XYZ")]


def test_its_cost_is_counted_like_the_fleets_own_cap() -> None:
    prices = plain_prices("EUR", basis=Basis.GROSS, tax_percent=Decimal(19), per_kwh=Decimal("0.50"))
    most = MostCost(currency="EUR", gross=Decimal(25))

    granted = with_override(a_request(prices=prices), max_energy_wh=None, max_cost=most)
    unknown = with_override(a_request(), max_energy_wh=None, max_cost=most)
    abroad = with_override(a_request(prices=replace(prices, currency="CHF")), max_energy_wh=None, max_cost=most)

    unmetered = replace(a_request(prices=prices), metered=False)
    nobody_counts = with_override(unmetered, max_energy_wh=None, max_cost=most)
    ends = with_override(unmetered, max_energy_wh=None, max_cost=most, max_duration_s=3_600)

    assert granted.limits.cost.gross == Decimal(25)
    assert nobody_counts.warnings[-1].observed == "its cost cannot be counted here"
    assert ends.limits.max_duration_s == 3_600
    assert codes(unknown) == codes(abroad) == ("NETWORK",)
    assert unknown.warnings[-1].observed == "its cost cannot be counted here"


WHY_NOT: list[tuple[str, Callable[[], Any], str]] = [
    ("another rule", lambda: with_override(waives={"country_allowed"}), "it does not waive network_allowed"),
    ("more than the root allows", lambda: with_override(None, replace(NOWHERE, override_energy_wh=9_999)),
     "it is above the ceiling that the fleet's root has signed"),
    ("longer than the root allows", lambda: with_override(None, replace(NOWHERE, override_hours=1)),
     "it is above the ceiling that the fleet's root has signed"),
    ("no limit", lambda: with_override(max_energy_wh=None), "it has no limit"),
    ("no meter", lambda: with_override(replace(a_request(), metered=False)), "its energy cannot be counted here"),
    ("its end", lambda: with_override(not_after=NOON), "it has expired"),
    ("its end by the floor", lambda: with_override(now=an_instant(NOON, floor=NOON + timedelta(hours=1))),
     "the clock is not proven"),
    ("a clock nobody believes", lambda: with_override(now=an_instant(quality=ClockQuality.UNKNOWN)),
     "the clock is not proven"),
    ("its time here is over, whatever the wall clock says",
     lambda: with_override(now=an_instant(monotonic_ms=an_instant().monotonic_ms + 7_200_000)), "it has expired"),
    ("not issued yet", lambda: with_override(issued=NOON + timedelta(seconds=121)), "it was issued in the future"),
    ("valid too long", lambda: with_override(not_after=NOON + timedelta(hours=24)), "it is valid for more than 24 h"),
    ("the backend has blocked it since", lambda: with_override(a_request(heard=SAID_NO)), "the backend said BLOCKED"),
    ("the log was lost", lambda: with_override(usage=Usage(known_since=NOON - timedelta(minutes=59))),
     "the log was lost since, it may have been used"),
]  # fmt: skip


@pytest.mark.parametrize(("decision", "why"), [pytest.param(row[1], row[2], id=row[0]) for row in WHY_NOT])
def test_an_override_that_does_not_fit_says_why(decision: Callable[[], Any], why: str) -> None:
    refused = decision()

    assert isinstance(refused, Refused)
    assert ReasonCode.NETWORK in [each.code for each in refused.reasons]
    assert (refused.warnings[-1].code, refused.warnings[-1].observed) == (ReasonCode.OVERRIDE_UNFIT, why)


FINAL: dict[ReasonCode, Callable[[], Any]] = {
    ReasonCode.REVOKED: lambda: with_override(None, a_policy(revoked=frozenset({MINE}))),
    ReasonCode.TOKEN_BLOCKED: lambda: with_override(a_request(a_token(status=TokenStatus.BLOCKED)), a_policy()),
    ReasonCode.TOKEN_UNKNOWN: lambda: with_override(replace(a_request(), token=None), a_policy()),
    ReasonCode.TOKEN_RANDOM_UID: lambda: with_override(
        replace(a_request(), credential=replace(a_request().credential, reference="")), a_policy()
    ),
    ReasonCode.NO_POLICY: lambda: with_override(a_request(a_token(group="nobody")), a_policy()),
    ReasonCode.CACHE_UNREADABLE: lambda: with_override(replace(a_request(), lookup_failed=True), a_policy()),
    ReasonCode.CLOCK_UNTRUSTED: lambda: with_override(
        None, a_policy(schedule=a_schedule()), now=an_instant(quality=ClockQuality.UNKNOWN), counted=True
    ),
    **{
        code: lambda doubt=doubt: with_override(replace(a_request(), doubt=doubt), a_policy())  # type: ignore[misc]
        for doubt, code in DOUBTED.items()
    },
    ReasonCode.SEVERAL_CARDS: lambda: with_override(replace(a_request(), crowded=True), a_policy()),
    ReasonCode.STORAGE_FULL: lambda: with_override(None, a_policy(), Usage(storage_full=True)),
    ReasonCode.EVSE_OCCUPIED: lambda: with_override(None, a_policy(), Usage(session_at_charger="s")),
    ReasonCode.EVSE_UNAVAILABLE: lambda: with_override(None, a_policy(), Usage(charger_reachable=False)),
}


@pytest.mark.parametrize("code", sorted(NEVER_WAIVED))
def test_what_nobody_can_outweigh_is_refused_with_every_override(code: ReasonCode) -> None:
    decision = FINAL[code]()

    assert isinstance(decision, Refused)
    assert code in [each.code for each in decision.reasons]


def test_what_the_backend_blocked_stays_so_where_it_has_to_be_asked_each_time() -> None:
    asked_each_time = a_token(whitelist=Whitelist.NEVER)

    silent = with_override(a_request(asked_each_time, heard=SILENT), a_policy())
    blocked = with_override(a_request(asked_each_time, heard=SAID_NO), a_policy())

    assert isinstance(silent, Granted)
    assert codes(blocked) == ("NO_ANSWER",)
    assert blocked.warnings[-1].observed == "the backend said BLOCKED"


def test_which_rules_can_be_outweighed_is_declared_with_each() -> None:
    never = {rule.name for rule in RULES} - waivable()

    assert {"token_known", "not_revoked", "group_known", "clock_trusted", "one_card"} < never
    assert {"storage_ready", "charger_free", "charger_reachable"} < never
    assert {"network_allowed", "inside_window", "policy_in_force", "backend_agrees", "price_within"} < waivable()


def test_no_policy_at_all_is_no_policy_to_make_an_exception_from() -> None:
    assert codes(ask(None, None, usage=Usage(overrides=(an_override(),)))) == ()  # the default policy grants

    yard = a_yard()
    yard.agent.state = replace(yard.agent.state, policy=None)
    yard.tell(seen.OverrideOffered(override=an_override()))
    yard.taps()
    assert [each.outcome for each in yard.told(DecisionMade)] == [Outcome.REFUSED]


def test_a_driver_is_still_asked_for_what_the_policy_wants() -> None:
    policy = a_policy(networks={"NL*XYZ"}, prompts=frozenset({Prompt.PIN}))
    policy = replace(policy, drivers={"anna": Driver(id="anna", pin=Pin(salt="00", hash=""))})

    assert isinstance(with_override(a_request(a_token(driver="anna")), policy), NeedsInput)


# Used once


def stranded(policy: Any = NOWHERE, **setup: Any) -> Yard:
    return a_yard(policy, **setup)


def test_the_tap_that_needs_it_uses_it_up_in_the_record_before_the_green_light() -> None:
    yard = stranded()
    yard.tell(seen.OverrideOffered(override=an_override()))

    effects = yard.taps()

    first, second = effects[:2]
    assert [type(fact).__name__ for fact in recorded((first,))] == ["OverrideUsed", "DecisionMade", "SessionAuthorised"]
    assert shown((second,)) == ["granted"]
    (made,), (used,) = yard.told(DecisionMade), yard.told(OverrideUsed)
    assert made.outcome is Outcome.OVERRIDE
    assert (made.override, made.override_by, made.override_why) == ("o-1", "ada", "a driver is stranded")
    assert [each.code for each in made.waived or ()] == ["NETWORK"]
    assert (made.text, made.ocpi, made.max_energy_wh) == ("Charging allowed, this once", "ALLOWED", 10_000)
    assert (used.decision, used.rules) == (made.decision, ("network_allowed",))


def test_it_is_good_once_and_offering_it_again_changes_nothing() -> None:
    yard = stranded()
    for _ in range(3):
        yard.tell(seen.OverrideOffered(override=an_override()))
    session = of(StartCharging, yard.taps())
    yard.started(session[0].session, 1_000)
    yard.taps()
    yard.stopped(2_000, session[0].session)

    assert yard.tell(seen.OverrideOffered(override=an_override())) == ()
    yard.taps()

    assert [each.outcome for each in yard.told(DecisionMade)] == [Outcome.OVERRIDE, Outcome.REFUSED]
    assert len(yard.told(OverrideReceived)) == len(yard.told(OverrideUsed)) == 1


def test_of_two_the_one_that_ends_first_is_used_and_the_other_waits() -> None:
    yard = stranded()
    late = an_override(id="late", not_after=NOON + timedelta(hours=3))
    for each in (late, an_override(id="early")):
        yard.tell(seen.OverrideOffered(override=each))
    for _ in range(3):
        yard.tell(seen.DecisionRequested(request="r", presented=presented(), charger="bay", place=a_request().place))

    assert [each.override for each in yard.told(OverrideUsed)] == ["early", "late"]
    assert [each.outcome for each in yard.told(DecisionMade)] == [Outcome.OVERRIDE, Outcome.OVERRIDE, Outcome.REFUSED]


def test_a_grant_that_needs_no_override_uses_none() -> None:
    yard = stranded(a_policy())
    yard.tell(seen.OverrideOffered(override=an_override()))

    yard.taps()

    assert [each.outcome for each in yard.told(DecisionMade)] == [Outcome.GRANTED]
    assert "o-1" in yard.agent.state.history.overrides


def test_it_is_for_one_card() -> None:
    yard = stranded()
    yard.tell(seen.OverrideOffered(override=an_override(token="0" * 64)))

    yard.taps()

    assert [each.outcome for each in yard.told(DecisionMade)] == [Outcome.REFUSED]
    assert yard.told(DecisionMade)[0].warnings == ()


@pytest.mark.parametrize("seed", range(12))
def test_no_order_of_taps_restarts_replays_and_clock_jumps_uses_one_twice(tmp_path: Path, seed: int) -> None:
    """Everything that a restart knows comes out of the real journal."""
    draw = random.Random(seed)
    yard = stranded()
    offers = [an_override(id=f"o-{number}") for number in range(3)]
    with_journal = open_journal(tmp_path, now=yard.now)
    written = 0

    def keep() -> None:
        nonlocal written
        new = [fact for fact in yard.journal[written:] if isinstance(fact, OverrideReceived | OverrideUsed)]
        written = len(yard.journal)
        if new:
            with_journal.append([(fact, yard.now) for fact in new])

    for _ in range(40):
        match draw.choice(("offer", "ask", "ask", "restart", "jump", "back", "wait")):
            case "offer":
                yard.tell(seen.OverrideOffered(override=draw.choice(offers)))
            case "ask":
                yard.tell(
                    seen.DecisionRequested(request="r", presented=presented(), charger="bay", place=a_request().place)
                )
            case "restart":
                keep()
                state = yard.agent.state
                fresh = State(policy=state.policy, reachable=state.reachable)
                yard.agent = Agent(yard.agent.setup, fresh)
                yard.tell(seen.Woken(version="test", sessions=(), history=history_of(with_journal)))
            case "jump":
                yard.now = replace(yard.now, utc=yard.now.utc + timedelta(days=draw.choice((1, 400))))
            case "back":
                yard.now = replace(yard.now, utc=NOON)
            case "wait":
                yard.passes(minutes=1)
        keep()
    with_journal.close()

    used = [each.override for each in yard.told(OverrideUsed)]
    assert len(used) == len(set(used))


# Break-glass codes


def says(yard: Yard, code: str, uid: str = CARD) -> Any:
    told = Told(code=Code(code=code, why="no signal"))
    return yard.tell(seen.Tapped(reader="door", presented=presented(uid), request="r", told=told))


def test_a_code_lets_one_card_charge_once_without_a_clock_or_a_connection() -> None:
    yard = stranded(break_glass=SECRET)
    yard.now = replace(yard.now, quality=ClockQuality.UNKNOWN)

    effects = says(yard, code_of(SECRET, 1, MINE))

    (made,), (used,) = yard.told(DecisionMade), yard.told(OverrideUsed)
    assert made.outcome is Outcome.OVERRIDE
    assert (used.override, used.counter, used.why, used.jws) == ("break-glass-1", 1, "no signal", None)
    assert of(StartCharging, effects)[0].max_energy_wh == MAX_ENERGY_WH


def test_a_code_gives_no_more_than_the_root_allows() -> None:
    yard = stranded(replace(NOWHERE, override_energy_wh=1_000), break_glass=SECRET)

    assert of(StartCharging, says(yard, code_of(SECRET, 1, MINE)))[0].max_energy_wh == 1_000


@pytest.mark.parametrize(
    "code",
    [
        pytest.param(code_of(SECRET, 1, "0" * 64), id="of another card"),
        pytest.param(code_of(secret_of(b"the fleet's key", "van-8"), 1, MINE), id="of another device"),
        pytest.param(code_of(SECRET, AHEAD + 1, MINE), id="too far ahead"),
    ],
)
def test_a_code_of_another_card_or_device_is_none(code: str) -> None:
    yard = stranded(break_glass=SECRET)

    says(yard, code)

    assert [each.outcome for each in yard.told(DecisionMade)] == [Outcome.REFUSED]
    assert len(yard.told(CodeTried)) == 1


def test_a_used_code_and_those_before_it_are_spent() -> None:
    yard = stranded(break_glass=SECRET)
    second = code_of(SECRET, 2, MINE)
    session = of(StartCharging, says(yard, second))[0].session
    yard.started(session, 0)
    yard.stopped(10, session)

    for code in (second, code_of(SECRET, 1, MINE)):
        says(yard, code)

    assert [each.outcome for each in yard.told(DecisionMade)] == [Outcome.OVERRIDE, Outcome.REFUSED, Outcome.REFUSED]


def test_guessing_is_slow() -> None:
    yard = stranded(break_glass=SECRET)
    for _ in range(6):
        says(yard, "00000000")

    says(yard, code_of(SECRET, 1, MINE))
    assert len(yard.told(CodeTried)) == 5
    assert yard.told(OverrideUsed) == []

    yard.passes(minutes=15)
    says(yard, code_of(SECRET, 1, MINE))
    assert len(yard.told(OverrideUsed)) == 1


def test_a_device_without_a_secret_takes_no_codes() -> None:
    yard = stranded()

    says(yard, code_of(SECRET, 1, MINE))

    assert [each.outcome for each in yard.told(DecisionMade)] == [Outcome.REFUSED]
    assert yard.told(CodeTried) == []
