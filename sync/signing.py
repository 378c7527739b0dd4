"""Sign and verify small messages as compact JWS: the backend's acknowledgements, a journal's checkpoints.

Only ES256 and Ed25519 exist here; a token's own header never chooses anything else. Which keys are trusted is the
caller's knowledge. TUF metadata is signed elsewhere, with its own library. The little of RFC 7515, 7517 and 7638 that
this takes is written out below (docs/decisions/0010): a JOSE library was a tenth of the service's memory and start.
"""

from __future__ import annotations

import base64
import binascii
import hashlib
import json
from collections.abc import Mapping
from dataclasses import dataclass, field
from enum import StrEnum
from functools import lru_cache
from typing import Any, assert_never, cast

from cryptography.exceptions import InvalidSignature, UnsupportedAlgorithm
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey, Ed25519PublicKey
from cryptography.hazmat.primitives.asymmetric.utils import decode_dss_signature, encode_dss_signature
from cryptography.hazmat.primitives.hashes import SHA256
from cryptography.hazmat.primitives.serialization import (
    Encoding,
    NoEncryption,
    PrivateFormat,
    PublicFormat,
    load_pem_private_key,
    load_pem_public_key,
)

# An acknowledgement with many resend ranges stays below this; anything longer is not one of ours.
MAX_TOKEN_BYTES = 64 * 1024


class Algorithm(StrEnum):
    """Named as in RFC 7518 and RFC 9864 (which retires the ambiguous "EdDSA")."""

    ES256 = "ES256"
    ED25519 = "Ed25519"


class SigningError(Exception):
    """A key or a token cannot be used; the text says which and why."""


class KeyUnusable(SigningError):
    """The key is damaged, of another kind, or has no private half where one is needed."""


class TokenRefused(SigningError):
    """The token is malformed, of another type, by an unknown key, or its signature is wrong."""


PrivateKey = ec.EllipticCurvePrivateKey | Ed25519PrivateKey
PublicKey = ec.EllipticCurvePublicKey | Ed25519PublicKey

_COORDINATE_BYTES = 32  # of P-256, and of an Ed25519 key


@dataclass(frozen=True, slots=True, kw_only=True)
class SigningKey:
    """A private key. Its `kid` is the RFC 7638 thumbprint, so two sides never have to agree on names."""

    kid: str
    algorithm: Algorithm
    _key: PrivateKey = field(repr=False)

    @property
    def public_jwk(self) -> str:
        """The public half as a JSON Web Key, `kid` and `alg` included."""
        public = {**_members(self._key.public_key()), "kid": self.kid, "alg": self.algorithm.value}
        return json.dumps(public, sort_keys=True)

    @property
    def public_pem(self) -> str:
        pem = self._key.public_key().public_bytes(Encoding.PEM, PublicFormat.SubjectPublicKeyInfo)
        return pem.decode("ascii")

    @property
    def private_pem(self) -> bytes:
        """Unencrypted PKCS#8: for a file that only its owner may read."""
        return self._key.private_bytes(Encoding.PEM, PrivateFormat.PKCS8, NoEncryption())


def generate(algorithm: Algorithm = Algorithm.ES256) -> SigningKey:
    match algorithm:
        case Algorithm.ES256:
            return _signing_key(ec.generate_private_key(ec.SECP256R1()))
        case Algorithm.ED25519:
            return _signing_key(Ed25519PrivateKey.generate())
        case other:
            assert_never(other)


def load(pem: bytes, *, password: bytes | None = None) -> SigningKey:
    """A private key from PEM (PKCS#8 or SEC 1), P-256 or Ed25519."""
    try:
        return _signing_key(load_pem_private_key(pem, password))
    except (ValueError, TypeError, UnsupportedAlgorithm) as error:
        if _is_public(pem):
            raise KeyUnusable("this PEM holds a public key, but a private key is needed for signing") from None
        raise KeyUnusable(_UNREADABLE_PEM) from error


