"""The durable journal. Its front door is Journal.open; all else here is how that keeps its word."""

from agent.journal.errors import AlreadyRunning, JournalError, JournalTooNew, StorageBroken, StorageFull
from agent.journal.journal import Journal, Quarantined, Statistics

__all__ = [
    "AlreadyRunning",
    "Journal",
    "JournalError",
    "JournalTooNew",
    "Quarantined",
    "Statistics",
    "StorageBroken",
    "StorageFull",
]
