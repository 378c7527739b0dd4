"""Gives memory back that a start or an update needed and nobody needs any more.

Freed blocks lie between live ones, and the C library keeps them: 5 MB after the imports of a start alone (measured).
"""

from __future__ import annotations

import ctypes
import logging

log = logging.getLogger("roamkey")


def give_back() -> None:
    """Best effort, a few milliseconds; where the C library is not glibc it does nothing."""
    try:
        ctypes.CDLL(None).malloc_trim(0)
    except (AttributeError, OSError, MemoryError) as error:
        log.debug("freed memory stays with the C library: %s", error)
