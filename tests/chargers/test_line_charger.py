"""LineCharger against the simulated charger on a real pseudo-terminal."""

from __future__ import annotations

import asyncio
import os
import pty
import time
import tty
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from pathlib import Path
from typing import TypeVar

import pytest

from drivers.chargers.charger import (
    ChargerEvent,
    ChargerFound,
    ChargerLost,
    ChargerUnavailable,
    ChargingStarted,
    ChargingStopped,
    Faulted,
    Metered,
    PluggedIn,
    Unplugged,
)
from drivers.chargers.line import LineCharger, Patience
from drivers.chargers.simulated import ChargerSimulator

Kind = TypeVar("Kind", bound=ChargerEvent)


class Heard:
    """What a charger emitted, in order; `the(Kind)` waits for the next one of a kind."""

    def __init__(self) -> None:
        self.events: list[ChargerEvent] = []
        self._next = 0
        self._more = asyncio.Event()

    def emit(self, event: ChargerEvent) -> None:
        self.events.append(event)
        self._more.set()

    async def the(self, kind: type[Kind], *, within_s: float = 5.0) -> Kind:
        async with asyncio.timeout(within_s):
            while True:
                while self._next < len(self.events):
                    event = self.events[self._next]
                    self._next += 1
                    if isinstance(event, kind):
                        return event
                self._more.clear()
                await self._more.wait()

    def count(self, kind: type[ChargerEvent]) -> int:
        return sum(isinstance(event, kind) for event in self.events)


@asynccontextmanager
async def running(*things: Callable[[], object]) -> AsyncIterator[None]:
    tasks = [asyncio.ensure_future(thing()) for thing in things]  # type: ignore[arg-type]
    try:
        yield
    finally:
        for task in tasks:
            task.cancel()
        outcomes = await asyncio.gather(*tasks, return_exceptions=True)
        assert all(isinstance(outcome, asyncio.CancelledError) for outcome in outcomes), outcomes


@asynccontextmanager
async def a_link(
    tmp_path: Path, *, patience: Patience | None = None
) -> AsyncIterator[tuple[ChargerSimulator, LineCharger, Heard]]:
    heard = Heard()
    with ChargerSimulator(tmp_path / "ttyCharger", meter_wh=1000, meter_every_ms=50, speed=1000) as simulator:
        charger = LineCharger("bay1", port=str(tmp_path / "ttyCharger"), patience=patience)
        async with running(simulator.run, lambda: charger.run(heard.emit)):
            await heard.the(ChargerFound)
            yield simulator, charger, heard


def test_a_charge_from_plug_to_full_car_is_reported_in_order(tmp_path):
    async def scenario():
        async with a_link(tmp_path) as (simulator, charger, heard):
            simulator.plug_in(demand_wh=1000)
            await heard.the(PluggedIn)
            await charger.start("s1", 5000)
            started = await heard.the(ChargingStarted)
            metered = await heard.the(Metered)
            stopped = await heard.the(ChargingStopped)
            simulator.unplug()
            await heard.the(Unplugged)
        assert (started.charger, started.session, started.meter_wh) == ("bay1", "s1", 1000)
        assert (metered.session, metered.power_w) == ("s1", 11_000)
        assert 1000 < metered.meter_wh <= 2000
        assert (stopped.session, stopped.meter_wh, stopped.reason) == ("s1", 2000, "StoppedByEV")
        assert heard.count(ChargerFound) == 1

    asyncio.run(scenario())


def test_a_stop_is_confirmed_before_the_command_returns(tmp_path):
    async def scenario():
        async with a_link(tmp_path) as (simulator, charger, heard):
            simulator.plug_in()
            await charger.start("s1", None)
            await charger.stop("s1")
            assert heard.events[-1] == await heard.the(ChargingStopped)
            assert simulator.station.session is None

    asyncio.run(scenario())


