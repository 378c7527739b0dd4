"""What a newer bundle revokes, while the rest of it is missing or cannot be used: kept apart, and only ever denies.

    denied.json     {"version": of targets, "keys": who signed them, "root": who named those, "revoked": [references]}

It counts until a bundle of at least that version is in force, which says itself what is revoked.
"""

from __future__ import annotations

import json
import re
from dataclasses import dataclass
from pathlib import Path

from agent.files import replace_durably
from sync.trust_store import Trust

_REFERENCE = re.compile(r"[0-9a-f]{64}")


@dataclass(frozen=True, slots=True, kw_only=True)
class Denials:
    """Version and keys are those of the signed list of parts that named it, `root` the version that names the keys."""

    version: int
    keys: str
    root: int
    revoked: frozenset[str]

    def beside(self, trust: Trust) -> frozenset[str]:
        """What of it still counts while this bundle is in force. Versions of other keys cannot be compared."""
        same_keys = self.keys == trust.targets.keys
        is_older = self.version <= trust.targets.version if same_keys else self.root < trust.root.version
        return frozenset() if is_older else self.revoked


NONE = Denials(version=0, keys="", root=0, revoked=frozenset())


def read_part(body: bytes) -> frozenset[str]:
    """Of a signed part. One that is unfit denies nothing: its bundle is refused, which is told."""
    try:
        return frozenset(each for each in json.loads(body)["revoked"] if _REFERENCE.fullmatch(each))
    except (ValueError, KeyError, TypeError, RecursionError):
        return frozenset()


class DenialStore:
    """Best effort in reading: a damaged file denies nothing, and the next update brings it again."""

    def __init__(self, folder: Path) -> None:
        self._path = folder / "denied.json"

    def read(self) -> Denials:
        try:
            found = json.loads(self._path.read_bytes())
            revoked = frozenset(str(each) for each in found["revoked"])
            version, root = int(found["version"]), int(found["root"])
            return Denials(version=version, keys=str(found["keys"]), root=root, revoked=revoked)
        except (OSError, ValueError, KeyError, TypeError, RecursionError):
            return NONE

    def write(self, denials: Denials) -> None:
        """Durable on return. Raises OSError."""
        body = {
            "version": denials.version,
            "keys": denials.keys,
            "root": denials.root,
            "revoked": sorted(denials.revoked),
        }
        replace_durably(self._path, json.dumps(body).encode())

    def clear(self) -> None:
        self._path.unlink(missing_ok=True)
