"""Root keys that are not on the publisher's disk, several of which must sign; what the online machine can do alone."""

from __future__ import annotations

import json
import shutil
from pathlib import Path
from typing import Any

import pytest

from agent.cache.cache import Activated, Refused, Unchanged
from agent.cli import main
from sync.backend.publisher import Publisher, PublisherError, SignaturesMissing


def copy_of(folder: Path, make: Any) -> Any:
    repository = folder / "repository"
    files = (path for path in repository.rglob("*") if path.is_file())
    return make.Stick({str(path.relative_to(repository)): path.read_bytes() for path in files})


@pytest.fixture
def strict(tmp_path: Path, make: Any) -> Path:
    """Two of three root keys must sign; each lies in a safe of its own, and none on the publisher's disk."""
    folder = tmp_path / "office"
    Publisher.init(folder, fleet="meadow", now=make.NOON, root_keys=3, root_threshold=2, root_folder=tmp_path / "made")
    for number in (1, 2, 3):
        safe = tmp_path / f"safe-{number}"
        safe.mkdir()
        shutil.move(tmp_path / "made" / f"root-{number}.pem", safe / f"root-{number}.pem")
    return folder


def test_the_root_keys_were_never_in_the_folder(strict: Path, make: Any) -> None:
    assert list(strict.rglob("root-*.pem")) == []
    status = Publisher(strict).status()
    root = status.roles["root"]
    assert (root.threshold, root.keys, root.here) == (2, 3, 0)
    assert (status.roles["timestamp"].threshold, status.roles["timestamp"].here) == (1, 1)


def test_publishing_needs_no_root_key(strict: Path, tmp_path: Path, make: Any) -> None:
    device = make.ADevice(tmp_path / "device", "meadow", Publisher(strict).root)
    publisher = Publisher(strict)
    publisher.publish(make.documents(revision=2), now=make.NOON)
    assert isinstance(device.updates(copy_of(strict, make)), Activated)
    device.stops()


def test_the_machine_that_confirms_has_the_timestamp_key_alone(strict: Path, tmp_path: Path, make: Any) -> None:
    Publisher(strict).publish(make.documents(revision=2), now=make.NOON)
    device = make.ADevice(tmp_path / "device", "meadow", Publisher(strict).root)
    device.updates(copy_of(strict, make))
    online = tmp_path / "online"
    (online / "keys").mkdir(parents=True)
    shutil.copytree(strict / "repository", online / "repository")
    shutil.copy(strict / "keys/timestamp.pem", online / "keys")

    Publisher(online).refresh_timestamp(now=make.at(3).utc)

    assert isinstance(device.updates(copy_of(online, make), make.at(3)), Unchanged)
    assert device.cache.active.policy.confirmed == make.at(3).utc
    with pytest.raises(PublisherError, match="private key of role targets is not in"):
        Publisher(online).publish(make.documents(revision=3), now=make.NOON)
    device.stops()


def test_a_root_waits_until_enough_have_signed(strict: Path, tmp_path: Path, make: Any) -> None:
    Publisher(strict).publish(make.documents(revision=2), now=make.NOON)
    device = make.ADevice(tmp_path / "device", "meadow", Publisher(strict).root)
    device.updates(copy_of(strict, make))
    before = copy_of(strict, make).files

    for _ in range(2):  # the same key twice is one signature
        with pytest.raises(SignaturesMissing, match="2 root keys must sign, 1 are in"):
            Publisher(strict, root_keys=tmp_path / "safe-1").rotate("timestamp", now=make.NOON)
        assert copy_of(strict, make).files == before  # nothing that a device could see
        assert Publisher(strict).status().pending == ("timestamp",)
    with pytest.raises(PublisherError, match="a new key of timestamp waits for signatures"):
        Publisher(strict, root_keys=tmp_path / "safe-3").rotate("targets", now=make.NOON)

    assert Publisher(strict, root_keys=tmp_path / "safe-3").rotate("timestamp", now=make.NOON) == 2

    assert Publisher(strict).status().pending == ()
    assert isinstance(device.updates(copy_of(strict, make), make.at(1)), Unchanged)
    assert device.cache.active is not None
    device.stops()


