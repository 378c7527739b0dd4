"""The fleet office's own files become the documents of a bundle. Card UIDs are clear here and nowhere after.

    policy      stale_after_hours, expired_after_hours, alias_forms, [calendars.NAME], [groups.NAME], [budgets.NAME]
    drivers     [drivers.NAME] pin = "4711"           vehicles    [vehicles.NAME]
    tokens      [[tokens]] uid = "04A1..."; a contract has emaid = ..., a pass in a phone's wallet wallet = ...
    sites       [matching], [sites.NAME]; may be missing
    contracts/  anchors.json, revocations.json, as agent/contracts/trust_documents.py reads them; or no such folder
    profiles/   readers/NAME.toml: readers' profiles for all devices, new ones or instead of shipped ones
    devices/    NAME.jwk: the public key that device NAME shows as vault/device.jwk, or a JWK Set of all it ever had

Each is a TOML or a YAML file, and all but the policy may be, or also be, a CSV file. Every problem of all files is told
at once, with its file and line, and never with a UID. What is sound and still odd is policy_lint.py.
"""

from __future__ import annotations

import difflib
import hmac
import json
import re
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from functools import partial
from pathlib import Path
from typing import Any

from agent.cache.contents import Contents
from agent.cache.documents import (
    CONTRACTS,
    DEVICES,
    KEYS,
    PEOPLE,
    POLICY,
    SCHEMA,
    SITES,
    VEHICLES,
    DocumentUnfit,
    Entry,
    entry_defaults,
    entry_faults,
    entry_keys,
    read_contents,
    read_policy,
    read_shard,
    shard_name,
)
from agent.core.aliases import LOSING, Form, published
from agent.core.contracts.emaid import read_typed_emaid
from agent.core.credentials import alias_reference, contract_reference, key_check, reference, wallet_reference
from agent.core.findings import Severity
from agent.core.pins import PIN, hashed
from agent.core.policy import Token
from agent.fleet import sheets
from agent.fleet.remarks import Code, Remark, in_order, is_fit
from agent.fleet.sheets import Place, Sheet, SourceMissing, plain
from sync.signing import SigningError, thumbprint

__all__ = ["Source", "SourceMissing", "SourceUnfit", "Spot", "read_folder", "read_source"]

# ISO 14443 single, double, triple; EM4100; ISO 15693 and FeliCa.
UID_BYTES = (4, 5, 7, 8, 10)
_SEPARATORS = re.compile(r"[\s:.-]")
_POLICY_KEYS = ("stale_after_hours", "expired_after_hours", "calendars", "groups", "budgets")
ALIAS_FORMS = "alias_forms"  # which parts of a UID readers of this fleet tell: stays here, its references do not
_ALL_POLICY_KEYS = (*_POLICY_KEYS, ALIAS_FORMS)
MADE_HERE = ("reference", "aliases")  # of a token, from its number
TOKEN_COLUMNS = ("uid", "emaid", "wallet", *(name for name in entry_keys("token") if name not in MADE_HERE))
DEFAULTS = entry_defaults("token")
DRIVER_COLUMNS = ("id", "language", "cost_centre", "pin")
VEHICLE_COLUMNS = ("id", "cost_centre")
# A site with several charging points has as many rows.
SITE_COLUMNS = ("id", "latitude", "longitude", "network", "country", "radius_m", "evse", "connector", "power_w")
NO_KEYS: Mapping[str, Any] = {"schema": 1, "keys": []}
NO_TOKEN_KEY = bytes(32)  # for a look at a folder: references are then nobody's

Progress = Callable[[str, int], None]
"""Told now and then what is being read, and how many of it are done."""
PROGRESS_EVERY = 5_000


class SourceUnfit(Exception):
    """Nothing can be published from these files."""

    def __init__(self, remarks: list[Remark]) -> None:
        self.remarks = in_order(each for each in remarks if each.severity is Severity.ERROR)
        self.problems = [str(each) for each in self.remarks]
        super().__init__("\n".join(self.problems))


