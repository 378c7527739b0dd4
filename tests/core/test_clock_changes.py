"""Windows and holidays on nights when clocks change: opened and closed at the very second, in zones of every kind.

How long a window is on such a day is tests/core/test_rules.py.
"""

from __future__ import annotations

from datetime import UTC, date, datetime, timedelta
from typing import Any
from zoneinfo import ZoneInfo

import pytest

from agent.core.requests import Usage
from agent.core.rules import opens, sieve
from agent.core.terms import Calendar, Holidays
from tests.core.builders import a_group, a_policy, a_request, a_schedule, a_window, an_instant, ask, codes

FRIDAY, SATURDAY, SUNDAY, MONDAY = 4, 5, 6, 0


def utc(text: str) -> datetime:
    return datetime.fromisoformat(text).replace(tzinfo=UTC)


# zone, window, weekday of its start, first open second, first closed one; by hand from the zones' rules of 2027.
NIGHTS: list[tuple[str, str, str, int, str, str]] = [
    ("Europe/Berlin", "22:00", "06:00", SATURDAY, "2027-03-27T21:00", "2027-03-28T04:00"),  # 7 h
    ("Europe/Berlin", "22:00", "06:00", SATURDAY, "2027-10-30T20:00", "2027-10-31T05:00"),  # 9 h
    ("Europe/Berlin", "22:00", "02:30", SATURDAY, "2027-03-27T21:00", "2027-03-28T01:00"),  # 02:30 never comes
    ("Europe/Berlin", "02:30", "06:00", SUNDAY, "2027-03-28T01:00", "2027-03-28T04:00"),  # and begins at 03:00
    ("Europe/London", "22:00", "06:00", SATURDAY, "2027-03-27T22:00", "2027-03-28T05:00"),
    ("Europe/London", "22:00", "06:00", SATURDAY, "2027-10-30T21:00", "2027-10-31T06:00"),
    ("America/New_York", "22:00", "06:00", SATURDAY, "2027-03-14T03:00", "2027-03-14T10:00"),
    ("America/New_York", "22:00", "06:00", SATURDAY, "2027-11-07T02:00", "2027-11-07T11:00"),
    ("Australia/Lord_Howe", "22:00", "06:00", SATURDAY, "2027-10-02T11:30", "2027-10-02T19:00"),  # half an hour
    ("Australia/Lord_Howe", "22:00", "06:00", SATURDAY, "2027-04-03T11:00", "2027-04-03T19:30"),
    ("Asia/Beirut", "22:00", "06:00", SATURDAY, "2027-03-27T20:00", "2027-03-28T03:00"),  # midnight never comes
    ("Asia/Beirut", "00:00", "24:00", SUNDAY, "2027-03-27T22:00", "2027-03-28T21:00"),  # a Sunday of 23 h
    ("Asia/Beirut", "00:00", "24:00", SATURDAY, "2027-10-29T21:00", "2027-10-30T22:00"),  # a Saturday of 25 h
    ("Africa/Cairo", "22:00", "06:00", 3, "2027-04-29T20:00", "2027-04-30T03:00"),  # on a Friday at midnight
    ("America/Santiago", "22:00", "06:00", SATURDAY, "2027-09-05T02:00", "2027-09-05T09:00"),
    ("Asia/Kolkata", "22:00", "06:00", SATURDAY, "2027-03-27T16:30", "2027-03-28T00:30"),  # which never changes
]


@pytest.mark.parametrize(("zone", "start", "end", "day", "first", "last"), NIGHTS)
def test_a_window_opens_and_closes_at_the_second_at_which_the_local_clock_says_so(
    zone: str, start: str, end: str, day: int, first: str, last: str
) -> None:
    schedule = a_schedule(a_window(start, end, {day}), zone=zone)
    opened, closed, second = utc(first), utc(last), timedelta(seconds=1)

    assert [opens(schedule, each) for each in (opened - second, opened, closed - second, closed)] == [
        False, True, True, False,
    ]  # fmt: skip


@pytest.mark.parametrize("zone", sorted({row[0] for row in NIGHTS} | {"Pacific/Chatham", "Africa/Casablanca", "UTC"}))
@pytest.mark.parametrize("midst", ["2027-03-28T00:00", "2027-04-04T00:00", "2027-10-03T00:00", "2027-10-31T00:00"])
def test_what_is_decided_at_a_glance_is_what_the_windows_say(zone: str, midst: str) -> None:
    """Every quarter of an hour of four days, also where a wrapping window's night is one of those."""
    windows = (a_window("22:15", "02:30", {SATURDAY, SUNDAY}), a_window("00:00", "24:00", {FRIDAY}))
    schedule = a_schedule(*windows, a_window("23:45", "00:15", {MONDAY}), zone=zone)
    policy = a_policy(a_group(schedule=schedule))
    seen = set()
    for quarter in range(-2 * 96, 2 * 96):
        moment = utc(midst) + timedelta(minutes=15 * quarter)
        found = sieve.suspects(a_request(), policy, Usage(), an_instant(moment, floor=moment))
        assert found is not None
        assert (sieve.inside_window not in found) is opens(schedule, moment) is by_hand(schedule, moment)
        seen.add(opens(schedule, moment))
    assert seen == {True, False}


def by_hand(schedule: Any, moment: datetime) -> bool:
    """A window reaches from its start on a day's face of the clock to its end, on that day's or the next one's."""
    local = moment.astimezone(schedule.zone)
    for window in schedule.windows:
        for ago in (0, 1):
            day = local.date() - timedelta(days=ago)
            face = (local.hour * 60 + local.minute) + ago * 24 * 60
            wraps = window.end_minute < window.start_minute
            end = window.end_minute + (24 * 60 if wraps else 0)
            if day.weekday() in window.weekdays and window.start_minute <= face < end and (wraps or not ago):
                return True
    return False


@pytest.mark.parametrize(
    ("zone", "first", "last"),
    [
        ("Europe/Berlin", "2027-03-27T23:00", "2027-03-28T22:00"),  # a day of 23 h
        ("Asia/Beirut", "2027-03-27T22:00", "2027-03-28T21:00"),  # which begins at 01:00
        ("America/New_York", "2027-03-28T04:00", "2027-03-29T04:00"),
        ("Pacific/Kiritimati", "2027-03-27T10:00", "2027-03-28T10:00"),  # 14 h ahead
        ("Pacific/Niue", "2027-03-28T11:00", "2027-03-29T11:00"),  # 11 h behind
    ],
)
def test_a_holiday_lasts_from_midnight_to_midnight_of_its_own_zone(zone: str, first: str, last: str) -> None:
    calendar = Calendar(name="public", days=frozenset({date(2027, 3, 28)}), until=date(2027, 12, 31))
    policy = a_policy(holidays=Holidays(zone=ZoneInfo(zone), calendars=(calendar,)))
    begins, ends, second = utc(first), utc(last), timedelta(seconds=1)

    refused = []
    for moment in (begins - second, begins, ends - second, ends):
        fresh = a_policy(holidays=policy.groups["drivers"].holidays, confirmed=moment)
        refused.append(codes(ask(None, fresh, now=an_instant(moment))) == ("HOLIDAY",))

    assert refused == [False, True, True, False]
