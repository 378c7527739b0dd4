"""The fleet office's own files become the documents of a bundle. Card UIDs are clear here and nowhere after.

    policy.toml    stale_after_hours, expired_after_hours, [calendars.NAME], [groups.NAME]
    drivers.toml   [drivers.NAME] pin = "4711"           vehicles.toml   [vehicles.NAME]
    tokens.toml    [[tokens]] uid = "04A1..."        or tokens.csv with these columns; a contract has emaid = ...
    contracts/     anchors.json, revocations.json, as agent/contracts/trust_documents.py reads them; or no such folder
    devices/       NAME.jwk: the public key that device NAME shows as vault/device.jwk, or a JWK Set of all it ever had

Every problem of all files is told at once, with its file and place, and never with a UID.
"""

from __future__ import annotations

import csv
import difflib
import hmac
import io
import json
import re
import tomllib
from collections.abc import Callable, Iterable, Iterator, Mapping
from datetime import UTC, date, datetime, time
from decimal import Decimal
from functools import partial
from pathlib import Path
from typing import Any

from agent.cache.documents import (
    CONTRACTS,
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
from agent.core.contracts.emaid import read_typed_emaid
from agent.core.credentials import contract_reference, key_check, reference
from agent.core.pins import PIN, hashed
from sync.signing import SigningError, thumbprint

# ISO 14443 single, double, triple; EM4100; ISO 15693 and FeliCa.
UID_BYTES = (4, 5, 7, 8, 10)
_SEPARATORS = re.compile(r"[\s:.-]")
_POLICY_KEYS = ("stale_after_hours", "expired_after_hours", "calendars", "groups")
_COLUMNS = (
    "uid",
    "emaid",
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
    drivers = _named(source / "drivers.toml", "driver", problems, pins=partial(_with_hashed_pin, token_key))
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
    } | _contracts(source)
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


def _named(
    path: Path, kind: Entry, problems: list[str], pins: Callable[[str, dict[str, Any]], dict[str, Any]] | None = None
) -> dict[str, dict[str, Any]]:
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
    if pins is not None:
        entries = {name: pins(name, entry) for name, entry in entries.items()}
    for name, entry in entries.items():
        told = entry_problems(kind, {"id": name, **entry})
        problems.extend(f"{path.name}: {plural}.{name}.{each}" for each in told)
    return entries


def _with_hashed_pin(token_key: bytes, name: str, entry: dict[str, Any]) -> dict[str, Any]:
    """A PIN is clear in the source and nowhere after. The same PIN keeps its salt, so that its bytes do not change."""
    pin = entry.get("pin")
    if not isinstance(pin, str) or re.fullmatch(PIN, pin) is None:
        return entry  # what is no PIN is told with the entry's other problems, without repeating it
    salt = hmac.digest(token_key, f"roamkey/pin/v1\0{name}\0{pin}".encode(), "sha256")[:16]
    made = hashed(pin, salt)
    return {**entry, "pin": {"salt": made.salt, "hash": made.hash, "cost": made.cost}}


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


def _contracts(source: Path) -> dict[str, bytes]:
    """As they are: they hold certificates and signed papers, and are judged below like all the rest."""
    return {name: (source / name).read_bytes() for name in CONTRACTS if (source / name).exists()}


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
    if not {"uid", "emaid"} & set(rows.fieldnames or ()) or unknown:
        problems.append(
            f"{path.name}: line 1: the columns must be of {', '.join(_COLUMNS)}, and uid or emaid among them"
        )
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
        kind = "emaid" if "emaid" in fields and "uid" not in fields else "uid"
        named = _reference_of(fields.pop(kind, None), kind, token_key)
        if isinstance(named, Wrong):
            problems.append(f"{place}: {kind}: {named}")
        elif named in places:
            what = "card" if kind == "uid" else "contract"
            problems.append(f"{place}: {kind}: is the same {what} as in {places[named]}")
        token_reference = "0" * 64 if isinstance(named, Wrong) else str(named)
        places.setdefault(token_reference, place)
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


def _reference_of(value: object, kind: str, token_key: bytes) -> str:
    """Of a card or a contract; Wrong says why there is none, and never repeats the number."""
    if kind == "uid":
        uid = canonical_uid(value)
        return uid if isinstance(uid, Wrong) else reference(token_key, uid)
    try:
        return contract_reference(token_key, read_typed_emaid(value if isinstance(value, str) else "").canonical)
    except ValueError:
        return Wrong("is no eMAID, or its check character says that it has a typing error; read it from the contract")


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
