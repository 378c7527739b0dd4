"""JSON from OCPI peers under inspection: numbers stay Decimal, every field is checked, whatever is odd is a finding.

Patient with peers: unknown fields, numbers as text and wrong letter case are taken and reported. What cannot be
understood is left out and reported as an ERROR, so that nobody builds a bound on half a tariff; nothing raises.
Which fields there are: tariffs.py and records.py beside this.
"""

from __future__ import annotations

import json
import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from decimal import Decimal, InvalidOperation
from enum import StrEnum
from typing import TypeVar

from agent.core.findings import Finding, Severity
from agent.core.tariff.codes import Code

MAX_DIGITS = 30  # a number with more is no price; it would only make arithmetic slow
MAX_MAGNITUDE = 12  # 10^12 in any currency, kWh or hours is a broken document
MAX_ITEMS = 100_000  # periods or elements of one document; a day of seconds
EARLIEST_YEAR, LATEST_YEAR = 1971, 2200  # outside of these there is no charging session, and arithmetic may overflow
EPOCH_PLACEHOLDERS = ("1970-1-1T00:00:00Z", "1970-01-01T00:00:00Z")

Json = object
E = TypeVar("E", bound=StrEnum)


def parse(text: str | bytes) -> tuple[Json, tuple[Finding, ...]]:
    """JSON with every number as a Decimal, never through a float. Never raises; (None, findings) when it is no JSON."""
    try:
        return json.loads(text, parse_float=decimal_of, parse_int=decimal_of, parse_constant=decimal_of), ()
    except (ValueError, RecursionError) as error:  # UnicodeDecodeError is a ValueError
        reason = "it is nested too deeply" if isinstance(error, RecursionError) else str(error)
        text_ = f"The document is not JSON: {reason}"
        return None, (Finding(code=Code.MALFORMED, path="$", severity=Severity.ERROR, text=text_),)


def decimal_of(text: str) -> Decimal:
    try:
        return Decimal(text)
    except InvalidOperation:
        return Decimal("NaN")


def documents(document: Json, notes: Notes) -> Iterator[Node]:
    path = "$"
    if isinstance(document, dict) and "data" in document and ("status_code" in document or len(document) == 1):
        document, path = document["data"], "$.data"
    if isinstance(document, dict):
        yield Node(document, path, notes)
    elif isinstance(document, list):
        for index, item in enumerate(document[:MAX_ITEMS]):
            if isinstance(item, dict):
                yield Node(item, f"{path}[{index}]", notes)
            else:
                notes.add(Code.WRONG_TYPE, f"{path}[{index}]", Severity.ERROR, "This item is not an object")
    elif not notes.findings:
        notes.add(Code.WRONG_TYPE, path, Severity.ERROR, "The document is neither an object nor a list of objects")


@dataclass(slots=True)
class Notes:
    findings: list[Finding] = field(default_factory=list)

    def add(self, code: Code, path: str, severity: Severity, text: str) -> None:
        self.findings.append(Finding(code=code, path=path, severity=severity, text=text))


