"""A driver is asked for a PIN or the odometer, and the machine remembers what was told."""

from __future__ import annotations

from typing import Any

import pytest

from agent.core import facts
from agent.core import observations as seen
from agent.core.decisions import Granted, NeedsInput, Refused
from agent.core.effects import Reply, Signal
from agent.core.facts import Outcome, PinTried
from agent.core.observations import Woken
from agent.core.pins import PinState, hashed, tried
from agent.core.policy import Driver, Policy
from agent.core.requests import Told
from agent.core.terms import Prompt
from tests.core.builders import Yard, a_group, a_policy, a_token, a_yard, of, presented, shown

PIN = hashed("4711", b"salt")
OTHER_PIN = hashed("4711", b"pepper")


def asking(*prompts: Prompt, pin: Any = PIN) -> Policy:
    return a_policy(a_group(prompts=frozenset(prompts)), drivers={"anna": Driver(id="anna", language="de", pin=pin)})


def taps(yard: Yard, **told: Any) -> Any:
    card = presented(token=a_token(driver="anna", vehicle="van"))
    effects = yard.tell(seen.Tapped(reader="door", presented=card, request="r", told=Told(**told)))
    (reply,) = of(Reply, effects)
    return reply.decision


def test_a_reader_without_keys_shows_what_is_needed() -> None:
    yard = a_yard(asking(Prompt.PIN), tokens={"04A1": a_token("04A1", driver="anna")})

    effects = yard.taps("04A1")

    assert shown(effects) == ["pending"]
    assert of(Signal, effects)[0].text == "Bitte PIN eingeben"
    (made,) = yard.told(facts.DecisionMade)
    assert (made.outcome, [reason.code.value for reason in made.reasons]) == (Outcome.NEEDS_INPUT, ["PIN"])


def test_the_right_pin_begins_the_session_and_is_recorded_as_proven() -> None:
    yard = a_yard(asking(Prompt.PIN))

    needs, granted = taps(yard), taps(yard, pin="4711")

    assert isinstance(needs, NeedsInput)
    assert needs.prompts == {Prompt.PIN}
    assert isinstance(granted, Granted)
    assert yard.told(PinTried) == [PinTried(driver="anna", salt=PIN.salt, right=True)]
    assert [made.pin_proven for made in yard.told(facts.DecisionMade)] == [None, True]
    assert "4711" not in repr(yard.journal)


def test_five_wrong_pins_lock_it_and_then_the_right_one_is_not_tried() -> None:
    yard = a_yard(asking(Prompt.PIN))

    wrong = [taps(yard, pin="0000") for _ in range(5)]
    right = taps(yard, pin="4711")

    assert [type(each) for each in wrong] == [*[NeedsInput] * 4, Refused]
    assert isinstance(right, Refused)
    assert len(yard.told(PinTried)) == 5


def test_a_lock_lasts_over_a_restart_and_ends_with_a_new_pin() -> None:
    yard = a_yard(asking(Prompt.PIN))
    for _ in range(5):
        taps(yard, pin="0000")
    history = yard.agent.state.history
    yard.dies()
    yard.tell(Woken(version="test", sessions=(), history=history))
    yard.finds()

    assert isinstance(taps(yard, pin="4711"), Refused)
    yard.tell(seen.PolicyActivated(policy=asking(Prompt.PIN, pin=OTHER_PIN), tokens=1, announce=False))
    assert isinstance(taps(yard, pin="4711"), Granted)


def test_a_right_pin_ends_the_count() -> None:
    yard = a_yard(asking(Prompt.PIN, Prompt.ODOMETER))
    for _ in range(4):
        taps(yard, pin="0000")

    assert isinstance(taps(yard, pin="4711"), NeedsInput)  # the odometer is still wanted
    assert isinstance(taps(yard, pin="0000"), NeedsInput)


def test_a_pin_that_nobody_asked_for_is_not_tried() -> None:
    yard = a_yard(asking())

    assert isinstance(taps(yard, pin="0000"), Granted)
    assert yard.told(PinTried) == []


def test_the_odometer_of_the_last_charge_counts_for_the_next() -> None:
    yard = a_yard(asking(Prompt.ODOMETER))
    assert isinstance(taps(yard, odometer_km=100), Granted)
    yard.unplugs()

    assert isinstance(taps(yard, odometer_km=99), NeedsInput)
    assert isinstance(taps(yard, odometer_km=101), Granted)
    assert [each.odometer_km for each in yard.told(facts.SessionAuthorised)] == [100, 101]


@pytest.mark.parametrize(("text", "state"), [("4711", PinState.RIGHT), ("4712", PinState.WRONG), ("", PinState.WRONG)])
def test_a_pin_is_known_by_its_hash(text: str, state: PinState) -> None:
    assert tried(PIN, text) is state
    assert PIN.hash not in repr(PIN)
