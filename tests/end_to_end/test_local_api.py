"""The local API over its real socket: everything the gateway's own software and the command line may ask."""

from __future__ import annotations

import json
import os
import re
import socket
import sqlite3
import stat
import subprocess
import threading
from collections.abc import Iterator
from pathlib import Path

import pytest
from openapi_spec_validator import validate

from agent.demo.fleet import ANNA, BERT, CARLA, DORA, STRANGER
from tests.end_to_end.premises import FleetOffice, Premises, built_premises, good, roamkey, until

pytestmark = pytest.mark.slow


@pytest.fixture(scope="module")
def van(tmp_path_factory: pytest.TempPathFactory, office: FleetOffice) -> Iterator[Premises]:
    """One running gateway for the whole file; each test leaves no session open."""
    settings = '[sessions]\nmeter_record_every_s = 0.05\nstop_timeout_s = 0.5\n[[charger]]\nname = "mute"\n'
    with built_premises(tmp_path_factory.mktemp("api") / "van", office, settings=settings) as here:
        here.start_ready()
        here.report("yard", "found", state="available", meter_wh=0)
        until("the yard's charger", lambda: here.reachable("yard"))
        yield here


def asking(van: Premises, path: str, body: object = None, *options: str) -> tuple[int, dict]:
    """With curl, as a shell script of the gateway would ask."""
    text = body if isinstance(body, str) or body is None else json.dumps(body)
    command = ["curl", "-sS", "--unix-socket", str(van.root / "api.sock"), "-w", "\n%{http_code}", *options]
    command += [] if text is None else ["-H", "Content-Type: application/json", "--data-binary", "@-"]
    done = subprocess.run(
        [*command, f"http://localhost{path}"], input=text or "", capture_output=True, text=True, check=True, timeout=20
    )
    answer, _, status = done.stdout.rpartition("\n")
    return int(status), json.loads(answer)


def test_a_tap_is_decided_and_explained(van):
    answer = van.tap("right", BERT)
    assert answer["outcome"] == "refused"
    assert {each["code"] for each in answer["reasons"]} == {"NETWORK", "TIME_WINDOW"}
    decision = van.api.get(f"/v1/decisions/{answer['decision']}")
    assert decision["outcome"] == "refused"
    assert decision["holder"]["driver"] == "bert"
    assert van.api.get(f"/v1/decisions/{decision['support']}")["decision"] == answer["decision"]


def test_a_decision_is_recorded_and_starts_nothing(van):
    place = {"evse": "DE*ABC*E9", "network": "DE*ABC", "country": "DE"}
    status, answer = asking(van, "/v1/decisions", {"uid": ANNA.hex(), **place})
    assert (status, answer["outcome"], answer["session"]) == (200, "granted", None)
    assert van.status()["open_sessions"] == []
    status, answer = asking(van, "/v1/decisions", {"uid": ANNA.hex(), **place, "network": "NL*XYZ"})
    assert [each["code"] for each in answer["reasons"]] == ["NETWORK"]
    status, answer = asking(van, "/v1/decisions", {"uid": CARLA.hex(), "charger": "bay-1"})
    assert [each["code"] for each in answer["reasons"]] == ["TOKEN_BLOCKED"]


def test_a_session_at_a_charger_that_the_gateways_software_drives(van):
    """The commands come over the event stream, the reports go back, the energy is the meter's difference."""
    listener = Listener(van.root / "api.sock")
    try:
        van.report("yard", "plugged_in")
        session = van.tap("door", DORA)["session"]
        start = listener.command("StartAsked")
        assert (start["charger"], start["session"]) == ("yard", session)
        van.report("yard", "started", session=session, meter_wh=1_000)
        van.report("yard", "metered", session=session, meter_wh=1_800, power_w=11_000)
        until("the meter is seen", lambda: van.status()["open_sessions"][0]["energy_wh"] == 800)
        assert van.status()["chargers"]["yard"]["state"] == "charging"
        assert van.tap("door", DORA)["outcome"] == "granted"
        assert listener.command("StopAsked")["session"] == session
        van.report("yard", "stopped", session=session, meter_wh=2_500, reason="Local")
        until("the session ended", lambda: van.status()["open_sessions"] == [])
    finally:
        listener.close()
    ended = van.events("session.ended")[-1]["data"]
    assert (ended["session"], ended["energy_wh"], ended["complete"], ended["reason"]) == (session, 1_500, True, "Local")
    assert van.api.get("/v1/sessions", limit=5)["sessions"][0]["session"] == session
    kinds = {each["type"].removeprefix("io.roamkey.") for each in listener.records}
    assert kinds >= {"decision.made", "session.authorised", "session.started", "session.stop_requested"}


