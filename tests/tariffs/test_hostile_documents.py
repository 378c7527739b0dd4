"""Nothing that a peer sends makes reading, pricing, judging, bounding or linting raise."""

from __future__ import annotations

import json
from decimal import Decimal

from hypothesis import example, given, settings
from hypothesis import strategies as st

from agent.cli.price_report import Report, document, print_tables
from agent.core.tariff.calculator import price
from agent.core.tariff.lint import lint
from agent.core.tariff.rounding import Rounding
from agent.core.tariff.terms import Terms
from agent.core.tariff.verdicts import compare
from agent.core.tariff.worst_case import worst_case
from agent.exact_json import dumps
from agent.ocpi.records import read_records
from agent.ocpi.tariffs import read_tariffs
from tests.tariffs.tariff_building import MONDAY

NUMBERS = st.sampled_from([0, 1, -1, 0.3333, 1e-12, 999_999_999_999, "1e12", "x", None, 2.5, 1e300, "0.10", 60, 900])
TIMES = st.sampled_from(
    [
        *("2026-03-02T09:00:00Z", "2026-03-02T10:30:00Z", "1971-01-01T00:00:00Z", "2200-12-31T23:59:59Z"),
        *("1970-1-1T00:00:00Z", "9999-12-31T23:59:59-12:00", "0001-01-01T00:00:00Z", "soon", None),
    ]
)
CLOCKS = st.sampled_from(["00:00", "09:30", "23:59", "24:00", "25:00", None])
DAYS = st.sampled_from(["0001-01-01", "2026-03-02", "9999-12-31", "2026-13-01", None])
DIMENSIONS = st.sampled_from(
    ["ENERGY", "TIME", "PARKING_TIME", "FLAT", "RESERVATION_TIME", "MAX_POWER", "MIN_CURRENT", "energy", "?", None]
)


def objects(**fields: st.SearchStrategy[object]) -> st.SearchStrategy[dict[str, object]]:
    return st.fixed_dictionaries({}, optional=fields)


COMPONENTS = objects(type=DIMENSIONS, price=NUMBERS, vat=NUMBERS, step_size=NUMBERS)
MONEY = NUMBERS | objects(excl_vat=NUMBERS, incl_vat=NUMBERS) | objects(before_taxes=NUMBERS, after_taxes=NUMBERS)
TARIFFS = objects(
    id=st.sampled_from(["T1", "", None, 7]),
    currency=st.sampled_from(["EUR", "JPY", "eur", "", None]),
    country_code=st.just("NL"),
    tax_included=st.sampled_from(["YES", "NO", "N/A", "?"]),
    min_price=MONEY,
    max_price=MONEY,
    start_date_time=TIMES,
    end_date_time=TIMES,
    elements=st.lists(
        objects(
            price_components=st.lists(
                objects(type=DIMENSIONS, price=NUMBERS, vat=NUMBERS, step_size=NUMBERS), max_size=3
            ),
            restrictions=objects(
                start_time=CLOCKS,
                end_time=CLOCKS,
                start_date=DAYS,
                end_date=DAYS,
                min_kwh=NUMBERS,
                max_kwh=NUMBERS,
                min_duration=NUMBERS,
                max_power=NUMBERS,
                day_of_week=st.lists(st.sampled_from(["MONDAY", "SUNDAY", "x"]), max_size=2),
                reservation=st.sampled_from(["RESERVATION", "RESERVATION_EXPIRES", "x"]),
            ),
        ),
        max_size=4,
    ),
)
RECORDS = objects(
    id=st.just("C1"),
    currency=st.sampled_from(["EUR", "SEK", None]),
    start_date_time=TIMES,
    end_date_time=TIMES,
    total_cost=MONEY,
    total_energy_cost=MONEY,
    total_energy=NUMBERS,
    total_time=NUMBERS,
    credit=st.booleans(),
    charging_periods=st.lists(
        objects(start_date_time=TIMES, dimensions=st.lists(objects(type=DIMENSIONS, volume=NUMBERS), max_size=3)),
        max_size=4,
    ),
)


HUGE = 999_999_999_999
HUGE_PRICES = [{"type": kind, "price": HUGE, "vat": 100, "step_size": HUGE} for kind in ("ENERGY", "TIME", "FLAT")]
HUGE_VOLUMES = [{"type": kind, "volume": HUGE} for kind in ("ENERGY", "TIME", "PARKING_TIME", "RESERVATION_TIME")]
HUGE_PERIOD = {"start_date_time": "1971-01-01T00:00:00Z", "dimensions": HUGE_VOLUMES}
HUGE_TARIFF = {"id": "T1", "currency": "UYW", "country_code": "UY", "elements": [{"price_components": HUGE_PRICES}]}
HUGE_RECORD = {
    "currency": "UYW",
    "start_date_time": "1971-01-01T00:00:00Z",
    "end_date_time": "2200-12-31T23:59:59Z",
    "total_cost": HUGE,
    "charging_periods": [HUGE_PERIOD, {**HUGE_PERIOD, "start_date_time": "2100-01-01T00:00:00Z"}],
}


@settings(max_examples=120, deadline=None)
@example(HUGE_TARIFF, HUGE_RECORD, True)
@example(HUGE_TARIFF, HUGE_RECORD, False)
@given(TARIFFS, RECORDS, st.booleans())
def test_a_hostile_tariff_and_record_are_priced_or_reported_and_never_raise(
    tariff: dict[str, object], cdr: dict[str, object], split: bool
) -> None:
    tariffs = read_tariffs(json.dumps(tariff)).tariffs
    for record in read_records(json.dumps(cdr)).records:
        priced = price(record, tariffs, terms=Terms(split=split))
        comparison = compare(priced, record, Rounding())
        report = Report(
            record=record,
            tariffs=tariffs,
            zone=None,
            priced=priced,
            comparison=comparison,
            findings=priced.findings,
        )
        json.loads(dumps(document(report)))
        if cdr is HUGE_RECORD:
            print_tables(report)
    for one in tariffs:
        lint(one, now=MONDAY)
        worst_case(one, MONDAY, Decimal(50), 3600)
