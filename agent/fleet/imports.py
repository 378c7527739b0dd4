"""Cards, drivers, vehicles and sites from a CSV file or from OCPI JSON into a policy folder: all of a file, or nothing.

What comes is merged into the folder's own CSV file, by UID, eMAID or id; the folder as it would then be is judged by
the reader that judges it before it is published, and only then is the one file replaced, whole. Every bad line or
object is named, and never with a UID.
"""

from __future__ import annotations

import csv
import io
import os
import tempfile
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field
from datetime import datetime
from enum import StrEnum
from pathlib import Path

from agent.core.findings import Severity
from agent.files import replace_durably
from agent.fleet import sheets
from agent.fleet.remarks import Code, Remark, in_order
from agent.fleet.source import (
    DRIVER_COLUMNS,
    SITE_COLUMNS,
    TOKEN_COLUMNS,
    VEHICLE_COLUMNS,
    Progress,
    Wrong,
    canonical_uid,
    read_folder,
)
from agent.ocpi import lists
from agent.ocpi.documents import Node, parse

MAX_FILE_BYTES = 512 * 1024 * 1024
PROGRESS_EVERY = 5_000


class What(StrEnum):
    TOKENS = "tokens"
    DRIVERS = "drivers"
    VEHICLES = "vehicles"
    SITES = "sites"


COLUMNS: Mapping[What, tuple[str, ...]] = {
    What.TOKENS: TOKEN_COLUMNS,
    What.DRIVERS: DRIVER_COLUMNS,
    What.VEHICLES: VEHICLE_COLUMNS,
    What.SITES: SITE_COLUMNS,
}


@dataclass(slots=True, kw_only=True)
class Imported:
    """`remarks` has what is bad, in the file that came or in the folder; with an ERROR nothing was written."""

    read: int = 0
    added: int = 0
    changed: int = 0
    unchanged: int = 0
    remarks: list[Remark] = field(default_factory=list)
    passed_over: list[str] = field(default_factory=list)
    target: Path | None = None


@dataclass(frozen=True, slots=True)
class _Incoming:
    """One card, driver, vehicle or site, with where it came from; a site has a row for each charging point."""

    key: str
    rows: list[dict[str, str]]
    line: int | None
    place: str


def import_file(
    folder: Path,
    file: Path,
    *,
    what: What,
    now: datetime,
    group: str | None = None,
    dry_run: bool = False,
    progress: Progress = lambda _what, _count: None,
) -> Imported:
    """Raises SourceMissing and OSError; everything else that is wrong is in the result."""
    done = Imported(target=folder / f"{what}.csv")
    columns = COLUMNS[what]
    incoming = list(_ocpi(file, what, done, progress) if _is_json(file) else _csv(file, what, done, progress))
    if group is not None and what is What.TOKENS:
        for each in incoming:
            each.rows[0].setdefault("group", group)
    before = _existing(done, columns, what)
    after, origins = _merged(file, before, incoming, what, done)
    if done.remarks:
        return done
    text, lines = _text(after, columns)
    _judge(
        folder, file, f"{what}.csv", text, {line: origins.get(key) for line, key in lines.items()}, done, now, progress
    )
    if not done.remarks and not dry_run and (done.added or done.changed):
        replace_durably(folder / f"{what}.csv", text.encode())
    return done


def _csv(file: Path, what: What, done: Imported, progress: Progress) -> Iterator[_Incoming]:
    seen: dict[str, _Incoming] = {}
    for line, cells in sheets.rows(file, COLUMNS[what], done.remarks):
        done.read += 1
        if done.read % PROGRESS_EVERY == 0:
            progress(f"lines of {file.name}", done.read)
        key = _key(what, cells)
        if isinstance(key, Wrong):
            done.remarks.append(_remark(file, line, "", key))
        elif key not in seen:
            seen[key] = _Incoming(key, [cells], line, "")
        elif what is What.SITES and "evse" in cells:
            seen[key].rows.append(cells)
        else:
            done.remarks.append(
                _remark(file, line, "", f"is here twice; the other is on line {seen[key].line}", Code.TWICE)
            )
    yield from seen.values()


def _ocpi(file: Path, what: What, done: Imported, progress: Progress) -> Iterator[_Incoming]:
    read: Callable[[Node], lists.Listed]
    match what:
        case What.TOKENS:
            read = lists.token
        case What.SITES:
            read = lists.location
        case _:
            done.remarks.append(_remark(file, None, "", f"OCPI has no {what}: bring them as CSV", Code.UNREADABLE))
            return
    document, findings = parse(file.read_bytes())
    done.remarks += [_remark(file, None, each.path, each.text, Code.UNREADABLE) for each in findings]
    if findings:
        return
    seen: dict[str, str] = {}
    for node in lists.objects(document):
        done.read += 1
        if done.read % PROGRESS_EVERY == 0:
            progress(f"objects of {file.name}", done.read)
        listed = read(node) if not node.notes.findings else lists.Listed(path=node.path, rows=(), notes=node.notes)
        errors = [each for each in listed.notes.findings if each.severity is Severity.ERROR]
        done.remarks += [_remark(file, None, each.path, each.text) for each in errors]
        if listed.passed_over:
            done.passed_over.append(f"{file.name}: {listed.path}: {listed.passed_over}")
        if errors or not listed.rows:
            continue
        rows = [{name: cell for name, cell in row.items() if cell} for row in listed.rows]
        key = _key(what, rows[0])
        if isinstance(key, Wrong):
            done.remarks.append(_remark(file, None, listed.path, key))
        elif key in seen:
            done.remarks.append(_remark(file, None, listed.path, f"is the same as {seen[key]}", Code.TWICE))
        else:
            seen[key] = listed.path
            yield _Incoming(key, rows, None, listed.path)


