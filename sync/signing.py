"""Sign and verify small messages as compact JWS: the backend's acknowledgements, a journal's checkpoints.

Only ES256 and Ed25519 exist here; a token's own header never chooses anything else. Which keys are trusted is the
caller's knowledge. TUF metadata is signed elsewhere, with its own library.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass, field
from enum import StrEnum
from functools import lru_cache
from typing import Any

from joserfc import jws
from joserfc.errors import JoseError
from joserfc.jwk import ECKey, OKPKey

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


@dataclass(frozen=True, slots=True, kw_only=True)
class SigningKey:
    """A private key. Its `kid` is the RFC 7638 thumbprint, so two sides never have to agree on names."""

    kid: str
    algorithm: Algorithm
    _jwk: ECKey | OKPKey = field(repr=False)

    @property
    def public_jwk(self) -> str:
        """The public half as a JSON Web Key, `kid` and `alg` included."""
        public = {**self._jwk.as_dict(private=False), "kid": self.kid, "alg": self.algorithm.value}
        return json.dumps(public, sort_keys=True)

    @property
    def public_pem(self) -> str:
        return self._jwk.as_pem(private=False).decode("ascii")

    @property
    def private_pem(self) -> bytes:
        """Unencrypted PKCS#8: for a file that only its owner may read."""
        return self._jwk.as_pem(private=True)


def generate(algorithm: Algorithm = Algorithm.ES256) -> SigningKey:
    return _signing_key(ECKey.generate_key("P-256") if algorithm is Algorithm.ES256 else OKPKey.generate_key("Ed25519"))


def load(pem: bytes, *, password: bytes | None = None) -> SigningKey:
    """A private key from PEM (PKCS#8 or SEC 1), P-256 or Ed25519."""
    key = _imported(pem, password)
    if not key.is_private:
        raise KeyUnusable("this PEM holds a public key, but a private key is needed for signing")
    return _signing_key(key)


def thumbprint(public_key: str) -> str:
    """The `kid` of a public key given as PEM or JWK."""
    return _public(public_key)[0].thumbprint()


def sign(payload: Mapping[str, Any], key: SigningKey, *, typ: str) -> str:
    header = {"alg": key.algorithm.value, "kid": key.kid, "typ": typ}
    body = json.dumps(payload, separators=(",", ":"), sort_keys=True, allow_nan=False).encode()
    return jws.serialize_compact(header, body, key._jwk, algorithms=[key.algorithm.value])


def verify(token: str | bytes, keys: Mapping[str, str], *, typ: str) -> dict[str, Any]:
    """The payload, if one of `keys` (kid to public JWK or PEM) signed it as this `typ`. No time is judged here."""
    if len(token) > MAX_TOKEN_BYTES:
        raise TokenRefused(f"token of {len(token)} bytes is longer than {MAX_TOKEN_BYTES}")
    try:
        header = jws.extract_compact(token if isinstance(token, bytes) else token.encode()).headers()
    except (JoseError, ValueError, TypeError, RecursionError) as error:
        raise TokenRefused(f"not a compact JWS: {type(error).__name__}") from error
    # RFC 8725 3.11: the type is explicit, so that one kind of message never passes for another.
    if header.get("typ") != typ:
        raise TokenRefused(f"token type is {header.get('typ')!r}, {typ!r} is needed")
    kid = header.get("kid")
    trusted = keys.get(kid) if isinstance(kid, str) else None
    if trusted is None:
        raise TokenRefused(f"key {kid!r} is not among the trusted keys")
    key, algorithm = _public(trusted)
    try:
        # The algorithm follows from our key, never from the token's header.
        signed = jws.deserialize_compact(token, key, algorithms=[algorithm.value])
        payload = json.loads(signed.payload)
    except (JoseError, ValueError, TypeError, RecursionError) as error:
        raise TokenRefused(f"signature by key {kid!r} does not verify: {type(error).__name__}") from error
    if not isinstance(payload, dict):
        raise TokenRefused("the signed payload is not a JSON object")
    return payload


@lru_cache(maxsize=64)
def _public(text: str) -> tuple[ECKey | OKPKey, Algorithm]:
    try:
        if text.lstrip().startswith("{"):
            fields = json.loads(text)
            if not isinstance(fields, dict):
                raise KeyUnusable("a JSON Web Key must be an object")
            kind = fields.get("kty")
            if kind not in ("EC", "OKP"):
                raise KeyUnusable(f"key type {kind!r} cannot verify here: use EC P-256 or Ed25519")
            public = {name: value for name, value in fields.items() if name in ("kty", "crv", "x", "y")}
            key = ECKey.import_key(public) if kind == "EC" else OKPKey.import_key(public)
        else:
            key = _imported(text.encode(), None)
    except (JoseError, ValueError, TypeError, KeyError) as error:
        raise KeyUnusable(f"public key cannot be read: {type(error).__name__}") from error
    return key, _algorithm(key)


def _imported(pem: bytes, password: bytes | None) -> ECKey | OKPKey:
    for kind in (ECKey, OKPKey):
        try:
            return kind.import_key(pem, password=password)
        except (JoseError, ValueError, TypeError, AttributeError):
            continue
    raise KeyUnusable("PEM cannot be read: it must hold an EC P-256 or Ed25519 key (and fit its password)")


def _signing_key(key: ECKey | OKPKey) -> SigningKey:
    return SigningKey(kid=key.thumbprint(), algorithm=_algorithm(key), _jwk=key)


def _algorithm(key: ECKey | OKPKey) -> Algorithm:
    match key.curve_name:
        case "P-256":
            return Algorithm.ES256
        case "Ed25519":
            return Algorithm.ED25519
        case other:
            raise KeyUnusable(f"curve {other} is not used here: use EC P-256 or Ed25519")
