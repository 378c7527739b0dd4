"""worst_case() is an upper bound of price(), on both bases, for every session within its limits."""

from __future__ import annotations

from dataclasses import replace
from datetime import datetime, timedelta
from decimal import Decimal
from zoneinfo import ZoneInfo

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from agent.core.tariff.calculator import price
from agent.core.tariff.codes import Code
from agent.core.tariff.matching import Matching, Missing, Reach
from agent.core.tariff.records import Period, Total
from agent.core.tariff.tariffs import Basis, Tariff
from agent.core.tariff.terms import Terms
from agent.core.tariff.worst_case import worst_case
from tests.tariffs.tariff_building import MONDAY, a_limit, a_price, a_record, a_tariff, an_element

BERLIN = ZoneInfo("Europe/Berlin")
KWH, HOUR = Decimal(50), 3600


def ceiling(
    tariff: Tariff, *, kwh: Decimal = KWH, seconds: int = HOUR, zone: ZoneInfo | None = BERLIN
) -> Decimal | None:
    return worst_case(tariff, MONDAY, KWH, HOUR, zone=zone).cost.gross


@pytest.mark.parametrize(
    ("tariff", "expected"),
    [
        (a_tariff(a_price("ENERGY", "0.5", vat=20)), 30),
        (a_tariff(a_price("ENERGY", 1, step=40_000)), 80),
        (a_tariff(a_price("FLAT", 1), a_price("FLAT", 9)), 1),
        (a_tariff(an_element(a_price("FLAT", 9), min_kwh=1), a_price("FLAT", 1)), 9),
        (a_tariff(a_price("TIME", 6, step=60)), 6),
        (a_tariff(a_price("TIME", 6, step=2400)), 8),
        (a_tariff(a_price("TIME", 6, step=900), a_price("PARKING_TIME", 12, step=300)), 12 + Decimal("1.5")),
        (a_tariff(a_price("ENERGY", 1), max_price=a_limit(10, 12)), 12),
        (a_tariff(a_price("ENERGY", 0), min_price=a_limit(10, 12)), 12),
        (a_tariff(an_element(a_price("ENERGY", 9), min_kwh=51), a_price("ENERGY", 1)), 50),
        (a_tariff(an_element(a_price("ENERGY", 9), min_duration_s=3601), a_price("ENERGY", 1)), 50),
        (a_tariff(an_element(a_price("ENERGY", 9), start_minute="12:00"), a_price("ENERGY", 1)), 50),
        (
            a_tariff(an_element(a_price("ENERGY", 9), start_minute="11:30"), a_price("ENERGY", 1)),
            450,
        ),
        (a_tariff(an_element(a_price("ENERGY", 9), days_of_week=frozenset((1,))), a_price("ENERGY", 1)), 50),
        (a_tariff(an_element(a_price("ENERGY", 9), min_power_kw=1000), a_price("ENERGY", 1)), 450),
        (a_tariff(a_price("ENERGY", 1), an_element(a_price("ENERGY", 9), min_kwh=1)), 50),
        (a_tariff(an_element(a_price("TIME", 9), reservation="RESERVATION"), a_price("ENERGY", 1)), 50),
    ],
)
def test_the_bound_is_as_tight_as_what_can_still_happen(tariff: Tariff, expected: Decimal) -> None:
    assert ceiling(tariff) == expected


def test_without_a_zone_no_local_time_is_out_of_reach() -> None:
    tariff = a_tariff(an_element(a_price("ENERGY", 9), start_minute="12:00"), a_price("ENERGY", 1))
    assert ceiling(tariff, zone=None) == 450


def test_unknown_taxes_have_no_bound_after_taxes_unless_a_maximum_price_gives_one() -> None:
    unknown = a_tariff(a_price("ENERGY", 1, taxed=False))
    found = worst_case(unknown, MONDAY, KWH, HOUR)
    assert (found.cost.net, found.cost.gross) == (50, None)
    assert {finding.code for finding in found.findings} == {Code.TAX_UNKNOWN}
    capped = replace(unknown, max_price=a_limit(40, 44))
    assert worst_case(capped, MONDAY, KWH, HOUR).cost.gross == 44


