"""The process dies between any two lines of an update: a usable generation stays, and no floor goes down."""

from __future__ import annotations

import asyncio
import os
import sqlite3
import sys
import threading
from pathlib import Path
from types import FrameType
from typing import Any

import pytest

from agent.cache.cache import Activated, Refused

ROOT = Path(__file__).parents[2]
WATCHED = tuple(
    str(ROOT / each)
    for each in (
        "agent/cache/cache.py",
        "agent/cache/examination.py",
        "agent/cache/generations.py",
        "agent/cache/parts.py",
        "agent/cache/tokens.py",
        "agent/files.py",
        "sync/documents.py",
        "sync/trust_store.py",
    )
)
KILLED = 97


def _update_until_killed(device: Any, stick: Any, now: Any, at_line: int) -> int:
    """Run the update in a child that dies, without any clean-up, at its n-th line; its exit code."""
    device.stops()
    child = os.fork()
    if child == 0:  # pragma: no cover
        try:
            cache = device.starts(now)  # whatever is wrong in here, this process must not go on as a second pytest
            left = at_line

            def watch(frame: FrameType, event: str, argument: object) -> Any:
                nonlocal left
                if frame.f_code.co_filename not in WATCHED:
                    return None
                if event == "line":
                    left -= 1
                    if left == 0:
                        os._exit(KILLED)
                return watch

            threading.settrace(watch)
            sys.settrace(watch)
            result = asyncio.run(cache.update(stick, now))
            sys.settrace(None)
            os._exit(0 if isinstance(result, Activated) else 1)
        finally:
            os._exit(2)
    _, status = os.waitpid(child, 0)
    return os.waitstatus_to_exitcode(status)


def _check_after_crash(device: Any, fleet: Any, make: Any, older: Any, newer: Any) -> int:
    cache = device.starts(make.at(1))
    assert cache.findings == []
    revision = cache.active.policy.revision
    assert revision in (2, 3)
    token = cache.lookup(make.ref("04A1"))
    assert (token is None) == (revision == 3)
    if revision == 3:
        refused = device.updates(older, make.at(1))
        assert isinstance(refused, Refused)
        assert refused.error == "BadVersionNumberError"
    assert not isinstance(device.updates(newer, make.at(1)), Refused)
    assert device.revision == 3
    device.stops()
    return revision


@pytest.fixture
def crashing(fleet: Any, make: Any, tmp_path: Path) -> Any:
    """crashing(n) -> (exit code, revision after restart) for a fresh device that dies at line n of its update."""
    older = fleet.publishes(tokens=[make.a_token("04A1")])
    newer = fleet.publishes(hours=1, tokens=[make.a_token("04B1"), make.a_token("04B2")])

    def crash(at_line: int) -> tuple[int, int]:
        device = make.ADevice(tmp_path / f"device-{at_line}", fleet.name, fleet.root)
        device.updates(make.Stick(older.files), make.at(0))
        code = _update_until_killed(device, make.Stick(newer.files), make.at(1), at_line)
        assert code in (0, KILLED)
        return code, _check_after_crash(device, fleet, make, make.Stick(older.files), make.Stick(newer.files))

    return crash


def _sweep(crash: Any, step: int, first: int = 1) -> list[int]:
    revisions = []
    line = first
    while True:
        code, revision = crash(line)
        revisions.append(revision)
        if code == 0:
            return revisions
        line += step


def test_crash_between_lines_keeps_a_usable_generation(crashing: Any) -> None:
    revisions = _sweep(crashing, step=90)

    assert len(revisions) > 5
    assert revisions == sorted(revisions)  # the old one until the switch, the new one from then on
    assert set(revisions) == {2, 3}


@pytest.mark.slow
def test_crash_between_many_lines_keeps_a_usable_generation(crashing: Any) -> None:
    revisions = _sweep(crashing, step=7)

    assert len(revisions) > 80
    assert revisions == sorted(revisions)


def test_floors_and_generation_change_in_one_transaction(fleet: Any, device: Any, make: Any) -> None:
    device.updates(fleet.publishes())
    device.updates(fleet.publishes(hours=1), make.at(1))
    device.stops()

    connection = sqlite3.connect(device.folder / "trust.sqlite")
    (generation,) = connection.execute("SELECT bundle FROM trust").fetchone()
    versions = dict(connection.execute("SELECT name, version FROM role"))
    connection.close()

    assert generation.startswith("3-")
    assert versions == {"root": 1, "timestamp": 3, "snapshot": 3, "targets": 3}


@pytest.mark.parametrize("failing", ["fsync", "rename", "replace", "mkdtemp"])
def test_disk_that_fails_at_any_write_keeps_the_old_bundle(
    fleet: Any, device: Any, make: Any, monkeypatch: pytest.MonkeyPatch, failing: str
) -> None:
    device.updates(fleet.publishes())
    stick = fleet.publishes(hours=1)
    device.starts(make.at(1))

    def full(*arguments: object, **named: object) -> object:
        raise OSError(28, "No space left on device")

    with monkeypatch.context() as patch:
        owner: Any = {"fsync": os, "mkdtemp": __import__("tempfile"), "rename": Path, "replace": Path}[failing]
        patch.setattr(owner, failing, full)
        refused = device.updates(stick, make.at(1))

    assert isinstance(refused, Refused)
    assert (refused.error, refused.transient) == ("StorageUnusable", True)
    assert device.revision == 2
    assert isinstance(device.updates(stick, make.at(1)), Activated)
