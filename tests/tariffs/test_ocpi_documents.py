"""OCPI tariffs and charge records of three versions become one model; what is odd becomes a finding."""

from __future__ import annotations

import json
from datetime import UTC, date, datetime
from decimal import Decimal

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from agent.core.findings import Severity, is_sound
from agent.core.tariff.codes import Code
from agent.core.tariff.records import Stated, Total
from agent.core.tariff.tariffs import Basis, Dimension, Phase, PriceLimit, Tariff, TaxRate, Version
from agent.ocpi.records import RecordsRead, read_records
from agent.ocpi.tariffs import TariffsRead, read_tariffs


def a_tariff(component: dict[str, object] | None = None, **fields: object) -> dict[str, object]:
    energy = {"type": "ENERGY", "price": 0.25, "step_size": 1, **(component or {})}
    element = {"price_components": [energy]}
    party = {"country_code": "NL", "party_id": "ABC"}
    return {
        **party,
        "id": "T1",
        "currency": "EUR",
        "elements": [element],
        "last_updated": "2026-01-01T00:00:00Z",
        **fields,
    }


def restricted(**restrictions: object) -> dict[str, object]:
    component = {"type": "ENERGY", "price": 1, "vat": 20, "step_size": 1}
    return a_tariff(elements=[{"price_components": [component], "restrictions": restrictions}])


def a_cdr(**fields: object) -> dict[str, object]:
    period = {"start_date_time": "2026-03-02T09:00:00Z", "dimensions": [{"type": "ENERGY", "volume": 20}]}
    return {
        "id": "C1",
        "currency": "EUR",
        "start_date_time": "2026-03-02T09:00:00Z",
        "end_date_time": "2026-03-02T10:00:00Z",
        "charging_periods": [period],
        "total_cost": {"excl_vat": 5, "incl_vat": 5.5},
        "total_energy": 20,
        "total_time": 1,
        **fields,
    }


def read(document: object) -> TariffsRead:
    return read_tariffs(json.dumps(document))


def only(document: object) -> Tariff:
    (tariff,) = read(document).tariffs
    return tariff


def codes(read_: TariffsRead | RecordsRead) -> set[Code]:
    return {finding.code for finding in read_.findings}


def test_prices_are_read_digit_by_digit_and_never_through_a_float() -> None:
    (tariff,) = read_tariffs(json.dumps(a_tariff()).replace("0.25", "0.1000000000000000055")).tariffs
    assert tariff.elements[0].components[0].price == Decimal("0.1000000000000000055")


@pytest.mark.parametrize(
    ("document", "version", "basis", "taxes"),
    [
        ({"id": "1", "currency": "EUR", "elements": a_tariff()["elements"]}, Version.V2_1_1, Basis.NET, None),
        (a_tariff(), Version.V2_2_1, Basis.NET, ()),
        (a_tariff({"vat": 0}), Version.V2_2_1, Basis.NET, (TaxRate(name="VAT", percent=Decimal(0)),)),
        (a_tariff({"vat": 21}), Version.V2_2_1, Basis.NET, (TaxRate(name="VAT", percent=Decimal(21)),)),
        (a_tariff(tax_included="NO"), Version.V2_3_0, Basis.NET, None),
        (a_tariff(tax_included="YES"), Version.V2_3_0, Basis.GROSS, None),
        (a_tariff(tax_included="N/A"), Version.V2_3_0, Basis.NET, ()),
        (
            a_tariff({"vat": 19}, tax_included="YES"),
            Version.V2_3_0,
            Basis.GROSS,
            (TaxRate(name="VAT", percent=Decimal(19)),),
        ),
    ],
)
def test_each_version_says_differently_what_is_in_a_price(
    document: dict[str, object], version: Version, basis: Basis, taxes: tuple[TaxRate, ...] | None
) -> None:
    tariff = only(document)
    assert (tariff.version, tariff.basis, tariff.elements[0].components[0].taxes) == (version, basis, taxes)


def test_a_2_3_0_tariff_that_does_not_say_whether_taxes_are_included_is_not_sound() -> None:
    found = read_tariffs(json.dumps(a_tariff()), version=Version.V2_3_0)
    assert Code.TAX_UNKNOWN in codes(found)
    assert not is_sound(found.findings)


@pytest.mark.parametrize(
    ("limit", "expected"),
    [
        ({"excl_vat": 1, "incl_vat": 1.2}, PriceLimit(net=Decimal(1), gross=Decimal("1.2"))),
        ({"excl_vat": 1}, PriceLimit(net=Decimal(1))),
        ({"before_taxes": 1, "after_taxes": 1.2}, PriceLimit(net=Decimal(1), gross=Decimal("1.2"))),
    ],
)
def test_price_limits_of_both_generations_are_read(limit: object, expected: PriceLimit) -> None:
    assert only(a_tariff(max_price=limit, tax_included="NO")).max_price == expected


