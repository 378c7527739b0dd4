"""The journal's folder: who may use it, which files live in it, and what is known of its past."""

from __future__ import annotations

import fcntl
import os
import re
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path

from agent.files import replace_durably, sync_folder
from agent.journal.errors import AlreadyRunning, StorageBroken

_ID = re.compile(r"[0-9a-f]{8}(-[0-9a-f]{4}){3}-[0-9a-f]{12}")


@dataclass(frozen=True, slots=True)
class JournalFolder:
    """Only names and marks; the database itself is opened in opening.py."""

    path: Path

    @property
    def database(self) -> Path:
        return self.path / "journal.db"

    @property
    def wal(self) -> Path:
        return self.path / "journal.db-wal"

    @property
    def ballast(self) -> Path:
        return self.path / "ballast"

    @property
    def _id(self) -> Path:
        return self.path / "journal.id"

    @property
    def _running(self) -> Path:
        return self.path / "journal.running"

    def claim(self) -> int:
        """Take the folder for this process; the descriptor is the lock, and a killed process leaves none behind.

        The folder itself is locked: that needs no new file, so it also works on a full disk.
        """
        try:
            self.path.mkdir(mode=0o700, parents=True, exist_ok=True)
            descriptor = os.open(self.path, os.O_RDONLY | os.O_DIRECTORY)
        except OSError as error:
            raise StorageBroken(f"{self.path} cannot be used ({error.strerror}): check it and its owner") from error
        try:
            fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except OSError as error:
            os.close(descriptor)
            raise AlreadyRunning(f"roamkey is already running on {self.path}: stop that one first") from error
        return descriptor

    def stopped_uncleanly(self) -> bool:
        """A clean close folds the WAL into the database and removes it."""
        return self._running.exists() or (self.wal.exists() and self.wal.stat().st_size > 0)

    def known_journal(self) -> str | None:
        """The id of the journal that lives, or lived, here. It survives the database."""
        try:
            text = self._id.read_text("ascii").strip()
        except (OSError, ValueError):
            return None
        return text if _ID.fullmatch(text) else None

    def has_history(self) -> bool:
        return self._id.exists() or any(self.path.glob("journal.db.*-*"))

    def mark_open(self, journal: str) -> None:
        """Best effort: on a full disk the journal opens all the same, and its WAL then tells of an unclean stop."""
        with suppress(OSError):
            if self.known_journal() != journal:
                replace_durably(self._id, journal.encode("ascii"))
        with suppress(OSError):
            self._running.touch(mode=0o600)
            sync_folder(self.path)

    def mark_closed(self) -> None:
        with suppress(OSError):
            self._running.unlink(missing_ok=True)

    def move_aside(self, why: str) -> Path:
        """Rename the database and its WAL out of the way, under a name that SQLite still takes for a pair."""
        number = 1 + sum(1 for _ in self.path.glob(f"journal.db.{why}-*[0-9]"))
        aside = self.path / f"journal.db.{why}-{number}"
        while aside.exists():
            number += 1
            aside = self.path / f"journal.db.{why}-{number}"
        if self.wal.exists():
            self.wal.rename(aside.with_name(aside.name + "-wal"))
        if self.database.exists():
            self.database.rename(aside)
        sync_folder(self.path)
        return aside
