"""The machine told as stories: what drivers, chargers and power cuts do, and what they get for it."""

from __future__ import annotations

from dataclasses import replace
from datetime import timedelta
from typing import Any

import pytest

from agent.core import facts
from agent.core import observations as seen
from agent.core.credentials import RANDOM
from agent.core.decisions import Granted, Refused
from agent.core.effects import (
    QueryCharger,
    Record,
    Reply,
    Seal,
    Signal,
    StartCharging,
    StopCharging,
    WakeAt,
)
from agent.core.facts import EndReason, Outcome, Trigger
from agent.core.instants import ClockQuality
from agent.core.memory import REMEMBERED_CONTRADICTIONS, REMEMBERED_ENDED_SESSIONS
from agent.core.policy import Freshness, TokenStatus
from agent.core.requests import Place
from agent.core.sessions import Phase
from tests.core.builders import (
    CARD,
    NOON,
    Yard,
    a_group,
    a_phone,
    a_place,
    a_policy,
    a_schedule,
    a_setup,
    a_tap,
    a_token,
    a_window,
    a_yard,
    charging_yard,
    of,
    presented,
    recorded,
    shown,
)

OTHER = "04FFEEDDCCBBAA"
HOUR = timedelta(hours=1)


def kinds(effects: Any) -> list[str]:
    return [type(effect).__name__ for effect in effects]


def the_end(yard: Yard) -> facts.SessionEnded:
    (end,) = yard.told(facts.SessionEnded)
    return end


# A good day


def test_a_tap_is_granted_charges_and_is_stopped_by_the_same_card() -> None:
    yard = a_yard()

    granted = yard.taps()
    assert kinds(granted) == ["Record", "Signal", "StartCharging", "WakeAt"]
    assert [type(fact) for fact in recorded(granted)] == [facts.DecisionMade, facts.SessionAuthorised]
    assert shown(granted) == ["granted"]

    session = yard.session.id
    yard.started(session, 1_000)
    yard.passes(minutes=30)
    yard.metered(6_500, session)
    stop = yard.taps()
    assert kinds(stop) == ["Record", "Signal", "StopCharging", "WakeAt"]
    assert shown(stop) == ["granted"]

    assert kinds(yard.stopped(6_600, session, reason="Local")) == ["Record", "Seal"]
    end = the_end(yard)
    assert (end.energy_wh, end.reason, end.complete, end.interrupted) == (5_600, EndReason.LOCAL, True, False)
    assert end.duration_s == 30 * 60 + 2  # the second tap takes two seconds
    assert yard.agent.state.open_sessions == ()


def test_the_session_names_driver_vehicle_and_cost_centre_of_the_moment() -> None:
    yard = a_yard()
    yard.knows(CARD, driver="anna", vehicle="van", parent="family")

    granted = yard.taps()
    yard.tell(seen.PolicyActivated(policy=a_policy(drivers={}, vehicles={}), tokens=0, announce=True))
    yard.started(yard.session, 0)
    yard.stopped(1, yard.session)

    (made,) = yard.told(facts.DecisionMade)
    holder = facts.Holder(
        label="card E5F6", group="drivers", parent="family", driver="anna", vehicle="van", cost_centre="4711"
    )
    assert the_end(yard).holder == made.holder == holder
    assert of(Signal, granted)[0].text == "Laden erlaubt"
    assert (made.outcome, made.trigger, made.ocpp16, made.oicp) == (Outcome.GRANTED, Trigger.TAP, "Accepted", "000")
    assert made.policy == facts.PolicyStamp(revision=7, fingerprint="f00d", age_s=3_600, state=Freshness.FRESH)


def test_the_charger_that_ends_by_itself_says_why() -> None:
    yard = charging_yard()

    yard.stopped(9_000, yard.session, reason="stoppedbyev")

    assert the_end(yard).reason is EndReason.STOPPED_BY_EV


def test_the_energy_cap_is_handed_to_the_charger_and_stops_a_session_that_reaches_it() -> None:
    yard = a_yard(a_policy(max_energy_wh=10_000))
    (start,) = of(StartCharging, yard.taps())
    yard.started(yard.session, 1_000)

    below = yard.metered(10_999, yard.session)
    reached = yard.metered(11_000, yard.session)
    yard.metered(11_050, yard.session)
    yard.stopped(11_060, yard.session, reason="Local")

    assert start.max_energy_wh == 10_000
    assert of(StopCharging, below) == []
    assert of(StopCharging, reached) != []
    (stop,) = yard.told(facts.SessionStopRequested)
    assert (stop.reason, stop.by) == (EndReason.ENERGY_LIMIT, None)
    assert (the_end(yard).reason, the_end(yard).energy_wh) == (EndReason.ENERGY_LIMIT, 10_060)


def test_meter_samples_are_recorded_once_a_minute_without_hurry() -> None:
    yard = charging_yard()

    effects = []
    for second in range(1, 241):
        yard.passes(seconds=1)
        effects += yard.metered(1_000 + second, yard.session)

    assert [fact.meter_wh for fact in yard.told(facts.SessionMetered)] == [1_060, 1_120, 1_180, 1_240]
    assert {record.urgent for record in of(Record, effects)} == {False}


