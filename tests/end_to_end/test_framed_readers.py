"""Framed serial readers at the whole service: each tap is decided and shown, one that dies harms no other."""

from __future__ import annotations

import time
from collections.abc import Iterator
from dataclasses import dataclass

import pytest

from agent.demo.fleet import ANNA, STRANGER
from drivers.readers.disturbances import Disturbance
from drivers.readers.osdp_simulator import OsdpSimulator
from drivers.readers.polled_serial_simulator import PolledSerialSimulator
from tests.end_to_end.premises import Premises, until

pytestmark = pytest.mark.slow

KEY = bytes.fromhex("8C6D1F00A15B42E39D7706C4F2B8E051")
GREEN_ON, RED_ON = bytes.fromhex("040202"), bytes.fromhex("040201")
SETTINGS = """
[[reader]]
name = "post"
profile = "readers/osdp_v2"
port = "dev/post"
charger = "yard"
address = 5
key = "post.key"
[[reader]]
name = "desk"
profile = "readers/twn4_simple"
port = "dev/desk"
charger = "yard"
"""


@dataclass(kw_only=True)
class Yard:
    here: Premises
    post: OsdpSimulator
    desk: PolledSerialSimulator

    def decided_at(self, reader: str) -> list[str]:
        return [
            each["data"]["outcome"] for each in self.here.events("decision.made") if each["data"]["reader"] == reader
        ]


@pytest.fixture
def yard(build) -> Iterator[Yard]:
    here = build(readers=("door",), bays=())
    here.settings = SETTINGS.replace('"dev/', f'"{here.root}/dev/')
    here.write_config()
    (here.root / "post.key").write_text(KEY.hex())
    with (
        OsdpSimulator(key=KEY, address=5, link=here.root / "dev" / "post") as post,
        PolledSerialSimulator.twn4(link=here.root / "dev" / "desk") as desk,
    ):
        here.start_ready()
        here.report("yard", "found", state="available", meter_wh=0)
        for name in ("post", "desk"):
            until(f"reader {name}", lambda name=name: here.reader_state(name) == "ready")
        yield Yard(here=here, post=post, desk=desk)
        here.stop()


def test_a_tap_is_decided_and_shown_where_it_was_made(yard: Yard):
    yard.desk.present(STRANGER)
    until("red at the desk", lambda: RED_ON in yard.desk.shown)
    yard.desk.remove()
    yard.post.present(ANNA)
    until("green at the post", lambda: any(each.get("on_color") == 2 for each in yard.post.commands))
    assert yard.decided_at("desk") == ["refused"]
    assert yard.decided_at("post") == ["granted"]
    assert not yard.post.said.count(ANNA)


def test_a_reader_that_dies_is_told_within_a_second_and_the_others_go_on(yard: Yard):
    yard.post.disturb(Disturbance.SILENCE, times=None)
    began_s = time.monotonic()
    until("the loss is told", lambda: yard.here.reader_state("post") == "lost")
    assert time.monotonic() - began_s < 1.5  # a second, and the API's own pace
    yard.desk.present(ANNA)
    until("green at the desk", lambda: GREEN_ON in yard.desk.shown)
    yard.desk.unplug()
    until("this loss, too", lambda: yard.here.reader_state("desk") == "lost")
    assert yard.here.service.runs
    assert yard.here.tap("door", STRANGER)["outcome"] == "refused"
    yard.desk.replug()
    yard.post.calm()
    for name in ("post", "desk"):
        until(f"{name} is back", lambda name=name: yard.here.reader_state(name) == "ready")


def test_the_key_of_a_line_is_in_its_file_and_nowhere_else(yard: Yard):
    yard.post.present(ANNA)
    until("a decision", lambda: yard.decided_at("post"))
    yard.here.service.stop()
    held = [each for each in yard.here.root.rglob("*") if each.is_file() and each.stat().st_size < 50_000_000]
    for form in (KEY, KEY.hex().encode(), KEY.hex().upper().encode()):
        assert {each.name for each in held if form in each.read_bytes()} <= {"post.key"}
    yard.here.service.start()
    until("the service answers", yard.here.answers)
