"""Sessions as values: the table is total, facts fold to sessions, ends are truthful, and nothing is ever negative."""

from __future__ import annotations

from dataclasses import replace
from datetime import timedelta
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from agent.core import facts
from agent.core.facts import EndReason
from agent.core.sessions import (
    TRANSITIONS,
    Event,
    Phase,
    Session,
    Step,
    duration,
    ended,
    evolve,
    fold,
    phase_after_resuming,
    start,
)
from tests.core.builders import BOOT, NOON, a_credential, a_place, an_instant

LATER = an_instant(NOON + timedelta(minutes=10), monotonic_ms=1_600_000)


def authorised(**changes: Any) -> facts.SessionAuthorised:
    defaults: dict[str, Any] = {
        "session": "s1",
        "decision": "d1",
        "credential": a_credential(),
        "holder": facts.Holder(label="card", group="drivers"),
        "place": a_place(),
        "reader": "door",
        "charger": "bay",
        "max_energy_wh": None,
        "authorised_at": NOON,
        "boot": BOOT,
        "monotonic_ms": 1_000_000,
    }
    return facts.SessionAuthorised(**{**defaults, **changes})


def started(meter_wh: int = 1_000) -> facts.SessionStarted:
    return facts.SessionStarted(session="s1", meter_wh=meter_wh, started_at=NOON, boot=BOOT, monotonic_ms=1_000_000)


def metered(meter_wh: int) -> facts.SessionMetered:
    return facts.SessionMetered(session="s1", meter_wh=meter_wh, energy_wh=0, power_w=None)


def stop_requested(reason: EndReason = EndReason.LOCAL) -> facts.SessionStopRequested:
    return facts.SessionStopRequested(session="s1", reason=reason, by=None)


INTERRUPTED = facts.SessionInterrupted(session="s1", last_meter_wh=None)


def resumed(meter_wh: int | None = None) -> facts.SessionResumed:
    return facts.SessionResumed(session="s1", meter_wh=meter_wh)


def a_session(*later: facts.SessionFact) -> Session:
    session = fold([authorised(), *later])
    assert session is not None
    return session


def test_every_event_has_a_row_in_every_phase() -> None:
    assert {phase: set(row) for phase, row in TRANSITIONS.items()} == {phase: set(Event) for phase in Phase}
    assert {step for row in TRANSITIONS.values() for step in row.values()} == set(Step)


def test_what_has_ended_is_never_begun_metered_or_ended_again() -> None:
    assert set(TRANSITIONS[Phase.ENDED].values()) <= {Step.IGNORE, Step.CONTRADICT, Step.CONTRADICT_AND_STOP}


@pytest.mark.parametrize(
    ("later", "phase"),
    [
        ([], Phase.AUTHORISED),
        ([started()], Phase.CHARGING),
        ([started(), metered(2_000)], Phase.CHARGING),
        ([started(), stop_requested()], Phase.STOPPING),
        ([stop_requested()], Phase.STOPPING),
        ([stop_requested(), started()], Phase.STOPPING),
        ([INTERRUPTED], Phase.INTERRUPTED),
        ([started(), INTERRUPTED], Phase.INTERRUPTED),
        ([started(), INTERRUPTED, resumed()], Phase.CHARGING),
        ([INTERRUPTED, resumed()], Phase.AUTHORISED),
        ([started(), stop_requested(), INTERRUPTED, resumed()], Phase.STOPPING),
        ([stop_requested(), INTERRUPTED, resumed()], Phase.STOPPING),
        ([started(), authorised()], Phase.CHARGING),
    ],
)
def test_facts_fold_to_the_phase_they_describe(later: list[facts.SessionFact], phase: Phase) -> None:
    assert a_session(*later).phase is phase


def test_facts_without_their_beginning_are_no_session() -> None:
    assert fold([started(), metered(2_000)]) is None
    assert fold([]) is None