def _key(what: What, cells: Mapping[str, str]) -> str | Wrong:
    if what is not What.TOKENS:
        return cells["id"] if cells.get("id") else Wrong("has no id")
    if "emaid" in cells:
        return f"emaid {''.join(cells['emaid'].upper().split('-'))}"
    uid = canonical_uid(cells.get("uid"))
    return Wrong(f"uid: {uid}") if isinstance(uid, Wrong) else uid


def _existing(done: Imported, columns: tuple[str, ...], what: What) -> dict[str, list[dict[str, str]]]:
    """What the folder's own CSV file has. When that is damaged, it is said, and nothing is imported."""
    found: dict[str, list[dict[str, str]]] = {}
    if done.target is None or not done.target.exists():
        return found
    for line, cells in sheets.rows(done.target, columns, done.remarks):
        key = _key(what, cells)
        if isinstance(key, Wrong):
            done.remarks.append(_remark(done.target, line, "", key))
        else:
            found.setdefault(key, []).append(cells)
    return found


def _merged(
    file: Path,
    before: dict[str, list[dict[str, str]]],
    incoming: list[_Incoming],
    what: What,
    done: Imported,
) -> tuple[dict[str, list[dict[str, str]]], dict[str, _Incoming]]:
    """What comes counts where it says something; of a card it leaves the group, driver and vehicle that are here."""
    after = dict(before)
    origins: dict[str, _Incoming] = {}
    for each in incoming:
        old = before.get(each.key)
        rows = each.rows if what is What.SITES or old is None else [old[0] | each.rows[0]]
        if what is What.TOKENS and "group" not in rows[0]:
            told = "is a new card, and of no group: name one with --group"
            done.remarks.append(_remark(file, each.line, each.place, told, Code.UNKNOWN_GROUP))
        if old is None:
            done.added += 1
        elif old == rows:
            done.unchanged += 1
        else:
            done.changed += 1
        after[each.key] = rows
        origins[each.key] = each
    return after, origins


def _text(entries: Mapping[str, list[dict[str, str]]], columns: tuple[str, ...]) -> tuple[str, dict[int, str]]:
    """The CSV file, with the columns that are used, and whose each line is."""
    used = {name for rows in entries.values() for row in rows for name in row}
    out = io.StringIO(newline="")
    writer = csv.DictWriter(out, [name for name in columns if name in used], restval="", lineterminator="\n")
    writer.writeheader()
    lines: dict[int, str] = {}
    line = 1
    for key, rows in entries.items():
        for row in rows:
            writer.writerow(row)
            line += 1 + sum(cell.count("\n") for cell in row.values())
            lines[line] = key
    return out.getvalue(), lines


def _judge(
    folder: Path,
    file: Path,
    name: str,
    text: str,
    origins: Mapping[int, _Incoming | None],
    done: Imported,
    now: datetime,
    progress: Progress,
) -> None:
    """The folder as it would be: its other files, and the new one in the place of the old."""
    with tempfile.TemporaryDirectory(prefix=".import-", dir=folder) as place:
        trial = Path(place)
        for path in folder.iterdir():
            if path.name != name and not path.name.startswith("."):
                os.symlink(path.absolute(), trial / path.name)
        (trial / name).write_text(text, encoding="utf-8")
        for missing in (What.DRIVERS, What.VEHICLES):
            if sheets.find(trial, missing) is None and not (trial / f"{missing}.csv").exists():
                (trial / f"{missing}.toml").touch()
        remarks = read_folder(trial, issued=now, hash_pins=False, progress=progress).remarks
    for each in remarks:
        origin = origins.get(each.line) if each.file == name and each.line is not None else None
        if origin is None:
            done.remarks.append(each)
        else:
            where = f"{origin.place}.{each.place}" if origin.place else each.place
            done.remarks.append(_remark(file, origin.line, where, each.text, each.code))
    done.remarks = in_order(done.remarks)


def _remark(file: Path, line: int | None, place: str, text: str, code: Code = Code.WRONG_VALUE) -> Remark:
    return Remark(severity=Severity.ERROR, code=code, file=file.name, line=line, place=place, text=text)


def _is_json(file: Path) -> bool:
    if file.stat().st_size > MAX_FILE_BYTES:
        raise OSError(0, f"has more than {MAX_FILE_BYTES} bytes: bring it in parts", str(file))
    with file.open("rb") as opened:
        return opened.read(256).removeprefix(b"\xef\xbb\xbf").lstrip()[:1] in (b"[", b"{")
