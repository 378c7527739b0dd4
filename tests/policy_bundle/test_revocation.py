"""`roamkey fleet revoke` and what devices make of it: before the rest, without the rest, until it is lifted."""

from __future__ import annotations

import json
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import pytest

from agent.cache.cache import Activated, Refused
from agent.cache.denials import DenialStore
from agent.cache.documents import DocumentUnfit, read_contents
from agent.cli import main
from sync.carriers import CarrierError, FolderCarrier

UID = "04A1B2C3D4E5F6"


class Flaky:
    """A carrier whose link dies after so many documents."""

    def __init__(self, carrier: Any, documents: int) -> None:
        self._carrier, self.left = carrier, documents
        self.fetched: list[str] = []

    async def fetch(self, name: str, max_bytes: int) -> bytes | None:
        self.left -= 1
        if self.left < 0:
            raise CarrierError("the link is gone")
        self.fetched.append(name)
        body: bytes | None = await self._carrier.fetch(name, max_bytes)
        return body


def revoked(make: Any, *uids: str) -> dict[str, bytes]:
    return {"revoked.json": json.dumps({"schema": 1, "revoked": [make.ref(each) for each in uids]}).encode()}


@pytest.fixture
def equipped(fleet: Any, device: Any) -> Any:
    """A device with revision 2 in force, confirmed at noon."""
    device.updates(fleet.publishes())
    return device


def many(make: Any) -> list[dict[str, Any]]:
    return [make.a_token(UID), *(make.a_token(f"04A1B2C3D4{n:04X}") for n in range(40))]


def test_a_card_of_the_list_is_revoked_whatever_the_table_says(fleet: Any, device: Any, make: Any) -> None:
    fleet.publishes()
    device.updates(fleet.copy())
    bodies = make.documents(revision=3) | revoked(make, UID)

    result = device.updates(fleet.publishes(hours=1, bodies=bodies), make.at(1))

    assert isinstance(result, Activated)
    assert result.policy.revoked == {make.ref(UID)}
    assert device.cache.lookup(make.ref(UID)) is not None
    assert device.starts().active.policy.revoked == {make.ref(UID)}


def test_revocations_come_before_the_rest_and_count_without_it(fleet: Any, device: Any, make: Any) -> None:
    device.updates(fleet.publishes(tokens=many(make)))
    changed = [each | {"label": "new"} for each in many(make)]
    bodies = make.documents(revision=3, tokens=changed) | revoked(make, UID)
    stick = fleet.publishes(hours=1, bodies=bodies)
    all_of_it = Flaky(stick, 1000)
    device_two = make.ADevice(device.folder.parent / "two", "meadow", fleet.root)
    device_two.updates(all_of_it, make.at(1))
    device_two.stops()
    parts = [name for name in all_of_it.fetched if name.startswith("targets/")]
    assert stick.files[parts[0]] == bodies["revoked.json"]

    # root, timestamp, snapshot, targets, revoked.json: and then the link dies.
    result = device.updates(Flaky(stick, 5), make.at(1))

    assert isinstance(result, Refused)
    assert (result.error, result.transient) == ("CarrierError", True)
    assert result.policy is not None
    assert result.policy.revoked == {make.ref(UID)}
    assert (result.policy.revision, device.revision) == (2, 2)
    assert device.cache.active.policy.revoked == {make.ref(UID)}
    again = device.updates(Flaky(stick, 5), make.at(1.1))
    assert again.policy is None  # it is no news a second time
    assert device.starts(make.at(2)).active.policy.revoked == {make.ref(UID)}  # a restart does not forget it
    assert isinstance(device.updates(stick, make.at(2)), Activated)
    assert DenialStore(device.folder).read().revoked == set()
    assert device.cache.active.policy.revoked == {make.ref(UID)}


def test_a_bundle_that_is_unfit_still_revokes(fleet: Any, equipped: Any, make: Any) -> None:
    bodies = make.documents(revision=3, groups={"fleet": {"of_a_later_edition": 1}}) | revoked(make, UID)

    result = equipped.updates(fleet.publishes(hours=1, bodies=bodies), make.at(1))

    assert isinstance(result, Refused)
    assert (result.error, result.transient) == ("DocumentUnfit", False)
    assert equipped.cache.active.policy.revoked == {make.ref(UID)}
    good = fleet.publishes(hours=2)  # which lifts it
    assert isinstance(equipped.updates(good, make.at(2)), Activated)
    assert equipped.cache.active.policy.revoked == set()


def test_nobody_revokes_without_the_fleets_signature(fleet: Any, equipped: Any, make: Any) -> None:
    stick = fleet.publishes(hours=1, bodies=make.documents(revision=3) | revoked(make, UID))
    spoilt = stick.spoilt(stick.newest("targets"), lambda body: body.replace(b"revoked", b"rewoked"))

    result = equipped.updates(spoilt, make.at(1))

    assert isinstance(result, Refused)
    assert result.policy is None
    assert equipped.cache.active.policy.revoked == set()