def test_the_status_says_what_a_charger_does(van):
    def state() -> str:
        return van.status()["chargers"]["yard"]["state"]

    for event, body, told in (
        ("plugged_in", {}, "plugged"),
        ("faulted", {"code": "GroundFailure"}, "faulted"),
        ("found", {"state": "available"}, "available"),
    ):
        van.report("yard", event, **body)
        until(f"the yard is {told}", lambda told=told: state() == told)
    van.report("yard", "plugged_in")
    van.report("yard", "unplugged")
    until("the yard is free", lambda: state() == "available")


def test_the_journal_is_read_in_pages_without_a_gap(van):
    van.tap("right", STRANGER)
    last = van.api.get("/v1/journal", limit=1)["head"]["last"]
    seen = []
    while page := van.api.get("/v1/journal", after=seen[-1] if seen else 0, limit=7)["records"]:
        assert len(page) <= 7
        seen += [each["sequence"] for each in page]
    assert seen[:last] == list(range(1, last + 1))
    newest = van.api.get("/v1/journal", after=-1, limit=3)["records"]
    assert [each["sequence"] for each in newest] == seen[-3:]


def test_an_export_is_a_whole_journal_that_verifies(van, tmp_path):
    copy = tmp_path / "copy.db"
    status, answer = asking(van, "/v1/journal/export", {"path": str(copy)})
    assert (status, answer) == (200, {"path": str(copy)})
    device_key = van.state / "vault" / "device.jwk"
    verdict = json.loads(good(roamkey("journal", "verify", "--json", "--file", copy, "--key", device_key)))
    assert verdict["ok"]
    assert verdict["signatures_judged"]
    with sqlite3.connect(copy) as database:
        assert database.execute("SELECT count(*) FROM record").fetchone()[0] == verdict["records"]
    database.close()
    status, answer = asking(van, "/v1/journal/export", {"path": str(copy)})
    assert status == 409
    assert str(copy) in answer["error"]


WRONG = {
    "no JSON": ("/v1/taps", "no json", 422, "JSON"),
    "half a JSON object": ("/v1/taps", '{"reader": "left", "uid": "0499', 422, "JSON"),
    "not UTF-8": ("/v1/taps", '{"reader": "\udcff"}', 422, ""),
    "a missing field": ("/v1/taps", {"reader": "left"}, 422, "uid: Field required"),
    "an unknown field": ("/v1/taps", {"reader": "left", "uid": "04998877665544", "colour": 1}, 422, "colour"),
    "a UID that is none": ("/v1/taps", {"reader": "left", "uid": "hello"}, 422, "uid"),
    "a UID of a length that no card has": ("/v1/taps", {"reader": "left", "uid": "049988776655"}, 422, "uid"),
    "an unknown reader": ("/v1/taps", {"reader": "roof", "uid": "04998877665544"}, 404, "left, right, door"),
    "an unknown charger's decision": ("/v1/decisions", {"uid": "04998877665544", "charger": "roof"}, 404, "yard"),
    "a place as long as a book": ("/v1/decisions", {"uid": "04998877665544", "evse": "E" * 5_000}, 422, "evse"),
    "an unknown charger": ("/v1/chargers/roof/events", {"event": "plugged_in"}, 404, "yard"),
    "a charger of its own": ("/v1/chargers/bay-1/events", {"event": "plugged_in"}, 404, "yard"),
    "an unknown event": ("/v1/chargers/yard/events", {"event": "exploded"}, 422, "event"),
    "a start without a meter": ("/v1/chargers/yard/events", {"event": "started"}, 422, "meter_wh"),
    "a meter that runs backwards": ("/v1/chargers/yard/events", {"event": "metered", "meter_wh": -1}, 422, "meter_wh"),
    "a meter that is no number": ("/v1/chargers/yard/events", {"event": "metered", "meter_wh": "12"}, 422, "meter_wh"),
    "a meter beyond all registers": ("/v1/chargers/yard/events", {"event": "metered", "meter_wh": 10**40}, 422, "met"),
    "a code as long as a book": ("/v1/chargers/yard/events", {"event": "faulted", "code": "x" * 5_000}, 422, "code"),
    "an export to nowhere": ("/v1/journal/export", {"path": "/nowhere/copy.db"}, 409, "/nowhere/copy.db"),
    "an export to a relative path": ("/v1/journal/export", {"path": "copy.db"}, 422, "absolute"),
    "an unknown decision": ("/v1/decisions/no-such", None, 404, "journal tail"),
    "an unknown path": ("/v2/taps", None, 404, ""),
    "the wrong method": ("/v1/taps", None, 405, ""),
    "a page that is no number": ("/v1/journal?after=x", None, 400, "whole number"),
    "too much": ("/v1/taps", "x" * 100_000, 413, "65536"),
}


