"""Whom a device lets charge, by how the backend can be reached, what is known of the token, and OCPI's whitelist type.

The table is told the whole machine: a tap, the question that it asks, an answer or the deadline, the decision.
"""

from __future__ import annotations

import itertools
from dataclasses import replace
from datetime import timedelta

import pytest

from agent.core import observations as seen
from agent.core.answers import Answer, Heard, Kept, Mode, Verdict, Whitelist
from agent.core.decisions import Granted, decide
from agent.core.effects import Ask, StartCharging
from agent.core.facts import BackendAnswered, DecisionMade, Outcome
from agent.core.policy import TokenStatus
from agent.core.requests import Usage
from tests.core.builders import CARD, NOON, Yard, a_policy, a_request, a_token, a_yard, an_instant, of, shown
from tests.core.naive_evaluator import naive

# What is known of the token: what the backend would say if it heard the question ("allowed" to "unknown"), or that it
# would say yes, and said so already, an hour ago ("cached") or longer ago than is believed ("stale").
KNOWN = ("allowed", "blocked", "expired", "unknown", "cached", "stale")
LINKS = ("online", "half-open", "offline")
TABLE = """
                    | allowed    | blocked       | expired       | unknown       | cached    | stale
  ALWAYS            |
    online          | granted    | granted       | granted       | granted       | granted   | granted
    half-open       | granted    | granted       | granted       | granted       | granted   | granted
    offline         | granted    | granted       | granted       | granted       | granted   | granted
  ALLOWED           |
    online          | granted    | granted       | granted       | granted       | granted   | granted
    half-open       | granted    | granted       | granted       | granted       | granted   | granted
    offline         | granted    | granted       | granted       | granted       | granted   | granted
  ALLOWED_OFFLINE   |
    online          | granted    | TOKEN_BLOCKED | TOKEN_EXPIRED | TOKEN_UNKNOWN | granted   | granted
    half-open       | !NO_ANSWER | !NO_ANSWER    | !NO_ANSWER    | !NO_ANSWER    | granted   | !NO_ANSWER
    offline         | !NO_ANSWER | !NO_ANSWER    | !NO_ANSWER    | !NO_ANSWER    | granted   | !NO_ANSWER
  NEVER             |
    online          | granted    | TOKEN_BLOCKED | TOKEN_EXPIRED | TOKEN_UNKNOWN | granted   | granted
    half-open       | NO_ANSWER  | NO_ANSWER     | NO_ANSWER     | NO_ANSWER     | NO_ANSWER | NO_ANSWER
    offline         | NO_ANSWER  | NO_ANSWER     | NO_ANSWER     | NO_ANSWER     | NO_ANSWER | NO_ANSWER
"""
# The same card, when the device's own list has it blocked: who is not asked for, and who is not answered for, is
# refused; only the backend's yes to this very question is newer than the list (OCPI: valid has no influence).
BLOCKED_HERE = """
                    | allowed       | blocked       | expired       | unknown       | cached        | stale
  ALWAYS            |
    online          | TOKEN_BLOCKED | TOKEN_BLOCKED | TOKEN_BLOCKED | TOKEN_BLOCKED | TOKEN_BLOCKED | TOKEN_BLOCKED
    half-open       | TOKEN_BLOCKED | TOKEN_BLOCKED | TOKEN_BLOCKED | TOKEN_BLOCKED | TOKEN_BLOCKED | TOKEN_BLOCKED
    offline         | TOKEN_BLOCKED | TOKEN_BLOCKED | TOKEN_BLOCKED | TOKEN_BLOCKED | TOKEN_BLOCKED | TOKEN_BLOCKED
  ALLOWED           |
    online          | TOKEN_BLOCKED | TOKEN_BLOCKED | TOKEN_BLOCKED | TOKEN_BLOCKED | TOKEN_BLOCKED | TOKEN_BLOCKED
    half-open       | TOKEN_BLOCKED | TOKEN_BLOCKED | TOKEN_BLOCKED | TOKEN_BLOCKED | TOKEN_BLOCKED | TOKEN_BLOCKED
    offline         | TOKEN_BLOCKED | TOKEN_BLOCKED | TOKEN_BLOCKED | TOKEN_BLOCKED | TOKEN_BLOCKED | TOKEN_BLOCKED
  ALLOWED_OFFLINE   |
    online          | granted       | TOKEN_BLOCKED | TOKEN_BLOCKED | TOKEN_BLOCKED | granted       | granted
    half-open       | TOKEN_BLOCKED | TOKEN_BLOCKED | TOKEN_BLOCKED | TOKEN_BLOCKED | TOKEN_BLOCKED | TOKEN_BLOCKED
    offline         | TOKEN_BLOCKED | TOKEN_BLOCKED | TOKEN_BLOCKED | TOKEN_BLOCKED | TOKEN_BLOCKED | TOKEN_BLOCKED
  NEVER             |
    online          | granted       | TOKEN_BLOCKED | TOKEN_BLOCKED | TOKEN_BLOCKED | granted       | granted
    half-open       | TOKEN_BLOCKED | TOKEN_BLOCKED | TOKEN_BLOCKED | TOKEN_BLOCKED | TOKEN_BLOCKED | TOKEN_BLOCKED
    offline         | TOKEN_BLOCKED | TOKEN_BLOCKED | TOKEN_BLOCKED | TOKEN_BLOCKED | TOKEN_BLOCKED | TOKEN_BLOCKED
"""


