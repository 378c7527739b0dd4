"""What the journal cannot do, and whether waiting helps."""

from __future__ import annotations


class JournalError(Exception):
    """Something about the journal failed; the text says what, to which file, and what to do."""


class AlreadyRunning(JournalError):
    """Another process has this journal open. There is one writer."""


class JournalTooNew(JournalError):
    """A newer version wrote this file; an older one must not touch it."""


class StorageFull(JournalError):
    """No room: nothing was written, and the journal stays usable."""


class StorageBroken(JournalError):
    """The store failed and its state is unknown: close it and open it again, which checks and salvages."""
