"""Bundles that must not come into force: each is refused by name, and the good one stays, also over a restart."""

from __future__ import annotations

import json
import sqlite3
from collections.abc import Callable
from datetime import timedelta
from typing import Any

import pytest

from agent.cache.cache import Refused, Unchanged
from sync.trust_store import FloorLowered, TrustStore


@pytest.fixture
def equipped(fleet: Any, device: Any) -> Any:
    """A device with revision 2 in force, confirmed at noon."""
    device.updates(fleet.publishes())
    assert device.revision == 2
    return device


def _expect(device: Any, refused: Any, error: str) -> None:
    assert isinstance(refused, Refused), refused
    assert refused.error == error, refused
    assert refused.detail
    assert device.revision == 2
    before = device.cache.active.policy
    assert device.starts().active.policy == before
    assert device.cache.findings == []


def _signed_by(stick: Any, name: str, publisher: Any, role: str, change: Callable[[dict[str, Any]], None]) -> Any:
    """The document changed, and signed by the fleet's own key of that role: what a stolen online key can do."""
    from tuf.api.metadata import Metadata

    document = json.loads(stick.files[name])
    change(document["signed"])
    metadata = Metadata.from_bytes(json.dumps(document).encode())
    metadata.sign(publisher._signer(role))
    return stick.spoilt(name, lambda _: metadata.to_bytes())


def test_rollback_to_an_older_bundle_is_refused(fleet: Any, make: Any, tmp_path: Any) -> None:
    older = fleet.publishes()
    newer = fleet.publishes(hours=1)
    device = make.ADevice(tmp_path / "d", fleet.name, fleet.root)
    device.updates(newer, make.at(1))

    refused = device.updates(older, make.at(1))

    assert (refused.error, device.revision) == ("BadVersionNumberError", 3)
    device.stops()


def test_rollback_is_refused_after_the_trust_store_was_emptied(fleet: Any, device: Any, make: Any) -> None:
    older, newer = fleet.publishes(), fleet.publishes(hours=1)
    device.updates(newer, make.at(1))
    device.stops()
    for path in device.folder.glob("trust.sqlite*"):
        path.write_bytes(b"")

    refused = device.updates(older, make.at(1))

    assert (refused.error, device.revision) == ("BadVersionNumberError", 3)


def test_rollback_is_refused_after_every_generation_was_lost(fleet: Any, device: Any, make: Any) -> None:
    older, newer = fleet.publishes(), fleet.publishes(hours=1)
    device.updates(newer, make.at(1))
    device.stops()
    for path in (device.folder / "generations").rglob("*.*"):
        if path.is_file():
            path.write_bytes(b"")

    assert device.revision is None
    assert device.updates(older, make.at(1)).error == "BadVersionNumberError"
    device.updates(newer, make.at(1))
    assert device.revision == 3


def test_frozen_timestamp_is_refused_when_it_has_expired(fleet: Any, equipped: Any, make: Any) -> None:
    stick = fleet.confirms(hours=1)

    refused = equipped.updates(stick, make.at(8 * 24))

    _expect(equipped, refused, "ExpiredMetadataError")


def test_clock_set_back_does_not_revive_an_expired_timestamp(fleet: Any, equipped: Any, make: Any) -> None:
    frozen = fleet.publishes(hours=1)
    later = fleet.confirms(hours=10 * 24)
    assert not isinstance(equipped.updates(later, make.at(10 * 24)), Refused)
    fresh_device_floor = equipped.cache.active.policy.confirmed

    refused = equipped.updates(frozen, make.at(2, quality=make.UNKNOWN))

    assert isinstance(refused, Refused)
    assert equipped.cache.active.policy.confirmed == fresh_device_floor
    assert equipped.revision == 3


