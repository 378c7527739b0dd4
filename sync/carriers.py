"""How a device gets the fleet's documents: one small interface, and the carrier that is a folder (a USB stick).

What arrives is trusted for its signatures, never for its carrier. The carrier over retained MQTT topics is in
`sync.retained`; who checks and activates documents is the application.
"""

from __future__ import annotations

import asyncio
import re
from pathlib import Path
from typing import Protocol

_NAME = re.compile(r"(metadata/[A-Za-z0-9][A-Za-z0-9._-]{0,127}|targets/[0-9a-f]{64})")


class CarrierError(Exception):
    """The carrier cannot say now whether the document exists, or what it holds cannot be taken."""


class DocumentTooLarge(CarrierError):
    """It is there and longer than it may be; waiting does not help."""


class Carrier(Protocol):
    async def fetch(self, name: str, max_bytes: int) -> bytes | None:
        """The document "metadata/NAME.json" or "targets/SHA256"; None when it does not exist there.

        Raises CarrierError when the carrier cannot be asked, DocumentTooLarge beyond `max_bytes`.
        """
        ...


class FolderCarrier:
    """The same names as files below a folder."""

    def __init__(self, folder: Path) -> None:
        self._folder = folder

    async def fetch(self, name: str, max_bytes: int) -> bytes | None:
        if not _NAME.fullmatch(name):
            raise CarrierError(f"{name!r} names no document: use metadata/NAME or targets/SHA256")
        return await asyncio.to_thread(self._read, self._folder / name, max_bytes)

    def _read(self, path: Path, max_bytes: int) -> bytes | None:
        try:
            with path.open("rb") as file:
                document = file.read(max_bytes + 1)
        except (FileNotFoundError, NotADirectoryError):
            # A stick that was pulled out is not a repository without this document.
            if not self._folder.is_dir():
                raise CarrierError(f"folder {self._folder} is gone: is the stick still plugged in?") from None
            return None
        except OSError as error:
            raise CarrierError(f"{path.name} cannot be read: {error.strerror}") from error
        if len(document) > max_bytes:
            raise DocumentTooLarge(f"{path.name} is larger than {max_bytes} bytes")
        return document