def thumbprint(public_key: str) -> str:
    """The `kid` of a public key given as PEM or JWK (RFC 7638)."""
    return _thumbprint(_public(public_key)[0])


def sign(payload: Mapping[str, Any], key: SigningKey, *, typ: str) -> str:
    header = {"alg": key.algorithm.value, "kid": key.kid, "typ": typ}
    body = json.dumps(payload, separators=(",", ":"), sort_keys=True, allow_nan=False).encode()
    signed = f"{_encoded(json.dumps(header, separators=(',', ':')).encode())}.{_encoded(body)}"
    return f"{signed}.{_encoded(_signature(key._key, signed.encode()))}"


def verify(token: str | bytes, keys: Mapping[str, str], *, typ: str) -> dict[str, Any]:
    """The payload, if one of `keys` (kid to public JWK or PEM) signed it as this `typ`. No time is judged here."""
    if len(token) > MAX_TOKEN_BYTES:
        raise TokenRefused(f"token of {len(token)} bytes is longer than {MAX_TOKEN_BYTES}")
    try:
        text = token if isinstance(token, str) else token.decode("ascii")
        signed, _, signature = text.rpartition(".")
        protected, _, body = signed.partition(".")
        header = json.loads(_decoded(protected))
    except (ValueError, RecursionError) as error:
        raise TokenRefused(f"not a compact JWS: {type(error).__name__}") from error
    if not isinstance(header, dict):
        raise TokenRefused("not a compact JWS: its header is not a JSON object")
    # RFC 8725 3.11: the type is explicit, so that one kind of message never passes for another.
    if header.get("typ") != typ:
        raise TokenRefused(f"token type is {header.get('typ')!r}, {typ!r} is needed")
    kid = header.get("kid")
    trusted = keys.get(kid) if isinstance(kid, str) else None
    if trusted is None:
        raise TokenRefused(f"key {kid!r} is not among the trusted keys")
    key, algorithm = _public(trusted)
    # The algorithm follows from our key, never from the token's header. No extension is understood (RFC 7515 4.1.11).
    if header.get("alg") != algorithm.value or "crit" in header:
        raise TokenRefused(f"signature by key {kid!r} does not verify: it must be plain {algorithm}")
    try:
        _check(key, _decoded(signature), signed.encode())
        payload = json.loads(_decoded(body))
    except (InvalidSignature, ValueError, RecursionError) as error:
        raise TokenRefused(f"signature by key {kid!r} does not verify: {type(error).__name__}") from error
    if not isinstance(payload, dict):
        raise TokenRefused("the signed payload is not a JSON object")
    return payload


def _signature(key: PrivateKey, signed: bytes) -> bytes:
    """RFC 7518, 3.4: R and S one after the other, not in DER. RFC 8037, 3.1: as it is."""
    if isinstance(key, Ed25519PrivateKey):
        return key.sign(signed)
    r, s = decode_dss_signature(key.sign(signed, ec.ECDSA(SHA256())))
    return r.to_bytes(_COORDINATE_BYTES, "big") + s.to_bytes(_COORDINATE_BYTES, "big")


def _check(key: PublicKey, signature: bytes, signed: bytes) -> None:
    """Raises InvalidSignature."""
    if len(signature) != 2 * _COORDINATE_BYTES:
        raise InvalidSignature
    if isinstance(key, Ed25519PublicKey):
        key.verify(signature, signed)
        return
    r, s = (int.from_bytes(half, "big") for half in (signature[:_COORDINATE_BYTES], signature[_COORDINATE_BYTES:]))
    key.verify(encode_dss_signature(r, s), signed, ec.ECDSA(SHA256()))


@lru_cache(maxsize=64)
def _public(text: str) -> tuple[PublicKey, Algorithm]:
    try:
        key = _from_jwk(text) if text.lstrip().startswith("{") else _from_pem(text.encode())
    except (ValueError, TypeError, RecursionError, UnsupportedAlgorithm) as error:
        raise KeyUnusable(f"public key cannot be read: {type(error).__name__}") from error
    return key, _algorithm(key)


