"""How far break-glass codes are used up, kept in one small file beside the journal.

The journal records each use, but it is pruned, and after some faults begun anew: a code that was forgotten would be
good again, and those that the office reads out next too far ahead. What a code is worth is agent/core/break_glass.py.
"""

from __future__ import annotations

import logging
from dataclasses import replace
from hashlib import sha256
from pathlib import Path

from agent.core.history import History
from agent.files import replace_durably

log = logging.getLogger("roamkey")


class SpentCodes:
    def __init__(self, path: Path) -> None:
        self._path = path

    def read(self) -> int:
        """The counter of the newest code that was used. Without the file, or with a damaged one, the journal tells."""
        try:
            text, checksum = self._path.read_text("ascii").split()
            counter = int(text)
        except FileNotFoundError:
            return 0
        except (OSError, ValueError):
            text, checksum, counter = "", "", 0
        if checksum != _checksum(text):
            log.warning("%s is damaged: which codes are used up is known from the journal alone", self._path)
            return 0
        return counter

    def note(self, counter: int) -> None:
        """Only ever higher. Where it cannot be written the journal has it, and the next start tries again."""
        if counter <= self.read():
            return
        try:
            replace_durably(self._path, f"{counter} {_checksum(str(counter))}\n".encode("ascii"))
        except OSError as error:
            log.error("%s cannot be written (%s): used codes are known from the journal alone", self._path, error)

    def remembered(self, history: History) -> History:
        """What the journal still knows, and what it has forgotten."""
        self.note(history.codes.counter)
        counter = max(history.codes.counter, self.read())
        return replace(history, codes=replace(history.codes, counter=counter))


def _checksum(text: str) -> str:
    return sha256(text.encode("ascii")).hexdigest()[:16]
