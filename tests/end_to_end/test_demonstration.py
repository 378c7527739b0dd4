"""`roamkey demo` is the real program: it ends well over either broker, and says so for programs."""

from __future__ import annotations

import json
import subprocess
from collections.abc import Iterator

import pytest

from tests.end_to_end.premises import ROAMKEY

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
