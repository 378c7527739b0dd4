"""How verbs speak: tables for people, one JSON document for programs, errors on stderr with what to do."""

from __future__ import annotations

import json
import os
import sys
from collections.abc import Iterable, Sequence
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from rich.console import Console

# sysexits.h
OK = 0
FAILURE = 1
USAGE = 64
DATA = 65
NO_INPUT = 66
UNAVAILABLE = 69
CANNOT_CREATE = 73
IO_ERROR = 74
TRY_LATER = 75
CONFIG = 78


class Hopeless(Exception):
    """A verb cannot go on. `main` tells why, a line each, and ends with the code."""

    def __init__(self, code: int, *lines: str) -> None:
        super().__init__(*lines)
        self.code = code
        self.lines = lines


def console() -> Console:
    from rich.console import Console

    return Console(highlight=False, width=None if sys.stdout.isatty() else int(os.environ.get("COLUMNS", "120")))


def table(title: str, columns: Sequence[str], rows: Iterable[Sequence[object]]) -> None:
    from rich.markup import escape
    from rich.table import Table

    drawn = Table(title=title, title_justify="left")
    for column in columns:
        drawn.add_column(column, overflow="fold")
    for row in rows:
        drawn.add_row(*(escape(str(cell)) for cell in row))
    console().print(drawn)


def print_json(value: object) -> None:
    sys.stdout.write(json.dumps(value, indent=2, ensure_ascii=False, default=str) + "\n")


def say(text: str) -> None:
    sys.stdout.write(text + "\n")


def complain(text: str) -> None:
    sys.stderr.write(f"roamkey: {text}\n")


def progress(what: str, count: int) -> None:
    """A line that is written over, on stderr, and only where somebody sits before it."""
    if sys.stderr.isatty():
        sys.stderr.write(f"\r{count} {what} ...\033[K\r")
        sys.stderr.flush()
