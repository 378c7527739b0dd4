"""JSON Schemas for editors: they are what the models make, and say of a file what the check says of it."""

from __future__ import annotations

import json
import tomllib
from pathlib import Path
from typing import Any

import pytest
from jsonschema import Draft202012Validator

from agent.cli import main
from agent.fleet.schemas import schemas
from agent.fleet.sheets import plain
from tests.policy_bundle.write_policy_schemas import FOLDER, texts

SCHEMAS = schemas()
GOOD = {
    "policy": """
stale_after_hours = 12
alias_forms = ["first_4"]
[calendars.public]
until = 2027-12-31
days = [2027-12-25]
[groups.fleet]
networks = ["DE*ABC"]
countries = ["DE", "NLD"]
max_energy_wh = 60000
effects = { networks = "warn" }
missing = { prices = { max_energy_wh = 5000 }, geofence = "deny" }
prompts = ["pin"]
[groups.fleet.prices]
currency = "EUR"
basis = "gross"
per_kwh = 0.60
session = 40
[groups.fleet.fence]
polygons = [[[52.5, 13.4], [52, 13.5], ["52.6", "13.6"]]]
[groups.fleet.schedule]
zone = "Europe/Berlin"
windows = [{ days = ["mon"], start = "06:00", end = "22:00" }]
[groups.fleet.holidays]
zone = "Europe/Berlin"
calendars = ["public"]
[[groups.fleet.demands]]
assurance = "authenticated"
above_price = { currency = "EUR", per_kwh = 0.5 }
""",
    "drivers": '[drivers.anna]\npin = "4711"\nlanguage = "de"\n',
    "vehicles": "[vehicles.van-7]\n",
    "tokens": '[[tokens]]\nuid = "04:A1:B2:C3"\nlabel = "Anna"\n'
    'group = "fleet"\ndriver = "anna"\nuntil = 2028-01-01T00:00:00Z\n',
    "sites": "[matching]\nradius_m = 50\n[sites.depot]\nlatitude = 52.5\nlongitude = 13\n"
    'evses = [{ id = "DE*ABC*E1" }]\n',
    "question": 'token = "Anna"\ntime = 2027-03-10T12:00:00Z\n[prices]\ncurrency = "EUR"\nper_kwh = 0.5\n'
    "[place.position]\nlatitude = 52.5\nlongitude = 13.4\n",
}
BAD = [
    ("policy", "networks", "netwroks"),
    ("policy", '"mon"', '"monday"'),
    ("policy", '"gross"', '"brutto"'),
    ("policy", "max_energy_wh = 60000", "max_energy_wh = 6.5"),
    ("policy", 'prompts = ["pin"]', 'prompts = ["password"]'),
    ("policy", 'effects = { networks = "warn" }', 'effects = { netwoks = "warn" }'),
    ("policy", "first_4", "first_5"),
    ("policy", "stale_after_hours = 12", "stale_after_hours = 0"),
    ("drivers", '"4711"', '"47"'),
    ("drivers", "[drivers.anna]", '[drivers.anna]\nid = "anna"'),
    ("vehicles", "[vehicles", "[vans"),
    ("tokens", 'uid = "04:A1:B2:C3"', ""),
    ("tokens", 'uid = "04:A1:B2:C3"', 'uid = "04:A1:B2:C3"\nemaid = "DE8AA001234567"'),
    ("tokens", 'label = "Anna"', 'label = "Anna"\nreference = "00"'),
    ("sites", "latitude = 52.5", ""),
    ("question", "token", "card"),
]


def fits(name: str, text: str) -> bool:
    document: Any = json.loads(json.dumps(plain(tomllib.loads(text))))
    return bool(Draft202012Validator(SCHEMAS[name]).is_valid(document))


def test_the_files_are_what_the_models_make() -> None:
    stale = [path.name for path, text in texts().items() if not path.exists() or path.read_text("utf-8") != text]
    assert stale == [], "make them anew with: make docs"
    assert set(FOLDER.iterdir()) == set(texts())


@pytest.mark.parametrize("name", sorted(SCHEMAS))
def test_a_schema_is_a_schema_and_takes_a_good_file(name: str) -> None:
    Draft202012Validator.check_schema(SCHEMAS[name])
    assert fits(name, GOOD[name])
    assert "ge" not in json.dumps(SCHEMAS[name]).split('"')
    assert '"null"' not in json.dumps(SCHEMAS[name])


@pytest.mark.parametrize(("name", "old", "new"), BAD, ids=[f"{name}: {new[:20]}" for name, _, new in BAD])
def test_a_schema_refuses_what_the_check_refuses(name: str, old: str, new: str) -> None:
    assert old in GOOD[name]
    assert not fits(name, GOOD[name].replace(old, new, 1))


def test_what_the_schemas_take_the_check_takes(tmp_path: Path) -> None:
    for name, text in GOOD.items():
        (tmp_path / f"{name}.toml").write_text(text)
    assert main(["policy", "check", str(tmp_path), "--now", "2026-11-22T12:00:00Z"]) == 0
    assert main(["policy", "show", str(tmp_path), "--group", "fleet"]) == 0  # fit to be published
    assert main(["policy", "explain", str(tmp_path), "--request", str(tmp_path / "question.toml")]) == 0


def test_the_verb_prints_a_schema(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["policy", "schema", "tokens"]) == 0
    assert json.loads(capsys.readouterr().out) == SCHEMAS["tokens"]
