"""The token table of one generation: a read-only SQLite file, looked up by the keyed reference of a credential.

Flash loses bits and SQLite does not checksum its pages, so nothing found here is believed without its seal, and nothing
missing without a look into the signed shard it would have come from. TinyDB, which holds the other documents, needs
seconds a look-up at fleet size (measured; see docs/decisions).
"""

from __future__ import annotations

import contextlib
import hashlib
import json
import sqlite3
from collections.abc import Callable, Iterable
from datetime import datetime
from pathlib import Path
from typing import Any

from agent.core.answers import Whitelist
from agent.core.policy import Token, TokenStatus

_SCHEMA = (
    "CREATE TABLE token (reference BLOB PRIMARY KEY, body BLOB NOT NULL, seal BLOB NOT NULL) STRICT, WITHOUT ROWID"
)
_ALIASES = (
    "CREATE TABLE alias (alias BLOB PRIMARY KEY, reference BLOB NOT NULL, seal BLOB NOT NULL) STRICT, WITHOUT ROWID"
)
_SEVERAL = b""  # the alias fits more than one token: it serves for none of them
_SEAL_BYTES = 8  # against decay, not against an attacker: whoever can write here can write anything

Shard = Callable[[str], bytes]
"""The verified bytes of the shard that would hold this reference; raises TokensUnreadable when they are damaged."""


class TokensUnreadable(Exception):
    """The table cannot be trusted to answer. The core refuses with CACHE_UNREADABLE; the next update builds it anew."""


class HasAliases(Exception):
    """The table must be built anew."""


class Ambiguous(Exception):
    """What was told of a card fits more than one token of the fleet."""


class TokenTable:
    """Opened once a generation. One thread at a time looks up; closing is the cache's business."""

    def __init__(self, path: Path, *, shard: Shard) -> None:
        self._path = path
        self._shard = shard
        try:
            # immutable: no locks, no -wal, no look at the file's age; it is never written after its folder was named.
            self._connection = sqlite3.connect(
                f"{path.absolute().as_uri()}?mode=ro&immutable=1",
                uri=True,
                isolation_level=None,
                check_same_thread=False,
            )
            self._connection.execute("PRAGMA mmap_size = 0")  # a bad sector must be an error, not a SIGBUS
        except sqlite3.Error as error:
            raise TokensUnreadable(f"token table {path} cannot be opened: {error}") from error

    def get(self, reference: str) -> Token | None:
        """None when the fleet has no such token, for certain."""
        try:
            key = bytes.fromhex(reference)
            row = self._connection.execute("SELECT body, seal FROM token WHERE reference = ?", (key,)).fetchone()
        except ValueError:
            return None
        except (sqlite3.Error, OverflowError) as error:
            raise TokensUnreadable(f"token table {self._path} cannot be read: {error}") from error
        if row is None:
            if reference.encode("ascii") in self._shard(reference):
                raise TokensUnreadable(f"token table {self._path} has lost a token: the storage may be failing")
            return None
        body, seal = row
        if seal != _seal(key, body):
            raise TokensUnreadable(f"token table {self._path} is damaged: the storage may be failing")
        return _token(reference, json.loads(body))

    def alias(self, alias: str) -> str | None:
        """The reference of the one token that is told so; raises Ambiguous where there are several.

        A lost row is a refusal and no risk: what several are told by is a row, too.
        """
        try:
            key = bytes.fromhex(alias)
            row = self._connection.execute("SELECT reference, seal FROM alias WHERE alias = ?", (key,)).fetchone()
        except sqlite3.OperationalError as error:
            if "no such table" in str(error):
                return None  # made before there were any
            raise TokensUnreadable(f"token table {self._path} cannot be read: {error}") from error
        except (sqlite3.Error, OverflowError) as error:
            raise TokensUnreadable(f"token table {self._path} cannot be read: {error}") from error
        if row is None:
            return None
        if row[1] != _seal(key, row[0]):
            raise TokensUnreadable(f"token table {self._path} is damaged: the storage may be failing")
        if row[0] == _SEVERAL:
            raise Ambiguous
        return bytes(row[0]).hex()

    def count(self) -> int:
        """Reads the whole table: for the check of a new generation, not for the start."""
        try:
            if self._connection.execute("PRAGMA integrity_check").fetchone() != ("ok",):
                raise TokensUnreadable(f"token table {self._path} does not pass SQLite's own check")
            (count,) = self._connection.execute("SELECT count(*) FROM token").fetchone()
        except sqlite3.Error as error:
            raise TokensUnreadable(f"token table {self._path} cannot be read: {error}") from error
        return int(count)

    def close(self) -> None:
        with contextlib.suppress(sqlite3.Error):
            self._connection.close()


