"""What the crash campaign may call a success: everything hit, nothing left out in silence."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from tests.crash import __main__ as crash
from tests.crash.kill_campaign import STEPS, Tally, missed_steps

EVERY = [str(step) for steps in STEPS.values() for step in steps]


def row(ok: bool | None) -> crash.Row:
    return crash.Row(what="power cut", done="", found="no FUSE", ok=ok, seconds=0.0)


def killed_at(steps: list[str], monkeypatch: pytest.MonkeyPatch, *, kills: int) -> crash.Row:
    async def pretended(folder: Path, **_: Any) -> Tally:
        return Tally(by_step=dict.fromkeys([*steps, "any moment"], 1), kills={"agent": kills})

    monkeypatch.setattr("tests.crash.kill_campaign.campaign", pretended)
    return crash.kills(1, kills)


def test_a_thousand_kills_that_missed_a_step_are_no_success_and_say_which(monkeypatch: pytest.MonkeyPatch) -> None:
    found = killed_at(EVERY[1:], monkeypatch, kills=1_000)
    assert found.ok is False
    assert f"never died at 1 of {len(EVERY)} steps: {EVERY[0]}" in found.found
    assert killed_at(EVERY, monkeypatch, kills=1_000).ok is True
    assert killed_at(EVERY[1:], monkeypatch, kills=100).ok is True, "so few cannot hit everything"


def test_every_step_that_nobody_died_at_is_missed() -> None:
    assert missed_steps(Tally()) == sorted(EVERY)
    assert missed_steps(Tally(by_step=dict.fromkeys(EVERY, 1))) == []


@pytest.mark.parametrize(
    ("outcomes", "required", "code"),
    [
        ((True, True), True, 0),
        ((True, None), False, 0),
        ((True, None), True, 2),
        ((False, None), True, 1),
        ((True, False), False, 1),
    ],
)
def test_what_could_not_be_run_fails_only_where_it_is_required(
    outcomes: tuple[bool | None, ...], required: bool, code: int
) -> None:
    assert crash.exit_code([row(ok) for ok in outcomes], required=required) == code


@pytest.mark.parametrize(("words", "code"), [((), 0), (("--required",), 2)])
def test_a_part_that_was_left_out_is_said_loudly(
    words: tuple[str, ...],
    code: int,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
    tmp_path: Path,
) -> None:
    monkeypatch.setattr(crash, "run", lambda *_: iter([crash.skipped("power cut, ext4", "no FUSE")]))
    monkeypatch.setattr(crash, "ROOT", tmp_path)
    monkeypatch.setattr(crash, "RESULT", tmp_path / "crash.json")
    assert crash.main(["--only", "power", *words]) == code
    assert "!!! NOT RUN, so NOT SHOWN here: power cut, ext4: no FUSE" in capsys.readouterr().out
