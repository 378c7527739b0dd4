"""Whatever happens to devices, clocks, messages and the backend's storage: what is spent never passes the limit.

Short here; long with ROAMKEY_LEASE_LIVES=2000 (make leases).
"""

from __future__ import annotations

import os
import tempfile
from collections.abc import Callable
from datetime import timedelta
from pathlib import Path

import hypothesis.strategies as st
import pytest
from hypothesis import HealthCheck, settings
from hypothesis.stateful import RuleBasedStateMachine, invariant, precondition, rule

from agent.core.instants import ClockQuality
from tests.budgets.lending_office import IN_MEMORY
from tests.budgets.lending_world import LIMITS, SLACK_WH, Device, World

LIVES = int(os.environ.get("ROAMKEY_LEASE_LIVES", "8"))
STEPS = int(os.environ.get("ROAMKEY_LEASE_STEPS", "40"))
NAMES = ("gw-1", "gw-2", "gw-3")
DEATHS = st.sampled_from(("", "", "", "before", "behind"))
JUMPS = st.sampled_from([timedelta(days=sign * days) for sign in (-1, 1) for days in (1, 3, 30, 366)])
PASSING = st.sampled_from([timedelta(minutes=1), timedelta(minutes=20), timedelta(hours=7), timedelta(days=2)])


class Lending(RuleBasedStateMachine):
    copies = 0

    def __init__(self) -> None:
        super().__init__()
        self.folder = tempfile.TemporaryDirectory(dir=IN_MEMORY)
        self.world = World(folder=Path(self.folder.name), copies=self.copies)
        for name in NAMES:
            self.world.device(name)

    def teardown(self) -> None:
        self.world.close()
        self.folder.cleanup()

    def of(self, number: int) -> Device:
        return list(self.world.devices.values())[number % len(self.world.devices)]

    which = st.integers(0, 5)

    @rule(device=which, reader=st.integers(0, 2), dies=DEATHS)
    def a_card_is_tapped(self, device: int, reader: int, dies: str) -> None:
        self.of(device).taps_card(reader, dies=dies)

    @rule(
        device=which,
        pick=st.integers(0, 9),
        share=st.sampled_from((0.0, 0.3, 0.9, 1.0)),
        over_wh=st.sampled_from((0, SLACK_WH)),
        complete=st.booleans(),
        dies=DEATHS,
    )
    def a_charge_ends(self, device: int, pick: int, share: float, over_wh: int, complete: bool, dies: str) -> None:
        sessions = self.of(device).agent.state.open_sessions
        if sessions:
            name = sessions[pick % len(sessions)].id
            self.of(device).ends(name, share=share, over_wh=over_wh, complete=complete, dies=dies)

    @rule(device=which)
    def all_goes_well(self, device: int) -> None:
        """Everything is delivered once and in order, lent, and taken."""
        one = self.of(device)
        one.sees_link(up=True)
        self.world.say(one, range(len(one.sealed)))
        self.world.lend()
        for grant in self.world.grants[-6:]:
            if grant.device == one.name:
                self.world.bring(one, grant)

    @rule(devices=st.lists(which, min_size=1, max_size=6), share=st.sampled_from((0.5, 1.0)), dies=DEATHS)
    def a_busy_day(self, devices: list[int], share: float, dies: str) -> None:
        """One after another is lent to, and charges as much as it may; the last one may die of it."""
        for at, number in enumerate(devices):
            one, end = self.of(number), dies if at == len(devices) - 1 else ""
            self.all_goes_well(number)
            one.taps_card(at % 3)
            for session in one.agent.state.open_sessions:
                one.ends(session.id, share=share, over_wh=SLACK_WH, complete=True, dies=end)
                break

    @rule(devices=st.lists(which, min_size=2, max_size=8))
    def many_charge_offline(self, devices: list[int]) -> None:
        for at, number in enumerate(devices):
            self.of(number).sees_link(up=False)
            self.of(number).taps_card(at % 3)
        for number in devices:
            for session in self.of(number).agent.state.open_sessions:
                self.of(number).ends(session.id, share=1.0, over_wh=SLACK_WH, complete=True)

    @rule(device=which, data=st.data())
    def records_arrive_somehow(self, device: int, data: st.DataObject) -> None:
        """Some of them, twice, in any order; others are late, or never come."""
        one = self.of(device)
        if one.sealed:
            numbers = st.lists(st.integers(0, len(one.sealed) - 1), max_size=8)
            self.world.say(one, data.draw(numbers))

    @rule()
    def the_backend_lends(self) -> None:
        self.world.lend()

    @rule(device=which, pick=st.integers(0, 200), dies=DEATHS)
    def a_grant_arrives(self, device: int, pick: int, dies: str) -> None:
        """Any that ever was, also for the second time, or long after newer ones."""
        one = self.of(device)
        sent = [grant for grant in self.world.grants if grant.device == one.name]
        if sent:
            self.world.bring(one, sent[pick % len(sent)], dies=dies)

    @rule(device=which, up=st.booleans())
    def the_link_changes(self, device: int, up: bool) -> None:
        self.of(device).sees_link(up=up)

    @rule(device=which)
    def a_device_dies(self, device: int) -> None:
        self.of(device).dies()

    @rule(device=which)
    def a_device_loses_its_storage(self, device: int) -> None:
        self.of(device).loses_storage()

    @rule(device=which, span=JUMPS, quality=st.sampled_from(ClockQuality))
    def a_clock_jumps(self, device: int, span: timedelta, quality: ClockQuality) -> None:
        self.of(device).clock_jumps(span, quality)

    @rule(span=PASSING)
    def time_passes(self, span: timedelta) -> None:
        self.world.now += span
        for device in self.world.devices.values():
            device.passes(span)

    @rule()
    def the_backend_restarts(self) -> None:
        self.world.restarts()

    @rule()
    def the_backend_keeps_a_copy(self) -> None:
        self.world.keeps_a_copy()

    @rule()
    def the_backend_is_put_back_to_its_copy(self) -> None:
        self.world.is_put_back()

    @rule(device=st.integers(0, 2))
    def the_backend_forgets_what_it_has_just_lent(self, device: int) -> None:
        """And lends to others; whom it has forgotten charges all the same."""
        self.world.keeps_a_copy()
        self.all_goes_well(device)
        self.world.is_put_back()
        self.others_use_up_the_rest(device)
        self.many_charge_offline([device, device])

    def others_use_up_the_rest(self, device: int) -> None:
        for _ in range(5):
            self.a_busy_day([number for number in range(3) if number != device], 1.0, "")

    @rule(device=which)
    def a_journal_is_seen_to_fork(self, device: int) -> None:
        self.world.ledger.burn(self.of(device).name, self.of(device).journal)

    @precondition(lambda self: self.copies and len(self.world.devices) < len(NAMES) + self.copies)
    @rule(device=st.integers(0, 2))
    def a_device_is_copied(self, device: int) -> None:
        """When the others have used up what was left. Both go on with the same leases; neither knows of the other."""
        one = self.of(device)
        self.all_goes_well(device)
        self.others_use_up_the_rest(device)
        other = one.copied(f"a copy {len(self.world.devices)}")
        for each in (one, other):
            each.sees_link(up=False)
            each.taps_card(0)
            for session in each.agent.state.open_sessions:
                each.ends(session.id, share=1.0, over_wh=SLACK_WH, complete=True)

    @invariant()
    def nothing_passes_the_limit(self) -> None:
        for (budget, start), spent in self.world.truth().items():
            assert spent <= LIMITS[budget], f"{spent} of {budget} in the period from {start}"

    @invariant()
    def the_ledger_never_lends_more_than_it_has(self) -> None:
        for standing in self.world.standings():
            assert standing.settled + standing.outstanding <= standing.limit + standing.overrun, standing
            assert standing.overrun == 0


