"""How a contract's private key travels in a CertificateInstallationRes of ISO 15118-2 (V2G2-814 to 823).

The agreement Z between the vehicle's key and the sender's ephemeral one is the key store's to make; here is what comes
after. AES-CBC has no integrity: whoever unwraps has verified the sender's signature before, and compares the public
key afterwards. Wrapping is here for whoever plays the other side.
"""

from __future__ import annotations

import hashlib

from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.hazmat.primitives.ciphers import Cipher, algorithms, modes

IV_BYTES = 16
SCALAR_BYTES = 32
FIELD_BYTES = IV_BYTES + SCALAR_BYTES
POINT_BYTES = 65
_KEY_BYTES = 16
_COUNTER_AND_PARTIES = (b"\x00\x00\x00\x01", b"\x01\x55\x56")  # NIST SP 800-56A; V2G2-818: algorithm 1, from U to V


class KeyTransportError(ValueError):
    """The wrapped key cannot be the contract's; nothing of it is told."""


def unwrap(agreement: bytes, field: bytes) -> int:
    """The private scalar in ContractSignatureEncryptedPrivateKey: IV, then one CBC run without padding."""
    if len(field) != FIELD_BYTES or len(agreement) != SCALAR_BYTES:
        raise KeyTransportError(f"a wrapped key has {FIELD_BYTES} bytes, this one {len(field)}")
    decryptor = Cipher(algorithms.AES128(_key(agreement)), modes.CBC(field[:IV_BYTES])).decryptor()
    return int.from_bytes(decryptor.update(field[IV_BYTES:]) + decryptor.finalize(), "big")


def wrap(agreement: bytes, scalar: int, iv: bytes) -> bytes:
    encryptor = Cipher(algorithms.AES128(_key(agreement)), modes.CBC(iv)).encryptor()
    return iv + encryptor.update(scalar.to_bytes(SCALAR_BYTES, "big")) + encryptor.finalize()


def private_key(scalar: int, point: bytes) -> ec.EllipticCurvePrivateKey:
    """V2G2-823: the scalar is one of the curve's, and belongs to the public key of the certificate."""
    try:
        key = ec.derive_private_key(scalar, ec.SECP256R1())  # refuses 0 and whatever is not below the order
    except ValueError:
        raise KeyTransportError("the wrapped key is no private key of secp256r1") from None
    if key.public_key() != ec.EllipticCurvePublicKey.from_encoded_point(ec.SECP256R1(), point):
        raise KeyTransportError("the wrapped key does not belong to the contract's certificate")
    return key


def sender_key(point: bytes) -> ec.EllipticCurvePublicKey:
    """DHpublickey: an uncompressed point on the curve, or the agreement would leak our key."""
    if len(point) != POINT_BYTES or point[0] != 0x04:
        raise KeyTransportError(f"the sender's key is no uncompressed point of {POINT_BYTES} bytes")
    try:
        return ec.EllipticCurvePublicKey.from_encoded_point(ec.SECP256R1(), point)
    except ValueError:
        raise KeyTransportError("the sender's key is not on secp256r1") from None


def _key(agreement: bytes) -> bytes:
    counter, parties = _COUNTER_AND_PARTIES
    return hashlib.sha256(counter + agreement + parties).digest()[:_KEY_BYTES]
