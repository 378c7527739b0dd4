"""The bundle's parts as they came, by their content: the next update fetches only what is not here.

Shared by all generations, as most parts of a new bundle are those of the last.
"""

from __future__ import annotations

import hashlib
import os
from collections.abc import Iterable
from pathlib import Path

from agent.files import sync_folder


class PartLost(Exception):
    """A part is missing or no longer has the content that its name says; the next update fetches it again."""


class PartStore:
    def __init__(self, folder: Path) -> None:
        self._folder = folder
        folder.mkdir(parents=True, exist_ok=True, mode=0o700)

    def has(self, sha256: str) -> bool:
        try:
            self.read(sha256)
        except PartLost:
            return False
        return True

    def read(self, sha256: str) -> bytes:
        try:
            body = (self._folder / sha256).read_bytes()
        except OSError as error:
            raise PartLost(f"part {sha256[:12]} cannot be read: {error.strerror}") from error
        if hashlib.sha256(body).hexdigest() != sha256:
            raise PartLost(f"part {sha256[:12]} is damaged: the storage may be failing")
        return body

    def add(self, sha256: str, body: bytes) -> None:
        """Not durable yet: a part torn by a power cut fails its own name and is fetched again. See `sync`."""
        temporary = self._folder / f".{sha256}.new"
        temporary.write_bytes(body)
        temporary.replace(self._folder / sha256)

    def sync(self, names: Iterable[str]) -> None:
        """Durable on return: done once, before a generation that needs these parts is named."""
        for sha256 in names:
            descriptor = os.open(self._folder / sha256, os.O_RDONLY)
            try:
                os.fsync(descriptor)
            finally:
                os.close(descriptor)
        sync_folder(self._folder)

    def keep_only(self, names: Iterable[str]) -> None:
        wanted = set(names)
        for path in self._folder.iterdir():
            if path.name not in wanted:
                path.unlink(missing_ok=True)
