"""The log is for people: one event, one line, on stderr; with the syslog priority when systemd's journal reads it."""

from __future__ import annotations

import logging
import os
import sys

TRAFFIC = 5  # raw bytes of devices; never on by default

PRIORITIES = ((logging.ERROR, 3), (logging.WARNING, 4), (logging.INFO, 6), (0, 7))  # sd-daemon(3)


def set_up_logging(level: str) -> None:
    logging.addLevelName(TRAFFIC, "TRAFFIC")
    handler = logging.StreamHandler(sys.stderr)
    under_systemd = "JOURNAL_STREAM" in os.environ
    handler.setFormatter(JournalFormatter() if under_systemd else logging.Formatter(PLAIN))
    logging.basicConfig(level=level.upper(), handlers=[handler], force=True)


PLAIN = "%(asctime)s %(levelname)-7s %(name)s: %(message)s"


class JournalFormatter(logging.Formatter):
    """`<4>text`: systemd adds the time and the unit itself."""

    def format(self, record: logging.LogRecord) -> str:
        priority = next(number for level, number in PRIORITIES if record.levelno >= level)
        return "\n".join(f"<{priority}>{line}" for line in super().format(record).splitlines())
