"""The fleet office: keys, readable sources, the published folder, and `roamkey fleet`."""

from __future__ import annotations

import asyncio
import json
import stat
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pytest

from agent.cache.cache import Activated
from agent.cli import main
from agent.core.pins import PinState, tried
from agent.fleet.source import UID_BYTES, Wrong, canonical_uid
from sync.backend.publisher import Publisher, PublisherError
from sync.carriers import FolderCarrier

UID = "04:a1:b2:c3:d4:e5:f6"
SOURCE = {
    "policy.toml": """
stale_after_hours = 12
[groups.fleet]
networks = ["DE*ABC"]
[groups.vans]
parent = "fleet"
[groups.vans.schedule]
zone = "Europe/Berlin"
windows = [{ days = ["mon", "fri"], start = "06:00", end = "24:00" }]
""",
    "drivers.toml": '[drivers.anna]\nlanguage = "de"\npin = "471100"\n',
    "vehicles.toml": '[vehicles.van-7]\ncost_centre = "4711"\n',
    "tokens.toml": f'[[tokens]]\nuid = "{UID}"\nlabel = "Anna"\ngroup = "vans"\nuntil = 2027-01-01T00:00:00+01:00\n',
}


@pytest.fixture
def source(tmp_path: Path) -> Path:
    folder = tmp_path / "source"
    folder.mkdir()
    for name, text in SOURCE.items():
        (folder / name).write_text(text, encoding="utf-8")
    return folder


@pytest.fixture
def office(tmp_path: Path) -> Path:
    folder = tmp_path / "office"
    assert main(["fleet", "init", str(folder), "--fleet", "meadow", "--json"]) == 0
    return folder


def _now(make: Any) -> Any:
    return make.replace(make.at(), utc=datetime.now(UTC))


