"""The device's side: reserved before the green light, held while it charges, settled at the end, asked for in time."""

from __future__ import annotations

from dataclasses import replace
from datetime import timedelta
from decimal import Decimal
from typing import Any

import pytest

from agent.core import facts
from agent.core import observations as seen
from agent.core.budgets import MICRO, Budget, Scope, Unit
from agent.core.claims import held_to, reserved_claims
from agent.core.decisions import limits_for
from agent.core.effects import Record, Signal, StartCharging, StopCharging
from agent.core.facts import EndReason, Outcome
from agent.core.instants import ClockQuality
from agent.core.reasons import ReasonCode
from agent.core.texts import refusal_text
from agent.wire import open_record, seal
from tests.budgets.lending_office import JOURNAL, a_budget, a_grant, a_lease, a_lending_yard, prices
from tests.core.builders import CARD, NOON, Yard, a_request, a_tap, a_token, of

SLACK_WH = 31  # at 22 kW, in the five seconds from the order to stop to the stop
MONEY = a_budget(Unit.MONEY)
A_MONEY_LEASE = a_lease(amount=100 * MICRO, per_session=60 * MICRO)


def refusal(yard: Yard) -> str:
    made = yard.told(facts.DecisionMade)[-1]
    return made.reasons[0].code.value if made.outcome is Outcome.REFUSED else made.outcome.value


def lent(*leases: Any, **changes: Any) -> Yard:
    yard = a_lending_yard(**changes)
    yard.tell(a_grant(*(leases or (a_lease(),))))
    return yard


def test_a_reservation_is_in_the_record_that_comes_before_the_green_light():
    yard = lent()
    effects = yard.taps()
    record, signal = next(each for each in effects if isinstance(each, Record)), of(Signal, effects)[0]
    assert effects.index(record) < effects.index(signal)
    authorised = yard.told(facts.SessionAuthorised)[0]
    (use,) = authorised.leases or ()
    assert (use.lease, use.amount, use.reserved, use.consumed, use.count) == ("lease-1", 40_000, 40_000, 0, 1)
    assert yard.told(facts.DecisionMade)[-1].leases == authorised.leases
    assert of(StartCharging, effects)[0].max_energy_wh == 40_000 - SLACK_WH


def test_what_was_not_spent_is_free_again_and_the_end_says_so():
    yard = lent()
    yard.taps()
    yard.started(yard.session, 1_000)
    yard.stopped(13_500, yard.session)
    (use,) = yard.told(facts.SessionEnded)[0].leases or ()
    assert (use.amount, use.consumed, use.reserved, use.count) == (12_500, 12_500, 0, 2)
    assert yard.agent.state.holdings.free("all", yard.now) == 87_500


def test_a_session_is_stopped_inside_its_reservation_at_what_the_charger_is_rated_for():
    yard = lent(a_lease(amount=20_000, per_session=20_000))
    yard.taps()
    yard.started(yard.session, 1_000)
    yard.metered(1_000 + 19_900, yard.session, power_w=11_000)  # 69 Wh are left: 11 s at 22 kW, 22 s at 11 kW
    assert of(StopCharging, yard.tick_after(seconds=10)) == []
    assert of(StopCharging, yard.tick_after(seconds=2))
    assert yard.told(facts.SessionStopRequested)[0].reason is EndReason.ENERGY_LIMIT
    yard.stopped(1_000 + 19_999, yard.session)
    assert yard.agent.state.holdings.held["lease-1"].consumed <= 20_000


def test_a_charger_that_does_not_tell_its_power_is_taken_to_charge_at_what_it_is_rated_for():
    yard = lent(a_lease(amount=20_000, per_session=20_000))
    yard.taps()
    yard.started(yard.session, 1_000)
    yard.metered(1_000 + 19_900, yard.session, power_w=None)
    assert of(StopCharging, yard.tick_after(seconds=10)) == []
    assert of(StopCharging, yard.tick_after(seconds=2))


def test_a_car_that_pauses_near_the_end_of_its_reservation_is_left_to_pause():
    yard = lent(a_lease(amount=20_000, per_session=20_000))
    yard.taps()
    yard.started(yard.session, 1_000)
    yard.metered(1_000 + 19_900, yard.session, power_w=0)
    assert of(StopCharging, yard.tick_after(seconds=60)) == []


