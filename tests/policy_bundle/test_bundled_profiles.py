"""Profiles of readers in the fleet's signed bundle: the only way in which one changes in the field."""

from __future__ import annotations

import asyncio
from contextlib import suppress
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import pytest

import firmware_profiles
from agent.bundled_profiles import FittedReader, ReaderProfiles
from agent.cache.cache import Activated
from agent.cli import main
from drivers.readers.reader import Feedback, Reader
from drivers.readers.serial_ascii import SerialAsciiReader
from drivers.readers.serial_ascii_simulator import SerialAsciiSimulator
from firmware_profiles.profile import Profile, ProfileError
from sync.carriers import FolderCarrier
from tests.readers.witness import watched

UPDATED = 'extends = "readers/rdm6300"\nid = "readers/rdm6300"\nconfirm_frames = 3\n'
NEW = 'extends = "readers/rdm6300"\nid = "readers/depot"\nmodel = "depot gate"\n'


@pytest.fixture
def source(tmp_path: Path) -> Path:
    folder = tmp_path / "source"
    (folder / "profiles" / "readers").mkdir(parents=True)
    (folder / "policy.toml").write_text("[groups.vans]\n")
    (folder / "drivers.toml").write_text("")
    (folder / "vehicles.toml").write_text("")
    (folder / "tokens.toml").write_text('[[tokens]]\nuid = "04A1B2C3D4E5F6"\nlabel = "van 7"\ngroup = "vans"\n')
    return folder


@pytest.fixture
def office(tmp_path: Path) -> Path:
    folder = tmp_path / "office"
    assert main(["fleet", "init", str(folder), "--fleet", "meadow", "--json"]) == 0
    return folder


def write(source: Path, name: str, text: str) -> None:
    (source / "profiles" / "readers" / f"{name}.toml").write_text(text)


def a_device(office: Path, make: Any) -> Any:
    files = office.parent / "files"
    assert main(["fleet", "device-files", str(office), "--out", str(files)]) == 0
    key = bytes.fromhex((files / "token.key").read_text())
    return make.ADevice(office.parent / "device", "meadow", (files / "root.json").read_bytes(), key)


def published(office: Path, source: Path) -> int:
    return main(["fleet", "publish", str(office), "--policy", str(source)])


def updated(device: Any, office: Path, make: Any) -> Any:
    return device.updates(FolderCarrier(office / "repository"), make.replace(make.at(), utc=datetime.now(UTC)))


def test_a_profile_in_the_bundle_takes_the_place_of_the_shipped_one_and_goes_with_it(
    office: Path, source: Path, make: Any
) -> None:
    write(source, "rdm6300", UPDATED)
    write(source, "depot", NEW)
    assert published(office, source) == 0
    device = a_device(office, make)
    profiles = ReaderProfiles(device.cache.profiles, folder=None)
    assert profiles.of("readers/rdm6300") == firmware_profiles.load("readers/rdm6300")

    assert isinstance(updated(device, office, make), Activated)
    assert profiles.of("readers/rdm6300").confirm_frames == 3
    assert profiles.of("readers/depot").model == "depot gate"
    assert profiles.of("readers/keba_p30") == firmware_profiles.load("readers/keba_p30")

    (source / "profiles" / "readers" / "rdm6300.toml").unlink()
    published(office, source)
    assert isinstance(updated(device, office, make), Activated)
    assert profiles.of("readers/rdm6300").confirm_frames == 2
    device.stops()


WRONG = {
    "vectors that the codec does not read": (
        "rdm6300",
        f'{UPDATED}[framing]\ntrailer = "0D"\n',
        "does not do what it says",
    ),
    "an id that is not its name": ("depot", UPDATED, "its id is 'readers/rdm6300' and not 'readers/depot'"),
    "a name that no profile has": ("De-Pot", NEW, "is no profile's name"),
    "an unknown key": ("depot", f"{NEW}confirm_frame = 2\n", "the nearest known one is 'confirm_frames'"),
    "no TOML": ("depot", "id = ", "not TOML"),
    "a write command as feedback": (
        "acr122u",
        'extends = "readers/acr122u"\nid = "readers/acr122u"\n[feedback]\ngranted = "FFD600041000"\n',
        "allows no such command",
    ),
}


