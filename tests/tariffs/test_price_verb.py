"""`roamkey price` and `roamkey tariff lint`: totals under OCPI's names, the verdict, exit codes."""

from __future__ import annotations

import argparse
import json
from decimal import Decimal
from pathlib import Path

import pytest

from agent.cli import price, tariff
from agent.core.tariff.matching import Missing, Reach
from agent.core.tariff.rounding import Mode, Scope
from agent.core.tariff.tariffs import Version
from agent.core.tariff.terms import Parking
from agent.exact_json import dumps

TARIFF = {
    "country_code": "NL",
    "party_id": "ABC",
    "id": "T1",
    "currency": "EUR",
    "elements": [
        {
            "price_components": [
                {"type": "FLAT", "price": 0.5, "vat": 20, "step_size": 1},
                {"type": "ENERGY", "price": 0.25, "vat": 10, "step_size": 1},
                {"type": "PARKING_TIME", "price": 2, "vat": 20, "step_size": 900},
            ]
        }
    ],
    "last_updated": "2026-01-01T00:00:00Z",
}


def a_cdr(**fields: object) -> dict[str, object]:
    periods = [
        {"start_date_time": "2026-03-02T09:00:00Z", "dimensions": [{"type": "ENERGY", "volume": 20}]},
        {"start_date_time": "2026-03-02T10:00:00Z", "dimensions": [{"type": "PARKING_TIME", "volume": 0.6667}]},
    ]
    return {
        "id": "C1",
        "currency": "EUR",
        "start_date_time": "2026-03-02T09:00:00Z",
        "end_date_time": "2026-03-02T10:40:00Z",
        "charging_periods": periods,
        "total_cost": {"excl_vat": 7, "incl_vat": 7.9},
        "total_energy": 20,
        "total_time": 1.6667,
        **fields,
    }


@pytest.fixture
def files(tmp_path: Path) -> Path:
    (tmp_path / "tariff.json").write_text(json.dumps(TARIFF))
    (tmp_path / "cdr.json").write_text(json.dumps(a_cdr()))
    return tmp_path


def run(verb: object, *words: object) -> int:
    parser = argparse.ArgumentParser()
    verb.add_arguments(parser)  # type: ignore[attr-defined]
    return int(verb.main(parser.parse_args([str(word) for word in words])))  # type: ignore[attr-defined]


def priced(folder: Path, capsys: pytest.CaptureFixture[str], *words: object) -> tuple[int, dict[str, object]]:
    code = run(price, "--tariff", folder / "tariff.json", "--cdr", folder / "cdr.json", "--json", *words)
    return code, json.loads(capsys.readouterr().out, parse_float=Decimal)


def test_totals_stand_under_the_names_of_ocpi(files: Path, capsys: pytest.CaptureFixture[str]) -> None:
    code, found = priced(files, capsys)
    assert (code, found["verdict"]) == (0, "MATCH")
    assert found["total_cost"] == {"excl_vat": 7, "incl_vat": Decimal("7.9")}
    assert found["total_energy_cost"] == {"excl_vat": 5, "incl_vat": Decimal("5.5")}
    assert found["total_parking_cost"] == {"excl_vat": Decimal("1.5"), "incl_vat": Decimal("1.8")}
    assert found["total_fixed_cost"] == {"excl_vat": Decimal("0.5"), "incl_vat": Decimal("0.6")}
    assert found["total_time_cost"] == found["total_reservation_cost"] == {"excl_vat": 0, "incl_vat": 0}


@pytest.mark.parametrize(
    ("fields", "code", "verdict"),
    [
        ({"total_cost": {"excl_vat": 7.01, "incl_vat": 7.9}}, 0, "WITHIN_ROUNDING"),
        ({"total_cost": {"excl_vat": 7.03, "incl_vat": 7.9}}, 0, "WITHIN_ROUNDING"),
        ({"total_cost": {"excl_vat": 7.04, "incl_vat": 7.9}}, 1, "DISPUTE"),
        ({"total_parking_cost": {"excl_vat": 2}}, 1, "DISPUTE"),
        ({"total_cost": {"excl_vat": 7}}, 0, "MATCH"),
        ({"total_cost": 7}, 0, "MATCH"),
        ({"total_cost": {"before_taxes": 7, "taxes": [{"name": "VAT", "amount": 0.9}]}}, 0, "MATCH"),
        ({"total_cost": {"excl_vat": -7, "incl_vat": -7.9}}, 1, "DISPUTE"),
        ({"total_cost": {"excl_vat": -7, "incl_vat": -7.9}, "credit": True, "credit_reference_id": "C0"}, 0, "MATCH"),
        ({"currency": "SEK"}, 1, "DISPUTE"),
        ({"total_cost": None}, 1, "DISPUTE"),
    ],
)
def test_the_verdict_tells_a_rounding_from_a_dispute(
    files: Path, capsys: pytest.CaptureFixture[str], fields: dict[str, object], code: int, verdict: str
) -> None:
    (files / "cdr.json").write_text(json.dumps(a_cdr(**fields)))
    found_code, found = priced(files, capsys)
    assert (found_code, found["verdict"]) == (code, verdict)