def _from_jwk(text: str) -> PublicKey:
    fields = json.loads(text)
    if not isinstance(fields, dict):
        raise KeyUnusable("a JSON Web Key must be an object")
    match fields.get("kty"), fields.get("crv"):
        case "EC", "P-256":
            x, y = _coordinate(fields.get("x")), _coordinate(fields.get("y"))
            numbers = ec.EllipticCurvePublicNumbers(int.from_bytes(x, "big"), int.from_bytes(y, "big"), ec.SECP256R1())
            return numbers.public_key()  # ValueError when the point is not on the curve
        case "OKP", "Ed25519":
            return Ed25519PublicKey.from_public_bytes(_coordinate(fields.get("x")))
        case "EC" | "OKP", curve:
            raise KeyUnusable(f"curve {curve} is not used here: use EC P-256 or Ed25519")
        case kind, _:
            raise KeyUnusable(f"key type {kind!r} cannot verify here: use EC P-256 or Ed25519")


def _coordinate(value: object) -> bytes:
    decoded = _decoded(value) if isinstance(value, str) else b""
    if len(decoded) != _COORDINATE_BYTES:
        raise ValueError(f"a coordinate must have {_COORDINATE_BYTES} bytes")
    return decoded


def _from_pem(pem: bytes) -> PublicKey:
    key = load_pem_private_key(pem, None).public_key() if b" PRIVATE KEY" in pem else load_pem_public_key(pem)
    _algorithm(key)
    return cast(PublicKey, key)


def _is_public(pem: bytes) -> bool:
    try:
        load_pem_public_key(pem)
    except (ValueError, TypeError, UnsupportedAlgorithm):
        return False
    return True


def _signing_key(key: object) -> SigningKey:
    algorithm, private = _algorithm(key), cast(PrivateKey, key)
    return SigningKey(kid=_thumbprint(private.public_key()), algorithm=algorithm, _key=private)


def _algorithm(key: object) -> Algorithm:
    match key:
        case Ed25519PrivateKey() | Ed25519PublicKey():
            return Algorithm.ED25519
        case ec.EllipticCurvePrivateKey() | ec.EllipticCurvePublicKey() if isinstance(key.curve, ec.SECP256R1):
            return Algorithm.ES256
        case ec.EllipticCurvePrivateKey() | ec.EllipticCurvePublicKey():
            raise KeyUnusable(f"curve {key.curve.name} is not used here: use EC P-256 or Ed25519")
        case _:
            raise KeyUnusable(_UNREADABLE_PEM)


def _members(key: PublicKey) -> dict[str, str]:
    """Exactly those that a thumbprint is made over (RFC 7638, 3.2; RFC 8037, 2)."""
    if isinstance(key, Ed25519PublicKey):
        x = key.public_bytes(Encoding.Raw, PublicFormat.Raw)
        return {"crv": "Ed25519", "kty": "OKP", "x": _encoded(x)}
    numbers = key.public_numbers()
    x, y = (number.to_bytes(_COORDINATE_BYTES, "big") for number in (numbers.x, numbers.y))
    return {"crv": "P-256", "kty": "EC", "x": _encoded(x), "y": _encoded(y)}


def _thumbprint(key: PublicKey) -> str:
    members = json.dumps(_members(key), separators=(",", ":"), sort_keys=True)
    return _encoded(hashlib.sha256(members.encode()).digest())


def _encoded(part: bytes) -> str:
    return base64.urlsafe_b64encode(part).rstrip(b"=").decode("ascii")


def _decoded(text: str) -> bytes:
    """base64url without padding, in its one spelling only: Python's own decoder skips what it does not know."""
    try:
        part = base64.b64decode(text + "=" * (-len(text) % 4), altchars=b"-_", validate=True)
    except binascii.Error as error:
        raise ValueError("not base64url") from error
    if _encoded(part) != text:
        raise ValueError("not base64url in its one spelling")
    return part


_UNREADABLE_PEM = "PEM cannot be read: it must hold an EC P-256 or Ed25519 key (and fit its password)"
