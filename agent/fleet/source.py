"""The fleet office's own files become the documents of a bundle. Card UIDs are clear here and nowhere after.

    policy.toml    stale_after_hours, expired_after_hours, [calendars.NAME], [groups.NAME]
    drivers.toml   [drivers.NAME]           vehicles.toml   [vehicles.NAME]
    tokens.toml    [[tokens]] uid = "04A1..."        or tokens.csv with these columns
    devices/       NAME.jwk: the public key that device NAME shows as vault/device.jwk, or a JWK Set of all it ever had

Every problem of all files is told at once, with its file and place, and never with a UID.
"""

from __future__ import annotations

import csv
import difflib
import io
import json
import re
import tomllib
from collections.abc import Iterable, Iterator, Mapping
from datetime import UTC, date, datetime, time
from decimal import Decimal
from pathlib import Path
from typing import Any

from agent.cache.documents import (
    DEVICES,
    KEYS,
    PEOPLE,
    POLICY,
    SCHEMA,
    VEHICLES,
    DocumentUnfit,
    Entry,
    entry_problems,
    read_contents,
    read_shard,
    shard_name,
)
from agent.core.credentials import key_check, reference
from sync.signing import SigningError, thumbprint

# ISO 14443 single, double, triple; EM4100; ISO 15693 and FeliCa.
UID_BYTES = (4, 5, 7, 8, 10)
_SEPARATORS = re.compile(r"[\s:.-]")
_POLICY_KEYS = ("stale_after_hours", "expired_after_hours", "calendars", "groups")
_COLUMNS = (
    "uid",
    "label",
    "group",
    "status",
    "not_before",
    "until",
    "parent",
    "driver",
    "vehicle",
    "offline",
)


class SourceMissing(Exception):
    """The folder, or a file that it must have, is not there."""


class SourceUnfit(Exception):
    """Nothing can be published from these files; `problems` has one line for each thing wrong."""

    def __init__(self, problems: list[str]) -> None:
        super().__init__("\n".join(problems))
        self.problems = problems


def read_source(
    source: Path, *, fleet: str, revision: int, issued: datetime, token_key: bytes, keys: Mapping[str, Any]
) -> dict[str, bytes]:
    """Target name to document, judged by the same reader that judges it on the device."""
    if not source.is_dir():
        raise SourceMissing(f"{source} is no folder: it must hold policy.toml, drivers.toml, vehicles.toml and tokens")
    problems: list[str] = []
    policy = _policy(_toml(source / "policy.toml", problems), problems)
    drivers = _named(source / "drivers.toml", "driver", problems)
    vehicles = _named(source / "vehicles.toml", "vehicle", problems)
    known = {"group": policy.get("groups", {}), "driver": drivers, "vehicle": vehicles}
    shards = _shards(_tokens(source, problems), known, token_key, problems)
    devices = _devices(source / "devices", problems)
    if problems:
        raise SourceUnfit(problems)

    made: dict[str, Any] = {
        POLICY: {
            "schema": SCHEMA,
            "fleet": fleet,
            "revision": revision,
            "issued": _stamp(issued),
            "key_check": key_check(token_key),
            **policy,
        },
        PEOPLE: {"schema": SCHEMA, "drivers": [{"id": name, **entry} for name, entry in sorted(drivers.items())]},
        VEHICLES: {"schema": SCHEMA, "vehicles": [{"id": name, **entry} for name, entry in sorted(vehicles.items())]},
        KEYS: keys,
        **({DEVICES: {"schema": SCHEMA, "devices": devices}} if devices else {}),
        **{
            name: {"schema": SCHEMA, "tokens": [tokens[each] for each in sorted(tokens)]}
            for name, tokens in shards.items()
        },
    }
    # Sorted and compact, so that what did not change keeps its bytes and does not travel again.
    bodies = {
        name: json.dumps(document, sort_keys=True, separators=(",", ":"), ensure_ascii=False).encode()
        for name, document in made.items()
    }
    _judge_as_the_device_does(bodies)
    return bodies


def _judge_as_the_device_does(bodies: Mapping[str, bytes]) -> None:
    try:
        contents = read_contents(bodies)
        for name, body in bodies.items():
            if name.startswith("tokens/"):
                read_shard(name, body, contents)
    except DocumentUnfit as error:
        raise SourceUnfit([str(error)]) from error