def test_money_is_reserved_by_the_worst_case_and_settled_by_the_cost():
    yard = a_lending_yard(MONEY, group={"max_energy_wh": 40_000}, prices={"bay": prices("0.50")})
    yard.tell(a_grant(A_MONEY_LEASE))
    yard.taps()
    (use,) = yard.told(facts.SessionAuthorised)[0].leases or ()
    assert use.amount == 20 * MICRO + 15_500  # 40 kWh at 0.50, and 31 Wh on the way to the stop
    yard.started(yard.session, 1_000)
    yard.stopped(11_000, yard.session)
    ended = yard.told(facts.SessionEnded)[0]
    assert ended.cost is not None
    assert ended.cost.gross == Decimal("5.0000")
    assert [use.consumed for use in ended.leases or ()] == [5 * MICRO]


def test_a_session_without_an_energy_limit_gets_one_from_the_money():
    yard = a_lending_yard(MONEY, prices={"bay": prices("0.50")})
    yard.tell(a_grant(A_MONEY_LEASE))
    effects = yard.taps()
    authorised = yard.told(facts.SessionAuthorised)[0]
    assert [use.amount for use in authorised.leases or ()] == [60 * MICRO]
    assert of(StartCharging, effects)[0].max_energy_wh == 120_000
    assert authorised.cost is not None
    assert authorised.cost.gross == Decimal("59.9845")


@pytest.mark.parametrize(
    ("happened", "code"),
    [
        ("nothing was lent", "LEASE_MISSING"),
        ("too little is left", "LEASE_EMPTY"),
        ("the backend has nothing left", "BUDGET_EXHAUSTED"),
        ("the lease is over", "LEASE_EXPIRED"),
        ("the clock went back to 1970 in another boot", "CLOCK_UNTRUSTED"),
        ("the lease is of another journal", "LEASE_MISSING"),
        ("there is no meter", "LIMIT_UNENFORCEABLE"),
        ("there is no price", "PRICE_UNKNOWN"),
        ("the price is in another currency", "CURRENCY_MISMATCH"),
        ("nobody knows whose budget it is", "LEASE_MISSING"),
    ],
)
def test_a_refusal_says_why(happened: str, code: str):
    yard = situation(happened)
    yard.taps()
    assert refusal(yard) == code
    assert yard.told(facts.SessionAuthorised) == []
    reason = yard.told(facts.DecisionMade)[-1].reasons[0]
    assert reason.observed
    assert reason.limit


def situation(happened: str) -> Yard:
    lease = a_lease()
    match happened:
        case "nothing was lent":
            return a_lending_yard()
        case "too little is left":
            return lent(a_lease(amount=39_999))
        case "the backend has nothing left":
            yard = a_lending_yard()
            yard.tell(a_grant(used_up={"all": NOON + timedelta(days=9)}))
            return yard
        case "the lease is over":
            yard = lent(lease)
            yard.passes(days=3, seconds=1)
            yard.agent.state = replace(yard.agent.state, policy=fresh(yard))
            return yard
        case "the clock went back to 1970 in another boot":
            yard = lent(lease)
            yard.now = replace(yard.now, boot="boot-2", utc=NOON.replace(year=1970), quality=ClockQuality.UNKNOWN)
            return yard
        case "the lease is of another journal":
            return lent(a_lease(journal="another"))
        case "there is no meter":
            return lent(lease, unmetered=frozenset({"bay"}))
        case "there is no price":
            yard = a_lending_yard(MONEY)
        case "the price is in another currency":
            told = replace(prices(), currency="CHF")
            yard = a_lending_yard(MONEY, prices={"bay": told})
        case _:
            yard = a_lending_yard(a_budget(scope=Scope.DRIVER))
    yard.tell(a_grant(A_MONEY_LEASE))
    return yard


def fresh(yard: Yard) -> Any:
    policy = yard.agent.state.policy
    assert policy is not None
    return replace(policy, confirmed=yard.now.utc, confirmed_ms=yard.now.monotonic_ms)


@pytest.mark.parametrize("code", ["LEASE_MISSING", "LEASE_EMPTY", "LEASE_EXPIRED", "BUDGET_EXHAUSTED"])
@pytest.mark.parametrize("language", ["en", "de", "fr", "nl"])
def test_each_refusal_has_words_in_every_language(code: str, language: str):
    reason = facts.Reason(code=ReasonCode(code), rule="within_budget")
    assert refusal_text((reason,), language)
    if language != "en":
        assert refusal_text((reason,), language) != refusal_text((reason,), "en")


