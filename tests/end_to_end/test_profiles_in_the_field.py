"""A reader of the integrator's own, and a profile that the fleet changes while the service runs."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest

import firmware_profiles
from agent.demo.fleet import ANNA, DORA
from drivers.readers.charger_register_simulator import ChargerRegisterSimulator
from tests.end_to_end.premises import Premises, until

pytestmark = pytest.mark.slow

OWN = 'extends = "readers/amperfied"\nid = "readers/post"\nmodel = "post at the gate"\n[polling]\npoll_ms = 50\n'
CHANGED = 'extends = "readers/rdm6300"\nid = "readers/rdm6300"\nmodel = "RDM6300 as of November"\n'
SETTINGS = """
[profiles]
folder = "profiles"
[[reader]]
name = "post"
profile = "readers/post"
port = "{port}"
charger = "yard"
"""


def own_profile(folder: Path) -> Path:
    (folder / "readers").mkdir(parents=True)
    file = folder / "readers" / "post.toml"
    file.write_text(OWN)
    return file


def detail(van: Premises, reader: str) -> str:
    return str(van.status()["readers"].get(reader, {}).get("detail", ""))


def test_a_reader_with_a_profile_from_the_own_folder_is_read_and_decided(
    build: Callable[..., Premises], tmp_path: Path
):
    file = own_profile(tmp_path / "van" / "profiles")
    with ChargerRegisterSimulator(firmware_profiles.load_file(file)) as charger:
        van = build(settings=SETTINGS.format(port=charger.port))
        van.start_ready()
        until("the post", lambda: van.reader_state("post") == "ready")
        assert "post at the gate" in detail(van, "post")
        charger.show(ANNA)
        until("a decision", van.has("decision.made"))
        assert van.events("decision.made")[-1]["data"]["reader"] == "post"
        van.stop()


def test_a_profile_in_a_new_bundle_opens_its_reader_anew_while_all_others_go_on(here: Premises):
    here.start_ready()
    until("both readers", lambda: {here.reader_state(each) for each in ("left", "right")} == {"ready"})
    found = len(here.events("reader.found"))
    profiles = here.office.source / "profiles" / "readers"
    profiles.mkdir(parents=True)
    (profiles / "rdm6300.toml").write_text(CHANGED)
    here.office.publish()
    until("the new profile", lambda: "as of November" in detail(here, "right"))
    assert len(here.events("reader.found")) == found + 1
    assert not here.events("reader.lost")
    here.right.present(DORA)
    until("a decision", here.has("decision.made"))
    assert here.events("decision.made")[-1]["data"]["reader"] == "right"
    here.stop()
    here.start_ready()
    until("the same after a restart", lambda: "as of November" in detail(here, "right"))
    here.stop()
