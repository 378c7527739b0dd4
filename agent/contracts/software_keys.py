"""Keys as encrypted PKCS#8 files, mode 0600, under a passphrase that systemd hands over (LoadCredential=).

On disk a key is never in clear. In memory it is, so a gateway with a TPM or HSM should rather use that.
"""

from __future__ import annotations

import re
from dataclasses import dataclass, field, replace
from pathlib import Path

from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.hazmat.primitives.serialization import (
    BestAvailableEncryption,
    Encoding,
    PrivateFormat,
    PublicFormat,
    load_der_private_key,
    load_pem_private_key,
)

from agent.contracts.key_store import KeyStoreError
from agent.core.contracts.key_transport import private_key, sender_key, unwrap
from agent.core.contracts.signatures import raw_signature
from agent.core.contracts.signing import Signable, Signed, to_be_signed
from agent.files import replace_durably, sync_folder

MIN_PASSPHRASE_BYTES = 16
_NAME = re.compile(r"[a-z0-9][a-z0-9-]{0,80}", re.ASCII)
_SUFFIX = ".p8"


def read_passphrase(path: Path) -> bytes:
    """The whole file without the line break at its end."""
    try:
        passphrase = path.read_bytes().rstrip(b"\r\n")
    except OSError as error:
        raise KeyStoreError(
            f"the passphrase of the contract keys {path} cannot be read ({error.strerror}): "
            "pass it as the systemd credential contract-keys.passphrase"
        ) from error
    if len(passphrase) < MIN_PASSPHRASE_BYTES:
        raise KeyStoreError(
            f"the passphrase of the contract keys {path} has {len(passphrase)} bytes, at least {MIN_PASSPHRASE_BYTES} "
            "are needed: make a random one"
        )
    return passphrase


@dataclass(frozen=True, slots=True, kw_only=True)
class SoftwareKeys:
    """One file a key in `folder`. Keys that were opened stay open, since opening one costs more than a signature."""

    folder: Path
    passphrase: bytes = field(repr=False)
    _opened: dict[str, ec.EllipticCurvePrivateKey] = field(default_factory=dict, repr=False)

    def names(self) -> frozenset[str]:
        return frozenset(path.name.removesuffix(_SUFFIX) for path in self.folder.glob(f"*{_SUFFIX}"))

    def point(self, name: str) -> bytes:
        return self._key(name).public_key().public_bytes(Encoding.X962, PublicFormat.UncompressedPoint)

    def sign(self, name: str, request: Signable) -> Signed:
        prepared = to_be_signed(request)
        der = self._key(name).sign(prepared.signed_info, ec.ECDSA(hashes.SHA256()))
        return replace(prepared, signature=raw_signature(der))

    def take_in(self, name: str, *, under: str, sender: bytes, field: bytes, point: bytes) -> None:
        agreement = self._key(under).exchange(ec.ECDH(), sender_key(sender))
        self._keep(name, private_key(unwrap(agreement, field), point))

    def bring(self, name: str, private: bytes) -> None:
        """A key that was made elsewhere, in PEM or DER without a password: the vehicle's provisioning key, say."""
        load = load_pem_private_key if private.startswith(b"-----") else load_der_private_key
        try:
            key = load(private, None)
        except (ValueError, TypeError) as error:
            raise KeyStoreError(f"key {name}: no private key in PEM or DER without a password") from error
        if not isinstance(key, ec.EllipticCurvePrivateKey) or key.curve.name != "secp256r1":
            raise KeyStoreError(f"key {name}: ISO 15118-2 wants a key on secp256r1")
        self._keep(name, key)

    def destroy(self, name: str) -> None:
        self._opened.pop(name, None)
        try:
            self._path(name).unlink(missing_ok=True)
            if self.folder.exists():
                sync_folder(self.folder)
        except OSError as error:
            raise KeyStoreError(f"key {name} cannot be removed ({error.strerror}): check the folder") from error

    def _key(self, name: str) -> ec.EllipticCurvePrivateKey:
        if name not in self._opened:
            self._opened[name] = self._open(name)
        return self._opened[name]

    def _open(self, name: str) -> ec.EllipticCurvePrivateKey:
        try:
            key = load_der_private_key(self._path(name).read_bytes(), self.passphrase)
        except FileNotFoundError:
            raise KeyStoreError(f"key {name} is not in {self.folder}") from None
        except OSError as error:
            raise KeyStoreError(f"key {name} cannot be read ({error.strerror}): check owner and mode") from error
        except (ValueError, TypeError):
            raise KeyStoreError(f"key {name} does not open: it is damaged, or the passphrase is another one") from None
        if not isinstance(key, ec.EllipticCurvePrivateKey):
            raise KeyStoreError(f"key {name} is no key on secp256r1")
        return key

    def _keep(self, name: str, key: ec.EllipticCurvePrivateKey) -> None:
        protection = BestAvailableEncryption(self.passphrase)  # PBES2, AES-256-CBC
        content = key.private_bytes(Encoding.DER, PrivateFormat.PKCS8, protection)
        try:
            self.folder.mkdir(mode=0o700, parents=True, exist_ok=True)
            replace_durably(self._path(name), content, mode=0o600)
        except OSError as error:
            raise KeyStoreError(f"key {name} cannot be stored ({error.strerror}): check the folder") from error
        self._opened[name] = key

    def _path(self, name: str) -> Path:
        if not _NAME.fullmatch(name):
            raise KeyStoreError(f"{name!r} is no name of a key: lower-case letters, digits and hyphens")
        return self.folder / f"{name}{_SUFFIX}"
