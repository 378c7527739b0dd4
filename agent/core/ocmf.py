"""OCMF records (Open Charge Metering Format 1.x): read leniently, kept byte for byte.

    OCMF|<payload JSON>|<signature JSON>

The payload's bytes are what is signed, so they are never written again from what was read. Whether the signature holds
is agent/ocmf_signatures.py; whether the readings are fit for a bill is ocmf_checks.py. The identification (a card's
UID) stays inside the bytes: it is not read.
"""

from __future__ import annotations

import json
import re
from collections import Counter
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from datetime import datetime
from decimal import Decimal, InvalidOperation
from enum import StrEnum

from agent.core.findings import Finding, Severity

HEADER = b"OCMF|"
DEFAULT_ALGORITHM = "ECDSA-secp256r1-SHA256"
MAX_BYTES = 1024 * 1024  # a record of a thousand readings is 150 kB
MAX_READINGS = 10_000


class Fault(StrEnum):
    """Every finding there is on an OCMF record."""

    # reading
    MALFORMED = "MALFORMED"
    TRAILING_TEXT = "TRAILING_TEXT"
    REPEATED_KEY = "REPEATED_KEY"
    WRONG_TYPE = "WRONG_TYPE"
    NUMBER_AS_TEXT = "NUMBER_AS_TEXT"
    UNKNOWN_UNIT = "UNKNOWN_UNIT"
    TIME_FORMAT = "TIME_FORMAT"
    # checking
    VERSION_UNKNOWN = "VERSION_UNKNOWN"
    PAGINATION = "PAGINATION"
    SERIAL_MISSING = "SERIAL_MISSING"
    SOURCE_DIFFERS = "SOURCE_DIFFERS"
    NO_READINGS = "NO_READINGS"
    NOT_RELEVANT = "NOT_RELEVANT"
    BEGIN_AND_END = "BEGIN_AND_END"
    READING_INCOMPLETE = "READING_INCOMPLETE"
    UNITS_DIFFER = "UNITS_DIFFER"
    VALUE_DECREASES = "VALUE_DECREASES"
    TIME_DECREASES = "TIME_DECREASES"
    USER_ASSIGNMENT = "USER_ASSIGNMENT"
    METER_STATE = "METER_STATE"
    ERROR_FLAGS = "ERROR_FLAGS"
    EXCEPTION = "EXCEPTION"
    CLOCK_STATUS = "CLOCK_STATUS"
    CLOCK_NOT_FOR_BILLING = "CLOCK_NOT_FOR_BILLING"


class Reason(StrEnum):
    """TX: why the meter was read."""

    BEGIN = "B"
    CHARGING = "C"
    EXCEPTION = "X"
    END = "E"
    ENDED_LOCALLY = "L"
    ENDED_REMOTELY = "R"
    ABORTED = "A"
    POWER_FAILURE = "P"
    SUSPENDED = "S"
    TARIFF_CHANGE = "T"


class Clock(StrEnum):
    """How far the time of a reading can be believed."""

    UNSYNCHRONISED = "U"
    INFORMATIVE = "I"
    SYNCHRONISED = "S"
    RELATIVE = "R"


ENDS = frozenset((Reason.END, Reason.ENDED_LOCALLY, Reason.ENDED_REMOTELY, Reason.ABORTED, Reason.POWER_FAILURE))
WH_PER_UNIT = {"kwh": Decimal(1000), "wh": Decimal(1)}
KNOWN_UNITS = frozenset(("kwh", "wh", "mohm", "uohm", "s"))


@dataclass(frozen=True, slots=True, kw_only=True)
class Reading:
    """What a reading says together with what it inherits from the one before it. `value` keeps its decimals."""

    time: datetime | None
    clock: Clock | None
    reason: Reason | None
    value: Decimal | None
    obis: str | None
    unit: str | None
    error_flags: str
    state: str | None

    @property
    def energy_wh(self) -> Decimal | None:
        factor = WH_PER_UNIT.get((self.unit or "").lower())
        return None if self.value is None or factor is None else self.value * factor


@dataclass(frozen=True, slots=True, kw_only=True)
class Signature:
    """As the record states it; nothing is decoded here."""

    algorithm: str = DEFAULT_ALGORITHM
    encoding: str = "hex"
    media_type: str = "application/x-der"
    text: str = field(default="", repr=False)


