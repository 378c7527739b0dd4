"""The fleet office's folder: the signed repository, and the keys that never leave it but on purpose.

    keys/         root, targets, snapshot, timestamp; token.key (references); service-ack.pem (acknowledgements)
    repository/   public: what `publish` makes

Signing the repository is sync/backend/publisher.py; what it says comes from source.py.
"""

from __future__ import annotations

import json
import secrets
from collections.abc import Mapping
from dataclasses import dataclass
from datetime import datetime
from pathlib import Path
from typing import Any

from agent.files import replace_durably
from sync.backend.publisher import Publisher, PublisherError
from sync.signing import SigningError, generate, load

TOKEN_KEY_BYTES = 32


@dataclass(frozen=True, slots=True)
class FleetFolder:
    path: Path

    @classmethod
    def create(
        cls, path: Path, *, fleet: str, now: datetime, root_keys: int = 1, root_threshold: int = 1
    ) -> FleetFolder:
        """All keys new. Raises PublisherError when there are keys already."""
        Publisher.init(path, fleet=fleet, now=now, root_keys=root_keys, root_threshold=root_threshold)
        folder = cls(path)
        replace_durably(folder.service_key, generate().private_pem)
        replace_durably(folder._token_key, secrets.token_bytes(TOKEN_KEY_BYTES).hex().encode() + b"\n")
        return folder

    @property
    def publisher(self) -> Publisher:
        return Publisher(self.path)

    @property
    def service_key(self) -> Path:
        """The private key of the receiver's acknowledgements (`roamkey receive --key`)."""
        return self.path / "keys" / "service-ack.pem"

    @property
    def token_key(self) -> bytes:
        try:
            return bytes.fromhex(self._token_key.read_text(encoding="ascii"))
        except (OSError, ValueError) as error:
            raise PublisherError(
                f"{self._token_key} is no token reference key: restore it from the backup, "
                "for with another one every card of the fleet becomes unknown"
            ) from error

    def keys_document(self) -> Mapping[str, Any]:
        """keys.json: the public halves of the backend's service keys."""
        try:
            key = load(self.service_key.read_bytes())
        except (OSError, SigningError) as error:
            raise PublisherError(f"{self.service_key} cannot be used: {error}") from error
        return {"schema": 1, "keys": [{"kid": key.kid, "use": "ack", "jwk": json.loads(key.public_jwk)}]}

    def write_device_files(self, out: Path) -> list[Path]:
        """What a device is set up with: the root that it trusts first, and the key of the token references (secret)."""
        out.mkdir(parents=True, exist_ok=True)
        root, key = out / "root.json", out / "token.key"
        replace_durably(root, self.publisher.root, mode=0o644)
        replace_durably(key, self.token_key.hex().encode() + b"\n", mode=0o600)
        return [root, key]

    @property
    def _token_key(self) -> Path:
        return self.path / "keys" / "token.key"
