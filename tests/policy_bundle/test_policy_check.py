"""`roamkey policy check`: every oddity of a fleet's files with its severity, code, file and line."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from agent.cli import main
from agent.core.terms import Kind
from agent.fleet.policy_lint import FIELDS_OF
from agent.fleet.remarks import Code

POLICY = """\
[groups.fleet]
networks = ["DE*ABC", "NL*XYZ"]
countries = ["DE", "NL"]

[groups.vans]
parent = "fleet"
networks = ["DE*ABC"]
# more of vans
[calendars.public]
until = 2027-12-31
days = [2027-12-25]
[groups.vans.holidays]
zone = "Europe/Berlin"
calendars = ["public"]
"""
SOURCE = {
    "policy.toml": POLICY,
    "drivers.toml": '[drivers.anna]\npin = "4711"\n[drivers.bert]\n',
    "vehicles.toml": "",
    "tokens.csv": "uid,label,group,driver\n04A1B2C3D4E5F6,card 1,vans,anna\n04A1B2C3D4E5F7,card 2,vans,bert\n",
    "sites.csv": "id,latitude,longitude,network,country,evse,power_w\n"
    "depot,52.52,13.4,DE*ABC,DE,DE*ABC*E1,22000\ndepot,52.52,13.4,DE*ABC,DE,DE*ABC*E2,22000\n",
}
NOW = ["--now", "2026-11-22T12:00:00Z"]


@pytest.fixture
def source(tmp_path: Path) -> Path:
    folder = tmp_path / "source"
    folder.mkdir()
    for name, text in SOURCE.items():
        (folder / name).write_text(text, encoding="utf-8")
    return folder


def found(source: Path, capsys: pytest.CaptureFixture[str], *more: str) -> tuple[int, dict[str, Any]]:
    code = main(["policy", "check", str(source), "--json", *NOW, *more])
    told: dict[str, Any] = json.loads(capsys.readouterr().out)
    return code, told


def test_a_sound_policy_has_nothing_to_say(source: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert found(source, capsys) == (0, {"ok": True, "errors": 0, "warnings": 0, "findings": []})
    assert main(["policy", "check", str(source), *NOW]) == 0
    assert "2 cards and contracts" in capsys.readouterr().out


def vans(*lines: str) -> tuple[str, str, str]:
    return "policy.toml", "# more of vans", "\n".join(lines)


HOURS = '[groups.{}.schedule]\nzone = "Europe/Berlin"\nwindows = [{{ days = ["{}"], start = "{}", end = "{}" }}]'
ODD = [
    # what cannot be published
    (("policy.toml", "[calendars", "[calendars.."), "error UNREADABLE policy.toml:9"),
    (("policy.toml", "parent", "parnt"), "error UNKNOWN_KEY policy.toml:6"),
    (("policy.toml", 'parent = "fleet"', 'parent = "fleat"'), "error UNKNOWN_GROUP policy.toml:6"),
    (("policy.toml", '["public"]', '["pubic"]'), "error UNKNOWN_CALENDAR policy.toml:14"),
    (("policy.toml", "Europe/Berlin", "Europe/Bärlin"), "error UNFIT policy.toml:13"),
    (("policy.toml", '"DE", "NL"', '"DEU", "XYZ"'), "error WRONG_VALUE policy.toml:3"),
    (vans(HOURS.format("vans", "mon", "08:00", "08:00")), "error UNFIT policy.toml:10"),
    (vans('parent2 = "fleet"', "max_power_w = 1.5"), "error WRONG_VALUE policy.toml:9"),
    (("tokens.csv", "card 2,vans", "card 2,vens"), "error UNKNOWN_GROUP tokens.csv:3"),
    (("tokens.csv", "bert", "berta"), "error UNKNOWN_DRIVER tokens.csv:3"),
    (("tokens.csv", "F7", "F6"), "error TWICE tokens.csv:3"),
    (("tokens.csv", "F7", "7"), "error WRONG_VALUE tokens.csv:3"),
    (("tokens.csv", "driver\n", "drivr\n"), "error UNREADABLE tokens.csv:1"),
    (("tokens.csv", "driver\n04A1B2C3D4E5F6,card 1,vans,anna\n04A1B2C3D4E5F7,card 2,vans,bert",
      "driver,until\n04A1B2C3D4E5F6,card 1,vans,anna,0001-01-01T00:00:00+23:00\n"
      "04A1B2C3D4E5F7,card 2,vans,bert,"), "error WRONG_VALUE tokens.csv:2"),
    (("sites.csv", "depot,52.52,13.4,DE*ABC,DE,DE*ABC*E2", "depot,52.52,14.4,,,E"), "error TWICE sites.csv:3"),
    (("sites.csv", "52.52", "N52"), "error WRONG_VALUE sites.csv:2"),
    # hours
    (vans(HOURS.format("vans", "mon", "08:00", "09:00"), HOURS.format("fleet", "tue", "00:00", "24:00")),
     "error NEVER_OPEN policy.toml:8"),
    (vans(HOURS.format("vans", "sun", "02:10", "02:50"), "[groups.vans.effects]", 'schedule = "warn"',
          HOURS.format("fleet", "mon", "00:00", "24:00")), "warning NEVER_OPEN policy.toml:8"),
    (vans('[groups.vans.schedule]\nzone = "Europe/Berlin"', "windows = [",
          '  { days = ["mon"], start = "08:00", end = "09:00" },',
          '  { days = ["tue"], start = "08:00", end = "09:00" },', "]",
          HOURS.format("fleet", "mon", "00:00", "24:00")), "warning NEVER_OPEN policy.toml:12"),
    (vans('schedule = { zone = "Europe/Berlin", windows = [] }'), "warning NOBODY_CHARGES policy.toml:8"),
    # sets
    (("policy.toml", 'networks = ["DE*ABC"]', 'networks = ["DE-ABD"]'), "error CONTRADICTION policy.toml:7"),
    (("policy.toml", 'networks = ["DE*ABC"]', "networks = []"), "warning NOBODY_CHARGES policy.toml:7"),
    (("policy.toml", 'networks = ["DE*ABC"]', 'networks = ["deabc", "DE*ABD"]'), "warning NO_EFFECT policy.toml:7"),
    (("policy.toml", '"DE", "NL"', '"FR"'), "info CONTRADICTION policy.toml:2"),
    (vans('countries = ["XX"]'), "warning UNKNOWN_COUNTRY policy.toml:8"),
    (vans('connectors = ["IEC_62196_T9"]'), "warning UNKNOWN_CONNECTOR policy.toml:8"),
    (vans('denied_sites = ["dept"]'), "warning UNKNOWN_SITE policy.toml:8"),
    (vans('denied_sites = ["depot"]', 'preferred_sites = ["DEPOT"]'), "warning CONTRADICTION policy.toml:9"),
    # limits
    (vans("max_energy_wh = 0"), "warning NOBODY_CHARGES policy.toml:8"),
    (("policy.toml", 'countries = ["DE", "NL"]', 'max_power_w = 9\n[groups.big]\nparent = "fleet"\nmax_power_w = 10'),
     "warning NO_EFFECT policy.toml:6"),
    (("policy.toml", 'countries = ["DE", "NL"]',
      'prices = { currency = "EUR", basis = "net", per_kwh = 1 }\n[groups.swiss]\nparent = "fleet"\n'
      'prices = { currency = "CHF", basis = "net", per_kwh = 1 }'), "error CONTRADICTION policy.toml:6"),
    (("policy.toml", 'countries = ["DE", "NL"]',
      'prices = { currency = "EUR", basis = "net", per_kwh = 1 }\n[groups.rich]\nparent = "fleet"\n'
      'prices = { currency = "EUR", basis = "net", per_kwh = 2.5 }'), "warning NO_EFFECT policy.toml:6"),
    (vans('prices = { currency = "EUR", basis = "net" }'), "warning NO_EFFECT policy.toml:8"),
    (vans("max_odometer_increase_km = 500"), "warning NO_EFFECT policy.toml:8"),
    (vans('effects = { velocity = "warn" }'), "warning NO_EFFECT policy.toml:8"),
    (vans('missing = { geofence = "warn" }'), "warning NO_EFFECT policy.toml:8"),
    (vans('fence = { polygons = [[[52.5, 13.4], [52.5, 13.4], [52.5, 13.5]]] }'), "warning NO_EFFECT policy.toml:8"),
    # people and calendars
    (vans('prompts = ["pin"]'), "warning UNANSWERABLE policy.toml:8"),
    (vans('effects = { networks = "require" }'), "warning UNANSWERABLE policy.toml:8"),
    (vans("lossy_cards = true", 'demands = [{ assurance = "static" }]'), "warning CONTRADICTION policy.toml:8"),
    (("policy.toml", "2027-12-31", "2026-11-21"), "error UNFIT policy.toml:9"),
    (("policy.toml", "until = 2027-12-31\ndays = [2027-12-25]", "until = 2026-11-21\ndays = [2026-11-01]"),
     "warning CALENDAR_PAST policy.toml:10"),
    (("policy.toml", "until = 2027-12-31\ndays = [2027-12-25]", "until = 2026-12-31\ndays = [2026-12-25]"),
     "warning CALENDAR_ENDS_SOON policy.toml:10"),
    (vans('[budgets.b]\nscope = "driver"\nof = "berta"\nenergy_wh = 9000\nenergy_wh_per_session = 900',
          'period = "month"\nzone = "UTC"'), "warning UNKNOWN_DRIVER policy.toml:10"),
    (vans('[budgets.b]\nscope = "cost_centre"\nof = "4711"\nenergy_wh = 9000\nenergy_wh_per_session = 900',
          'period = "month"\nzone = "UTC"'), "warning NO_EFFECT policy.toml:10"),
    (("policy.toml", "[2027-12-25]", "[]"), "warning NO_EFFECT policy.toml:11"),
    (("policy.toml", "# more of vans", "[calendars.x]\nuntil = 2028-01-01\ndays = []"), "info UNUSED policy.toml:8"),
    (("policy.toml", "# more of vans", "[groups.nobody]"), "info UNUSED policy.toml:8"),
    (("drivers.toml", "[drivers.bert]", "[drivers.bert]\n[drivers.carl]"), "info UNUSED drivers.toml:4"),
    (("tokens.csv", "driver\n04A1B2C3D4E5F6,card 1,vans,anna\n04A1B2C3D4E5F7,card 2,vans,bert",
      "driver,not_before,until\n04A1B2C3D4E5F6,card 1,vans,anna,2027-01-01T00:00:00Z,2026-12-01T00:00:00Z\n"
      "04A1B2C3D4E5F7,card 2,vans,bert,,"), "error NEVER_VALID tokens.csv:2"),
    (("tokens.csv", "driver\n04A1B2C3D4E5F6,card 1,vans,anna\n04A1B2C3D4E5F7,card 2,vans,bert",
      "driver,until\n04A1B2C3D4E5F6,card 1,vans,anna,2026-01-01T00:00:00Z\n"
      "04A1B2C3D4E5F7,card 2,vans,bert,"), "info EXPIRED tokens.csv:2"),
]  # fmt: skip


@pytest.mark.parametrize(("change", "told"), ODD, ids=[told for _, told in ODD])
def test_oddity_is_told_with_its_line(
    source: Path, capsys: pytest.CaptureFixture[str], change: tuple[str, str, str], told: str
) -> None:
    file, old, new = change
    path = source / file
    assert old in path.read_text(encoding="utf-8")
    path.write_text(path.read_text(encoding="utf-8").replace(old, new), encoding="utf-8")

    code, findings = found(source, capsys)

    said = [f"{each['severity']} {each['code']} {each['file']}:{each['line']}" for each in findings["findings"]]
    assert told in said
    assert code == (65 if findings["errors"] else 0)
    assert (code != 0) == told.startswith("error") or findings["errors"]
    assert "A1B2C3" not in json.dumps(findings).upper()


def test_every_code_is_produced(source: Path) -> None:
    assert {told.split()[1] for _, told in ODD} | {"UNKNOWN_VEHICLE"} == {each.value for each in Code}


def test_every_kind_of_rule_is_known_by_the_fields_that_it_reads() -> None:
    assert set(Kind) - set(FIELDS_OF) <= {Kind.PLACE}


def test_all_unfit_groups_are_told_and_not_the_first_alone(source: Path, capsys: pytest.CaptureFixture[str]) -> None:
    bad = HOURS.replace("Berlin", "Bern")
    text = POLICY + bad.format("vans", "mon", "08:00", "09:00") + "\n" + bad.format("fleet", "mon", "08:00", "09:00")
    (source / "policy.toml").write_text(text)

    _, findings = found(source, capsys)

    assert [each["line"] for each in findings["findings"]] == [16, 19]


def test_strict_ends_with_an_error_when_there_is_a_warning(source: Path, capsys: pytest.CaptureFixture[str]) -> None:
    (source / "policy.toml").write_text(POLICY.replace("[2027-12-25]", "[]"))
    assert found(source, capsys)[0] == 0
    assert found(source, capsys, "--strict")[0] == 65


def test_yaml_and_toml_of_the_same_policy_make_the_same_bundle(
    source: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    office = tmp_path / "office"
    main(["fleet", "init", str(office), "--fleet", "meadow"])
    main(["fleet", "publish", str(office), "--policy", str(source)])
    (source / "policy.toml").unlink()
    (source / "policy.yaml").write_text(
        "groups:\n"
        "  fleet: {networks: [DE*ABC, NL*XYZ], countries: [DE, NL]}\n"
        "  vans:\n    parent: fleet\n    networks: [DE*ABC]\n"
        "    holidays: {zone: Europe/Berlin, calendars: [public]}\n"
        "calendars:\n  public:\n    until: 2027-12-31\n    days: [2027-12-25]\n"
    )
    (source / "drivers.toml").unlink()
    (source / "drivers.yml").write_text("drivers:\n  anna: {pin: '4711'}\n  bert:\n")
    capsys.readouterr()
    assert found(source, capsys)[0] == 0

    main(["fleet", "publish", str(office), "--policy", str(source), "--json"])

    assert json.loads(capsys.readouterr().out)["new_parts"] == 1  # policy.json carries its revision


def test_two_files_of_one_name_are_two_truths(source: Path, capsys: pytest.CaptureFixture[str]) -> None:
    (source / "policy.yaml").write_text("groups: {}")
    assert main(["policy", "check", str(source)]) == 66
    assert "policy.yaml are both there" in capsys.readouterr().err


def test_a_policy_that_cannot_be_read_is_told_once(source: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """And not again with every card, as of an unknown group."""
    (source / "policy.toml").write_text("[groups.fleet\n")
    _, findings = found(source, capsys)
    assert [each["code"] for each in findings["findings"]] == ["UNREADABLE"]
