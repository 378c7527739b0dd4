"""A tariff is looked over: what can never apply, what is missing, what is needless, what is odd."""

from __future__ import annotations

from dataclasses import replace
from datetime import UTC, date, datetime

import pytest

from agent.core.findings import Severity
from agent.core.tariff.codes import Code
from agent.core.tariff.lint import lint
from agent.core.tariff.tariffs import Tariff
from tests.tariffs.tariff_building import a_limit, a_price, a_tariff, an_element

ENERGY = a_price("ENERGY", "0.5")
DEAR = a_price("ENERGY", 1)
TIME = a_price("TIME", 2)
NOW = datetime(2026, 6, 1, tzinfo=UTC)


def found(tariff: Tariff) -> set[tuple[Code, str]]:
    return {(finding.code, finding.path) for finding in lint(tariff, now=NOW)}


def test_a_plain_tariff_has_nothing_to_say() -> None:
    assert lint(a_tariff(an_element(ENERGY, TIME, a_price("FLAT", 1)))) == ()
    assert lint(a_tariff(a_price("FLAT", 0))) == ()


@pytest.mark.parametrize(
    "restrictions",
    [
        {"min_kwh": 5, "max_kwh": 5},
        {"min_power_kw": 50, "max_power_kw": 22},
        {"max_kwh": 0},
        {"min_duration_s": 60, "max_duration_s": 30},
        {"start_minute": "08:00", "end_minute": "08:00"},
        {"start_date": date(2026, 7, 2), "end_date": date(2026, 7, 2)},
        {"start_date": date(2026, 7, 6), "end_date": date(2026, 7, 8), "days_of_week": frozenset((6,))},
        {"days_of_week": frozenset()},
    ],
)
def test_an_element_that_contradicts_itself_can_never_apply(restrictions: dict[str, object]) -> None:
    tariff = a_tariff(an_element(DEAR, **restrictions), ENERGY)
    assert found(tariff) == {(Code.NEVER_APPLIES, "$.elements[0]")}


@pytest.mark.parametrize(
    "earlier",
    [
        [an_element(ENERGY)],
        [an_element(ENERGY, max_kwh=10), an_element(ENERGY, min_kwh=10)],
        [an_element(ENERGY, start_minute="22:00", end_minute="06:00"), an_element(ENERGY, start_minute="06:00")],
        [
            an_element(ENERGY, days_of_week=frozenset(range(5))),
            an_element(a_price("ENERGY", 2), days_of_week=frozenset((5, 6))),
        ],
    ],
)
def test_an_element_behind_others_that_always_match_can_never_apply(earlier: list[object]) -> None:
    tariff = a_tariff(*earlier, an_element(DEAR, min_power_kw=11))  # type: ignore[arg-type]
    assert (Code.NEVER_APPLIES, f"$.elements[{len(earlier)}]") in found(tariff)


def test_a_component_that_is_never_reached_is_needless_when_its_element_has_others() -> None:
    tariff = a_tariff(ENERGY, an_element(DEAR, TIME))
    assert found(tariff) == {(Code.REDUNDANT_COMPONENT, "$.elements[1].price_components[0]")}


def test_a_component_that_changes_no_price_is_needless() -> None:
    tariff = a_tariff(an_element(ENERGY, min_kwh=10), ENERGY)
    assert found(tariff) == {(Code.REDUNDANT_COMPONENT, "$.elements[0].price_components[0]")}


def test_the_same_dimension_twice_in_an_element_is_needless() -> None:
    assert found(a_tariff(an_element(ENERGY, DEAR))) == {
        (Code.REDUNDANT_COMPONENT, "$.elements[0].price_components[1]")
    }


@pytest.mark.parametrize(
    ("element", "words"),
    [
        (an_element(ENERGY, max_kwh=20), "at 20 kWh"),
        (an_element(ENERGY, start_minute="08:00", end_minute="20:00"), "at 00:00"),
        (an_element(ENERGY, days_of_week=frozenset(range(6))), "on Sunday"),
        (an_element(ENERGY, min_power_kw=11), "at 0 kW"),
        (an_element(ENERGY, start_date=date(2026, 1, 1)), "anywhere"),
    ],
)
def test_energy_that_costs_nothing_somewhere_is_a_gap_and_a_warning(element: object, words: str) -> None:
    findings = [finding for finding in lint(a_tariff(element)) if finding.code is Code.GAP]  # type: ignore[arg-type]
    assert [finding.severity for finding in findings] == [Severity.WARNING]
    assert words in findings[0].text or words == "anywhere"


def test_the_last_minute_of_the_day_is_told() -> None:
    tariff = a_tariff(an_element(ENERGY, start_minute="00:00", end_minute="23:59"))
    assert found(tariff) == {(Code.END_OF_DAY, "$.elements[0].restrictions.end_time"), (Code.GAP, "$.elements")}


def test_a_reservation_prices_only_its_fee_and_its_time() -> None:
    tariff = a_tariff(an_element(ENERGY, TIME, reservation="RESERVATION"), ENERGY)
    assert found(tariff) == {(Code.RESERVATION_DIMENSION, "$.elements[0].price_components[0]")}


@pytest.mark.parametrize(
    ("fields", "path"),
    [
        ({"valid_from": NOW, "valid_until": NOW}, "$.end_date_time"),
        ({"valid_until": datetime(2026, 5, 1, tzinfo=UTC)}, "$.end_date_time"),
    ],
)
def test_a_tariff_that_is_over_or_never_begins_is_told(fields: dict[str, object], path: str) -> None:
    assert (Code.DATES, path) in found(a_tariff(ENERGY, **fields))


def test_an_element_outside_of_the_tariffs_time_is_told() -> None:
    tariff = a_tariff(an_element(DEAR, start_date=date(2027, 1, 1)), ENERGY)
    assert found(tariff) == set()
    ending = replace(tariff, valid_until=datetime(2026, 12, 1, tzinfo=UTC))
    assert found(ending) == {(Code.DATES, "$.elements[0].restrictions.start_date")}
    past = a_tariff(an_element(DEAR, end_date=date(2026, 1, 1)), ENERGY)
    assert found(past) == {(Code.DATES, "$.elements[0].restrictions.end_date")}


def test_odd_limits_and_steps_are_told() -> None:
    components = (a_price("ENERGY", 1, step=0), a_price("TIME", 1, step=900))
    tariff = a_tariff(*components, min_price=a_limit(9, 8), max_price=a_limit(5))
    assert [(f.code, f.path) for f in lint(tariff)] == [
        (Code.PRICE_LIMITS, "$.max_price"),
        (Code.PRICE_LIMITS, "$.min_price"),
        (Code.STEP_SIZE, "$.elements[0].price_components[0]"),
        (Code.STEP_SIZE, "$.elements[1].price_components[0]"),
    ]


def test_a_tariff_with_too_many_combinations_is_left_alone_and_said_so() -> None:
    elements = [
        an_element(ENERGY, min_kwh=n, min_power_kw=n, min_duration_s=n, min_current_a=n, start_minute=f"{n % 24:02}:00")
        for n in range(1, 20)
    ]
    assert {code for code, _ in found(a_tariff(*elements))} == {Code.TOO_COMPLEX}
