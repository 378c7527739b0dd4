"""The calculator beyond the worked examples: repairs, missing data, limits, rounding, time zones, properties."""

from __future__ import annotations

from dataclasses import replace
from datetime import UTC, datetime, timedelta
from decimal import Decimal
from zoneinfo import ZoneInfo

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from agent.core.findings import Severity
from agent.core.tariff.calculator import AS_USUAL, price
from agent.core.tariff.codes import Code
from agent.core.tariff.matching import Matching, Missing, Reach
from agent.core.tariff.priced import Item
from agent.core.tariff.records import ChargeRecord, Pause, Period, Total
from agent.core.tariff.rounding import Mode, Rounding, Scope, exponent
from agent.core.tariff.tariffs import Basis, Tariff, TaxRate
from agent.core.tariff.terms import Parking, Terms
from tests.tariffs.tariff_building import MONDAY, a_limit, a_period, a_price, a_record, a_tariff, an_element

ONE_A_KWH = a_tariff(a_price("ENERGY", 1))
SPLIT = Terms(split=True)
BERLIN = ZoneInfo("Europe/Berlin")


def net(record: ChargeRecord, tariff: Tariff, *, terms: Terms = AS_USUAL, zone: ZoneInfo | None = None) -> Decimal:
    found = price(record, (tariff,), terms=terms, zone=zone).totals[Total.COST].net
    assert found is not None
    return round(found, 12)


def codes(record: ChargeRecord, *tariffs: Tariff, terms: Terms = AS_USUAL) -> set[Code]:
    return {finding.code for finding in price(record, tariffs, terms=terms).findings}


# what is repaired and said


@pytest.mark.parametrize(
    ("record", "code", "cost"),
    [
        (a_record(a_period(30, kwh=2), a_period(kwh=1)), Code.PERIODS_UNSORTED, 3),
        (a_record(a_period(30, kwh=2), a_period(30, kwh=2)), Code.PERIOD_REPEATED, 2),
        (a_record(a_period(kwh=-2), a_period(30, kwh=2)), Code.NEGATIVE_VOLUME, 2),
        (a_record(a_period(-30, kwh=1), minutes=60), Code.PERIOD_OUTSIDE_SESSION, 1),
        (a_record(a_period(90, kwh=1), minutes=60), Code.PERIOD_OUTSIDE_SESSION, 1),
        (a_record(a_period(kwh=1, time=60), a_period(30, kwh=1), minutes=60), Code.PERIODS_OVERLAP, 2),
        (a_record(a_period(kwh=1, time=60), minutes=90), Code.TIME_DIFFERS_FROM_STAMPS, 1),
        (a_record(a_period(kwh=1), minutes=-60), Code.SESSION_ENDS_BEFORE_START, 1),
        (a_record(total_energy_kwh=Decimal(7), total_time_h=Decimal(1)), Code.PERIODS_MISSING, 7),
        (a_record(a_period(kwh=1), total_energy_kwh=Decimal(7)), Code.TOTAL_DIFFERS_FROM_PERIODS, 1),
        (a_record(a_period(kwh=1, start=None), a_period(kwh=2)), Code.TIME_UNKNOWN, 3),
        (a_record(a_period(kwh=1, tariff_id="T9")), Code.TARIFF_ID_DIFFERS, 1),
        (a_record(a_period(kwh=1), currency="SEK"), Code.CURRENCY_DIFFERS, 1),
    ],
)
def test_a_broken_record_is_mended_and_the_repair_is_told(record: ChargeRecord, code: Code, cost: int) -> None:
    assert net(record, ONE_A_KWH) == cost
    assert code in codes(record, ONE_A_KWH)


def test_a_record_without_periods_or_totals_or_tariff_costs_nothing_and_says_so() -> None:
    assert net(a_record(), ONE_A_KWH) == 0
    assert codes(a_record(a_period(kwh=1))) == {Code.NO_TARIFF}


def test_a_sound_record_has_no_findings() -> None:
    record = a_record(a_period(kwh=1, time=30), a_period(30, parking=30), minutes=60, total_energy_kwh=Decimal(1))
    assert codes(record, ONE_A_KWH) == set()


def test_hours_of_four_decimals_are_not_billed_a_block_too_many() -> None:
    record = a_record(a_period(time_h=Decimal("0.1667")), minutes=10)
    tariff = a_tariff(a_price("TIME", 6, step=300))
    assert net(record, tariff) == 1  # 600.12 s are 600, not 900
    assert Code.STEP_GUARD_USED in codes(record, tariff)


