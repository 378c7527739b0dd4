"""What docs/cards.md tells an operator to write is what the program reads."""

from __future__ import annotations

import re
import tomllib
from datetime import UTC, datetime
from pathlib import Path

from agent.cli import build_parser
from agent.config import load
from agent.fleet.source import read_folder

PAGE = (Path(__file__).parents[2] / "docs" / "cards.md").read_text(encoding="utf-8")
BLOCKS = re.findall(r"```toml\n(.*?)```", PAGE, flags=re.DOTALL)


def test_the_page_s_settings_load(tmp_path):
    settings = "\n".join(block for block in BLOCKS if "[cards]" in block or "[[wallet]]" in block)
    (tmp_path / "roamkey.toml").write_text(
        f'[device]\nfleet = "acme"\nname = "van"\n{settings}\n[[charger]]\nname = "bay-1"\n'
    )
    config = load(tmp_path / "roamkey.toml")
    assert config.cards is not None
    assert config.charger_of == {"phones": "bay-1"}


def test_the_page_s_policy_is_one(tmp_path):
    (snippet,) = (block for block in BLOCKS if "demands" in block)
    assert tomllib.loads(snippet)
    (tmp_path / "policy.toml").write_text(
        'stale_after_hours = 24\nexpired_after_hours = 48\nalias_forms = ["first_4"]\n[groups.vans]\n'
        f"lossy_cards = true\n{snippet}"
    )
    for name in ("drivers", "vehicles", "tokens"):
        (tmp_path / f"{name}.toml").write_text("")
    assert [str(each) for each in read_folder(tmp_path, issued=datetime(2026, 11, 22, tzinfo=UTC)).remarks] == []


def test_the_page_s_commands_are_understood():
    (commands,) = (block for block in PAGE.split("```")[1::2] if "roamkey cards provision" in block)
    lines = [re.sub(r"#.*", "", line) for line in commands.replace("\\\n", " ").splitlines()]
    for line in (each for each in lines if each.startswith("roamkey")):
        words = re.findall(r'"[^"]*"|\S+', line)[1:]
        assert build_parser("cards").parse_args([word.strip('"') for word in words]).verb == "cards"
