"""What is odd in a tariff, a charge record or an evidence record, said so that a person and a program can act on it.

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


class Code(StrEnum):
    """Every finding there is; the wording may change, the code does not."""

    # reading
    MALFORMED = "MALFORMED"
    MISSING_FIELD = "MISSING_FIELD"
    WRONG_TYPE = "WRONG_TYPE"
    NUMBER_AS_TEXT = "NUMBER_AS_TEXT"
    OUT_OF_RANGE = "OUT_OF_RANGE"
    UNKNOWN_VALUE = "UNKNOWN_VALUE"
    UNKNOWN_FIELD = "UNKNOWN_FIELD"
    WRONG_CASE = "WRONG_CASE"
    TIME_FORMAT = "TIME_FORMAT"
    TIME_UNKNOWN = "TIME_UNKNOWN"
    VERSION_ASSUMED = "VERSION_ASSUMED"
    TAX_UNKNOWN = "TAX_UNKNOWN"
    # periods
    PERIODS_UNSORTED = "PERIODS_UNSORTED"
    PERIOD_REPEATED = "PERIOD_REPEATED"
    PERIOD_OUTSIDE_SESSION = "PERIOD_OUTSIDE_SESSION"
    PERIODS_OVERLAP = "PERIODS_OVERLAP"
    PERIODS_MISSING = "PERIODS_MISSING"
    SESSION_ENDS_BEFORE_START = "SESSION_ENDS_BEFORE_START"
    NEGATIVE_VOLUME = "NEGATIVE_VOLUME"
    TIME_DIFFERS_FROM_STAMPS = "TIME_DIFFERS_FROM_STAMPS"
    TOTAL_DIFFERS_FROM_PERIODS = "TOTAL_DIFFERS_FROM_PERIODS"
    # pricing
    NO_TARIFF = "NO_TARIFF"
    TARIFF_ID_DIFFERS = "TARIFF_ID_DIFFERS"
    TARIFF_NOT_IN_FORCE = "TARIFF_NOT_IN_FORCE"
    CURRENCY_DIFFERS = "CURRENCY_DIFFERS"
    ZONE_UNKNOWN = "ZONE_UNKNOWN"
    POWER_UNKNOWN = "POWER_UNKNOWN"
    CURRENT_UNKNOWN = "CURRENT_UNKNOWN"
    PERIOD_CROSSES_BOUNDARY = "PERIOD_CROSSES_BOUNDARY"
    PERIOD_SPLIT = "PERIOD_SPLIT"
    STEP_GUARD_USED = "STEP_GUARD_USED"
    LIMIT_ON_ONE_BASIS = "LIMIT_ON_ONE_BASIS"
    RESERVATION_EXPIRED = "RESERVATION_EXPIRED"
    STATION_PAUSE_NOT_PARKING = "STATION_PAUSE_NOT_PARKING"
    NOTHING_TO_COMPARE = "NOTHING_TO_COMPARE"
    # lint
    NEVER_APPLIES = "NEVER_APPLIES"
    REDUNDANT_COMPONENT = "REDUNDANT_COMPONENT"
    GAP = "GAP"
    DATES = "DATES"
    STEP_SIZE = "STEP_SIZE"
    PRICE_LIMITS = "PRICE_LIMITS"
    END_OF_DAY = "END_OF_DAY"
    RESERVATION_DIMENSION = "RESERVATION_DIMENSION"
    NEGATIVE_PRICE = "NEGATIVE_PRICE"
    TOO_COMPLEX = "TOO_COMPLEX"


@dataclass(frozen=True, slots=True, kw_only=True)
class Finding:
    """`path` is a JSON path into the document that was read ($.elements[2].restrictions), or into the record priced."""

    code: Code
    path: str
    severity: Severity
    text: str


def unique(findings: Iterable[Finding]) -> tuple[Finding, ...]:
    """Each finding once, in the order in which it was first seen."""
    return tuple(dict.fromkeys(findings))


def is_sound(findings: Iterable[Finding]) -> bool:
    """True when nothing was read wrongly: only then may a bound or a reservation be built on the value."""
    return all(finding.severity is not Severity.ERROR for finding in findings)
