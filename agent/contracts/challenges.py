"""Every challenge that was ever signed, so that none is signed twice, also across restarts.

A file of fixed records, one SHA-256 each, appended and synchronised before the signature is made. A record torn by a
power cut belongs to a signature that was not made yet, and goes.
"""

from __future__ import annotations

import hashlib
import os
from pathlib import Path

from agent.files import replace_durably, sync_folder

RECORD_BYTES = hashlib.sha256().digest_size
MAX_RECORDS = 65_536  # 2 MiB: ten sessions a day for eighteen years; then the older half goes


class SignedChallenges:
    def __init__(self, path: Path) -> None:
        self.path = path
        content = path.read_bytes() if path.exists() else b""
        whole = len(content) - len(content) % RECORD_BYTES
        if whole != len(content):
            replace_durably(path, content[:whole])
        self._signed = dict.fromkeys(content[at : at + RECORD_BYTES] for at in range(0, whole, RECORD_BYTES))

    def known(self, challenge: bytes) -> bool:
        """Signed before: nobody need be asked whether it may be signed again."""
        return hashlib.sha256(challenge).digest() in self._signed

    def take(self, challenge: bytes) -> bool:
        """True once for each challenge, and then it is durably taken. Raises OSError when it cannot be written."""
        record = hashlib.sha256(challenge).digest()
        if record in self._signed:
            return False
        if len(self._signed) >= MAX_RECORDS:
            kept = list(self._signed)[MAX_RECORDS // 2 :]
            replace_durably(self.path, b"".join(kept))
            self._signed = dict.fromkeys(kept)
        self._append(record)
        self._signed[record] = None
        return True

    def _append(self, record: bytes) -> None:
        """Where the last whole record ends, so that a write that once failed halfway does not shift the next."""
        is_new = not self.path.exists()
        descriptor = os.open(self.path, os.O_WRONLY | os.O_CREAT | os.O_NOFOLLOW, 0o600)
        try:
            end = len(self._signed) * RECORD_BYTES
            os.ftruncate(descriptor, end)
            if os.pwrite(descriptor, record, end) != len(record):
                raise OSError("the record of signed challenges was written in part")
            os.fsync(descriptor)
        finally:
            os.close(descriptor)
        if is_new:
            sync_folder(self.path.parent)
