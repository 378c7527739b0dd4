"""`roamkey demo` is the real program: it ends well over either broker, and says so for programs."""

from __future__ import annotations

import json
import subprocess
from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path

import pytest

from tests.end_to_end.premises import ROAMKEY, until

pytestmark = pytest.mark.slow

PROMISED = {
    "taps", "granted", "refused", "sessions", "records_sealed", "records_stored", "lost", "duplicated", "chain_ok",
}  # fmt: skip


@pytest.fixture(scope="module")
def shows() -> Iterator[dict[str, subprocess.Popen[str]]]:
    """Both at once: they mostly wait."""
    running = {
        broker: subprocess.Popen(
            [*ROAMKEY, "demo", "--json", "--duration", "15", "--broker", broker],
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
        )
        for broker in ("mosquitto", "amqtt")
    }
    yield running
    for process in running.values():
        process.kill()
        process.communicate()


@pytest.mark.parametrize("broker", ["mosquitto", "amqtt"])
def test_the_demonstration_loses_nothing_and_says_so(shows, broker):
    said, complained = shows[broker].communicate(timeout=90)
    assert shows[broker].returncode == 0, complained + said
    verdict = json.loads(said)
    assert verdict.keys() >= PROMISED
    assert (verdict["lost"], verdict["duplicated"], verdict["chain_ok"]) == (0, 0, True)
    assert verdict["records_stored"] == verdict["records_sealed"] > 20
    assert (verdict["granted"], verdict["refused"], verdict["sessions"]) == (3, 4, 3)


def test_a_duration_that_no_story_fits_into_is_refused():
    done = subprocess.run([*ROAMKEY, "demo", "--duration", "3"], capture_output=True, text=True, check=False)
    assert done.returncode == 64
    assert "15 to 60" in done.stderr


def test_a_demonstration_that_is_killed_leaves_nothing_running(tmp_path):
    stage = tmp_path / "stage"
    show = subprocess.Popen([*ROAMKEY, "demo", "--keep", str(stage)], stdout=subprocess.DEVNULL)
    try:
        until("the service runs", lambda: (stage / "api.sock").exists())
        assert len(started_for(stage)) >= 3, "broker, receiver and service"
    finally:
        show.kill()
        show.wait()
    until("all of them are gone", lambda: started_for(stage) == [])


def started_for(stage: Path) -> list[str]:
    """Command lines of the processes that name this folder."""
    found = []
    for process in Path("/proc").iterdir():
        with suppress(OSError):
            words = (process / "cmdline").read_bytes().decode(errors="replace") if process.name.isdigit() else ""
            if str(stage) in words and "demo" not in words.split("\0"):
                found.append(words)
    return found
