"""`roamkey doctor` before machines made of files: what it finds, what it blames, and what it says to do."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

import firmware_profiles
from agent.cli import main
from agent.hardware import Diagnosis, Machine, Verdict, diagnose
from firmware_profiles.profile import Profile

PROFILES = [firmware_profiles.load(each) for each in firmware_profiles.available() if each.startswith("readers/")]
BRIDGE = "usb-1a86_USB_Serial-if00-port0"


class Workshop:
    """A machine made of files."""

    def __init__(self, root: Path) -> None:
        self.root = root
        self.write("proc/modules", "")
        self.write("run/pcscd/pcscd.comm", "")
        for rules in ("70-roamkey-serial.rules", "70-roamkey-readers.rules"):
            self.write(f"etc/udev/rules.d/{rules}", "")

    def write(self, path: str, text: str) -> Path:
        file = self.root / path
        file.parent.mkdir(parents=True, exist_ok=True)
        file.write_text(text)
        return file

    def link(self, path: str, target: str) -> None:
        link = self.root / path
        link.parent.mkdir(parents=True, exist_ok=True)
        link.symlink_to(self.root / target)

    def usb(self, place: str, vendor: str, product: str, name: str, *, bound: str | None = None) -> str:
        folder = f"sys/bus/usb/devices/{place}"
        for key, text in {
            "idVendor": vendor, "idProduct": product, "product": name, "manufacturer": "", "busnum": "1", "devnum": "4",
        }.items():  # fmt: skip
            self.write(f"{folder}/{key}", f"{text}\n")
        if bound is not None:
            self.write(f"sys/bus/usb/drivers/{bound}/uevent", "")
            self.link(f"{folder}/{place}:1.0/driver", f"sys/bus/usb/drivers/{bound}")
        return folder

    def bridge(self, tty: str = "ttyUSB0", by_id: str | None = BRIDGE) -> Path:
        """A USB serial bridge, whatever is behind it."""
        folder = self.usb("1-1", "1a86", "7523", "USB Serial")
        self.write(f"{folder}/1-1:1.0/{tty}/uevent", "")
        self.link(f"sys/class/tty/{tty}/device", f"{folder}/1-1:1.0/{tty}")
        node = self.write(f"dev/{tty}", "")
        if by_id is not None:
            self.link(f"dev/serial/by-id/{by_id}", f"dev/{tty}")
        return node

    def program(self, pid: int, name: str, opened: str) -> None:
        self.write(f"proc/{pid}/comm", f"{name}\n")
        self.link(f"proc/{pid}/fd/7", opened)

    def diagnoses(self, *configured: tuple[str, Profile, str], pcsc: tuple[str, ...] = ()) -> list[Diagnosis]:
        return list(diagnose(Machine(self.root, pcsc=pcsc), PROFILES, configured))


@pytest.fixture
def workshop(tmp_path: Path) -> Workshop:
    return Workshop(tmp_path)


def the(diagnoses: list[Diagnosis], word: str) -> Diagnosis:
    (found,) = [each for each in diagnoses if word in each.detail]
    return found


def test_an_empty_machine_is_told_and_what_to_do(workshop: Workshop):
    (only,) = workshop.diagnoses()
    assert "nothing is plugged in" in only.detail
    assert only.next


def test_an_acr122u_is_recognised_and_the_modules_that_took_it_are_named(workshop: Workshop):
    workshop.usb("1-2", "072f", "2200", "ACR122U PICC Interface", bound="pn533_usb")
    workshop.write(
        "proc/modules", "pn533_usb 20480 0 - Live\npn533 45056 1 pn533_usb, Live\nnfc 131072 1 pn533, Live\n"
    )
    diagnoses = workshop.diagnoses()
    assert "readers/acr122u" in the(diagnoses, "ACR122U PICC").detail
    taken = the(diagnoses, "has taken it")
    assert taken.verdict is Verdict.BAD
    assert "modprobe -r pn533_usb pn533 nfc" in taken.next
    assert "blacklist pn533_usb" in taken.next


def test_a_pcsc_reader_is_its_daemons_and_only_the_daemon_is_asked_for(
    workshop: Workshop, monkeypatch: pytest.MonkeyPatch
):
    monkeypatch.setattr("agent.hardware.os.access", lambda node, mode: False)
    workshop.usb("1-2", "072f", "2200", "ACR122U", bound="usbfs")
    workshop.write("dev/bus/usb/001/004", "")
    workshop.program(88, "pcscd", "dev/bus/usb/001/004")
    assert [each.verdict for each in workshop.diagnoses()] == [Verdict.GOOD]
    (workshop.root / "run/pcscd/pcscd.comm").unlink()
    assert "systemctl enable --now pcscd.socket" in the(workshop.diagnoses(), "daemon").next


def test_a_stick_that_the_service_holds_is_held_by_a_program_and_not_by_the_kernel(workshop: Workshop):
    workshop.usb("1-3", "04e6", "5591", "SCL3711", bound="usbfs")
    workshop.write("dev/bus/usb/001/004", "")
    workshop.program(90, "roamkey", "dev/bus/usb/001/004")
    assert "systemctl stop roamkey" in the(workshop.diagnoses(), "held by roamkey (90)").next
    assert not [each for each in workshop.diagnoses() if "kernel" in each.detail]


def test_modules_that_are_not_loaded_are_not_blamed(workshop: Workshop):
    workshop.usb("1-2", "072f", "2200", "ACR122U PICC Interface", bound="usbfs")
    workshop.write("proc/modules", "cdc_acm 40960 0 - Live\n")
    assert [each.verdict for each in workshop.diagnoses()] == [Verdict.GOOD]


def test_a_stick_that_another_kernel_driver_holds_is_told_with_its_name(workshop: Workshop):
    workshop.usb("1-3", "04e6", "5591", "SCL3711", bound="cdc_acm")
    assert "the kernel driver cdc_acm has taken it" in the(workshop.diagnoses(), "taken").detail


def test_a_serial_bridge_is_no_proof_of_a_reader_and_its_stable_name_is_offered(workshop: Workshop):
    workshop.bridge()
    told = workshop.diagnoses()[0]
    assert told.what == f"/dev/serial/by-id/{BRIDGE}"
    assert "roamkey profiles try" in told.next


def test_a_twn4_on_its_own_usb_id_is_recognised_at_its_port(workshop: Workshop):
    folder = workshop.usb("1-4", "09d8", "0420", "TWN4 COM")
    workshop.write(f"{folder}/1-4:1.0/ttyACM0/uevent", "")
    workshop.link("sys/class/tty/ttyACM0/device", f"{folder}/1-4:1.0/ttyACM0")
    workshop.write("dev/ttyACM0", "")
    told = the(workshop.diagnoses(), "TWN4 COM")
    assert told.what == "/dev/ttyACM0"
    assert "readers/twn4_simple" in told.detail


def test_who_holds_the_port_is_named_with_what_to_do(workshop: Workshop):
    workshop.bridge()
    workshop.program(431, "ModemManager", "dev/ttyUSB0")
    held = the(workshop.diagnoses(), "held by")
    assert "ModemManager (431)" in held.detail
    assert "udev" in held.next


def test_a_port_without_permission_names_the_group_that_is_missing(workshop: Workshop, monkeypatch: pytest.MonkeyPatch):
    workshop.bridge()
    monkeypatch.setattr("agent.hardware.os.access", lambda node, mode: False)
    denied = the(workshop.diagnoses(), "may not open")
    assert denied.verdict is Verdict.BAD
    assert "usermod -aG" in denied.next


def test_missing_udev_rules_are_told_only_where_there_is_a_reader(workshop: Workshop):
    (workshop.root / "etc/udev/rules.d/70-roamkey-readers.rules").unlink()
    assert not [each for each in workshop.diagnoses() if each.what == "udev"]
    workshop.bridge()
    missing = the(workshop.diagnoses(), "not installed")
    assert "70-roamkey-readers.rules" in missing.detail
    assert "udevadm" in missing.next


def test_a_pcsc_reader_is_recognised_by_its_name(workshop: Workshop):
    told = workshop.diagnoses(pcsc=("HID Global OMNIKEY 5022 Contactless 0",))[0]
    assert told.what == "HID Global OMNIKEY 5022 Contactless 0"
    assert "readers/pcsc_contactless" in told.detail


def configured(profile_id: str, port: str) -> tuple[str, Profile, str]:
    return ("gate", firmware_profiles.load(profile_id), port)


def test_a_numbered_port_is_replaced_by_its_stable_name_and_the_speed_is_told(workshop: Workshop):
    workshop.bridge()
    diagnoses = workshop.diagnoses(configured("readers/rdm6300", "/dev/ttyUSB0"))
    assert f'port = "/dev/serial/by-id/{BRIDGE}"' in the(diagnoses, "order of plugging").next
    assert "9600 baud" in the(diagnoses, "readers/rdm6300 at").detail


def test_a_configured_port_that_is_not_there_is_an_error_that_lists_the_others(workshop: Workshop):
    workshop.bridge()
    lost = the(workshop.diagnoses(configured("readers/rdm6300", "/dev/serial/by-id/usb-other")), "is not there")
    assert lost.verdict is Verdict.BAD
    assert BRIDGE in lost.next


def test_a_profile_that_does_not_fit_the_device_is_told(workshop: Workshop):
    folder = workshop.usb("1-4", "09d8", "0420", "TWN4 COM")
    workshop.write(f"{folder}/1-4:1.0/ttyACM0/uevent", "")
    workshop.link("sys/class/tty/ttyACM0/device", f"{folder}/1-4:1.0/ttyACM0")
    workshop.write("dev/ttyACM0", "")
    diagnoses = workshop.diagnoses(configured("readers/rdm6300", "/dev/ttyACM0"))
    assert "readers/twn4_simple" in the(diagnoses, "configured as").detail


def test_a_usb_reader_that_is_not_plugged_in_is_an_error(workshop: Workshop):
    assert the(workshop.diagnoses(configured("readers/scl3711", "")), "that is readers/scl3711").verdict is Verdict.BAD


def test_the_verb_prints_what_programs_can_read_and_ends_with_one_for_an_error(
    workshop: Workshop, capsys: pytest.CaptureFixture[str]
):
    workshop.usb("1-2", "072f", "2200", "ACR122U", bound="pn533_usb")
    assert main(["doctor", "--root", str(workshop.root), "--json"]) == 1
    told = json.loads(capsys.readouterr().out)
    assert not told["ok"]
    assert {"what", "verdict", "detail", "next"} == set(told["diagnoses"][0])
    assert main(["doctor", "--root", str(workshop.root)]) == 1
    assert "072f:2200" in capsys.readouterr().out


def test_every_complaint_says_what_to_do_next(workshop: Workshop, monkeypatch: pytest.MonkeyPatch):
    workshop.bridge()
    workshop.usb("1-2", "072f", "2200", "ACR122U", bound="pn533_usb")
    workshop.program(7, "python", "dev/ttyUSB0")
    monkeypatch.setattr("agent.hardware.os.access", lambda node, mode: False)
    told = workshop.diagnoses(configured("readers/rdm6300", "/dev/ttyUSB0"), configured("readers/scl3711", ""))
    assert {Verdict.BAD, Verdict.WORSE} <= {each.verdict for each in told}
    assert all(each.next for each in told if each.verdict is not Verdict.GOOD)


def test_check_sends_to_the_doctor_and_warns_of_known_weaknesses(tmp_path: Path):
    from agent.environment import Verdict as Checked
    from agent.environment import device

    (missing,) = device("reader gate", "readers/rdm6300", str(tmp_path / "none"), None)
    assert missing.verdict is Checked.WORSE
    assert "roamkey doctor" in missing.detail
    found = list(device("reader gate", "readers/phoenix_charx", "charger.local", None))
    assert "VDE-2024-019" in found[0].detail
    assert found[-1].verdict is Checked.GOOD
