"""What a running session costs by its tariff, told as it runs, the same after a power cut, and never above its cap."""

from __future__ import annotations

import json
import random
from collections.abc import Iterator
from dataclasses import replace
from datetime import UTC, datetime
from decimal import Decimal
from typing import Any

import pytest

from agent.core import facts
from agent.core.agent import Agent
from agent.core.effects import WakeAt
from agent.core.facts import SessionEnded, SessionFact, SessionMetered, SessionPriced
from agent.core.instants import ClockQuality
from agent.core.memory import State
from agent.core.prices import PriceCaps, plain_prices
from agent.core.quotes import Quote
from agent.core.running_cost import Tally, bill_by, cost_of, counted
from agent.core.sessions import Session, facts_of, fold
from agent.core.tariff.tariffs import Basis
from agent.ocpi.quotes import QuoteUnfit, quote_of, read_quote
from tests.core.builders import Yard, a_group, a_policy, a_yard, charging_yard, of, recorded

Json = dict[str, Any]


def a_component(kind: str, price: str, *, vat: str = "20", step: int = 1) -> Json:
    return {"type": kind, "price": Number(price), "vat": Number(vat), "step_size": step}


class Number(str):
    """Written into the JSON as it is."""


def a_quote(*elements: Json | list[Json], zone: str | None = "Europe/Berlin", **fields: Any) -> Quote:
    """Components alone are an element without restrictions."""
    listed = [each if isinstance(each, dict) else {"price_components": each} for each in elements]
    document = {"country_code": "DE", "party_id": "ABC", "id": "T1", "currency": "EUR", "elements": listed, **fields}
    return read_quote(written(document), zone)


def written(value: object) -> str:
    if isinstance(value, Number):
        return str(value)
    if isinstance(value, dict):
        return "{" + ",".join(f"{json.dumps(name)}:{written(each)}" for name, each in value.items()) + "}"
    if isinstance(value, list):
        return "[" + ",".join(map(written, value)) + "]"
    return json.dumps(value)


def restricted(components: list[Json], **restrictions: Any) -> Json:
    return {"price_components": components, "restrictions": restrictions}


ENERGY = a_quote([a_component("FLAT", "1.00"), a_component("ENERGY", "0.50")])
TEN_EUR = PriceCaps(currency="EUR", basis=Basis.GROSS, session=Decimal(10))


def charging(quote: Quote, caps: PriceCaps | None = None) -> Yard:
    return charging_yard(a_policy(a_group(prices=caps)), quotes={"bay": quote})


def gross(yard: Yard) -> Decimal | None:
    ends = yard.told(SessionEnded)
    cost = ends[-1].cost if ends else yard.told(SessionMetered)[-1].cost
    return None if cost is None else cost.gross


def test_the_tariff_that_was_shown_is_recorded_with_the_session_exactly_as_it_came() -> None:
    yard = charging(ENERGY)

    (fact,) = yard.told(SessionPriced)
    kinds = [type(each).__name__ for each in yard.journal[:3]]
    assert kinds == ["DecisionMade", "SessionAuthorised", "SessionPriced"]
    assert (fact.session, fact.document, fact.zone) == (yard.session.id, ENERGY.document, "Europe/Berlin")
    assert quote_of(fact) == ENERGY


def test_a_sample_says_what_the_session_would_cost_if_it_ended_now_and_the_end_what_it_costs() -> None:
    yard = charging(ENERGY)
    yard.passes(minutes=30)
    yard.metered(1_000 + 5_000, yard.session)

    assert gross(yard) == Decimal("4.2")  # (1.00 + 5 kWh at 0.50) and 20 %
    yard.passes(minutes=30)
    yard.stopped(1_000 + 10_000, yard.session)
    assert gross(yard) == Decimal("7.2")


def test_plain_prices_are_counted_on_each_basis_that_is_known() -> None:
    prices = plain_prices("EUR", basis=Basis.GROSS, per_kwh=Decimal("0.60"), per_hour=Decimal("2"))
    yard = charging_yard(prices={"bay": prices})
    yard.passes(minutes=30)
    yard.stopped(1_000 + 10_000, yard.session)

    (end,) = yard.told(SessionEnded)
    assert end.cost is not None
    assert (end.cost.gross, end.cost.currency) == (Decimal("7"), "EUR")
    assert end.cost.net == Decimal("7")  # a gross price bounds the net one
    assert yard.told(facts.SessionAuthorised)[0].prices == prices


def test_without_a_price_the_cost_is_unknown_and_not_zero() -> None:
    yard = charging_yard()
    yard.passes(minutes=30)
    yard.stopped(2_000, yard.session)

    assert yard.told(SessionEnded)[0].cost is None