def test_a_whole_number_of_seconds_is_never_guarded() -> None:
    record = a_record(
        *(a_period(minutes, time_h=Decimal("0.01")) for minutes in range(9)), a_period(9, time_h="0.0175")
    )
    assert net(record, a_tariff(a_price("TIME", 3600))) == 9 * 36 + 63


def test_a_step_of_zero_does_not_round() -> None:
    assert net(a_record(a_period(kwh="0.0004")), a_tariff(a_price("ENERGY", 1, step=0))) == Decimal("0.0004")


def test_a_period_is_priced_by_the_tariff_that_it_names() -> None:
    record = a_record(a_period(kwh=1, tariff_id="t1"), a_period(30, kwh=1, tariff_id="CHEAP"))
    cheap = a_tariff(a_price("ENERGY", "0.1"), id="Cheap")
    assert price(record, (ONE_A_KWH, cheap)).totals[Total.COST].net == Decimal("1.1")


def test_a_tariff_that_was_not_in_force_at_the_start_is_told() -> None:
    late = replace(ONE_A_KWH, valid_from=MONDAY + timedelta(seconds=1))
    over = replace(ONE_A_KWH, valid_until=MONDAY)
    for tariff in (late, over):
        assert Code.TARIFF_NOT_IN_FORCE in codes(a_record(a_period(kwh=1)), tariff)


# missing data


POWER = a_tariff(an_element(a_price("ENERGY", 2), min_power_kw=20), a_price("ENERGY", 1))
CURRENT = a_tariff(an_element(a_price("ENERGY", 2), min_current_a=20), a_price("ENERGY", 1))


@pytest.mark.parametrize(
    ("missing", "kwh", "power", "current"),
    [
        (Missing.AVERAGE, 30, 60, 30),
        (Missing.AVERAGE, 10, 10, 10),
        (Missing.NO_MATCH, 30, 30, 30),
        (Missing.MATCH, 1, 2, 2),
    ],
)
def test_missing_power_and_current_follow_the_declared_rule_and_are_told(
    missing: Missing, kwh: int, power: int, current: int
) -> None:
    record = a_record(a_period(kwh=kwh, time=60))
    terms = Terms(matching=Matching(missing=missing))
    assert (net(record, POWER, terms=terms), net(record, CURRENT, terms=terms)) == (power, current)
    assert Code.POWER_UNKNOWN in codes(record, POWER, terms=terms)
    assert Code.CURRENT_UNKNOWN in codes(record, CURRENT, terms=terms)


@pytest.mark.parametrize(("reach", "cost"), [(Reach.SPAN, 2), (Reach.PEAK, 2), (Reach.TROUGH, 1)])
def test_a_period_that_spans_a_threshold_follows_the_declared_rule(reach: Reach, cost: int) -> None:
    record = a_record(a_period(kwh=1, min_power_kw=5, max_power_kw=25))
    assert net(record, POWER, terms=Terms(matching=Matching(reach=reach))) == cost


def test_the_element_drops_out_again_when_the_power_leaves_the_range() -> None:
    record = a_record(
        a_period(kwh=1, power_kw=20), a_period(10, kwh=1, power_kw="19.99"), a_period(20, kwh=1, power_kw=25)
    )
    assert net(record, POWER) == 5


def test_a_maximum_of_power_is_exclusive() -> None:
    tariff = a_tariff(an_element(a_price("ENERGY", 1), max_power_kw=20), a_price("ENERGY", 2))
    assert net(a_record(a_period(kwh=1, power_kw=20)), tariff) == 2
    assert net(a_record(a_period(kwh=1, power_kw="19.9")), tariff) == 1


def test_pauses_of_the_station_are_not_parking_unless_the_old_meaning_is_asked_for() -> None:
    record = a_record(a_period(parking=60, pause=Pause.STATION))
    tariff = a_tariff(a_price("PARKING_TIME", 6))
    assert net(record, tariff) == 0
    assert Code.STATION_PAUSE_NOT_PARKING in codes(record, tariff)
    assert net(record, tariff, terms=Terms(parking=Parking.NOT_CHARGING)) == 6


# restrictions


