"""Ended sessions as OCPI objects and flat rows: the same figures everywhere, carried facts, and nothing invented."""

from __future__ import annotations

import csv
import io
import json
from decimal import Decimal
from pathlib import Path

import pytest

from agent.cli import main
from agent.core.facts import SessionSigned
from agent.core.tariff.calculator import price
from agent.core.tariff.records import Total
from agent.core.tariff.rounding import Rounding
from agent.core.tariff.tariffs import Version
from agent.core.tariff.verdicts import Verdict, compare
from agent.exact_json import decimal_document
from agent.ocpi.quotes import read_quote
from agent.ocpi.records import read_records
from agent.ocpi.shapes import flaws, shape_of
from agent.settlement.carried import Carried, CarriedUnfit, read_carried
from agent.settlement.ocpi_objects import cdr_object, session_object
from agent.settlement.rows import as_csv, compact, line_rows, session_row
from agent.settlement.settled import Settled, once, settled_in
from tests.settlement.fleet_days import TARIFF, Drive, a_backend, sealed, store_into

FACTS = """
[buyer]
name = "Meadow Logistics"
vat_id = "DE123456789"
country = "DE"
party = "DE*FLT"
[networks."DE-ABC"]
name = "ABC Charging GmbH"
vat_id = "DE987654321"
country = "DE"
[sites.depot]
address = "Hafenstr. 1"
city = "Bremen"
country = "DEU"
latitude = "53.10000"
longitude = "8.80000"
[evses."DE*ABC*E1*1"]
connector_id = "1"
connector_format = "CABLE"
connector_power_type = "AC_3_PHASE"
meter_id = "M-4711"
"""
TARIFF_23 = TARIFF.replace('"currency":"EUR",', '"currency":"EUR","tax_included":"NO",')


@pytest.fixture
def carried(tmp_path: Path) -> Carried:
    (tmp_path / "facts.toml").write_text(FACTS)
    return read_carried(tmp_path / "facts.toml")


def the_one(*drives: Drive, more: tuple[object, ...] = ()) -> Settled:
    entries = [entry for drive in drives for entry in drive.facts()]
    (found,) = settled_in(sealed([*entries, *more]))  # type: ignore[list-item]
    return found


def test_a_session_is_folded_with_its_price_its_holder_and_its_route(carried: Carried) -> None:
    row = session_row(the_one(Drive(id="s-1", kwh="10", parked_min=30)), carried)

    # 1.00 + 10 kWh at 0.40 + half an hour at 6.00 = 8.00, and 25 %
    assert (row["net"], row["tax"], row["gross"], row["currency"]) == (8, 2, 10, "EUR")
    assert (row["driver"], row["vehicle"], row["cost_centre"], row["route"]) == ("anna", "van-7", "4711", "tour 5")
    assert (row["country"], row["country_alpha3"], row["odometer_km"]) == ("DE", "DEU", 12_345)
    assert (row["seller_vat_id"], row["buyer_vat_id"]) == ("DE987654321", "DE123456789")
    assert (row["price_source"], row["tax_status"]) == ("tariff", "documented")


def test_the_end_that_the_device_sealed_says_the_same_cost() -> None:
    one = the_one(Drive(id="s-1", kwh="7.3", parked_min=17))

    assert one.ended.cost is not None
    assert one.priced is not None
    assert one.ended.cost.gross == one.priced.stated[Total.COST].gross


def test_without_a_price_nothing_is_said_of_money() -> None:
    row = session_row(the_one(Drive(id="s-1", quote=None)), Carried())

    assert (row["net"], row["gross"], row["currency"], row["price_source"]) == (None, None, None, "none")
    assert row["energy_kwh"] == 10


