"""A card in doubt in the story of a session: it begins nothing, stops nothing, and the genuine card is not hindered."""

from __future__ import annotations

import pytest

from agent.core import facts
from agent.core import observations as seen
from agent.core.credentials import RANDOM, Assurance, CardDoubt
from agent.core.effects import Signal
from agent.core.observations import Presented
from tests.core.builders import Yard, a_credential, presented

PROVEN = presented(credential=a_credential(assurance=Assurance.AUTHENTICATED))
CLONE = presented(doubt=CardDoubt.NOT_GENUINE)
TORN = presented(doubt=CardDoubt.TORN)


def shows(yard: Yard, *cards: Presented) -> list[str]:
    """One look; what was shown to the driver."""
    effects = yard.tell(seen.Sighted(reader="door", presented=cards, monotonic_ms=yard.now.monotonic_ms))
    return [effect.feedback.value for effect in effects if isinstance(effect, Signal)]


def leaves(yard: Yard) -> None:
    for _ in range(8):
        yard.passes(milliseconds=250)
        shows(yard)


def reasons(yard: Yard) -> list[str]:
    made = [fact for fact in yard.journal if isinstance(fact, facts.DecisionMade)]
    return [reason.code.value for reason in made[-1].reasons]


@pytest.mark.parametrize(("doubt", "reason"), [(CLONE, "CARD_NOT_GENUINE"), (TORN, "CARD_TORN")])
def test_a_clone_neither_begins_nor_stops(doubt: Presented, reason: str) -> None:
    yard = Yard()
    assert shows(yard, doubt) == ["refused"]
    assert reasons(yard) == [reason]
    leaves(yard)
    assert shows(yard, PROVEN) == ["granted"]
    leaves(yard)
    assert shows(yard, doubt) == ["refused"]
    assert not [fact for fact in yard.journal if isinstance(fact, facts.SessionStopRequested)]
    assert reason in reasons(yard)


def test_a_torn_card_that_then_proves_itself_is_granted_without_being_lifted() -> None:
    yard = Yard()
    assert shows(yard, TORN) == ["refused"]
    yard.passes(milliseconds=150)
    assert shows(yard, PROVEN) == ["granted"]


def test_a_phone_is_told_to_be_one_and_leaves_no_number() -> None:
    yard = Yard()
    phone = Presented(credential=RANDOM, token=None, doubt=CardDoubt.PHONE)
    assert shows(yard, phone) == ["refused"]
    assert reasons(yard) == ["PHONE"]
    (made,) = (fact for fact in yard.journal if isinstance(fact, facts.DecisionMade))
    assert made.credential.reference == ""
    assert "app" in made.text
