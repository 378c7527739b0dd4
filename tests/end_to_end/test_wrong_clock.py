"""The wall clock wrong or stepped under the real service: no refusal becomes a grant, no fact is lost or bent (P5)."""

from __future__ import annotations

import json
import shutil
import subprocess
import time
from datetime import UTC, datetime
from pathlib import Path

import pytest

from agent.clock import TIMESYNCD_MARK
from agent.demo.fleet import ANNA, BERT, CARLA, STRANGER
from tests.end_to_end.premises import FleetOffice, Premises, built_premises, until

pytestmark = pytest.mark.slow

YEAR_S = 365 * 86_400
PLACE = {"network": "NL*XYZ", "country": "NL"}  # where Bert's group may charge, in its hours


@pytest.fixture(scope="module")
def shim(tmp_path_factory: pytest.TempPathFactory) -> Path:
    if shutil.which("cc") is None:
        pytest.skip("no C compiler (cc): the clock of a running process cannot be stepped here")
    if TIMESYNCD_MARK.exists():
        pytest.skip(f"{TIMESYNCD_MARK} exists: this machine vouches for its clock, whatever the shim says")
    library = tmp_path_factory.mktemp("shim") / "clock_shim.so"
    source = Path(__file__).with_name("clock_shim.c")
    subprocess.run(["cc", "-shared", "-fPIC", "-O1", "-o", library, source], check=True, timeout=60)
    return library


class Clock:
    """The wall clock of the service, as far off as the test says."""

    def __init__(self, file: Path) -> None:
        self._file = file
        self.off_by_s(0)

    def off_by_s(self, seconds: float) -> None:
        new = self._file.with_suffix(".new")
        new.write_text(str(int(seconds)))
        new.replace(self._file)

    def stand_at(self, moment: datetime) -> None:
        self.off_by_s(moment.timestamp() - time.time())


@pytest.fixture
def clock(tmp_path: Path) -> Clock:
    return Clock(tmp_path / "offset")


@pytest.fixture
def van(build, shim, clock, tmp_path) -> Premises:
    """Nobody vouches for its clock but the policy's signed time."""
    here = build(settings='[time]\ntrust = "auto"\n')
    here.service.env = {"LD_PRELOAD": str(shim), "CLOCK_OFFSET_FILE": str(tmp_path / "offset")}
    return here


def outcome(van: Premises, uid: bytes, **place: str) -> set[str]:
    """What speaks against it; nothing when it is granted."""
    answer = van.api.post("/v1/decisions", {"uid": uid.hex(), "network": "DE*ABC", "country": "DE", **place})
    codes = {each["code"] for each in answer["reasons"]}
    assert (answer["outcome"] == "granted") == (not codes)
    return codes


def test_no_step_of_the_clock_turns_a_refusal_into_a_grant(van, clock):
    van.start_ready()
    assert outcome(van, ANNA) == set(), "in the boot that saw the signed policy, a card without hours needs no clock"
    assert "CLOCK_UNTRUSTED" in outcome(van, BERT, **PLACE)
    refused = {"blocked": CARLA, "unknown": STRANGER, "outside its hours": BERT}
    granted_at = {}
    for name, off_by_s in {
        "seven hours ahead, inside Bert's hours": 7 * 3_600,
        "seven hours back": -7 * 3_600,
        "ten years back": -10 * YEAR_S,
        "five years ahead": 5 * YEAR_S,
        "a minute ahead": 60,
        "right again": 0,
    }.items():
        clock.off_by_s(off_by_s)
        for why, uid in refused.items():
            assert outcome(van, uid, **(PLACE if uid == BERT else {})), f"{why} is granted {name}"
        granted_at[name] = not outcome(van, ANNA)
    assert granted_at["right again"], "five years ahead for a moment must not condemn the device"
    assert not granted_at["ten years back"], "a clock before a proven moment never grants"
    assert not granted_at["five years ahead"], "by that clock the policy is long over"
    until("the steps are told", lambda: len(van.events("clock.stepped")) >= 5)
    van.stop()
    van.assert_whole()
    sequences = [int(each["sequence"]) for each in van.events()]
    assert sequences == list(range(1, len(sequences) + 1))


def test_a_start_in_1970_refuses_by_the_hour_and_keeps_every_fact(van, clock):
    van.start_ready()
    van.stop()
    clock.stand_at(datetime(1970, 1, 1, 0, 0, 10, tzinfo=UTC))
    van.start_ready()
    assert van.status()["clock"]["trusted"] is False
    assert "CLOCK_UNTRUSTED" in outcome(van, BERT, **PLACE)
    assert "TOKEN_BLOCKED" in outcome(van, CARLA)
    assert outcome(van, ANNA), "before a proven moment nothing is granted"
    of_1970 = [each for each in van.events() if each["time"].startswith("1970-01-01T00:0")]
    assert len(of_1970) >= 4
    assert {each["clockquality"] for each in of_1970} == {"unknown"}
    clock.off_by_s(0)
    until("the step is told", van.has("clock.stepped"))
    assert outcome(van, ANNA) == set()
    van.stop()
    van.assert_whole()
    boots = {each["boot"] for each in van.events()}
    stamps = [int(each["monotonicms"]) for each in van.events()]
    assert len(boots) == 1
    assert stamps == sorted(stamps), "what happened when is told by the boot's own clock"


def test_a_session_lasts_as_long_as_it_lasted_however_the_clock_was_stepped(van, clock):
    van.start_ready()
    bay = van.bays["bay-1"]
    bay.plug_in()
    began = time.monotonic()
    session = van.tap("left", ANNA)["session"]
    until("energy flows", lambda: van.open_sessions() and van.open_sessions()[0]["energy_wh"])
    for off_by_s in (-10 * YEAR_S, 3_600, 5 * YEAR_S, -3_600):
        clock.off_by_s(off_by_s)
        time.sleep(0.7)
    assert [each["session"] for each in van.open_sessions()] == [session]
    assert van.tap("left", ANNA)["session"] == session, "to stop needs no clock"
    until("it ends", van.has("session.ended"))
    took_s = time.monotonic() - began
    (ended,) = van.events("session.ended")
    assert ended["data"]["duration_source"] == "monotonic"
    assert 2 <= ended["data"]["duration_s"] <= took_s + 1
    assert ended["data"]["energy_wh"] == bay.meter_wh - ended["data"]["meter_start_wh"]
    van.stop()
    van.assert_whole()


def test_a_stepped_clock_costs_no_delivery(shim, clock, tmp_path, office: FleetOffice):
    settings = '[time]\ntrust = "auto"\n'
    with built_premises(tmp_path / "van", office, broker=True, settings=settings) as here:
        here.service.env = {"LD_PRELOAD": str(shim), "CLOCK_OFFSET_FILE": str(tmp_path / "offset")}
        here.start_ready()
        for off_by_s in (-10 * YEAR_S, 5 * YEAR_S, 0):
            clock.off_by_s(off_by_s)
            here.tap("door", STRANGER)
            here.until_delivered()
        here.stop()
        here.assert_nothing_lost()
        times = [json.loads(body)["time"] for body in here.stored()]
        assert min(times) < "2017" < "2031" < max(times), "records keep the time that they were sealed with"
