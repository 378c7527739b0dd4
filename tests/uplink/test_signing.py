"""Signed messages: what verifies, and everything that must not."""

from __future__ import annotations

import base64
import json

import joserfc.jwk
import joserfc.jws
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
    secret = joserfc.jwk.ECKey.import_key(key.private_pem).as_dict(private=True)["d"]
    assert secret not in repr(key)
    assert secret not in str(key)


@pytest.mark.parametrize("algorithm", list(Algorithm))
def test_a_library_of_others_reads_what_we_sign_and_we_read_what_it_signs(algorithm: Algorithm) -> None:
    key = signing.generate(algorithm)
    theirs = joserfc.jwk.import_key(key.private_pem, "EC" if algorithm is Algorithm.ES256 else "OKP")
    header = {"alg": algorithm.value, "kid": key.kid, "typ": TYP}

    ours = joserfc.jws.deserialize_compact(signing.sign({"through": 17}, key, typ=TYP), theirs, [algorithm.value])
    token = joserfc.jws.serialize_compact(header, b'{"through":17}', theirs, [algorithm.value])

    assert (ours.headers(), json.loads(ours.payload)) == (header, {"through": 17})
    assert signing.verify(token, {key.kid: key.public_jwk}, typ=TYP) == {"through": 17}
    public = {**theirs.as_dict(private=False), "kid": theirs.thumbprint(), "alg": algorithm.value}
    assert json.loads(key.public_jwk) == public


def test_the_thumbprint_is_that_of_the_standard() -> None:
    """RFC 8037, appendix A.3."""
    jwk = '{"crv":"Ed25519","kty":"OKP","x":"11qYAYKxCrfVS_7TyWQHOg7hcvPapiMlrwIaaPcHURo"}'
    assert signing.thumbprint(jwk) == "kPrK_qmxVWaYVA9wwBF6Iuo3vVzz7TxHCTwXBygrS4k"


def test_an_extension_that_must_be_understood_is_not() -> None:
    """RFC 7515, 4.1.11."""
    key = signing.generate()
    theirs = joserfc.jwk.ECKey.import_key(key.private_pem)
    header = {"alg": "ES256", "kid": key.kid, "typ": TYP, "crit": ["b64"], "b64": True}
    token = joserfc.jws.serialize_compact(header, b"{}", theirs, ["ES256"])

    with pytest.raises(TokenRefused, match="plain ES256"):
        signing.verify(token, {key.kid: key.public_jwk}, typ=TYP)


@pytest.mark.parametrize(
    "change",
    [
        {"x": "AAAA"},
        {"x": None},
        {"y": "11qYAYKxCrfVS_7TyWQHOg7hcvPapiMlrwIaaPcHURo"},  # no point of the curve
        {"crv": "P-384"},
        {"kty": "RSA"},
        {"x": "A" * 43 + "="},
    ],
)
def test_a_public_key_that_is_none_is_refused(change: dict[str, object]) -> None:
    with pytest.raises(KeyUnusable):
        signing.thumbprint(json.dumps({**json.loads(signing.generate().public_jwk), **change}))


def test_a_signature_has_one_spelling() -> None:
    key = signing.generate(Algorithm.ED25519)
    token = signing.sign({"through": 17}, key, typ=TYP)
    alphabet = "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789-_"
    sibling = alphabet[alphabet.index(token[-1]) + 1]  # the last character's low bits mean nothing

    for other in (token[:-1] + sibling, token + "=", token + "==", token + "\n"):
        with pytest.raises(TokenRefused):
            signing.verify(other, {key.kid: key.public_jwk}, typ=TYP)
