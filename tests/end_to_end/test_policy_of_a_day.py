"""A fleet writes rules about drivers, prices and habits; its gateway asks, refuses and remembers over a restart."""

from __future__ import annotations

from typing import Any

import pytest

from agent.demo.fleet import ANNA, DORA
from tests.end_to_end.premises import Premises, until

pytestmark = pytest.mark.slow

RULES = """
[groups.vans.prices]
currency = "EUR"
basis = "gross"
per_kwh = 0.55
[groups.vans.missing]
prices = "allow"
[groups.vans.velocity]
sessions = 1
window_s = 3600
"""
CHEAP, DEAR = ({"currency": "EUR", "basis": "gross", "per_kwh": price} for price in ("0.49", "0.56"))


@pytest.fixture
def van(here: Premises) -> Premises:
    policy, drivers = here.office.source / "policy.toml", here.office.source / "drivers.toml"
    text = policy.read_text().replace('networks = ["DE*ABC"]\n', 'networks = ["DE*ABC"]\nprompts = ["pin"]\n' + RULES)
    policy.write_text(text)
    drivers.write_text(drivers.read_text().replace("[drivers.anna]\n", '[drivers.anna]\npin = "4711"\n'))
    here.office.publish()
    here.start_ready()
    return ready(here)


def ready(van: Premises) -> Premises:
    van.report("yard", "found", state="available", meter_wh=0)
    until("the yard's charger", lambda: van.reachable("yard"))
    return van


def taps(van: Premises, uid: bytes = ANNA, **told: Any) -> dict[str, Any]:
    return van.api.post("/v1/taps", {"reader": "door", "uid": uid.hex(), **told})


def told(answer: dict[str, Any]) -> tuple[str, list[str], list[str]]:
    return answer["outcome"], answer["needs"], [each["code"] for each in answer["reasons"]]


def test_a_driver_is_asked_and_a_card_that_charged_is_remembered_over_a_restart(van: Premises) -> None:
    assert told(taps(van, prices=CHEAP)) == ("needs_input", ["pin"], ["PIN"])
    assert told(taps(van, prices=CHEAP, input={"pin": "0000"})) == ("needs_input", ["pin"], ["PIN"])
    assert told(taps(van, prices=DEAR, input={"pin": "4711"})) == ("refused", [], ["PRICE_CAP"])
    assert told(taps(van, DORA, input={"pin": "4711"})) == ("refused", [], ["PIN"])  # none on file

    granted = taps(van, prices=CHEAP, input={"pin": "4711"})
    session = granted["session"]
    van.report("yard", "started", session=session, meter_wh=1_000)
    van.report("yard", "stopped", session=session, meter_wh=2_000, reason="Local")
    until("the end", van.has("session.ended"))
    van.stop()
    van.start_ready()
    ready(van)

    assert told(taps(van, input={"pin": "4711"})) == ("refused", [], ["VELOCITY"])
    assert [each["data"]["right"] for each in van.events("pin.tried")] == [False, True, True, True]
    van.stop()
    assert [body for body in van.sealed() if b'"4711"' in body] == []
