"""What proves an earlier decision: past bundles' signed metadata with their small documents, and every root followed.

    archive/roots/{version}.json
    archive/bundles/{revision}-{fingerprint}.z      JSON, deflated

Without it a session's evidence would end with the next policy. Tokens, people and vehicles are not kept: what the
decision knew of them is in its record. Judging is sync/vouching.py.
"""

from __future__ import annotations

import json
import zlib
from collections.abc import Iterable
from pathlib import Path

from agent.files import replace_durably
from sync.bundle import SignedBundle

PROVING_PARTS = ("policy.json", "devices.json", "keys.json", "revoked.json")
# A bundle of a large fleet takes about 20 kB here; a new one every day for half a year.
MOST_BUNDLES = 200


class Archive:
    def __init__(self, folder: Path, *, most_bundles: int = MOST_BUNDLES) -> None:
        self._most_bundles = most_bundles
        self._roots = folder / "roots"
        self._bundles = folder / "bundles"

    def add(self, bundle: SignedBundle, *, revision: int) -> None:
        """Durable on return; the oldest ones beyond the limit go."""
        self._bundles.mkdir(parents=True, exist_ok=True, mode=0o700)
        kept = {
            "root": bundle.root,
            "timestamp": bundle.timestamp.decode(),
            "snapshot": bundle.snapshot.decode(),
            "targets": bundle.targets.decode(),
            "parts": {name: bundle.parts[name].decode() for name in PROVING_PARTS if name in bundle.parts},
        }
        name = f"{revision:012}-{bundle.fingerprint}.z"
        replace_durably(self._bundles / name, zlib.compress(json.dumps(kept).encode()))
        for outdated in sorted(self._bundles.glob("*.z"))[: -self._most_bundles]:
            outdated.unlink(missing_ok=True)

    def add_roots(self, roots: Iterable[bytes]) -> None:
        """When the operator gave the device another root, the line that came of the old one ends there."""
        self._roots.mkdir(parents=True, exist_ok=True, mode=0o700)
        for body in roots:
            version = int(json.loads(body)["signed"]["version"])
            path = self._roots / f"{version}.json"
            if path.exists() and path.read_bytes() == body:
                continue
            for other in self._roots.glob("*.json"):
                if int(other.stem) > version:
                    other.unlink()
            replace_durably(path, body)

    def has(self, fingerprint: str) -> bool:
        return self._path(fingerprint) is not None

    def bundle(self, fingerprint: str) -> SignedBundle | None:
        """None when it was never here, is damaged, or is one of those that went."""
        path = self._path(fingerprint)
        try:
            kept = json.loads(zlib.decompress(path.read_bytes())) if path is not None else None
        except (OSError, zlib.error, ValueError):
            return None
        if kept is None:
            return None
        return SignedBundle(
            root=kept["root"],
            timestamp=kept["timestamp"].encode(),
            snapshot=kept["snapshot"].encode(),
            targets=kept["targets"].encode(),
            parts={name: body.encode() for name, body in kept["parts"].items()},
        )

    def roots(self) -> list[bytes]:
        """Oldest first; unreadable ones are left out."""
        found = {}
        for path in self._roots.glob("*.json"):
            try:
                found[int(path.stem)] = path.read_bytes()
            except (OSError, ValueError):
                continue
        return [found[version] for version in sorted(found)]

    def _path(self, fingerprint: str) -> Path | None:
        return next(iter(self._bundles.glob(f"*-{fingerprint}.z")), None)
