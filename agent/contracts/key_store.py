"""The one narrow port to private keys: sign a typed request, take in a wrapped key, give public keys, destroy.

No export, and no signing of bytes. Adapters: software_keys.py (encrypted files).
"""

from __future__ import annotations

from typing import Protocol

from agent.core.contracts.signing import Signable, Signed


class KeyStoreError(Exception):
    """A key is missing, refuses to open or could not be stored; the text says which and what to do, never the key."""


class KeyStore(Protocol):
    def names(self) -> frozenset[str]:
        """Of all keys that are the wallet's; what else a shared token holds is not ours to see."""
        ...

    def point(self, name: str) -> bytes:
        """The public key, 04 || X || Y."""
        ...

    def sign(self, name: str, request: Signable) -> Signed:
        """The signature is r || s, 64 bytes."""
        ...

    def take_in(self, name: str, *, under: str, sender: bytes, field: bytes, point: bytes) -> None:
        """Unwrap a contract's key with the key named `under`, check that it belongs to `point`, keep it durably.

        Raises KeyTransportError when it does not; then nothing is kept. Whoever calls has verified the sender.
        """
        ...

    def destroy(self, name: str) -> None:
        """Durable on return. A key that is not there is destroyed already."""
        ...
