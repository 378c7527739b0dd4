"""Where am I: the service beside Debian's gpsd, which gpsfake feeds with a receiver's log. Nothing is patched."""

from __future__ import annotations

import json
import os
import shutil
import signal
import subprocess
from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path
from typing import Any

import pytest

from agent.cli.client import Refused
from agent.demo.fleet import ANNA, BERT
from sync.loopback_broker import end_with_parent, free_port
from tests.end_to_end.premises import FleetOffice, Premises, built_premises, good, roamkey, until
from tests.positions.nmea import standing

pytestmark = pytest.mark.slow

DEPOT = (52.520008, 13.404954)
STREET = (52.530008, 13.404954)  # a kilometre to the north
MAX_AGE_S = 2

POLICY = f"""
[groups.vans]
networks = ["DE*ABC"]
countries = ["DE"]
[groups.vans.fence]
max_age_s = {MAX_AGE_S}
polygons = [[["52.515", "13.400"], ["52.515", "13.410"], ["52.525", "13.410"], ["52.525", "13.400"]]]

[groups.night-shift]
networks = ["NL*XYZ"]
"""
SITES = f"""
[matching]
max_age_s = {MAX_AGE_S}

[sites.depot]
latitude = "{DEPOT[0]}"
longitude = "{DEPOT[1]}"
network = "DE*ABC"
country = "DE"
radius_m = 150
"""
CONFIG = """
[device]
fleet = "acme"
name = "van-0007"
state = "state"
[trust]
root = "device/root.json"
token_key = "device/token.key"
[api]
socket = "api.sock"
[time]
trust = "system"
[bundle]
folder = "{bundle}"
[gpsd]
port = {port}
[[reader]]
name = "door"
profile = "readers/simulated"
port = ""
charger = "cable"
[[charger]]
name = "cable"
"""


class Gpsd:
    """gpsd, with a receiver that stands somewhere."""

    def __init__(self, folder: Path) -> None:
        self.port = free_port()
        self._folder = folder
        self._process: subprocess.Popen[bytes] | None = None

    def stands(self, where: tuple[float, float], *, sees: bool = True) -> None:
        self.dies()
        log = self._folder / "receiver.nmea"
        log.write_bytes(standing(*where, sees=sees))
        # -c: the log's seconds pass in 0.2 s of ours; -n: it is read before anybody asks.
        self._process = subprocess.Popen(
            ["gpsfake", "-q", "-n", "-c", "0.05", "-P", str(self.port), str(log)],
            stdin=subprocess.DEVNULL,
            stdout=subprocess.DEVNULL,
            stderr=subprocess.DEVNULL,
            start_new_session=True,
            preexec_fn=end_with_parent,
        )

    def dies(self) -> None:
        if self._process is not None:
            with suppress(ProcessLookupError):
                os.killpg(self._process.pid, signal.SIGKILL)
            self._process.wait()
            self._process = None


@pytest.fixture
def gpsd(tmp_path: Path) -> Iterator[Gpsd]:
    if shutil.which("gpsfake") is None:
        pytest.fail("gpsfake is missing: apt-get install gpsd gpsd-clients")
    made = Gpsd(tmp_path)
    yield made
    made.dies()


@pytest.fixture
def van(tmp_path: Path, office: FleetOffice, gpsd: Gpsd) -> Iterator[Premises]:
    """A mobile reader: nothing in its configuration says where it charges."""
    with built_premises(tmp_path / "van", office, bays=(), readers=("door",)) as here:
        (here.office.source / "policy.toml").write_text(POLICY)
        (here.office.source / "sites.toml").write_text(SITES)
        here.office.publish()
        here.config.write_text(CONFIG.format(bundle=here.office.repository, port=gpsd.port))
        yield here


def begun(van: Premises) -> None:
    van.start()
    until("a policy", lambda: van.status()["policy"] is not None)
    van.report("cable", "found", state="available", meter_wh=0)
    until("the cable", lambda: van.reachable("cable"))


def site(van: Premises) -> str | None:
    return (van.status()["position"] or {}).get("site")


def told(van: Premises, answer: dict[str, Any]) -> dict[str, Any]:
    return dict(van.api.get(f"/v1/decisions/{answer['decision']}"))


def codes(answer: dict[str, Any]) -> set[str]:
    return {reason["code"] for reason in answer["reasons"]}