def test_a_dispute_names_the_difference_of_each_dimension(files: Path, capsys: pytest.CaptureFixture[str]) -> None:
    stated = {
        "total_cost": {"excl_vat": 8},
        "total_energy_cost": {"excl_vat": 6},
        "total_fixed_cost": {"excl_vat": 0.5},
    }
    (files / "cdr.json").write_text(json.dumps(a_cdr(**stated)))
    _, found = priced(files, capsys)
    differences = found["differences"]
    assert isinstance(differences, list)
    assert [(one["total"], one["difference"], one["verdict"]) for one in differences] == [
        ("total_cost", 1, "DISPUTE"),
        ("total_energy_cost", 1, "DISPUTE"),
        ("total_fixed_cost", 0, "MATCH"),
    ]


def test_without_a_tariff_the_ones_inside_the_cdr_are_used(files: Path, capsys: pytest.CaptureFixture[str]) -> None:
    (files / "cdr.json").write_text(json.dumps(a_cdr(tariffs=[TARIFF])))
    assert run(price, "--cdr", files / "cdr.json") == 0
    text = capsys.readouterr().out
    assert "MATCH" in text
    assert "total_cost" in text


def test_a_tariff_without_a_mark_of_its_version_is_of_the_records_version(
    files: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    bare = {
        "id": "T1",
        "currency": "EUR",
        "elements": [{"price_components": [{"type": "FLAT", "price": 7, "step_size": 1}]}],
    }
    (files / "tariff.json").write_text(json.dumps(bare))
    assert priced(files, capsys)[1]["total_cost"] == {"excl_vat": 7, "incl_vat": 7}
    assert priced(files, capsys, "--ocpi", "2.1.1")[1]["total_cost"] == {"excl_vat": 7, "incl_vat": None}


def test_a_list_of_records_is_priced_whole_and_one_dispute_fails_it(
    files: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    (files / "cdr.json").write_text(json.dumps([a_cdr(), a_cdr(id="C2", total_cost={"excl_vat": 9})]))
    assert run(price, "--tariff", files / "tariff.json", "--cdr", files / "cdr.json", "--json") == 1
    assert [one["verdict"] for one in json.loads(capsys.readouterr().out)] == ["MATCH", "DISPUTE"]


@pytest.mark.parametrize(
    ("words", "code"),
    [
        (["--cdr", "missing.json"], 66),
        (["--cdr", "tariff.json", "--zone", "Europe/Nowhere"], 64),
        (["--cdr", "broken.json"], 65),
        (["--cdr", "cdr.json"], 65),  # holds no tariff
        (["--cdr", "cdr.json", "--tariff", "broken.json"], 65),
        (["--cdr", "."], 66),
    ],
)
def test_what_cannot_be_priced_ends_with_a_sentence_and_its_code(
    files: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch, words: list[str], code: int
) -> None:
    monkeypatch.chdir(files)
    Path("broken.json").write_text("{")
    assert run(price, *words) == code
    assert capsys.readouterr().err.startswith("roamkey: ")


def test_the_choices_of_the_verb_are_those_of_the_calculator() -> None:
    parser = argparse.ArgumentParser()
    price.add_arguments(parser)
    choices = {action.dest: action.choices for action in parser._actions if action.choices}
    kinds = {"missing": Missing, "reach": Reach, "parking": Parking, "halves": Mode, "round": Scope, "ocpi": Version}
    assert choices == {name: tuple(kind) for name, kind in kinds.items()}


def test_lint_reports_and_fails_only_on_errors(files: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert run(tariff, "lint", files / "tariff.json") == 0
    assert "step_size is 900" in capsys.readouterr().out
    (files / "tariff.json").write_text(json.dumps({**TARIFF, "currency": "euros", "Party_ID": "x"}))
    assert run(tariff, "lint", files / "tariff.json", "--json") == 65
    found = json.loads(capsys.readouterr().out)
    assert {one["code"] for one in found["findings"]} == {"UNKNOWN_VALUE", "WRONG_CASE"}
    assert [one["id"] for one in found["tariffs"]] == ["T1"]
    assert run(tariff, "lint", files / "missing.json") == 66


def test_decimals_are_written_digit_by_digit() -> None:
    number = Decimal("12345678901234567890.123456789")
    text = dumps({"a": number, "b": Decimal("1E+2"), "c": Decimal("-0.00"), "d": [None, True, ()], "e": {}, "f": "ä"})
    found = json.loads(text, parse_float=Decimal)
    assert found == {"a": number, "b": 100, "c": 0, "d": [None, True, []], "e": {}, "f": "ä"}
