"""Where the key of a reader's secure channel (OSDP) comes from. Which keys are refused: drivers/readers/secure_line.py.

The file is read each time the reader is opened: a key that was corrected works at the next try, and none is held.
"""

from __future__ import annotations

import re
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING

from agent.config import credential
from drivers.readers.secure_line import KEY_BYTES, KeyUnusable, SecureLine, no_key

if TYPE_CHECKING:
    from agent.config import Reader

FILE_MAX_BYTES = 256
HEX_KEY = re.compile(rf"[0-9A-Fa-f]{{{2 * KEY_BYTES}}}")


def line_of(reader: Reader) -> SecureLine:
    """A systemd credential named reader-NAME.key is taken when the configuration names no file."""
    path = reader.key or credential(f"reader-{reader.name}.key")
    key = no_key if path is None else partial(read_key, path)
    return SecureLine(address=reader.address, plain=reader.plain, key=key)


def read_key(path: Path) -> bytes:
    """16 bytes as they are, or 32 hexadecimal digits with any white space around them."""
    try:
        with path.open("rb") as file:
            content = file.read(FILE_MAX_BYTES)
    except OSError as error:
        raise KeyUnusable(
            f"the key file {path} cannot be read ({error.strerror})",
            hint="put the key of this reader's secure channel there, readable by the service only",
        ) from error
    text = content.decode("latin-1").strip()
    return bytes.fromhex(text) if HEX_KEY.fullmatch(text) else content