@pytest.mark.timeout(120)
def test_a_card_is_welcome_at_the_depot_and_not_in_the_street_nor_where_nobody_knows(van: Premises, gpsd: Gpsd) -> None:
    begun(van)
    nowhere = van.tap("door", ANNA)

    gpsd.stands(DEPOT)
    until("the depot", lambda: site(van) == "depot")
    answer = van.tap("door", ANNA)
    welcome, foreign = told(van, answer), van.tap("door", BERT)
    status, explained = good(roamkey("status", "--config", van.config)), explanation(van, answer)
    van.report("cable", "started", session=answer["session"], meter_wh=0)
    van.report("cable", "stopped", session=answer["session"], meter_wh=10)
    until("the session's end", van.has("session.ended"))

    gpsd.stands(STREET)
    until("the street", lambda: van.status()["position"]["position"]["latitude_udeg"] > 52_526_000)
    street = told(van, van.tap("door", ANNA))

    gpsd.dies()
    until("the loss of gpsd", lambda: van.status()["receiver"]["state"] == "lost")
    until("the age", lambda: van.status()["position"]["position"]["age_s"] > MAX_AGE_S)
    old = told(van, van.tap("door", ANNA))

    assert codes(nowhere) == {"NETWORK", "COUNTRY", "GEOFENCE"}
    assert welcome["outcome"] == "granted"
    assert welcome["place"] | {"position": ..., "distance_m": ...} == {
        "network": "DE*ABC", "country": "DE", "site": "depot",
        "source": "sites", "measured_by": "gpsd", "position": ..., "distance_m": ...,
    }  # fmt: skip
    assert welcome["place"]["distance_m"] <= 2
    assert welcome["place"]["position"]["age_s"] <= MAX_AGE_S
    assert 0 < welcome["place"]["position"]["accuracy_m"] <= 50
    assert "site depot" in explained
    assert "by gpsd" in explained
    assert "depot" in status
    assert codes(foreign) == {"NETWORK", "EVSE_OCCUPIED"}
    assert street["place"]["doubt"] == "nowhere"
    assert [(each["code"], each.get("missing", False)) for each in street["reasons"]] == [
        ("NETWORK", True), ("COUNTRY", True), ("GEOFENCE", False),
    ]  # fmt: skip
    assert old["place"]["doubt"] == "old"
    assert {(each["code"], each["missing"]) for each in old["reasons"]} == {
        ("NETWORK", True), ("COUNTRY", True), ("GEOFENCE", True),
    }  # fmt: skip
    ended = van.events("session.ended")[0]["data"]
    assert (ended["place"]["site"], ended["place"]["measured_by"]) == ("depot", "gpsd")


def explanation(van: Premises, answer: dict[str, Any]) -> str:
    return good(roamkey("explain", answer["decision"], "--config", van.config))


@pytest.mark.timeout(60)
def test_check_and_status_say_how_gpsd_is_and_a_garage_is_no_position(van: Premises, gpsd: Gpsd) -> None:
    before = finding(van)
    gpsd.stands(DEPOT, sees=False)
    begun(van)
    until("no fix", lambda: (van.status()["receiver"] or {}).get("state") == "no fix")

    assert (before["verdict"], finding(van)["verdict"]) == ("warning", "ok")
    assert van.status()["position"] is None
    assert codes(van.tap("door", ANNA)) == {"NETWORK", "COUNTRY", "GEOFENCE"}


def finding(van: Premises) -> dict[str, Any]:
    findings = json.loads(roamkey("check", "--config", van.config, "--json").stdout)["findings"]
    return next(each for each in findings if each["what"] == "gpsd")


WRONG: dict[str, tuple[dict[str, Any], str]] = {
    "a latitude beyond the pole": ({"latitude": "90.1"}, "latitude"),
    "a longitude beyond the antimeridian": ({"longitude": "-180.1"}, "longitude"),
    "degrees with a binary fraction": ({"latitude": 52.5}, "degrees as text"),
    "an accuracy below nothing": ({"accuracy_m": -1}, "accuracy_m"),
    "an accuracy that nobody knows": ({"accuracy_m": None}, "accuracy_m"),
    "a measurement of tomorrow": ({"age_s": -60}, "age_s"),
    "something else": ({"speed": 3}, "speed"),
}


@pytest.mark.timeout(60)
def test_a_position_that_is_none_is_refused_and_changes_nothing(van: Premises) -> None:
    van.start()
    good_one = {"latitude": "52.5", "longitude": "13.4", "accuracy_m": 10}
    for changes, told_why in WRONG.values():
        with pytest.raises(Refused, match=told_why) as refused:
            van.api.put("/v1/position", {**good_one, **changes})
        assert refused.value.status == 422

    assert van.status()["position"] is None


@pytest.mark.timeout(60)
def test_the_gateways_own_software_may_tell_the_position_and_the_link_the_evse(van: Premises) -> None:
    begun(van)
    here = {"latitude": str(DEPOT[0]), "longitude": str(DEPOT[1]), "accuracy_m": 10}

    van.api.put("/v1/position", {**here, "age_s": 60})
    old = told(van, van.tap("door", ANNA))
    van.api.put("/v1/position", here)
    fresh = told(van, van.tap("door", ANNA))

    assert (old["outcome"], old["place"]["doubt"]) == ("refused", "old")
    assert (fresh["outcome"], fresh["place"]["measured_by"]) == ("granted", "api")
    van.report("cable", "plugged_in", evse="NL*QQQ*E5")
    elsewhere = told(van, van.tap("door", BERT))
    assert (elsewhere["place"]["country"], elsewhere["place"]["source"]) == ("NL", "charger")
    assert [each["code"] for each in elsewhere["reasons"]] == ["NETWORK", "EVSE_OCCUPIED"]