def test_tapping_before_plugging_in_starts_when_the_cable_comes() -> None:
    yard = a_yard()
    yard.taps()
    yard.passes(seconds=20)

    plugged = yard.plugs_in()
    yard.started(yard.session, 1_000)

    assert kinds(plugged) == ["StartCharging"]
    assert yard.plugs_in() == ()
    assert yard.session.phase is Phase.CHARGING


# No


def test_a_refusal_tells_every_reason_and_starts_nothing() -> None:
    night = a_schedule(a_window("22:00", "06:00"))
    yard = a_yard(a_policy(schedule=night, networks={"NL*XYZ"}))

    refused = yard.taps()

    (made,) = yard.told(facts.DecisionMade)
    assert kinds(refused) == ["Record", "Signal"]
    assert [reason.code for reason in made.reasons] == ["NETWORK", "TIME_WINDOW"]
    assert of(Signal, refused) == [
        Signal(reader="door", feedback=of(Signal, refused)[0].feedback, text="Network not allowed (+1)")
    ]
    assert shown(refused) == ["refused"]
    assert (made.ocpi, made.ocpp201) == ("NOT_ALLOWED", "NotAtThisLocation")
    assert yard.agent.state.open_sessions == ()


def test_an_unknown_card_and_a_blocked_card_are_refused() -> None:
    yard = a_yard()
    yard.tokens[OTHER] = None
    yard.knows(CARD, status=TokenStatus.BLOCKED)

    assert shown(yard.taps(OTHER)) == shown(yard.taps(CARD)) == ["refused"]
    assert [made.reasons[0].code for made in yard.told(facts.DecisionMade)] == ["TOKEN_UNKNOWN", "TOKEN_BLOCKED"]


def test_another_card_at_a_busy_charger_is_told_that_it_is_busy() -> None:
    yard = charging_yard()

    yard.taps(OTHER)

    assert [reason.code for reason in yard.told(facts.DecisionMade)[-1].reasons] == ["EVSE_OCCUPIED"]
    assert yard.session.phase is Phase.CHARGING


def test_the_same_card_at_a_second_reader_is_already_charging() -> None:
    yard = charging_yard()

    yard.taps(CARD, reader="gate")

    assert [reason.code for reason in yard.told(facts.DecisionMade)[-1].reasons] == ["CONCURRENT_SESSION"]
    assert len(yard.agent.state.open_sessions) == 1


def test_a_second_card_of_the_same_vehicle_is_already_charging() -> None:
    yard = a_yard()
    yard.knows(CARD, vehicle="van")
    yard.knows(OTHER, vehicle="van")
    yard.taps(CARD)

    yard.taps(OTHER, reader="gate")

    assert [reason.code for reason in yard.told(facts.DecisionMade)[-1].reasons] == ["CONCURRENT_SESSION"]


def test_a_phone_is_a_stranger_and_its_number_is_kept_nowhere() -> None:
    yard = a_yard()
    phone = presented("08112233", credential=a_phone())  # a token of that number lies in the table by chance

    yard.tell(seen.Sighted(reader="door", presented=(phone,), monotonic_ms=yard.now.monotonic_ms))
    yard.tell(seen.Tapped(reader="door", presented=phone))
    yard.tell(seen.DecisionRequested(request="r", presented=phone, charger=None, place=a_place()))

    made = yard.told(facts.DecisionMade)
    assert [[reason.code for reason in each.reasons] for each in made] == [["TOKEN_RANDOM_UID"]] * 3
    assert {each.credential for each in made} == {RANDOM}
    assert {each.holder.label for each in made} == {None}


def test_two_cards_are_asked_to_be_one_and_stop_nothing() -> None:
    yard = charging_yard()

    crowd = yard.shows(CARD, OTHER)

    assert shown(crowd) == ["refused"]
    assert [reason.code for reason in yard.told(facts.DecisionMade)[-1].reasons] == ["EVSE_OCCUPIED", "SEVERAL_CARDS"]
    assert yard.shows(CARD, OTHER) == ()
    assert yard.session.phase is Phase.CHARGING


def test_a_card_left_on_the_reader_is_one_tap_and_does_not_stop_its_own_session() -> None:
    yard = a_yard()

    taps = []
    for _ in range(1_000):
        taps += yard.shows(CARD)
        yard.passes(milliseconds=150)

    assert shown(taps) == ["granted"]
    assert len(yard.told(facts.DecisionMade)) == 1


def test_a_card_left_on_a_reader_that_is_lost_and_found_does_not_stop_its_session() -> None:
    yard = charging_yard()
    yard.taps(OTHER)
    yard.passes(minutes=1)
    lying = yard.shows(OTHER)

    yard.tell(seen.ReaderLost(reader="door", cause="unplugged"))
    assert yard.tell(seen.ReaderLost(reader="door", cause="unplugged")) == ()
    yard.passes(minutes=1)
    yard.tell(seen.ReaderFound(reader="door", model="PN532", firmware="1.6"))
    yard.passes(seconds=1)

    assert shown(lying) == ["refused"]
    assert yard.shows(OTHER) == ()
    yard.passes(seconds=30)
    assert shown(yard.shows(OTHER)) == ["refused"]