def test_signed_time_is_a_floor_for_every_expiry(fleet: Any, device: Any, make: Any, tmp_path: Any) -> None:
    """A timestamp with a higher version that had already expired when the newest one was signed."""
    device.updates(fleet.publishes(), make.at(0))
    device.updates(fleet.confirms(hours=20 * 24), make.at(20 * 24))
    stick = _signed_by(
        fleet.copy(),
        "metadata/timestamp.json",
        fleet.publisher,
        "timestamp",
        lambda signed: signed.update({"version": 99, "expires": "2026-11-30T00:00:00Z"}),
    )

    refused = device.updates(stick, make.at(0, quality=make.UNKNOWN))

    assert refused.error == "ExpiredMetadataError"


def test_fresh_timestamp_over_an_expired_snapshot_is_refused_even_without_any_clock(
    fleet: Any, device: Any, make: Any
) -> None:
    """The timestamp's own signed time proves that the snapshot is over."""
    fleet.publishes()
    stick = fleet.confirms(hours=400 * 24)
    assert device.updates(stick, make.at(0, quality=make.UNKNOWN)).error == "ExpiredMetadataError"


def test_older_root_is_refused_when_the_stored_one_was_damaged(fleet: Any, device: Any, make: Any) -> None:
    """The chain is walked again from the bootstrap, and must lead at least as far as before."""
    fleet.rotates("root", hours=0)
    fleet.publishes()
    fleet.rotates("root", hours=0)
    stick = fleet.copy()
    device.updates(stick)
    device.stops()
    connection = sqlite3.connect(device.folder / "trust.sqlite")
    connection.execute("UPDATE role SET body = ? WHERE name = 'root'", (b"{}",))
    connection.commit()
    connection.close()

    refused = device.updates(stick.without("metadata/3.root.json"))
    assert (refused.error, refused.detail) == ("BadVersionNumberError", "root version 2 must be >= 3")
    assert isinstance(device.updates(stick), Unchanged)


def test_trust_store_itself_refuses_to_forget(fleet: Any, equipped: Any, make: Any) -> None:
    """The last line: whoever calls it wrongly, no version and no signed time goes down."""
    equipped.stops()
    store = TrustStore(equipped.folder / "trust.sqlite")
    known = store.read().trust
    for role in ("root", "timestamp", "snapshot", "targets"):
        lower = make.replace(known, **{role: make.replace(known.role(role), version=known.role(role).version - 1)})
        with pytest.raises(FloorLowered):
            store.remember(lower, bundle="x")
    with pytest.raises(FloorLowered):
        store.remember(make.replace(known, issued=known.issued - timedelta(seconds=1)), bundle="x")
    assert store.read().trust == known
    store.close()


def test_signed_time_that_goes_back_is_refused(fleet: Any, equipped: Any, make: Any) -> None:
    stick = _signed_by(
        fleet.confirms(hours=1),
        "metadata/timestamp.json",
        fleet.publisher,
        "timestamp",
        lambda signed: signed.update({"x-roamkey-issued": "2026-11-20T12:00:00Z"}),
    )
    _expect(equipped, equipped.updates(stick, make.at(1)), "TimeWentBack")


def test_signed_time_far_ahead_is_refused_while_the_clock_is_proven(fleet: Any, equipped: Any, make: Any) -> None:
    _expect(equipped, equipped.updates(fleet.confirms(hours=48), make.at(1)), "IssuedInFuture")


def test_timestamp_without_a_signed_time_is_refused(fleet: Any, equipped: Any, make: Any) -> None:
    stick = _signed_by(
        fleet.confirms(hours=1),
        "metadata/timestamp.json",
        fleet.publisher,
        "timestamp",
        lambda signed: signed.pop("x-roamkey-issued"),
    )
    _expect(equipped, equipped.updates(stick, make.at(1)), "MalformedMetadata")


def test_bundle_by_foreign_keys_is_refused(equipped: Any, make: Any, tmp_path: Any) -> None:
    foreign = make.AFleet(tmp_path / "foreign")
    for hours in (0, 1):
        stick = foreign.publishes(hours=hours)
    _expect(equipped, equipped.updates(stick, make.at(1)), "UnsignedMetadataError")