def test_a_budget_that_only_advises_warns_and_counts_nothing():
    yard = a_lending_yard(a_budget(advisory=True))
    yard.taps()
    made = yard.told(facts.DecisionMade)[-1]
    assert (made.outcome, [each.code.value for each in made.warnings]) == (Outcome.GRANTED, ["LEASE_MISSING"])
    assert yard.told(facts.SessionAuthorised)[0].leases is None


def test_every_budget_that_binds_must_hold_and_each_is_reserved():
    token = a_token(CARD, driver="anna")
    budgets = (
        a_budget(id="fleet"),
        a_budget(Unit.SESSIONS, id="drivers", scope=Scope.DRIVER),
        a_budget(id="north", scope=Scope.COST_CENTRE, of="4711"),
        a_budget(id="south", scope=Scope.COST_CENTRE, of="9999"),
    )
    yard = a_lending_yard(*budgets)
    leases = [
        a_lease(1, budget="fleet"),
        a_lease(2, budget="drivers/anna", amount=2, per_session=1),
        a_lease(3, budget="north/4711", per_session=10_000),
    ]
    yard.tell(a_grant(*leases[:2]))
    yard.tell(a_tap(CARD, token))
    assert refusal(yard) == "LEASE_MISSING"
    yard.tell(a_grant(*leases, number=2))
    yard.tell(a_tap(CARD, token))
    authorised = yard.told(facts.SessionAuthorised)[0]
    assert {use.budget: use.amount for use in authorised.leases or ()} == {
        "fleet": 40_000,
        "drivers/anna": 1,
        "north/4711": 10_000,
    }
    assert authorised.max_energy_wh == 10_000 - SLACK_WH


def test_a_session_that_never_began_costs_nothing_and_one_whose_end_was_missed_costs_all():
    yard = lent()
    yard.taps()
    yard.tick_after(minutes=3)
    assert [use.consumed for use in yard.told(facts.SessionEnded)[0].leases or ()] == [0]
    yard.taps()
    yard.started(yard.session, 1_000)
    yard.unplugs()
    assert [use.consumed for use in yard.told(facts.SessionEnded)[1].leases or ()] == [40_000]


def test_a_reservation_may_lie_in_two_leases_the_one_that_ends_first_is_used_first():
    early = a_lease(1, amount=15_000, spend_until=NOON + timedelta(days=1))
    yard = lent(a_lease(2, amount=100_000), early)
    yard.taps()
    assert [(use.lease, use.amount) for use in yard.told(facts.SessionAuthorised)[0].leases or ()] == [
        ("lease-1", 15_000),
        ("lease-2", 25_000),
    ]
    yard.started(yard.session, 1_000)
    yard.stopped(21_000, yard.session)
    assert [(use.lease, use.consumed) for use in yard.told(facts.SessionEnded)[0].leases or ()] == [
        ("lease-1", 15_000),
        ("lease-2", 5_000),
    ]


def test_an_older_or_repeated_grant_gives_nothing_back():
    yard = lent()
    for _ in range(2):
        yard.taps()
        yard.started(yard.session, 1_000)
        yard.stopped(41_000, yard.session)
        for number in (1, 2, 1, 3):
            yard.tell(a_grant(a_lease(), number=number))
    assert yard.agent.state.holdings.free("all", yard.now) == 20_000
    yard.passes(days=4)
    yard.tell(seen.Tick())  # it is over, and given back
    yard.tell(a_grant(number=4))  # the backend has counted that
    assert dict(yard.agent.state.holdings.held) == {}
    yard.now = replace(yard.now, utc=NOON)
    yard.tell(a_grant(a_lease(), number=5))
    assert dict(yard.agent.state.holdings.held) == {}


def test_leases_are_asked_for_when_the_link_comes_when_half_is_gone_and_when_they_grow_old():
    yard = a_lending_yard(online=False)
    assert yard.told(facts.BudgetAsked) == []
    yard.tell(seen.LinkChanged(up=True))
    assert [[want.budget for want in each.wants] for each in yard.told(facts.BudgetAsked)] == [["all"]]
    yard.tick_after(minutes=1)
    assert len(yard.told(facts.BudgetAsked)) == 1  # nobody is asked twice in a minute
    yard.tell(a_grant(a_lease()))
    yard.tick_after(minutes=31)
    assert len(yard.told(facts.BudgetAsked)) == 1  # there is enough
    yard.tick_after(days=2)
    assert len(yard.told(facts.BudgetAsked)) == 2  # it is half over


