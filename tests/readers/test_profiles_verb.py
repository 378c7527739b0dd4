"""An integrator adds a reader with one file: `roamkey profiles list|show|check|try`."""

from __future__ import annotations

import io
import json
import re
import sys
import textwrap
from pathlib import Path

import pytest

import firmware_profiles
from agent.cli import build_parser, main
from agent.config import load as load_config
from drivers.readers.replay import faults
from drivers.readers.serial_ascii_simulator import SerialAsciiSimulator
from firmware_profiles.profile import ProfileUnknown

FRAME = "0236323030453331373136383003"
MINE = """
extends = "readers/rdm6300"
id = "readers/mine"
make = "Acme"
model = "Tag 3000"

[transport]
baud = 19200

[match]
serial_by_id = ["usb-ACME_Tag_3000_*"]
"""


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    (tmp_path / "readers").mkdir()
    (tmp_path / "readers" / "mine.toml").write_text(MINE)
    return tmp_path


def test_all_shipped_profiles_are_listed_and_pass_their_own_check(capsys: pytest.CaptureFixture[str]):
    assert main(["profiles", "list", "--json"]) == 0
    listed = json.loads(capsys.readouterr().out)
    assert len([each for each in listed if each["kind"] == "reader"]) >= 20
    assert main(["profiles", "check", "--json"]) == 0
    checked = json.loads(capsys.readouterr().out)
    assert [each["profile"] for each in checked["profiles"] if each["doubts"]] == []


def test_one_file_adds_a_reader(folder: Path, capsys: pytest.CaptureFixture[str]):
    assert main(["profiles", "list", "--folder", str(folder)]) == 0
    assert "readers/mine" in capsys.readouterr().out
    assert main(["profiles", "check", "readers/mine", "--folder", str(folder)]) == 0
    assert main(["profiles", "show", str(folder / "readers" / "mine.toml")]) == 0
    shown = capsys.readouterr().out
    assert "Tag 3000" in shown
    assert "usb-ACME_Tag_3000_*" in shown


def test_show_in_json_is_the_whole_profile(capsys: pytest.CaptureFixture[str]):
    assert main(["profiles", "show", "readers/acr122u", "--json"]) == 0
    assert json.loads(capsys.readouterr().out)["feedback"]["granted"] == ["FF00400E0401010101"]


@pytest.mark.parametrize(
    ("change", "complaint"),
    [
        ('[framing]\ntrailer = "0D"', "is read as rejected (framing)"),
        ("[uid]\nlengths = [4]", "the uid table does not allow"),
        ("confirm_frame = 2", "the nearest known one is 'confirm_frames'"),
    ],
)
def test_a_file_that_does_not_do_what_it_says_is_an_error_with_the_vector(
    change: str, complaint: str, folder: Path, capsys: pytest.CaptureFixture[str]
):
    text = MINE.replace("\n[transport]", f"{change}\n[transport]") if "[" not in change else f"{MINE}\n{change}\n"
    (folder / "readers" / "mine.toml").write_text(text)
    assert main(["profiles", "check", str(folder / "readers" / "mine.toml"), "--json"]) == 65
    assert complaint in json.loads(capsys.readouterr().out)["profiles"][0]["faults"][0]


def test_a_reader_that_is_claimed_twice_and_has_no_evidence_is_a_doubt(
    folder: Path, capsys: pytest.CaptureFixture[str]
):
    mine = 'extends = "readers/acr122u"\nid = "readers/mine"\nmodel = "clone"\n'
    (folder / "readers" / "mine.toml").write_text(mine)
    assert main(["profiles", "check", "readers/mine", "--folder", str(folder), "--json"]) == 0
    assert "both claim usb" in json.loads(capsys.readouterr().out)["profiles"][0]["doubts"][0]


def test_recorded_bytes_are_read_and_every_card_is_masked(tmp_path: Path, capsys: pytest.CaptureFixture[str]):
    recorded = tmp_path / "recorded"
    recorded.write_bytes(b"\xff" + bytes.fromhex(FRAME) + b"\x02lost")
    assert main(["profiles", "try", "readers/rdm6300", "--bytes", str(recorded)]) == 0
    told = capsys.readouterr().out
    assert "62••••••••" in told
    assert "E31716" not in told.upper()


def test_bytes_in_hexadecimal_come_from_stdin(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]):
    monkeypatch.setattr(sys, "stdin", io.TextIOWrapper(io.BytesIO(f"{FRAME}\n".encode())))
    assert main(["profiles", "try", "readers/rdm6300", "--bytes", "-", "--hex"]) == 0
    assert "62••••••••" in capsys.readouterr().out


