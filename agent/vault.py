"""The device's secrets: its signing key, which never leaves, and the fleet's key of the token references.

Contract keys and card keys come later. Nothing here is ever shown: repr is masked, errors name files, never contents.
"""

from __future__ import annotations

import json
import re
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Self

from agent.config import credential
from agent.core.credentials import key_check
from agent.files import replace_durably
from sync.signing import KeyUnusable, SigningKey, generate, load, sign

TOKEN_KEY_BYTES = 32
_HEX_TEXT = re.compile(rb"[0-9A-Fa-f\s]*")

# The name under which systemd hands over a device key that was made elsewhere (LoadCredential=device.key:...).
DEVICE_KEY_CREDENTIAL = "device.key"


class VaultError(Exception):
    """A key is missing or unusable; the text says which file and what to do."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Vault:
    """Signs for the device. `kid` is the RFC 7638 thumbprint of the public key.

    `fault`: what is wrong with the device's own key, while a stand-in signs.
    """

    kid: str
    token_key: bytes = field(repr=False)
    fault: str | None = None
    _key: SigningKey = field(repr=False)

    @classmethod
    def open(cls, folder: Path, *, token_key: Path, device_key: Path | None = None, stand_in: bool = False) -> Self:
        """The device key is made at the first start, unless the operator or a systemd credential brings one.

        Its public half is kept beside it as `device.jwk`, for the fleet backend to know this device by. Raises
        VaultError; with `stand_in` a key of ours that the flash has spoiled is left as it is, and another signs
        until it is restored: nobody takes that one's checkpoints for proven, but cards go on being decided.
        """
        secret = read_token_key(token_key)
        given = device_key or credential(DEVICE_KEY_CREDENTIAL)
        try:
            key = _loaded(given) if given is not None else _own_key(folder, DEVICE_KEY_CREDENTIAL)
        except VaultError as error:
            if given is not None or not stand_in:
                raise
            other = _own_key(folder, "stand-in.key")
            _publish(folder / "stand-in.jwk", other)
            return cls(kid=other.kid, token_key=secret, fault=str(error), _key=other)
        _publish(folder / "device.jwk", key)
        return cls(kid=key.kid, token_key=secret, _key=key)

    def sign(self, payload: Mapping[str, Any], *, typ: str) -> str:
        """A compact JWS; `typ` keeps one kind of message from passing for another (RFC 8725, 3.11)."""
        return sign(payload, self._key, typ=typ)

    @property
    def public(self) -> dict[str, Any]:
        """The public key as a JSON Web Key, `kid` included."""
        jwk: dict[str, Any] = json.loads(self._key.public_jwk)
        return jwk

    @property
    def keys(self) -> dict[str, str]:
        """The public key in the shape in which signatures are verified: kid to JWK."""
        return {self.kid: self._key.public_jwk}

    @property
    def token_key_check(self) -> str:
        """Short public fingerprint of the token key: tells a wrong key from unknown cards."""
        return key_check(self.token_key)


def _own_key(folder: Path, name: str) -> SigningKey:
    path = folder / name
    if path.exists():
        return _loaded(path)
    key = generate()
    try:
        folder.mkdir(mode=0o700, parents=True, exist_ok=True)
        replace_durably(path, key.private_pem)
    except OSError as error:
        raise VaultError(f"device key cannot be stored at {path} ({error.strerror}): check the folder") from error
    return key


def _loaded(path: Path) -> SigningKey:
    try:
        return load(path.read_bytes())
    except OSError as error:
        raise VaultError(f"device key {path} cannot be read ({error.strerror}): check its owner and mode") from error
    except KeyUnusable as error:
        raise VaultError(
            f"device key {path} cannot be used: {error}; restore it, or remove it to make a new one"
        ) from None


def _publish(path: Path, key: SigningKey) -> None:
    text = key.public_jwk.encode() + b"\n"
    try:
        if path.exists() and path.read_bytes() == text:
            return
        path.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
        replace_durably(path, text, mode=0o644)
    except OSError as error:
        raise VaultError(f"public key cannot be stored at {path} ({error.strerror}): check the folder") from error


def read_token_key(path: Path) -> bytes:
    """32 bytes as they are, or as 64 hexadecimal digits with any white space around them."""
    try:
        content = path.read_bytes()
    except OSError as error:
        raise VaultError(
            f"token reference key {path} cannot be read ({error.strerror}): "
            "put the fleet's key there (`roamkey fleet device-files` writes it), "
            "or pass it as the systemd credential token.key"
        ) from error
    if len(content) == TOKEN_KEY_BYTES and not _HEX_TEXT.fullmatch(content):  # half a key in hex is 32 bytes, too
        return content
    try:
        key = bytes.fromhex(content.decode("ascii").strip())
    except ValueError:
        key = b""
    if len(key) != TOKEN_KEY_BYTES:
        raise VaultError(
            f"token reference key {path} must be {TOKEN_KEY_BYTES} bytes or {2 * TOKEN_KEY_BYTES} hexadecimal digits, "
            f"it has {len(content)} bytes: get the fleet's key again"
        )
    return key
