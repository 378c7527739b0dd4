"""The unit file, judged by systemd's own tools; they need no running systemd."""

from __future__ import annotations

import re
import shutil
import subprocess
from pathlib import Path

import pytest

import firmware_profiles

SYSTEMD = Path(__file__).parents[2] / "systemd"
EXPOSURE_TENTHS = 12  # promises.md: at most 1.2 as one process
EXEC_START = "ExecStart=/opt/roamkey/.venv/bin/roamkey run --config /etc/roamkey/roamkey.toml"


@pytest.fixture
def unit(tmp_path: Path) -> Path:
    """The shipped unit with its drop-in, as installed, but for a program that exists here."""
    text = (SYSTEMD / "roamkey.service").read_text()
    assert EXEC_START in text.splitlines()
    installed = tmp_path / "roamkey.service"
    installed.write_text(text.replace(EXEC_START, "ExecStart=/bin/true"))
    shutil.copytree(SYSTEMD / "roamkey.service.d", tmp_path / "roamkey.service.d")
    return installed


def run(*command: str | Path) -> subprocess.CompletedProcess[str]:
    return subprocess.run(command, capture_output=True, text=True, timeout=30, check=False)


def verify(unit: Path) -> str:
    """What systemd complains about; nothing when all is well."""
    verdict = run("systemd-analyze", "verify", unit)
    return verdict.stdout + verdict.stderr + (f"exit {verdict.returncode}" if verdict.returncode else "")


def security(unit: Path, threshold: int) -> subprocess.CompletedProcess[str]:
    return run("systemd-analyze", "security", "--offline=true", f"--threshold={threshold}", "--no-pager", unit)


def test_systemd_understands_every_line_of_the_unit_and_its_drop_in(unit):
    assert verify(unit) == ""


@pytest.mark.parametrize("place", ["roamkey.service", "roamkey.service.d/credentials.conf"])
def test_systemd_would_have_noticed_a_misspelt_line(unit, place):
    file = unit.parent / place
    file.write_text(file.read_text().replace("[Service]", "[Service]\nLoadCredentails=x:/x"))
    assert "Unknown key" in verify(unit)


def test_the_exposure_stays_within_what_we_promise(unit):
    verdict = security(unit, EXPOSURE_TENTHS)
    assert verdict.returncode == 0, verdict.stdout


@pytest.mark.parametrize("lost", ["NoNewPrivileges=yes\n", "CapabilityBoundingSet=\n", "ProtectSystem=strict\n"])
def test_a_lost_protection_would_exceed_the_promise(unit, lost):
    text = unit.read_text()
    assert lost in text
    unit.write_text(text.replace(lost, ""))
    assert security(unit, EXPOSURE_TENTHS).returncode != 0


@pytest.mark.parametrize(
    "line",
    [
        "Type=notify",
        "NotifyAccess=main",
        "WatchdogSec=30",
        "Restart=always",
        "RestartPreventExitStatus=78",
        "StartLimitIntervalSec=0",
        "UnsetEnvironment=PYTHONPATH PYTHONHOME PYTHONSTARTUP",
        "StateDirectory=roamkey",
        "RuntimeDirectoryMode=0750",
        "LimitCORE=0",
    ],
)
def test_the_unit_keeps_a_line_that_no_score_measures(line):
    assert line in (SYSTEMD / "roamkey.service").read_text().splitlines()


def test_nothing_runs_before_the_service_that_would_break_its_credentials():
    assert not re.search(r"^ExecStartPre=", (SYSTEMD / "roamkey.service").read_text(), re.MULTILINE)


def test_the_service_user_and_its_group_for_serial_ports_are_created(tmp_path):
    (tmp_path / "etc").mkdir()
    verdict = run("systemd-sysusers", f"--root={tmp_path}", SYSTEMD / "roamkey.sysusers.conf")
    assert verdict.returncode == 0, verdict.stderr
    assert re.search(
        r"^roamkey:.*:/var/lib/roamkey:/usr/sbin/nologin$", passwd := (tmp_path / "etc/passwd").read_text(), re.M
    ), passwd
    assert re.search(r"^dialout:.*:roamkey$", (tmp_path / "etc/group").read_text(), re.M)


@pytest.mark.parametrize("rules", ["70-roamkey-serial.rules", "70-roamkey-readers.rules"])
def test_each_udev_rule_is_made_of_matches_and_assignments_that_udev_knows(rules):
    known = re.compile(
        r"(ACTION|SUBSYSTEM|KERNEL|ATTRS?\{id(Vendor|Product)\}|GROUP|MODE"
        r'|ENV\{(ID_MM_DEVICE_IGNORE|ID_INPUT|DEVTYPE)\}|GOTO|LABEL)(==|!=|=)"[^"]*"'
    )
    for line in (SYSTEMD / rules).read_text().splitlines():
        if line and not line.startswith("# "):
            assert all(known.fullmatch(part) for part in line.removeprefix("#").split(", ")), line


def test_every_usb_reader_that_we_open_ourselves_has_its_udev_rule_and_its_kernel_modules_are_kept_away():
    rules = (SYSTEMD / "70-roamkey-readers.rules").read_text()
    blacklist = set(re.findall(r"^blacklist (\w+)$", (SYSTEMD / "roamkey-readers.modprobe.conf").read_text(), re.M))
    ours = [firmware_profiles.load(each) for each in firmware_profiles.available()]
    for profile in ours:
        assert set(profile.kernel_conflicts) <= blacklist
        for vendor, _, product in (each.partition(":") for each in profile.match.usb if profile.driver == "pn53x_usb"):
            assert re.search(rf'ATTR{{idVendor}}=="{vendor}", ATTR{{idProduct}}=="[^"]*{product}', rules), profile.id


def test_polkit_lets_exactly_our_user_reach_the_card_daemon():
    rule = (SYSTEMD / "50-roamkey-pcsc.rules").read_text()
    assert set(re.findall(r'action\.id == "([^"]+)"', rule)) == {
        "org.debian.pcsc-lite.access_pcsc",
        "org.debian.pcsc-lite.access_card",
    }
    assert re.findall(r'subject\.user == "([^"]+)"', rule) == ["roamkey"]
    assert rule.count("polkit.Result.YES") == 1


def test_the_folder_of_units_is_no_python_package():
    assert not list(SYSTEMD.rglob("*.py")), "a package named systemd would shadow the real one"
