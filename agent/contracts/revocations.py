"""Every revocation that was ever proven here, for ever: lists get shorter and responses run out, revocations do not.

One line each, appended and synchronised before the verdict is given. A line torn by a power cut goes; it is proven
again by the same paper, or was never told to anybody.
"""

from __future__ import annotations

import os
import re
from pathlib import Path

from agent.core.contracts.trust import RevocationKey
from agent.files import replace_durably, sync_folder

_LINE = re.compile(r"([0-9a-f]{64}) ([0-9a-f]{1,40})", re.ASCII)


class RememberedRevocations:
    def __init__(self, path: Path) -> None:
        self.path = path
        text = path.read_bytes() if path.exists() else b""
        whole = text[: text.rfind(b"\n") + 1]
        if whole != text:
            replace_durably(path, whole)
        matches = (_LINE.fullmatch(line) for line in whole.decode("ascii", "replace").splitlines())
        self._known = {RevocationKey(issuer_key_hash=match[1], serial=match[2]) for match in matches if match}

    @property
    def known(self) -> frozenset[RevocationKey]:
        return frozenset(self._known)

    def remember(self, proven: frozenset[RevocationKey]) -> None:
        """Durable on return. Raises OSError when it cannot be."""
        added = proven - self._known
        if not added:
            return
        lines = "".join(f"{each.issuer_key_hash} {each.serial}\n" for each in sorted(added, key=lambda key: key.serial))
        is_new = not self.path.exists()
        descriptor = os.open(self.path, os.O_WRONLY | os.O_CREAT | os.O_APPEND | os.O_NOFOLLOW, 0o600)
        try:
            if os.write(descriptor, lines.encode("ascii")) != len(lines):
                raise OSError("a revocation was written in part")
            os.fsync(descriptor)
        finally:
            os.close(descriptor)
        if is_new:
            sync_folder(self.path.parent)
        self._known |= added