def rows(table: str) -> dict[tuple[Whitelist, str, str], str]:
    found, whitelist = {}, Whitelist.ALWAYS
    head, *lines = table.strip("\n").splitlines()
    names = [each.strip() for each in head.split("|")[1:]]
    for line in lines:
        name, *cells = (each.strip() for each in line.split("|"))
        if name in LINKS:
            found |= {(whitelist, name, known): cell for known, cell in zip(names, cells, strict=True)}
        else:
            whitelist = Whitelist(name)
    return found


def the_yard(whitelist: Whitelist, link: str, known: str, status: TokenStatus) -> Yard:
    token = a_token(whitelist=whitelist, status=status)
    yard = a_yard(tokens={CARD: token})
    hours = {"cached": 1, "stale": 25}.get(known)
    if hours is not None:
        kept = Kept(
            verdict=Verdict.ALLOWED, answered_at=NOON - timedelta(hours=hours), boot="an earlier boot", monotonic_ms=0,
            keep=timedelta(hours=24),
        )  # fmt: skip
        state = yard.agent.state
        yard.agent.state = replace(state, history=state.history.with_answer(token.reference, kept))
    yard.tell(seen.LinkChanged(up=link != "offline"))
    return yard


def asks_and_hears(yard: Yard, link: str, known: str) -> DecisionMade:
    """A tap; if it asks, the backend answers online, and nobody does on a half-open link."""
    effects = yard.shows(CARD)
    asked = of(Ask, effects)
    if asked:
        assert shown(effects) == ["pending"]
        assert not yard.told(DecisionMade)
        if link == "online":
            yard.tell(seen.BackendAnswered(ask=asked[0].ask, answer=an_answer(word_of(known))))
        yard.passes(milliseconds=1_500)
        yard.tell(seen.Tick())
    (made,) = yard.told(DecisionMade)
    return made


def word_of(known: str) -> Verdict:
    return Verdict.ALLOWED if known in ("cached", "stale") else Verdict(known.upper())


def an_answer(verdict: Verdict, keep_s: int = 0) -> Answer:
    return Answer(verdict=verdict, answered_at=NOON, keep=timedelta(seconds=keep_s), jws="e30.e30.e30")


@pytest.mark.parametrize(("table", "status"), [(TABLE, TokenStatus.ACTIVE), (BLOCKED_HERE, TokenStatus.BLOCKED)])
@pytest.mark.parametrize("whitelist", Whitelist)
def test_every_row_of_the_table_is_what_the_machine_does(whitelist: Whitelist, table: str, status: TokenStatus) -> None:
    wanted = {key: cell for key, cell in rows(table).items() if key[0] is whitelist}
    assert set(wanted) == {(whitelist, link, known) for link, known in itertools.product(LINKS, KNOWN)}

    for (_, link, known), cell in wanted.items():
        yard = the_yard(whitelist, link, known, status)
        made = asks_and_hears(yard, link, known)

        first = made.reasons[0].code if made.reasons else None
        warned = "".join(f"!{each.code}" for each in made.warnings)
        assert (first or warned or "granted") == cell, (whitelist, link, known)
        assert (made.outcome is Outcome.GRANTED) == (first is None)
        online = whitelist.asks and link == "online"
        assert made.mode is (Mode.ONLINE if online else Mode.OFFLINE)
        assert bool(yard.told(BackendAnswered)) == online
        assert (not made.waited_ms) == (link == "offline" or online or not whitelist.asks), (
            "only a deadline is waited for"
        )


@pytest.mark.parametrize("whitelist", Whitelist)
def test_a_second_evaluator_agrees_on_all_that_can_be_heard(whitelist: Whitelist) -> None:
    words = [None, *(Heard(verdict=each) for each in Verdict), *(Heard(kept=each) for each in (None, *Verdict))]
    ages = (timedelta(hours=1), timedelta(hours=25), timedelta(days=8))
    for heard, status, age, offline in itertools.product(words, TokenStatus, ages, (True, False)):
        asked = a_request(a_token(whitelist=whitelist, status=status, offline=offline), heard=heard)
        policy = a_policy(confirmed=NOON - age)

        granted = isinstance(decide(asked, policy, Usage(), an_instant()), Granted)

        against = {code for code in naive(asked, policy, Usage(), an_instant()) if code[0] != "!"}
        assert granted == (not against), (heard, status, age, offline)


def test_an_answer_begins_the_session_that_the_tap_asked_for() -> None:
    yard = the_yard(Whitelist.NEVER, "online", "allowed", TokenStatus.ACTIVE)

    (asked,) = of(Ask, yard.shows(CARD))
    effects = yard.tell(seen.BackendAnswered(ask=asked.ask, answer=an_answer(Verdict.ALLOWED)))

    assert shown(effects) == ["granted"]
    assert len(of(StartCharging, effects)) == 1
    (answered,), (made,) = yard.told(BackendAnswered), yard.told(DecisionMade)
    assert answered.decision == made.decision