@pytest.mark.parametrize(
    ("start", "cost"),
    [
        ("2026-03-02T21:59", 1),
        ("2026-03-02T22:00", 2),
        ("2026-03-03T00:00", 2),
        ("2026-03-03T05:59", 2),
        ("2026-03-03T06:00", 1),
    ],
)
def test_a_window_that_wraps_reaches_into_the_next_day(start: str, cost: int) -> None:
    night = a_tariff(an_element(a_price("ENERGY", 2), start_minute="22:00", end_minute="06:00"), a_price("ENERGY", 1))
    record = a_record(a_period(kwh=1), start=datetime.fromisoformat(start + "+00:00"))
    assert net(record, night, zone=ZoneInfo("UTC")) == cost


@pytest.mark.parametrize(
    ("moment", "cost"),
    [
        ("2026-03-29T00:59", 1),  # 01:59 local
        ("2026-03-29T01:00", 1),  # 03:00 local, 02:xx does not exist
        ("2026-10-25T00:30", 2),  # 02:30 local, the first time
        ("2026-10-25T01:30", 2),  # 02:30 local, the second time
        ("2026-10-25T02:00", 1),  # 03:00 local
    ],
)
def test_a_local_hour_that_does_not_exist_never_applies_and_one_that_comes_twice_applies_twice(
    moment: str, cost: int
) -> None:
    tariff = a_tariff(an_element(a_price("ENERGY", 2), start_minute="02:00", end_minute="03:00"), a_price("ENERGY", 1))
    record = a_record(a_period(kwh=1), start=datetime.fromisoformat(moment + "+00:00"))
    assert net(record, tariff, zone=BERLIN) == cost


def test_splitting_follows_the_local_clock_through_both_changes_of_the_hour() -> None:
    tariff = a_tariff(an_element(a_price("TIME", 1), start_minute="02:00", end_minute="03:00"))
    for start, hours in (("2026-03-28T23:00", 0), ("2026-10-24T22:00", 2), ("2026-07-01T22:00", 1)):
        record = a_record(a_period(time=360), start=datetime.fromisoformat(start + "+00:00"))
        assert net(record, tariff, zone=BERLIN, terms=SPLIT) == hours


def test_a_window_inside_the_hour_that_comes_twice_is_found_twice_and_one_over_the_gap_from_its_end() -> None:
    for window, start, hours in (
        (("02:15", "02:45"), "2026-10-24T22:00", 1),
        (("02:30", "04:00"), "2026-03-28T23:00", 1),
    ):
        tariff = a_tariff(an_element(a_price("TIME", 1), start_minute=window[0], end_minute=window[1]))
        record = a_record(a_period(time=360), start=datetime.fromisoformat(start + "+00:00"))
        assert net(record, tariff, zone=BERLIN, terms=SPLIT) == hours


def test_the_duration_of_a_charge_begins_after_its_reservation_and_that_of_a_reservation_with_itself() -> None:
    tariff = a_tariff(
        an_element(a_price("TIME", 60), max_duration_s=600, reservation="RESERVATION"),
        an_element(a_price("TIME", 600), max_duration_s=600),
    )
    reserved = (a_period(reservation=10), a_period(10, reservation=10))
    record = a_record(*reserved, a_period(20, time=10), a_period(30, time=10))
    assert net(record, tariff) == 10 + 100


def test_the_fee_of_an_expired_reservation_is_added_to_that_of_the_reservation() -> None:
    tariff = a_tariff(
        an_element(a_price("FLAT", 4), reservation="RESERVATION_EXPIRES"),
        an_element(a_price("FLAT", 2), reservation="RESERVATION"),
    )
    assert net(a_record(a_period(reservation=10)), tariff) == 6
    assert net(a_record(a_period(reservation=10), a_period(10, kwh=1)), tariff) == 2


@pytest.mark.parametrize(
    ("restrictions", "cost"),
    [
        ({"min_kwh": 10}, 10 + 2 * 10),
        ({"max_kwh": 5}, 2 * 5 + 15),
        ({"min_duration_s": 1800}, 10 + 2 * 10),
        ({"max_duration_s": 900}, 2 * 5 + 15),
        ({"start_minute": "10:00"}, 10 + 2 * 10),
        ({"days_of_week": frozenset((1,))}, 20),
    ],
)
def test_a_period_is_cut_where_a_restriction_changes_only_when_asked(
    restrictions: dict[str, object], cost: int
) -> None:
    tariff = a_tariff(an_element(a_price("ENERGY", 2), **restrictions), a_price("ENERGY", 1))
    record = a_record(a_period(kwh=20, time=60), minutes=60)
    zone = ZoneInfo("UTC")
    assert net(record, tariff, terms=SPLIT, zone=zone) == cost
    trusting = price(record, (tariff,), zone=zone)
    assert trusting.totals[Total.COST].net in (20, 40)
    assert (Code.PERIOD_CROSSES_BOUNDARY in {f.code for f in trusting.findings}) is (cost != 20)