def _toml(path: Path, problems: list[str]) -> dict[str, Any]:
    try:
        return tomllib.loads(path.read_text(encoding="utf-8"), parse_float=Decimal)
    except FileNotFoundError as error:
        raise SourceMissing(f"{path} is not there") from error
    except (tomllib.TOMLDecodeError, UnicodeDecodeError) as error:
        problems.append(f"{path.name}: {error}")
        return {}


def _policy(document: dict[str, Any], problems: list[str]) -> dict[str, Any]:
    for key in document:
        if key not in _POLICY_KEYS:
            problems.append(f"policy.toml: {key}: unknown key{_near(key, _POLICY_KEYS)}")
    document = _as_text(document)
    groups = _tables(document, "groups", problems)
    calendars = _tables(document, "calendars", problems)
    for name, calendar in calendars.items():
        problems.extend(f"policy.toml: calendars.{name}.{each}" for each in entry_problems("calendar", calendar))
    for name, group in groups.items():
        problems.extend(f"policy.toml: groups.{name}.{each}" for each in entry_problems("group", group))
        parent = group.get("parent")
        if isinstance(parent, str) and parent not in groups:
            problems.append(f"policy.toml: groups.{name}.parent: no group is named {parent!r}{_near(parent, groups)}")
        holidays = group.get("holidays", {})
        for each in holidays.get("calendars", []) if isinstance(holidays, dict) else []:
            if isinstance(each, str) and each not in calendars:
                problems.append(
                    f"policy.toml: groups.{name}.holidays: no calendar is named {each!r}{_near(each, calendars)}"
                )
    known = {key: document[key] for key in _POLICY_KEYS if key in document}
    return known | {"groups": groups} | ({"calendars": calendars} if calendars else {})


def _tables(document: Mapping[str, Any], key: str, problems: list[str]) -> dict[str, dict[str, Any]]:
    tables = document.get(key, {})
    if not isinstance(tables, dict) or not all(isinstance(each, dict) for each in tables.values()):
        problems.append(f"policy.toml: {key}: write each {key.removesuffix('s')} as a table, [{key}.NAME]")
        return {}
    return tables


def _as_text(value: Any) -> Any:
    """TOML has days, moments and fractions of its own; the documents have them as text."""
    match value:
        case dict():
            return {name: _as_text(each) for name, each in value.items()}
        case list():
            return [_as_text(each) for each in value]
        case date() | time():
            return value.isoformat()
        case Decimal():
            return str(value)
        case _:
            return value


def _named(path: Path, kind: Entry, problems: list[str]) -> dict[str, dict[str, Any]]:
    """[drivers.NAME] tables; a fleet without drivers or vehicles leaves the file empty."""
    document = _toml(path, problems)
    plural = f"{kind}s"
    for key in document:
        if key != plural:
            problems.append(f"{path.name}: {key}: unknown key; write [{plural}.NAME]")
    entries = document.get(plural, {})
    if not isinstance(entries, dict) or not all(isinstance(entry, dict) for entry in entries.values()):
        problems.append(f"{path.name}: {plural}: write each as a table, [{plural}.NAME]")
        return {}
    for name, entry in entries.items():
        told = entry_problems(kind, {"id": name, **entry})
        problems.extend(f"{path.name}: {plural}.{name}.{each}" for each in told)
    return entries


def _devices(folder: Path, problems: list[str]) -> list[dict[str, Any]]:
    """Whose records the fleet vouches for. The folder may be missing: then evidence needs the key by another way."""
    devices = []
    for path in sorted(folder.glob("*.jwk")) if folder.is_dir() else ():
        try:
            found = json.loads(path.read_bytes())
            entries = [{"kid": thumbprint(json.dumps(key)), "jwk": key} for key in found.get("keys", [found])]
        except (ValueError, TypeError, AttributeError, OSError, SigningError) as error:
            problems.append(f"devices/{path.name}: is no public JSON Web Key: {error}")
            continue
        devices.append({"device": path.stem, "keys": entries})
    return devices


def _tokens(source: Path, problems: list[str]) -> Iterator[tuple[str, dict[str, Any]]]:
    """(place, entry) of every token of either file."""
    in_toml, in_csv = source / "tokens.toml", source / "tokens.csv"
    if not in_toml.exists() and not in_csv.exists():
        raise SourceMissing(f"{in_toml} (or tokens.csv) is not there")
    if in_toml.exists():
        entries = _toml(in_toml, problems).get("tokens", [])
        if not isinstance(entries, list) or not all(isinstance(entry, dict) for entry in entries):
            problems.append("tokens.toml: write each token as [[tokens]]")
            entries = []
        for number, entry in enumerate(entries, start=1):
            yield f"tokens.toml: token {number}", entry
    if in_csv.exists():
        yield from _rows(in_csv, problems)


