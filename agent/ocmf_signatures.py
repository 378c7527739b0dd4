"""Is an OCMF record signed by this key? Strict on the bytes, lenient on how the key is written. Uses `cryptography`.

The record itself is agent/core/ocmf.py. The key comes by another way than the record (a register, the station's label):
nothing in a record is believed about its own key.
"""

from __future__ import annotations

import base64
import binascii
import contextlib
import re
from dataclasses import dataclass
from enum import StrEnum

from cryptography.exceptions import InvalidSignature, UnsupportedAlgorithm
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.hazmat.primitives.asymmetric.utils import decode_dss_signature
from cryptography.hazmat.primitives.hashes import SHA256
from cryptography.hazmat.primitives.serialization import load_der_public_key

from agent.core.ocmf import Record

# Names as in OCMF, table of signature algorithms, and as seen in the field, in lower case.
CURVES: dict[str, ec.EllipticCurve] = {
    "secp192r1": ec.SECP192R1(),
    "secp224r1": ec.SECP224R1(),
    "secp256r1": ec.SECP256R1(),
    "secp256k1": ec.SECP256K1(),
    "secp384r1": ec.SECP384R1(),
    "secp521r1": ec.SECP521R1(),
    "brainpool256r1": ec.BrainpoolP256R1(),
    "brainpool384r1": ec.BrainpoolP384R1(),
    "brainpool512r1": ec.BrainpoolP512R1(),
}
SYNONYMS = {"prime192v1": "secp192r1", "prime256v1": "secp256r1", "nist-p256": "secp256r1"}
DER = "application/x-der"


class Verdict(StrEnum):
    """UNSUPPORTED is not invalid: this program cannot check that curve, another might."""

    VALID = "VALID"
    BAD_SIGNATURE = "BAD_SIGNATURE"
    BAD_SIGNATURE_ENCODING = "BAD_SIGNATURE_ENCODING"
    BAD_KEY = "BAD_KEY"
    NO_KEY = "NO_KEY"
    UNSUPPORTED = "UNSUPPORTED"
    MALFORMED = "MALFORMED"


@dataclass(frozen=True, slots=True, kw_only=True)
class Verification:
    verdict: Verdict
    text: str


def verify(record: Record | None, public_key: str | bytes | None) -> Verification:
    """The key as PEM, or as DER or an uncompressed point in hex or base64, with or without line breaks."""
    if record is None:
        return Verification(verdict=Verdict.MALFORMED, text="This is no OCMF record")
    curve, unsupported = _curve(record.signature.algorithm)
    if curve is None:
        return Verification(verdict=Verdict.UNSUPPORTED, text=unsupported)
    signature, broken = _signature(record)
    if signature is None:
        return Verification(verdict=Verdict.BAD_SIGNATURE_ENCODING, text=broken)
    if not public_key or not public_key.strip():
        return Verification(verdict=Verdict.NO_KEY, text="No public key was given; it is not part of the record")
    try:
        key = read_key(public_key, curve)
    except UnsupportedAlgorithm:
        return Verification(
            verdict=Verdict.UNSUPPORTED, text="The public key is on a curve that cannot be checked here"
        )
    except ValueError as error:
        return Verification(verdict=Verdict.BAD_KEY, text=str(error))
    if key.curve.name != curve.name:
        text = f"The key is on {key.curve.name}, the record was signed with {record.signature.algorithm}"
        return Verification(verdict=Verdict.BAD_KEY, text=text)
    try:
        key.verify(signature, record.payload, ec.ECDSA(SHA256()))
    except InvalidSignature:
        text = "The payload was changed, or was signed by another key"
        return Verification(verdict=Verdict.BAD_SIGNATURE, text=text)
    return Verification(verdict=Verdict.VALID, text=f"Signed with this key ({record.signature.algorithm})")


def read_key(text: str | bytes, curve: ec.EllipticCurve) -> ec.EllipticCurvePublicKey:
    """ValueError when it is no key; UnsupportedAlgorithm when it is on a curve that is not known here."""
    for der in _encodings(text):
        with contextlib.suppress(ValueError):  # the next encoding may be the right one
            if der[:1] == b"\x04" and len(der) == 1 + 2 * ((curve.key_size + 7) // 8):
                return ec.EllipticCurvePublicKey.from_encoded_point(curve, der)
            key = load_der_public_key(der)
            if isinstance(key, ec.EllipticCurvePublicKey):
                return key
    raise ValueError("The public key is no elliptic curve key in PEM, nor in DER or as a point in hex or base64")


def _encodings(text: str | bytes) -> list[bytes]:
    """Every way in which these characters can be bytes."""
    raw = text if isinstance(text, bytes) else text.encode("utf-8", "replace")
    stripped = re.sub(rb"-----[^-]*-----", b"", raw)
    compact = re.sub(rb"\s+", b"", stripped)
    found = []
    if re.fullmatch(rb"(?:0[xX])?(?:[0-9A-Fa-f]{2})+", compact):
        found.append(binascii.unhexlify(compact.removeprefix(b"0x").removeprefix(b"0X")))
    with contextlib.suppress(binascii.Error):
        found.append(base64.b64decode(compact, validate=True))
    return [*found, raw]


def _curve(algorithm: str) -> tuple[ec.EllipticCurve | None, str]:
    match = re.fullmatch(r"ECDSA-(?P<curve>.+)-SHA-?(?P<hash>\d+)", algorithm.strip(), re.IGNORECASE)
    if match is None:
        return None, f"The algorithm {algorithm!r} is none of OCMF"
    if match["hash"] != "256":
        return None, f"The hash of {algorithm!r} is none of OCMF, which has only SHA-256"
    name = match["curve"].lower().replace("brainpoolp", "brainpool")
    curve = CURVES.get(SYNONYMS.get(name, name))
    return curve, f"The curve {match['curve']!r} cannot be checked here; the record may still be valid"


def _signature(record: Record) -> tuple[bytes | None, str]:
    stated = record.signature
    compact = re.sub(r"\s+", "", stated.text)
    if not compact:
        return None, "There is no signature (SD)"
    if stated.media_type.strip().lower() != DER:
        return None, f"The signature is {stated.media_type!r}; OCMF has only {DER}"
    try:
        match stated.encoding.strip().lower():
            case "hex":
                signature = binascii.unhexlify(compact)
            case "base64":
                signature = base64.b64decode(compact, validate=True)
            case other:
                return None, f"The signature's encoding is {other!r}; OCMF has hex and base64"
        decode_dss_signature(signature)
    except ValueError:  # binascii.Error is one
        return None, f"The signature is not DER in {stated.encoding}"
    return signature, ""
