"""The README is true today: its commands, its configuration and its tests exist, and it stays short."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

from agent.cli import VERBS, load
from agent.config import load as load_config

ROOT = Path(__file__).parents[2]
README = (ROOT / "README.md").read_text(encoding="utf-8")
LONGEST_LINES = 150


def block(after: str, kind: str) -> str:
    """The first code block of this kind behind a heading."""
    _, _, rest = README.partition(after)
    found = re.search(rf"```{kind}\n(.*?)```", rest, flags=re.DOTALL)
    assert found is not None, f"no {kind or 'plain'} block after {after!r}"
    return found[1]


def test_the_readme_is_short() -> None:
    assert len(README.splitlines()) <= LONGEST_LINES


def test_the_readme_lists_the_commands_that_the_program_has() -> None:
    width = max(len(name) for name in VERBS)
    expected = "".join(f"roamkey {name:<{width}}  {load(name).HELP}\n" for name in VERBS)

    assert block("## Commands", "") == expected


def test_the_readmes_configuration_is_the_shipped_one_and_loads(tmp_path: Path) -> None:
    shipped = (ROOT / "systemd" / "roamkey.toml").read_text(encoding="utf-8")
    _, _, settings = shipped.partition("\n\n")
    file = tmp_path / "roamkey.toml"
    file.write_text(block("## Configuration", "toml"), encoding="utf-8")

    assert block("## Configuration", "toml") == settings
    assert load_config(file).device.name == "van-0007"


@pytest.mark.parametrize("named", sorted(set(re.findall(r"`pytest ([^`]+)`", README))))
def test_the_readmes_proofs_exist(named: str) -> None:
    words = named.split(" -k ")
    folders = [ROOT / each for each in words[0].split()]
    tests = [file.read_text(encoding="utf-8") for folder in folders for file in folder.glob("test_*.py")]

    assert all(folder.is_dir() for folder in folders)
    assert tests
    if len(words) == 2:
        assert any(re.search(rf"def test_\w*{words[1]}", text) for text in tests), f"no test matches {words[1]}"


@pytest.mark.parametrize("target", sorted(set(re.findall(r"(?m)(?:^|`)make ([a-z-]+)", README))))
def test_the_readmes_make_targets_exist(target: str) -> None:
    assert re.search(rf"^{target}:", (ROOT / "Makefile").read_text(encoding="utf-8"), flags=re.MULTILINE)