def test_root_by_foreign_keys_is_refused(fleet: Any, equipped: Any, make: Any, tmp_path: Any) -> None:
    foreign = make.AFleet(tmp_path / "foreign")
    foreign.rotates("root", hours=0)
    stick = fleet.confirms(hours=1).with_files_of(foreign.copy(), "metadata/2.root.json")
    _expect(equipped, equipped.updates(stick, make.at(1)), "UnsignedMetadataError")


def test_skipped_root_version_is_refused(fleet: Any, equipped: Any, make: Any) -> None:
    fleet.rotates("root", hours=0)
    stick = fleet.rotates("root", hours=0)
    stick.files["metadata/2.root.json"] = stick.files["metadata/3.root.json"]
    refused = equipped.updates(stick, make.at(1))
    assert isinstance(refused, Refused)
    assert refused.error in ("BadVersionNumberError", "UnsignedMetadataError")
    assert equipped.revision == 2


@pytest.mark.parametrize("role", ["timestamp", "snapshot", "targets"])
def test_document_for_another_fleet_is_refused_although_the_same_keys_signed_it(
    fleet: Any, equipped: Any, make: Any, role: str
) -> None:
    stick = fleet.publishes(hours=1)
    name = "metadata/timestamp.json" if role == "timestamp" else stick.newest(role)
    stick = _signed_by(stick, name, fleet.publisher, role, lambda signed: signed.update({"x-roamkey-fleet": "valley"}))
    if role != "timestamp":  # the documents that name it are signed anew, too
        stick = _resigned(fleet, stick)
    _expect(equipped, equipped.updates(stick, make.at(1)), "WrongFleet")


def _resigned(fleet: Any, stick: Any) -> Any:
    import hashlib

    def describe(body: bytes) -> dict[str, Any]:
        return {"length": len(body), "hashes": {"sha256": hashlib.sha256(body).hexdigest()}}

    targets, snapshot = stick.newest("targets"), stick.newest("snapshot")
    if hashlib.sha256(stick.files[targets]).hexdigest() not in stick.files[snapshot].decode():
        stick = _signed_by(
            stick,
            snapshot,
            fleet.publisher,
            "snapshot",
            lambda signed: signed["meta"]["targets.json"].update(describe(stick.files[targets])),
        )
    body = stick.files[snapshot]
    return _signed_by(
        stick,
        "metadata/timestamp.json",
        fleet.publisher,
        "timestamp",
        lambda signed: signed["meta"]["snapshot.json"].update(describe(body)),
    )


def test_policy_of_another_fleet_inside_a_valid_bundle_is_refused(fleet: Any, equipped: Any, make: Any) -> None:
    stick = fleet.publishes(hours=1, bodies=make.documents(fleet="valley", revision=3))
    _expect(equipped, equipped.updates(stick, make.at(1)), "WrongFleet")


def test_root_of_another_fleet_as_anchor_is_refused(fleet: Any, device: Any, make: Any, tmp_path: Any) -> None:
    device.fleet = "valley"
    assert device.updates(fleet.publishes()).error == "WrongFleet"
    assert device.revision is None


def test_unsigned_timestamp_is_refused(fleet: Any, equipped: Any, make: Any) -> None:
    def strip(body: bytes) -> bytes:
        return json.dumps({**json.loads(body), "signatures": []}).encode()

    stick = fleet.confirms(hours=1).spoilt("metadata/timestamp.json", strip)
    _expect(equipped, equipped.updates(stick, make.at(1)), "UnsignedMetadataError")


def test_timestamp_changed_after_signing_is_refused(fleet: Any, equipped: Any, make: Any) -> None:
    stick = fleet.confirms(hours=1).spoilt(
        "metadata/timestamp.json", lambda body: body.replace(b'"version":3', b'"version":4')
    )
    _expect(equipped, equipped.updates(stick, make.at(1)), "UnsignedMetadataError")


