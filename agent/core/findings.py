"""What is odd in a document, said so that a person and a program can act on it.

Nothing here decides what follows from a finding: an ERROR means that the value read is not the whole truth, so whoever
spends money on it (budgets, caps) treats the price as unknown.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from enum import StrEnum


class Severity(StrEnum):
    INFO = "info"
    WARNING = "warning"
    ERROR = "error"


@dataclass(frozen=True, slots=True, kw_only=True)
class Finding:
    """`path` is a JSON path into the document that was read: $.elements[2].restrictions."""

    code: StrEnum
    path: str
    severity: Severity
    text: str


def unique(findings: Iterable[Finding]) -> tuple[Finding, ...]:
    """Each finding once, in the order in which it was first seen."""
    return tuple(dict.fromkeys(findings))


def is_sound(findings: Iterable[Finding]) -> bool:
    """True when nothing was read wrongly: only then may a bound or a reservation be built on the value."""
    return all(finding.severity is not Severity.ERROR for finding in findings)