def test_local_hours_and_the_time_of_standing_have_their_own_prices() -> None:
    evening = restricted([a_component("ENERGY", "1.00", vat="0")], start_time="13:30", end_time="24:00")
    day = [a_component("ENERGY", "0.50", vat="0"), a_component("PARKING_TIME", "6.00", vat="0")]
    yard = charging(a_quote(evening, day))  # begins at 13:00 in Berlin

    yard.passes(minutes=30)
    yard.metered(1_000 + 4_000, yard.session)
    yard.passes(minutes=30)
    yard.metered(1_000 + 6_000, yard.session)
    yard.passes(minutes=10)
    yard.stopped(1_000 + 6_000, yard.session)

    cost = gross(yard)  # 4 kWh at 0.50, 2 kWh at 1.00, ten minutes at 6 an hour; the tap took two seconds
    assert cost is not None
    assert round(cost, 2) == Decimal("5.00")


STANDING = a_quote([a_component("ENERGY", "0.50"), a_component("PARKING_TIME", "6", step=900)])


def test_a_meter_that_counts_in_large_steps_does_not_make_a_pause_while_power_flows() -> None:
    yard = charging(STANDING)
    for minute, steps in enumerate((0, 1, 1, 2, 2, 3)):  # tenths of a kWh at 3.6 kW: every other minute shows nothing
        yard.passes(minutes=1)
        yard.metered(1_000 + 100 * steps, yard.session, power_w=3_600)
        assert gross(yard) == Decimal("0.06") * steps, minute
    yard.passes(minutes=1)
    yard.metered(1_300, yard.session, power_w=0)
    assert gross(yard) == Decimal("0.18") + Decimal("1.8")


def test_a_stop_that_follows_its_last_reading_costs_no_step_of_parking() -> None:
    bill = bill_by(STANDING, None, datetime(2026, 3, 2, 9, tzinfo=UTC))
    assert bill is not None
    read = counted(Tally(), bill, duration_ms=1_799_600, energy_wh=5_000, power_w=11_000)

    assert cost_of(counted(read, bill, duration_ms=1_800_000, energy_wh=5_000), bill).net == Decimal("2.5")
    assert cost_of(counted(read, bill, duration_ms=1_801_000, energy_wh=5_000), bill).net == Decimal("4.0")


def test_an_interval_that_crosses_a_price_is_cut_there() -> None:
    first = restricted([a_component("ENERGY", "0.20", vat="0")], max_kwh=5)
    yard = charging(a_quote(first, [a_component("ENERGY", "1.00", vat="0")]))
    yard.passes(minutes=30)
    yard.stopped(1_000 + 8_000, yard.session)

    assert gross(yard) == Decimal("4")  # 5 kWh at 0.20 and 3 at 1.00


def test_a_power_cut_changes_no_cost() -> None:
    fast = restricted([a_component("ENERGY", "0.80", vat="0")], min_power=50)
    quote = a_quote(fast, [a_component("ENERGY", "0.30", vat="0"), a_component("TIME", "1.20", vat="0", step=300)])
    whole, cut = charging(quote), charging(quote)

    for yard in (whole, cut):
        for minute, power_w in enumerate((100_000, 100_000, 20_000, 20_000, 60_000, 11_000)):
            yard.passes(minutes=2)
            yard.metered(2_000 + 3_000 * minute, yard.session, power_w=power_w)
    told = [each for each in cut.journal if isinstance(each, SessionFact)]
    again = fold(told, quote_of)
    assert again is not None
    assert again.tally == cut.session.tally
    cut.agent = Agent(cut.agent.setup, State(policy=cut.agent.state.policy))
    cut.wakes([again])
    for yard in (whole, cut):
        yard.finds(charging=True, session=yard.session, meter_wh=18_000)
        yard.passes(minutes=2)
        yard.stopped(20_000, yard.session)

    assert gross(whole) == gross(cut)
    assert gross(whole) is not None


def test_an_open_session_told_again_to_a_new_journal_costs_the_same() -> None:
    fast = restricted([a_component("ENERGY", "0.80", vat="0")], min_power=50)
    yard = charging(a_quote(fast, [a_component("ENERGY", "0.30", vat="0")]))
    for minute, power_w in enumerate((100_000, 20_000, 60_000)):
        yard.passes(minutes=2)
        yard.metered(2_000 + 3_000 * minute, yard.session, power_w=power_w)

    again = fold(facts_of(yard.session), quote_of)

    assert again is not None
    assert again.quote == yard.session.quote
    assert bill_cost(again) == bill_cost(yard.session)


