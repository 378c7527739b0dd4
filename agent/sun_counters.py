"""How often each tag had been read when it was last believed: durable before anything is granted, and only ever higher.

A message that was read in advance is worth one tap, and none once the tag itself was here again. It is kept by
reference, like everything about cards. Two vehicles that are offline can both believe the same message: each knows only
its own taps.
"""

from __future__ import annotations

import contextlib
import logging
import sqlite3
from pathlib import Path

from agent.core.credentials import reference
from drivers.cards.apdu import NotGenuine

BUSY_S = 1.0
_SCHEMA = "CREATE TABLE IF NOT EXISTS counter (tag TEXT PRIMARY KEY, counter INTEGER NOT NULL) STRICT, WITHOUT ROWID"
_ADVANCE = (
    "INSERT INTO counter VALUES (?, ?) ON CONFLICT (tag) DO UPDATE SET counter = excluded.counter"
    " WHERE excluded.counter > counter"
)

log = logging.getLogger("roamkey")


class SunCounters:
    """A drivers.cards.sdm.Counters. Called on the readers' threads; each call opens the file for itself."""

    def __init__(self, path: Path, *, token_key: bytes) -> None:
        self._path = path
        self._token_key = token_key

    def advance(self, uid: bytes, counter: int) -> bool:
        """NotGenuine when it cannot be kept: what is not kept could be shown again."""
        try:
            self._path.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
            with contextlib.closing(sqlite3.connect(self._path, timeout=BUSY_S, isolation_level=None)) as store:
                store.execute("PRAGMA synchronous = FULL")
                store.execute(_SCHEMA)
                return store.execute(_ADVANCE, (reference(self._token_key, uid.hex()), counter)).rowcount == 1
        except (sqlite3.Error, OSError) as error:
            log.error("the tags' counters %s cannot be kept (%s): tags are refused", self._path, error)
            raise NotGenuine("its counter cannot be kept here") from error
