"""What every Charger keeps, whoever stands behind it; and the two that need no wire."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

import pytest

from drivers.chargers import charger
from drivers.chargers.api import ApiCharger, Asked, StartAsked, StatusAsked, StopAsked
from drivers.chargers.charger import Charger, ChargerEvent, ChargerUnavailable
from drivers.chargers.line import LineCharger
from drivers.chargers.simulated import SimulatedCharger


@asynccontextmanager
async def listening_to(subject: Charger) -> AsyncIterator[list[ChargerEvent]]:
    events: list[ChargerEvent] = []
    task = asyncio.create_task(subject.run(events.append))
    await asyncio.sleep(0)
    try:
        yield events
    finally:
        task.cancel()
        with pytest.raises(asyncio.CancelledError):
            await asyncio.wait_for(task, 1.0)


def kinds(events: list[ChargerEvent]) -> list[str]:
    return [type(event).__name__ for event in events]


@pytest.mark.parametrize(
    "make",
    [
        lambda tmp_path: LineCharger("bay1", port=str(tmp_path / "nowhere")),
        lambda tmp_path: SimulatedCharger("bay1"),
        lambda tmp_path: ApiCharger("bay1", commands=lambda asked: False),
    ],
    ids=["line", "simulated", "api"],
)
def test_a_charger_that_nobody_runs_or_hears_is_unavailable_and_says_what_to_do(make, tmp_path):
    async def scenario():
        subject: Charger = make(tmp_path)
        for command in (subject.start("s1", None), subject.stop("s1"), subject.query()):
            with pytest.raises(ChargerUnavailable, match=r"charger bay1: .+; .+") as caught:
                await command
            assert caught.value.hint

    asyncio.run(scenario())


def test_the_simulated_charger_tells_a_whole_charge_in_order():
    async def scenario():
        subject = SimulatedCharger("bay1", power_w=6000, meter_wh=500)
        async with listening_to(subject) as events:
            subject.car_arrives(demand_wh=1500)
            await subject.start("s1", None)
            subject.time_passes(minutes=10)
            subject.time_passes(minutes=10)
            subject.car_leaves()
        assert kinds(events) == [
            "ChargerFound",
            "PluggedIn",
            "ChargingStarted",
            "Metered",
            "ChargingStopped",
            "Unplugged",
        ]
        metered, stopped = events[3], events[4]
        assert isinstance(metered, charger.Metered)
        assert metered.meter_wh == 1500
        assert isinstance(stopped, charger.ChargingStopped)
        assert (stopped.meter_wh, stopped.reason) == (2000, "StoppedByEV")

    asyncio.run(scenario())


def test_a_mute_simulated_charger_goes_on_charging_unheard():
    async def scenario():
        subject = SimulatedCharger("bay1", power_w=6000)
        async with listening_to(subject) as events:
            subject.car_arrives()
            await subject.start("s1", None)
            subject.go_mute()
            subject.time_passes(minutes=10)
            with pytest.raises(ChargerUnavailable):
                await subject.stop("s1")
            subject.speak_again()
        assert kinds(events)[-2:] == ["ChargerLost", "ChargerFound"]
        found = events[-1]
        assert isinstance(found, charger.ChargerFound)
        assert (found.state, found.session, found.meter_wh) == ("charging", "s1", 1000)

    asyncio.run(scenario())


def test_a_simulated_charger_refuses_to_start_without_a_car():
    async def scenario():
        subject = SimulatedCharger("bay1")
        async with listening_to(subject):
            with pytest.raises(ChargerUnavailable, match="refused: unplugged"):
                await subject.start("s1", None)

    asyncio.run(scenario())


def a_plug() -> charger.PluggedIn:
    return charger.PluggedIn(charger="bay1", monotonic_ms=1)


def test_the_api_charger_hands_commands_over_and_reports_on():
    async def scenario():
        asked: list[Asked] = []

        def take(command: Asked) -> bool:
            asked.append(command)
            return True

        subject = ApiCharger("bay1", commands=take)
        async with listening_to(subject) as events:
            await subject.start("s1", 5000)
            await subject.stop("s1")
            subject.report(a_plug())
        assert asked == [
            StatusAsked(charger="bay1"),
            StartAsked(charger="bay1", session="s1", max_energy_wh=5000),
            StopAsked(charger="bay1", session="s1"),
        ]
        assert events == [a_plug()]

    asyncio.run(scenario())


def test_a_report_before_the_service_listens_is_not_swallowed():
    with pytest.raises(ChargerUnavailable, match="report it again"):
        ApiCharger("bay1", commands=lambda asked: True).report(a_plug())


def test_a_report_for_another_charger_is_refused():
    with pytest.raises(ValueError, match="charger bay1 was reported to charger bay2"):
        ApiCharger("bay2", commands=lambda asked: True).report(a_plug())