def test_a_lease_that_is_over_is_given_back_once_no_session_runs_on_it():
    yard = lent()
    yard.taps()
    yard.started(yard.session, 1_000)
    yard.tick_after(days=4)
    assert [each.closed for each in yard.told(facts.BudgetAsked) if each.closed] == []
    yard.stopped(11_000, yard.session)
    (closed,) = [use for each in yard.told(facts.BudgetAsked) for use in each.closed]
    assert (closed.lease, closed.consumed, closed.reserved) == ("lease-1", 10_000, 0)


def test_a_replaced_lease_is_given_back_with_the_taking_of_the_new_one():
    yard = lent()
    yard.tell(a_grant(a_lease(), a_lease(2), number=2, replaces=("lease-1",)))
    assert [use.lease for each in yard.told(facts.BudgetAsked) for use in each.closed] == ["lease-1"]
    assert yard.agent.state.holdings.free("all", yard.now) == 100_000


def test_a_clock_that_stands_still_does_not_make_a_lease_last():
    yard = lent()
    yard.now = replace(yard.now, monotonic_ms=yard.now.monotonic_ms + 4 * 24 * 3_600_000)
    yard.taps()
    assert refusal(yard) == "LEASE_EXPIRED"


def test_an_old_record_without_leases_is_read_as_ever():
    yard = a_lending_yard(a_budget(advisory=True))
    yard.taps()
    fact = yard.told(facts.SessionAuthorised)[0]
    body = seal(fact, sequence=1, previous="0" * 64, journal=JOURNAL, source="/fleets/a/devices/b", now=yard.now)
    assert b"leases" not in body
    assert open_record(body).fact == fact


def test_a_budget_says_what_it_counts_for_people():
    assert MONEY.spelled(12_345_600) == "12.3456 EUR"
    assert a_budget().spelled(30_000) == "30 kWh"
    assert Budget(id="a", scope=Scope.FLEET, unit=Unit.SESSIONS, limit=3).spelled(3) == "3 sessions"


@pytest.mark.parametrize("unit", [Unit.ENERGY, Unit.MONEY])
def test_from_its_record_it_can_be_worked_out_again_how_far_a_session_could_go(unit: Unit):
    budget = a_budget(unit)
    yard = a_lending_yard(budget, prices={"bay": prices("0.50")}, group={"max_duration_s": 7_200})
    yard.tell(a_grant(A_MONEY_LEASE if unit is Unit.MONEY else a_lease()))
    yard.taps()
    made = yard.told(facts.DecisionMade)[-1]
    policy = yard.agent.state.policy
    assert policy is not None
    token = a_token(CARD)
    request = a_request(token, place=made.place, prices=made.prices)
    limits = limits_for(request, token, policy, yard.now)
    claims = reserved_claims(made.leases or (), policy.budgets, request, limits, yard.now)
    again = held_to(limits, claims, request)
    assert (again.max_energy_wh, again.cost) == (made.max_energy_wh, made.cost)
    assert again.max_energy_wh is not None


def test_what_is_used_up_is_asked_for_seldom_but_soon_when_somebody_was_refused():
    yard = a_lending_yard()
    yard.tell(a_grant(used_up={"all": NOON + timedelta(days=9)}))
    for _ in range(6):
        yard.tick_after(minutes=30)
    assert len(yard.told(facts.BudgetAsked)) == 1
    yard.taps()
    assert refusal(yard) == "BUDGET_EXHAUSTED"
    yard.tick_after(minutes=1)
    assert len(yard.told(facts.BudgetAsked)) == 2


def test_nothing_is_asked_for_where_room_is_only_left_for_the_ends_of_sessions():
    yard = a_lending_yard(online=False)
    yard.tell(seen.StorageChanged(full=True))
    yard.tell(seen.LinkChanged(up=True))
    assert yard.told(facts.BudgetAsked) == []
    yard.tell(seen.StorageChanged(full=False))
    assert len(yard.told(facts.BudgetAsked)) == 1
