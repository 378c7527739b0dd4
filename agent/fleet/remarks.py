"""What is to be said of a fleet's files: each remark with its file and line. What is wrong with what is policy_lint.py
and source.py."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from enum import StrEnum

from agent.core.findings import Severity


class Code(StrEnum):
    """Stable names: an editor or a pipeline may match on them."""

    # Nothing can be published with these.
    UNREADABLE = "UNREADABLE"
    UNKNOWN_KEY = "UNKNOWN_KEY"
    WRONG_VALUE = "WRONG_VALUE"
    UNKNOWN_GROUP = "UNKNOWN_GROUP"
    UNKNOWN_DRIVER = "UNKNOWN_DRIVER"
    UNKNOWN_VEHICLE = "UNKNOWN_VEHICLE"
    UNKNOWN_CALENDAR = "UNKNOWN_CALENDAR"
    TWICE = "TWICE"
    UNFIT = "UNFIT"
    # It can be published, and does not do what somebody meant.
    NOBODY_CHARGES = "NOBODY_CHARGES"
    NEVER_OPEN = "NEVER_OPEN"
    NEVER_VALID = "NEVER_VALID"
    NO_EFFECT = "NO_EFFECT"
    CONTRADICTION = "CONTRADICTION"
    UNANSWERABLE = "UNANSWERABLE"
    UNKNOWN_SITE = "UNKNOWN_SITE"
    UNKNOWN_COUNTRY = "UNKNOWN_COUNTRY"
    UNKNOWN_CONNECTOR = "UNKNOWN_CONNECTOR"
    CALENDAR_PAST = "CALENDAR_PAST"
    CALENDAR_ENDS_SOON = "CALENDAR_ENDS_SOON"
    EXPIRED = "EXPIRED"
    UNUSED = "UNUSED"


@dataclass(frozen=True, slots=True, kw_only=True)
class Remark:
    """`place` says where in the file for people: groups.vans.schedule, token 3."""

    severity: Severity
    code: Code
    file: str
    line: int | None
    place: str
    text: str

    def __str__(self) -> str:
        where = self.file if self.line is None else f"{self.file}:{self.line}"
        return f"{where}: {self.place}: {self.text}" if self.place else f"{where}: {self.text}"


def in_order(remarks: Iterable[Remark]) -> list[Remark]:
    """As one reads: file by file, from the top; each once."""
    return sorted(dict.fromkeys(remarks), key=lambda each: (each.file, each.line or 0, each.place, each.text))


def is_fit(remarks: Iterable[Remark]) -> bool:
    return all(each.severity is not Severity.ERROR for each in remarks)
