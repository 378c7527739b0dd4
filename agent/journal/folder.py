"""The journal's folder: who may use it, which files live in it, and what is known of its past."""

from __future__ import annotations

import fcntl
import os
import re
from collections.abc import Iterator
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path

from agent.files import replace_durably, sync_folder
from agent.journal.errors import AlreadyRunning, StorageBroken

_ASIDE = re.compile(r"journal\.db\.([a-z]+)-([0-9]+)")
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
        """A clean close folds the WAL into the database and removes it. What cannot be looked at is no clean stop."""
        try:
            return _is_there(self._running) or (self.wal.exists() and self.wal.stat().st_size > 0)
        except OSError:
            return True

    def known_journal(self) -> str | None:
        """The id of the journal that lives, or lived, here. It survives the database."""
        try:
            text = self._id.read_text("ascii").strip()
        except (OSError, ValueError):
            return None
        return text if _ID.fullmatch(text) else None

    def has_history(self) -> bool:
        return _is_there(self._id) or any(self.path.glob("journal.db.*-*"))

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
        aside = self.path / f"journal.db.{why}-{1 + max([number for _, number, _ in self._aside()], default=0)}"
        if self.wal.exists():
            self.wal.rename(aside.with_name(aside.name + "-wal"))
        if self.database.exists():
            self.database.rename(aside)
        sync_folder(self.path)
        return aside

    def to_adopt(self) -> Path | None:
        """The oldest damaged journal whose readable records were not taken into tables yet."""
        found = self._damaged()
        return found[0] if found else None

    def newest_damaged(self) -> Path | None:
        found = self._damaged()
        return found[-1] if found else None

    def _damaged(self) -> list[Path]:
        """Moved aside and not yet taken over, oldest first."""
        return [path for _, path in sorted((number, path) for why, number, path in self._aside() if why == "corrupt")]

    def mark_adopted(self, aside: Path) -> None:
        """The name is the mark: it needs no room, and a new journal database knows nothing of the old one's work."""
        done = aside.with_name(aside.name.replace(".corrupt-", ".adopted-"))
        wal = aside.with_name(aside.name + "-wal")
        if wal.exists():
            wal.rename(done.with_name(done.name + "-wal"))
        aside.rename(done)
        sync_folder(self.path)

    def adopt_again(self) -> None:
        """The tables that held what was adopted are damaged or gone themselves: the files still have it."""
        for why, _, path in self._aside():
            if why == "adopted":
                again = path.with_name(path.name.replace(".adopted-", ".corrupt-"))
                wal = path.with_name(path.name + "-wal")
                if wal.exists():
                    wal.rename(again.with_name(again.name + "-wal"))
                path.rename(again)

    def remove_adopted(self, *, older_than_s: float | None) -> int:
        """Delete damaged files whose readable records live on in tables; how many."""
        gone = 0
        for why, _, path in self._aside():
            if why == "adopted" and (older_than_s is None or path.stat().st_mtime < older_than_s):
                path.with_name(path.name + "-wal").unlink(missing_ok=True)
                path.unlink(missing_ok=True)
                gone += 1
        return gone

    def _aside(self) -> Iterator[tuple[str, int, Path]]:
        """(why, number, file) of every journal that was moved aside."""
        for path in list(self.path.glob("journal.db.*-*")):
            named = _ASIDE.fullmatch(path.name)
            if named is not None:
                yield named[1], int(named[2]), path


def _is_there(path: Path) -> bool:
    """Also when the file system refuses to say more of it: a flash that lied leaves such entries (EBADMSG)."""
    try:
        return path.exists()
    except OSError:
        return True