def test_a_reader_that_stands_for_no_charger_grants_nothing() -> None:
    yard = a_yard()

    yard.tell(a_tap(reader="lost property"))

    assert [reason.code for reason in yard.told(facts.DecisionMade)[-1].reasons] == ["EVSE_UNAVAILABLE"]


def test_a_charger_that_is_not_there_is_told_before_anybody_waits() -> None:
    yard = a_yard()
    yard.loses("bay")

    yard.taps()

    assert [reason.code for reason in yard.told(facts.DecisionMade)[-1].reasons] == ["EVSE_UNAVAILABLE"]


# Stopping


def test_a_card_of_the_same_parent_group_stops_the_session() -> None:
    yard = a_yard()
    yard.knows(CARD, parent="Family")
    yard.knows(OTHER, parent="FAMILY")
    yard.taps(CARD)
    yard.started(yard.session, 0)

    stop = yard.taps(OTHER)

    assert of(StopCharging, stop) != []
    (asked,) = yard.told(facts.SessionStopRequested)
    assert asked.by == yard.look_up(OTHER).credential


@pytest.mark.parametrize("parent", [None, "", "strangers"])
def test_a_card_of_another_parent_group_or_of_none_does_not(parent: str | None) -> None:
    yard = a_yard()
    yard.knows(CARD, parent="" if parent == "" else "family")
    yard.knows(OTHER, parent=parent)
    yard.taps(CARD)

    assert of(StopCharging, yard.taps(OTHER)) == []


def test_a_blocked_card_stops_what_it_began() -> None:
    yard = charging_yard()
    yard.knows(CARD, status=TokenStatus.BLOCKED)

    assert of(StopCharging, yard.taps()) != []


def test_a_blocked_card_stops_nobody_else() -> None:
    yard = a_yard()
    yard.knows(CARD, parent="family")
    yard.knows(OTHER, parent="family", status=TokenStatus.BLOCKED)
    yard.taps(CARD)

    assert shown(yard.taps(OTHER)) == ["refused"]
    assert yard.told(facts.SessionStopRequested) == []


def test_a_revoked_card_stops_what_it_began_and_nobody_else() -> None:
    yard = a_yard()
    for uid in (CARD, OTHER):
        yard.knows(uid, parent="family")
    yard.taps(CARD)
    policy = a_policy(revoked=frozenset({a_token(uid).reference for uid in (CARD, OTHER)}))
    yard.tell(seen.PolicyActivated(policy=policy, tokens=2, announce=False))

    assert shown(yard.taps(OTHER)) == ["refused"]
    assert yard.told(facts.SessionStopRequested) == []
    yard.taps(CARD)
    assert len(yard.told(facts.SessionStopRequested)) == 1


def test_a_card_stops_its_session_also_when_the_token_table_cannot_be_read() -> None:
    yard = charging_yard()

    stop = yard.tell(a_tap(unknown=True, lookup_failed=True))

    assert of(StopCharging, stop) != []


def test_a_second_tap_while_stopping_asks_the_charger_again_and_records_nothing_new() -> None:
    yard = charging_yard()
    yard.taps()

    again = yard.taps()

    assert kinds(again) == ["Signal", "StopCharging"]
    assert len(yard.told(facts.SessionStopRequested)) == 1


def test_a_charger_that_does_not_stop_is_asked_again_until_it_does() -> None:
    yard = charging_yard()
    yard.taps()

    for _ in range(20):
        effects = yard.tick_after(seconds=30)
        assert of(StopCharging, effects) == [StopCharging(charger="bay", session=yard.session.id)]
        assert of(WakeAt, effects) == [WakeAt(monotonic_ms=yard.now.monotonic_ms + 30_000)]

    yard.stopped(2_000, yard.session)
    assert the_end(yard).complete


def test_a_stop_at_a_charger_that_stays_away_ends_with_what_is_known() -> None:
    """Else the card could charge nowhere until that charger is repaired."""
    yard = charging_yard()
    yard.metered(3_000, yard.session)
    (wake,) = of(WakeAt, yard.loses("bay")) or [None]
    assert wake is None  # charging may last
    yard.taps()

    assert yard.tick_after(minutes=4) == ()
    effects = yard.tick_after(minutes=1)

    assert kinds(effects) == ["Record", "Seal"]
    end = the_end(yard)
    assert (end.energy_wh, end.complete, end.reason) == (2_000, False, EndReason.LOCAL)
    assert shown(yard.taps(CARD, reader="gate")) == ["granted"]


def test_a_charger_lost_while_stopping_wakes_the_machine_again() -> None:
    yard = charging_yard()
    yard.taps()

    (wake,) = of(WakeAt, yard.loses("bay"))
    yard.now = replace(yard.now, monotonic_ms=wake.monotonic_ms)

    assert kinds(yard.tell(seen.Tick())) == ["Record", "Seal"]