@dataclass(frozen=True, slots=True)
class Spot:
    """Where an entry is written: at a place of a sheet, or on a line of a spreadsheet."""

    sheet: Sheet
    place: Place = ()
    row: int | None = None

    @property
    def file(self) -> str:
        return self.sheet.file

    def line(self, *within: str | int) -> int | None:
        return self.row if self.row is not None else self.sheet.line(*self.place, *within)

    def remark(self, code: Code, text: str, *within: str | int, severity: Severity = Severity.ERROR) -> Remark:
        place: Place = within if self.row is not None else (*self.place, *within)
        if place[:1] == ("tokens",) and len(place) > 1:  # people count from one
            place = (f"token {int(place[1]) + 1}", *place[2:])
        named = ".".join(str(each) for each in place)
        return Remark(severity=severity, code=code, file=self.file, line=self.line(*within), place=named, text=text)

    def __str__(self) -> str:
        line = self.line()
        return self.file if line is None else f"{self.file}:{line}"


@dataclass(frozen=True, slots=True, kw_only=True)
class Source:
    """A policy folder as it was read. `contents` and `tokens` are None and empty when `remarks` has an error.

    `spots` tells where an entry was written: ("groups", NAME), ("drivers", NAME), ("tokens", REFERENCE) ...
    """

    policy: Sheet
    bodies: Mapping[str, bytes]
    contents: Contents | None
    tokens: Mapping[str, Token]
    spots: Mapping[tuple[str, str], Spot]
    pins: Mapping[str, str]
    remarks: list[Remark]


def read_source(
    source: Path, *, fleet: str, revision: int, issued: datetime, token_key: bytes, keys: Mapping[str, Any]
) -> dict[str, bytes]:
    """Target name to document, judged by the same reader that judges it on the device."""
    read = read_folder(source, fleet=fleet, revision=revision, issued=issued, token_key=token_key, keys=keys)
    if not is_fit(read.remarks):
        raise SourceUnfit(read.remarks)
    return dict(read.bodies)


def read_folder(
    source: Path,
    *,
    issued: datetime,
    fleet: str = "nobody",
    revision: int = 1,
    token_key: bytes = NO_TOKEN_KEY,
    keys: Mapping[str, Any] = NO_KEYS,
    hash_pins: bool = True,
    progress: Progress = lambda _what, _count: None,
) -> Source:
    """All of a policy folder, or SourceMissing. A PIN takes a tenth of a second to hash: who only looks needs none."""
    if not source.is_dir():
        raise SourceMissing(f"{source} is no folder: it must hold the policy, drivers, vehicles and tokens")
    remarks: list[Remark] = []
    policy = _sheet(source, "policy", remarks)
    groups = _policy(policy, remarks)
    drivers = _Entries("driver", remarks)
    drivers.read(source, DRIVER_COLUMNS)
    vehicles = _Entries("vehicle", remarks)
    vehicles.read(source, VEHICLE_COLUMNS)
    sites = _Sites(remarks)
    sites.read(source)
    pins = {name: entry["pin"] for name, entry in drivers.entries.items() if isinstance(entry.get("pin"), str)}
    hashing = partial(_with_hashed_pin, token_key, cost_nothing=not hash_pins)
    people = {name: hashing(name, entry) for name, entry in drivers.entries.items()}
    for kind, entries in ((drivers, people), (vehicles, vehicles.entries), (sites, sites.entries)):
        kind.judge(entries)
    unread = {each.file.partition(".")[0] for each in remarks if each.code is Code.UNREADABLE}
    lists = {"group": ("policy", groups), "driver": ("drivers", people), "vehicle": ("vehicles", vehicles.entries)}
    known = {name: entries for name, (file, entries) in lists.items() if file not in unread}  # else none is unknown
    tokens = _Tokens(known, token_key, _alias_forms(policy, remarks), remarks, progress)
    tokens.read(source)
    devices = _devices(source / "devices", remarks)
    spots = drivers.spots | vehicles.spots | sites.spots | tokens.spots
    spots |= {("groups", name): Spot(policy, ("groups", name)) for name in groups}
    calendars = policy.value.get("calendars")
    named = calendars if isinstance(calendars, dict) else {}  # what is none is told
    spots |= {("calendars", name): Spot(policy, ("calendars", name)) for name in named}
    made = Source(policy=policy, bodies={}, contents=None, tokens={}, spots=spots, pins=pins, remarks=remarks)
    if not is_fit(remarks):
        return made

    documents: dict[str, Any] = {
        POLICY: {
            "schema": SCHEMA,
            "fleet": fleet,
            "revision": revision,
            "issued": _stamp(issued),
            "key_check": key_check(token_key),
            **{key: policy.value[key] for key in _POLICY_KEYS if key in policy.value},
            "groups": groups,
            **({"budgets": exact(policy.value["budgets"])} if policy.value.get("budgets") else {}),
        },
        PEOPLE: {"schema": SCHEMA, "drivers": [{"id": name, **entry} for name, entry in sorted(people.items())]},
        VEHICLES: {
            "schema": SCHEMA,
            "vehicles": [{"id": name, **entry} for name, entry in sorted(vehicles.entries.items())],
        },
        KEYS: keys,
        **({DEVICES: {"schema": SCHEMA, "devices": devices}} if devices else {}),
        **({SITES: sites.document()} if sites.entries else {}),
        **{
            name: {"schema": SCHEMA, "tokens": [entries[each] for each in sorted(entries)]}
            for name, entries in tokens.shards.items()
        },
    }
    # Sorted and compact, so that what did not change keeps its bytes and does not travel again.
    bodies = {name: encoded(document) for name, document in documents.items()} | _as_they_are(source)
    contents, found = _judge_as_the_device_does(bodies, made)
    return Source(
        policy=policy, bodies=bodies, contents=contents, tokens=found, spots=spots, pins=pins, remarks=remarks
    )


