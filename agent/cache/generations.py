"""Generations: each bundle of the fleet becomes one immutable folder, built beside the old one and checked whole.

    generations/{revision}-{hash of its manifest}/
        documents.json    policy, drivers, vehicles, keys, sites (TinyDB)
        tokens.sqlite     the token table
        root.json ...     the metadata that vouched for it: a second copy of the trust store's floors
        manifest.json     sizes and hashes of all this; its own hash is in the folder's name

Which generation is in force is a row of the trust store, written in the same transaction as its floors: that is the
atomic switch. TinyDB rewrites a file in place and can tear it, so it writes only here, before the folder gets its name.
"""

from __future__ import annotations

import hashlib
import json
import os
import shutil
import sqlite3
import tempfile
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import asdict, dataclass
from datetime import datetime, timedelta
from pathlib import Path
from typing import Any

from tinydb import TinyDB
from tinydb.storages import Storage

from agent.cache.contents import Contents, KeyUse, ServiceKey
from agent.cache.parts import PartLost, PartStore
from agent.cache.stored_budgets import budget_document, budget_of
from agent.cache.stored_groups import group_document, group_of
from agent.cache.tokens import HasAliases, TokensUnreadable, TokenTable, build_table, revise_table
from agent.core.pins import Pin
from agent.core.policy import Driver, Token, Vehicle
from agent.core.sites import Evse, Matching, Site, Sites, sites_of
from agent.files import replace_durably, sync_folder
from sync.trust_store import ROLES, Role, Trust

LAYOUT = 1
MOST_REVISED = 64  # of 256 shards; when more have changed, a new table is as quick and has no gaps
_MANIFEST = "manifest.json"
_DOCUMENTS = "documents.json"
_TOKENS = "tokens.sqlite"
_BUILDING = ".building-"
MAX_MANIFEST_BYTES = 1024 * 1024