def test_every_restriction_is_read() -> None:
    tariff = only(
        restricted(
            start_time="22:00",
            end_time="00:00",
            start_date="2026-01-01",
            end_date="2027-01-01",
            min_kwh=1,
            max_kwh=2,
            min_current=3,
            max_current=4,
            min_power=5,
            max_power=6,
            min_duration=7,
            max_duration=8,
            day_of_week=["MONDAY", "SUNDAY"],
            reservation="RESERVATION_EXPIRES",
        )
    )
    found = tariff.elements[0].restrictions
    assert (found.start_minute, found.end_minute) == (22 * 60, 24 * 60)
    assert (found.start_date, found.end_date) == (date(2026, 1, 1), date(2027, 1, 1))
    assert [found.min_kwh, found.max_kwh, found.min_current_a, found.max_current_a] == [1, 2, 3, 4]
    assert [found.min_power_kw, found.max_power_kw, found.min_duration_s, found.max_duration_s] == [5, 6, 7, 8]
    assert found.days_of_week == frozenset((0, 6))
    assert found.phase is Phase.RESERVATION_EXPIRES


@pytest.mark.parametrize(
    ("document", "code", "severity", "path"),
    [
        (a_tariff({"price": "0.25"}), Code.NUMBER_AS_TEXT, Severity.WARNING, "$.elements[0].price_components[0].price"),
        (a_tariff({"price": None}), Code.MISSING_FIELD, Severity.ERROR, "$.elements[0].price_components[0].price"),
        (a_tariff({"price": True}), Code.WRONG_TYPE, Severity.ERROR, "$.elements[0].price_components[0].price"),
        (a_tariff({"price": -1}), Code.NEGATIVE_PRICE, Severity.WARNING, "$.elements[0].price_components[0].price"),
        (a_tariff({"vat": 700}), Code.OUT_OF_RANGE, Severity.ERROR, "$.elements[0].price_components[0].vat"),
        (a_tariff({"vat": 0.2}), Code.OUT_OF_RANGE, Severity.WARNING, "$.elements[0].price_components[0].vat"),
        (a_tariff({"type": "energy"}), Code.WRONG_CASE, Severity.WARNING, "$.elements[0].price_components[0].type"),
        (a_tariff({"type": "MAGIC"}), Code.UNKNOWN_VALUE, Severity.ERROR, "$.elements[0].price_components[0].type"),
        (a_tariff({"step_size": 1.5}), Code.STEP_SIZE, Severity.ERROR, "$.elements[0].price_components[0].step_size"),
        (a_tariff(currency="euro"), Code.UNKNOWN_VALUE, Severity.ERROR, "$.currency"),
        (a_tariff(currency="eur"), Code.WRONG_CASE, Severity.WARNING, "$.currency"),
        (a_tariff(elements=[]), Code.MISSING_FIELD, Severity.ERROR, "$.elements"),
        (a_tariff(elements="x"), Code.WRONG_TYPE, Severity.ERROR, "$.elements"),
        (a_tariff(Min_Price={"excl_vat": 1}), Code.WRONG_CASE, Severity.WARNING, "$.Min_Price"),
        (a_tariff(colour="red"), Code.UNKNOWN_FIELD, Severity.INFO, "$.colour"),
        (a_tariff(min_price={"excl_vat": -1}), Code.OUT_OF_RANGE, Severity.ERROR, "$.min_price.excl_vat"),
        (a_tariff(start_date_time="soon"), Code.TIME_FORMAT, Severity.ERROR, "$.start_date_time"),
        (restricted(start_time="25:00"), Code.TIME_FORMAT, Severity.ERROR, "$.elements[0].restrictions.start_time"),
        (restricted(end_time="24:00"), Code.TIME_FORMAT, Severity.WARNING, "$.elements[0].restrictions.end_time"),
        (
            restricted(start_date="2026-02-30"),
            Code.TIME_FORMAT,
            Severity.ERROR,
            "$.elements[0].restrictions.start_date",
        ),
        (
            restricted(day_of_week=["FUNDAY"]),
            Code.UNKNOWN_VALUE,
            Severity.ERROR,
            "$.elements[0].restrictions.day_of_week[0]",
        ),
        ([1], Code.WRONG_TYPE, Severity.ERROR, "$[0]"),
        (7, Code.WRONG_TYPE, Severity.ERROR, "$"),
    ],
)
def test_what_is_wrong_is_told_with_its_code_place_and_weight(
    document: object, code: Code, severity: Severity, path: str
) -> None:
    assert (code, severity, path) in {(f.code, f.severity, f.path) for f in read(document).findings}