def test_such_a_charger_found_charging_later_is_contradicted_and_stopped() -> None:
    yard = charging_yard()
    session = yard.session.id
    yard.loses("bay")
    yard.taps()
    yard.tick_after(minutes=5)

    found = yard.finds("bay", charging=True, session=session, meter_wh=9_000)

    assert of(StopCharging, found) == [StopCharging(charger="bay", session=session)]
    (contradicted,) = yard.told(facts.SessionContradicted)
    assert (contradicted.session, contradicted.meter_wh) == (session, 9_000)
    assert len(yard.told(facts.SessionEnded)) == 1


def test_a_driver_who_taps_twice_before_it_starts_changes_his_mind_truthfully() -> None:
    """The stop races with the start: what flowed between the two is still counted."""
    yard = a_yard()
    yard.taps()
    session = yard.session.id
    yard.taps()

    began = yard.started(session, 1_000)
    yard.metered(1_020, session)
    yard.stopped(1_030, session)

    assert of(StopCharging, began) == [StopCharging(charger="bay", session=session)]
    assert yard.told(facts.SessionContradicted) == []
    end = the_end(yard)
    assert (end.started, end.energy_wh, end.complete, end.reason) == (True, 30, True, EndReason.LOCAL)


def test_a_start_seen_only_by_its_meter_while_stopping_is_counted_from_there() -> None:
    yard = a_yard()
    yard.taps()
    yard.taps()

    yard.metered(1_000, yard.session)
    yard.stopped(1_030, yard.session)

    assert (the_end(yard).started, the_end(yard).energy_wh) == (True, 30)


def test_a_charger_found_charging_what_is_being_stopped_is_counted_and_stopped() -> None:
    yard = a_yard()
    yard.taps()
    yard.taps()

    found = yard.finds("bay", charging=True, session=yard.session, meter_wh=1_000)
    yard.stopped(1_500, yard.session)

    assert of(StopCharging, found) != []
    assert the_end(yard).energy_wh == 500


def test_a_stop_before_any_start_that_nobody_answers_ends_with_nothing() -> None:
    yard = a_yard()
    yard.taps()
    yard.taps()

    yard.tick_after(seconds=30)

    assert (the_end(yard).started, the_end(yard).complete, the_end(yard).reason) == (False, True, EndReason.LOCAL)


def test_a_stop_confirmed_before_any_start_ends_with_nothing() -> None:
    yard = a_yard()
    yard.taps()
    yard.taps()

    yard.stopped(1_000, yard.session)

    assert (the_end(yard).started, the_end(yard).energy_wh) == (False, 0)


# Cables, timeouts and stubborn chargers


def test_nobody_plugs_in_within_two_minutes_and_the_grant_is_withdrawn() -> None:
    yard = a_yard()
    (wake,) = of(WakeAt, yard.taps())

    assert yard.tick_after(seconds=100) == ()
    yard.now = replace(yard.now, monotonic_ms=wake.monotonic_ms)
    effects = yard.tell(seen.Tick())

    assert kinds(effects) == ["Record", "Seal", "StopCharging"]
    assert (the_end(yard).started, the_end(yard).reason) == (False, EndReason.TIMEOUT)


def test_a_grant_is_not_prolonged_by_a_charger_that_comes_and_goes() -> None:
    """Else a stranger could plug in an hour later."""
    yard = a_yard()
    yard.taps()

    for _ in range(10):
        yard.passes(seconds=10)
        yard.loses("bay")
        assert kinds(yard.finds("bay")) == ["Record", "StartCharging"]

    yard.tick_after(seconds=20)
    assert the_end(yard).reason is EndReason.TIMEOUT
    assert yard.plugs_in() == ()


def test_a_cable_pulled_before_the_start_withdraws_and_a_late_start_is_stopped() -> None:
    yard = a_yard()
    yard.taps()
    session = yard.session.id

    yard.unplugs()
    late = yard.started(session, 1_000)
    stopped = yard.stopped(1_001, session)

    assert (the_end(yard).reason, the_end(yard).started) == (EndReason.EV_DISCONNECTED, False)
    assert of(StopCharging, late) == [StopCharging(charger="bay", session=session)]
    assert [fact.event for fact in yard.told(facts.SessionContradicted)] == ["started"]
    assert stopped == ()


def test_a_cable_pulled_in_mid_session_ends_it_with_the_last_value() -> None:
    yard = charging_yard()
    yard.metered(4_000, yard.session)

    yard.unplugs()

    end = the_end(yard)
    assert (end.energy_wh, end.complete, end.reason) == (3_000, False, EndReason.EV_DISCONNECTED)


def test_stop_and_unplug_in_their_usual_order_end_once() -> None:
    yard = charging_yard()

    yard.stopped(4_000, yard.session, reason="EVDisconnected")
    yard.unplugs()

    assert (the_end(yard).reason, the_end(yard).complete) == (EndReason.EV_DISCONNECTED, True)


def test_duplicates_change_nothing() -> None:
    yard = charging_yard()

    assert yard.started(yard.session, 1_000) == ()
    session = yard.session.id
    yard.stopped(2_000, session)
    assert yard.stopped(2_000, session) == ()
    assert yard.unplugs() == ()
    assert the_end(yard).energy_wh == 1_000


