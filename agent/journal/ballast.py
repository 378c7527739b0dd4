"""A file that only takes up room, so that the ends of running sessions can still be recorded on a full disk."""

from __future__ import annotations

import os
from contextlib import suppress
from pathlib import Path

from agent.files import sync_folder

# Room for some fifty session ends with all their pages; the figure that was measured to be enough.
BALLAST_BYTES = 256 * 1024
# What is given away at once: room for a record or two. A neighbour on the same file system takes what we do not use.
PIECE_BYTES = 32 * 1024
# On a tiny partition the ballast takes a quarter of what is left, and below this it is not worth having.
SMALLEST_BYTES = 16 * 1024
# Between two attempts to get a released ballast back: as long as drivers wait after somebody made room.
RETRY_MS = 5_000


class Ballast:
    """Kept while there is room, given away piece by piece when an essential fact finds none."""

    def __init__(self, path: Path) -> None:
        self._path = path
        self._next_attempt_ms = 0
        self._was_opened = False

    @property
    def present(self) -> bool:
        """Whole, as far as is known: a reserve that was needed is no reserve any more."""
        return self._path.exists() and not self._was_opened

    def release(self) -> bool:
        """Give a piece of the room away. False when there was none left to give."""
        left = self._size() - PIECE_BYTES
        self._was_opened = True
        try:
            if left > 0:
                _cut(self._path, left)
            else:
                self._path.unlink()
        except FileNotFoundError:
            return False
        sync_folder(self._path.parent)  # some file systems free the blocks only with the next commit
        return True

    def restore(self, monotonic_ms: int) -> None:
        """Take the room back if the disk has plenty again; looks every few seconds at most, and never fails."""
        if monotonic_ms < self._next_attempt_ms or self.present:
            return
        self._next_attempt_ms = monotonic_ms + RETRY_MS
        held, free = self._size(), free_bytes(self._path.parent)
        size = min(BALLAST_BYTES, (free + held) // 4)
        if free // 4 < SMALLEST_BYTES:
            return
        try:
            if held < size:  # else what is left of it is as much as would be put aside anew
                _allocate(self._path, size)
        except OSError:  # a disk that is worse than full shows itself at the next commit
            with suppress(OSError):
                _cut(self._path, held) if held else self._path.unlink(missing_ok=True)
        else:
            self._was_opened = False

    def _size(self) -> int:
        try:
            return self._path.stat().st_size
        except OSError:
            return 0


def free_bytes(folder: Path) -> int:
    """What an ordinary user may still write there."""
    status = os.statvfs(folder)
    return status.f_bavail * status.f_frsize


def _allocate(path: Path, size: int) -> None:
    descriptor = os.open(path, os.O_WRONLY | os.O_CREAT, 0o600)
    try:
        os.posix_fallocate(descriptor, 0, size)
        os.fsync(descriptor)
    finally:
        os.close(descriptor)
    sync_folder(path.parent)


def _cut(path: Path, size: int) -> None:
    """To this size, durably: what is not on the medium yet frees no block there."""
    descriptor = os.open(path, os.O_WRONLY)
    try:
        os.ftruncate(descriptor, size)
        os.fsync(descriptor)
    finally:
        os.close(descriptor)