@dataclass(frozen=True, slots=True, kw_only=True)
class Record:
    """`payload` are the signed bytes, exactly. `whole` is the record as it was found, to be kept with the session."""

    whole: bytes = field(repr=False)
    payload: bytes = field(repr=False)
    signature: Signature
    version: str | None
    pagination: str | None
    gateway_serial: str | None
    meter_serial: str | None
    charge_point: str | None
    user_level: str | None
    readings: tuple[Reading, ...]


@dataclass(frozen=True, slots=True, kw_only=True)
class Read:
    """`record` is None when the bytes are no OCMF record at all."""

    record: Record | None
    findings: tuple[Finding, ...]


def read_all(data: bytes) -> tuple[Read, ...]:
    """Every record in a text, one after the other: start and end may come as two records (OCMF, best practice "SR")."""
    starts = [match.start() for match in re.finditer(re.escape(HEADER), data)]
    if not starts:
        return (read(data),)
    return tuple(read(data[begin:end]) for begin, end in zip(starts, [*starts[1:], len(data)], strict=True))


def read(data: bytes) -> Read:
    """One record. White space around it is no part of it; everything between the bars is."""
    notes = _Notes()
    whole = data.removeprefix(b"\xef\xbb\xbf").strip()
    sections = whole.split(b"|")
    if len(whole) > MAX_BYTES:
        notes.error(Fault.MALFORMED, "$", f"The record has {len(whole)} bytes; at most {MAX_BYTES} are read")
    elif len(sections) != 3 or sections[0] != b"OCMF":
        notes.error(Fault.MALFORMED, "$", "An OCMF record is OCMF|payload|signature, without a | inside either")
    else:
        payload, signature = _object(sections[1], "$.payload", notes), _object(sections[2], "$.signature", notes)
        if payload is not None and signature is not None:
            record = _record(whole, sections[1], payload, signature, notes)
            return Read(record=record, findings=tuple(notes.findings))
    return Read(record=None, findings=tuple(notes.findings))


@dataclass(slots=True)
class _Notes:
    findings: list[Finding] = field(default_factory=list)

    def error(self, code: Fault, path: str, text: str) -> None:
        self.findings.append(Finding(code=code, path=path, severity=Severity.ERROR, text=text))

    def warn(self, code: Fault, path: str, text: str) -> None:
        self.findings.append(Finding(code=code, path=path, severity=Severity.WARNING, text=text))


def _object(section: bytes, path: str, notes: _Notes) -> Mapping[str, object] | None:
    """A JSON object. A key that stands twice is an error: two readers could see two different bills."""

    def once(pairs: list[tuple[str, object]]) -> dict[str, object]:
        for key, count in Counter(key for key, _ in pairs).items():
            if count == 1:
                continue
            notes.error(Fault.REPEATED_KEY, f"{path}.{key}", f"The key {key!r} stands twice; readers may differ on it")
        return dict(pairs)

    try:
        text = section.decode("utf-8").lstrip()
        value, end = json.JSONDecoder(
            object_pairs_hook=once, parse_float=_decimal, parse_int=_decimal, parse_constant=_decimal
        ).raw_decode(text)
    except (ValueError, RecursionError) as error:
        reason = "nested too deeply" if isinstance(error, RecursionError) else "not JSON in UTF-8"
        notes.error(Fault.MALFORMED, path, f"This section is {reason}")
        return None
    if text[end:].strip():
        notes.warn(Fault.TRAILING_TEXT, path, "There is text after the JSON of this section")
    if not isinstance(value, dict):
        notes.error(Fault.MALFORMED, path, "This section is not a JSON object")
        return None
    return value


def _decimal(text: str) -> Decimal:
    try:
        return Decimal(text)
    except InvalidOperation:
        return Decimal("NaN")


