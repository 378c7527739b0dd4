"""Signatures of ISO 15118-2: ECDSA on P-256 over the SHA-256 of SignedInfo, as r || s, 64 bytes, not DER.

Making one is the key store's (agent/contracts); the bytes that are signed come from exi_fragments.py.
"""

from __future__ import annotations

from collections.abc import Sequence

from cryptography.exceptions import InvalidSignature
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.hazmat.primitives.asymmetric.utils import decode_dss_signature, encode_dss_signature

from agent.core.contracts.exi_fragments import Reference, Unencodable, signed_info

SCALAR_BYTES = 32


def signature_holds(point: bytes, references: Sequence[Reference], signature: bytes) -> bool:
    """Whether the key at this point (04 || X || Y) signed a SignedInfo with just these references, in this order."""
    if len(signature) != 2 * SCALAR_BYTES:
        return False
    r = int.from_bytes(signature[:SCALAR_BYTES], "big")
    s = int.from_bytes(signature[SCALAR_BYTES:], "big")
    try:
        key = ec.EllipticCurvePublicKey.from_encoded_point(ec.SECP256R1(), point)
        key.verify(encode_dss_signature(r, s), signed_info(references), ec.ECDSA(hashes.SHA256()))
    except (InvalidSignature, ValueError, Unencodable):
        return False
    return True


def raw_signature(der: bytes) -> bytes:
    """From the DER that software libraries make; leading zeros of r and s are kept."""
    r, s = decode_dss_signature(der)
    return r.to_bytes(SCALAR_BYTES, "big") + s.to_bytes(SCALAR_BYTES, "big")
