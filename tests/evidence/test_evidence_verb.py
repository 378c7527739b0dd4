"""`roamkey evidence` as people and scripts call it: on files without a service, and with a real service."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from agent.cli import main
from agent.evidence.document import Evidence
from tests.end_to_end.premises import Premises, built_premises, found_office, good, roamkey, until
from tests.evidence.charging_case import Case


@pytest.fixture
def files(tmp_path: Path, charged: Case, file: bytes) -> tuple[Path, Path]:
    (tmp_path / "evidence.json").write_bytes(file)
    (tmp_path / "root.json").write_bytes(charged.bootstrap)
    return tmp_path / "evidence.json", tmp_path / "root.json"


def test_a_good_file_is_told_with_who_where_when_and_by_which_rules(
    files: tuple[Path, Path], capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(["evidence", "--verify", str(files[0]), "--root", str(files[1])]) == 0
    said = capsys.readouterr().out
    for told in ("PROVEN: session s-1", "driver anna", "DE*ABC*E1*1", "11500 Wh", "group vans (of fleet)", "DE, NL"):
        assert told in said
    assert "FAILED" not in said


def test_programs_get_every_check(files: tuple[Path, Path], capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["evidence", "--verify", str(files[0]), "--root", str(files[1]), "--json"]) == 0
    told = json.loads(capsys.readouterr().out)
    assert told["ok"]
    assert [each["check"] for each in told["checks"]] == [
        "file", "root", "bundles", "device key", "records", "session", "meter", "decision", "rules",
    ]  # fmt: skip
    assert told["summary"]["energy_wh"] == 11_500


def test_a_bad_file_names_every_check_that_fails_and_ends_with_1(
    files: tuple[Path, Path], capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(["evidence", "s-2", "--verify", str(files[0]), "--root", str(files[1])]) == 1
    said = capsys.readouterr().out
    assert "FAILED  session" in said
    assert "NOT PROVEN: session" in said

    files[0].write_bytes(files[0].read_bytes()[:-9])
    assert main(["evidence", "--verify", str(files[0]), "--root", str(files[1]), "--json"]) == 1
    told = json.loads(capsys.readouterr().out)
    assert (told["ok"], told["summary"], told["checks"][0]["check"]) == (False, None, "file")


@pytest.mark.parametrize("words", [[], ["--verify", "x.json"]])
def test_what_is_not_said_is_asked_for(words: list[str], capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["evidence", *words]) == 64
    assert capsys.readouterr().err.startswith("roamkey: ")


def test_files_that_are_not_there_and_services_that_do_not_run_are_named(
    files: tuple[Path, Path], capsys: pytest.CaptureFixture[str]
) -> None:
    missing = files[0].with_name("missing.json")
    assert main(["evidence", "--verify", str(missing), "--root", str(files[1])]) == 66
    assert "missing.json" in capsys.readouterr().err
    assert main(["evidence", "--verify", str(files[0]), "--root", str(missing)]) == 66
    assert main(["evidence", "s-1", "--socket", str(missing)]) == 69


def test_a_key_given_by_hand_must_be_one(files: tuple[Path, Path], capsys: pytest.CaptureFixture[str]) -> None:
    words = ["--verify", str(files[0]), "--root", str(files[1]), "--device-key", str(files[1])]
    assert main(["evidence", *words]) == 65
    assert "key type None" in capsys.readouterr().err


def test_the_case_of_these_tests_is_the_one_of_the_file(evidence: Evidence) -> None:
    assert (evidence.session, len(evidence.records)) == ("s-1", 5)


@pytest.mark.slow
def test_a_real_services_session_is_proven_on_another_machine(tmp_path: Path) -> None:
    """Tap, charge, stop; the office lists the device's key; the file and root.json are all that the other one has."""
    with built_premises(tmp_path / "van", found_office(tmp_path / "office"), bays=()) as here:
        here.start_ready()
        session = charge(here)
        evidence = tmp_path / "evidence.json"
        asked = roamkey("evidence", session, "--socket", here.root / "api.sock", "--out", evidence)
        assert (asked.returncode, evidence.exists()) == (1, True)
        assert "devices/van-0007.jwk" in asked.stderr
        unlisted = roamkey("evidence", "--verify", evidence, "--root", here.office.device_files / "root.json")
        assert unlisted.returncode == 1
        assert "FAILED  device key" in unlisted.stdout

        list_device(here)
        evidence.unlink()
        good(roamkey("evidence", session, "--socket", here.root / "api.sock", "--out", evidence))
        again = roamkey("evidence", session, "--socket", here.root / "api.sock", "--out", evidence)
        assert (again.returncode, "is there already" in again.stderr) == (73, True)
        nobody = roamkey("evidence", "nobody", "--socket", here.root / "api.sock", "--out", tmp_path / "x.json")
        assert (nobody.returncode, (tmp_path / "x.json").exists()) == (66, False)
        here.stop()

    said = good(roamkey("evidence", "--verify", evidence, "--root", tmp_path / "office" / "device" / "root.json"))
    assert f"PROVEN: session {session} of device van-0007" in said
    assert "driver anna" in said


def charge(here: Premises) -> str:
    here.report("yard", "found", state="available", meter_wh=0)
    until("the yard's charger", lambda: here.reachable("yard"))
    session = str(here.api.post("/v1/taps", {"reader": "door", "uid": "04A23B4C5D6080"})["session"])
    here.report("yard", "plugged_in")
    waiting = roamkey("evidence", session, "--socket", here.root / "api.sock", "--out", here.root / "early.json")
    assert (waiting.returncode, "has not ended yet" in waiting.stderr) == (75, True)
    here.report("yard", "started", session=session, meter_wh=1_000)
    here.report("yard", "stopped", session=session, meter_wh=8_000, reason="Local")
    until("the session has ended", here.has("session.ended"))
    until("its checkpoint", here.has("checkpoint"))
    return session


def list_device(here: Premises) -> None:
    folder = here.office.source / "devices"
    folder.mkdir()
    (folder / "van-0007.jwk").write_bytes((here.state / "vault" / "device.jwk").read_bytes())
    before = here.status()["policy"]["revision"]
    here.office.publish()
    until("the policy that lists it", lambda: here.status()["policy"]["revision"] > before)