def _record(
    whole: bytes, payload: bytes, fields: Mapping[str, object], signature: Mapping[str, object], notes: _Notes
) -> Record:
    def text(name: str, section: Mapping[str, object] = fields, path: str = "$.payload") -> str | None:
        value = section.get(name)
        if value is not None and not isinstance(value, str):
            notes.warn(Fault.WRONG_TYPE, f"{path}.{name}", f"{name} is not text")
            return str(value) if isinstance(value, Decimal) else None
        return value

    def signed(name: str, default: str) -> str:
        return text(name, signature, "$.signature") or default

    return Record(
        whole=whole,
        payload=payload,
        signature=Signature(
            algorithm=signed("SA", DEFAULT_ALGORITHM),
            encoding=signed("SE", "hex"),
            media_type=signed("SM", "application/x-der"),
            text=signed("SD", ""),
        ),
        version=text("FV"),
        pagination=text("PG"),
        gateway_serial=text("GS"),
        meter_serial=text("MS"),
        charge_point=text("CI"),
        user_level=text("IL"),
        readings=tuple(_readings(fields.get("RD"), notes)),
    )


def _readings(value: object, notes: _Notes) -> Iterator[Reading]:
    if value is None:
        return
    if not isinstance(value, list) or len(value) > MAX_READINGS:
        notes.error(Fault.WRONG_TYPE, "$.payload.RD", f"RD is not a list of at most {MAX_READINGS} readings")
        return
    carried: dict[str, object] = {}
    for index, item in enumerate(value):
        path = f"$.payload.RD[{index}]"
        if not isinstance(item, dict):
            notes.error(Fault.WRONG_TYPE, path, "This reading is not an object")
            continue
        carried.update(item)  # what is omitted repeats the reading before it
        yield _reading(carried, path, notes)


def _reading(fields: Mapping[str, object], path: str, notes: _Notes) -> Reading:
    time, clock = _time(fields.get("TM"), f"{path}.TM", notes)
    unit, flags = fields.get("RU"), fields.get("EF")
    if isinstance(unit, str) and unit.lower() not in KNOWN_UNITS:
        notes.warn(Fault.UNKNOWN_UNIT, f"{path}.RU", f"The unit {unit!r} is none of OCMF")
    state, obis = fields.get("ST"), fields.get("RI")
    return Reading(
        time=time,
        clock=clock,
        reason=_reason(fields.get("TX"), f"{path}.TX", notes),
        value=_value(fields.get("RV"), f"{path}.RV", notes),
        obis=obis if isinstance(obis, str) else None,
        unit=unit if isinstance(unit, str) else None,
        error_flags=flags if isinstance(flags, str) else "",
        state=state if isinstance(state, str) else None,
    )


def _reason(value: object, path: str, notes: _Notes) -> Reason | None:
    if value is None:
        return None
    found = next((one for one in Reason if one.value == value), None)
    if found is None:
        notes.error(Fault.WRONG_TYPE, path, "TX is none of the reasons of OCMF")
    return found


def _value(value: object, path: str, notes: _Notes) -> Decimal | None:
    if value is None:
        return None
    if isinstance(value, str):  # seen in the field: "       9.038"
        notes.warn(Fault.NUMBER_AS_TEXT, path, "RV is text and should be a number")
        value = _decimal(value.strip())
    if not isinstance(value, Decimal) or not value.is_finite() or abs(value.adjusted()) > 15:
        notes.error(Fault.WRONG_TYPE, path, "RV is no number that a meter can show")
        return None
    return value


TIME = re.compile(
    r"(\d{4}-\d\d-\d\d)T(\d\d:\d\d:\d\d)(?:[,.](\d{1,6})\d*)?\s*(Z|[+-]\d\d:?\d\d)(?:\s+([A-Za-z]))?", re.ASCII
)


def _time(value: object, path: str, notes: _Notes) -> tuple[datetime | None, Clock | None]:
    """2018-07-24T13:22:04,000+0200 S; a point for the comma, a colon in the zone and Z are taken too."""
    if value is None:
        return None, None
    match = TIME.fullmatch(value.strip()) if isinstance(value, str) else None
    try:
        if match is None:
            raise ValueError(path)
        day, clock_time, fraction, zone, status = match.groups()
        time = datetime.fromisoformat(f"{day}T{clock_time}.{(fraction or '0').ljust(6, '0')}{zone}")
    except (ValueError, OverflowError):
        notes.error(Fault.TIME_FORMAT, path, "TM is no time of OCMF, such as 2018-07-24T13:22:04,000+0200 S")
        return None, None
    return time, next((one for one in Clock if one.value == (status or "").upper()), None)