def encoded(document: Any) -> bytes:
    return json.dumps(document, sort_keys=True, separators=(",", ":"), ensure_ascii=False).encode()


def _judge_as_the_device_does(bodies: Mapping[str, bytes], made: Source) -> tuple[Contents | None, dict[str, Token]]:
    try:
        contents = read_contents(bodies)
        tokens: dict[str, Token] = {}
        for name, body in bodies.items():
            if name.startswith("tokens/"):
                tokens |= {each.reference: each for each in read_shard(name, body, contents)}
    except DocumentUnfit as error:
        if error.document == POLICY:
            made.remarks.append(_unfit(made.policy, error))
        else:
            unfit = Remark(
                severity=Severity.ERROR, code=Code.UNFIT, file=error.document, line=None, place="", text=error.detail
            )
            made.remarks.append(unfit)
        return None, {}
    return contents, tokens


def _unfit(sheet: Sheet, error: DocumentUnfit) -> Remark:
    """`groups.vans.schedule.zone: is none` names its place."""
    named, colon, text = error.detail.partition(": ")
    if not colon or not named.startswith(("groups.", "calendars.")):
        return sheet.remark(Code.UNFIT, error.detail)
    place = (int(each) if each.isdecimal() else each for each in named.split("."))
    return sheet.remark(Code.UNFIT, text, *place)


def _sheet(source: Path, name: str, remarks: list[Remark]) -> Sheet:
    found = sheets.find(source, name)
    if found is None:
        raise SourceMissing(f"{source / name}.toml (or .yaml) is not there")
    sheet = sheets.read(found, remarks)
    sheet.value = plain(sheet.value)
    return sheet


