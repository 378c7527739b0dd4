"""Every combination of what a group says of one rule, what is known, and what the driver gave: all of them, by name."""

from __future__ import annotations

import itertools
from typing import Any

import pytest

from agent.core.decisions import Granted, NeedsInput, Refused
from agent.core.pins import Pin, PinState
from agent.core.policy import Driver
from agent.core.requests import Given
from agent.core.terms import Effect, Kind, Lenience
from tests.core.builders import Usage, a_group, a_place, a_policy, a_request, a_token, an_instant, ask, codes
from tests.core.naive_evaluator import naive

Row = tuple[Effect | None, Lenience | None, str, str, Given, bool]
STATED = Lenience(effect=Effect.WARN, max_energy_wh=5_000)
EFFECTS = (None, *Effect)
MISSING = (None, *(Lenience(effect=each) for each in Effect), STATED)
NETWORKS = {"fits": "DE*ABC", "fails": "NL*XYZ", "missing": None}
DRIVERS = {"with a PIN": Driver(id="anna", pin=Pin(salt="00", hash="")), "without one": Driver(id="anna")}
GIVEN = (Given(), Given(pin=PinState.RIGHT), Given(pin=PinState.WRONG))


def outcome(row: Row) -> str:
    """The table, in words: what the rule does, then what becomes of that."""
    effect, missing, known, driver, given, metered = row
    if known == "fits":
        return "granted"
    does = effect or Effect.DENY
    if known == "missing" and missing is not None:
        does = missing.effect
        if missing.max_energy_wh is not None and not metered:
            does = Effect.DENY
    if does is Effect.REQUIRE and given.pin is not PinState.RIGHT:
        return "needs input" if driver == "with a PIN" else "refused"
    return "refused" if does is Effect.DENY else "granted"


TABLE = list(itertools.product(EFFECTS, MISSING, NETWORKS, DRIVERS, GIVEN, (True, False)))


@pytest.mark.parametrize("known", NETWORKS)
def test_what_a_group_says_of_a_rule_is_done(known: str) -> None:
    names: dict[Any, str] = {Granted: "granted", Refused: "refused", NeedsInput: "needs input"}
    rows = [row for row in TABLE if row[2] == known]
    for row in rows:
        effect, missing, _, driver, given, metered = row
        group = a_group(
            networks={"DE*ABC"},
            effects={} if effect is None else {Kind.NETWORKS: effect},
            missing={} if missing is None else {Kind.NETWORKS: missing},
        )
        policy = a_policy(group, drivers={"anna": DRIVERS[driver]})
        asked = a_request(a_token(driver="anna"), place=a_place(network=NETWORKS[known]), given=given, metered=metered)

        decision = ask(asked, policy)

        assert names[type(decision)] == outcome(row), row
        limited = missing is STATED and known == "missing"
        if isinstance(decision, Granted):
            assert decision.limits.max_energy_wh == (5_000 if limited else None), row
        why = naive(asked, policy, Usage(), an_instant())
        assert set(codes(decision)) <= {code.strip("?!") for code in why}, row
    assert len(rows) == 5 * 6 * 2 * 3 * 2
