"""What a device must never forget of its fleet's repository: trusted root, floors of all versions, newest signed time.

One SQLite transaction carries all of it together with the name of the bundle in force, so that no crash can raise a
floor without its bundle or lower one. Judging a repository is sync/documents.py; the bundle is the application's.
"""

from __future__ import annotations

import contextlib
import hashlib
import sqlite3
from collections.abc import Iterator
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path

SCHEMA_VERSION = 1
ROLES = ("root", "timestamp", "snapshot", "targets")

_SCHEMA = """
CREATE TABLE role (
    name TEXT PRIMARY KEY, version INTEGER NOT NULL, keys TEXT NOT NULL, body BLOB NOT NULL
) STRICT;
CREATE TABLE trust (
    id INTEGER PRIMARY KEY CHECK (id = 1), bootstrap TEXT NOT NULL, issued TEXT NOT NULL,
    received_boot TEXT NOT NULL, received_ms INTEGER NOT NULL, bundle TEXT NOT NULL
) STRICT;
"""


class TrustStoreError(Exception):
    """The trust store cannot be used: damaged, locked by another process, or on a disk that is full."""


class TrustStoreDamaged(TrustStoreError):
    """Its file is no longer what was written; the caller sets it aside and begins from its other copies."""


class TrustStoreBusy(TrustStoreError):
    """Another process has it: two agents on one state folder would be two truths."""


class FloorLowered(TrustStoreError):
    """Somebody asked to store less than what is already trusted: a defect of ours, never of the repository."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Role:
    """One role's newest verified metadata. `keys` names the key set that may sign it, so that a floor raised by a
    stolen key ends with that key (TUF 5.3.11: recovery from a fast-forward attack)."""

    version: int
    keys: str
    body: bytes

    @property
    def sha256(self) -> str:
        return hashlib.sha256(self.body).hexdigest()


@dataclass(frozen=True, slots=True, kw_only=True)
class Trust:
    """All that was verified at the last successful update. `bootstrap` is the SHA-256 of the root the device was given.

    `received_boot` and `received_ms` say when this device first saw the timestamp role that was `issued` then.
    """

    bootstrap: str
    root: Role
    timestamp: Role
    snapshot: Role
    targets: Role
    issued: datetime
    received_boot: str
    received_ms: int

    def role(self, name: str) -> Role:
        return {"root": self.root, "timestamp": self.timestamp, "snapshot": self.snapshot, "targets": self.targets}[
            name
        ]


@dataclass(frozen=True, slots=True, kw_only=True)
class Remembered:
    """`bundle` is the caller's name for what these roles describe, "" when only the floors are known."""

    trust: Trust
    bundle: str


class TrustStore:
    """One connection, exclusive: a second process gets TrustStoreError."""

    def __init__(self, path: Path) -> None:
        self._path = path
        try:
            self._connection = sqlite3.connect(path, isolation_level=None, timeout=0.3, check_same_thread=False)
            self._prepare()
        except sqlite3.Error as error:
            self.close()
            raise self._unusable(error) from error
        except TrustStoreError:
            self.close()
            raise

    def read(self) -> Remembered | None:
        """None on a device that has never seen a bundle."""
        try:
            row = self._connection.execute(
                "SELECT bootstrap, issued, received_boot, received_ms, bundle FROM trust"
            ).fetchone()
            roles = {
                name: Role(version=version, keys=keys, body=body)
                for name, version, keys, body in self._connection.execute("SELECT name, version, keys, body FROM role")
            }
        except sqlite3.Error as error:
            raise self._unusable(error) from error
        if row is None:
            return None
        if set(roles) != set(ROLES):
            raise TrustStoreDamaged(f"trust store {self._path} is damaged: it holds the roles {sorted(roles)}")
        bootstrap, issued, received_boot, received_ms, bundle = row
        trust = Trust(
            bootstrap=bootstrap,
            **roles,
            issued=datetime.fromisoformat(issued).astimezone(UTC),
            received_boot=received_boot,
            received_ms=received_ms,
        )
        return Remembered(trust=trust, bundle=bundle)

    def remember(self, trust: Trust, *, bundle: str) -> None:
        """Durable on return, all or nothing. Raises FloorLowered instead of forgetting."""
        stored = self.read()
        if stored is not None:
            _check_floors(stored.trust, trust)
        try:
            with self._transaction():
                self._connection.executemany(
                    "INSERT OR REPLACE INTO role VALUES (?, ?, ?, ?)",
                    [(name, trust.role(name).version, trust.role(name).keys, trust.role(name).body) for name in ROLES],
                )
                self._connection.execute(
                    "INSERT OR REPLACE INTO trust VALUES (1, ?, ?, ?, ?, ?)",
                    (trust.bootstrap, trust.issued.isoformat(), trust.received_boot, trust.received_ms, bundle),
                )
        except sqlite3.Error as error:
            raise self._unusable(error) from error

    def close(self) -> None:
        with contextlib.suppress(AttributeError, sqlite3.Error):
            self._connection.close()

    @contextlib.contextmanager
    def _transaction(self) -> Iterator[None]:
        self._connection.execute("BEGIN IMMEDIATE")
        try:
            yield
            self._connection.execute("COMMIT")
        except BaseException:
            with contextlib.suppress(sqlite3.Error):
                self._connection.execute("ROLLBACK")
            raise

    def _prepare(self) -> None:
        execute = self._connection.execute
        # EXCLUSIVE before the first access in WAL mode: no -shm file, and nobody else writes floors.
        execute("PRAGMA locking_mode = EXCLUSIVE")
        execute("PRAGMA journal_mode = WAL")
        execute("PRAGMA synchronous = FULL")
        execute("PRAGMA wal_autocheckpoint = 100")
        execute("PRAGMA journal_size_limit = 524288")
        if execute("PRAGMA quick_check").fetchone() != ("ok",):
            raise TrustStoreDamaged(f"trust store {self._path} does not pass SQLite's own check")
        (version,) = execute("PRAGMA user_version").fetchone()
        if version == 0:
            with self._transaction():
                for statement in _SCHEMA.split(";\n"):
                    execute(statement)
                execute(f"PRAGMA user_version = {SCHEMA_VERSION}")
        elif version != SCHEMA_VERSION:
            raise TrustStoreError(
                f"trust store {self._path}: its schema has version {version}, this program knows {SCHEMA_VERSION}"
            )

    def _unusable(self, error: sqlite3.Error) -> TrustStoreError:
        kind = {
            sqlite3.SQLITE_BUSY: TrustStoreBusy,
            sqlite3.SQLITE_LOCKED: TrustStoreBusy,
            sqlite3.SQLITE_CORRUPT: TrustStoreDamaged,
            sqlite3.SQLITE_NOTADB: TrustStoreDamaged,
        }.get(getattr(error, "sqlite_errorcode", 0) & 0xFF, TrustStoreError)
        return kind(f"trust store {self._path} cannot be used: {error}")


def _check_floors(stored: Trust, new: Trust) -> None:
    same_anchor = stored.bootstrap == new.bootstrap
    if stored.timestamp.keys == new.timestamp.keys and new.issued < stored.issued:
        raise FloorLowered(f"signed time would go back from {stored.issued} to {new.issued}")
    for name in ROLES:
        before, after = stored.role(name), new.role(name)
        protected = same_anchor if name == "root" else before.keys == after.keys
        if protected and after.version < before.version:
            raise FloorLowered(f"{name} would go back from version {before.version} to {after.version}")