def test_an_unknown_time_zone_is_an_error_only_when_the_tariff_asks_for_the_local_time() -> None:
    night = a_tariff(an_element(a_price("ENERGY", 2), start_minute="22:00"))
    found = {f.code: f.severity for f in price(a_record(a_period(kwh=1)), (night,)).findings}
    assert found[Code.ZONE_UNKNOWN] is Severity.ERROR
    assert Code.ZONE_UNKNOWN not in codes(a_record(a_period(kwh=1)), ONE_A_KWH)


def test_a_flat_fee_is_charged_once_however_many_periods_match() -> None:
    tariff = a_tariff(an_element(a_price("FLAT", 3), min_kwh=1), a_price("FLAT", 1))
    assert net(a_record(a_period(kwh=1), a_period(10, kwh=1), a_period(20, kwh=1)), tariff) == 1
    only = a_tariff(an_element(a_price("FLAT", 3), min_kwh=1))
    assert net(a_record(a_period(kwh=1), a_period(10, kwh=1), a_period(20, kwh=1)), only) == 3


def test_fixed_prices_of_parking_and_reservation_belong_to_their_own_totals() -> None:
    tariff = a_tariff(
        an_element(a_price("FLAT", 1), reservation="RESERVATION"),
        an_element(a_price("FLAT", 2), a_price("PARKING_TIME", 6)),
    )
    found = price(a_record(a_period(reservation=10), a_period(10, parking=60)), (tariff,)).totals
    assert (found[Total.RESERVATION].net, found[Total.PARKING].net, found[Total.FIXED].net) == (1, 8, 0)


def test_every_line_says_what_it_bills_and_why() -> None:
    record = a_record(a_period(kwh="1.05", time=60))
    tariff = a_tariff(an_element(a_price("FLAT", 1, vat=20)), an_element(a_price("ENERGY", 2, vat=10, step=100)))
    flat, energy, time = price(record, (tariff,)).lines
    assert (flat.item, flat.element, flat.amount.gross) == (Item.FLAT, 0, Decimal("1.2"))
    assert (energy.metered, energy.billed, energy.price, energy.period) == (Decimal("1.05"), Decimal("1.1"), 2, 0)
    assert (energy.amount.net, energy.amount.tax, energy.amount.gross) == (
        Decimal("2.2"),
        Decimal("0.22"),
        Decimal("2.42"),
    )
    assert "step of 100" in energy.why
    assert (time.element, time.amount.net) == (None, 0)
    assert "costs nothing" in time.why


# taxes, limits, rounding


def test_unknown_taxes_no_taxes_and_a_zero_rate_are_three_things() -> None:
    record = a_record(a_period(kwh=1))
    unknown = price(record, (a_tariff(a_price("ENERGY", 1, taxed=False)),)).totals[Total.COST]
    none = price(record, (a_tariff(a_price("ENERGY", 1)),)).totals[Total.COST]
    zero = price(record, (a_tariff(a_price("ENERGY", 1, vat=0)),)).totals[Total.COST]
    assert (unknown.gross, unknown.taxes) == (None, None)
    assert (none.gross, none.taxes) == (1, ())
    assert zero.gross == 1
    assert zero.taxes is not None
    assert zero.taxes[0].percent == 0


def test_what_costs_nothing_has_no_taxes_even_when_nobody_told_them() -> None:
    found = price(a_record(a_period(kwh=1)), (a_tariff(a_price("ENERGY", 0, taxed=False)),)).totals[Total.COST]
    assert (found.net, found.gross) == (0, 0)


def test_prices_that_include_taxes_are_taken_apart() -> None:
    found = price(a_record(a_period(kwh=119)), (a_tariff(a_price("ENERGY", 1, vat=19), basis=Basis.GROSS),))
    assert (found.totals[Total.COST].net, found.totals[Total.COST].gross) == (100, 119)


def test_several_taxes_are_listed_one_by_one() -> None:
    component = replace(
        a_price("ENERGY", 1), taxes=(TaxRate(name="GST", percent=Decimal(5)), TaxRate(name="PST", percent=Decimal(7)))
    )
    taxes = price(a_record(a_period(kwh=100)), (a_tariff(component),)).totals[Total.COST].taxes
    assert taxes is not None
    assert [(tax.name, tax.amount) for tax in taxes] == [("GST", 5), ("PST", 7)]


