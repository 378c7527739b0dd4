"""A reader whose profile only the fleet's bundle has does not keep the others from deciding."""

from __future__ import annotations

import pytest

from agent.demo.fleet import ANNA
from drivers.readers.virtual_cards import Type2Card
from tests.end_to_end.premises import until

pytestmark = pytest.mark.slow

SETTINGS = """
[[reader]]
name = "gate"
profile = "readers/of_the_bundle"
port = "/dev/serial/by-id/gate"
charger = "bay-1"
"""


def test_a_reader_without_a_profile_waits_and_is_told_while_another_decides(build):
    here = build(settings=SETTINGS)
    here.start_ready()
    until("the gate is told", lambda: here.status()["readers"].get("gate", {}).get("state") == "lost")
    assert "no profile 'readers/of_the_bundle'" in here.status()["readers"]["gate"]["detail"]

    here.bays["bay-1"].plug_in()
    here.left.present(Type2Card(ANNA))
    until("a decision", here.has("decision.made"))
    assert here.events("decision.made")[0]["data"]["outcome"] == "granted"