def test_root_below_its_threshold_is_refused(make: Any, tmp_path: Any) -> None:
    fleet = make.AFleet(tmp_path / "strict", root_keys=3, root_threshold=2)
    device = make.ADevice(tmp_path / "d", fleet.name, fleet.root)
    device.updates(fleet.publishes())

    def one_signature(body: bytes) -> bytes:
        document = json.loads(body)
        return json.dumps({**document, "signatures": document["signatures"][:1]}).encode()

    stick = fleet.rotates("timestamp", hours=1)
    _expect(
        device, device.updates(stick.spoilt("metadata/2.root.json", one_signature), make.at(1)), "UnsignedMetadataError"
    )
    assert not isinstance(device.updates(stick, make.at(1)), Refused)
    device.stops()


def test_mix_of_two_bundles_is_refused(fleet: Any, equipped: Any, make: Any) -> None:
    second = fleet.publishes(hours=1)
    third = fleet.publishes(hours=2)
    mixed = third.spoilt(third.newest("snapshot"), lambda _: second.files[second.newest("snapshot")])
    _expect(equipped, equipped.updates(mixed, make.at(2)), "LengthOrHashMismatchError")

    mixed = third.spoilt(third.newest("targets"), lambda _: second.files[second.newest("targets")])
    _expect(equipped, equipped.updates(mixed, make.at(2)), "LengthOrHashMismatchError")


def test_two_contents_under_one_version_are_refused(fleet: Any, equipped: Any, make: Any) -> None:
    stick = _signed_by(
        fleet.copy(),
        "metadata/timestamp.json",
        fleet.publisher,
        "timestamp",
        lambda signed: signed.update({"expires": "2026-12-24T00:00:00Z"}),
    )
    _expect(equipped, equipped.updates(stick, make.at(1)), "BadVersionNumberError")


@pytest.mark.parametrize(
    ("change", "error"),
    [
        (lambda body: body[:-1], "LengthOrHashMismatchError"),
        (lambda body: b"", "LengthOrHashMismatchError"),
        (lambda body: body[:-2] + b" }", "LengthOrHashMismatchError"),
    ],
    ids=["truncated", "empty", "other bytes"],
)
def test_part_with_other_bytes_is_refused(fleet: Any, equipped: Any, make: Any, change: Any, error: str) -> None:
    before = set(fleet.copy().parts())
    stick = fleet.publishes(hours=1)
    (name,) = set(stick.parts()) - before
    _expect(equipped, equipped.updates(stick.spoilt(name, change), make.at(1)), error)


def test_part_longer_than_signed_is_refused_whatever_the_carrier_lets_through(
    fleet: Any, equipped: Any, make: Any
) -> None:
    before = set(fleet.copy().parts())
    stick = fleet.publishes(hours=1)
    (name,) = set(stick.parts()) - before

    class Careless(make.Stick):  # type: ignore[name-defined, misc]
        async def fetch(self, name: str, max_bytes: int) -> bytes | None:
            return self.files.get(name)

    endless = Careless({**stick.files, name: stick.files[name] + b" " * 1_000_000})
    _expect(equipped, equipped.updates(endless, make.at(1)), "TooLarge")
    _expect(equipped, equipped.updates(make.Stick(endless.files), make.at(1)), "TooLarge")
    endless = Careless({**stick.files, "metadata/timestamp.json": b" " * 20_000})
    _expect(equipped, equipped.updates(endless, make.at(1)), "TooLarge")


def test_bundle_with_too_many_or_too_large_parts_is_refused_before_any_is_fetched(
    fleet: Any, equipped: Any, make: Any
) -> None:
    stick = fleet.publishes(hours=1)
    huge = {"length": 2**40, "hashes": {"sha256": "0" * 64}}
    for targets in ({"a": huge}, {f"t{n}": {**huge, "length": 1} for n in range(2000)}):
        spoilt = _signed_by(
            stick,
            stick.newest("targets"),
            fleet.publisher,
            "targets",
            lambda signed, targets=targets: signed.update({"targets": targets}),  # type: ignore[misc]
        )
        offered = _resigned(fleet, spoilt)
        _expect(equipped, equipped.updates(offered, make.at(1)), "TooLarge")
        assert not [name for name in offered.fetched if name.startswith("targets/")]