def test_office_sets_up_a_device_that_finds_its_card(
    office: Path, source: Path, tmp_path: Path, make: Any, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(["fleet", "publish", str(office), "--policy", str(source)]) == 0
    assert main(["fleet", "device-files", str(office), "--out", str(tmp_path / "files")]) == 0
    key = bytes.fromhex((tmp_path / "files/token.key").read_text())
    device = make.ADevice(tmp_path / "d", "meadow", (tmp_path / "files/root.json").read_bytes(), key)

    result = device.updates(FolderCarrier(office / "repository"), _now(make))

    assert isinstance(result, Activated)
    token = device.cache.lookup(make.ref("04A1B2C3D4E5F6", key))
    assert (token.label, token.group) == ("Anna", "vans")
    assert token.until == datetime(2026, 12, 31, 23, tzinfo=UTC)
    assert result.policy.stale_after == timedelta(hours=12)
    assert len(device.cache.active.keys) == 1
    assert tried(device.cache.active.policy.drivers["anna"].pin, "471100") is PinState.RIGHT
    device.stops()


def test_no_uid_and_no_pin_leaves_the_source_folder(office: Path, source: Path, tmp_path: Path) -> None:
    main(["fleet", "publish", str(office), "--policy", str(source)])

    for path in office.rglob("*"):
        if path.is_file():
            assert b"04a1b2c3d4e5f6" not in path.read_bytes().lower().replace(b":", b"")
            assert b"471100" not in path.read_bytes()


def test_keys_are_for_their_owner_only(office: Path) -> None:
    assert stat.S_IMODE((office / "keys").stat().st_mode) == 0o700
    keys = list((office / "keys").iterdir())
    assert {path.name for path in keys} >= {"root-1.pem", "targets.pem", "snapshot.pem", "timestamp.pem", "token.key"}
    assert {stat.S_IMODE(path.stat().st_mode) for path in keys} == {0o600}
    assert not [path for path in (office / "repository").rglob("*") if b"PRIVATE" in _bytes(path)]


def test_days_and_prices_are_written_as_toml_has_them(office: Path, source: Path, capsys: Any) -> None:
    text = (source / "policy.toml").read_text()
    caps = '[groups.cars.prices]\ncurrency = "EUR"\nbasis = "gross"\nper_kwh = 0.55\n'
    days = caps + "[calendars.public]\nuntil = 2027-12-31\ndays = [2027-12-25]\n"
    holidays = '[groups.trucks.holidays]\nzone = "Europe/Berlin"\ncalendars = ["{}"]\n'
    (source / "policy.toml").write_text(text + days + holidays.format("public"))
    assert main(["fleet", "publish", str(office), "--policy", str(source)]) == 0
    parts = [path.read_bytes() for path in (office / "repository/targets").iterdir()]
    assert any(b'"per_kwh":"0.55"' in body and b'"days":["2027-12-25"]' in body for body in parts)
    (source / "policy.toml").write_text(text + days.replace("until =", "till =") + holidays.format("pubic"))
    capsys.readouterr()

    assert main(["fleet", "publish", str(office), "--policy", str(source)]) != 0

    told = capsys.readouterr().err
    assert "policy.toml:15: calendars.public.till: unknown key, did you mean 'until'?" in told
    assert "groups.trucks.holidays.calendars.0: no calendar is named 'pubic', did you mean 'public'?" in told


def _bytes(path: Path) -> bytes:
    return path.read_bytes() if path.is_file() else b""


def test_keys_are_never_overwritten(office: Path, capsys: pytest.CaptureFixture[str]) -> None:
    before = (office / "keys/root-1.pem").read_bytes()

    assert main(["fleet", "init", str(office), "--fleet", "meadow"]) == 73

    assert "never overwritten" in capsys.readouterr().err
    assert (office / "keys/root-1.pem").read_bytes() == before


def test_dry_run_publishes_nothing(office: Path, source: Path, capsys: pytest.CaptureFixture[str]) -> None:
    before = {path: _bytes(path) for path in office.rglob("*")}
    capsys.readouterr()

    assert main(["fleet", "publish", str(office), "--policy", str(source), "--dry-run", "--json"]) == 0

    told = json.loads(capsys.readouterr().out)
    assert (told["published"], told["parts"], told["new_parts"]) == (False, 5, 5)
    assert {path: _bytes(path) for path in office.rglob("*")} == before


def test_same_source_again_changes_one_part(office: Path, source: Path, capsys: pytest.CaptureFixture[str]) -> None:
    main(["fleet", "publish", str(office), "--policy", str(source)])
    capsys.readouterr()

    main(["fleet", "publish", str(office), "--policy", str(source), "--json"])

    told = json.loads(capsys.readouterr().out)
    assert (told["version"], told["parts"], told["new_parts"]) == (3, 5, 1)  # policy.json carries its revision


FAULTS = [
    (
        "policy.toml",
        "networks",
        "netwroks",
        "policy.toml:4: groups.fleet.netwroks: unknown key, did you mean 'networks'?",
    ),
    ("policy.toml", "stale_after_hours", "stale_hours", "stale_hours: unknown key"),
    ("policy.toml", 'parent = "fleet"', 'parent = "flet"', "no group is named 'flet', did you mean 'fleet'?"),
    ("policy.toml", "Europe/Berlin", "Europe/Berln", "is no IANA time zone"),
    ("policy.toml", "[groups.fleet]", "[groups.fleet", "policy.toml:3: "),
    ("drivers.toml", "language", "lang", "drivers.toml:2: drivers.anna.lang: unknown key"),
    ("vehicles.toml", "[vehicles.van-7]", "[vans.van-7]", "vans: unknown key; write [vehicles.NAME]"),
    ("tokens.toml", '"vans"', '"vens"', "tokens.toml:4: token 1.group: no group is named 'vens', did you mean 'vans'?"),
    ("tokens.toml", "T00:00:00+01:00", "", "tokens.toml:5: token 1.until: must be a time with its zone"),
    ("tokens.toml", UID, "04A1B2", "tokens.toml:2: token 1.uid: has 3 bytes"),
    ("tokens.toml", UID, "08A1B2C3", "draws a new number at every tap"),
    ("tokens.toml", "label", "lable", "tokens.toml:3: token 1.lable: unknown key, did you mean 'label'?"),
]


@pytest.mark.parametrize(("file", "old", "new", "told"), FAULTS, ids=[f"{row[0]}: {row[2]}" for row in FAULTS])
def test_fault_in_the_source_is_told_with_its_place_and_nothing_is_published(
    office: Path, source: Path, capsys: pytest.CaptureFixture[str], file: str, old: str, new: str, told: str
) -> None:
    path = source / file
    path.write_text(path.read_text().replace(old, new))

    assert main(["fleet", "publish", str(office), "--policy", str(source)]) == 65

    complaint = capsys.readouterr().err
    assert told in complaint
    assert "B2C3" not in complaint.upper().replace(":", "")
    assert Publisher(office).status().version == 1


def test_every_fault_is_told_at_once(office: Path, source: Path, capsys: pytest.CaptureFixture[str]) -> None:
    (source / "tokens.csv").write_text(
        "uid,label,group,offline,driver\n"
        "04A1B2C3D4E5F6,again,vans,true,\n"
        "0102030405,key fob,vans,no,ann\n"
        "not hex,x,vans,,\n"
    )

    assert main(["fleet", "publish", str(office), "--policy", str(source)]) == 65

    complaint = capsys.readouterr().err
    for told in (
        "tokens.csv:2: uid: is the same card as in tokens.toml:1",
        "tokens.csv:3: offline: ",
        "tokens.csv:3: driver: no driver is named 'ann', did you mean 'anna'?",
        "tokens.csv:4: uid: is not hexadecimal",
        "4 to mend",
    ):
        assert told in complaint


def test_tokens_may_come_from_a_spreadsheet(office: Path, source: Path, capsys: pytest.CaptureFixture[str]) -> None:
    (source / "tokens.toml").unlink()
    (source / "tokens.csv").write_text(
        "uid,label,group,status,offline\n04A1B2C3D4E5F6,Anna,vans,,\n0102030405,fob,vans,blocked,false\n",
        encoding="utf-8-sig",
    )
    assert main(["fleet", "publish", str(office), "--policy", str(source)]) == 0


@pytest.mark.parametrize("missing", ["policy.toml", "drivers.toml", "vehicles.toml", "tokens.toml"])
def test_missing_file_is_named(office: Path, source: Path, capsys: pytest.CaptureFixture[str], missing: str) -> None:
    (source / missing).unlink()

    assert main(["fleet", "publish", str(office), "--policy", str(source)]) == 66

    assert missing in capsys.readouterr().err


def test_folder_that_is_no_fleet_is_named(source: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["fleet", "status", str(tmp_path)]) == 66
    assert "roamkey fleet init" in capsys.readouterr().err


def test_lost_token_key_is_not_replaced_silently(
    office: Path, source: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    (office / "keys/token.key").unlink()
    assert main(["fleet", "publish", str(office), "--policy", str(source)]) == 66
    assert "restore it from the backup" in capsys.readouterr().err


@pytest.mark.parametrize("arguments", [["--fleet", "Not A Name"], ["--fleet", "f", "--root-threshold", "2"]])
def test_init_refuses_what_cannot_work(tmp_path: Path, arguments: list[str]) -> None:
    assert main(["fleet", "init", str(tmp_path / "x"), *arguments]) == 64
    assert not (tmp_path / "x").exists()


def test_status_refresh_and_rotate_tell_their_versions(office: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["fleet", "refresh", str(office)]) == 0
    assert main(["fleet", "rotate-key", str(office), "timestamp"]) == 0
    assert main(["fleet", "status", str(office)]) == 0
    assert "timestamp" in capsys.readouterr().out
    assert main(["fleet", "status", str(office), "--json"]) == 0
    told = json.loads(capsys.readouterr().out)
    assert (told["fleet"], told["root_version"], told["timestamp_version"]) == ("meadow", 2, 3)


def test_uid_is_read_however_people_write_it() -> None:
    for text in ("04:a1:b2:c3", "04-A1-B2-C3", "04 a1 b2 c3", "04a1b2c3"):
        assert canonical_uid(text) == "04A1B2C3"
    assert all(not isinstance(canonical_uid("0A" * size), Wrong) for size in UID_BYTES)
    assert isinstance(canonical_uid(4711), Wrong)


def test_documents_are_announced_in_an_order_that_is_safe_to_read_at_any_moment(fleet: Any, make: Any) -> None:
    """Whoever reads a timestamp on the way finds all that it leads to; withdrawals come after it."""
    for hours in range(4):
        fleet.publishes(hours=hours)
    names: list[tuple[str, bytes]] = []

    async def publish(name: str, body: bytes) -> None:
        names.append((name, body))

    count = asyncio.run(fleet.publisher.announce(publish))

    order = [name for name, body in names if body]
    assert len(order) == count
    assert [_step(name) for name in order] == sorted(_step(name) for name in order)
    withdrawn = [name for name, body in names if not body]
    assert [name for name, _ in names[-len(withdrawn) :]] == withdrawn
    assert "metadata/1.snapshot.json" in withdrawn
    assert not set(withdrawn) & set(order)

    names.clear()
    asyncio.run(fleet.publisher.announce(publish))
    assert all(body for _, body in names)


def _step(name: str) -> int:
    """What must be there before what: parts, roots, targets, snapshot, timestamp."""
    kinds = ("targets/", ".root.json", ".targets.json", ".snapshot.json", "timestamp.json")
    return next(step for step, kind in enumerate(kinds) if kind in name)


def test_publisher_whose_clock_was_set_back_signs_no_earlier_time(fleet: Any, make: Any) -> None:
    fleet.publishes(hours=5)
    assert fleet.publisher.refresh_timestamp(now=make.NOON).issued == make.NOON + timedelta(hours=5)


def test_part_that_devices_would_not_take_is_not_published(fleet: Any, make: Any) -> None:
    with pytest.raises(PublisherError, match=r"sites\.json has 0 bytes"):
        fleet.publisher.publish({"sites.json": b""}, now=make.NOON)


def test_rotation_without_enough_root_keys_is_refused(make: Any, tmp_path: Path) -> None:
    fleet = make.AFleet(tmp_path / "strict", root_keys=3, root_threshold=2)
    for number in (1, 2):
        (tmp_path / f"strict/keys/root-{number}.pem").unlink()
    with pytest.raises(PublisherError, match="2 root keys must sign, 1 are in"):
        fleet.publisher.rotate("timestamp", now=make.NOON)


def test_damaged_key_is_named(fleet: Any, make: Any, tmp_path: Path) -> None:
    (tmp_path / "fleet/keys/timestamp.pem").write_text("junk")
    with pytest.raises(PublisherError, match=r"timestamp\.pem is no private key"):
        fleet.confirms(hours=1)


def test_missing_key_is_named(fleet: Any, make: Any, tmp_path: Path) -> None:
    (tmp_path / "fleet/keys/targets.pem").unlink()
    with pytest.raises(PublisherError, match="private key of role targets is not in"):
        fleet.publishes()
