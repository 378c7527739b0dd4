"""The state folder's disk full under the running service: no green light, no lost end, and life goes on (P3)."""

from __future__ import annotations

import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from agent.cli.client import Refused
from agent.demo.fleet import ANNA, DORA
from drivers.readers.virtual_cards import Type2Card
from tests.end_to_end.composed_service import witnessed_in
from tests.end_to_end.premises import Premises, until
from tests.journal.small_disks import Unavailable, take_all_room, tmpfs

pytestmark = pytest.mark.slow

DISK_BYTES = 1024 * 1024


@pytest.fixture
def full(build, tmp_path: Path) -> Iterator[Premises]:
    """Its state lies on a disk of 1 MiB; what readers show is noted beside it."""
    composed = (sys.executable, "-m", "tests.end_to_end.composed_service", "--witness", tmp_path / "witness")
    here = build(command=composed)
    disk = tmp_path / "disk"
    mounted = tmpfs(disk, DISK_BYTES)
    try:
        mounted.__enter__()
    except Unavailable as reason:
        pytest.skip(f"cannot mount a small tmpfs: {reason}")
    try:
        here.state = disk / "state"
        here.write_config()
        yield here
    finally:
        here.service.kill()
        mounted.__exit__(None, None, None)


def shown(tmp_path: Path, reader: str) -> list[str]:
    told = witnessed_in(tmp_path / "witness")
    return [line["feedback"] for line in told if line["what"] == "shown" and line["reader"] == reader]


def tap_until_nothing_fits(full: Premises) -> None:
    """What is still free inside the journal's files is used up first. The door's charger is never there."""
    while True:
        assert full.tap("door", ANNA)["outcome"] == "refused"


def test_a_full_disk_gives_no_green_light_and_loses_no_end(full, tmp_path):
    full.start_ready()
    bay = full.bays["bay-2"]
    bay.plug_in()
    full.bays["bay-1"].plug_in()
    session = full.tap("right", DORA)["session"]
    until("energy flows", full.has("session.metered"))

    neighbour = take_all_room(full.state.parent)
    with pytest.raises(Refused, match="could not be recorded") as refused:
        tap_until_nothing_fits(full)
    assert refused.value.status == 507
    until("the status says so", lambda: full.status()["storage"]["state"] in ("full", "tight"))

    full.left.present(Type2Card(ANNA))
    until("the reader shows a fault", lambda: "fault" in shown(tmp_path, "left"))
    full.left.remove()
    assert "granted" not in shown(tmp_path, "left")
    assert full.bays["bay-1"].session is None, "nothing was started that is not recorded"

    bay.unplug()
    until("the running session's end is recorded", full.has("session.ended"))
    ended = full.events("session.ended")[-1]["data"]
    assert (ended["session"], ended["complete"]) == (session, True)
    assert ended["energy_wh"] == bay.meter_wh - ended["meter_start_wh"]
    assert full.service.runs

    neighbour.unlink()
    until("the room is noticed", lambda: full.status()["storage"]["state"] == "ok", within_s=20)
    assert full.tap("left", ANNA)["outcome"] == "granted"
    until("and charged", lambda: full.bays["bay-1"].session is not None)
    full.stop()
    full.assert_whole()


def test_killed_and_started_on_a_full_disk_it_still_ends_the_session(full):
    full.start_ready()
    bay = full.bays["bay-2"]
    bay.plug_in()
    session = full.tap("right", DORA)["session"]
    until("energy flows", full.has("session.metered"))
    full.service.kill()
    neighbour = take_all_room(full.state.parent)
    full.start()
    assert [each["session"] for each in full.open_sessions()] == [session]
    until("the charger is back", lambda: full.reachable("bay-2"))
    bay.unplug()
    until("its end is recorded", full.has("session.ended"))
    ended = full.events("session.ended")[-1]["data"]
    assert (ended["session"], ended["complete"]) == (session, True)
    assert ended["energy_wh"] == bay.meter_wh - ended["meter_start_wh"]
    neighbour.unlink()
    full.stop()
    full.assert_whole()