def test_a_refused_start_says_why(tmp_path):
    async def scenario():
        async with a_link(tmp_path) as (_, charger, heard):
            with pytest.raises(ChargerUnavailable, match=r"charger bay1: it refused: unplugged; look at"):
                await charger.start("s1", None)
            assert heard.count(ChargingStarted) == 0

    asyncio.run(scenario())


def test_a_fault_is_reported_after_the_end_of_the_session(tmp_path):
    async def scenario():
        async with a_link(tmp_path) as (simulator, charger, heard):
            simulator.plug_in()
            await charger.start("s1", None)
            simulator.fail("overheated")
            stopped = await heard.the(ChargingStopped)
            assert stopped.reason == "Other"
            assert (await heard.the(Faulted)).code == "overheated"
            simulator.repair()
            assert (await heard.the(ChargerFound)).state == "plugged"

    asyncio.run(scenario())


def test_a_query_is_answered_even_when_nothing_is_new(tmp_path):
    async def scenario():
        async with a_link(tmp_path) as (_, charger, heard):
            await charger.query()
            found = await heard.the(ChargerFound)
            assert (found.state, found.session, found.meter_wh) == ("available", None, 1000)

    asyncio.run(scenario())


def test_noise_between_the_lines_costs_nothing(tmp_path):
    async def scenario():
        async with a_link(tmp_path) as (simulator, charger, heard):
            simulator.make_noise(b"\x00\xff*STATUS charging" * 20)
            simulator.plug_in()
            await heard.the(PluggedIn)
            await charger.start("s1", None)
            assert heard.count(ChargerLost) == 0

    asyncio.run(scenario())


def test_a_cut_cable_is_lost_once_and_found_again_in_mid_session(tmp_path):
    async def scenario():
        async with a_link(tmp_path) as (simulator, charger, heard):
            simulator.plug_in()
            await charger.start("s1", None)
            simulator.cut_cable()
            lost = await heard.the(ChargerLost)
            assert "has gone" in lost.cause
            with pytest.raises(ChargerUnavailable, match="nothing is heard"):
                await charger.stop("s1")
            simulator.mend_cable()
            found = await heard.the(ChargerFound)
            assert (found.state, found.session) == ("charging", "s1")
            assert found.meter_wh is not None
            assert found.meter_wh > 1000

    asyncio.run(scenario())


def test_after_a_power_loss_the_charger_comes_back_without_the_session(tmp_path):
    async def scenario():
        async with a_link(tmp_path) as (simulator, charger, heard):
            simulator.plug_in()
            await charger.start("s1", None)
            simulator.lose_power()
            await heard.the(ChargerLost)
            simulator.restore_power()
            found = await heard.the(ChargerFound)
            assert (found.state, found.session) == ("plugged", None)

    asyncio.run(scenario())


def test_the_charger_goes_on_while_the_service_is_away_and_stale_lines_are_not_replayed(tmp_path):
    async def scenario():
        with ChargerSimulator(tmp_path / "tty", speed=1000, meter_every_ms=50) as simulator:
            charger = LineCharger("bay1", port=str(tmp_path / "tty"))
            first, second = Heard(), Heard()
            async with running(simulator.run):
                simulator.plug_in()
                async with running(lambda: charger.run(first.emit)):
                    await first.the(ChargerFound)
                    await charger.start("s1", None)
                    seen = await first.the(Metered)
                await asyncio.sleep(0.3)
                async with running(lambda: charger.run(second.emit)):
                    found = await second.the(ChargerFound)
            assert second.events[0] is found
            assert (found.state, found.session) == ("charging", "s1")
            assert found.meter_wh is not None
            assert found.meter_wh > seen.meter_wh + 500

    asyncio.run(scenario())


def test_cancelling_ends_at_once_and_frees_the_port(tmp_path):
    async def scenario():
        with ChargerSimulator(tmp_path / "tty") as simulator:
            heard = Heard()
            async with running(simulator.run):
                task = asyncio.create_task(LineCharger("a", port=str(tmp_path / "tty")).run(heard.emit))
                await heard.the(ChargerFound)
                before = time.monotonic()
                task.cancel()
                with pytest.raises(asyncio.CancelledError):
                    await task
                assert time.monotonic() - before < 0.5
                async with running(lambda: LineCharger("b", port=str(tmp_path / "tty")).run(heard.emit)):
                    await heard.the(ChargerFound)

    asyncio.run(scenario())