def test_a_late_sample_after_the_end_is_kept_as_told_once() -> None:
    yard = charging_yard()
    session = yard.session.id
    yard.stopped(2_000, session)

    for _ in range(10):
        yard.metered(2_500, session)

    (late,) = yard.told(facts.SessionContradicted)
    assert (late.session, late.phase, late.meter_wh) == (session, "ended", 2_500)
    assert the_end(yard).energy_wh == 1_000


def test_a_meter_that_runs_backwards_is_told_and_not_believed() -> None:
    yard = charging_yard()
    yard.metered(5_000, yard.session)

    yard.metered(4_999, yard.session)
    yard.stopped(10, yard.session)

    assert [fact.meter_wh for fact in yard.told(facts.SessionContradicted)] == [4_999, 10]
    assert (the_end(yard).energy_wh, the_end(yard).complete) == (4_000, False)


def test_a_start_without_a_reading_waits_for_the_first_one() -> None:
    """A register that is not known is not zero: the whole life of the meter would be billed."""
    yard = a_yard()
    yard.taps()

    yard.finds("bay", charging=True, session=yard.session, meter_wh=None)
    yard.metered(1_234_567, yard.session)
    yard.stopped(1_234_600, yard.session)

    assert the_end(yard).energy_wh == 33


def test_an_idle_meter_without_a_session_starts_nothing_and_accuses_nobody() -> None:
    yard = a_yard()

    idle = yard.metered(1_000, None, power_w=0)
    yard.taps()
    still = yard.metered(1_000, None, power_w=0)

    assert idle == still == ()
    assert yard.session.phase is Phase.AUTHORISED


def test_a_charger_without_session_ids_is_served_all_the_same() -> None:
    yard = a_yard()
    yard.taps()

    yard.started(None, 1_000)
    yard.metered(3_000, None)
    yard.stopped(4_000, None)

    assert the_end(yard).energy_wh == 3_000


def test_an_unknown_session_at_the_charger_is_contradicted_and_stopped_once() -> None:
    yard = a_yard()

    effects = yard.started("stolen", 500)
    repeated = [effect for n in range(50) for effect in yard.metered(500 + n, "stolen")]

    assert kinds(effects) == ["Record", "StopCharging"]
    assert kinds(repeated) == ["Record", "StopCharging"]  # the start was heard and then the meter: once each
    assert {fact.session for fact in yard.told(facts.SessionContradicted)} == {None}


def test_an_unknown_session_found_again_is_stopped_again_without_filling_the_journal() -> None:
    yard = a_yard()
    yard.finds("bay", charging=True, session="stolen", meter_wh=1)

    again = yard.finds("bay", charging=True, session="stolen", meter_wh=2)

    assert kinds(again) == ["StopCharging"]


def test_a_charger_that_contradicts_itself_in_turn_cannot_fill_the_journal() -> None:
    yard = charging_yard()

    for _ in range(100):
        yard.metered(10, yard.session)
        yard.metered(20, "somebody")
        yard.tell(seen.Faulted(charger="bay", code="E7"))

    assert len(yard.told(facts.SessionContradicted)) == 2
    assert len(yard.told(facts.ChargerFaulted)) == 1
    for number in range(REMEMBERED_CONTRADICTIONS + 9):
        yard.metered(20, f"session {number}")
    assert len(yard.agent.state.contradictions["bay"]) == REMEMBERED_CONTRADICTIONS


def test_a_fault_that_comes_back_after_a_good_time_is_told_again() -> None:
    yard = a_yard()
    yard.tell(seen.Faulted(charger="bay", code="E7"))
    yard.tell(seen.Faulted(charger="bay", code="E8"))
    yard.finds("bay")

    yard.tell(seen.Faulted(charger="bay", code="E7"))

    assert [fact.code for fact in yard.told(facts.ChargerFaulted)] == ["E7", "E8", "E7"]


def test_a_fault_that_comes_back_after_the_next_start_is_told_again() -> None:
    yard = a_yard()
    yard.tell(seen.Faulted(charger="bay", code="E7"))
    yard.taps()
    yard.started(yard.session, 1_000)

    yard.tell(seen.Faulted(charger="bay", code="E7"))

    assert len(yard.told(facts.ChargerFaulted)) == 2


def test_a_charger_cannot_speak_of_a_session_at_another_charger() -> None:
    yard = charging_yard()
    session = yard.session.id

    yard.metered(99_000, session, charger="yard")
    yard.stopped(99_000, session, charger="yard")
    found = yard.finds("yard", charging=True, session=session, meter_wh=99_000)

    assert yard.session.phase is Phase.CHARGING
    assert yard.session.energy_wh == 0
    assert of(StopCharging, found) == [StopCharging(charger="yard", session=session)]
    assert {fact.charger for fact in yard.told(facts.SessionContradicted)} == {"yard"}


def test_a_foreign_session_heard_beside_our_own_asks_the_charger_what_it_does() -> None:
    yard = charging_yard()

    effects = yard.metered(2_000, "foreign")

    assert of(QueryCharger, effects) == [QueryCharger(charger="bay")]
    assert of(StopCharging, effects) == [StopCharging(charger="bay", session="foreign")]