class GenerationDamaged(Exception):
    """A stored generation cannot be used; the text says why. The previous one, or the next update, helps."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Generation:
    """One generation. `parts` maps each target's name to its content's hash; `trust` is what vouched for them."""

    contents: Contents
    parts: Mapping[str, str]
    trust: Trust

    @property
    def fingerprint(self) -> str:
        """Names exactly this bundle in records: the hash of the signed list of its parts."""
        return self.trust.targets.sha256


@dataclass(frozen=True, slots=True, kw_only=True)
class Loaded:
    """A generation read from its folder, with its open token table."""

    name: str
    generation: Generation
    tokens: TokenTable
    token_count: int


@dataclass(frozen=True, slots=True, kw_only=True)
class _Basis:
    """A table that can be revised instead of being built anew, and the parts that it was built from."""

    table: Path
    count: int
    parts: Mapping[str, str]

    def changed(self, parts: Mapping[str, str]) -> list[str]:
        """The shards that are new, gone, or have another content."""
        names = {name for name in (*self.parts, *parts) if name.startswith("tokens/")}
        return sorted(name for name in names if self.parts.get(name) != parts.get(name))


class Generations:
    def __init__(self, folder: Path, parts: PartStore) -> None:
        self._folder = folder
        self._parts = parts
        folder.mkdir(parents=True, exist_ok=True, mode=0o700)
        for unfinished in folder.glob(f"{_BUILDING}*"):
            shutil.rmtree(unfinished, ignore_errors=True)

    def names(self) -> list[str]:
        """All whole generations, newest revision first."""
        found = [path.name for path in self._folder.iterdir() if path.is_dir() and not path.name.startswith(".")]
        return sorted(found, key=lambda name: (_revision(name), name), reverse=True)

    def build(self, generation: Generation, shards: Mapping[str, Callable[[], Iterable[Token]]]) -> str:
        """Durable, read back and found whole on return, and not in force yet. `shards` are read as they are needed."""
        building = Path(tempfile.mkdtemp(prefix=_BUILDING, dir=self._folder))
        try:
            _write_documents(building / _DOCUMENTS, generation.contents)
            count = self._write_tokens(building / _TOKENS, generation, shards)
            for role in ROLES:
                (building / f"{role}.json").write_bytes(generation.trust.role(role).body)
            manifest = _manifest(building, generation, count)
            (building / _MANIFEST).write_bytes(manifest)
            for path in building.iterdir():
                _sync_file(path)
            sync_folder(building)
            self._parts.sync(set(generation.parts.values()))
            name = f"{generation.contents.revision}-{_sha256(manifest)[:32]}"
            self._check(building, name, generation, count)
            target = self._folder / name
            if target.exists():  # built before, and the switch to it never happened; it may be damaged since
                shutil.rmtree(target)
            building.rename(target)
        except BaseException:
            shutil.rmtree(building, ignore_errors=True)
            raise
        sync_folder(self._folder)
        return name

    def _write_tokens(
        self, path: Path, generation: Generation, shards: Mapping[str, Callable[[], Iterable[Token]]]
    ) -> int:
        """A copy of the newest table with what has changed since, if that is little; else a new one."""
        basis = self._basis(generation)
        if basis is not None:
            changed = basis.changed(generation.parts)
            try:
                shutil.copyfile(basis.table, path)
                tokens = (token for name in changed if name in shards for token in shards[name]())
                return basis.count + revise_table(path, [int(name[7:9], 16) for name in changed], tokens)
            except (HasAliases, sqlite3.Error):
                path.unlink(missing_ok=True)
        return build_table(path, (token for name in sorted(shards) for token in shards[name]()))

    def _basis(self, generation: Generation) -> _Basis | None:
        """The newest generation, when its table is whole, most of its shards are still good, and they are so also by
        what this one says: a token names groups, drivers and vehicles that exist."""
        for name in self.names()[:1]:
            try:
                loaded = self._load(self._folder / name, name)
            except GenerationDamaged:
                return None
            loaded.tokens.close()
            before, now = loaded.generation.contents, generation.contents
            table = self._folder / name / _TOKENS
            _, sha256 = _read_manifest(self._folder / name, name)["files"][_TOKENS]
            basis = _Basis(table=table, count=loaded.token_count, parts=loaded.generation.parts)
            still_there = all(
                set(getattr(before, each)) <= set(getattr(now, each)) for each in ("groups", "drivers", "vehicles")
            )
            few = len(basis.changed(generation.parts)) <= MOST_REVISED
            whole = before.key_check == now.key_check and still_there and few and _sha256_of_file(table) == sha256
            return basis if whole else None
        return None

    def load(self, name: str) -> Loaded:
        """Milliseconds, also with 100,000 tokens: the table is not read through but sealed row by row."""
        return self._load(self._folder / name, name)

    def prune(self, keep: Iterable[str]) -> None:
        """Remove other generations, what a crash left half built, and the parts that only they needed."""
        kept = set(keep)
        for path in self._folder.iterdir():
            if path.name not in kept:
                shutil.rmtree(path, ignore_errors=True)
        needed: set[str] = set()
        for name in kept:
            try:
                needed |= set(_read_manifest(self._folder / name, name)["parts"].values())
            except GenerationDamaged:
                return  # we cannot tell what it needs
        self._parts.keep_only(needed)

    def _load(self, folder: Path, name: str) -> Loaded:
        manifest = _read_manifest(folder, name)
        bodies: dict[str, bytes] = {}
        try:
            for file, (size, sha256) in manifest["files"].items():
                if file == _TOKENS:
                    if (folder / file).stat().st_size != size:
                        raise GenerationDamaged(f"generation {name}: {file} is not {size} bytes long")
                    continue
                bodies[file] = (folder / file).read_bytes()
                if _sha256(bodies[file]) != sha256:
                    raise GenerationDamaged(f"generation {name}: {file} is damaged")
            generation = Generation(
                contents=_read_documents(folder / _DOCUMENTS),
                parts=manifest["parts"],
                trust=_trust(manifest["trust"], bodies),
            )
            tokens = TokenTable(folder / _TOKENS, shard=self._shard_reader(generation.parts))
        except (OSError, KeyError, TypeError, ValueError, TokensUnreadable) as error:
            raise GenerationDamaged(f"generation {name} cannot be read: {error}") from error
        return Loaded(name=name, generation=generation, tokens=tokens, token_count=manifest["token_count"])

    def _check(self, folder: Path, name: str, generation: Generation, count: int) -> None:
        """Read back what was written, all of it, before anything points to it."""
        loaded = self._load(folder, name)
        try:
            if loaded.generation != generation or loaded.tokens.count() != count:
                raise GenerationDamaged(f"generation {name} reads back otherwise than it was written")
            _, sha256 = _read_manifest(folder, name)["files"][_TOKENS]
            if _sha256_of_file(folder / _TOKENS) != sha256:
                raise GenerationDamaged(f"generation {name}: {_TOKENS} reads back otherwise than it was written")
        except TokensUnreadable as error:
            raise GenerationDamaged(str(error)) from error
        finally:
            loaded.tokens.close()

    def _shard_reader(self, parts: Mapping[str, str]) -> Callable[[str], bytes]:
        def read(reference: str) -> bytes:
            sha256 = parts.get(f"tokens/{reference[:2]}.json")
            if sha256 is None:
                return b""  # the signed bundle has no token that begins so
            try:
                return self._parts.read(sha256)
            except PartLost as error:
                raise TokensUnreadable(str(error)) from error

        return read


class _WholeFile(Storage):
    """TinyDB's storage, but a file is replaced whole and durably, never rewritten in place."""

    def __init__(self, path: Path) -> None:
        self._path = path

    def read(self) -> dict[str, dict[str, Any]] | None:
        try:
            found: dict[str, dict[str, Any]] = json.loads(self._path.read_bytes())
        except FileNotFoundError:
            return None
        return found

    def write(self, data: dict[str, dict[str, Any]]) -> None:
        replace_durably(self._path, json.dumps(data, separators=(",", ":")).encode())


@contextmanager
def _documents(path: Path) -> Iterator[TinyDB]:
    database = TinyDB(path, storage=_WholeFile)
    try:
        yield database
    finally:
        database.close()