@pytest.mark.parametrize(
    "text", ["", "{", "\x00", b"\xff\xfe{", "[" * 100_000, '{"id": NaN}', '{"id": 1e99999999999999999999}']
)
def test_a_broken_document_is_an_error_and_never_an_exception(text: str | bytes) -> None:
    assert not is_sound(read_tariffs(text).findings)
    assert not is_sound(read_records(text).findings)


def test_an_ocpi_response_is_opened_and_a_list_is_read_whole() -> None:
    document = {"data": [a_tariff(), a_tariff(id="T2")], "status_code": 1000}
    assert [tariff.id for tariff in read(document).tariffs] == ["T1", "T2"]


@pytest.mark.parametrize(
    ("text", "moment"),
    [
        ("2026-03-02T09:00:00Z", datetime(2026, 3, 2, 9, tzinfo=UTC)),
        ("2026-03-02T09:00:00", datetime(2026, 3, 2, 9, tzinfo=UTC)),
        ("2026-03-02T09:00:00.250Z", datetime(2026, 3, 2, 9, microsecond=250_000, tzinfo=UTC)),
        ("2026-03-02T10:00:00+01:00", datetime(2026, 3, 2, 9, tzinfo=UTC)),
        ("1970-1-1T00:00:00Z", None),
    ],
)
def test_ocpi_times_are_utc_and_the_epoch_placeholder_is_unknown(text: str, moment: datetime | None) -> None:
    (record,) = read_records(json.dumps(a_cdr(start_date_time=text))).records
    assert record.start == moment


@pytest.mark.parametrize(
    ("total", "expected", "version"),
    [
        (5, Stated(net=Decimal(5), gross=None), Version.V2_1_1),
        ({"excl_vat": 5, "incl_vat": 6}, Stated(net=Decimal(5), gross=Decimal(6)), Version.V2_2_1),
        ({"excl_vat": 5}, Stated(net=Decimal(5), gross=None), Version.V2_2_1),
        (
            {"before_taxes": 5, "taxes": [{"name": "GST", "amount": 0.25}, {"name": "QST", "amount": 0.5}]},
            Stated(net=Decimal(5), gross=Decimal("5.75")),
            Version.V2_3_0,
        ),
    ],
)
def test_stated_totals_of_three_versions_are_net_and_gross(total: object, expected: Stated, version: Version) -> None:
    (record,) = read_records(json.dumps(a_cdr(total_cost=total))).records
    assert (record.stated[Total.COST], record.version) == (expected, version)


def test_a_2_1_1_record_ends_with_stop_date_time_and_its_tariff_has_no_vat() -> None:
    document = a_cdr(total_cost=5, stop_date_time="2026-03-02T11:00:00Z", tariffs=[a_tariff()])
    del document["end_date_time"]
    (record,) = read_records(json.dumps(document)).records
    assert record.end == datetime(2026, 3, 2, 11, tzinfo=UTC)
    assert record.tariffs[0].elements[0].components[0].taxes is None


def test_unknown_dimensions_survive_and_the_token_is_not_read() -> None:
    period = {
        "start_date_time": "2026-03-02T09:00:00Z",
        "dimensions": [
            {"type": "KARMA", "volume": 1},
            {"type": "TIME", "volume": 0.5},
            {"type": "MAX_POWER", "volume": 11},
        ],
    }
    found = read_records(json.dumps(a_cdr(charging_periods=[period], cdr_token={"uid": "04A1B2C3"})))
    (record,) = found.records
    assert (record.periods[0].time_h, record.periods[0].max_power_kw) == (Decimal("0.5"), Decimal(11))
    assert Code.UNKNOWN_VALUE in codes(found)
    assert "04A1B2C3" not in repr(found)


KEYS = [
    *("id", "currency", "elements", "price_components", "type", "price", "vat", "step_size", "restrictions"),
    *("start_time", "day_of_week", "min_kwh", "tax_included", "min_price", "excl_vat", "before_taxes", "taxes"),
    *("charging_periods", "dimensions", "volume", "start_date_time", "total_cost", "tariffs", "data", "reservation"),
]
JSON_VALUES = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=8),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.sampled_from(KEYS), inner, max_size=4),
    max_leaves=12,
)


@settings(max_examples=60, deadline=None)
@given(JSON_VALUES)
def test_no_document_whatsoever_makes_the_readers_raise(document: object) -> None:
    text = json.dumps(document)
    for tariff in read_tariffs(text).tariffs:
        assert all(component.dimension in Dimension for e in tariff.elements for component in e.components)
    read_records(text)