def build_table(path: Path, tokens: Iterable[Token]) -> int:
    """Write a new table of tokens that come sorted by reference. The caller syncs the file."""
    connection = sqlite3.connect(path, isolation_level=None)
    try:
        # Nobody reads this file before it is whole, so its writing needs no journal.
        connection.execute("PRAGMA journal_mode = OFF")
        connection.execute("PRAGMA synchronous = OFF")
        connection.execute(_SCHEMA)
        connection.execute(_ALIASES)
        connection.execute("BEGIN")
        inserted = connection.executemany("INSERT INTO token VALUES (?, ?, ?)", _rows(connection, tokens)).rowcount
        connection.execute("COMMIT")
    finally:
        connection.close()
    return max(0, inserted)


def revise_table(path: Path, shards: Iterable[int], tokens: Iterable[Token]) -> int:
    """In a copy of a whole table, put these tokens in the place of all whose reference begins with one of these bytes.

    How many more there are now. Raises HasAliases: an alias belongs to no shard, so only a new table tells who has it.
    """
    connection = sqlite3.connect(path, isolation_level=None)
    try:
        connection.execute("PRAGMA journal_mode = OFF")  # nobody reads this copy before it is whole
        connection.execute("PRAGMA synchronous = OFF")
        if connection.execute("SELECT 1 FROM alias LIMIT 1").fetchone() is not None:
            raise HasAliases
        connection.execute("BEGIN")
        change = 0
        for first in shards:
            bounds = (bytes([first]), bytes([first]) + b"\xff" * 32)
            change -= connection.execute("DELETE FROM token WHERE reference BETWEEN ? AND ?", bounds).rowcount
        for token in tokens:
            if token.aliases:
                raise HasAliases
            connection.execute("INSERT INTO token VALUES (?, ?, ?)", _row(token))
            change += 1
        connection.execute("COMMIT")
    finally:
        connection.close()
    return change


def _rows(connection: sqlite3.Connection, tokens: Iterable[Token]) -> Iterable[tuple[bytes, bytes, bytes]]:
    for token in tokens:
        for alias in token.aliases:
            _add_alias(connection, bytes.fromhex(alias), bytes.fromhex(token.reference))
        yield _row(token)


def _add_alias(connection: sqlite3.Connection, alias: bytes, reference: bytes) -> None:
    connection.execute(
        "INSERT INTO alias VALUES (?1, ?2, ?3) ON CONFLICT (alias) DO UPDATE SET reference = ?4, seal = ?5"
        " WHERE reference <> ?2",
        (alias, reference, _seal(alias, reference), _SEVERAL, _seal(alias, _SEVERAL)),
    )


def _row(token: Token) -> tuple[bytes, bytes, bytes]:
    key = bytes.fromhex(token.reference)
    fields: dict[str, Any] = {"label": token.label, "group": token.group}
    if token.status is not TokenStatus.ACTIVE:
        fields["status"] = token.status.value
    for name in ("not_before", "until"):
        moment: datetime | None = getattr(token, name)
        if moment is not None:
            fields[name] = moment.isoformat()
    for name in ("parent", "driver", "vehicle"):
        if getattr(token, name) is not None:
            fields[name] = getattr(token, name)
    if not token.offline:
        fields["offline"] = False
    if token.whitelist is not Whitelist.ALLOWED:
        fields["whitelist"] = token.whitelist.value
    body = json.dumps(fields, separators=(",", ":")).encode()
    return key, body, _seal(key, body)


def _token(reference: str, fields: dict[str, Any]) -> Token:
    for name in ("not_before", "until"):
        if name in fields:
            fields[name] = datetime.fromisoformat(fields[name])
    fields["status"] = TokenStatus(fields.get("status", TokenStatus.ACTIVE))
    fields["whitelist"] = Whitelist(fields.get("whitelist", Whitelist.ALLOWED))
    return Token(reference=reference, **fields)


def _seal(key: bytes, body: bytes) -> bytes:
    return hashlib.sha256(key + body).digest()[:_SEAL_BYTES]