def test_a_charger_found_with_another_session_ends_ours_and_stops_that_one() -> None:
    yard = charging_yard()
    session = yard.session.id
    yard.loses("bay")

    found = yard.finds("bay", charging=True, session="foreign", meter_wh=2_000)

    assert the_end(yard).session == session
    assert not the_end(yard).complete
    assert of(StopCharging, found) == [StopCharging(charger="bay", session="foreign")]


def test_a_charger_lost_and_found_in_mid_session_goes_on_metering() -> None:
    yard = charging_yard()

    lost = yard.loses("bay")
    assert yard.loses("bay") == ()
    yard.passes(minutes=20)
    found = yard.finds("bay", charging=True, session=yard.session, meter_wh=5_000)

    assert kinds(lost) == ["Record"]
    assert [type(fact) for fact in recorded(found)] == [facts.ChargerFound, facts.SessionMetered]
    assert (yard.session.phase, yard.session.energy_wh) == (Phase.CHARGING, 4_000)


def test_a_charger_found_idle_ends_the_session_with_what_its_register_says() -> None:
    yard = charging_yard()
    yard.loses("bay")

    yard.finds("bay", charging=False, meter_wh=7_000)

    end = the_end(yard)
    assert (end.energy_wh, end.complete, end.reason) == (6_000, False, EndReason.POWER_LOSS)


def test_a_charger_found_idle_that_lost_its_register_ends_with_the_last_value() -> None:
    yard = charging_yard()
    yard.metered(3_000, yard.session)

    yard.finds("bay", charging=False, meter_wh=0)

    assert (the_end(yard).energy_wh, the_end(yard).meter_stop_wh) == (2_000, 3_000)


def test_late_events_of_many_sessions_ago_are_still_known_as_late() -> None:
    yard = a_yard()
    names = []
    for _ in range(REMEMBERED_ENDED_SESSIONS + 3):
        yard.taps()
        names.append(yard.session.id)
        yard.started(yard.session, 0)
        yard.stopped(1, yard.session)

    yard.metered(5, names[-1])
    yard.metered(5, names[0])

    assert [fact.session for fact in yard.told(facts.SessionContradicted)] == [names[-1], None]
    assert len(yard.agent.state.sessions) == REMEMBERED_ENDED_SESSIONS


# Power cuts and restarts


def test_a_session_that_charges_on_through_a_restart_is_interrupted_and_resumed() -> None:
    yard = charging_yard()
    yard.metered(2_000, yard.session)
    left = yard.dies()
    yard.passes(seconds=10)

    woken = yard.wakes(left)
    yard.finds("bay", charging=True, session=left[0], meter_wh=3_000)
    yard.stopped(4_000, left[0])

    assert kinds(woken) == ["Record", "QueryCharger", "WakeAt"]
    assert [type(fact) for fact in recorded(woken)] == [facts.AgentStarted, facts.SessionInterrupted]
    assert [fact.meter_wh for fact in yard.told(facts.SessionResumed)] == [3_000]
    end = the_end(yard)
    assert (end.energy_wh, end.complete, end.interrupted, end.duration_source) == (3_000, True, True, "monotonic")


def test_after_a_reboot_old_monotonic_times_mean_nothing() -> None:
    yard = charging_yard()
    yard.now = replace(yard.now, monotonic_ms=900_000_000)
    left = yard.reboots(minutes=3)

    woken = yard.wakes(left)
    assert of(WakeAt, woken) == [WakeAt(monotonic_ms=5_000 + 300_000)]
    assert yard.tick_after(minutes=4) == ()
    yard.finds("bay", charging=True, session=left[0], meter_wh=2_000)
    yard.metered(2_500, left[0])
    yard.passes(minutes=1)
    yard.metered(3_000, left[0])
    yard.taps()
    again = yard.tick_after(seconds=30)
    yard.stopped(3_500, left[0])

    assert of(StopCharging, again) != []
    assert [fact.meter_wh for fact in yard.told(facts.SessionMetered)] == [3_000]
    end = the_end(yard)
    assert (end.energy_wh, end.duration_source) == (2_500, "wall")
    assert 8 * 60 <= end.duration_s <= 9 * 60


def test_a_session_whose_charger_never_answers_after_a_restart_ends_marked_incomplete() -> None:
    yard = charging_yard()
    yard.metered(2_000, yard.session)

    (wake,) = of(WakeAt, yard.wakes(yard.reboots(hours=2)))
    yard.now = replace(yard.now, monotonic_ms=wake.monotonic_ms)
    yard.tell(seen.Tick())

    end = the_end(yard)
    assert (end.energy_wh, end.complete, end.interrupted, end.reason) == (1_000, False, True, EndReason.POWER_LOSS)


def test_a_session_found_over_after_a_restart_ends_with_the_register() -> None:
    yard = charging_yard()

    yard.wakes(yard.dies())
    yard.finds("bay", charging=False, meter_wh=6_000)

    assert (the_end(yard).energy_wh, the_end(yard).complete, the_end(yard).interrupted) == (5_000, False, True)


def test_killed_between_the_green_light_and_the_start_it_is_started_again() -> None:
    yard = a_yard()
    yard.taps()
    left = yard.dies()
    yard.wakes(left)

    found = yard.finds("bay")
    yard.started(left[0], 1_000)
    yard.stopped(2_000, left[0])

    assert of(StartCharging, found) == [StartCharging(charger="bay", session=left[0].id, max_energy_wh=None)]
    assert (the_end(yard).energy_wh, the_end(yard).interrupted, the_end(yard).complete) == (1_000, True, True)