def test_what_has_ended_stays_ended_whatever_is_told_later() -> None:
    end = ended(a_session(started(), metered(3_000)), reason=EndReason.LOCAL, meter_wh=4_000, complete=True, now=LATER)
    over = evolve(a_session(started(), metered(3_000)), end)

    for late in (authorised(), started(), metered(9_000), stop_requested(), INTERRUPTED, resumed(8_000)):
        assert evolve(over, late) == over
    assert not over.is_open


def test_a_start_told_twice_keeps_the_first_reading() -> None:
    assert a_session(started(1_000), metered(5_000), started(4_000)) == a_session(started(1_000), metered(5_000))


def test_the_session_ended_carries_whose_it_was_and_what_it_took() -> None:
    end = ended(
        a_session(started(1_000), metered(3_000)), reason=EndReason.LOCAL, meter_wh=4_500, complete=True, now=LATER
    )

    assert (end.energy_wh, end.meter_start_wh, end.meter_stop_wh) == (3_500, 1_000, 4_500)
    assert (end.started, end.complete, end.interrupted) == (True, True, False)
    assert (end.holder.label, end.decision, end.charger) == ("card", "d1", "bay")
    assert (end.duration_s, end.duration_source) == (600, "monotonic")


def test_an_end_that_was_not_seen_keeps_the_last_value_and_says_so() -> None:
    session = a_session(started(1_000), metered(3_000), INTERRUPTED)

    end = ended(session, reason=EndReason.POWER_LOSS, meter_wh=None, complete=False, now=LATER)

    assert (end.energy_wh, end.meter_stop_wh) == (2_000, 3_000)
    assert (end.complete, end.interrupted) == (False, True)


def test_a_session_that_never_started_ends_with_nothing() -> None:
    end = ended(a_session(), reason=EndReason.TIMEOUT, meter_wh=None, complete=True, now=LATER)

    assert (end.started, end.energy_wh, end.duration_s, end.duration_source) == (False, 0, 0, "none")
    assert end.started_at is None


@pytest.mark.parametrize(
    ("now", "expected"),
    [
        (LATER, (600_000, "monotonic")),
        (replace(LATER, utc=NOON - timedelta(days=9000)), (600_000, "monotonic")),  # the wall clock bends nothing
        (replace(LATER, utc=NOON + timedelta(days=1800)), (600_000, "monotonic")),
        (replace(LATER, monotonic_ms=0), (0, "monotonic")),
        (replace(LATER, boot="boot-2", monotonic_ms=5), (600_000, "wall")),
        (replace(LATER, boot="boot-2", utc=NOON - timedelta(days=1)), (0, "wall")),
    ],
)
def test_durations_are_monotonic_within_a_boot_wall_across_and_never_negative(now: Any, expected: Any) -> None:
    assert duration(a_session(started()), now) == expected


any_fact = st.one_of(
    st.just(authorised()),
    st.builds(started, st.integers(0, 10**7)),
    st.builds(metered, st.integers(0, 10**7)),
    st.builds(stop_requested, st.sampled_from(EndReason)),
    st.just(INTERRUPTED),
    st.builds(resumed, st.none() | st.integers(0, 10**7)),
)


@settings(max_examples=200, deadline=None)
@given(st.lists(any_fact, max_size=20), st.none() | st.integers(0, 10**7))
def test_whatever_is_told_energy_is_never_negative_and_the_end_is_final(later: list[Any], meter_wh: int | None) -> None:
    session = start(authorised())
    for fact in later:
        session = evolve(session, fact)
        assert session.energy_wh >= 0
        assert session.phase is not Phase.ENDED
        assert session.phase is Phase.INTERRUPTED or session.phase is phase_after_resuming(session)

    end = ended(session, reason=EndReason.LOCAL, meter_wh=meter_wh, complete=True, now=LATER)

    assert end.energy_wh >= 0
    assert evolve(session, end).phase is Phase.ENDED