def test_the_payable_bound_is_rounded_up_and_the_single_prices_are_told() -> None:
    tariff = a_tariff(an_element(a_price("ENERGY", "0.333", vat=20), a_price("TIME", 3), a_price("PARKING_TIME", 5)))
    found = worst_case(tariff, MONDAY, Decimal("0.1"), 0)
    assert (found.payable.net, found.per_kwh.gross) == (Decimal("0.04"), Decimal("0.3996"))
    assert (found.per_hour.net, found.per_parking_hour.net, found.fixed.net) == (3, 5, 0)


def test_a_reservation_is_bounded_with_its_fees_when_there_is_one() -> None:
    tariff = a_tariff(
        an_element(a_price("FLAT", 2), a_price("TIME", 6, step=600), reservation="RESERVATION"),
        an_element(a_price("FLAT", 4), a_price("TIME", 12, step=600), reservation="RESERVATION_EXPIRES"),
    )
    assert worst_case(tariff, MONDAY, KWH, HOUR).cost.net == 0
    assert worst_case(tariff, MONDAY, KWH, HOUR, reservation_s=601).cost.net == 2 + 4 + 4


def test_an_element_that_begins_with_the_last_allowed_kwh_still_prices_the_time_after_it() -> None:
    tariff = a_tariff(an_element(a_price("TIME", 6), min_kwh=50))
    later = Period(start=MONDAY + timedelta(minutes=30), time_h=Decimal("0.5"))
    record = a_record(Period(start=MONDAY, energy_kwh=KWH), later)
    assert price(record, (tariff,)).totals[Total.COST].net == 3
    assert worst_case(tariff, MONDAY, KWH, HOUR).cost.net == 6


@pytest.mark.parametrize("missing", Missing)
def test_an_empty_range_of_power_prices_nothing_even_where_no_power_was_measured(missing: Missing) -> None:
    tariff = a_tariff(an_element(a_price("ENERGY", 9), min_power_kw=30, max_power_kw=20), a_price("ENERGY", 1))
    unknown = a_record(Period(start=MONDAY, energy_kwh=KWH))
    varying = a_record(
        Period(start=MONDAY, energy_kwh=KWH, min_power_kw=Decimal(5), max_power_kw=Decimal(40), time_h=Decimal(1))
    )
    for record in (unknown, varying):
        found = price(record, (tariff,), terms=Terms(matching=Matching(missing=missing)))
        assert found.totals[Total.COST].net == 50
    assert worst_case(tariff, MONDAY, KWH, HOUR).cost.net == 50


def test_with_a_price_below_zero_a_limit_on_one_basis_leaves_the_other_without_a_bound() -> None:
    tariff = a_tariff(a_price("ENERGY", 1, vat=7), a_price("FLAT", -5, vat=19), min_price=a_limit(11, None))
    found = worst_case(tariff, MONDAY, Decimal(6), HOUR).cost
    assert (found.net, found.gross) == (11, None)
    both = worst_case(replace(tariff, min_price=a_limit(11, 12)), MONDAY, Decimal(6), HOUR).cost
    assert (both.net, both.gross) == (11, 12)


