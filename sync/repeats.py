"""Keeps the log readable when the same thing happens again and again: one line a change, repetitions at DEBUG."""

from __future__ import annotations

import logging
import time

# What lasts is said again once in a while: whoever reads only the newest lines must see it, too.
SAY_AGAIN_S = 3600.0


class Repeats:
    """The log level that a text deserves now. `about` keeps stories apart that change on their own."""

    def __init__(self, *, say_again_s: float = SAY_AGAIN_S) -> None:
        self._say_again_s = say_again_s
        self._said: dict[str, tuple[str, float]] = {}

    def level(self, text: str, level: int, *, about: str = "") -> int:
        before, at = self._said.get(about, ("", float("-inf")))
        now = time.monotonic()
        if text == before and now - at < self._say_again_s:
            return logging.DEBUG
        self._said[about] = (text, now)
        return level

    def forget(self, about: str = "") -> None:
        """The story is over: its next beginning is news."""
        self._said.pop(about, None)