@pytest.mark.parametrize(("name", "text", "told"), WRONG.values(), ids=WRONG)
def test_a_profile_that_fails_its_own_vectors_is_not_published(
    name: str, text: str, told: str, office: Path, source: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    write(source, name, text)
    assert published(office, source) == 65
    assert told in capsys.readouterr().err


def test_a_device_judges_a_profile_as_the_office_does(make: Any) -> None:
    from agent.cache.documents import DocumentUnfit, read_contents

    good = make.documents()
    read_contents(good)
    with pytest.raises(DocumentUnfit, match=r"profiles/readers/depot\.toml"):
        read_contents(good | {"profiles/readers/depot.toml": b"id = "})


def test_a_card_in_a_vector_is_told_to_nobody_when_a_bundle_is_refused(make: Any) -> None:
    from agent.cache.documents import DocumentUnfit, read_contents

    for change, told in (('byte_order = "reversed"', "does not do what it says"), ("lengths = [4]", "does not allow")):
        body = f"{UPDATED}[uid]\n{change}\n".encode()
        with pytest.raises(DocumentUnfit, match=told) as caught:
            read_contents(make.documents() | {"profiles/readers/rdm6300.toml": body})
        assert "E31716" not in str(caught.value).upper()
        assert "1617E3" not in str(caught.value).upper()


class Bench:
    """A reader that is fitted to what it is told."""

    def __init__(self, port: str) -> None:
        self.opened: list[int] = []
        self._port = port

    def fit(self, profile: Profile) -> Reader:
        self.opened.append(profile.confirm_frames)
        return SerialAsciiReader("gate", profile=profile, port=self._port)


def test_a_running_reader_is_opened_anew_with_the_new_profile_and_only_then(tmp_path: Path) -> None:
    shipped = firmware_profiles.load("readers/rdm6300")
    other = shipped.model_copy(update={"confirm_frames": 3})

    async def scenario() -> None:
        with SerialAsciiSimulator.rdm6300(link=tmp_path / "reader") as simulator:
            bench = Bench(simulator.port)
            reader = FittedReader("gate", profile=shipped, fit=bench.fit)
            async with watched(reader) as witness:
                await witness.until(lambda w: len(w.found) == 1)
                reader.refit(firmware_profiles.load("readers/rdm6300"))
                await asyncio.sleep(0.1)
                assert len(witness.found) == 1
                reader.refit(other)
                await witness.until(lambda w: len(w.found) == 2)
                assert not witness.lost
            assert bench.opened == [2, 3]

    asyncio.run(asyncio.wait_for(scenario(), 20))


def test_a_driver_that_dies_is_not_hidden() -> None:
    class Dying:
        name = "gate"

        async def run(self, emit: Any) -> None:
            raise ZeroDivisionError

        async def signal(self, feedback: Any, text: str) -> None: ...

    async def scenario() -> None:
        reader = FittedReader("gate", profile=firmware_profiles.load("readers/rdm6300"), fit=lambda profile: Dying())
        with pytest.raises(ZeroDivisionError):
            await reader.run(lambda event: None)

    with suppress(TimeoutError):
        asyncio.run(asyncio.wait_for(scenario(), 5))


def test_a_profile_that_nobody_has_is_told() -> None:
    with pytest.raises(ProfileError, match="readers/rdm6300"):
        ReaderProfiles(dict, folder=None).of("readers/rdm630")


def test_a_reader_whose_profile_only_the_bundle_has_waits_for_it_and_is_opened_when_it_comes(tmp_path: Path) -> None:
    in_force: dict[str, bytes] = {}
    profiles = ReaderProfiles(lambda: in_force, folder=None)

    async def scenario() -> None:
        with SerialAsciiSimulator.rdm6300(link=tmp_path / "reader") as simulator:
            bench = Bench(simulator.port)
            reader = FittedReader("gate", profile=profiles.at_hand("readers/depot"), fit=bench.fit)
            async with watched(reader) as witness:
                await witness.until(lambda w: len(w.lost) == 1)
                assert "no profile 'readers/depot'" in witness.lost[0].cause
                assert "bundle" in witness.lost[0].hint
                await reader.signal(Feedback.FAULT, "")
                assert not bench.opened
                in_force["profiles/readers/depot.toml"] = NEW.encode()
                reader.refit(profiles.of("readers/depot"))
                await witness.until(lambda w: len(w.found) == 1)
            assert bench.opened == [2]

    asyncio.run(asyncio.wait_for(scenario(), 20))


@pytest.mark.parametrize("profile_id", ["chargers/nobody", "reader/depot", "readers/../depot"])
def test_what_no_bundle_can_bring_is_not_waited_for(profile_id: str) -> None:
    with pytest.raises(ProfileError, match="no profile"):
        ReaderProfiles(dict, folder=None).at_hand(profile_id)