def bill_cost(session: Session) -> object:
    bill = session.bill
    assert bill is not None
    return cost_of(session.tally, bill)


def test_a_clock_that_nobody_vouches_for_gives_no_local_time() -> None:
    yard = a_yard(quotes={"bay": ENERGY})
    yard.now = replace(yard.now, quality=ClockQuality.UNKNOWN)
    bill = bill_by(ENERGY, None, None)

    assert bill is not None
    assert cost_of(counted(Tally(), bill, duration_ms=1_000, energy_wh=1_000), bill).gross == Decimal("1.8")


def test_a_session_has_as_many_periods_as_its_price_changes_and_not_one_a_sample() -> None:
    yard = charging(ENERGY)
    for minute in range(1, 200):
        yard.passes(minutes=1)
        yard.metered(1_000 + minute * 180, yard.session)

    assert len(yard.session.tally.periods) == 1
    assert gross(yard) == (Decimal(1) + Decimal("0.5") * Decimal("0.18") * 199) * Decimal("1.2")


def test_a_car_that_pauses_all_day_does_not_make_the_session_grow_and_costs_the_same() -> None:
    quote = a_quote([a_component("ENERGY", "0.50", vat="0"), a_component("PARKING_TIME", "6.00", vat="0")])
    bill = bill_by(quote, None, datetime(2027, 3, 10, tzinfo=UTC))
    assert bill is not None
    tally, energy_wh = Tally(), 0
    for minute in range(1, 1_401):
        energy_wh += 100 * (minute % 2)
        tally = counted(tally, bill, duration_ms=minute * 60_000, energy_wh=energy_wh)

    assert len(tally.periods) == 500
    assert cost_of(tally, bill).net == Decimal(70) / 2 + 700 * Decimal("0.1")


@pytest.mark.parametrize(
    ("document", "words"),
    [
        ("[]", "one tariff"),
        ("{", "not JSON"),
        ('{"id":"T","currency":"EUR","country_code":"DE","elements":[]}', "empty"),
        (" " * 20_000, "bytes"),
    ],
)
def test_a_tariff_that_is_understood_by_half_is_no_price(document: str, words: str) -> None:
    with pytest.raises(QuoteUnfit, match=words):
        read_quote(document)


def test_an_expired_tariff_is_an_unknown_price() -> None:
    old = a_quote([a_component("ENERGY", "0.50")], end_date_time="2026-01-01T00:00:00Z")
    yard = a_yard(a_policy(a_group(prices=TEN_EUR)), quotes={"bay": old})
    yard.taps()

    (made,) = yard.told(facts.DecisionMade)
    assert made.prices is None
    assert "LIMIT_UNENFORCEABLE" in [reason.code.value for reason in (*made.reasons, *made.warnings)]
    assert not yard.told(SessionPriced)


def test_a_price_cap_sees_the_highest_price_that_may_come_to_apply() -> None:
    dear = restricted([a_component("ENERGY", "0.90")], min_kwh=20)
    caps = PriceCaps(currency="EUR", basis=Basis.NET, per_kwh=Decimal("0.60"))
    quote = a_quote(dear, [a_component("ENERGY", "0.50")])
    yard = a_yard(a_policy(a_group(prices=caps)), quotes={"bay": quote})
    yard.taps()
    narrow = a_yard(a_policy(a_group(prices=caps, max_energy_wh=19_000)), quotes={"bay": quote})
    narrow.taps()

    assert [reason.code.value for reason in yard.told(facts.DecisionMade)[0].reasons] == ["PRICE_CAP"]
    assert narrow.told(facts.DecisionMade)[0].outcome is facts.Outcome.GRANTED


def test_a_charger_that_does_not_tell_its_power_is_stopped_at_the_cap_by_its_mean_power() -> None:
    yard = charging(ENERGY, TEN_EUR)  # 1.00 and 0.50 a kWh, with 20 %: 14.66 kWh are 10 EUR
    yard.passes(minutes=60)
    yard.metered(1_000 + 14_000, yard.session, power_w=None)
    yard.passes(minutes=2)
    yard.tick_after()
    assert not yard.told(facts.SessionStopRequested)
    yard.passes(minutes=1)
    yard.tick_after()
    assert [each.reason for each in yard.told(facts.SessionStopRequested)] == [facts.EndReason.COST_LIMIT]


def test_a_minimum_price_above_the_sessions_cap_refuses_the_session() -> None:
    quote = a_quote([a_component("ENERGY", "0.50")], min_price={"excl_vat": 11, "incl_vat": 13})
    yard = a_yard(a_policy(a_group(prices=TEN_EUR)), quotes={"bay": quote})
    yard.taps()

    assert [reason.code.value for reason in yard.told(facts.DecisionMade)[0].reasons] == ["SESSION_COST_CAP"]


