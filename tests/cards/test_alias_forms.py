"""`alias_forms` of a policy: published as references beside the token, never as numbers, and judged with the rest."""

from __future__ import annotations

import json
from datetime import UTC, datetime

import pytest

from agent.core.credentials import alias_reference, reference, wallet_reference
from agent.fleet.source import read_folder

KEY = b"k" * 32
UID, CLASSIC = "04A23B4C5D6080", "DEADBEEF"


@pytest.fixture
def folder(tmp_path):
    (tmp_path / "policy.toml").write_text(
        'stale_after_hours = 24\nexpired_after_hours = 48\nalias_forms = ["first_4", "last_3"]\n[groups.g]\n'
    )
    (tmp_path / "drivers.toml").write_text("")
    (tmp_path / "vehicles.toml").write_text("")
    (tmp_path / "tokens.toml").write_text(
        f'[[tokens]]\nuid = "{UID}"\nlabel = "a"\ngroup = "g"\n'
        f'[[tokens]]\nuid = "{CLASSIC}"\nlabel = "b"\ngroup = "g"\n'
        '[[tokens]]\nwallet = "pass 4711"\nlabel = "c"\ngroup = "g"\n'
    )
    return tmp_path


def read(folder):
    return read_folder(folder, issued=datetime(2026, 11, 22, tzinfo=UTC), token_key=KEY)


def test_parts_of_a_uid_travel_as_references_and_only_where_something_is_lost(folder):
    source = read(folder)
    assert [str(remark) for remark in source.remarks] == []
    tokens = {}
    for name, body in source.bodies.items():
        if name.startswith("tokens/"):
            tokens |= {each["reference"]: each for each in json.loads(body)["tokens"]}
    parts = [alias_reference(KEY, "first_4", "04A23B4C"), alias_reference(KEY, "last_3", "5D6080"[-6:])]
    assert tokens[reference(KEY, UID)]["aliases"] == parts
    assert tokens[reference(KEY, CLASSIC)]["aliases"] == [alias_reference(KEY, "last_3", "ADBEEF")]
    assert "aliases" not in tokens[wallet_reference(KEY, b"pass 4711")]
    everything = b"".join(source.bodies.values())
    for secret in (UID, CLASSIC, "04A23B4C", "5D6080", "4711", "alias_forms"):
        assert secret.lower().encode() not in everything.lower()


@pytest.mark.parametrize("wrong", ['"first_4"', '["first_5"]', '["reversed"]', "7"])
def test_forms_that_lose_nothing_or_do_not_exist_are_told(folder, wrong):
    policy = (folder / "policy.toml").read_text().replace('["first_4", "last_3"]', wrong)
    (folder / "policy.toml").write_text(policy)
    (remark,) = read(folder).remarks
    assert "alias_forms" in str(remark)


def test_an_operator_writes_no_aliases_by_hand(folder):
    with (folder / "tokens.toml").open("a") as file:
        file.write('[[tokens]]\nuid = "04B1C2D3E4F580"\nlabel = "d"\ngroup = "g"\naliases = []\n')
    assert any("aliases" in str(remark) for remark in read(folder).remarks)
