"""Rules about what the driver must tell: a PIN, the odometer. What can be told is asked for; it is no refusal."""

from __future__ import annotations

from collections.abc import Iterator

from agent.core.pins import MOST_TRIES, Pin, PinState
from agent.core.reasons import ReasonCode
from agent.core.rules.question import Objection, Question
from agent.core.terms import Prompt


def pin_given(asked: Question) -> Iterator[Objection]:
    """The driver's PIN, where a level wants it."""
    for level in asked.levels:
        if Prompt.PIN in level.prompts:
            for found in pin_wanted(asked):
                yield Objection(
                    code=found.code,
                    observed=found.observed,
                    limit=found.limit,
                    level=level,
                    missing=found.missing,
                    prompt=found.prompt,
                )


def pin_wanted(asked: Question) -> Iterator[Objection]:
    """What stands between this question and a proven PIN. Without one on file nobody can give it."""
    if asked.request.given.pin is PinState.RIGHT:
        return
    wrong, left = asked.usage.wrong_pins, MOST_TRIES - asked.usage.wrong_pins
    if left <= 0:
        yield Objection(code=ReasonCode.PIN_LOCKED, observed=f"{wrong} wrong", limit=f"{MOST_TRIES} tries")
    elif pin_of(asked) is None:
        yield Objection(code=ReasonCode.PIN, observed="none on file", missing=True)
    else:
        observed = "wrong" if asked.request.given.pin is PinState.WRONG else "none"
        yield Objection(code=ReasonCode.PIN, observed=observed, limit=f"{left} tries left", prompt=Prompt.PIN)


def odometer_given(asked: Question) -> Iterator[Objection]:
    """Where a level wants it: never less than at the last charge, nor more by more than the level believes."""
    reading, last = asked.request.given.odometer_km, asked.usage.last_odometer_km
    for level in asked.levels:
        if Prompt.ODOMETER not in level.prompts:
            continue
        most = level.max_odometer_increase_km
        limit = "" if last is None else f"{last} km or more" if most is None else f"{last} to {last + most} km"
        if reading is None:
            yield Objection(code=ReasonCode.ODOMETER, observed="none", limit=limit, level=level, prompt=Prompt.ODOMETER)
        elif last is not None and (reading < last or (most is not None and reading > last + most)):
            observed = f"{reading} km"
            yield Objection(
                code=ReasonCode.ODOMETER, observed=observed, limit=limit, level=level, prompt=Prompt.ODOMETER
            )


def pin_of(asked: Question) -> Pin | None:
    token, policy = asked.request.token, asked.policy
    driver = policy.drivers.get(token.driver) if policy is not None and token is not None and token.driver else None
    return driver.pin if driver is not None else None