def test_a_maximum_price_below_the_cap_never_stops_a_session() -> None:
    quote = a_quote([a_component("ENERGY", "0.50")], max_price={"excl_vat": 8, "incl_vat": 9})
    yard = charging(quote, TEN_EUR)
    for _ in range(40):
        yard.passes(minutes=5)
        yard.metered((yard.session.meter_last_wh or 0) + 1_000, yard.session)

    assert not yard.told(facts.SessionStopRequested)
    assert gross(yard) == Decimal(9)


# The cap holds: whatever the tariff, the samples and the power


def tariffs(draw: random.Random) -> Quote:
    def component() -> list[Json]:
        kinds = draw.sample(("FLAT", "ENERGY", "TIME", "PARKING_TIME"), draw.randint(1, 3))
        prices = {"FLAT": ("0", "1.5"), "ENERGY": ("0.2", "0.79", "1.3")}
        return [
            a_component(
                kind,
                draw.choice(prices.get(kind, ("0", "1.2", "6"))),
                vat=draw.choice(("0", "19")),
                step=draw.choice((1, 60, 900)),
            )
            for kind in kinds
        ]

    def element() -> Json:
        return restricted(component(), **draw.choice(RESTRICTIONS))

    limits = draw.choice(({}, {}, {"min_price": {"excl_vat": 2, "incl_vat": 2.5}}, {"max_price": {"excl_vat": 9}}))
    return a_quote(*[element() for _ in range(draw.randint(0, 3))], component(), **limits)


RESTRICTIONS: tuple[Json, ...] = (
    {"max_kwh": 4},
    {"min_kwh": 7},
    {"min_power": 15},
    {"max_power": 15},
    {"max_duration": 1_200},
    {"min_duration": 2_400},
    {"start_time": "13:20", "end_time": "14:00"},
)


def stories(draw: random.Random, yard: Yard) -> Iterator[None]:
    """Samples come when they come; between two of them the power is what was told with the first."""
    register = Decimal(1_000)
    power_w = draw.choice((0, 11_000, 22_000, 60_000))
    effects = yard.metered(1_000, yard.session, power_w=power_w)
    due = {each.monotonic_ms for each in of(WakeAt, effects)}
    for _ in range(draw.randint(5, 60)):
        begun, until = yard.now.monotonic_ms, yard.now.monotonic_ms + draw.choice((1_000, 10_000, 60_000, 240_000))
        while yard.now.monotonic_ms < until:
            wakes = [each for each in due if each <= until]
            due -= set(wakes)
            step = (min(wakes) if wakes else until) - yard.now.monotonic_ms
            if step > 0:
                yard.passes(milliseconds=step)
            effects = yard.tick_after() if wakes else ()
            due |= {each.monotonic_ms for each in of(WakeAt, effects)}
            if any(isinstance(fact, facts.SessionStopRequested) for fact in recorded(effects)):
                until = yard.now.monotonic_ms
        register += Decimal(power_w) * (yard.now.monotonic_ms - begun) / 3_600_000
        if yard.told(facts.SessionStopRequested):
            break
        power_w = draw.choice((0, power_w, power_w, 11_000, 22_000, 60_000))
        effects = yard.metered(int(register), yard.session, power_w=power_w)
        due |= {each.monotonic_ms for each in of(WakeAt, effects)}
        if yard.told(facts.SessionStopRequested):
            break
        yield
    yard.stopped(int(register), yard.session)


MANY = pytest.param(600, marks=pytest.mark.slow, id="many")


@pytest.mark.parametrize("count", [pytest.param(40, id="few"), MANY])
def test_no_session_costs_more_than_its_cap_when_it_stops_where_it_is_told_to(count: int) -> None:
    stopped = 0
    for seed in range(count):
        draw = random.Random(seed)
        caps = PriceCaps(currency="EUR", basis=draw.choice(tuple(Basis)), session=Decimal(draw.choice((4, 8))))
        yard = a_yard(a_policy(a_group(prices=caps)), quotes={"bay": tariffs(draw)})
        yard.taps()
        if not yard.agent.state.open_sessions:
            continue
        yard.started(yard.session, 1_000)
        for _ in stories(draw, yard):
            pass
        (end,) = yard.told(SessionEnded)
        assert end.cost is not None
        spent = end.cost.gross if caps.basis is Basis.GROSS else end.cost.net
        assert spent is not None
        assert caps.session is not None
        assert spent <= caps.session, f"seed {seed}"
        stopped += end.reason is facts.EndReason.COST_LIMIT
    assert stopped > count // 5