def test_target_that_would_leave_its_folder_is_refused(fleet: Any, equipped: Any, make: Any) -> None:
    stick = fleet.publishes(hours=1)
    for name, sha256 in (("../../etc/cron", "0" * 64), ("policy.json", "../" * 20 + "abcd"), ("a" * 70, "0" * 64)):
        spoilt = _signed_by(
            stick,
            stick.newest("targets"),
            fleet.publisher,
            "targets",
            lambda signed, name=name, sha256=sha256: signed.update(  # type: ignore[misc]
                {"targets": {name: {"length": 1, "hashes": {"sha256": sha256}}}}
            ),
        )
        _expect(equipped, equipped.updates(_resigned(fleet, spoilt), make.at(1)), "MalformedMetadata")


_JUNK = [
    b"",
    b"{",
    b"null",
    b"[]",
    b"\xff\xfe\x00",
    b"[" * 5000,
    b'{"signed": {}, "signatures": []}',
    b'{"signed": {"_type": "timestamp", "version": 1e400}, "signatures": []}',
    b'{"signed": {"_type": "timestamp", "version": "7"}, "signatures": 3}',
    json.dumps({"signed": {"_type": "root"}, "signatures": [{"keyid": 1, "sig": None}]}).encode(),
]


@pytest.mark.parametrize("junk", _JUNK, ids=range(len(_JUNK)))
def test_junk_in_place_of_any_metadata_is_refused(fleet: Any, equipped: Any, make: Any, junk: bytes) -> None:
    fleet.rotates("root", hours=0)
    stick = fleet.publishes(hours=1)
    for name in ("metadata/2.root.json", "metadata/timestamp.json", stick.newest("snapshot"), stick.newest("targets")):
        refused = equipped.updates(stick.spoilt(name, lambda _: junk), make.at(1))
        assert isinstance(refused, Refused)
        assert refused.error in ("DeserializationError", "LengthOrHashMismatchError", "MalformedMetadata")
    assert equipped.revision == 2
    assert not isinstance(equipped.updates(stick, make.at(1)), Refused)


def test_junk_in_a_signed_document_is_refused(fleet: Any, equipped: Any, make: Any) -> None:
    bodies = {**make.documents(revision=3), "people.json": b'{"schema": 1, "drivers": ['}
    _expect(equipped, equipped.updates(fleet.publishes(hours=1, bodies=bodies), make.at(1)), "DocumentUnfit")


def test_bundle_without_a_policy_is_refused(fleet: Any, equipped: Any, make: Any) -> None:
    bodies = make.documents(revision=3)
    del bodies["policy.json"]
    _expect(equipped, equipped.updates(fleet.publishes(hours=1, bodies=bodies), make.at(1)), "DocumentUnfit")


def test_repository_with_nothing_in_it_gives_nobody_a_charge(fleet: Any, device: Any) -> None:
    assert device.updates(fleet.copy()).error == "DocumentUnfit"
    assert device.cache.active is None


def test_carrier_that_fails_is_no_refusal_of_the_bundle(fleet: Any, equipped: Any, make: Any) -> None:
    empty = equipped.updates(make.Stick({}), make.at(1))
    assert (empty.error, empty.transient) == ("Missing", True)
    stick = fleet.publishes(hours=1)
    half = equipped.updates(stick.without(stick.newest("snapshot")), make.at(1))
    assert (half.error, half.transient) == ("Missing", True)
    assert equipped.revision == 2


def test_refused_bundle_raises_no_floor(fleet: Any, equipped: Any, make: Any) -> None:
    """Otherwise a bundle that cannot be used would lock out the one that mends it."""
    good = fleet.confirms(hours=1)
    bad = fleet.publishes(hours=2, bodies={"policy.json": b"{}"})
    assert isinstance(equipped.updates(bad, make.at(2)), Refused)

    assert isinstance(equipped.updates(good, make.at(2)), Unchanged)