@dataclass(slots=True)
class Node:
    """A JSON object and where it is. Asking for a field checks its type and writes down what is wrong."""

    value: Mapping[str, Json]
    path: str
    notes: Notes

    def error(self, code: Code, name: str, text: str) -> None:
        self.notes.add(code, self._at(name), Severity.ERROR, text)

    def warn(self, code: Code, name: str, text: str) -> None:
        self.notes.add(code, self._at(name), Severity.WARNING, text)

    def inform(self, code: Code, name: str, text: str) -> None:
        self.notes.add(code, self._at(name), Severity.INFO, text)

    def has(self, name: str) -> bool:
        return self.value.get(name) is not None

    def know(self, *names: str) -> Node:
        """The same object, its fields in the letter case of OCPI; what OCPI does not have is reported."""
        spelled = {name.lower(): name for name in names}
        fields: dict[str, Json] = {}
        for key, value in self.value.items():
            known = spelled.get(key.lower())
            if known is None:
                self.inform(Code.UNKNOWN_FIELD, key, f"OCPI has no field {key!r} here; it is ignored")
            elif known != key and known in self.value:
                self.warn(Code.WRONG_CASE, key, f"{key!r} stands beside {known!r}; it is ignored")
            else:
                if known != key:
                    self.warn(Code.WRONG_CASE, key, f"The field is called {known!r}; {key!r} is taken for it")
                fields[known] = value
        return Node(fields, self.path, self.notes)

    def text(self, name: str, *, required: bool = False) -> str | None:
        value = self.value.get(name)
        if value is None:
            if required:
                self.error(Code.MISSING_FIELD, name, f"{name} is mandatory and missing")
            return None
        if isinstance(value, Decimal) and value.is_finite() and abs(value.adjusted()) <= MAX_MAGNITUDE:
            self.warn(Code.WRONG_TYPE, name, f"{name} is a number and should be text")
            return format(value, "f")
        if not isinstance(value, str):
            self.error(Code.WRONG_TYPE, name, f"{name} is not text")
            return None
        return value

    def number(self, name: str, *, required: bool = False) -> Decimal | None:
        value = self.value.get(name)
        if value is None:
            if required:
                self.error(Code.MISSING_FIELD, name, f"{name} is mandatory and missing")
            return None
        if isinstance(value, str):
            value = decimal_of(value.strip())
            if value.is_finite():
                self.warn(Code.NUMBER_AS_TEXT, name, f"{name} is text and should be a number")
        if not isinstance(value, Decimal):
            self.error(Code.WRONG_TYPE, name, f"{name} is not a number")
            return None
        if not value.is_finite() or len(value.as_tuple().digits) > MAX_DIGITS or abs(value.adjusted()) > MAX_MAGNITUDE:
            self.error(Code.OUT_OF_RANGE, name, f"{name} is not a number that a tariff or a session can have")
            return None
        return value

    def enum(self, name: str, kind: type[E], *, required: bool = False) -> E | None:
        text = self.text(name, required=required)
        if text is None:
            return None
        found = next((one for one in kind if one.value == text.strip().upper()), None)
        if found is None:
            self.error(Code.UNKNOWN_VALUE, name, f"{name} is {text!r}; known are {', '.join(kind)}")
        elif found.value != text:
            self.warn(Code.WRONG_CASE, name, f"{name} is {text!r} and should be {found.value}")
        return found

    def moment(self, name: str, *, required: bool = False) -> datetime | None:
        """UTC. None is unknown, also for the placeholder 1970-1-1T00:00:00Z."""
        text = self.text(name, required=required)
        if text is None:
            return None
        if text in EPOCH_PLACEHOLDERS:
            self.inform(Code.TIME_UNKNOWN, name, f"{name} is the placeholder for an unknown time")
            return None
        match = re.fullmatch(
            r"(\d{4}-\d\d-\d\d[Tt ]\d\d:\d\d:\d\d)(?:\.(\d{1,9}))?([Zz]|[+-]\d\d:?\d\d)?", text.strip(), re.ASCII
        )
        try:
            if match is None:
                raise ValueError(text)
            whole, fraction, zone = match.groups()
            moment = datetime.fromisoformat(whole.upper().replace(" ", "T") + (zone or "Z").upper())
            if not EARLIEST_YEAR <= moment.year <= LATEST_YEAR:
                raise ValueError(text)
            moment = moment.astimezone(UTC) + timedelta(microseconds=int((fraction or "0").ljust(6, "0")[:6]))
        except (ValueError, OverflowError):
            self.error(
                Code.TIME_FORMAT, name, f"{name} is {text!r}, which is no OCPI DateTime of a session or a tariff"
            )
            return None
        if zone is not None and zone.upper() != "Z":
            self.warn(Code.TIME_FORMAT, name, f"{name} has the offset {zone}; OCPI allows only UTC")
        return moment

    def child(self, name: str) -> Node | None:
        value = self.value.get(name)
        if value is None:
            return None
        if not isinstance(value, dict):
            self.error(Code.WRONG_TYPE, name, f"{name} is not an object")
            return None
        return Node(value, self._at(name), self.notes)

    def children(self, name: str, *, required: bool = False) -> Iterator[tuple[int, Node]]:
        value = self.value.get(name)
        if value is None:
            if required:
                self.error(Code.MISSING_FIELD, name, f"{name} is mandatory and missing")
            return
        if isinstance(value, dict):
            self.warn(Code.WRONG_TYPE, name, f"{name} is one object and should be a list")
            value = [value]
        if not isinstance(value, list):
            self.error(Code.WRONG_TYPE, name, f"{name} is not a list")
            return
        if len(value) > MAX_ITEMS:
            self.error(Code.OUT_OF_RANGE, name, f"{name} has {len(value)} items; at most {MAX_ITEMS} are read")
        if required and not value:
            self.error(Code.MISSING_FIELD, name, f"{name} is empty and needs at least one item")
        for index, item in enumerate(value[:MAX_ITEMS]):
            if isinstance(item, dict):
                yield index, Node(item, f"{self._at(name)}[{index}]", self.notes)
            else:
                self.error(Code.WRONG_TYPE, f"{name}[{index}]", f"{name}[{index}] is not an object")

    def _at(self, name: str) -> str:
        return f"{self.path}.{name}"


def currency_of(node: Node) -> str:
    text = node.text("currency", required=True) or ""
    code = text.strip().upper()
    if text and not re.fullmatch(r"[A-Z]{3}", code, re.ASCII):
        node.error(Code.UNKNOWN_VALUE, "currency", f"currency is {text!r}, which is no ISO 4217 code")
    elif code != text:
        node.warn(Code.WRONG_CASE, "currency", f"currency is {text!r} and should be {code}")
    return code