def _policy(sheet: Sheet, remarks: list[Remark]) -> dict[str, dict[str, Any]]:
    for key in sheet.value:
        if key not in _ALL_POLICY_KEYS:
            remarks.append(sheet.remark(Code.UNKNOWN_KEY, f"unknown key{_near(key, _ALL_POLICY_KEYS)}", key))
    groups = {name: exact(group) for name, group in _tables(sheet, "groups", remarks).items()}
    calendars = _tables(sheet, "calendars", remarks)
    before = len(remarks)
    for name, budget in _tables(sheet, "budgets", remarks).items():
        _judge(sheet, "budget", exact(budget), remarks, "budgets", name)
    for name, calendar in calendars.items():
        _judge(sheet, "calendar", calendar, remarks, "calendars", name)
    for name, group in groups.items():
        _judge(sheet, "group", group, remarks, "groups", name)
        parent = group.get("parent")
        if isinstance(parent, str) and parent not in groups:
            told = f"no group is named {parent!r}{_near(parent, groups)}"
            remarks.append(sheet.remark(Code.UNKNOWN_GROUP, told, "groups", name, "parent"))
        holidays = group.get("holidays", {})
        for index, each in enumerate(holidays.get("calendars", []) if isinstance(holidays, dict) else []):
            if isinstance(each, str) and each not in calendars:
                told = f"no calendar is named {each!r}{_near(each, calendars)}"
                place = ("groups", name, "holidays", "calendars", index)
                remarks.append(sheet.remark(Code.UNKNOWN_CALENDAR, told, *place))
    if len(remarks) == before:
        _judge_each_alone(sheet, groups, calendars, remarks)
    return groups


def exact(value: Any, key: str = "") -> Any:
    """Amounts and degrees are text in a document, with every digit as it was written; `1` is meant as `1.00` is."""
    match value:
        case dict():
            return {name: exact(each, name) for name, each in value.items()}
        case list():
            return [exact(each, key) for each in value]
        case int() if key in EXACT and not isinstance(value, bool):
            return str(value)
        case _:
            return value


EXACT = frozenset(
    (
        *("per_kwh", "per_hour", "per_parking_hour", "fixed", "session", "polygons", "latitude", "longitude"),
        *("money", "money_per_session"),
    )
)  # fmt: skip


def _judge_each_alone(
    sheet: Sheet, groups: Mapping[str, Any], calendars: Mapping[str, Any], remarks: list[Remark]
) -> None:
    """The device tells the first unfit group; whoever mends them wants to know of all."""
    alone = {"schema": SCHEMA, "fleet": "nobody", "revision": 1, "issued": "2026-01-01T00:00:00Z"}
    alone["key_check"] = "0" * 16
    for name, group in groups.items():
        one = {key: value for key, value in group.items() if key != "parent"}
        try:
            read_policy(encoded({**alone, "calendars": calendars, "groups": {name: one}}))
        except DocumentUnfit as error:
            remark = _unfit(sheet, error)
            if remark not in remarks:
                remarks.append(remark)


def _judge(sheet: Sheet, kind: Entry, entry: Mapping[str, Any], remarks: list[Remark], *place: str | int) -> None:
    for fault in entry_faults(kind, entry):
        code = Code.UNKNOWN_KEY if fault.unknown_key else Code.WRONG_VALUE
        remarks.append(sheet.remark(code, fault.text, *place, *fault.place))


def _tables(sheet: Sheet, key: str, remarks: list[Remark]) -> dict[str, dict[str, Any]]:
    tables = sheet.value.get(key, {})
    if not isinstance(tables, dict) or not all(isinstance(each, dict) for each in tables.values()):
        told = f"write each {key.removesuffix('s')} as a table, [{key}.NAME]"
        remarks.append(sheet.remark(Code.WRONG_VALUE, told, key))
        return {}
    return tables