def _rows(path: Path, problems: list[str]) -> Iterator[tuple[str, dict[str, Any]]]:
    try:
        text = path.read_text(encoding="utf-8-sig")  # spreadsheets write a byte order mark
    except UnicodeDecodeError:
        problems.append(f"{path.name}: is not UTF-8")
        return
    rows = csv.DictReader(io.StringIO(text, newline=""))
    unknown = [name for name in rows.fieldnames or () if name not in _COLUMNS]
    if "uid" not in (rows.fieldnames or ()) or unknown:
        problems.append(f"{path.name}: line 1: the columns must be of {', '.join(_COLUMNS)}, and uid among them")
        return
    for row in rows:
        if None in row or None in row.values():
            problems.append(f"{path.name}: line {rows.line_num}: has not as many cells as the first line")
            continue
        entry: dict[str, Any] = {name: cell.strip() for name, cell in row.items() if cell.strip()}
        if entry.get("offline") in ("true", "false"):
            entry["offline"] = entry["offline"] == "true"
        if entry:
            yield f"{path.name}: line {rows.line_num}", entry


def _shards(
    entries: Iterable[tuple[str, dict[str, Any]]],
    known: Mapping[str, Mapping[str, Any]],
    token_key: bytes,
    problems: list[str],
) -> dict[str, dict[str, dict[str, Any]]]:
    """Shard name to its tokens by reference. Here a UID becomes its reference, and is forgotten."""
    shards: dict[str, dict[str, dict[str, Any]]] = {}
    places: dict[str, str] = {}
    for place, entry in entries:
        fields = dict(entry)
        uid = canonical_uid(fields.pop("uid", None))
        if isinstance(uid, Wrong):
            problems.append(f"{place}: uid: {uid}")
            uid = "00000000"
            token_reference = "0" * 64
        else:
            token_reference = reference(token_key, uid)
            if token_reference in places:
                problems.append(f"{place}: uid: is the same card as in {places[token_reference]}")
            places[token_reference] = place
        for name in ("not_before", "until"):
            if name in fields:
                fields[name] = _moment(fields[name])
        token = {"reference": token_reference, **fields}
        problems.extend(f"{place}: {each}" for each in entry_problems("token", _encodable(token)))
        for name, names in known.items():
            value = fields.get(name)
            if isinstance(value, str) and value not in names:
                problems.append(f"{place}: {name}: no {name} is named {value!r}{_near(value, names)}")
        shards.setdefault(shard_name(token_reference), {})[token_reference] = token
    return shards


class Wrong(str):
    """Why something cannot be used."""

    __slots__ = ()


def canonical_uid(value: object) -> str | Wrong:
    """Upper-case hex of the on-air bytes, without separators. The text of a refusal never repeats the UID."""
    if not isinstance(value, str):
        return Wrong("is missing, or not in quotes")
    text = _SEPARATORS.sub("", value).upper()
    try:
        raw = bytes.fromhex(text)
    except ValueError:
        return Wrong("is not hexadecimal")
    if len(raw) not in UID_BYTES:
        return Wrong(f"has {len(raw)} bytes; cards have {', '.join(map(str, UID_BYTES))}")
    if len(raw) == 4 and raw[0] == 0x08:
        return Wrong("begins with 08 and has 4 bytes: such a card draws a new number at every tap, and names nobody")
    return text


def _moment(value: object) -> object:
    if isinstance(value, str):
        try:
            value = datetime.fromisoformat(value)
        except ValueError:
            return value
    if isinstance(value, datetime) and value.tzinfo is not None:
        return _stamp(value)
    return value  # without a zone it is not a moment; the check of the entry says so


def _encodable(token: Mapping[str, Any]) -> dict[str, Any]:
    return {name: str(value) if isinstance(value, date) else value for name, value in token.items()}


def _stamp(moment: datetime) -> str:
    return f"{moment.astimezone(UTC):%Y-%m-%dT%H:%M:%SZ}"


def _near(word: str, known: Iterable[str]) -> str:
    near = difflib.get_close_matches(word, list(known), n=1)
    return f", did you mean {near[0]!r}?" if near else ""