@pytest.mark.parametrize(("version", "tariff"), [(Version.V2_2_1, TARIFF), (Version.V2_3_0, TARIFF_23)])
def test_a_cdr_of_ours_is_one_that_our_own_reader_prices_the_same(
    version: Version, tariff: str, carried: Carried
) -> None:
    one = the_one(Drive(id="s-1", kwh="10.5", parked_min=30, quote=read_quote(tariff, "Europe/Berlin")))
    written = cdr_object(one, version, carried)

    assert written.missing == ()
    read = read_records(compact(written.document))
    assert [finding.text for finding in read.findings] == []
    (record,) = read.records
    assert (record.version, record.total_energy_kwh) == (version, Decimal("10.5"))
    comparison = compare(price(record, record.tariffs), record, Rounding())
    assert comparison.verdict is Verdict.MATCH
    assert len(comparison.differences) >= 8


@pytest.mark.parametrize("limit", ["", '"max_price":{"excl_vat":4,"incl_vat":5},'])
def test_a_tariff_of_2_2_1_is_said_in_2_3_0_with_the_same_price(limit: str, carried: Carried) -> None:
    tariff = TARIFF.replace('"currency":"EUR",', f'"currency":"EUR",{limit}')
    one = the_one(Drive(id="s-1", parked_min=30, quote=read_quote(tariff)))
    read = read_records(compact(cdr_object(one, Version.V2_3_0, carried).document))

    assert [finding.text for finding in read.findings] == []
    (record,) = read.records
    assert (record.version, record.tariffs[0].version) == (Version.V2_3_0, Version.V2_3_0)
    assert compare(price(record, record.tariffs), record, Rounding()).verdict is Verdict.MATCH


def test_a_tariff_that_2_3_0_cannot_say_is_left_out_of_the_cdr(carried: Carried) -> None:
    mixed = read_quote(TARIFF.replace('"price":1.00,"vat":25', '"price":1.00'))
    document = cdr_object(the_one(Drive(id="s-1", quote=mixed)), Version.V2_3_0, carried).document

    assert document is not None
    assert document["tariffs"] == []


@pytest.mark.parametrize("version", [Version.V2_2_1, Version.V2_3_0])
def test_a_session_object_has_ocpis_shape(version: Version, carried: Carried) -> None:
    written = session_object(the_one(Drive(id="s-1", parked_min=5)), version, carried)

    assert written.missing == ()
    document = decimal_document(compact(written.document))
    assert list(flaws(document, shape_of("session", version))) == []
    assert isinstance(document, dict)
    assert (document["status"], document["kwh"]) == ("COMPLETED", 10)
    assert [each["dimensions"][0]["type"] for each in document["charging_periods"]] == ["ENERGY", "PARKING_TIME"]


def test_what_ocpi_demands_and_nobody_told_is_named_and_not_invented() -> None:
    written = cdr_object(the_one(Drive(id="s-1")), Version.V2_2_1, Carried())

    assert written.document is None
    assert "$.cdr_location.coordinates is missing" in written.missing
    assert "$.cdr_token.party_id is missing" in written.missing


def test_the_shapes_refuse_what_a_peer_would_refuse(carried: Carried) -> None:
    good = cdr_object(the_one(Drive(id="s-1")), Version.V2_2_1, carried).document
    assert good is not None

    for name, value in (("id", "x" * 40), ("end_date_time", "2026-03-02"), ("charging_periods", []), ("new", 1)):
        assert list(flaws(good | {name: value}, shape_of("cdr", Version.V2_2_1)))
    assert list(flaws(good | {"total_cost": {"before_taxes": 1}}, shape_of("cdr", Version.V2_2_1)))


def test_no_card_number_can_be_in_an_export(carried: Carried) -> None:
    one = the_one(Drive(id="s-1"))
    document = cdr_object(one, Version.V2_2_1, carried).document
    assert document is not None
    token = document["cdr_token"]
    assert isinstance(token, dict)
    assert token["uid"] == one.ended.credential.reference[:36]


