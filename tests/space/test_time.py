"""Wrong clocks: order and durations stay right, times are corrected by a record and never rewritten (P5)."""

from __future__ import annotations

import asyncio
from collections.abc import Sequence
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest

from agent.care import JournalCare
from agent.clock import BUILD_TIME, SystemClock
from agent.core import observations
from agent.core.facts import ClockSynchronised, SessionAuthorised, SessionStarted
from agent.core.instants import ClockQuality
from agent.floor import FloorFile
from agent.journal import Journal, StorageFull
from agent.runtime import open_sessions, sealed_in_doubt
from agent.service import Service
from agent.store import Store
from agent.wire import TYPES, Envelope
from tests.journal.samples import CARD, HOLDER, MORNING, PLACE, SOURCE, a_refusal
from tests.space.small_service import EPOCH, HandSetClock, a_service, a_service_on, records_of

UNKNOWN, SYNCHRONISED, HOLDOVER = ClockQuality.UNKNOWN, ClockQuality.SYNCHRONISED, ClockQuality.HOLDOVER
REAL = datetime(2026, 11, 20, 6, 0, tzinfo=UTC)


def corrected(records: Sequence[Envelope]) -> dict[int, datetime]:
    """What a backend does: the newest correction of a boot holds for every record of that boot."""
    offsets = {each.boot: int(each.data["offset_ms"]) for each in records if each.type == TYPES[ClockSynchronised]}
    return {
        each.sequence: EPOCH + timedelta(milliseconds=offsets[each.boot] + each.monotonic_ms)
        if each.boot in offsets
        else each.time
        for each in records
    }


def rebooted(clock: HandSetClock, wall: datetime, *, quality: ClockQuality) -> HandSetClock:
    return HandSetClock(wall, quality=quality, boot=clock.now().boot + "'")


async def begin_a_session(service: Service, clock: HandSetClock) -> None:
    """Authorised and begun by the charger, at this moment."""
    now = clock.now()
    authorised = SessionAuthorised(
        session="s-1",
        decision="d-1",
        credential=CARD,
        holder=HOLDER,
        place=PLACE,
        reader="front",
        charger="left",
        max_energy_wh=None,
        authorised_at=now.utc,
        boot=now.boot,
        monotonic_ms=now.monotonic_ms,
    )
    started = SessionStarted(
        session="s-1",
        meter_wh=100,
        started_at=now.utc,
        boot=now.boot,
        monotonic_ms=now.monotonic_ms,
        clock=now.quality,
    )
    await service.performer.store.append([(authorised, now), (started, now)])
    await wake(service)


async def wake(service: Service) -> None:
    store = service.performer.store
    sessions = await store.ask(open_sessions)
    await service.handle(observations.Woken(version="0", sessions=sessions))
    await service.handle(
        observations.ChargerFound(charger="left", charging=True, state="charging", session="s-1", meter_wh=None)
    )


async def end_the_session(service: Service) -> Envelope:
    await service.handle(observations.ChargingStopped(charger="left", session="s-1", meter_wh=2_100, reason="Local"))
    (ended,) = [each for each in await records_of(service) if each.type == "io.roamkey.session.ended"]
    return ended


def test_a_boot_at_1970_is_corrected_by_one_record_when_the_time_is_known(tmp_path: Path) -> None:
    """The wall clock says 1970 for two hours; then network time comes, in the middle of a session."""
    clock = HandSetClock(EPOCH + timedelta(seconds=40), quality=UNKNOWN)
    boot_began = REAL - timedelta(seconds=10)  # the clock by hand starts ten seconds after its boot

    async def story() -> None:
        async with a_service(tmp_path, clock) as service:
            await begin_a_session(service, clock)
            clock.pass_time(hours=2)
            await service.handle(observations.Faulted(charger="left", code="noise"))
            clock.set_wall(boot_began + timedelta(milliseconds=clock.now().monotonic_ms), quality=SYNCHRONISED)
            await service._look_around()
            clock.pass_time(hours=1)
            ended = await end_the_session(service)
            records = await records_of(service)

        kinds = [each.type for each in records]
        assert kinds.count(TYPES[ClockSynchronised]) == 1
        assert kinds.index("io.roamkey.clock.stepped") < kinds.index(TYPES[ClockSynchronised])
        assert [each.sequence for each in records] == list(range(1, len(records) + 1))
        assert [each.monotonic_ms for each in records] == sorted(each.monotonic_ms for each in records)
        assert [each.time.year for each in records[:3]] == [1970, 1970, 1970], "what was sealed stays sealed"
        assert {each.quality for each in records[:3]} == {UNKNOWN}
        assert (ended.data["duration_s"], ended.data["duration_source"]) == (3 * 3600, "monotonic")
        times = corrected(records)
        for each in records:
            assert times[each.sequence] == boot_began + timedelta(milliseconds=each.monotonic_ms)

    asyncio.run(story())


