"""Where room is short only intermediate meter samples are given up, before they are sealed, and it is recorded."""

from __future__ import annotations

import asyncio
from datetime import timedelta
from pathlib import Path

import pytest

from agent.core import observations
from agent.core.facts import RecordsShed, SessionMetered
from agent.core.instants import Instant
from agent.core.sessions import fold
from agent.journal.space import Level, Space
from agent.samples import THINNED_EVERY_MS, WAITING_LIMIT, Samples
from agent.service import Service
from tests.journal.samples import MORNING, an_instant, at, authorised, metered, started
from tests.space.small_service import HandSetClock, a_service, records_of


def entries_of(samples: Samples, now: Instant) -> list[object]:
    return [fact for fact, _ in samples.entries(now)]


def test_with_room_every_sample_is_kept_and_nothing_is_told() -> None:
    samples = Samples()
    samples.hold(at(metered("a", 1), metered("b", 1), metered("a", 2)))
    assert samples.is_due(an_instant())
    assert entries_of(samples, an_instant()) == [metered("a", 1), metered("b", 1), metered("a", 2)]


def test_where_room_is_short_the_newest_of_each_session_stays_and_the_rest_is_counted() -> None:
    samples = Samples(scarce="storage scarce")
    start = an_instant(monotonic_ms=0)
    samples.hold([(metered(name, energy), start) for energy in range(10) for name in ("a", "b")])
    assert not samples.is_due(an_instant(monotonic_ms=THINNED_EVERY_MS - 1))
    assert samples.is_due(an_instant(monotonic_ms=THINNED_EVERY_MS))
    shed = RecordsShed(kind="session.metered", count=18, sessions=("a", "b"), reason="storage scarce")
    assert entries_of(samples, start) == [metered("a", 9), metered("b", 9), shed]
    samples.stored()
    assert entries_of(samples, start) == []


def test_what_was_given_up_is_told_once_and_only_when_it_was_stored() -> None:
    samples = Samples()
    samples.hold(at(*(metered("a", energy) for energy in range(WAITING_LIMIT + 3))))
    for _ in range(2):
        *kept, told = entries_of(samples, an_instant())
        assert told == RecordsShed(kind="session.metered", count=3, sessions=("a",), reason="storage full")
        assert kept[0] == metered("a", 3), "the oldest go first"
    samples.stored()
    assert not samples.entries(an_instant())


def test_a_service_short_of_room_seals_one_sample_in_fifteen_minutes_and_says_so(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    clock = HandSetClock(MORNING)
    used = [0.86]
    space = lambda journal: Space(used_bytes=int(used[0] * 1000), room_bytes=1000, no_reserve=False)  # noqa: E731
    monkeypatch.setattr("agent.journal.journal.Journal.space", space)

    async def an_hour() -> list[tuple[str, dict[str, object]]]:
        async with a_service(tmp_path, clock) as service:
            await begin_a_session(service)
            for minute in range(1, 61):
                clock.pass_time(minutes=1)
                await service.handle(
                    observations.Metered(charger="left", session="s-1", meter_wh=1_204_500 + minute, power_w=None)
                )
                await service._look_around()
            assert service.board.storage.state == "scarce"
            used[0] = 0.1
            await service._look_around()
            clock.pass_time(minutes=1)
            await service.handle(
                observations.ChargingStopped(charger="left", session="s-1", meter_wh=1_204_600, reason="Local")
            )
            return [(each.type, dict(each.data)) for each in await records_of(service)]

    told = asyncio.run(an_hour())
    sealed = [data for kind, data in told if kind.endswith("session.metered")]
    shed = [data for kind, data in told if kind.endswith("records.shed")]
    assert 3 <= len(sealed) <= 5
    assert sum(int(str(data["count"])) for data in shed) + len(sealed) == 60, "sealed or counted, each of them"
    assert all(data["sessions"] == ["s-1"] for data in shed)
    (end,) = [data for kind, data in told if kind.endswith("session.ended")]
    assert end["energy_wh"] == 100, "the bill is whole"


@pytest.mark.parametrize(("fraction", "refused"), [(0.5, False), (0.94, False), (0.96, True)])
def test_new_sessions_are_refused_at_the_last_level_only(
    fraction: float, refused: bool, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    space = lambda journal: Space(used_bytes=int(fraction * 1000), room_bytes=1000, no_reserve=False)  # noqa: E731
    monkeypatch.setattr("agent.journal.journal.Journal.space", space)
    refreshed: list[str] = []

    async def look() -> bool:
        async with a_service(tmp_path, HandSetClock(MORNING)) as service:
            service.on_storage = lambda: refreshed.append(service.board.storage.state)
            for _ in range(3):
                await service._look_around()
            return service.agent.state.storage_full

    with caplog.at_level("INFO", "roamkey"):
        assert asyncio.run(look()) is refused
    said = [record.message for record in caplog.records if record.message.startswith("storage is")]
    assert len(said) == len(refreshed) == (0 if fraction < 0.7 else 1), "once a change of level"
    if refused:
        assert "new sessions are refused" in said[0]
        assert refreshed == [Level.TIGHT.value]


async def begin_a_session(service: Service) -> None:
    await service.performer.store.append(at(authorised(), started()))
    session = fold([authorised(), started()])
    assert session is not None
    await service.handle(observations.Woken(version="0", sessions=(session,)))
    await service.handle(
        observations.ChargerFound(charger="left", charging=True, state="charging", session="s-1", meter_wh=1_204_500)
    )


def test_the_gap_is_the_only_thing_that_is_thinned() -> None:
    """Only what is not urgent ever gets into the hands of Samples: the performer stores the rest at once."""
    samples = Samples(scarce="storage tight")
    samples.hold([(metered("a", 1), an_instant(MORNING)), (metered("a", 2), an_instant(MORNING + timedelta(hours=1)))])
    assert all(isinstance(fact, SessionMetered | RecordsShed) for fact in entries_of(samples, an_instant()))
