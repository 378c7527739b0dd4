"""The worked examples of the OCPI specification (mod_tariffs, mod_cdrs), with its two errata.

The tariffs are built here from the numbers in the prose; the files of the specification (CC BY-ND) are not copied.
"""

from __future__ import annotations

from dataclasses import dataclass
from datetime import UTC, datetime
from decimal import Decimal

import pytest

from agent.core.tariff.calculator import price
from agent.core.tariff.records import ChargeRecord, Total
from agent.core.tariff.tariffs import Basis, Tariff
from tests.tariffs.tariff_building import a_limit, a_period, a_price, a_record, a_tariff, an_element

SATURDAY = datetime(2026, 3, 7, 13, 30, tzinfo=UTC)
WEEKDAYS = frozenset(range(5))

START_FEE = a_price("FLAT", "0.50", vat=20)
ENERGY = a_price("ENERGY", "0.25", vat=10)
SIMPLE = a_tariff(ENERGY)
WITH_START = a_tariff(an_element(START_FEE, ENERGY))
WITH_MINIMUM = a_tariff(ENERGY, min_price=a_limit("0.50", "0.55"))
WITH_PARKING = a_tariff(an_element(START_FEE, ENERGY, a_price("PARKING_TIME", 2, vat=20, step=900)))
WITH_MAXIMUM = a_tariff(
    an_element(START_FEE, ENERGY), max_price=a_limit(10, 11), valid_until=datetime(2019, 6, 30, 23, 59, tzinfo=UTC)
)
BEFORE_ITS_END = datetime(2019, 6, 1, 10, tzinfo=UTC)
TWO_AN_HOUR = a_tariff(a_price("TIME", 2, vat=10, step=60))
CANADA_EXCLUSIVE = a_tariff(a_price("TIME", 2, taxed=False), currency="CAD")
CANADA_INCLUSIVE = a_tariff(a_price("TIME", "2.10", taxed=False), currency="CAD", basis=Basis.GROSS)
THREE_AND_FIVE = a_tariff(an_element(a_price("TIME", 3, vat=10, step=60), a_price("PARKING_TIME", 5, vat=20, step=300)))
ALT_TEXT = a_tariff(a_price("TIME", "1.90", vat="5.2", step=300))
ALT_URL = a_tariff(an_element(START_FEE, a_price("ENERGY", "0.25", vat=10, step=100)))
ALT_URL_TODAY = a_tariff(an_element(START_FEE, a_price("ENERGY", "0.22", vat=10, step=100)))
COMPLEX = a_tariff(
    a_price("FLAT", "2.50", vat=15),
    an_element(a_price("TIME", 1, vat=20, step=900), max_current_a=32),
    an_element(a_price("TIME", 2, vat=20, step=600), min_current_a=32, days_of_week=WEEKDAYS),
    an_element(a_price("TIME", "1.25", vat=20, step=600), min_current_a=32, days_of_week=frozenset((5, 6))),
    an_element(
        a_price("PARKING_TIME", 5, vat=10, step=300), start_minute="09:00", end_minute="18:00", days_of_week=WEEKDAYS
    ),
    an_element(
        a_price("PARKING_TIME", 6, vat=10, step=300),
        start_minute="10:00",
        end_minute="17:00",
        days_of_week=frozenset((5,)),
    ),
)
FREE = a_tariff(a_price("FLAT", 0))
CHARGE = an_element(START_FEE, ENERGY)
RESERVATION = a_tariff(an_element(a_price("TIME", 5, vat=20, step=60), reservation="RESERVATION"), CHARGE)
RESERVATION_FEE = a_tariff(
    an_element(a_price("FLAT", 2, vat=20), a_price("TIME", 5, vat=20, step=300), reservation="RESERVATION"), CHARGE
)
EXPIRE_FEE = a_tariff(
    an_element(a_price("FLAT", 4, vat=20), reservation="RESERVATION_EXPIRES"),
    an_element(a_price("TIME", 2, vat=20, step=600), reservation="RESERVATION"),
    CHARGE,
)
EXPIRE_TIME = a_tariff(
    an_element(a_price("TIME", 6, vat=20, step=600), reservation="RESERVATION_EXPIRES"),
    an_element(a_price("TIME", 3, vat=20, step=600), reservation="RESERVATION"),
    CHARGE,
)
STEPS = a_tariff(
    an_element(
        a_price("TIME", "1.20", step=1800),
        a_price("PARKING_TIME", 1, step=900),
        start_minute="00:00",
        end_minute="17:00",
    ),
    an_element(
        a_price("TIME", "2.40", step=900),
        a_price("PARKING_TIME", 1, step=900),
        start_minute="17:00",
        end_minute="20:00",
    ),
    an_element(a_price("TIME", "2.40", step=900), start_minute="20:00", end_minute="23:59"),
)
MAX_POWER = a_tariff(
    an_element(a_price("ENERGY", "0.20", vat=20), max_power_kw=16),
    an_element(a_price("ENERGY", "0.35", vat=20), max_power_kw=32),
    a_price("ENERGY", "0.50", vat=20),
)
MAX_DURATION = a_tariff(
    an_element(a_price("ENERGY", 0, vat=20), max_duration_s=1800),
    an_element(a_price("ENERGY", "0.25", vat=20), max_duration_s=3600),
    a_price("ENERGY", "0.40", vat=20),
)