PRICES = (st.integers(0, 300) | st.sampled_from([-100, -10])).map(lambda cents: Decimal(cents) / 100)
COMPONENTS = st.builds(
    lambda dimension, price_, vat, step, told: a_price(dimension, price_, vat=vat, step=step, taxed=told),
    st.sampled_from(["ENERGY", "TIME", "PARKING_TIME", "FLAT"]),
    PRICES,
    st.sampled_from([None, 0, 7, 19]),
    st.sampled_from([0, 1, 60, 100, 500, 900, 3600]),
    st.sampled_from([True, True, True, True, False]),
)
RESTRICTIONS = st.fixed_dictionaries(
    {},
    optional={
        "min_kwh": st.integers(0, 30),
        "max_kwh": st.integers(0, 30),
        "min_duration_s": st.integers(0, 7200),
        "max_duration_s": st.integers(0, 7200),
        "start_minute": st.sampled_from(["00:00", "03:00", "10:00", "10:45", "12:30", "22:00"]),
        "end_minute": st.sampled_from(["02:30", "06:00", "11:00", "11:30", "24:00"]),
        "days_of_week": st.sampled_from([frozenset((0,)), frozenset((1, 6)), frozenset(range(5))]),
        "min_power_kw": st.integers(0, 30),
        "max_power_kw": st.integers(0, 30),
        "min_current_a": st.integers(0, 30),
        "max_current_a": st.integers(0, 30),
        "reservation": st.sampled_from(["RESERVATION", "RESERVATION_EXPIRES"]),
    },
)
AMOUNTS = st.none() | st.integers(0, 40)
ELEMENTS = st.builds(
    lambda components, restrictions: an_element(*components, **restrictions),
    st.lists(COMPONENTS, min_size=1, max_size=3),
    RESTRICTIONS,
)
# Where nothing else may apply the bound is tight, so that whatever is left out of it shows.
PLAIN = st.builds(
    lambda components, reserved, basis: a_tariff(an_element(*components, **reserved), basis=basis),
    st.lists(COMPONENTS, min_size=1, max_size=2),
    st.sampled_from([{}, {"reservation": "RESERVATION"}]),
    st.sampled_from(Basis),
)
TARIFFS = PLAIN | st.builds(
    lambda elements, low, high, basis: a_tariff(
        *elements, min_price=a_limit(*low), max_price=a_limit(*high), basis=basis
    ),
    st.lists(ELEMENTS, min_size=1, max_size=5),
    st.tuples(AMOUNTS, AMOUNTS),
    st.tuples(AMOUNTS, AMOUNTS),
    st.sampled_from(Basis),
)
PERIODS = st.tuples(
    st.integers(0, 20_000),  # Wh
    st.integers(0, 2400),  # s
    st.sampled_from(["time_h", "parking_h", "reservation_h", None]),
    st.none() | st.integers(0, 40),
)
STARTS = st.sampled_from(
    [MONDAY, datetime.fromisoformat("2026-03-29T00:10+00:00"), datetime.fromisoformat("2026-10-25T00:10+00:00")]
)
TERMS = st.builds(
    lambda missing, reach, split: Terms(matching=Matching(missing=missing, reach=reach), split=split),
    st.sampled_from(Missing),
    st.sampled_from(Reach),
    st.booleans(),
)


SESSIONS = (TARIFFS, st.lists(PERIODS, min_size=1, max_size=5), STARTS, TERMS, st.sampled_from([None, BERLIN]))


@settings(max_examples=100, deadline=None)
@given(*SESSIONS)
def test_no_random_session_costs_more_than_the_worst_case(
    tariff: Tariff,
    drawn: list[tuple[int, int, str | None, int | None]],
    start: datetime,
    terms: Terms,
    zone: ZoneInfo | None,
) -> None:
    assert_bounded(tariff, drawn, start, terms, zone)


@pytest.mark.slow
@settings(max_examples=4000, deadline=None)
@given(*SESSIONS)
def test_no_session_of_thousands_costs_more_than_the_worst_case(
    tariff: Tariff,
    drawn: list[tuple[int, int, str | None, int | None]],
    start: datetime,
    terms: Terms,
    zone: ZoneInfo | None,
) -> None:
    assert_bounded(tariff, drawn, start, terms, zone)


def assert_bounded(
    tariff: Tariff,
    drawn: list[tuple[int, int, str | None, int | None]],
    start: datetime,
    terms: Terms,
    zone: ZoneInfo | None,
) -> None:
    periods, moment, used_s, reserved_s = [], start, 0, 0
    for wh, seconds, kind, power in drawn:
        hours = {} if kind is None else {kind: Decimal(seconds) / 3600}
        volume = Decimal(0) if kind == "reservation_h" else Decimal(wh) / 1000
        kw = None if power is None else Decimal(power)
        periods.append(Period(start=moment, energy_kwh=volume, power_kw=kw, current_a=kw, **hours))
        moment += timedelta(seconds=seconds)
        reserved_s += seconds if kind == "reservation_h" else 0
        used_s += seconds
    record = replace(a_record(end=moment), start=start, periods=tuple(periods))
    kwh = sum((period.energy_kwh for period in periods), Decimal(0))
    bound = worst_case(tariff, start, kwh, used_s, reservation_s=reserved_s, zone=zone)
    found = price(record, (tariff,), zone=zone, terms=terms)
    cost = found.totals[Total.COST]
    for value, high, payable, paid in (
        (cost.net, bound.cost.net, bound.payable.net, found.payable.net),
        (cost.gross, bound.cost.gross, bound.payable.gross, found.payable.gross),
    ):
        if value is not None and high is not None:
            assert value <= high + Decimal("1e-15")
            assert paid is not None
            assert payable is not None
            assert paid <= payable + Decimal("1e-15")
