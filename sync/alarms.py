"""Tell the same alarm once in a while: a rogue broker must not be able to flood a log or a technician."""

from __future__ import annotations

import logging
import time
from collections.abc import Callable

from sync.ports import Alarm, AlarmOver
from sync.repeats import Repeats

log = logging.getLogger(__name__)


class Alarms:
    """Remembers what was told lately. The codes are listed at `sync.ports.Alarm`."""

    def __init__(self, emit: Callable[[Alarm | AlarmOver], None], *, same_alarm_s: float) -> None:
        self._emit = emit
        self._same_alarm_s = same_alarm_s
        self._told_at: dict[tuple[str, str], float] = {}
        self._repeats = Repeats()

    def tell(self, code: str, text: str, *, about: str = "") -> None:
        """`about` keeps alarms of one code apart when each is worth telling."""
        now = time.monotonic()
        if now - self._told_at.get((code, about), float("-inf")) < self._same_alarm_s:
            return
        self._told_at[code, about] = now
        level = self._repeats.level(text, logging.WARNING, about=f"{code} {about}")
        log.log(level, "uplink: %s: %s", code, text)
        self._emit(Alarm(code=code, text=text))

    def over(self, code: str) -> None:
        """What was told has ended, and this is told once; should it begin again, it is told at once."""
        if self._told_at.pop((code, ""), None) is not None:
            self._repeats.forget(f"{code} ")
            self._emit(AlarmOver(code=code))