class _Entries:
    """Drivers or vehicles: [drivers.NAME] tables, rows of a spreadsheet, or both."""

    def __init__(self, kind: Entry, remarks: list[Remark]) -> None:
        self.kind = kind
        self.plural = f"{kind}s"
        self.entries: dict[str, dict[str, Any]] = {}
        self.spots: dict[tuple[str, str], Spot] = {}
        self._remarks = remarks

    def read(self, source: Path, columns: tuple[str, ...]) -> None:
        found, spreadsheet = sheets.find(source, self.plural), source / f"{self.plural}.csv"
        if found is None and not spreadsheet.exists():
            raise SourceMissing(f"{source / self.plural}.toml (or .yaml, or .csv) is not there; it may be empty")
        if found is not None:
            self._tables(found)
        if spreadsheet.exists():
            for line, cells in sheets.rows(spreadsheet, columns, self._remarks):
                self.add(cells.pop("id", ""), dict(cells), Spot(Sheet(spreadsheet.name, {}), row=line))

    def judge(self, entries: Mapping[str, dict[str, Any]]) -> None:
        for name, entry in entries.items():
            for fault in entry_faults(self.kind, {"id": name, **entry}):
                code = Code.UNKNOWN_KEY if fault.unknown_key else Code.WRONG_VALUE
                self._remarks.append(self.spots[self.plural, name].remark(code, fault.text, *fault.place))

    def add(self, name: str, entry: dict[str, Any], spot: Spot) -> None:
        if name in self.entries:
            told = f"{name!r} is here twice; the other is in {self.spots[self.plural, name]}"
            self._remarks.append(spot.remark(Code.TWICE, told))
            return
        self.entries[name] = entry
        self.spots[self.plural, name] = spot

    def _tables(self, path: Path, *others: str) -> Sheet:
        sheet = sheets.read(path, self._remarks)
        sheet.value = plain(sheet.value)
        for key in sheet.value:
            if key != self.plural and key not in others:
                told = f"unknown key; write [{self.plural}.NAME]"
                self._remarks.append(sheet.remark(Code.UNKNOWN_KEY, told, key))
        for name, entry in _tables(sheet, self.plural, self._remarks).items():
            self.add(name, entry, Spot(sheet, (self.plural, name)))
        return sheet


class _Sites(_Entries):
    """Where the fleet charges. Nobody must have sites."""

    def __init__(self, remarks: list[Remark]) -> None:
        super().__init__("site", remarks)
        self.matching: dict[str, Any] = {}

    def add(self, name: str, entry: dict[str, Any], spot: Spot) -> None:
        super().add(name, exact(entry), spot)

    def read(self, source: Path, columns: tuple[str, ...] = SITE_COLUMNS) -> None:
        found, spreadsheet = sheets.find(source, self.plural), source / f"{self.plural}.csv"
        if found is not None:
            matching = self._tables(found, "matching").value.get("matching", {})
            self.matching = matching if isinstance(matching, dict) else {}
        if spreadsheet.exists():
            for line, cells in sheets.rows(spreadsheet, columns, self._remarks):
                self._row(cells, Spot(Sheet(spreadsheet.name, {}), row=line))

    def document(self) -> dict[str, Any]:
        matching = {"matching": self.matching} if self.matching else {}
        return {
            "schema": SCHEMA,
            **matching,
            "sites": [{"id": name, **entry} for name, entry in sorted(self.entries.items())],
        }

    def _row(self, cells: dict[str, str], spot: Spot) -> None:
        name = cells.pop("id", "")
        evse: dict[str, Any] = {to: cells.pop(of) for of, to in EVSE_CELLS if of in cells}
        entry: dict[str, Any] = dict(cells)
        for fields, key in ((entry, "radius_m"), (evse, "power_w")):
            if str(fields.get(key, "")).isdecimal():
                fields[key] = int(fields[key])
        before = self.entries.get(name)
        if before is None or self.spots[self.plural, name].file != spot.file:
            self.add(name, {**entry, "evses": [evse] if evse else []}, spot)
        elif not evse or entry != {key: before[key] for key in entry if key in before}:
            self._remarks.append(spot.remark(Code.TWICE, f"{name!r} is here twice, and not as another charging point"))
        else:
            before["evses"].append(evse)


EVSE_CELLS = (("evse", "id"), ("connector", "connector"), ("power_w", "power_w"))


