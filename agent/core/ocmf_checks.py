"""Are the readings of one charge fit for a bill? The checks of the public S.A.F.E. verifier, each with its own finding.

The signature is agent/ocmf_signatures.py; a record can be signed well and still be unfit.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from dataclasses import dataclass
from datetime import timedelta
from decimal import Decimal
from itertools import pairwise

from agent.core.findings import Finding, Severity
from agent.core.ocmf import ENDS, Clock, Fault, Reading, Reason, Record

USER_ERRORS = frozenset(("MISMATCH", "INVALID", "OUTDATED", "UNKNOWN"))
LEGAL_CLOCKS = frozenset((Clock.SYNCHRONISED, Clock.RELATIVE))
GOOD = "G"


@dataclass(frozen=True, slots=True, kw_only=True)
class Metered:
    """What the law-relevant readings of a charge say; None where they do not. Time may be billed only if `timed`."""

    energy_wh: Decimal | None
    duration: timedelta | None
    timed: bool


@dataclass(frozen=True, slots=True, kw_only=True)
class Checked:
    metered: Metered
    findings: tuple[Finding, ...]


def check(records: tuple[Record, ...]) -> Checked:
    """The records of one charge, in order: start and end are in one record or in two."""
    findings = [*_records(records), *_sequence(records)]
    transactions = tuple(record for record in records if (record.pagination or "T")[:1] == "T")
    readings = tuple(reading for record in transactions for reading in record.readings)
    if not readings:
        if transactions:
            findings.append(_error(Fault.NO_READINGS, "$.payload.RD", "There is no reading"))
        return Checked(metered=Metered(energy_wh=None, duration=None, timed=False), findings=tuple(findings))
    relevant = law_relevant(readings)
    if not relevant:
        text = "No reading is of a register that the law counts (A = 1, D = 8, C = 1, 98, 9E, B0 to C7)"
        findings.append(_error(Fault.NOT_RELEVANT, "$.payload.RD", text))
    begins = [reading for reading in relevant if reading.reason is Reason.BEGIN]
    ends = [reading for reading in relevant if reading.reason in ENDS]
    if relevant and (len(begins) != 1 or len(ends) != 1):
        text = f"There must be one reading at the begin and one at the end; there are {len(begins)} and {len(ends)}"
        findings.append(_error(Fault.BEGIN_AND_END, "$.payload.RD", text))
    for place, reading in (("begin", begins), ("end", ends)):
        for one in reading:
            findings += _reading(one, place)
    findings += [
        _error(Fault.EXCEPTION, "$.payload.RD", "An exception was recorded: from there on the values are not usable")
        for reading in relevant
        if reading.reason is Reason.EXCEPTION
    ]
    metered = Metered(energy_wh=None, duration=None, timed=False)
    if len(begins) == len(ends) == 1:
        found, metered = _pair(begins[0], ends[0])
        findings += found
    return Checked(metered=metered, findings=tuple(findings))


def law_relevant(readings: tuple[Reading, ...]) -> tuple[Reading, ...]:
    """Registers of energy; when there are loss-compensated ones, only these."""
    found = [(reading, register) for reading in readings if (register := _register(reading.obis)) is not None]
    compensated = tuple(reading for reading, register in found if register in COMPENSATED)
    return compensated or tuple(reading for reading, _ in found)


COMPENSATED = frozenset((0x98, 0xB1, 0xB3, 0xC1, 0xC3))
COUNTED = frozenset((0x01, 0x98, 0x9E, *range(0xB0, 0xC8)))
OBIS = re.compile(r"0*([0-9A-F]+)-([0-9A-Z]+):([0-9A-F]{1,2})\.([0-9A-F]{1,2})\.([0-9A-F]{1,2})(?:[.*][0-9A-F]{1,2})?")


def _register(obis: str | None) -> int | None:
    """The field C of A-B:C.D.E*F when A is 1 (electricity) and D is 8 (a register of energy)."""
    match = OBIS.fullmatch((obis or "").strip().upper())
    if match is None or int(match[1], 16) != 1 or int(match[4], 16) != 8:
        return None
    register = int(match[3], 16)
    return register if register in COUNTED else None


def _records(records: tuple[Record, ...]) -> Iterator[Finding]:
    for record in records:
        if record.version is not None and not re.fullmatch(r"[01]\.\d+", record.version, re.ASCII):
            text = f"The format version {record.version!r} is not known here; read as 1.x"
            yield _warning(Fault.VERSION_UNKNOWN, "$.payload.FV", text)
        if record.pagination is None:
            yield _error(
                Fault.PAGINATION, "$.payload.PG", "The pagination is missing: a record could be left out unseen"
            )
        elif not re.fullmatch(r"[TF](0|[1-9]\d*)", record.pagination, re.ASCII):
            text = f"The pagination {record.pagination!r} is not T or F and a number without leading zeros"
            yield _error(Fault.PAGINATION, "$.payload.PG", text)
        if not record.meter_serial and not record.gateway_serial:
            yield _error(Fault.SERIAL_MISSING, "$.payload.MS", "Neither the meter nor the gateway has a serial number")
        if record.user_level in USER_ERRORS:
            yield _error(Fault.USER_ASSIGNMENT, "$.payload.IL", f"The user assignment failed: {record.user_level}")


def _sequence(records: tuple[Record, ...]) -> Iterator[Finding]:
    for before, after in pairwise(records):
        if (before.meter_serial, before.gateway_serial) != (after.meter_serial, after.gateway_serial):
            yield _error(Fault.SOURCE_DIFFERS, "$.payload.MS", "The records are not from the same meter and gateway")
        first, second = before.pagination or "", after.pagination or ""
        # Each context, T and F, counts for itself.
        if first and first[:1] == second[:1] and _number(second) != _number(first) + 1:
            text = f"{second} does not follow {first}: a record is missing or was added"
            yield _error(Fault.PAGINATION, "$.payload.PG", text)


def _number(pagination: str) -> int:
    """-2 for what is no pagination, so that nothing follows it and it follows nothing."""
    return int(pagination[1:]) if re.fullmatch(r"[TF]\d{1,18}", pagination, re.ASCII) else -2


def _reading(reading: Reading, place: str) -> Iterator[Finding]:
    path = "$.payload.RD"
    missing = [
        name
        for name, value in (("TM", reading.time), ("RV", reading.value), ("RU", reading.unit), ("ST", reading.state))
        if value is None
    ]
    if missing:
        text = f"The reading at the {place} lacks {', '.join(missing)}"
        yield _error(Fault.READING_INCOMPLETE, path, text)
    if reading.state not in (None, GOOD):
        yield _error(Fault.METER_STATE, path, f"The meter's state at the {place} is {reading.state!r}, not G")
    if reading.error_flags:
        text = f"At the {place} the flags {reading.error_flags!r} say what is no longer usable for billing"
        yield _error(Fault.ERROR_FLAGS, path, text)
    if reading.time is not None and reading.clock is None:
        yield _error(Fault.CLOCK_STATUS, path, f"The time at the {place} has no clock status (U, I, S or R)")


def _pair(begin: Reading, end: Reading) -> tuple[list[Finding], Metered]:
    findings: list[Finding] = []
    first, last = begin.energy_wh, end.energy_wh
    energy = None
    if first is None or last is None or begin.obis != end.obis:
        text = "Begin and end are not of the same register in kWh or Wh, so their difference is no energy"
        findings.append(_error(Fault.UNITS_DIFFER, "$.payload.RD", text))
    elif last < first:
        text = f"The meter goes down from {first} to {last} Wh"
        findings.append(_error(Fault.VALUE_DECREASES, "$.payload.RD", text))
    else:
        energy = last - first
    duration = None if begin.time is None or end.time is None else end.time - begin.time
    if duration is not None and duration < timedelta(0):
        findings.append(_error(Fault.TIME_DECREASES, "$.payload.RD", "The end is before the begin"))
        duration = None
    if begin.clock is Clock.RELATIVE and end.clock is not Clock.RELATIVE:
        text = "The time at the begin is relative, so the one at the end must be"
        findings.append(_error(Fault.CLOCK_STATUS, "$.payload.RD", text))
    # MessEG, § 33: no tariff on time stamps of a clock that is not certified.
    timed = duration is not None and begin.clock in LEGAL_CLOCKS and end.clock in LEGAL_CLOCKS
    if not timed:
        text = "The clock is not synchronised nor relative at both ends: energy may be billed by this record, time not"
        findings.append(_warning(Fault.CLOCK_NOT_FOR_BILLING, "$.payload.RD", text))
    return findings, Metered(energy_wh=energy, duration=duration, timed=timed)


def _error(code: Fault, path: str, text: str) -> Finding:
    return Finding(code=code, path=path, severity=Severity.ERROR, text=text)


def _warning(code: Fault, path: str, text: str) -> Finding:
    return Finding(code=code, path=path, severity=Severity.WARNING, text=text)
