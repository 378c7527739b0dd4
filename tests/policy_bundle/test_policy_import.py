"""`roamkey policy import`: cards and sites from CSV and OCPI, every bad one named, none half-applied."""

from __future__ import annotations

import csv
import json
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import pytest

from agent.cli import main
from agent.fleet.imports import What, import_file
from agent.fleet.source import read_folder

SOURCE = {
    "policy.toml": "[groups.vans]\n[groups.cars]\n",
    "drivers.toml": "[drivers.anna]\n",
    "vehicles.toml": "",
    "tokens.csv": "uid,label,group,driver\n04A1B2C3D4E5F6,card 1,cars,anna\n",
}
TOKEN = {
    "country_code": "DE",
    "party_id": "ABC",
    "uid": "04A1B2C3D4E5F7",
    "type": "RFID",
    "contract_id": "DE8AA001234567",
    "visual_number": "DF000-2001-8999-1",
    "issuer": "The issuer",
    "group_id": "G1",
    "valid": True,
    "whitelist": "ALLOWED",
    "last_updated": "2026-06-29T22:39:09Z",
}
LOCATION = {
    "country_code": "DE",
    "party_id": "ABC",
    "id": "LOC1",
    "publish": True,
    "address": "Street 1",
    "city": "Gent",
    "country": "DEU",
    "coordinates": {"latitude": "52.5200081", "longitude": "13.404954"},
    "evses": [
        {
            "uid": "3256",
            "evse_id": "DE*ABC*E041503001",
            "status": "AVAILABLE",
            "connectors": [
                {"id": "1", "standard": "IEC_62196_T2_COMBO", "power_type": "DC", "max_electric_power": 150000},
            ],
        },
        {
            "uid": "3257",
            "evse_id": "DE*ABC*E041503002",
            "status": "AVAILABLE",
            "connectors": [
                {"standard": "IEC_62196_T2", "power_type": "AC_3_PHASE", "max_voltage": 230, "max_amperage": 16},
                {"standard": "DOMESTIC_F", "power_type": "AC_1_PHASE", "max_voltage": 230, "max_amperage": 16},
            ],
        },
        {"uid": "3258", "status": "REMOVED", "connectors": []},
    ],
    "time_zone": "Europe/Berlin",
    "last_updated": "2026-06-29T20:39:09Z",
}


@pytest.fixture
def source(tmp_path: Path) -> Path:
    folder = tmp_path / "source"
    folder.mkdir()
    for name, text in SOURCE.items():
        (folder / name).write_text(text, encoding="utf-8")
    return folder


def brought(
    source: Path, capsys: pytest.CaptureFixture[str], body: object, *words: str, name: str = "new.json"
) -> tuple[int, Any]:
    file = source.parent / name
    file.write_text(body if isinstance(body, str) else json.dumps(body), encoding="utf-8")
    code = main(["policy", "import", str(source), str(file), *words, "--json"])
    return code, json.loads(capsys.readouterr().out)


def rows(path: Path) -> list[dict[str, str]]:
    with path.open(encoding="utf-8", newline="") as file:
        return [{name: cell for name, cell in row.items() if cell} for row in csv.DictReader(file)]


def everything(source: Path) -> dict[str, bytes]:
    return {path.name: path.read_bytes() for path in source.iterdir()}


@pytest.mark.parametrize(
    "wrapped",
    [
        lambda each: [each],
        lambda each: each,
        lambda each: {"data": [each], "status_code": 1000, "timestamp": "2026-06-29T22:39:09Z"},
        lambda each: {"data": each, "status_code": 1000},
    ],
    ids=["list", "object", "answer with a list", "answer with an object"],
)
def test_a_token_of_ocpi_becomes_a_card(source: Path, capsys: pytest.CaptureFixture[str], wrapped: Any) -> None:
    code, done = brought(source, capsys, wrapped(TOKEN), "--as", "tokens", "--group", "vans")

    assert (code, done["read"], done["added"], done["findings"]) == (0, 1, 1, [])
    assert rows(source / "tokens.csv") == [
        {"uid": "04A1B2C3D4E5F6", "label": "card 1", "group": "cars", "driver": "anna"},
        {
            "uid": "04A1B2C3D4E5F7",
            "label": "DF000-2001-8999-1",
            "group": "vans",
            "status": "active",
            "parent": "G1",
            "whitelist": "ALLOWED",
        },
    ]
    assert read_folder(source, issued=datetime.now(UTC)).contents is not None


