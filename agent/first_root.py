"""The TUF root that the fleet gave this device to begin with: read and looked at. It is judged in sync/documents.py."""

from __future__ import annotations

import json
from pathlib import Path


class RootUnusable(Exception):
    """The file is missing or is no TUF root; the text says which and what to do."""


def read_root(path: Path) -> bytes:
    try:
        content = path.read_bytes()
    except OSError as error:
        raise RootUnusable(f"TUF root {path} cannot be read ({error.strerror}): {REMEDY}") from error
    try:
        document = json.loads(content)
        kind = document["signed"]["_type"]
    except (ValueError, TypeError, KeyError):
        kind = None
    if kind != "root":
        raise RootUnusable(f"TUF root {path} is not one: {REMEDY}")
    return content


REMEDY = "`roamkey fleet device-files` writes the fleet's root.json for a device"