def test_bytes_without_a_card_are_a_failure_with_the_reason(tmp_path: Path, capsys: pytest.CaptureFixture[str]):
    recorded = tmp_path / "recorded"
    recorded.write_bytes(bytes.fromhex(FRAME).replace(b"80\x03", b"81\x03"))
    assert main(["profiles", "try", "readers/rdm6300", "--bytes", str(recorded)]) == 1
    printed = capsys.readouterr()
    assert "rejected  checksum" in printed.out
    assert "no card" in printed.err


def test_a_device_is_tried_and_its_cards_are_masked(tmp_path: Path, capsys: pytest.CaptureFixture[str]):
    with SerialAsciiSimulator.rdm6300(link=tmp_path / "reader") as simulator:
        simulator.present(bytes.fromhex("6200E31716"))
        assert main(["profiles", "try", "readers/rdm6300", "--port", simulator.port, "--seconds", "0.4"]) == 0
    told = capsys.readouterr().out.splitlines()
    assert told[0] == "ready     generic RDM6300, firmware unknown"
    assert told[-1] == "card      62••••••••  em4100  static"


def test_a_device_that_is_not_there_is_an_error_and_sends_to_the_doctor(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
):
    port = str(tmp_path / "nothing")
    assert main(["profiles", "try", "readers/rdm6300", "--port", port, "--seconds", "0.1"]) == 69
    told = capsys.readouterr()
    assert told.out.startswith("lost ")
    assert "roamkey doctor" in told.err


@pytest.mark.parametrize("port", [["--port", "/dev/x", "--bytes", "y"], []])
def test_a_try_wants_either_a_device_or_bytes(port: list[str], capsys: pytest.CaptureFixture[str]):
    assert main(["profiles", "try", "readers/rdm6300", *port]) == 64
    assert "either" in capsys.readouterr().err


@pytest.mark.parametrize("action", ["show", "try"])
def test_an_unknown_profile_is_told_with_the_nearest_one(action: str, capsys: pytest.CaptureFixture[str]):
    assert main(["profiles", action, "readers/rdm630"]) == 65
    assert "readers/rdm6300" in capsys.readouterr().err


def test_the_service_takes_profiles_from_the_folder_of_its_configuration(folder: Path, tmp_path: Path):
    file = tmp_path / "roamkey.toml"
    file.write_text('[device]\nfleet = "acme"\nname = "van"\n[profiles]\nfolder = "own"\n')
    assert load_config(file).profiles.folder == tmp_path / "own"
    assert firmware_profiles.load("readers/mine", folder=folder).transport.baud == 19200


@pytest.mark.parametrize("profile_id", [each for each in firmware_profiles.available() if each.startswith("readers/")])
def test_a_shipped_profile_has_no_fault_and_a_spoiled_one_has(profile_id: str):
    profile = firmware_profiles.load(profile_id)
    assert list(faults(profile)) == []
    first, *others = profile.vectors.accept
    broken_off = first.model_copy(update={"raw": first.raw[: len(first.raw) // 2]})
    vectors = profile.vectors.model_copy(update={"accept": (broken_off, *others)})
    assert list(faults(profile.model_copy(update={"vectors": vectors})))


def test_the_profile_and_the_configuration_in_the_page_about_readers_are_right(tmp_path: Path):
    page = (Path(__file__).parents[2] / "docs" / "readers.md").read_text()
    blocks = [textwrap.dedent(each) for each in re.findall(r"\n\n((?:    .*\n|\n(?=    ))+)", page)]
    (profile,) = [each for each in blocks if "extends" in each]
    (tmp_path / "readers").mkdir()
    (tmp_path / "readers" / "acme.toml").write_text(profile)
    assert main(["profiles", "check", "readers/acme", "--folder", str(tmp_path)]) == 0
    assert firmware_profiles.load("readers/acme", folder=tmp_path).match.serial_by_id
    (settings,) = [each for each in blocks if "[profiles]" in each]
    file = tmp_path / "roamkey.toml"
    file.write_text(f'[device]\nfleet = "acme"\nname = "van"\n{settings}')
    assert load_config(file).profiles.folder == Path("/etc/roamkey/profiles")
    verbs = [line.split()[1:] for block in blocks for line in block.splitlines() if line.startswith("roamkey ")]
    assert verbs
    for words in verbs:
        with pytest.raises(SystemExit) as ended:
            build_parser().parse_args([*words[: 2 if words[0] == "profiles" else 1], "--help"])
        assert ended.value.code == 0


def test_an_id_that_is_too_long_for_a_file_s_name_is_unknown(folder: Path) -> None:
    with pytest.raises(ProfileUnknown):
        firmware_profiles.load("readers/" + "a" * 300, folder=folder)
