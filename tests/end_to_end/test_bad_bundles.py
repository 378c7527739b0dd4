"""Bundles that must not be believed, over a folder and over the broker: refused, recorded, the good one stays."""

from __future__ import annotations

import json
import shutil
import subprocess
from collections.abc import Callable
from pathlib import Path

import pytest

from agent.demo.fleet import ANNA, BERT, FLEET
from sync.topics import FleetTopics
from tests.end_to_end.premises import Premises, until

pytestmark = pytest.mark.slow

PLACE = {"network": "DE*ABC", "country": "DE"}


@pytest.fixture
def stick(here: Premises) -> Path:
    """What the device reads: first as the office made it, then as the test spoils it."""
    folder = here.root / "stick"
    shutil.copytree(here.office.repository, folder)
    here.bundle_folder = folder
    here.write_config()
    return folder


def newest(repository: Path, role: str) -> Path:
    metadata = (repository / "metadata").glob(f"*.{role}.json")
    return max(metadata, key=lambda path: int(path.name.split(".")[0]))


def forged(body: bytes) -> bytes:
    """Still good JSON, and not what was signed."""
    document = json.loads(body)
    document["signed"]["version"] += 1_000
    return json.dumps(document).encode()


def cut(body: bytes) -> bytes:
    return body[: len(body) // 2]


def replace(folder: Path, source: Path) -> None:
    """As an honest carrier is changed: whole or not at all."""
    new = folder.with_name("stick.new")
    shutil.copytree(source, new)
    old = folder.with_name("stick.old")
    folder.rename(old)
    new.rename(folder)
    shutil.rmtree(old)


def is_good_still(here: Premises, revision: int) -> bool:
    answer = here.api.post("/v1/decisions", {"uid": ANNA.hex(), **PLACE})
    return here.status()["policy"]["revision"] == revision and answer["outcome"] == "granted"


def test_bundles_in_a_folder_that_must_not_be_believed(here, stick):
    """Forged, cut and older ones, one after the other, then the real one; the device runs all the time."""
    older = here.root / "older"
    shutil.copytree(here.office.repository, older)
    here.office.publish()
    replace(stick, here.office.repository)
    here.start_ready()
    assert is_good_still(here, 3)
    held = {path.name for path in (here.office.repository / "targets").iterdir()}
    here.office.publish()

    def offer(spoil: Callable[[Path], None]) -> dict:
        before = len(here.events("policy.rejected"))
        spoilt = here.root / "spoilt"
        shutil.copytree(here.office.repository, spoilt)
        spoil(spoilt)
        replace(stick, spoilt)
        shutil.rmtree(spoilt)
        until("it is refused", lambda: len(here.events("policy.rejected")) > before)
        assert is_good_still(here, 3)
        return here.events("policy.rejected")[-1]["data"]

    def spoil(find: Callable[[Path], Path], change: Callable[[bytes], bytes]) -> Callable[[Path], None]:
        def do(folder: Path) -> None:
            path = find(folder)
            path.write_bytes(change(path.read_bytes()))

        return do

    def timestamp(folder: Path) -> Path:
        return folder / "metadata" / "timestamp.json"

    def new_part(folder: Path) -> Path:
        return next(path for path in (folder / "targets").iterdir() if path.name not in held)

    told = [
        offer(spoil(timestamp, forged)),
        offer(spoil(lambda folder: newest(folder, "targets"), forged)),
        offer(spoil(timestamp, cut)),
        offer(spoil(new_part, cut)),
        offer(lambda folder: (shutil.rmtree(folder), shutil.copytree(older, folder))),
    ]
    assert all(each["kept_revision"] == 3 and each["error"] and each["detail"] for each in told)
    assert "BadVersionNumberError" in told[-1]["error"]
    assert len({each["error"] for each in told}) >= 3
    replace(stick, here.office.repository)
    until("the good one is taken", lambda: here.status()["policy"]["revision"] == 4)
    here.stop()
    here.assert_whole()

    # Started again with no network and no stick: the cached policy decides from the first moment.
    shutil.rmtree(stick)
    here.start()
    assert is_good_still(here, 4)
    answer = here.api.post("/v1/decisions", {"uid": BERT.hex(), **PLACE})
    assert {each["code"] for each in answer["reasons"]} == {"NETWORK", "TIME_WINDOW"}
    here.stop()


def test_bundles_over_the_broker_that_must_not_be_believed(online):
    topics = FleetTopics(fleet=FLEET)
    online.start_ready()
    good = online.status()["policy"]["revision"]
    metadata = online.office.repository / "metadata"
    good_timestamp = (metadata / "timestamp.json").read_bytes()
    online.office.publish()  # into its folder: the broker has the one before
    for number, spoilt in enumerate((forged(good_timestamp), cut(good_timestamp), b"\x00" * 3_000), start=1):
        retain(online, topics.policy("metadata/timestamp.json"), spoilt)
        until("it is refused", online.has("policy.rejected", number))
        assert is_good_still(online, good)
    part_cut = newest(online.office.repository, "snapshot")
    retain(online, topics.policy(f"metadata/{part_cut.name}"), cut(part_cut.read_bytes()))
    retain(online, topics.policy("metadata/timestamp.json"), (metadata / "timestamp.json").read_bytes())
    until("it is refused", online.has("policy.rejected", 4))
    assert is_good_still(online, good)
    online.office.publish(port=online.port)
    until("the good one is taken", lambda: online.status()["policy"]["revision"] == good + 2)
    online.until_delivered()
    online.stop()
    online.assert_nothing_lost()


def retain(here: Premises, topic: str, payload: bytes) -> None:
    command = ["mosquitto_pub", "-p", str(here.broker.port), "-q", "1", "-r", "-t", topic, "-s"]
    subprocess.run(command, input=payload, check=True, timeout=10)


def test_without_any_policy_nobody_charges_and_that_is_told(here):
    shutil.rmtree(here.office.repository)
    here.start()
    answer = here.api.post("/v1/decisions", {"uid": ANNA.hex(), **PLACE})
    assert answer["outcome"] == "refused"
    assert "NO_POLICY" in {each["code"] for each in answer["reasons"]}
    assert here.status()["policy"] is None
    here.stop()