def test_started_again_the_grant_is_not_longer_than_it_was() -> None:
    yard = a_yard()
    yard.taps()
    yard.passes(seconds=100)
    yard.wakes(yard.dies())
    yard.finds("bay")

    yard.tick_after(seconds=20)

    assert the_end(yard).reason is EndReason.TIMEOUT


@pytest.mark.parametrize("minutes", [3, 600])
def test_killed_before_the_start_and_back_too_late_it_is_not_started(minutes: int) -> None:
    yard = a_yard()
    yard.taps()
    left = yard.dies()
    yard.passes(minutes=minutes)
    yard.wakes(left)

    found = yard.finds("bay")

    assert of(StartCharging, found) == []
    assert not the_end(yard).started


def test_after_a_reboot_a_grant_without_a_start_is_not_started_by_an_accident_of_the_monotonic_clock() -> None:
    yard = a_yard()
    yard.now = replace(yard.now, monotonic_ms=5_000)
    yard.taps()
    yard.wakes(yard.reboots(hours=8))

    assert of(StartCharging, yard.finds("bay")) == []


def test_a_stop_asked_for_before_the_cut_is_asked_for_again_after_it() -> None:
    yard = charging_yard()
    yard.taps()
    left = yard.dies()
    yard.wakes(left)

    found = yard.finds("bay", charging=True, session=left[0], meter_wh=1_500)
    yard.stopped(1_600, left[0])

    assert of(StopCharging, found) == [StopCharging(charger="bay", session=left[0].id)]
    assert (the_end(yard).reason, the_end(yard).energy_wh) == (EndReason.LOCAL, 600)


def test_a_stop_asked_for_before_the_start_and_the_cut_still_counts_what_flowed() -> None:
    yard = a_yard()
    yard.taps()
    yard.taps()
    left = yard.dies()
    yard.wakes(left)

    found = yard.finds("bay", charging=True, session=left[0], meter_wh=1_500)
    yard.stopped(1_600, left[0])

    assert of(StopCharging, found) != []
    assert (the_end(yard).started, the_end(yard).energy_wh) == (True, 100)


def test_a_resumed_session_beyond_its_cap_is_stopped_at_once() -> None:
    yard = charging_yard(a_policy(max_energy_wh=5_000))
    left = yard.dies()
    yard.wakes(left)

    found = yard.finds("bay", charging=True, session=left[0], meter_wh=9_000)

    assert of(StopCharging, found) == [StopCharging(charger="bay", session=left[0].id)]
    assert yard.session.stop_reason is EndReason.ENERGY_LIMIT


def test_a_resumed_meter_that_went_back_is_told_and_not_believed() -> None:
    yard = charging_yard()
    yard.metered(5_000, yard.session)
    left = yard.dies()
    yard.wakes(left)

    yard.finds("bay", charging=True, session=left[0], meter_wh=4_000)

    assert yard.session.energy_wh == 4_000
    assert [fact.meter_wh for fact in yard.told(facts.SessionContradicted)] == [4_000]
    assert yard.told(facts.SessionResumed)[0].meter_wh is None


def test_a_start_repeated_to_an_interrupted_session_is_no_meter_going_back() -> None:
    yard = charging_yard()
    yard.metered(5_000, yard.session)
    left = yard.dies()
    yard.wakes(left)

    yard.started(left[0], 1_000)

    assert yard.told(facts.SessionContradicted) == []
    assert (yard.session.phase, yard.session.energy_wh) == (Phase.CHARGING, 4_000)


def test_an_interrupted_session_is_stopped_by_its_card_before_anybody_knows_more() -> None:
    yard = charging_yard()
    yard.wakes(yard.dies())

    stop = yard.taps()
    yard.finds("bay", charging=False, meter_wh=2_000)

    assert of(StopCharging, stop) != []
    assert (the_end(yard).reason, the_end(yard).energy_wh) == (EndReason.LOCAL, 1_000)


def test_a_restart_interrupts_only_what_was_open_and_only_once() -> None:
    yard = charging_yard()
    first = yard.wakes(yard.dies())
    second = yard.wakes(yard.dies())
    over = replace(yard.session, phase=Phase.ENDED)

    third = a_yard().wakes([over])

    assert [len(of(QueryCharger, each)) for each in (first, second, third)] == [1, 1, 0]
    assert [len(recorded(each)) for each in (first, second, third)] == [2, 1, 1]
    assert recorded(third)[0].open_sessions == 0  # type: ignore[attr-defined]


def test_leaving_in_good_order_keeps_the_session_open_and_seals() -> None:
    yard = charging_yard()

    effects = yard.tell(seen.Leaving())

    assert kinds(effects) == ["Record", "Seal"]
    assert yard.told(facts.AgentStopped)[0].open_sessions == 1
    assert yard.session.is_open


# The service's surroundings


