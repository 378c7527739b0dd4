"""What a user installs: the wheel's content, its metadata, and the lock files that say what comes with it."""

from __future__ import annotations

import os
import re
import shutil
import subprocess
import sys
import tomllib
import zipfile
from email.message import Message
from email.parser import Parser
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
PACKAGES = ("agent", "drivers", "sync", "firmware_profiles")
LOCKS = ("requirements.lock", "requirements-dev.lock", "requirements-build.lock")
PROJECT = tomllib.loads((ROOT / "pyproject.toml").read_text())


@pytest.fixture(scope="module")
def wheel(tmp_path_factory) -> zipfile.ZipFile:
    """Built from a copy, with the locked build tools and no network."""
    copy, out = tmp_path_factory.mktemp("source"), tmp_path_factory.mktemp("wheel")
    for folder in (*PACKAGES, "systemd", "tests"):
        shutil.copytree(ROOT / folder, copy / folder)
    for name in ("pyproject.toml", "README.md", "LICENSE", ".gitignore"):
        shutil.copy(ROOT / name, copy)
    build = [
        sys.executable,
        "-m",
        "pip",
        "wheel",
        "--no-deps",
        "--no-build-isolation",
        "--no-index",
        "-w",
        str(out),
        ".",
    ]
    built = subprocess.run(build, cwd=copy, capture_output=True, text=True, check=False, timeout=100)
    assert built.returncode == 0, built.stderr
    (path,) = out.glob("*.whl")
    return zipfile.ZipFile(path)


@pytest.mark.slow
def test_the_wheel_has_our_four_packages_and_nothing_beside_them(wheel):
    tops = {name.partition("/")[0] for name in wheel.namelist()}
    version = PROJECT["project"]["version"]
    assert tops == {*PACKAGES, f"roamkey-{version}.dist-info", f"roamkey-{version}.data"}


@pytest.mark.slow
def test_the_wheel_has_every_module_and_every_data_file(wheel):
    kept = {
        path.relative_to(ROOT).as_posix()
        for package in PACKAGES
        for path in (ROOT / package).rglob("*")
        if path.is_file() and path.suffix in {".py", ".toml", ".typed", ".sql", ".json"}
    }
    assert kept - set(wheel.namelist()) == set()
    assert {f"{package}/py.typed" for package in PACKAGES} <= kept
    assert "firmware_profiles/chargers/line.toml" in kept


@pytest.mark.slow
def test_the_wheel_carries_no_leftovers(wheel):
    assert [name for name in wheel.namelist() if "__pycache__" in name or name.endswith(".pyc")] == []


@pytest.mark.slow
def test_the_wheel_carries_the_unit(wheel):
    (unit,) = [name for name in wheel.namelist() if name.endswith("lib/systemd/system/roamkey.service")]
    assert wheel.read(unit) == (ROOT / "systemd/roamkey.service").read_bytes()


@pytest.fixture(scope="module")
def metadata(wheel) -> Message:
    (name,) = [name for name in wheel.namelist() if name.endswith(".dist-info/METADATA")]
    return Parser().parsestr(wheel.read(name).decode())


@pytest.mark.slow
def test_the_metadata_names_the_program_its_licence_and_its_python(metadata, wheel):
    assert metadata["Name"] == "roamkey"
    assert metadata["License-Expression"] == "Apache-2.0"
    assert metadata["Requires-Python"] == ">=3.11"
    assert "Typing :: Typed" in metadata.get_all("Classifier", [])
    assert any(name.endswith(".dist-info/licenses/LICENSE") for name in wheel.namelist())
    (entry_points,) = [name for name in wheel.namelist() if name.endswith("entry_points.txt")]
    assert "roamkey = agent.cli:main" in wheel.read(entry_points).decode()


def test_the_licence_is_apache_2_in_full():
    text = (ROOT / "LICENSE").read_text()
    assert "Apache License\n                           Version 2.0, January 2004" in text
    assert "END OF TERMS AND CONDITIONS" in text


@pytest.mark.parametrize("lock", LOCKS)
def test_a_lock_file_pins_every_name_with_hashes_and_knows_no_registry(lock):
    text = (ROOT / lock).read_text()
    assert "://" not in text
    assert not re.search(r"^--", text, re.MULTILINE)
    entries = [entry for entry in re.split(r"\n(?=[a-z])", "\n" + text) if "==" in entry]
    assert entries
    for entry in entries:
        assert re.search(r"--hash=sha256:[0-9a-f]{64}\b", entry), entry


