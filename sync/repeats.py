"""Keeps the log readable when the same thing happens again and again: one line a change, repetitions at DEBUG."""

from __future__ import annotations

import logging
import time

# What lasts is said again once in a while: whoever reads only the newest lines must see it, too.
SAY_AGAIN_S = 3600.0
# Two protocol versions tried in turns fail with two texts in turns: neither is news the second time.
REMEMBERED = 4


class Repeats:
    """The log level that a text deserves now. `about` keeps stories apart that change on their own."""

    def __init__(self, *, say_again_s: float = SAY_AGAIN_S) -> None:
        self._say_again_s = say_again_s
        self._said: dict[str, dict[str, float]] = {}

    def level(self, text: str, level: int, *, about: str = "") -> int:
        said = self._said.setdefault(about, {})
        now = time.monotonic()
        if now - said.get(text, float("-inf")) < self._say_again_s:
            return logging.DEBUG
        said[text] = now
        while len(said) > REMEMBERED:
            del said[min(said, key=lambda each: said[each])]
        return level

    def forget(self, about: str = "") -> None:
        """The story is over: its next beginning is news."""
        self._said.pop(about, None)