TWO_AND_A_HALF_HOURS = a_record(a_period(time=150))


def charged(kwh: str) -> ChargeRecord:
    return a_record(a_period(kwh=kwh, time=60))


def reserved(minutes: int) -> ChargeRecord:
    return a_record(a_period(reservation=minutes), a_period(minutes, kwh=20))


def at(hour: int, minute: int) -> datetime:
    return datetime(2026, 3, 2, hour, minute, tzinfo=UTC)


@dataclass(frozen=True)
class Example:
    name: str
    tariff: Tariff
    record: ChargeRecord
    net: str | None
    gross: str | None = "any"


MONDAY_16_AMPERE = a_record(
    a_period(time=165, min_current_a=16, max_current_a=16), a_period(165, parking=42), minutes=207
)
SATURDAY_43_AMPERE = a_record(
    a_period(time=114, min_current_a=43, max_current_a=43), a_period(114, parking=71), start=SATURDAY, minutes=185
)

EXAMPLES = [
    Example("tariff_8, 20 kWh", SIMPLE, charged("20"), "5.00", "5.50"),
    Example("tariff_9, 20 kWh", WITH_START, charged("20"), "5.50", "6.10"),
    Example("tariff_12, 20 kWh", WITH_MINIMUM, charged("20"), "5.00", "5.50"),
    Example("tariff_12, 1 kWh", WITH_MINIMUM, charged("1"), "0.50", "0.55"),
    Example(
        "tariff_10, 20 kWh and 40 min",
        WITH_PARKING,
        a_record(a_period(kwh=20, time=60), a_period(60, parking=40)),
        "7.00",
        "7.90",
    ),
    Example(
        "tariff_6, 50 kWh", WITH_MAXIMUM, a_record(a_period(kwh=50, time=60), start=BEFORE_ITS_END), "10.00", "11.00"
    ),
    Example(
        "tariff_6, 30 kWh", WITH_MAXIMUM, a_record(a_period(kwh=30, time=60), start=BEFORE_ITS_END), "8.00", "8.85"
    ),
    Example("tariff_1, 2.5 h", TWO_AN_HOUR, TWO_AND_A_HALF_HOURS, "5.00", "5.50"),
    Example("tariff_19, 2.5 h", CANADA_EXCLUSIVE, TWO_AND_A_HALF_HOURS, "5.00", None),
    Example("tariff_20, 2.5 h", CANADA_INCLUSIVE, TWO_AND_A_HALF_HOURS, None, "5.25"),
    Example(
        "tariff_13, 2.5 h and 42 min",
        THREE_AND_FIVE,
        a_record(a_period(time=150), a_period(150, parking=42)),
        "11.25",
        "12.75",
    ),
    Example("tariff_2, 2.5 h", ALT_TEXT, TWO_AND_A_HALF_HOURS, "4.75", "4.997"),
    Example("tariff_3, 20.45 kWh (erratum a: with the step)", ALT_URL, charged("20.45"), "5.625", "6.2375"),
    Example("tariff_3 at 0.22", ALT_URL_TODAY, charged("20.45"), "5.01", "5.561"),
    Example("tariff_4, Monday", COMPLEX, MONDAY_16_AMPERE, "9.00", "10.30"),
    Example("tariff_4, Saturday (erratum b: 114 min at 1.25)", COMPLEX, SATURDAY_43_AMPERE, "12.375", "13.975"),
    Example("tariff_5", FREE, a_record(a_period(kwh=50, time=60), a_period(60, parking=600)), "0", "0"),
    Example("tariff_15, 15 min", RESERVATION, reserved(15), "6.75", "7.60"),
    Example("tariff_16, 13 min", RESERVATION_FEE, reserved(13), "8.75", "10.00"),
    Example("tariff_17, 22 min", EXPIRE_FEE, reserved(22), "6.50", "7.30"),
    Example("tariff_18, 22 min", EXPIRE_TIME, reserved(22), "7.00", "7.90"),
    Example("tariff_17, 1 h expired", EXPIRE_FEE, a_record(a_period(reservation=60)), "6.00", "7.20"),
    Example("tariff_18, 1.5 h expired", EXPIRE_TIME, a_record(a_period(reservation=90)), "9.00", "10.80"),
    Example(
        "tariff_14, 16:55",
        STEPS,
        a_record(a_period(time=5), a_period(5, time=5), a_period(10, parking=2), start=at(16, 55)),
        "0.55",
    ),
    Example("tariff_14, 16:35", STEPS, a_record(a_period(time=25), a_period(25, time=10), start=at(16, 35)), "1.30"),
    Example(
        "tariff_14, 19:40",
        STEPS,
        a_record(a_period(time=12), a_period(12, parking=8), a_period(20, parking=12), start=at(19, 40)),
        "0.73",
    ),
    Example(
        "max_power",
        MAX_POWER,
        a_record(
            a_period(kwh=1, min_power_kw=6, max_power_kw=6),
            a_period(10, kwh=40, min_power_kw=48, max_power_kw=48),
            a_period(60, kwh="0.5", min_power_kw=4, max_power_kw=4),
        ),
        "20.30",
    ),
    Example("max_duration", MAX_DURATION, a_record(a_period(kwh=5), a_period(30, kwh="1.2"), minutes=40), "0.30"),
    Example(
        "mod_cdrs, step 500 Wh",
        a_tariff(
            an_element(a_price("ENERGY", "0.20", step=500), end_minute="17:00"), a_price("ENERGY", "0.27", step=500)
        ),
        a_record(a_period(kwh="4.3"), a_period(30, kwh="1.1"), start=at(16, 30)),
        "1.184",  # 4.3 at 0.20 and 1.2 at 0.27
    ),
    Example(
        "mod_cdrs, step 10 min",
        a_tariff(an_element(a_price("TIME", 5, step=600), end_minute="17:00"), a_price("TIME", 7, step=600)),
        a_record(a_period(time=6), a_period(6, time=22), start=at(16, 54)),
        "3.30",  # 6 min at 5 and 24 min at 7
    ),
    Example(
        "mod_cdrs, 21 min charging, 7 min parking, step 5 min",
        a_tariff(a_price("TIME", 60, step=300), a_price("PARKING_TIME", 60, step=300)),
        a_record(a_period(time=21), a_period(21, parking=7)),
        "31",
    ),
    Example(
        "mod_cdrs, 21 min charging, 16 min parking, step 10 min",
        a_tariff(a_price("TIME", 60, step=600), a_price("PARKING_TIME", 120, step=600)),
        a_record(a_period(time=21), a_period(21, parking=16)),
        "61",
    ),
    *(
        Example(
            f"PriceComponent, 115.2 Wh, step {step}",
            a_tariff(a_price("ENERGY", "0.25", step=step)),
            charged("0.1152"),
            net,
        )
        for step, net in ((1, "0.029"), (25, "0.03125"), (500, "0.125"))
    ),
]


@pytest.mark.parametrize("example", EXAMPLES, ids=lambda example: example.name)
def test_the_worked_examples_of_the_specification_cost_what_it_prints_or_what_its_errata_say(example: Example) -> None:
    found = price(example.record, (example.tariff,)).totals[Total.COST]
    assert near(found.net) == (None if example.net is None else Decimal(example.net))
    if example.gross != "any":
        assert near(found.gross) == (None if example.gross is None else Decimal(example.gross))


def near(value: Decimal | None) -> Decimal | None:
    """The minutes of the examples are no finite decimals of an hour."""
    return None if value is None else round(value, 12)