@pytest.mark.parametrize(
    ("begun", "ended_at", "quality", "expected"),
    [
        (MORNING, MORNING + timedelta(hours=3), SYNCHRONISED, (3 * 3600, "wall")),
        (MORNING, EPOCH, UNKNOWN, (10, "at_least")),
        (MORNING, MORNING + timedelta(days=1826), UNKNOWN, (10, "at_least")),
        (EPOCH, MORNING, SYNCHRONISED, (10, "at_least")),
    ],
)
def test_a_duration_over_a_reboot_is_never_that_of_a_clock_nobody_vouches_for(
    begun: datetime, ended_at: datetime, quality: ClockQuality, expected: tuple[int, str], tmp_path: Path
) -> None:
    """Else a session that began in 1970 would have lasted 56 years."""
    first = HandSetClock(begun, quality=UNKNOWN if begun == EPOCH else SYNCHRONISED)
    second = rebooted(first, ended_at, quality=quality)  # ten seconds after its boot

    async def story() -> None:
        async with a_service(tmp_path, first) as service:
            await begin_a_session(service, first)
        async with a_service(tmp_path, second) as service:
            await wake(service)
            ended = await end_the_session(service)
        assert (ended.data["duration_s"], ended.data["duration_source"]) == expected

    asyncio.run(story())


JUMPS = (timedelta(days=-3653), timedelta(days=1826), timedelta(hours=-1), timedelta(minutes=5))