@pytest.mark.parametrize(
    ("limits", "net_", "gross", "told"),
    [
        ({"max_price": a_limit(5, 5)}, 5, 5, False),
        ({"max_price": a_limit(5, 100)}, 5, 12, False),
        ({"max_price": a_limit(100, 11)}, 10, 11, False),
        ({"max_price": a_limit(5)}, 5, 6, True),
        ({"max_price": a_limit(None, 6)}, 5, 6, True),
        ({"min_price": a_limit(20, 20)}, 20, 20, False),
        ({"min_price": a_limit(20)}, 20, 24, True),
        ({"min_price": a_limit(20, 30), "max_price": a_limit(15, 18)}, 15, 18, False),
    ],
)
def test_both_limits_hold_on_both_bases_independently(
    limits: dict[str, object], net_: int, gross: int, told: bool
) -> None:
    tariff = a_tariff(a_price("ENERGY", 1, vat=20), **limits)
    found = price(a_record(a_period(kwh=10)), (tariff,))
    assert (found.totals[Total.COST].net, found.totals[Total.COST].gross) == (net_, gross)
    assert (Code.LIMIT_ON_ONE_BASIS in {f.code for f in found.findings}) is told
    assert sum(line.amount.net or 0 for line in found.lines) == net_


@pytest.mark.parametrize(
    ("rounding", "payable"),
    [
        (Rounding(), "0.13"),
        (Rounding(mode=Mode.HALF_EVEN), "0.12"),
        (Rounding(scope=Scope.LINE), "0.14"),
        (Rounding(total_decimals=3), "0.125"),
    ],
)
def test_rounding_is_what_the_caller_chose(rounding: Rounding, payable: str) -> None:
    record = a_record(a_period(kwh="0.065"), a_period(10, kwh="0.060"))
    tariff = a_tariff(a_price("ENERGY", 1))
    if rounding.scope is Scope.LINE:
        record = a_record(a_period(kwh="0.065"), a_period(10, kwh="0.065"))
    assert price(record, (tariff,), terms=Terms(rounding=rounding)).payable.net == Decimal(payable)


def test_currencies_have_their_own_minor_units() -> None:
    assert [exponent(code) for code in ("EUR", "JPY", "kwd", "UYW")] == [2, 0, 3, 4]


# properties


PRICES = st.integers(0, 300).map(lambda cents: Decimal(cents) / 100)
STEPS = st.sampled_from([0, 1, 60, 300, 900])
COMPONENTS = st.builds(
    lambda dimension, price_, vat, step: a_price(dimension, price_, vat=vat, step=step),
    st.sampled_from(["ENERGY", "TIME", "PARKING_TIME", "FLAT"]),
    PRICES,
    st.sampled_from([None, 0, 7, 19]),
    STEPS,
)
RESTRICTIONS = st.fixed_dictionaries(
    {},
    optional={
        "min_kwh": st.integers(0, 30),
        "max_kwh": st.integers(0, 30),
        "min_duration_s": st.integers(0, 7200),
        "max_duration_s": st.integers(0, 7200),
        "start_minute": st.sampled_from(["00:00", "09:45", "10:00", "17:00", "22:00"]),
        "end_minute": st.sampled_from(["06:00", "10:30", "11:00", "24:00"]),
        "days_of_week": st.sampled_from([frozenset((0,)), frozenset((1, 2)), frozenset(range(5))]),
        "min_power_kw": st.integers(0, 30),
        "max_power_kw": st.integers(0, 30),
    },
)
ELEMENTS = st.builds(
    lambda components, restrictions: an_element(*components, **restrictions),
    st.lists(COMPONENTS, min_size=1, max_size=3),
    RESTRICTIONS,
)
LIMITS = st.tuples(st.integers(0, 20), st.integers(20, 60)).map(
    lambda pair: {
        "min_price": a_limit(pair[0], pair[0] + 1),
        "max_price": a_limit(pair[1], pair[1] + 2),
    }
)
TARIFFS = st.builds(
    lambda elements, limits: a_tariff(*elements, **limits),
    st.lists(ELEMENTS, min_size=1, max_size=4),
    LIMITS | st.just({}),
)
# 36 s is 0.01 h: hours without an error in their last decimal.
VOLUMES = st.tuples(st.integers(0, 200), st.integers(0, 60), st.booleans(), st.integers(0, 40))


