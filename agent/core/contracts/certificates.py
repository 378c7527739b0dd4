"""One X.509 certificate, read whole at once: whatever a later check asks cannot fail any more.

Untrusted DER becomes a value here and nowhere else. What a certificate must look like is profile.py.
"""

from __future__ import annotations

import hashlib
import warnings
from dataclasses import dataclass, field
from datetime import datetime

from cryptography import x509
from cryptography.exceptions import InvalidSignature, UnsupportedAlgorithm
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.hazmat.primitives.serialization import Encoding, PublicFormat
from cryptography.x509.oid import NameOID, SignatureAlgorithmOID

MAX_READ_BYTES = 16_384  # a contract has at most 800; roots of other profiles are longer, a parser bomb longer still


# What the library raises at bytes that are no certificate, list or response. InvalidVersion is no ValueError.
UNPARSABLE = (ValueError, TypeError, UnsupportedAlgorithm, x509.DuplicateExtension, x509.InvalidVersion)


class Unreadable(ValueError):
    """The bytes are no certificate that can be judged; says why."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Certificate:
    """`fingerprint` is the SHA-256 of the DER, in hex. Two certificates with the same DER are equal."""

    der: bytes
    fingerprint: str
    parsed: x509.Certificate = field(repr=False, compare=False)
    key: ec.EllipticCurvePublicKey | None = field(repr=False, compare=False)
    signature_hash: hashes.HashAlgorithm | None = field(repr=False, compare=False)
    subject: x509.Name = field(compare=False)
    issuer: x509.Name = field(compare=False)
    not_before: datetime = field(compare=False)
    not_after: datetime = field(compare=False)
    basic_constraints: x509.Extension[x509.BasicConstraints] | None = field(repr=False, compare=False)
    key_usage: x509.Extension[x509.KeyUsage] | None = field(repr=False, compare=False)
    extended_uses: frozenset[str] = field(repr=False, compare=False)
    critical: frozenset[str] = field(repr=False, compare=False)

    @property
    def is_ca(self) -> bool:
        return self.basic_constraints is not None and self.basic_constraints.value.ca

    @property
    def is_self_issued(self) -> bool:
        return self.subject == self.issuer

    @property
    def is_p256(self) -> bool:
        """With the point written out (04 || X || Y), as the profile and the hashes of OCSP have it."""
        on_curve = self.key is not None and self.key.curve.name == "secp256r1"
        return on_curve and self.point in self.parsed.tbs_certificate_bytes

    @property
    def has_ecdsa_sha256(self) -> bool:
        return self.parsed.signature_algorithm_oid == SignatureAlgorithmOID.ECDSA_WITH_SHA256

    @property
    def is_version_3(self) -> bool:
        return self.parsed.version is x509.Version.v3

    @property
    def serial(self) -> int:
        return self.parsed.serial_number

    @property
    def common_names(self) -> tuple[str, ...]:
        return _values(self.subject, NameOID.COMMON_NAME)

    @property
    def domain_components(self) -> tuple[str, ...]:
        return _values(self.subject, NameOID.DOMAIN_COMPONENT)

    @property
    def point(self) -> bytes:
        """The public key as 04 || X || Y; empty when it is not on a named curve."""
        return b"" if self.key is None else self.key.public_bytes(Encoding.X962, PublicFormat.UncompressedPoint)

    def uses(self, bit: str) -> bool:
        """Whether this key usage bit is set, by cryptography's name for it."""
        return self.key_usage is not None and bool(getattr(self.key_usage.value, bit))


def read_certificate(der: bytes) -> Certificate:
    """Strict DER and nothing after it. Raises Unreadable, whatever the bytes are."""
    if len(der) > MAX_READ_BYTES:
        raise Unreadable(f"{len(der)} bytes are more than any certificate of ISO 15118 has")
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("error")  # what the library merely warns of (negative serials, say) is no certificate
            return _read(der)
    except (
        ValueError,
        TypeError,
        UnsupportedAlgorithm,
        x509.DuplicateExtension,
        x509.InvalidVersion,
        Warning,
    ) as error:
        raise Unreadable(f"no X.509 certificate in strict DER: {str(error)[:200]}") from error


def is_signed_by(certificate: Certificate, issuer: Certificate) -> bool:
    """Whether the issuer's key made the signature. Names, dates and extensions are judged elsewhere."""
    parsed = certificate.parsed
    return key_signed(issuer, parsed.signature, parsed.tbs_certificate_bytes, certificate.signature_hash)


def key_signed(signer: Certificate, signature: bytes, content: bytes, algorithm: hashes.HashAlgorithm | None) -> bool:
    """Elliptic curves only: no other key may vouch for anything here, so no other signature is even computed."""
    if signer.key is None or algorithm is None or isinstance(algorithm, hashes.SHA1 | hashes.MD5):
        return False
    try:
        signer.key.verify(signature, content, ec.ECDSA(algorithm))
    except (InvalidSignature, UnsupportedAlgorithm, ValueError):
        return False
    return True


def _read(der: bytes) -> Certificate:
    parsed = x509.load_der_x509_certificate(der)
    extensions = parsed.extensions
    return Certificate(
        der=der,
        fingerprint=hashlib.sha256(der).hexdigest(),
        parsed=parsed,
        key=_key(parsed),
        signature_hash=_signature_hash(parsed),
        subject=parsed.subject,
        issuer=parsed.issuer,
        not_before=parsed.not_valid_before_utc,
        not_after=parsed.not_valid_after_utc,
        basic_constraints=_basic_constraints(extensions),
        key_usage=_key_usage(extensions),
        extended_uses=_extended_uses(extensions),
        critical=frozenset(each.oid.dotted_string for each in extensions if each.critical),
    )


def _key(parsed: x509.Certificate) -> ec.EllipticCurvePublicKey | None:
    try:
        key = parsed.public_key()
    except (ValueError, UnsupportedAlgorithm):  # an unknown kind of key is a flaw (KEY_TYPE), not damage
        return None
    return key if isinstance(key, ec.EllipticCurvePublicKey) else None


def _signature_hash(parsed: x509.Certificate) -> hashes.HashAlgorithm | None:
    try:
        return parsed.signature_hash_algorithm
    except UnsupportedAlgorithm:
        return None


def _basic_constraints(
    extensions: x509.Extensions,
) -> x509.Extension[x509.BasicConstraints] | None:
    try:
        return extensions.get_extension_for_class(x509.BasicConstraints)
    except x509.ExtensionNotFound:
        return None


def _key_usage(extensions: x509.Extensions) -> x509.Extension[x509.KeyUsage] | None:
    try:
        return extensions.get_extension_for_class(x509.KeyUsage)
    except x509.ExtensionNotFound:
        return None


def _extended_uses(extensions: x509.Extensions) -> frozenset[str]:
    try:
        uses = extensions.get_extension_for_class(x509.ExtendedKeyUsage).value
    except x509.ExtensionNotFound:
        return frozenset()
    return frozenset(use.dotted_string for use in uses)


def _values(name: x509.Name, oid: x509.ObjectIdentifier) -> tuple[str, ...]:
    values = (attribute.value for attribute in name.get_attributes_for_oid(oid))
    return tuple(value if isinstance(value, str) else value.hex() for value in values)