@pytest.mark.parametrize("wrong", WRONG.values(), ids=WRONG.keys())
def test_a_wrong_question_gets_a_clear_answer_and_changes_nothing(van, wrong):
    path, body, status, hint = wrong
    before = van.api.get("/v1/journal", limit=1)["head"]["last"]
    if isinstance(body, str) and "\udcff" in body:
        told, answer = raw_post(van, path, body.encode("utf-8", "surrogateescape"))
    else:
        told, answer = asking(van, path, body)
    assert told == status, answer
    assert hint in answer["error"]
    assert not re.search("049988", json.dumps(answer)), "an error must not repeat a UID"
    assert van.api.get("/v1/journal", limit=1)["head"]["last"] == before


@pytest.mark.parametrize("limit", [-5, 0, 10**9])
def test_odd_page_sizes_are_served_sensibly(van, limit):
    records = van.api.get("/v1/journal", after=0, limit=limit)["records"]
    assert records[0]["sequence"] == 1
    van.api.get("/v1/sessions", limit=limit)
    assert van.api.get("/v1/journal", after=-(10**15), limit=2)["records"]


@pytest.mark.parametrize("after", [10**30, -(10**30), 2**63])
def test_a_number_that_sqlite_cannot_hold_is_refused_and_breaks_nothing(van, after):
    status, answer = asking(van, f"/v1/journal?after={after}&limit=1")
    assert status == 400
    assert "whole number" in answer["error"]
    assert van.tap("right", STRANGER)["outcome"] == "refused"


def test_a_session_that_nobody_starts_is_ended_and_says_so(van):
    """No software of the gateway listens: the command goes nowhere, and no silence becomes a success."""
    van.report("yard", "found", state="available", meter_wh=2_500)
    session = van.tap("door", DORA)["session"]
    van.report("yard", "unplugged")
    until("it is withdrawn", lambda: van.status()["open_sessions"] == [])
    ended = van.events("session.ended")[-1]["data"]
    assert (ended["session"], ended["started"], ended["energy_wh"]) == (session, False, 0)
    assert "no software of the gateway listens" in van.service.said()


def test_only_the_owner_and_the_group_may_open_the_socket(van):
    mode = (van.root / "api.sock").stat().st_mode
    assert stat.S_ISSOCK(mode)
    assert oct(stat.S_IMODE(mode)) == "0o660"


def test_nothing_listens_on_a_network_port(van):
    pid = van.service.process.pid
    inodes = set()
    for link in Path(f"/proc/{pid}/fd").iterdir():
        try:
            target = os.readlink(link)
        except FileNotFoundError:
            continue
        if found := re.fullmatch(r"socket:\[(\d+)\]", target):
            inodes.add(found[1])
    for family in ("tcp", "tcp6", "udp", "udp6"):
        lines = Path(f"/proc/{pid}/net/{family}").read_text().splitlines()[1:]
        assert [line for line in lines if line.split()[9] in inodes] == []


def test_the_description_is_valid_and_names_exactly_what_is_served(van):
    from agent.api import Api

    status, document = asking(van, "/openapi.json")
    assert status == 200
    validate(document)
    served = {(route.path, method) for route in Api(None).routes() for method in route.methods - {"HEAD"}}
    described = {(path, method.upper()) for path, methods in document["paths"].items() for method in methods}
    assert described == served