def _with_hashed_pin(token_key: bytes, name: str, entry: dict[str, Any], *, cost_nothing: bool) -> dict[str, Any]:
    """A PIN is clear in the source and nowhere after. The same PIN keeps its salt, so that its bytes do not change."""
    pin = entry.get("pin")
    if not isinstance(pin, str) or re.fullmatch(PIN, pin) is None:
        return entry  # what is no PIN is told with the entry's other problems, without repeating it
    salt = hmac.digest(token_key, f"roamkey/pin/v1\0{name}\0{pin}".encode(), "sha256")[:16]
    if cost_nothing:
        return {**entry, "pin": {"salt": salt.hex(), "hash": "0" * 64, "cost": 4096}}
    made = hashed(pin, salt)
    return {**entry, "pin": {"salt": made.salt, "hash": made.hash, "cost": made.cost}}


def _devices(folder: Path, remarks: list[Remark]) -> list[dict[str, Any]]:
    """Whose records the fleet vouches for. The folder may be missing: then evidence needs the key by another way."""
    devices = []
    for path in sorted(folder.glob("*.jwk")) if folder.is_dir() else ():
        try:
            found = json.loads(path.read_bytes())
            entries = [{"kid": thumbprint(json.dumps(key)), "jwk": key} for key in found.get("keys", [found])]
        except (ValueError, TypeError, AttributeError, OSError, SigningError) as error:
            sheet, told = Sheet(f"devices/{path.name}", {}), f"is no public JSON Web Key: {error}"
            remarks.append(sheet.remark(Code.UNREADABLE, told))
            continue
        devices.append({"device": path.stem, "keys": entries})
    return devices


def _as_they_are(source: Path) -> dict[str, bytes]:
    """Certificates and signed papers, and readers' profiles; judged like all the rest as a device would."""
    papers = {name: (source / name).read_bytes() for name in CONTRACTS if (source / name).exists()}
    return papers | {
        f"profiles/{path.parent.name}/{path.name}": path.read_bytes()
        for path in sorted((source / "profiles").glob("*/*.toml"))
    }


class _Tokens:
    """Shard name to its tokens by reference. Here a UID becomes its reference, and is forgotten."""

    def __init__(
        self,
        known: Mapping[str, Mapping[str, Any]],
        token_key: bytes,
        alias_forms: Sequence[Form],
        remarks: list[Remark],
        progress: Progress,
    ) -> None:
        self._alias_forms = alias_forms
        self.shards: dict[str, dict[str, dict[str, Any]]] = {}
        self.spots: dict[tuple[str, str], Spot] = {}
        self._known = known
        self._key = token_key
        self._remarks = remarks
        self._progress = progress

    def read(self, source: Path) -> None:
        for count, (spot, entry) in enumerate(self._entries(source), start=1):
            self._add(spot, entry)
            if count % PROGRESS_EVERY == 0:
                self._progress("tokens", count)

    def _entries(self, source: Path) -> Iterator[tuple[Spot, dict[str, Any]]]:
        found, spreadsheet = sheets.find(source, "tokens"), source / "tokens.csv"
        if found is None and not spreadsheet.exists():
            raise SourceMissing(f"{source / 'tokens.toml'} (or tokens.yaml, or tokens.csv) is not there")
        if found is not None:
            sheet = sheets.read(found, self._remarks)
            entries = sheet.value.get("tokens", [])
            if not isinstance(entries, list) or not all(isinstance(entry, dict) for entry in entries):
                self._remarks.append(sheet.remark(Code.WRONG_VALUE, "write each token as [[tokens]]", "tokens"))
                entries = []
            for key in sheet.value:
                if key != "tokens":
                    self._remarks.append(sheet.remark(Code.UNKNOWN_KEY, "unknown key; write [[tokens]]", key))
            for index, entry in enumerate(entries):
                yield Spot(sheet, ("tokens", index)), entry
        if spreadsheet.exists():
            sheet = Sheet(spreadsheet.name, {})
            for line, cells in sheets.rows(spreadsheet, TOKEN_COLUMNS, self._remarks):
                yield Spot(sheet, row=line), token_of_cells(cells)

    def _add(self, spot: Spot, entry: dict[str, Any]) -> None:
        fields: dict[str, Any] = plain(entry)
        if fields.pop("aliases", None) is not None:
            self._remarks.append(spot.remark(Code.UNKNOWN_KEY, "made from the UID and alias_forms", "aliases"))
        aliases = self._aliases_of(fields)
        kind = next((each for each in ("uid", "emaid", "wallet") if each in fields), "uid")
        named = reference_of(fields.pop(kind, None), kind, self._key)
        if isinstance(named, Wrong):
            self._remarks.append(spot.remark(Code.WRONG_VALUE, named, kind))
        elif ("tokens", named) in self.spots:
            what = {"uid": "card", "emaid": "contract"}.get(kind, "wallet's pass")
            told = f"is the same {what} as in {self.spots['tokens', named]}"
            self._remarks.append(spot.remark(Code.TWICE, told, kind))
        token_reference = "0" * 64 if isinstance(named, Wrong) else str(named)
        self.spots.setdefault(("tokens", token_reference), spot)
        for name in ("not_before", "until"):
            if name in fields:
                fields[name] = _moment(fields[name])
        token = {"reference": token_reference, **fields, **({"aliases": aliases} if aliases else {})}
        for fault in entry_faults("token", token):
            code = Code.UNKNOWN_KEY if fault.unknown_key else Code.WRONG_VALUE
            self._remarks.append(spot.remark(code, fault.text, *fault.place))
        for name, names in self._known.items():
            value = fields.get(name)
            if isinstance(value, str) and value not in names:
                told = f"no {name} is named {value!r}{_near(value, names)}"
                self._remarks.append(spot.remark(UNKNOWN[name], told, name))
        # What goes without saying need not travel with every card.
        said = {name: value for name, value in token.items() if name not in DEFAULTS or value != DEFAULTS[name]}
        self.shards.setdefault(shard_name(token_reference), {})[token_reference] = said

    def _aliases_of(self, fields: Mapping[str, Any]) -> list[str]:
        """References of the parts of this UID by which readers of the fleet tell it."""
        uid = canonical_uid(fields.get("uid"))
        if not self._alias_forms or isinstance(uid, Wrong):
            return []
        parts = published(bytes.fromhex(uid), self._alias_forms)
        return [alias_reference(self._key, form, part.hex()) for form, part in parts.items()]


