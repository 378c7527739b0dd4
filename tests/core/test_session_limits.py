"""A session is stopped when it reaches its limit, by the first limit that it reaches, and not after."""

from __future__ import annotations

from dataclasses import replace
from datetime import UTC, datetime
from decimal import Decimal
from typing import Any

import pytest

from agent.core import facts
from agent.core import observations as seen
from agent.core.effects import StopCharging, WakeAt
from agent.core.facts import EndReason, SessionStopRequested
from agent.core.limits import Limits
from agent.core.prices import PriceCaps, plain_prices
from agent.core.tariff.tariffs import Basis, Component, Dimension, Element, Restrictions, Tariff, TaxRate
from agent.core.tariff_prices import prices_of
from tests.core.builders import Yard, a_group, a_policy, charging_yard, of, recorded

TEN_EUR = PriceCaps(currency="EUR", basis=Basis.GROSS, session=Decimal(10))
HALF_EUR = {"per_kwh": Decimal("0.50")}


def stops(effects: Any) -> list[str]:
    return [fact.reason.value for fact in recorded(effects) if isinstance(fact, SessionStopRequested)]


def wakes_after_ms(yard: Yard, effects: Any) -> list[int]:
    return [each.monotonic_ms - yard.now.monotonic_ms for each in of(WakeAt, effects)]


def priced(caps: PriceCaps = TEN_EUR, **prices: Any) -> Yard:
    here = plain_prices("EUR", basis=Basis.GROSS, **prices)
    return charging_yard(a_policy(a_group(prices=caps)), prices={"bay": here})


def test_a_session_stops_when_its_time_is_over_and_not_after() -> None:
    yard = charging_yard(a_policy(max_duration_s=3_600))

    early = yard.tick_after(seconds=3_599, milliseconds=999)

    assert (stops(early), wakes_after_ms(yard, early)) == ([], [1])
    on_time = yard.tick_after(milliseconds=1)
    assert stops(on_time) == ["TimeLimitReached"]
    assert of(StopCharging, on_time)


def test_the_time_of_a_session_goes_on_over_a_reboot() -> None:
    yard = charging_yard(a_policy(max_duration_s=3_600))
    left = yard.reboots(minutes=50)
    yard.wakes(left)
    yard.finds(charging=True, session=left[0], meter_wh=2_000)

    assert stops(yard.tick_after(minutes=9)) == []
    assert stops(yard.tick_after(minutes=1)) == ["TimeLimitReached"]


def test_energy_is_stopped_at_the_limit_between_two_samples_of_the_meter() -> None:
    yard = charging_yard(a_policy(max_energy_wh=10_000))

    sampled = yard.metered(1_000 + 4_500, yard.session, power_w=11_000)

    assert wakes_after_ms(yard, sampled) == [30 * 60_000]
    assert stops(yard.tick_after(minutes=29, seconds=59)) == []
    assert stops(yard.tick_after(seconds=1)) == ["EnergyLimitReached"]


def test_a_sample_corrects_what_was_expected() -> None:
    yard = charging_yard(a_policy(max_energy_wh=10_000))
    yard.metered(1_000 + 4_500, yard.session, power_w=11_000)
    yard.passes(minutes=29)

    slower = yard.metered(1_000 + 5_500, yard.session, power_w=1_000)

    assert stops(slower) == []
    assert stops(yard.tick_after(minutes=5)) == []
    assert stops(yard.metered(1_000 + 10_000, yard.session)) == ["EnergyLimitReached"]


def test_a_session_stops_at_its_target_state_of_charge_when_the_charger_tells_it() -> None:
    yard = charging_yard(a_policy(target_soc_percent=80))

    def told(meter_wh: int, soc: int | None) -> Any:
        return yard.tell(seen.Metered(charger="bay", session=None, meter_wh=meter_wh, power_w=11_000, soc_percent=soc))

    assert [stops(told(2_000, None)), stops(told(3_000, 79)), stops(told(4_000, 80))] == [[], [], ["SOCLimitReached"]]


@pytest.mark.parametrize(
    ("prices", "power_w", "after_s"),
    [  # after 10 kWh in no time
        (HALF_EUR, 20_000, 1_800),  # 5.00 so far, 10.00 an hour
        ({**HALF_EUR, "fixed": Decimal(1)}, 20_000, 1_440),  # 6.00 so far
        ({**HALF_EUR, "per_hour": Decimal(5)}, 10_000, 1_800),  # 10.00 an hour together
        ({"per_hour": Decimal(10)}, None, 3_600),
        ({"per_parking_hour": Decimal(20)}, 20_000, 1_800),  # it may be parking any moment
    ],
)
def test_a_session_stops_when_it_has_cost_so_much(prices: Any, power_w: int, after_s: int) -> None:
    yard = priced(**prices)

    sampled = yard.metered(1_000 + 10_000, yard.session, power_w=power_w)

    assert wakes_after_ms(yard, sampled) == [after_s * 1_000]
    assert stops(yard.tick_after(seconds=after_s - 1)) == []
    assert stops(yard.tick_after(seconds=1)) == ["LocalOutOfCredit"]


def test_what_is_free_costs_nothing_for_ever() -> None:
    yard = priced(replace(TEN_EUR, session=Decimal(0)))

    assert stops(yard.metered(90_000, yard.session)) == []
    assert stops(yard.tick_after(hours=48)) == []


def test_limits_are_those_of_the_grant_also_after_a_kill() -> None:
    policy = a_policy(a_group(prices=TEN_EUR, max_duration_s=36_000, target_soc_percent=90))
    yard = charging_yard(policy, prices={"bay": plain_prices("EUR", basis=Basis.GROSS, **HALF_EUR)})
    (authorised,) = yard.told(facts.SessionAuthorised)
    (made,) = yard.told(facts.DecisionMade)
    yard.wakes(yard.dies())

    yard.finds(charging=True, session=yard.session, meter_wh=2_000)

    assert (authorised.max_duration_s, authorised.target_soc_percent) == (36_000, 90)
    assert authorised.cost is not None
    assert (authorised.cost, authorised.max_duration_s) == (made.cost, made.max_duration_s)
    assert stops(yard.metered(1_000 + 20_000, yard.session)) == [EndReason.COST_LIMIT.value]


def test_a_tariff_counts_by_the_dearest_prices_that_may_come_to_apply() -> None:
    taxes = (TaxRate(name="VAT", percent=Decimal(20)),)
    cheap, dear = (
        Element(
            components=(Component(dimension=Dimension.ENERGY, price=Decimal(price), taxes=taxes),),
            restrictions=Restrictions(min_kwh=least),
        )
        for price, least in (("0.90", Decimal(5)), ("0.30", None))
    )
    start, end = datetime(2027, 3, 10, 12, tzinfo=UTC), datetime(2027, 4, 1, tzinfo=UTC)
    tariff = Tariff(id="t", currency="EUR", elements=(cheap, dear), valid_until=end)

    few, many = (prices_of(tariff, start, Limits(max_energy_wh=wh), None) for wh in (3_000, 8_000))

    assert few is not None
    assert many is not None
    assert (few.per_kwh.net, few.per_kwh.gross, few.until) == (Decimal("0.30"), Decimal("0.36"), end)
    assert many.per_kwh.net == Decimal("0.90")
    assert prices_of(tariff, end, Limits(), None) is None
