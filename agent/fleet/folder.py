"""The fleet office's folder: the signed repository, and the keys that never leave it but on purpose.

    keys/         root, targets, snapshot, timestamp; token.key (references); break-glass.key (codes over the phone);
                  service-USE.pem: the backend's, one for each thing that it may sign (SERVICES)
    repository/   public: what `publish` makes
    revoked.json  cards that are revoked whatever the fleet's files say; announced.json: what a broker has

Signing the repository is sync/backend/publisher.py; what it says comes from source.py.
"""

from __future__ import annotations

import json
import secrets
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from datetime import datetime
from pathlib import Path
from typing import Any

from agent.core.break_glass import secret_of
from agent.files import replace_durably
from agent.fleet.revocations import Revocations
from sync.backend.publisher import Publisher, PublisherError
from sync.ceilings import Ceilings
from sync.signing import SigningError, SigningKey, generate, load

TOKEN_KEY_BYTES = 32
# What a service key may sign: a stolen one signs nothing else. Each can be kept where it is used.
SERVICES = ("ack", "grant", "answer", "override")


@dataclass(frozen=True, slots=True)
class FleetFolder:
    path: Path

    @classmethod
    def create(
        cls,
        path: Path,
        *,
        fleet: str,
        now: datetime,
        root_keys: int = 1,
        root_threshold: int = 1,
        root_folder: Path | None = None,
        ceilings: Ceilings | None = None,
    ) -> FleetFolder:
        """All keys new. Raises PublisherError when there are keys already."""
        Publisher.init(
            path,
            fleet=fleet,
            now=now,
            root_keys=root_keys,
            root_threshold=root_threshold,
            root_folder=root_folder,
            ceilings=ceilings,
        )
        folder = cls(path)
        for use in SERVICES:
            replace_durably(folder.service_key_for(use), generate().private_pem)
        for secret in (folder._token_key, folder._break_glass_key):
            replace_durably(secret, secrets.token_bytes(TOKEN_KEY_BYTES).hex().encode() + b"\n")
        return folder

    @property
    def publisher(self) -> Publisher:
        return Publisher(self.path)

    @property
    def revocations(self) -> Revocations:
        return Revocations(self.path / "revoked.json")

    def announced(self, broker: str) -> frozenset[str]:
        """The documents that this broker has taken. When nobody knows, none: then all are handed over again."""
        return frozenset(self._announced().get(broker, ()))

    def note_announced(self, broker: str, names: Iterable[str]) -> None:
        noted = self._announced() | {broker: sorted(names)}
        replace_durably(self.path / "announced.json", json.dumps(noted).encode())

    def _announced(self) -> dict[str, list[str]]:
        try:
            found = json.loads((self.path / "announced.json").read_bytes())
        except (OSError, ValueError):
            return {}
        return found if isinstance(found, dict) else {}

    @property
    def service_key(self) -> Path:
        """The private key of the receiver's acknowledgements (`roamkey receive --key`)."""
        return self.service_key_for("ack")

    def service_key_for(self, use: str) -> Path:
        return self.path / "keys" / f"service-{use}.pem"

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
        keys = [(use, self.signing_key(use)) for use in SERVICES if self._is_wanted(use)]
        told = [{"kid": key.kid, "use": use, "jwk": json.loads(key.public_jwk)} for use, key in keys]
        return {"schema": 1, "keys": told}

    def signing_key(self, use: str) -> SigningKey:
        path = self.service_key_for(use)
        try:
            return load(path.read_bytes())
        except (OSError, SigningError) as error:
            hint = f"make it with openssl genpkey -algorithm ed25519 -out {path}, and publish"
            raise PublisherError(f"{path} cannot be used: {error}" + ("" if path.exists() else f"; {hint}")) from error

    def _is_wanted(self, use: str) -> bool:
        """A fleet that is older than a use has no key for it, and its devices believe nobody there."""
        return use == "ack" or self.service_key_for(use).exists()

    @property
    def break_glass_key(self) -> bytes:
        try:
            return bytes.fromhex(self._break_glass_key.read_text(encoding="ascii"))
        except (OSError, ValueError) as error:
            raise PublisherError(f"{self._break_glass_key} is no key for break-glass codes: {error}") from error

    def write_device_files(self, out: Path, device: str | None = None) -> list[Path]:
        """What a device is set up with: the root that it trusts first, and the key of the token references (secret).

        With its name also its own secret for break-glass codes, by which no other device's codes can be made.
        """
        out.mkdir(parents=True, exist_ok=True)
        root, key = out / "root.json", out / "token.key"
        replace_durably(root, self.publisher.root, mode=0o644)
        replace_durably(key, self.token_key.hex().encode() + b"\n", mode=0o600)
        if device is None:
            return [root, key]
        codes = out / "break-glass.key"
        replace_durably(codes, secret_of(self.break_glass_key, device).hex().encode() + b"\n", mode=0o600)
        return [root, key, codes]

    @property
    def _token_key(self) -> Path:
        return self.path / "keys" / "token.key"

    @property
    def _break_glass_key(self) -> Path:
        return self.path / "keys" / "break-glass.key"