def test_new_root_keys_with_another_threshold_are_followed(strict: Path, tmp_path: Path, make: Any) -> None:
    Publisher(strict).publish(make.documents(revision=2), now=make.NOON)
    device = make.ADevice(tmp_path / "device", "meadow", Publisher(strict).root)
    device.updates(copy_of(strict, make))
    meeting = tmp_path / "meeting"
    meeting.mkdir()
    for number in (1, 2):
        shutil.copy(tmp_path / f"safe-{number}" / f"root-{number}.pem", meeting)

    Publisher(strict, root_keys=meeting).rotate("root", now=make.NOON, keys=5, threshold=3)

    root = Publisher(strict).status().roles["root"]
    assert (root.threshold, root.keys, root.here) == (3, 5, 0)
    assert len(list(meeting.glob("root-*.v2.pem"))) == 5
    for old in [*meeting.glob("root-?.pem"), *sorted(meeting.glob("root-*.v2.pem"))[3:]]:
        old.unlink()
    assert Publisher(strict, root_keys=meeting).rotate("timestamp", now=make.NOON) == 3  # by three of the new five
    assert isinstance(device.updates(copy_of(strict, make), make.at(1)), Unchanged)
    device.stops()


def test_a_threshold_beyond_the_keys_cannot_be_asked_for(strict: Path, tmp_path: Path, make: Any) -> None:
    with pytest.raises(PublisherError, match="4 of 3 root keys cannot be asked for"):
        Publisher(strict, root_keys=tmp_path / "safe-1").rotate("root", now=make.NOON, threshold=4)


def test_the_verb_says_what_it_waits_for(tmp_path: Path, capsys: pytest.CaptureFixture[str], make: Any) -> None:
    office, stick, other = str(tmp_path / "office"), tmp_path / "stick", tmp_path / "other"
    words = ["--fleet", "meadow", "--root-keys", "2", "--root-threshold", "2", "--root-dir", str(stick)]
    assert main(["fleet", "init", office, *words]) == 0
    other.mkdir()
    shutil.move(stick / "root-2.pem", other / "root-2.pem")
    capsys.readouterr()

    assert main(["fleet", "rotate-key", office, "targets", "--root-dir", str(stick)]) == 75
    assert "run the same again where the others are" in capsys.readouterr().err
    assert main(["fleet", "status", office]) == 0
    assert "a new key of targets waits for signatures" in capsys.readouterr().out
    assert main(["fleet", "rotate-key", office, "targets", "--root-dir", str(other), "--json"]) == 0
    assert json.loads(capsys.readouterr().out)["root_version"] == 2
    assert main(["fleet", "rotate-key", office, "targets", "--keys", "2"]) == 64


@pytest.mark.slow
def test_a_device_that_was_off_for_years_follows_a_hundred_roots(fleet: Any, device: Any, make: Any) -> None:
    device.updates(fleet.publishes())
    for number in range(100):
        fleet.publisher.rotate(("root", "timestamp", "targets", "snapshot")[number % 4], now=make.at(number * 24).utc)
    last = make.at(100 * 24)
    stick = fleet.publishes(hours=100 * 24, tokens=[make.a_token("04FFEEDDCCBBAA")])

    assert isinstance(device.updates(stick, last), Activated)

    assert device.cache.lookup(make.ref("04FFEEDDCCBBAA")) is not None
    assert device.updates(stick.without("metadata/50.root.json"), last) is not None


def test_a_gap_in_the_chain_of_roots_keeps_the_old_bundle(fleet: Any, device: Any, make: Any) -> None:
    device.updates(fleet.publishes())
    for role in ("timestamp", "targets", "snapshot"):
        fleet.rotates(role, hours=1)
    stick = fleet.publishes(hours=2)

    result = device.updates(stick.without("metadata/3.root.json"), make.at(2))

    assert isinstance(result, Refused)
    assert device.revision == 2


@pytest.mark.slow
def test_a_document_that_was_cut_at_any_byte_changes_nothing(fleet: Any, device: Any, make: Any) -> None:
    """A stick pulled out while it was written, a link that dies: each document, cut in many places."""
    device.updates(fleet.publishes())
    held = {f"targets/{part.name}" for part in (device.folder / "parts").iterdir()}
    fleet.rotates("timestamp", hours=1)
    stick = fleet.publishes(hours=2, tokens=[make.a_token(f"04A1B2C3D4E5{n:02X}") for n in range(5)])
    device.stops()
    shutil.copytree(device.folder, device.folder.with_name("other"))
    other = make.ADevice(device.folder.with_name("other"), "meadow", device.root)
    other.updates(stick, make.at(2))
    other.stops()
    needed = [name for name in stick.fetched if name in stick.files]
    assert len(needed) > 8

    for name in needed:
        size = len(stick.files[name])
        for cut in sorted({0, 1, size // 2, size - 1}):
            for part in (device.folder / "parts").iterdir():
                if f"targets/{part.name}" not in held:
                    part.unlink()  # what came before the cut is kept, and would not be asked for again
            result = device.updates(stick.spoilt(name, lambda body, cut=cut: body[:cut]), make.at(2))
            assert isinstance(result, Refused), (name, cut)
            assert device.revision == 2, (name, cut)
    assert isinstance(device.updates(stick, make.at(2)), Activated)