def a_session(volumes: list[tuple[int, int, bool, int]]) -> ChargeRecord:
    periods: list[Period] = []
    start = MONDAY
    for tenths_kwh, units, parked, kw in volumes:
        hours = Decimal(units) / 100
        time_h, parking_h = (Decimal(0), hours) if parked else (hours, Decimal(0))
        periods.append(
            Period(
                start=start,
                energy_kwh=Decimal(tenths_kwh) / 10,
                time_h=time_h,
                parking_h=parking_h,
                power_kw=Decimal(kw),
            )
        )
        start += timedelta(seconds=36 * units)
    return a_record(*periods, end=start)


SESSIONS = st.lists(VOLUMES, min_size=1, max_size=6).map(a_session)
UTC_ZONE = ZoneInfo("UTC")
QUICK = settings(max_examples=50, deadline=None)


@QUICK
@given(TARIFFS, SESSIONS, st.randoms(use_true_random=False))
def test_the_order_of_periods_does_not_matter(tariff: Tariff, record: ChargeRecord, random: object) -> None:
    shuffled = list(record.periods)
    random.shuffle(shuffled)  # type: ignore[attr-defined]
    other = replace(record, periods=tuple(replace(one, index=index) for index, one in enumerate(shuffled)))
    assert price(other, (tariff,), zone=UTC_ZONE).totals == price(record, (tariff,), zone=UTC_ZONE).totals


@QUICK
@given(TARIFFS, SESSIONS)
def test_the_total_lies_between_both_limits_on_both_bases(tariff: Tariff, record: ChargeRecord) -> None:
    found = price(record, (tariff,), zone=UTC_ZONE).totals[Total.COST]
    by_line = price(record, (tariff,), zone=UTC_ZONE, terms=Terms(rounding=Rounding(scope=Scope.LINE))).payable
    for value, low, high in (
        (found.net, tariff.min_price.net, tariff.max_price.net),
        (found.gross, tariff.min_price.gross, tariff.max_price.gross),
        (by_line.net, tariff.min_price.net, tariff.max_price.net),
        (by_line.gross, tariff.min_price.gross, tariff.max_price.gross),
    ):
        assert value is not None
        assert low is None or low <= value
        assert high is None or value <= high


TRUSTING = st.lists(COMPONENTS, min_size=1, max_size=4).map(lambda components: (a_tariff(*components), AS_USUAL))
CUTTING = TARIFFS.map(lambda tariff: (tariff, SPLIT))


@QUICK
@given(TRUSTING | CUTTING, SESSIONS, st.data())
def test_splitting_a_period_without_changing_any_value_leaves_the_total_unchanged(
    chosen: tuple[Tariff, Terms], record: ChargeRecord, data: st.DataObject
) -> None:
    """Trusting the periods, where no restriction can change within one; cutting them, with any restrictions."""
    tariff, terms = chosen
    index = data.draw(st.integers(0, len(record.periods) - 1))
    period = record.periods[index]
    stop = [*(p.start for p in record.periods[1:]), record.end][index]
    assert period.start is not None
    assert stop is not None
    units = (stop - period.start) // timedelta(seconds=36)
    if units < 2:
        return
    first = data.draw(st.integers(1, units - 1))
    parts = [
        replace(
            period,
            start=begin,
            energy_kwh=round(period.energy_kwh * some / units, 20),
            time_h=period.time_h * some / units,
            parking_h=period.parking_h * some / units,
        )
        for begin, some in (
            (period.start, first),
            (period.start + timedelta(seconds=36 * first), units - first),
        )
    ]
    periods = (*record.periods[:index], *parts, *record.periods[index + 1 :])
    other = replace(record, periods=tuple(replace(one, index=i) for i, one in enumerate(periods)))
    before = price(record, (tariff,), zone=UTC_ZONE, terms=terms).totals[Total.COST]
    after = price(other, (tariff,), zone=UTC_ZONE, terms=terms).totals[Total.COST]
    assert before.net is not None
    assert after.net is not None
    assert round(after.net, 9) == round(before.net, 9)


def test_a_thousand_periods_are_priced_one_by_one() -> None:
    record = a_record(*(a_period(minute, kwh="0.1", time_h=Decimal("0.01")) for minute in range(1000)))
    assert net(record, ONE_A_KWH) == 100
    assert record.start == datetime(2026, 3, 2, 9, 30, tzinfo=UTC)
