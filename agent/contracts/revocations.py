"""Every revocation that was ever proven here, for ever: lists get shorter and responses run out, revocations do not.

One line each, appended and synchronised. What cannot be written counts all the same, and is written with the next.
A line torn by a power cut or a full disk is no line: the next one takes its place.
"""

from __future__ import annotations

import os
import re
from pathlib import Path

from agent.core.contracts.trust import RevocationKey
from agent.files import sync_folder

MEMORY = Path("verifier", "revocations")  # in the device's folder of contracts
_LINE = re.compile(r"([0-9a-f]{64}) ([0-9a-f]{1,40})", re.ASCII)


class RememberedRevocations:
    """Opening it reads only: whoever merely looks changes nothing, and a full disk keeps nobody from what is known."""

    def __init__(self, path: Path) -> None:
        self.path = path
        content = path.read_bytes() if path.exists() else b""
        self._end = content.rfind(b"\n") + 1  # of the last whole line
        matches = (_LINE.fullmatch(line) for line in content[: self._end].decode("ascii", "replace").splitlines())
        self._written = {RevocationKey(issuer_key_hash=match[1], serial=match[2]) for match in matches if match}
        self._unwritten: set[RevocationKey] = set()

    @property
    def known(self) -> frozenset[RevocationKey]:
        return frozenset(self._written | self._unwritten)

    def remember(self, proven: frozenset[RevocationKey]) -> None:
        """Known on return, whatever happens. Durable too, with what could not be written before, or raises OSError."""
        self._unwritten |= proven - self._written
        if not self._unwritten:
            return
        is_new = not self.path.exists()
        if is_new:  # somebody took the file away: it is written whole
            self._unwritten, self._written, self._end = self._unwritten | self._written, set(), 0
        self._append("".join(sorted(f"{each.issuer_key_hash} {each.serial}\n" for each in self._unwritten)).encode())
        if is_new:
            sync_folder(self.path.parent)
        self._written |= self._unwritten
        self._unwritten = set()

    def _append(self, lines: bytes) -> None:
        """Where the last whole line ends, so that a write that once failed halfway does not spoil the next."""
        descriptor = os.open(self.path, os.O_WRONLY | os.O_CREAT | os.O_NOFOLLOW, 0o600)
        try:
            os.ftruncate(descriptor, self._end)
            if os.pwrite(descriptor, lines, self._end) != len(lines):
                raise OSError(f"{self.path}: revocations were written in part")
            os.fsync(descriptor)
        finally:
            os.close(descriptor)
        self._end += len(lines)
