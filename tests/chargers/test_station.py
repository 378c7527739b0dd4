"""The simulated station's arithmetic: energy, limits, and what it answers to commands."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from drivers.chargers.charger import ChargerState
from drivers.chargers.line_codec import (
    Fault,
    Meter,
    Plugged,
    Query,
    Refused,
    Start,
    Started,
    Status,
    Stop,
    Stopped,
    Unplugged,
)
from drivers.chargers.station import Station

HOUR_MS = 3_600_000


def a_start(session: str = "s1", max_energy_wh: int | None = None) -> Start:
    return Start(session=session, max_energy_wh=max_energy_wh)


def a_plugged_station(*, demand_wh: int | None = None, meter_wh: int = 1000, power_w: int = 10_000) -> Station:
    station = Station(power_w=power_w, meter_wh=meter_wh)
    station.plug_in(demand_wh)
    return station


def test_a_session_from_plug_to_unplug():
    station = Station(power_w=10_000, meter_wh=1000)
    assert station.plug_in() == (Plugged(),)
    assert station.obey(a_start()) == (Started(session="s1", meter_wh=1000),)
    assert station.advance(HOUR_MS) == ()
    assert station.reading() == (Meter(session="s1", meter_wh=11_000, power_w=10_000),)
    assert station.unplug() == (Stopped(session="s1", meter_wh=11_000, reason="EVDisconnected"), Unplugged())


def test_a_full_car_stops_by_itself_and_takes_no_more_than_it_wants():
    station = a_plugged_station(demand_wh=500)
    station.obey(a_start(max_energy_wh=501))
    assert station.advance(HOUR_MS) == (Stopped(session="s1", meter_wh=1500, reason="StoppedByEV"),)
    assert station.state is ChargerState.PLUGGED


def test_the_energy_limit_is_met_exactly():
    station = a_plugged_station(demand_wh=501)
    station.obey(a_start(max_energy_wh=500))
    assert station.advance(HOUR_MS) == (Stopped(session="s1", meter_wh=1500, reason="EnergyLimitReached"),)


@given(steps=st.lists(st.integers(1, 100_000), min_size=1), limit_wh=st.integers(0, 300), before=st.integers(0, 5000))
def test_no_steps_of_time_let_a_session_exceed_its_limit(steps, limit_wh, before):
    station = a_plugged_station()
    station.obey(a_start("earlier"))
    station.advance(before)
    station.obey(Stop(session="earlier"))
    (started,) = station.obey(a_start(max_energy_wh=limit_wh))
    assert isinstance(started, Started)
    for step in steps:
        register_before = station.meter_wh
        station.advance(step)
        assert register_before <= station.meter_wh <= started.meter_wh + limit_wh


def test_starting_the_running_session_again_answers_the_same_reading():
    station = a_plugged_station()
    station.obey(a_start())
    station.advance(HOUR_MS)
    assert station.obey(a_start()) == (Started(session="s1", meter_wh=1000),)
    assert station.session == "s1"


def test_stopping_a_session_that_does_not_run_answers_and_stops_nothing():
    station = a_plugged_station()
    station.obey(a_start("s2"))
    assert station.obey(Stop(session="s1")) == (Stopped(session="s1", meter_wh=1000, reason="Local"),)
    assert station.session == "s2"


@pytest.mark.parametrize(
    ("happened", "reason"),
    [
        (lambda station: station.unplug(), "unplugged"),
        (lambda station: station.obey(a_start("s2")), "occupied"),
        (lambda station: station.fail("overheated"), "faulted"),
    ],
)
def test_an_impossible_start_is_refused_with_its_reason(happened, reason):
    station = a_plugged_station()
    happened(station)
    assert station.obey(a_start()) == (Refused(session="s1", reason=reason),)


def test_a_fault_ends_the_session_and_is_shown_until_repaired():
    station = a_plugged_station()
    station.obey(a_start())
    assert station.fail("overheated") == (
        Stopped(session="s1", meter_wh=1000, reason="Other"),
        Fault(code="overheated"),
    )
    assert station.obey(Query()) == (Status(state=ChargerState.FAULTED, session=None, meter_wh=1000),)
    assert station.repair() == (Status(state=ChargerState.PLUGGED, session=None, meter_wh=1000),)


def test_power_loss_forgets_the_session_and_keeps_the_register():
    station = a_plugged_station()
    station.obey(a_start())
    station.advance(HOUR_MS)
    station.lose_power()
    assert station.status() == Status(state=ChargerState.PLUGGED, session=None, meter_wh=11_000)
    assert station.advance(HOUR_MS) == ()