def _alias_forms(policy: Sheet, remarks: list[Remark]) -> tuple[Form, ...]:
    forms = policy.value.get(ALIAS_FORMS, [])
    if not isinstance(forms, list) or not set(map(str, forms)) <= set(LOSING):
        told = f"is a list of parts of a UID: {', '.join(LOSING)}"
        remarks.append(policy.remark(Code.WRONG_VALUE, told, ALIAS_FORMS))
        return ()
    return tuple(Form(each) for each in dict.fromkeys(forms))


UNKNOWN = {"group": Code.UNKNOWN_GROUP, "driver": Code.UNKNOWN_DRIVER, "vehicle": Code.UNKNOWN_VEHICLE}


def token_of_cells(cells: Mapping[str, str]) -> dict[str, Any]:
    entry: dict[str, Any] = dict(cells)
    if entry.get("offline") in ("true", "false"):
        entry["offline"] = entry["offline"] == "true"
    return entry


def reference_of(value: object, kind: str, token_key: bytes) -> str:
    """Of a card or a contract; Wrong says why there is none, and never repeats the number."""
    if kind == "uid":
        uid = canonical_uid(value)
        return uid if isinstance(uid, Wrong) else reference(token_key, uid)
    if kind == "wallet":
        return wallet_reference(token_key, value.encode()) if isinstance(value, str) and value else Wrong("is empty")
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
    """What is no moment, or has no zone, stays as it is: the check of the entry says so."""
    try:
        moment = datetime.fromisoformat(value) if isinstance(value, str) else None
        return value if moment is None or moment.tzinfo is None else _stamp(moment)
    except (ValueError, OverflowError):
        return value


def _stamp(moment: datetime) -> str:
    return f"{moment.astimezone(UTC):%Y-%m-%dT%H:%M:%SZ}"


def _near(word: str, known: Iterable[str]) -> str:
    near = difflib.get_close_matches(word, list(known), n=1)
    return f", did you mean {near[0]!r}?" if near else ""