@pytest.mark.parametrize("jump", JUMPS)
def test_a_jump_in_mid_session_is_a_record_and_bends_nothing(jump: timedelta, tmp_path: Path) -> None:
    clock = HandSetClock(MORNING)

    async def story() -> None:
        async with a_service(tmp_path, clock) as service:
            await begin_a_session(service, clock)
            clock.pass_time(minutes=30)
            clock.set_wall(clock.now().utc + jump)
            await service._look_around()
            clock.pass_time(minutes=30)
            ended = await end_the_session(service)
            records = await records_of(service)
        steps = [each.data["step_ms"] for each in records if each.type == "io.roamkey.clock.stepped"]
        assert steps == [jump // timedelta(milliseconds=1)], "noticed without anything else happening, and once"
        assert ended.data["duration_s"] == 3600
        assert [each.monotonic_ms for each in records] == sorted(each.monotonic_ms for each in records)
        assert TYPES[ClockSynchronised] not in [each.type for each in records], "nothing was sealed in doubt"

    asyncio.run(story())


def test_weeks_without_network_time_are_holdover_and_owe_no_correction(tmp_path: Path) -> None:
    clock = HandSetClock(MORNING)

    async def story() -> None:
        async with a_service(tmp_path, clock) as service:
            await service._look_around()
            clock.set_wall(clock.now().utc, quality=HOLDOVER)
            for day in range(30):
                clock.pass_time(days=1)
                await service.handle(observations.Faulted(charger="left", code=f"day {day}"))
            clock.set_wall(clock.now().utc, quality=SYNCHRONISED)
            await service._look_around()
            records = await records_of(service)
        assert [each.quality for each in records[1:]] == [HOLDOVER] * 30
        assert TYPES[ClockSynchronised] not in [each.type for each in records]

    asyncio.run(story())


def test_a_restart_in_the_same_doubtful_boot_still_owes_the_correction(tmp_path: Path) -> None:
    clock = HandSetClock(EPOCH, quality=UNKNOWN)

    async def story() -> None:
        async with a_service(tmp_path, clock) as service:
            await service.handle(observations.Faulted(charger="left", code="noise"))
        clock.set_wall(REAL, quality=SYNCHRONISED)
        async with a_service(tmp_path, clock) as service:
            service.owes_time = await service.performer.store.ask(
                lambda journal: sealed_in_doubt(journal, boot=clock.now().boot)
            )
            assert service.owes_time
            await service._look_around()
            assert not service.owes_time
            assert not await service.performer.store.ask(lambda journal: sealed_in_doubt(journal, boot="another"))
            records = await records_of(service)
        assert records[-1].data["was"] == "unknown"
        first = corrected(records)[2]
        assert first == REAL, "no time passed on this clock by hand"

    asyncio.run(story())


def test_a_correction_without_room_is_made_later(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def full(self: Journal, entries: object) -> None:
        raise StorageFull("no room")

    clock = HandSetClock(EPOCH, quality=UNKNOWN)

    async def story() -> None:
        async with a_service(tmp_path, clock) as service:
            await service._look_around()
            clock.set_wall(REAL, quality=SYNCHRONISED)
            with monkeypatch.context() as disk:
                disk.setattr(Journal, "append", full)
                await service._look_around()
                assert service.owes_time
            await service._look_around()
            assert [each.type for each in await records_of(service)][-1] == TYPES[ClockSynchronised]

    asyncio.run(story())


class TestFloor:
    """The newest moment that has surely passed."""

    def test_it_is_read_back_as_written(self, tmp_path: Path) -> None:
        file = FloorFile(tmp_path / "clock.floor")
        assert file.read() is None
        assert file.write(REAL)
        assert file.read() == REAL

    @pytest.mark.parametrize("byte", range(20))
    def test_a_rotten_floor_is_no_floor(self, byte: int, tmp_path: Path) -> None:
        """A flipped bit could otherwise turn 2026 into 2126, for good."""
        path = tmp_path / "clock.floor"
        FloorFile(path).write(REAL)
        content = bytearray(path.read_bytes())
        content[byte] ^= 1
        path.write_bytes(content)
        assert FloorFile(path).read() is None

    def test_without_a_writable_disk_the_service_goes_on(self, tmp_path: Path) -> None:
        assert not FloorFile(tmp_path / "no such folder" / "clock.floor").write(REAL)

    def test_an_unproven_future_never_raises_it(self, monkeypatch: pytest.MonkeyPatch) -> None:
        clock = SystemClock(is_synchronised=lambda: False)
        set_wall(monkeypatch, BUILD_TIME + timedelta(days=5 * 365))
        assert clock.now().quality is UNKNOWN
        assert clock.now().floor == BUILD_TIME
        set_wall(monkeypatch, BUILD_TIME + timedelta(days=1))
        assert not clock.now().is_set_back

    def test_synchronised_and_signed_time_raise_it_and_nothing_lowers_it(self, monkeypatch: pytest.MonkeyPatch) -> None:
        synchronised = True
        clock = SystemClock(is_synchronised=lambda: synchronised)
        day = BUILD_TIME + timedelta(days=10)
        set_wall(monkeypatch, day)
        assert clock.now().floor == day
        synchronised = False
        set_wall(monkeypatch, EPOCH)
        now = clock.now()
        assert (now.floor, now.latest, now.quality, now.trusted) == (day, day, HOLDOVER, False)
        clock.raise_floor(day + timedelta(days=1))
        clock.raise_floor(EPOCH)
        assert clock.now().floor == day + timedelta(days=1)

    def test_it_is_kept_over_a_restart_and_written_at_most_hourly(self, tmp_path: Path) -> None:
        file, clock = FloorFile(tmp_path / "clock.floor"), HandSetClock(MORNING)

        async def story() -> None:
            store = Store()
            await store.open(lambda: Journal.open(tmp_path / "journal", source=SOURCE, now=clock.now()))
            care = JournalCare(store=store, clock=clock, floor=file, retain=timedelta(days=1))
            clock.raise_floor(MORNING)
            care.note_time()
            clock.raise_floor(MORNING + timedelta(minutes=59))
            care.note_time()
            assert file.read() == MORNING
            clock.raise_floor(MORNING + timedelta(minutes=60))
            care.note_time()
            assert file.read() == MORNING + timedelta(minutes=60)
            clock.raise_floor(MORNING + timedelta(minutes=61))
            care.note_time(at_least=timedelta(0))
            assert file.read() == MORNING + timedelta(minutes=61), "at the stop the last one is kept"
            await store.close()

        asyncio.run(story())


def test_care_prunes_by_age_and_by_room_and_leaves_the_rest(tmp_path: Path) -> None:
    clock = HandSetClock(MORNING)

    async def story() -> None:
        store = Store()
        await store.open(
            lambda: Journal.open(tmp_path / "journal", source=SOURCE, now=clock.now(), max_bytes=1024 * 1024)
        )
        care = JournalCare(
            store=store, clock=clock, floor=FloorFile(tmp_path / "f"), retain=timedelta(days=7), every_s=0.01
        )
        service = a_service_on(store, clock)
        await store.append([(a_refusal(), clock.now())] * 20)
        clock.pass_time(days=8)
        await store.append([(a_refusal(), clock.now())] * 20)
        head = await store.head()
        await care.look_after()
        assert (await store.head()).first == 1, "nothing is acknowledged"
        await store.acknowledge(journal=head.journal, through=35, quarantined={})
        await care.look_after()
        assert (await store.head()).first == 22, "the old ones are gone"
        await store.append([(a_refusal(), clock.now())] * 350)
        assert (await store.ask(lambda journal: journal.space())).fraction > 0.6
        await care.look_after()
        assert (await store.head()).first == 36, "for room even the young ones, as far as they are acknowledged"
        await service._look_around()
        assert service.board.backlog == (await store.head()).last - 35
        await store.close()

    asyncio.run(story())


def set_wall(monkeypatch: pytest.MonkeyPatch, moment: datetime) -> None:
    class Wall(datetime):
        @classmethod
        def now(cls, tz: object = None) -> datetime:  # type: ignore[override]
            return moment

    monkeypatch.setattr("agent.clock.datetime", Wall)