def test_one_port_serves_one_program(tmp_path):
    async def scenario():
        async with a_link(tmp_path):
            other = Heard()
            async with running(lambda: LineCharger("other", port=str(tmp_path / "ttyCharger")).run(other.emit)):
                lost = await other.the(ChargerLost)
            assert "in use by another program" in lost.cause

    asyncio.run(scenario())


@pytest.mark.parametrize(
    ("port", "cause"), [("nowhere", "cannot open"), ("folder", "cannot open"), ("file", "no serial port")]
)
def test_a_wrong_port_is_reported_once_with_a_hint_and_tried_on(tmp_path, port, cause):
    (tmp_path / "folder").mkdir()
    (tmp_path / "file").touch()

    async def scenario():
        heard = Heard()
        async with running(lambda: LineCharger("bay1", port=str(tmp_path / port)).run(heard.emit)):
            lost = await heard.the(ChargerLost)
            await asyncio.sleep(0.4)
        assert cause in lost.cause
        assert "port in the configuration" in lost.hint
        assert heard.count(ChargerLost) == 1

    asyncio.run(scenario())


@asynccontextmanager
async def a_port_with(behaviour: Callable[[int], object], *, every_s: float = 0.01) -> AsyncIterator[str]:
    """A pseudo-terminal whose far end does no more than `behaviour(fd)`, again and again."""
    master, slave = pty.openpty()
    tty.setraw(slave)
    os.set_blocking(master, False)

    async def go_on() -> None:
        while True:
            behaviour(master)
            await asyncio.sleep(every_s)

    try:
        async with running(go_on):
            yield os.ttyname(slave)
    finally:
        os.close(master)
        os.close(slave)


def babble(master: int) -> None:
    try:
        os.write(master, b"\x00\xffU*\n" * 400)
    except BlockingIOError:
        return


def keep_silent(_: int) -> None:
    return


@pytest.mark.parametrize(("behaviour", "cause"), [(keep_silent, "no answer"), (babble, "only noise")])
def test_a_port_without_a_charger_behind_it_is_lost_after_three_questions(behaviour, cause):
    async def scenario():
        heard = Heard()
        async with a_port_with(behaviour) as port:
            charger = LineCharger("bay1", port=port, patience=Patience(answer_s=0.05))
            async with running(lambda: charger.run(heard.emit)):
                lost = await heard.the(ChargerLost)
                await asyncio.sleep(0.5)
        assert cause in lost.cause
        assert heard.count(ChargerLost) == 1

    asyncio.run(scenario())


def test_a_mute_charger_fails_a_command_in_bounded_time(tmp_path):
    async def scenario():
        async with a_link(tmp_path, patience=Patience(acknowledge_s=0.05)) as (simulator, charger, _):
            simulator.plug_in()
            simulator.go_deaf()
            with pytest.raises(ChargerUnavailable, match="did not confirm"):
                await charger.start("s1", None)

    asyncio.run(scenario())


def test_a_lost_report_is_healed_by_the_next_question(tmp_path):
    async def scenario():
        async with a_link(tmp_path, patience=Patience(ask_every_s=0.1)) as (simulator, _, heard):
            simulator.station.plug_in()  # the car is there, and the line that says so was lost
            found = await heard.the(ChargerFound)
            assert found.state == "plugged"
            await asyncio.sleep(0.3)
            assert heard.count(ChargerFound) == 2

    asyncio.run(scenario())


def test_an_unknown_baud_rate_is_refused_with_the_known_ones():
    with pytest.raises(ValueError, match="9600, 19200"):
        LineCharger("bay1", port="/dev/ttyUSB0", baud=9601)