def _write_documents(path: Path, contents: Contents) -> None:
    tables: dict[str, list[dict[str, Any]]] = {
        "policy": [
            {
                "fleet": contents.fleet,
                "revision": contents.revision,
                "key_check": contents.key_check,
                "stale_after_s": int(contents.stale_after.total_seconds()),
                "expired_after_s": int(contents.expired_after.total_seconds()),
            }
        ],
        "groups": [group_document(each) for each in contents.groups.values()],
        "drivers": [
            {
                "id": each.id,
                "language": each.language,
                "cost_centre": each.cost_centre,
                "pin": None if each.pin is None else [each.pin.salt, each.pin.hash, each.pin.cost],
            }
            for each in contents.drivers.values()
        ],
        "vehicles": [{"id": each.id, "cost_centre": each.cost_centre} for each in contents.vehicles.values()],
        "keys": [{"kid": each.kid, "use": each.use, "jwk": each.jwk} for each in contents.keys],
        "revoked": [{"reference": each} for each in sorted(contents.revoked)],
        "matching": [asdict(contents.sites.matching)],
        "sites": [asdict(each) for each in contents.sites.by_latitude],
        "budgets": [budget_document(each) for each in contents.budgets],
    }
    with _documents(path) as database:
        for name, documents in tables.items():
            database.table(name).insert_multiple(documents)


def _read_documents(path: Path) -> Contents:
    with _documents(path) as database:
        (policy,) = database.table("policy").all()
        return Contents(
            fleet=policy["fleet"],
            revision=policy["revision"],
            key_check=policy["key_check"],
            stale_after=timedelta(seconds=policy["stale_after_s"]),
            expired_after=timedelta(seconds=policy["expired_after_s"]),
            groups={each["id"]: group_of(each) for each in database.table("groups").all()},
            drivers={each["id"]: _driver(each) for each in database.table("drivers").all()},
            vehicles={each["id"]: Vehicle(**each) for each in database.table("vehicles").all()},
            keys=tuple(
                ServiceKey(kid=each["kid"], use=KeyUse(each["use"]), jwk=each["jwk"])
                for each in database.table("keys").all()
            ),
            budgets=tuple(budget_of(each) for each in database.table("budgets").all()),
            revoked=frozenset(each["reference"] for each in database.table("revoked").all()),
            sites=_sites(database.table("matching").all(), database.table("sites").all()),
        )


def _sites(matching: Sequence[Mapping[str, Any]], sites: Sequence[Mapping[str, Any]]) -> Sites:
    """A generation of before there were sites has none."""
    return sites_of(
        (Site(**{**each, "evses": tuple(Evse(**evse) for evse in each["evses"])}) for each in sites),
        *(Matching(**each) for each in matching),
    )


def _driver(document: Mapping[str, Any]) -> Driver:
    salt, digest, cost = document.get("pin") or ("", "", 0)
    pin = Pin(salt=salt, hash=digest, cost=cost) if salt else None
    return Driver(id=document["id"], language=document["language"], cost_centre=document["cost_centre"], pin=pin)


def _manifest(folder: Path, generation: Generation, count: int) -> bytes:
    trust = generation.trust
    manifest = {
        "layout": LAYOUT,
        "files": {path.name: [path.stat().st_size, _sha256_of_file(path)] for path in sorted(folder.iterdir())},
        "parts": dict(generation.parts),
        "token_count": count,
        "trust": {
            "bootstrap": trust.bootstrap,
            "issued": trust.issued.isoformat(),
            "received_boot": trust.received_boot,
            "received_ms": trust.received_ms,
            "roles": {name: [trust.role(name).version, trust.role(name).keys] for name in ROLES},
        },
    }
    return json.dumps(manifest, sort_keys=True, separators=(",", ":")).encode()


def _read_manifest(folder: Path, name: str) -> dict[str, Any]:
    try:
        with (folder / _MANIFEST).open("rb") as file:
            body = file.read(MAX_MANIFEST_BYTES)
    except OSError as error:
        raise GenerationDamaged(f"generation {name} has no manifest: {error.strerror}") from error
    if _sha256(body)[:32] != name.partition("-")[2]:
        raise GenerationDamaged(f"generation {name}: its manifest is damaged")
    manifest: dict[str, Any] = json.loads(body)
    if manifest["layout"] != LAYOUT:
        raise GenerationDamaged(f"generation {name} has layout {manifest['layout']}, this program knows {LAYOUT}")
    return manifest


def _trust(fields: Mapping[str, Any], bodies: Mapping[str, bytes]) -> Trust:
    roles = {
        name: Role(version=version, keys=keys, body=bodies[f"{name}.json"])
        for name, (version, keys) in fields["roles"].items()
    }
    return Trust(
        bootstrap=fields["bootstrap"],
        **roles,
        issued=datetime.fromisoformat(fields["issued"]),
        received_boot=fields["received_boot"],
        received_ms=fields["received_ms"],
    )


def _revision(name: str) -> int:
    text = name.partition("-")[0]
    return int(text) if text.isdecimal() else -1


def _sha256(body: bytes) -> str:
    return hashlib.sha256(body).hexdigest()


def _sha256_of_file(path: Path) -> str:
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def _sync_file(path: Path) -> None:
    descriptor = os.open(path, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)