def test_an_older_list_than_the_bundle_in_force_denies_nothing(fleet: Any, equipped: Any, make: Any) -> None:
    """Replayed from the time before it was lifted; also after the keys were replaced."""
    old = fleet.publishes(hours=1, bodies=make.documents(revision=3) | revoked(make, UID))
    equipped.updates(fleet.publishes(hours=2), make.at(2))

    assert isinstance(equipped.updates(Flaky(old, 5), make.at(3)), Refused)
    assert equipped.cache.active.policy.revoked == set()

    equipped.updates(
        Flaky(fleet.publishes(hours=3, bodies=make.documents(revision=5) | revoked(make, UID)), 5), make.at(3)
    )
    assert equipped.cache.active.policy.revoked == {make.ref(UID)}
    fleet.publishes(hours=4)
    assert isinstance(equipped.updates(fleet.rotates("targets", hours=4), make.at(4)), Activated)
    assert equipped.cache.active.policy.revoked == set()


def test_a_damaged_file_of_denials_stops_no_start(fleet: Any, equipped: Any, make: Any) -> None:
    for junk in (b"", b"{", b"[]", b'{"version": "x", "keys": 1, "root": 1, "revoked": 7}', b"\xff"):
        (equipped.folder / "denied.json").write_bytes(junk)
        assert equipped.starts().active.policy.revoked == set()


@pytest.mark.parametrize("body", [b"{}", b'{"schema": 1, "revoked": ["04A1"]}', b'{"schema": 2, "revoked": []}'])
def test_a_list_that_is_no_list_is_unfit(make: Any, body: bytes) -> None:
    with pytest.raises(DocumentUnfit, match=r"revoked\.json"):
        read_contents({**make.documents(), "revoked.json": body})


# the office's side


@pytest.fixture
def office(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> Path:
    source = tmp_path / "source"
    source.mkdir()
    (source / "policy.toml").write_text("[groups.fleet]\n")
    (source / "drivers.toml").write_text("")
    (source / "vehicles.toml").write_text("")
    (source / "tokens.csv").write_text(f"uid,label,group\n{UID},Anna,fleet\n04A1B2C3D4E5F7,Bert,fleet\n")
    folder = tmp_path / "office"
    main(["fleet", "init", str(folder), "--fleet", "meadow"])
    main(["fleet", "publish", str(folder), "--policy", str(source)])
    capsys.readouterr()
    return folder


def _device(office: Path, make: Any) -> Any:
    key = bytes.fromhex((office / "keys/token.key").read_text())
    return make.ADevice(
        office.parent / "device", "meadow", (office / "repository/metadata/1.root.json").read_bytes(), key
    )


def _update(device: Any, office: Path, make: Any) -> Any:
    return device.updates(FolderCarrier(office / "repository"), make.replace(make.at(), utc=datetime.now(UTC)))


def test_one_verb_revokes_a_card_and_one_lifts_it(office: Path, make: Any, capsys: pytest.CaptureFixture[str]) -> None:
    device = _device(office, make)
    _update(device, office, make)
    reference = make.ref(UID, device.key)

    assert main(["fleet", "revoke", str(office), "Anna", "--why", "lost in Graz", "--json"]) == 0

    told = json.loads(capsys.readouterr().out)
    assert (told["reference"], told["new"], told["revoked"], told["version"]) == (reference, True, 1, 3)
    assert told["new_bytes"] < 500  # the list and policy.json, which carries its revision: no shard
    _update(device, office, make)
    assert (device.revision, device.cache.active.policy.revoked) == (3, {reference})
    kept = (office / "revoked.json").read_text()
    assert "lost in Graz" in kept
    assert UID not in kept.upper()

    source = office.parent / "source"
    main(
        ["fleet", "publish", str(office), "--policy", str(source)]
    )  # whoever publishes the files does not take it back
    _update(device, office, make)
    assert (device.revision, device.cache.active.policy.revoked) == (4, {reference})

    assert main(["fleet", "revoke", str(office), UID, "--lift"]) == 0
    _update(device, office, make)
    assert (device.revision, device.cache.active.policy.revoked) == (5, set())
    assert main(["fleet", "status", str(office), "--json"]) == 0
    device.stops()


def test_what_cannot_be_revoked_is_told(office: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["fleet", "revoke", str(office), "Carla"]) == 65
    assert "0 published cards are called 'Carla'" in capsys.readouterr().err
    (office / "revoked.json").write_text("{")
    assert main(["fleet", "revoke", str(office), "Anna"]) == 66
    assert "lost cards charge again" in capsys.readouterr().err
    assert main(["fleet", "publish", str(office), "--policy", str(office.parent / "source")]) == 66


def test_revoked_twice_is_once_and_a_number_that_is_not_published_may_be_revoked(
    office: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    for is_news in (True, False):
        assert main(["fleet", "revoke", str(office), "04FFFFFFFFFFFF", "--json"]) == 0
        assert json.loads(capsys.readouterr().out)["new"] is is_news
    assert len(json.loads((office / "revoked.json").read_text())) == 1
