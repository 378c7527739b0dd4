"""The newest moment that is proven to have passed, kept over restarts in one small file.

Only what the clock calls its floor is written here: signed time, synchronised time, the build (clock.py). A wall clock
that was merely set ahead never is, so a device that once stood in 2031 does not refuse everything until 2031.
"""

from __future__ import annotations

import logging
from datetime import UTC, datetime
from hashlib import sha256
from pathlib import Path

from agent.files import replace_durably

log = logging.getLogger("roamkey")

LATEST_YEAR = 2200  # beyond it the file is not believed


class FloorFile:
    def __init__(self, path: Path) -> None:
        self._path = path

    def read(self) -> datetime | None:
        """None when there is none, or its checksum does not fit: then the build and the policy tell what has passed."""
        try:
            text, checksum = self._path.read_text("ascii").split()
            moment = datetime.fromisoformat(text)
        except FileNotFoundError:
            return None
        except (OSError, ValueError):
            log.warning("%s cannot be read: the proven time starts again from the policy's", self._path)
            return None
        if checksum != _checksum(text) or moment.tzinfo is None or moment.year > LATEST_YEAR:
            log.warning("%s is damaged: the proven time starts again from the policy's", self._path)
            return None
        return moment

    def write(self, floor: datetime) -> bool:
        """False when there was no room or no working disk: it is tried again, and nothing else depends on it."""
        text = floor.astimezone(UTC).isoformat(timespec="seconds")
        try:
            replace_durably(self._path, f"{text} {_checksum(text)}\n".encode("ascii"))
        except OSError as error:
            log.debug("the proven time cannot be written: %s", error)
            return False
        return True


def _checksum(text: str) -> str:
    return sha256(text.encode("ascii")).hexdigest()[:16]
