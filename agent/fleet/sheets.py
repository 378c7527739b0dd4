"""The files of a policy folder as values, each with the lines on which things stand. What they must say is source.py.

A sheet is NAME.toml, NAME.yaml or NAME.csv: the same entries, however they are written. TOML needs nothing installed.
"""

from __future__ import annotations

import csv
import io
import tomllib
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from datetime import date, time
from decimal import Decimal
from pathlib import Path
from typing import Any

from agent.core.findings import Severity
from agent.fleet import toml_places
from agent.fleet.remarks import Code, Remark
from agent.fleet.yaml_text import YamlMissing, YamlUnfit, read_yaml

Place = tuple[str | int, ...]
SUFFIXES = (".toml", ".yaml", ".yml")


class SourceMissing(Exception):
    """The folder, or a file that it must have, is not there."""


@dataclass(slots=True)
class Sheet:
    """One file. `line` is asked only when there is something to say, and then the text is walked through once."""

    file: str
    value: dict[str, Any]
    text: str = field(default="", repr=False)
    places: Mapping[Place, int] | None = field(default=None, repr=False)

    def line(self, *place: str | int) -> int | None:
        """Where this, or the nearest thing around it, is written."""
        if self.places is None:
            self.places = toml_places.lines_of(self.text) if self.text else {}
        return next((self.places[place[:n]] for n in range(len(place), 0, -1) if place[:n] in self.places), None)

    def remark(self, code: Code, text: str, *place: str | int, severity: Severity = Severity.ERROR) -> Remark:
        named = ".".join(str(each) for each in place)
        line = self.line(*place)
        return Remark(severity=severity, code=code, file=self.file, line=line, place=named, text=text)


def find(folder: Path, name: str) -> Path | None:
    """The one file with this name. Two of them would be two truths: raises SourceMissing, which says so."""
    found = [path for path in (folder / f"{name}{suffix}" for suffix in SUFFIXES) if path.exists()]
    if len(found) > 1:
        raise SourceMissing(f"{found[0]} and {found[1].name} are both there: keep one of them")
    return found[0] if found else None


def read(path: Path, remarks: list[Remark]) -> Sheet:
    """An empty sheet, with a remark, when the file cannot be read. Raises SourceMissing."""
    sheet = Sheet(path.name, {})
    try:
        text = path.read_text(encoding="utf-8-sig")
        if path.suffix == ".toml":
            return Sheet(path.name, tomllib.loads(text, parse_float=Decimal), text)
        value, places = read_yaml(text)
        if not isinstance(value, dict):
            raise YamlUnfit(1, "must be keys with their values")
        return Sheet(path.name, value, text, places)
    except FileNotFoundError as error:
        raise SourceMissing(f"{path} is not there") from error
    except YamlMissing as error:
        raise SourceMissing(f"{path}: {error}") from error
    except YamlUnfit as error:
        remarks.append(_unreadable(path.name, error.line, error.text))
    except tomllib.TOMLDecodeError as error:
        remarks.append(_unreadable(path.name, _line_in(str(error)), str(error)))
    except RecursionError:
        remarks.append(_unreadable(path.name, None, "is nested too deeply"))
    except UnicodeDecodeError as error:
        remarks.append(_unreadable(path.name, None, f"is not UTF-8: {error.reason}"))
    return sheet


def rows(path: Path, columns: tuple[str, ...], remarks: list[Remark]) -> Iterator[tuple[int, dict[str, str]]]:
    """(line, cells that are not empty) of each row of a spreadsheet; the first line names the columns."""
    try:
        text = path.read_text(encoding="utf-8-sig")  # spreadsheets write a byte order mark
    except UnicodeDecodeError:
        remarks.append(_unreadable(path.name, None, "is not UTF-8"))
        return
    first = text.partition("\n")[0]
    # Where the comma is the decimal sign, spreadsheets separate by semicolons.
    found = csv.DictReader(io.StringIO(text, newline=""), delimiter=";" if first.count(";") > first.count(",") else ",")
    names = [(name or "").strip() for name in found.fieldnames or ()]
    unknown = [name for name in names if name not in columns]
    if unknown or not names:
        told = f"the columns must be of {', '.join(columns)}" + (f"; {unknown[0]!r} is none" if unknown else "")
        remarks.append(_unreadable(path.name, 1, told))
        return
    if len(set(names)) < len(names):
        remarks.append(_unreadable(path.name, 1, "a column is here twice"))
        return
    found.fieldnames = names
    try:
        for row in found:
            if None in row or None in row.values():
                remarks.append(_unreadable(path.name, found.line_num, "has not as many cells as the first line"))
                continue
            cells = {name: cell.strip() for name, cell in row.items() if cell.strip()}
            if cells:
                yield found.line_num, cells
    except csv.Error as error:
        remarks.append(_unreadable(path.name, found.line_num, str(error)))


def plain(value: Any) -> Any:
    """TOML and YAML have days, moments and fractions of their own; the documents have them as text."""
    match value:
        case dict():
            return {name: plain(each) for name, each in value.items()}
        case list():
            return [plain(each) for each in value]
        case date() | time():
            return value.isoformat()
        case Decimal():
            return str(value)
        case _:
            return value


def _unreadable(file: str, line: int | None, text: str) -> Remark:
    return Remark(severity=Severity.ERROR, code=Code.UNREADABLE, file=file, line=line, place="", text=text)


def _line_in(text: str) -> int | None:
    """tomllib ends with `(at line 3, column 7)`."""
    number = text.rpartition("(at line ")[2].partition(",")[0]
    return int(number) if number.isdecimal() else None
