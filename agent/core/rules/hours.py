"""Rules about when: windows of the week and holidays, by the local clock of the rule's own zone.

UTC to local is total, also when the clocks change: an hour that is skipped never comes, one that repeats comes twice.
"""

from __future__ import annotations

from collections.abc import Iterator
from datetime import datetime

from agent.core.reasons import ReasonCode
from agent.core.rules.question import Objection, Question
from agent.core.terms import Schedule, Window


def inside_window(asked: Question) -> Iterator[Objection]:
    """The start instant lies in a window of every level that has a schedule.

    Where a proven moment is newer than the wall clock it is the better guess of the hour; clock_trusted bounds both.
    """
    for level in asked.levels:
        if level.schedule is not None and not opens(level.schedule, asked.now.latest):
            local = asked.now.latest.astimezone(level.schedule.zone)
            yield Objection(
                code=ReasonCode.TIME_WINDOW,
                observed=f"{WEEKDAYS[local.weekday()]} {local:%H:%M}",
                limit=spelled(level.schedule),
                level=level,
            )


def no_holiday(asked: Question) -> Iterator[Objection]:
    """The local date is on no calendar of any level."""
    for level in asked.levels:
        if level.holidays is None:
            continue
        today = asked.now.latest.astimezone(level.holidays.zone).date()
        names = sorted(each.name for each in level.holidays.calendars if today in each.days)
        if names:
            yield Objection(
                code=ReasonCode.HOLIDAY, observed=f"{today}", limit=f"no day of {','.join(names)}", level=level
            )


def calendar_current(asked: Question) -> Iterator[Objection]:
    """Beyond a calendar's last thought of day nobody knows whether it is a holiday."""
    for level in asked.levels:
        if level.holidays is None:
            continue
        today = asked.now.latest.astimezone(level.holidays.zone).date()
        for calendar in level.holidays.calendars:
            if today > calendar.until:
                yield Objection(
                    code=ReasonCode.CALENDAR_STALE,
                    observed=f"{today}",
                    limit=f"{calendar.name} until {calendar.until}",
                    level=level,
                    missing=True,
                )


def opens(schedule: Schedule, utc: datetime) -> bool:
    local = utc.astimezone(schedule.zone)
    minute = local.hour * 60 + local.minute
    return any(contains(window, local.weekday(), minute) for window in schedule.windows)


def contains(window: Window, weekday: int, minute: int) -> bool:
    """[start, end); an end before the start wraps past midnight and belongs to the weekday on which it started.

    An end equal to the start leaves nothing open, as [start, end) says: the whole day is 00:00 to 24:00.
    """
    if window.start_minute <= window.end_minute:
        return weekday in window.weekdays and window.start_minute <= minute < window.end_minute
    yesterday = (weekday - 1) % 7
    return (weekday in window.weekdays and minute >= window.start_minute) or (
        yesterday in window.weekdays and minute < window.end_minute
    )


WEEKDAYS = ("Mon", "Tue", "Wed", "Thu", "Fri", "Sat", "Sun")


def spelled(schedule: Schedule) -> str:
    """`Mon-Fri 22:00-06:00 Europe/Berlin`, for people."""
    windows = (
        f"{','.join(WEEKDAYS[day] for day in sorted(window.weekdays))} "
        f"{clock(window.start_minute)}-{clock(window.end_minute)}"
        for window in schedule.windows
    )
    return f"{'; '.join(windows) or 'never'} {schedule.zone.key}"


def clock(minute: int) -> str:
    return f"{minute // 60:02}:{minute % 60:02}"