def test_signed_meter_records_travel_in_the_cdr_and_late_ones_are_not_missed(carried: Carried) -> None:
    drive = Drive(id="s-1")
    text = 'OCMF|{"FV":"1.0"}|{"SD":"30"}'
    late = SessionSigned(session="s-1", charger="left", format="OCMF", sha256="ab", part=1, parts=1, text=text)
    one = the_one(drive, more=((late, drive.at(200)),))

    document = cdr_object(one, Version.V2_2_1, carried).document
    assert document is not None
    signed = document["signed_data"]
    assert isinstance(signed, dict)
    assert signed["signed_values"][0] == {"nature": "End", "plain_data": '{"FV":"1.0"}', "signed_data": text}
    assert session_row(one, carried)["signed_meter_sha256"] == "ab"


def test_rows_have_one_shape_and_lines_add_up(carried: Carried) -> None:
    with_price, without = the_one(Drive(id="s-1", parked_min=30)), the_one(Drive(id="s-2", quote=None))
    lines = list(line_rows(with_price, carried))

    assert {tuple(row) for row in [*lines, *line_rows(without, carried)]} == {tuple(lines[0])}
    assert sum(Decimal(str(row["line_net"])) for row in lines) == 8
    assert {row["tax_percent"] for row in lines if row["line_net"]} == {Decimal(25)}


def test_a_cell_that_a_spreadsheet_would_run_is_text() -> None:
    one = the_one(Drive(id="s-1", route="=HYPERLINK(1)"))
    (row,) = csv.DictReader(io.StringIO("".join(as_csv([session_row(one, Carried())]))))

    assert row["route"] == "'=HYPERLINK(1)"


def test_a_session_that_two_journals_tell_is_settled_once_and_the_complete_end_counts() -> None:
    cut, whole = Drive(id="s-1", kwh="3", complete=False), Drive(id="s-1", kwh="10")
    both = [*settled_in(sealed(cut.facts(), journal="old")), *settled_in(sealed(whole.facts(), journal="new"))]

    assert [each.ended.energy_wh for each in once(both)] == [10_000]
    assert [each.ended.energy_wh for each in once(both[:1])] == [3_000]


def test_an_unknown_fact_is_refused_before_it_is_missing_from_a_bill(tmp_path: Path) -> None:
    (tmp_path / "facts.toml").write_text('[buyer]\nvat = "DE1"\n')
    with pytest.raises(CarriedUnfit, match="vat_id"):
        read_carried(tmp_path / "facts.toml")


@pytest.mark.parametrize("format", ["session", "cdr", "csv", "jsonl"])
def test_the_verb_exports_a_backends_database(format: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    database = a_backend(tmp_path / "fleet.db", [Drive(id="s-1"), Drive(id="s-2", minutes=100)])
    store_into(database, sealed(Drive(id="s-3", minutes=300).facts(), device="van-8", journal="j-2"), "van-8")
    (tmp_path / "facts.toml").write_text(FACTS)

    code = main(
        ["settle", "export", "--db", str(database), "--format", format, "--facts", str(tmp_path / "facts.toml")]
    )
    out = capsys.readouterr().out

    assert code == 0
    if format == "csv":
        ids = [row["session"] for row in csv.DictReader(io.StringIO(out))]
    elif format == "jsonl":
        ids = [json.loads(line)["session"] for line in out.splitlines()]
    else:
        ids = [each["id"] for each in json.loads(out)]
    assert ids == ["s-1", "s-2", "s-3"]


def test_the_verb_takes_a_part_of_time_and_says_what_it_leaves_out(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    database = a_backend(tmp_path / "fleet.db", [Drive(id="s-1"), Drive(id="s-2", minutes=2_000)])
    since = ["--since", "2026-03-03"]

    assert main(["settle", "export", "--db", str(database), "--format", "jsonl", *since]) == 0
    assert [json.loads(line)["session"] for line in capsys.readouterr().out.splitlines()] == ["s-2"]
    assert main(["settle", "export", "--db", str(database), "--format", "cdr"]) == 1
    told = capsys.readouterr()
    assert json.loads(told.out) == []
    assert "2 sessions are left out" in told.err
    assert main(["settle", "export", "--db", str(tmp_path / "none.db")]) == 65