class TestVerbs:
    """The command line against the running service, for people and with --json."""

    @pytest.fixture
    def config(self, van):
        return ("--config", van.config)

    def test_tap(self, van, config):
        done = roamkey("tap", "--reader", "right", "--uid", "62:00:E3:17:99", *config)
        assert done.returncode == 1
        assert "refused" in done.stdout
        assert "TOKEN_UNKNOWN" in done.stdout
        done = roamkey("tap", "--reader", "right", "--uid", CARLA.hex(), "--json", *config)
        assert json.loads(done.stdout)["reasons"][0]["code"] == "TOKEN_BLOCKED"

    def test_tap_at_a_reader_that_is_not_there(self, config):
        done = roamkey("tap", "--reader", "roof", "--uid", ANNA.hex(), *config)
        assert done.returncode == 66
        assert "left, right, door" in done.stderr

    def test_tap_with_a_uid_that_is_none_says_what_one_is(self, config):
        done = roamkey("tap", "--reader", "left", "--uid", "hello", *config)
        assert done.returncode == 65
        assert "hexadecimal" in done.stderr

    def test_status(self, config):
        assert "van-0007 of fleet acme" in good(roamkey("status", *config))
        assert json.loads(good(roamkey("status", "--json", *config)))["policy"]["freshness"] == "fresh"

    def test_sessions(self, config):
        assert "sessions" in good(roamkey("sessions", *config))
        assert isinstance(json.loads(good(roamkey("sessions", "--json", *config))), list)

    def test_explain(self, van, config):
        decision = van.tap("right", BERT)["decision"]
        said = good(roamkey("explain", decision, *config))
        assert "REFUSED" in said
        assert "rule network_allowed" in said
        assert "rule inside_window" in said
        assert json.loads(good(roamkey("explain", decision, "--json", *config)))["decision"] == decision
        done = roamkey("explain", "nothing", *config)
        assert done.returncode == 66

    def test_explain_survives_what_no_decision_is_called(self, config):
        for odd in ("../status", "a b", "%00", "ü", "?x"):
            done = roamkey("explain", odd, *config)
            assert done.returncode == 66, (odd, done)

    def test_journal(self, van, config, tmp_path):
        assert "decision.made" in good(roamkey("journal", "tail", "-n", "50", *config))
        lines = good(roamkey("journal", "tail", "-n", "4", "--json", *config)).splitlines()
        assert [json.loads(line)["specversion"] for line in lines] == ["1.0"] * 4
        assert "whole" in good(roamkey("journal", "verify", *config))
        assert json.loads(good(roamkey("journal", "verify", "--json", *config)))["ok"]
        good(roamkey("journal", "export", tmp_path / "out.db", *config))
        assert "whole" in good(roamkey("journal", "verify", "--file", tmp_path / "out.db"))

    def test_without_a_service_they_say_so(self, tmp_path):
        for verb in (("status",), ("sessions",), ("tap", "--reader", "a", "--uid", "01020304"), ("journal", "tail")):
            done = roamkey(*verb, "--socket", tmp_path / "none.sock")
            assert done.returncode == 69, done
            assert "roamkey run" in done.stderr
            assert "Traceback" not in done.stderr

    def test_with_a_configuration_that_is_wrong_they_say_what(self, tmp_path):
        config = tmp_path / "wrong.toml"
        config.write_text("[device]\nflet = 'x'\n")
        for verb in (("status",), ("sessions",), ("explain", "x"), ("journal", "tail")):
            done = roamkey(*verb, "--config", config)
            assert done.returncode == 78, done
            assert "did you mean 'fleet'" in done.stderr
            assert "Traceback" not in done.stderr


class Listener:
    """Reads the event stream over a plain socket, as the gateway's software does."""

    def __init__(self, path: Path) -> None:
        self.lines: list[dict] = []
        self._socket = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
        self._socket.connect(str(path))
        self._socket.sendall(b"GET /v1/events HTTP/1.1\r\nHost: localhost\r\n\r\n")
        self._file = self._socket.makefile("rb")
        assert b"200" in self._file.readline()
        self._thread = threading.Thread(target=self._listen, daemon=True)
        self._thread.start()

    @property
    def records(self) -> list[dict]:
        return [line for line in self.lines if "specversion" in line]

    def command(self, name: str) -> dict:
        until(f"command {name}", lambda: any(line.get("command") == name for line in self.lines))
        return next(line for line in self.lines if line.get("command") == name)

    def close(self) -> None:
        self._socket.shutdown(socket.SHUT_RDWR)
        self._thread.join(5)
        self._file.close()
        self._socket.close()

    def _listen(self) -> None:
        for line in self._file:
            if line.startswith(b"{"):
                self.lines.append(json.loads(line))


def raw_post(van: Premises, path: str, body: bytes) -> tuple[int, dict]:
    with socket.socket(socket.AF_UNIX, socket.SOCK_STREAM) as plain:
        plain.connect(str(van.root / "api.sock"))
        head = f"POST {path} HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\nContent-Length: {len(body)}\r\n\r\n"
        plain.sendall(head.encode() + body)
        said = b"".join(iter(lambda: plain.recv(4096), b""))
    head_bytes, _, answer = said.partition(b"\r\n\r\n")
    return int(head_bytes.split()[1]), json.loads(answer)