class LendingToCopies(Lending):
    copies = 1


HOW = settings(
    max_examples=LIVES,
    stateful_step_count=STEPS,
    deadline=None,
    suppress_health_check=list(HealthCheck),
    database=None,
    derandomize="ROAMKEY_LEASE_LIVES" not in os.environ,
)
TestWithoutCopies = Lending.TestCase
TestWithoutCopies.settings = HOW
TestWithOneCopy = LendingToCopies.TestCase
TestWithOneCopy.settings = HOW


def busy_days(machine: Lending) -> None:
    """More than the limit is asked for, and each charges all that it may."""
    machine.a_busy_day([0, 1, 2] * 4, 1.0, "")


def busy_days_told_again_backwards(machine: Lending) -> None:
    """And every record comes once more, the newest first."""
    for _ in range(3):
        machine.a_busy_day([0, 1, 2], 1.0, "")
        for device in machine.world.devices.values():
            machine.world.say(device, reversed(range(len(device.sealed))))
    busy_days(machine)


def busy_days_offline(machine: Lending) -> None:
    """All are lent to, and then none is heard until it has charged what it may."""
    for number in range(3):
        machine.all_goes_well(number)
    machine.many_charge_offline([0, 1, 2] * 4)
    busy_days(machine)


def copied_when_little_is_left(machine: Lending) -> None:
    machine.a_device_is_copied(0)
    busy_days(machine)


def forgotten_by_the_backend(machine: Lending) -> None:
    machine.the_backend_forgets_what_it_has_just_lent(0)
    busy_days(machine)


@pytest.mark.parametrize(
    ("machine", "life"),
    [
        (Lending, busy_days),
        (Lending, busy_days_told_again_backwards),
        (Lending, busy_days_offline),
        (Lending, forgotten_by_the_backend),
        (LendingToCopies, copied_when_little_is_left),
    ],
)
def test_a_life_that_is_written_down_never_passes_the_limit(
    machine: type[Lending], life: Callable[[Lending], None]
) -> None:
    lending = machine()
    try:
        life(lending)
        lending.nothing_passes_the_limit()
        lending.the_ledger_never_lends_more_than_it_has()
        assert lending.world.truth()
    finally:
        lending.teardown()
