"""Whatever stands in an operator's files, or in what is imported, is taken or told: nothing raises, nothing hangs."""

from __future__ import annotations

import json
import os
import tempfile
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from agent.core.findings import Severity
from agent.fleet.imports import What, import_file
from agent.fleet.policy_lint import review
from agent.fleet.source import read_folder

pytestmark = pytest.mark.slow

NOW = datetime(2026, 11, 22, 12, tzinfo=UTC)
GOOD = {
    "policy.toml": '[groups.fleet]\nnetworks = ["DE*ABC"]\n',
    "drivers.toml": "[drivers.anna]\n",
    "vehicles.toml": "",
    "tokens.csv": "uid,label,group\n04A1B2C3D4E5F6,card 1,fleet\n",
}
FILES = (
    "policy.toml",
    "policy.yaml",
    "drivers.toml",
    "drivers.csv",
    "tokens.toml",
    "tokens.csv",
    "sites.toml",
    "sites.csv",
)
WORDS = (
    "groups", "fleet", "parent", "networks", "schedule", "windows", "zone", "days", "start", "prices", "drivers",
    "pin", "tokens", "uid", "label", "group", "until", "sites", "latitude", "evses", "calendars", "holidays", "budgets",
    "alias_forms", "matching", "id", "DE*ABC", "04A1B2C3D4E5F6",
)  # fmt: skip
WORD = st.sampled_from(WORDS)
SCALAR = st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False) | st.text(max_size=5) | WORD
VALUE = st.recursive(
    SCALAR, lambda inner: st.lists(inner, max_size=3) | st.dictionaries(WORD, inner, max_size=4), max_leaves=12
)
PIECE = st.sampled_from(
    (
        *("[groups.x]\n", "[[tokens]]\n", "[sites.a]\n", "a = 1\n", "uid = '04'\n", "groups:\n", "  x: {}\n", "- a\n"),
        *(",", ";", "\n", '"', "'''", "&a ", "*a", "uid,label,group\n", "id,latitude\n", "x,1\n"),
        *("\x00", "\ufeff", "é", "= [", "}", "!!python/x "),
    )
)
TEXT = st.lists(PIECE, max_size=12).map("".join)
# A long run: ROAMKEY_HOSTILE_FILES=5000
CASES = int(os.environ.get("ROAMKEY_HOSTILE_FILES", "20"))
CALM = settings(max_examples=CASES, deadline=None, suppress_health_check=[HealthCheck.too_slow])


def folder_with(name: str, body: bytes, at: str) -> Path:
    folder = Path(at)
    for file, text in GOOD.items():
        if file.partition(".")[0] != name.partition(".")[0]:
            (folder / file).write_text(text)
    (folder / name).write_bytes(body)
    return folder


@CALM
@given(st.sampled_from(FILES), TEXT.map(str.encode) | st.binary(max_size=60))
def test_a_file_of_anything_is_taken_or_told_with_its_line(name: str, body: bytes) -> None:
    with tempfile.TemporaryDirectory() as at:
        read = read_folder(folder_with(name, body, at), issued=NOW, hash_pins=False)
        errors = [each for each in read.remarks if each.severity is Severity.ERROR]
        assert (read.contents is None) == bool(errors)
        assert all(each.line is None or each.line >= 1 for each in [*read.remarks, *review(read, now=NOW)])


@CALM
@given(st.dictionaries(WORD, VALUE, max_size=4))
def test_a_policy_of_any_shape_is_taken_or_told(document: dict[str, Any]) -> None:
    """As YAML, which JSON is: shapes that no parser refuses."""
    with tempfile.TemporaryDirectory() as at:
        body = json.dumps(document).encode()
        for name in ("policy.yaml", "tokens.yaml", "sites.yaml"):
            read = read_folder(folder_with(name, body, at), issued=NOW, hash_pins=False)
            review(read, now=NOW)
            (Path(at) / name).unlink()
            (Path(at) / "policy.toml").write_text(GOOD["policy.toml"])


OCPI = st.sampled_from(
    ("uid", "type", "contract_id", "valid", "whitelist", "visual_number", "id", "coordinates", "latitude", "longitude",
     "country", "evses", "evse_id", "connectors", "standard", "power_type", "max_electric_power", "data", "status_code")
)  # fmt: skip
OBJECT = st.recursive(
    SCALAR | st.sampled_from(("RFID", "EMAID", "ALLOWED", "52.5", "DEU")),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(OCPI, inner, max_size=8),
    max_leaves=25,
)


@CALM
@given(st.sampled_from((What.TOKENS, What.SITES)), OBJECT | st.lists(st.dictionaries(OCPI, OBJECT, max_size=8)))
def test_json_of_any_shape_is_imported_or_told_and_then_nothing_is_written(what: What, document: Any) -> None:
    with tempfile.TemporaryDirectory() as at:
        folder = folder_with("policy.toml", GOOD["policy.toml"].encode(), at)
        file = folder / "new.json"
        file.write_text(json.dumps(document))
        before = {path.name: path.read_bytes() for path in folder.iterdir()}
        done = import_file(folder, file, what=what, now=NOW, group="fleet")
        after = {path.name: path.read_bytes() for path in folder.iterdir()}
        assert (after == before) or not done.remarks
        assert read_folder(folder, issued=NOW, hash_pins=False).contents is not None
