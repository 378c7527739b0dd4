"""A stop that a thread can wait for together with its device, so that cancelling a reader takes no timeout."""

from __future__ import annotations

import os
import select


class Stop:
    """Set from any thread, waited for in one. Stays set."""

    def __init__(self) -> None:
        self._fd = os.eventfd(0, os.EFD_CLOEXEC | os.EFD_NONBLOCK)

    def set(self) -> None:
        os.eventfd_write(self._fd, 1)

    def wait(self, at_most_s: float) -> bool:
        """Whether it was set, at the latest after so long."""
        return bool(select.select([self._fd], [], [], max(0.0, at_most_s))[0])

    def fileno(self) -> int:
        return self._fd

    def __del__(self) -> None:
        # Two threads hold it and either may let go last; closed earlier, its number could already be another file's.
        os.close(self._fd)
