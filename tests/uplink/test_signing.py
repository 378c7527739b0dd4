"""Signed messages: what verifies, and everything that must not."""

from __future__ import annotations

import base64
import json

import pytest

from sync import signing
from sync.signing import Algorithm, KeyUnusable, TokenRefused

TYP = "roamkey-test+jwt"


@pytest.mark.parametrize("algorithm", list(Algorithm))
@pytest.mark.parametrize("form", ["public_jwk", "public_pem"])
def test_what_one_side_signs_the_other_reads(algorithm: Algorithm, form: str) -> None:
    key = signing.load(signing.generate(algorithm).private_pem)

    token = signing.sign({"through": 17}, key, typ=TYP)

    assert signing.verify(token, {key.kid: getattr(key, form)}, typ=TYP) == {"through": 17}
    assert signing.thumbprint(getattr(key, form)) == key.kid


def test_another_key_under_the_same_name_does_not_verify() -> None:
    ours, rogue = signing.generate(), signing.generate()
    token = signing.sign({"through": 17}, rogue, typ=TYP)

    with pytest.raises(TokenRefused, match="not among"):
        signing.verify(token, {ours.kid: ours.public_jwk}, typ=TYP)
    with pytest.raises(TokenRefused, match="does not verify"):
        signing.verify(token, {rogue.kid: ours.public_jwk}, typ=TYP)


def test_a_message_of_another_type_is_refused() -> None:
    key = signing.generate()
    with pytest.raises(TokenRefused, match="type"):
        signing.verify(signing.sign({}, key, typ="other"), {key.kid: key.public_jwk}, typ=TYP)


def _forged(header: dict[str, object], signature: bytes = b"") -> str:
    parts = (json.dumps(header).encode(), b'{"through":17}', signature)
    return ".".join(base64.urlsafe_b64encode(part).rstrip(b"=").decode() for part in parts)


@pytest.mark.parametrize("alg", ["none", "HS256", "RS256", "EdDSA", "Ed25519", "", None, 7, ["ES256"]])
def test_the_tokens_own_header_never_chooses_the_algorithm(alg: object) -> None:
    key = signing.generate()
    for signature in (b"", b"\0" * 64):
        with pytest.raises(TokenRefused):
            signing.verify(
                _forged({"alg": alg, "kid": key.kid, "typ": TYP}, signature), {key.kid: key.public_jwk}, typ=TYP
            )


@pytest.mark.parametrize(
    "token",
    [
        "",
        ".",
        "..",
        "a.b.c",
        "\x00",
        "ü.ü.ü",
        "e30.e30",
        "e30.e30.e30",
        "W10.e30.e30",
        "x" * 100_000,
        b"\xff.\xff.\xff",
    ],
)
def test_junk_is_refused_without_any_other_error(token: str | bytes) -> None:
    with pytest.raises(TokenRefused):
        signing.verify(token, {}, typ=TYP)


def test_every_changed_character_is_noticed() -> None:
    key = signing.generate(Algorithm.ED25519)
    token = signing.sign({"through": 17}, key, typ=TYP)
    for at in range(0, len(token), 3):
        # The last character of a base64 part has unused bits: "!" cannot be one of its spellings.
        with pytest.raises(TokenRefused):
            signing.verify(token[:at] + "!" + token[at + 1 :], {key.kid: key.public_jwk}, typ=TYP)


def test_keys_of_other_kinds_are_named_and_refused() -> None:
    with pytest.raises(KeyUnusable):
        signing.load(b"-----BEGIN PRIVATE KEY-----\nAAAA\n-----END PRIVATE KEY-----\n")
    with pytest.raises(KeyUnusable, match="private key is needed"):
        signing.load(signing.generate().public_pem.encode())
    with pytest.raises(KeyUnusable, match="oct"):
        signing.thumbprint('{"kty":"oct","k":"AAAA"}')


def test_a_private_key_never_shows_in_a_repr() -> None:
    key = signing.generate()
    secret = json.loads(json.dumps(key._jwk.as_dict(private=True)))["d"]
    assert secret not in repr(key)
    assert secret not in str(key)