def test_full_storage_refuses_new_sessions_and_ends_running_ones() -> None:
    yard = charging_yard()
    yard.tell(seen.StorageChanged(full=True))

    yard.taps(OTHER, reader="gate")
    yard.stopped(2_000, yard.session)

    assert [reason.code for reason in yard.told(facts.DecisionMade)[-1].reasons] == ["STORAGE_FULL"]
    assert the_end(yard).energy_wh == 1_000
    yard.tell(seen.StorageChanged(full=False))
    assert shown(yard.taps(OTHER, reader="gate")) == ["granted"]


def test_room_again_wakes_what_could_not_be_recorded_in_time() -> None:
    """A time-out whose record found no room was undone; nobody else would come back to it."""
    yard = a_yard()
    yard.taps()
    yard.passes(minutes=5)

    effects = yard.tell(seen.StorageChanged(full=False))

    assert of(WakeAt, effects) == [WakeAt(monotonic_ms=1_000_000 + 120_000)]
    assert yard.tell(seen.StorageChanged(full=True)) == ()


def test_a_clock_that_is_stepped_in_mid_session_bends_no_duration_and_loses_nothing() -> None:
    yard = charging_yard()
    yard.passes(minutes=10)
    yard.now = replace(yard.now, utc=NOON - timedelta(days=20_000), quality=ClockQuality.UNKNOWN)

    stepped = yard.tell(seen.ClockStepped(step_ms=-1_000, quality=ClockQuality.UNKNOWN))
    yard.stopped(2_000, yard.session)

    assert kinds(stepped) == ["Record"]
    assert the_end(yard).duration_s == 600


def test_a_new_policy_binds_the_next_tap_and_is_recorded_when_announced() -> None:
    yard = a_yard()
    closed = a_policy(a_group(networks=set()), revision=8, fingerprint="beef")

    silent = yard.tell(seen.PolicyActivated(policy=a_policy(), tokens=3, announce=False))
    loud = yard.tell(seen.PolicyActivated(policy=closed, tokens=5, announce=True))
    refused = yard.taps()

    assert silent == ()
    assert recorded(loud) == [facts.PolicyActivated(revision=8, fingerprint="beef", previous_revision=7, tokens=5)]
    assert shown(refused) == ["refused"]


def test_the_agent_without_a_policy_refuses_and_records_it() -> None:
    yard = a_yard()
    yard.agent.state = replace(yard.agent.state, policy=None)

    yard.taps()

    made = yard.told(facts.DecisionMade)[-1]
    assert [reason.code for reason in made.reasons] == ["NO_POLICY"]
    assert made.policy is None


def test_what_the_shell_notes_is_recorded_as_it_is() -> None:
    note = facts.PolicyRejected(error="rollback", detail="older", kept_revision=7)

    assert recorded(a_yard().tell(seen.Noted(fact=note))) == [note]


# The local API


def test_a_decision_can_be_asked_for_without_starting_anything() -> None:
    yard = a_yard(a_policy(networks={"DE*ABC"}))

    effects = yard.tell(
        seen.DecisionRequested(request="r1", presented=presented(), charger=None, place=a_place(network="DE*ABC"))
    )

    assert kinds(effects) == ["Record", "Reply"]
    (reply,) = of(Reply, effects)
    (made,) = yard.told(facts.DecisionMade)
    assert (reply.request, reply.decision_id, reply.session) == ("r1", made.decision, None)
    assert isinstance(reply.decision, Granted)
    assert made.trigger is Trigger.REQUEST
    assert yard.agent.state.open_sessions == ()


def test_where_a_configured_charger_stands_is_not_for_the_asker_to_say() -> None:
    yard = a_yard(a_policy(countries={"FR"}), chargers={"bay": a_place(country="DE")})

    effects = yard.tell(
        seen.DecisionRequested(request="r", presented=presented(), charger="bay", place=Place(country="FR"))
    )

    assert isinstance(of(Reply, effects)[0].decision, Refused)


def test_an_injected_tap_is_answered_with_its_session() -> None:
    yard = a_yard()

    granted = yard.tell(seen.Tapped(reader="door", presented=presented(), request="r1"))
    stopped = yard.tell(seen.Tapped(reader="door", presented=presented(), request="r2"))
    refused = yard.tell(seen.Tapped(reader="gate", presented=presented(), request="r3"))

    assert kinds(granted) == ["Record", "Signal", "Reply", "StartCharging", "WakeAt"]
    assert of(Reply, granted)[0].session == of(Reply, stopped)[0].session == yard.session.id
    assert kinds(stopped) == ["Record", "Signal", "Reply", "StopCharging", "WakeAt"]
    assert kinds(refused) == ["Record", "Signal", "Reply"]
    assert of(Reply, refused)[0].session is None


def test_every_id_of_one_instant_is_another() -> None:
    yard = a_yard()

    (made, authorised) = recorded(yard.taps())

    assert made.decision != authorised.session  # type: ignore[attr-defined]
    assert a_setup().timing.start_timeout_ms == 120_000
    assert a_token().reference != a_token(OTHER).reference


def test_a_sealed_session_is_followed_by_its_seal() -> None:
    yard = charging_yard()

    effects = yard.stopped(2_000, yard.session)

    assert isinstance(effects[-1], Seal)