def test_what_a_token_says_is_changed_and_what_it_cannot_say_stays(
    source: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    blocked = TOKEN | {"uid": "04:a1:b2:c3:d4:e5:f6", "valid": False, "whitelist": "NEVER", "visual_number": None}

    code, done = brought(source, capsys, [blocked], "--as", "tokens")

    assert (code, done["changed"], done["added"]) == (0, 1, 0)
    (card,) = rows(source / "tokens.csv")
    assert (card["group"], card["driver"], card["status"], card["whitelist"]) == ("cars", "anna", "blocked", "NEVER")
    code, done = brought(source, capsys, [blocked], "--as", "tokens")
    assert (code, done["unchanged"], done["changed"]) == (0, 1, 0)


def test_a_uid_that_is_printed_on_the_card_is_no_label(source: Path, capsys: pytest.CaptureFixture[str]) -> None:
    printed = TOKEN | {"visual_number": "04:A1:B2:C3:D4:E5:F7", "contract_id": "04a1b2c3d4e5f7"}
    assert brought(source, capsys, [printed], "--as", "tokens", "--group", "vans")[0] == 0
    assert rows(source / "tokens.csv")[1]["label"] == "The issuer ending F7"


def test_an_emaid_is_a_contract_and_an_app_is_passed_over(source: Path, capsys: pytest.CaptureFixture[str]) -> None:
    contract = TOKEN | {"type": "EMAID", "uid": "DE8AA001234567", "visual_number": "van 7's contract"}
    app = TOKEN | {"type": "APP_USER", "uid": "c0ffee"}

    code, done = brought(source, capsys, [contract, app], "--as", "tokens", "--group", "vans")

    assert code == 0
    assert rows(source / "tokens.csv")[1]["emaid"] == "DE8AA001234567"
    assert done["passed_over"] == ["new.json: $[1]: type APP_USER is no card and no contract"]


def test_every_bad_object_is_named_and_nothing_is_applied(source: Path, capsys: pytest.CaptureFixture[str]) -> None:
    before = everything(source)
    bad: list[Any] = [
        TOKEN,
        TOKEN | {"uid": "04A1B2"},
        "junk",
        {key: value for key, value in TOKEN.items() if key != "valid"} | {"uid": "04A1B2C3D4E501"},
        TOKEN | {"whitelist": "SOMETIMES", "uid": "04A1B2C3D4E502"},
        TOKEN | {"uid": "04-A1-B2-C3-D4-E5-F7"},
        TOKEN | {"uid": "04A1B2C3D4E503", "group_id": "longer than twenty characters"},
        TOKEN | {"uid": 4711, "type": "RFID"},
    ]

    code, done = brought(source, capsys, bad, "--as", "tokens", "--group", "vans")

    assert code == 65
    assert everything(source) == before
    places = {each["place"].split(".")[0] for each in done["findings"]}
    assert places == {"$[1]", "$[2]", "$[3]", "$[4]", "$[5]", "$[7]"}
    assert "A1B2C3" not in json.dumps(done["findings"]).upper().replace("-", "")
    code, done = brought(source, capsys, [TOKEN, bad[6]], "--as", "tokens", "--group", "vans")
    assert [each["place"] for each in done["findings"]] == ["$[1].parent"]
    assert everything(source) == before


def test_an_answer_that_is_an_error_brings_nothing(source: Path, capsys: pytest.CaptureFixture[str]) -> None:
    before = everything(source)
    for body in ({"status_code": 2000, "status_message": "no"}, {"data": None, "status_code": 3000}, 7, "{"):
        code, done = brought(source, capsys, body, "--as", "tokens", "--group", "vans")
        assert (code, len(done["findings"])) == (65, 1)
    assert everything(source) == before


def test_a_new_card_wants_a_group(source: Path, capsys: pytest.CaptureFixture[str]) -> None:
    code, done = brought(source, capsys, [TOKEN], "--as", "tokens")
    assert code == 65
    assert "name one with --group" in done["findings"][0]["text"]
    code, done = brought(source, capsys, [TOKEN], "--as", "tokens", "--group", "vens")
    assert "no group is named 'vens', did you mean 'vans'?" in done["findings"][0]["text"]
    assert (done["findings"][0]["file"], done["findings"][0]["place"]) == ("new.json", "$[0].group")


def test_a_location_becomes_a_site_with_its_charging_points(source: Path, capsys: pytest.CaptureFixture[str]) -> None:
    code, done = brought(source, capsys, [LOCATION], "--as", "sites")

    assert (code, done["added"]) == (0, 1)
    site = {"id": "LOC1", "latitude": "52.520008", "longitude": "13.404954", "network": "DE*ABC", "country": "DEU"}
    assert rows(source / "sites.csv") == [
        site | {"evse": "DE*ABC*E041503001", "connector": "IEC_62196_T2_COMBO", "power_w": "150000"},
        site | {"evse": "DE*ABC*E041503002", "power_w": "11040"},
    ]
    contents = read_folder(source, issued=datetime.now(UTC)).contents
    assert contents is not None
    assert {each.id for each in contents.sites.by_id["LOC1"].evses} == {"DE*ABC*E041503001", "DE*ABC*E041503002"}
    assert brought(source, capsys, [LOCATION], "--as", "sites")[1]["unchanged"] == 1
    fewer = LOCATION | {"evses": []}
    assert brought(source, capsys, [fewer], "--as", "sites")[1]["changed"] == 1
    assert len(rows(source / "sites.csv")) == 1


def test_a_bad_location_is_named(source: Path, capsys: pytest.CaptureFixture[str]) -> None:
    nowhere = LOCATION | {"id": "LOC2", "coordinates": {"latitude": "north", "longitude": "13.4"}, "evses": []}
    code, done = brought(source, capsys, {"data": [LOCATION, nowhere], "status_code": 1000}, "--as", "sites")
    assert code == 65
    assert [each["place"] for each in done["findings"]] == ["$.data[1].latitude"]
    assert not (source / "sites.csv").exists()


def test_every_bad_line_of_a_spreadsheet_is_named(source: Path, capsys: pytest.CaptureFixture[str]) -> None:
    before = everything(source)
    text = (
        "uid;label;group;driver;until\n"
        "04A1B2C3D4E501;good;vans;anna;2028-01-01T00:00:00Z\n"
        "04A1B2C3D4E502;bad;vans;ann;\n"
        "0x;bad;vans;;\n"
        "04A1B2C3D4E501;again;vans;;\n"
        "04A1B2C3D4E503;bad;vans;;tomorrow\n"
        "04A1B2C3D4E504;short;vans\n"
    )

    code, done = brought(source, capsys, text, "--as", "tokens", name="new.csv")

    assert code == 65
    assert everything(source) == before
    assert [each["line"] for each in done["findings"]] == [4, 5, 7]
    fewer = "\n".join(line for n, line in enumerate(text.splitlines(), start=1) if n not in (4, 5, 7))
    code, done = brought(source, capsys, fewer, "--as", "tokens", name="new.csv")
    assert [(each["file"], each["line"], each["code"]) for each in done["findings"]] == [
        ("new.csv", 3, "UNKNOWN_DRIVER"),
        ("new.csv", 4, "WRONG_VALUE"),
    ]
    assert everything(source) == before


def test_drivers_and_vehicles_come_from_spreadsheets(source: Path, capsys: pytest.CaptureFixture[str]) -> None:
    text = "id,language,pin\nbert,nl,4711\ncarl,,\n"
    assert brought(source, capsys, text, "--as", "drivers", name="drivers.csv")[0] == 0
    assert brought(source, capsys, "id\nvan-7\n", "--as", "vehicles", name="v.csv")[1]["added"] == 1
    contents = read_folder(source, issued=datetime.now(UTC), hash_pins=False).contents
    assert contents is not None
    assert set(contents.drivers) == {"anna", "bert", "carl"}
    code, done = brought(source, capsys, "id\nanna\n", "--as", "drivers", name="d.csv")
    assert (code, done["findings"][0]["code"]) == (65, "TWICE")  # it is in drivers.toml: change it there
    assert brought(source, capsys, [TOKEN], "--as", "drivers")[0] == 65


def test_dry_run_writes_nothing(source: Path, capsys: pytest.CaptureFixture[str]) -> None:
    before = everything(source)
    code, done = brought(source, capsys, [TOKEN], "--as", "tokens", "--group", "vans", "--dry-run")
    assert (code, done["added"], done["written"]) == (0, 1, None)
    assert everything(source) == before


def test_a_long_import_tells_how_far_it_is(source: Path) -> None:
    body = "uid,label\n" + "".join(f"04{number:012X},card {number}\n" for number in range(12_000))
    (source.parent / "many.csv").write_text(body)
    told: list[tuple[str, int]] = []

    def progress(what: str, count: int) -> None:
        told.append((what, count))

    done = import_file(
        source, source.parent / "many.csv", what=What.TOKENS, now=datetime.now(UTC), group="vans", progress=progress
    )

    assert (done.added, done.remarks) == (12_000, [])
    assert told == [("lines of many.csv", 5000), ("lines of many.csv", 10000), ("tokens", 5000), ("tokens", 10000)]
    assert len(rows(source / "tokens.csv")) == 12_001
