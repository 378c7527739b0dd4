"""Get the readable records out of a damaged journal file. Nothing here writes to it: it is evidence.

Each row stores its record's hash just before its body, so a record is either exactly what was sealed or not taken.
"""

from __future__ import annotations

import json
import os
import sqlite3
from collections.abc import Iterator
from hashlib import sha256
from pathlib import Path
from typing import Final

from agent.files import replace_durably
from agent.wire import Unreadable, open_envelope

_BEGIN: Final = b'{"specversion":"1.0","id":"'
_HASH_BYTES = 32
# A page is 4 KiB; a longer body goes on in overflow pages, which only SQLite itself can follow.
_PAGE_BYTES = 4096
_BLOCK_BYTES = 64 * 1024


def salvage(path: Path) -> dict[int, bytes]:
    """Sequence to body, in order: what SQLite still reads, and what stands whole in the pages of file and WAL."""
    found: dict[int, bytes] = {}
    for body in (*_rows(path), *_carved(path), *_carved(path.with_name(path.name + "-wal"))):
        try:
            found.setdefault(open_envelope(body).sequence, body)
        except Unreadable:
            continue
    return dict(sorted(found.items()))


def write_lines(path: Path, bodies: dict[int, bytes]) -> None:
    """The exact bytes as JSON Lines, for people and for `roamkey journal verify --file`."""
    replace_durably(path, b"".join(body + b"\n" for body in bodies.values()))


def _rows(path: Path) -> Iterator[bytes]:
    """From the front up to the damage, then from the back down to it."""
    for direction in ("ASC", "DESC"):
        try:
            database = sqlite3.connect(f"file:{path}?mode=ro&immutable=1", uri=True)
        except sqlite3.Error:
            return
        try:
            for digest, body in database.execute(f"SELECT hash, body FROM record ORDER BY sequence {direction}"):  # noqa: S608
                if isinstance(body, bytes) and sha256(body).digest() == digest:
                    yield body
        except sqlite3.Error:
            continue
        finally:
            database.close()


def _carved(path: Path) -> Iterator[bytes]:
    """Search block by block with read(2): a block that cannot be read costs only itself (in a mapping it kills)."""
    try:
        descriptor = os.open(path, os.O_RDONLY)
    except FileNotFoundError:
        return
    try:
        for offset in range(0, os.fstat(descriptor).st_size, _BLOCK_BYTES):
            block = _block(descriptor, max(0, offset - _HASH_BYTES), _HASH_BYTES + _BLOCK_BYTES + _PAGE_BYTES)
            start = block.find(_BEGIN)
            while start >= 0:
                body = _body_at(block[start : start + _PAGE_BYTES])
                if body and sha256(body).digest() == block[max(0, start - _HASH_BYTES) : start]:
                    yield body
                start = block.find(_BEGIN, start + 1)
    finally:
        os.close(descriptor)


def _block(descriptor: int, offset: int, size: int) -> bytes:
    try:
        return os.pread(descriptor, size, offset)
    except OSError:
        return b""


def _body_at(window: bytes) -> bytes:
    """The JSON object at the window's start, or nothing."""
    text = window.decode("utf-8", "replace")
    try:
        _, end = json.JSONDecoder().raw_decode(text)
    except (ValueError, RecursionError):
        return b""
    return text[:end].encode()