def pinned(lock: str) -> dict[str, str]:
    return dict(re.findall(r"^([a-z0-9-]+)==(\S+)", (ROOT / lock).read_text(), re.MULTILINE))


def required(requirements: list[str]) -> set[str]:
    return {re.split(r"[^A-Za-z0-9._-]", each)[0].lower().replace("_", "-") for each in requirements}


def test_what_the_project_requires_is_locked():
    runtime = PROJECT["project"]["dependencies"] + PROJECT["project"]["optional-dependencies"]["demo"]
    groups = PROJECT["dependency-groups"]
    assert required(runtime) <= pinned("requirements.lock").keys()
    assert required(groups["build"]) <= pinned("requirements-build.lock").keys()
    assert required([each for each in groups["dev"] if isinstance(each, str)]) <= pinned("requirements-dev.lock").keys()


def test_the_three_lock_files_agree():
    everything = pinned("requirements-dev.lock")
    for lock in LOCKS:
        assert pinned(lock).items() <= everything.items()


def test_the_same_packages_are_built_checked_and_watched():
    assert tuple(PROJECT["tool"]["hatch"]["build"]["targets"]["wheel"]["packages"]) == PACKAGES
    assert tuple(PROJECT["tool"]["mypy"]["packages"]) == ("agent", "drivers", "sync", "firmware_profiles")


def debian_needs(tmp_path: Path, *needs: str, **programs: str) -> subprocess.CompletedProcess[str]:
    """The script on a machine that has only these programs, each a line of shell."""
    for name, body in programs.items():
        program = tmp_path / name.replace("_", "-")
        program.write_text(f"#!/bin/sh\n{body}\n")
        program.chmod(0o755)
    for name in ("sh", "env"):
        (tmp_path / name).symlink_to(f"/bin/{name}")
    return subprocess.run(
        ["/bin/sh", ROOT / ".ci/debian-needs", *needs],
        env={**os.environ, "PATH": str(tmp_path), "POLICY_RC_D": str(tmp_path / "policy-rc.d")},
        capture_output=True, text=True, check=False, timeout=20,
    )  # fmt: skip


def test_debian_packages_that_are_there_are_not_asked_for(tmp_path):
    verdict = debian_needs(tmp_path, "shell:sh", apt_get="exit 9")
    assert (verdict.returncode, verdict.stdout, verdict.stderr) == (0, "", "")


def test_root_installs_the_missing_debian_packages(tmp_path):
    verdict = debian_needs(tmp_path, "shell:sh", "a-broker:no-such-broker", id="echo 0", apt_get='echo "apt-get $*"')
    assert verdict.returncode == 0
    assert verdict.stdout.splitlines() == [
        "apt-get update",
        "apt-get install -y --no-install-recommends a-broker",
    ]


def test_installing_starts_no_service(tmp_path):
    verdict = debian_needs(
        tmp_path, "a-broker:no-such-broker", id="echo 0", apt_get=f'. "{tmp_path}/policy-rc.d"; echo not reached'
    )
    assert verdict.returncode == 101  # what policy-rc.d answers when asked whether a service may be started
    assert not (tmp_path / "policy-rc.d").exists()


def test_who_may_use_sudo_without_a_password_installs_with_it(tmp_path):
    verdict = debian_needs(
        tmp_path,
        "a-broker:no-such-broker",
        id="echo 1000",
        sudo='shift; exec "$@"',
        apt_get='echo "apt-get $*"',
        true=":",
    )
    assert verdict.stdout.splitlines()[-1] == "apt-get install -y --no-install-recommends a-broker"


@pytest.mark.parametrize("sudo", ["exit 1", None])
def test_who_may_not_install_is_told_what_is_missing_and_how_to_get_it(tmp_path, sudo):
    programs = {"id": "echo 1000", "apt_get": "exit 9"} | ({"sudo": sudo} if sudo else {})
    verdict = debian_needs(tmp_path, "a-broker:no-such-broker", "a-tool:no-such-tool", **programs)
    assert verdict.returncode == 1
    assert "these Debian packages: a-broker a-tool" in verdict.stderr
    assert "apt-get install -y --no-install-recommends a-broker a-tool" in verdict.stderr


def test_without_apt_the_missing_packages_are_named(tmp_path):
    verdict = debian_needs(tmp_path, "a-broker:no-such-broker")
    assert verdict.returncode == 1
    assert "there is no apt-get here: a-broker" in verdict.stderr
