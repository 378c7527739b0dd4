"""docs/policy.md does what it says: its files are written, its commands run, their output compared."""

from __future__ import annotations

import re
import shlex
from pathlib import Path

import pytest

from agent.cli import main

PAGE = Path(__file__).parents[2] / "docs" / "policy.md"
_STEP = re.compile(r"(?:`(?P<name>[\w.]+)`(?P<more> and then)?\n\n)?```(?P<kind>\w+)\n(?P<text>.*?)```", re.DOTALL)


def test_the_page_is_true(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("COLUMNS", "160")
    text = PAGE.read_text(encoding="utf-8")
    (tmp_path / "new.csv").write_text(re.findall(r"with `new.csv`\n\n```csv\n(.*?)```", text, re.DOTALL)[0])
    commands, added = 0, ""
    for step in _STEP.finditer(text):
        if step["kind"] == "console":
            command, *expected = step["text"].strip().splitlines()
            code = main(shlex.split(command.removeprefix("$ roamkey ")))
            told = capsys.readouterr().out
            for line in expected:
                assert line.strip() in told, command
            assert code == (65 if "ERROR" in step["text"] else 0)
            commands += 1
            if added:  # what was shown to be wrong is not kept
                policy = tmp_path / "policy.toml"
                policy.write_text(policy.read_text().removesuffix(added))
                added = ""
        elif step["name"] is not None and step["more"]:
            added = step["text"]
            with (tmp_path / step["name"]).open("a") as file:
                file.write(added)
        elif step["name"] is not None and step["name"] != "new.csv":
            (tmp_path / step["name"]).write_text(step["text"])
    assert commands == 5


def test_the_page_names_every_verb_and_file() -> None:
    text = PAGE.read_text(encoding="utf-8")
    for word in ("check", "show", "explain", "import", "replay", "schema"):
        assert f"roamkey policy {word}" in text
    for word in ("init", "publish", "refresh", "revoke", "rotate-key", "status"):
        assert f"roamkey fleet {word}" in text
