"""The certificates of the TLS connection: make a key and a request, read a certificate, judge it. Pure over bytes.

Charging contracts have certificates of other kinds (agent/core/contracts); where the files lie is agent/enrolment.py.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, field
from datetime import datetime, timedelta
from enum import StrEnum

from cryptography import x509
from cryptography.exceptions import InvalidSignature, UnsupportedAlgorithm
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.x509.oid import ExtendedKeyUsageOID, NameOID

LONGEST_CHAIN = 8
# Warned when less than this, or less than a third of its whole life, is left: whichever comes later.
WARN_BEFORE = timedelta(days=30)


class CertificateError(Exception):
    """The bytes hold no certificate, key or request that can be used; the text says what is wrong."""


class Standing(StrEnum):
    GOOD = "good"
    EXPIRING = "expiring"
    EXPIRED = "expired"
    NOT_YET_VALID = "not yet valid"


@dataclass(frozen=True, slots=True, kw_only=True)
class Certificate:
    """What people want to know of one. `name` is the subject's common name: the device's name at the broker."""

    name: str
    subject: str
    issuer: str
    serial: str
    not_before: datetime
    not_after: datetime
    _x509: x509.Certificate = field(repr=False)

    @property
    def public_key(self) -> bytes:
        return _public(self._x509.public_key())  # type: ignore[arg-type]

    def standing(self, now: datetime) -> Standing:
        if now >= self.not_after:
            return Standing.EXPIRED
        if now < self.not_before:
            return Standing.NOT_YET_VALID
        warn = min(WARN_BEFORE, (self.not_after - self.not_before) / 3)
        return Standing.EXPIRING if self.not_after - now < warn else Standing.GOOD

    def days_left(self, now: datetime) -> int:
        """Whole days; negative once it has expired."""
        return (self.not_after - now) // timedelta(days=1)


def new_key() -> bytes:
    """EC P-256, PKCS#8, not encrypted: for a file that only the service may read."""
    return ec.generate_private_key(ec.SECP256R1()).private_bytes(
        serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, serialization.NoEncryption()
    )


def request(key: bytes, name: str) -> bytes:
    """A signing request (PKCS#10, PEM) for a TLS client of this name."""
    usage = x509.KeyUsage(
        digital_signature=True,
        content_commitment=False,
        key_encipherment=False,
        data_encipherment=False,
        key_agreement=False,
        key_cert_sign=False,
        crl_sign=False,
        encipher_only=False,
        decipher_only=False,
    )
    made = (
        x509.CertificateSigningRequestBuilder()
        .subject_name(x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, name)]))
        .add_extension(usage, critical=True)
        .add_extension(x509.ExtendedKeyUsage([ExtendedKeyUsageOID.CLIENT_AUTH]), critical=False)
        .sign(_private(key), hashes.SHA256())
    )
    return made.public_bytes(serialization.Encoding.PEM)


def public_half(key: bytes) -> bytes:
    """Comparable with `Certificate.public_key`."""
    return _public(_private(key).public_key())


def read_all(pem: bytes) -> tuple[Certificate, ...]:
    """Every certificate in the text, in order; other blocks, such as the key, are passed over."""
    blocks = re.findall(rb"-----BEGIN CERTIFICATE-----.*?-----END CERTIFICATE-----", pem, flags=re.DOTALL)
    if not blocks:
        raise CertificateError("it holds no certificate in PEM")
    if len(blocks) > 1000:
        raise CertificateError(f"it holds {len(blocks)} certificates, more than make sense")
    try:
        return tuple(_certificate(x509.load_pem_x509_certificate(block)) for block in blocks)
    except (ValueError, TypeError, UnsupportedAlgorithm, x509.DuplicateExtension, x509.InvalidVersion) as error:
        raise CertificateError(f"a certificate in it cannot be read: {error}") from error


def to_pem(certificates: Iterable[Certificate]) -> bytes:
    return b"".join(each._x509.public_bytes(serialization.Encoding.PEM) for each in certificates)


def faults(
    chain: Sequence[Certificate], authorities: Sequence[Certificate], *, name: str, now: datetime
) -> Iterator[str]:
    """Why this chain (the device's certificate first) is not to be installed; nothing when it is good.

    The broker has the last word; this finds what an operator can mix up.
    """
    mine = chain[0]
    if mine.name != name:
        yield f"it is for {mine.name!r}, but this device is {name!r}"
    match mine.standing(now):
        case Standing.EXPIRED:
            yield f"it has expired on {mine.not_after:%Y-%m-%d %H:%M} UTC"
        case Standing.NOT_YET_VALID:
            yield f"it is not valid before {mine.not_before:%Y-%m-%d %H:%M} UTC: check this device's clock"
    if not _is_for_clients(mine._x509):
        yield "its extended key usage does not allow TLS clients (clientAuth)"
    yield from _path_faults(chain, authorities, now)


def _path_faults(chain: Sequence[Certificate], authorities: Sequence[Certificate], now: datetime) -> Iterator[str]:
    """From the device's certificate up to one of the authorities, over the chain's own intermediates."""
    here = chain[0]
    for _ in range(LONGEST_CHAIN):
        above = next((each for each in (*authorities, *chain[1:]) if _has_issued(each, here)), None)
        if above is None:
            known = ", ".join(sorted({each.subject for each in authorities})) or "none"
            yield f"its issuer {here.issuer} is not among the authorities given ({known}), nor in its own file"
            return
        if above.standing(now) is Standing.EXPIRED:
            yield f"its authority {above.subject} has expired on {above.not_after:%Y-%m-%d}"
        if any(above._x509 == each._x509 for each in authorities):
            return
        here = above
    yield f"its chain is longer than {LONGEST_CHAIN}"


def _has_issued(issuer: Certificate, issued: Certificate) -> bool:
    try:
        issued._x509.verify_directly_issued_by(issuer._x509)
        constraints = issuer._x509.extensions.get_extension_for_class(x509.BasicConstraints).value
    except (ValueError, TypeError, InvalidSignature, x509.ExtensionNotFound):
        return False
    return constraints.ca


def _is_for_clients(certificate: x509.Certificate) -> bool:
    try:
        usage = certificate.extensions.get_extension_for_class(x509.ExtendedKeyUsage).value
    except x509.ExtensionNotFound:
        return True
    return ExtendedKeyUsageOID.CLIENT_AUTH in usage or ExtendedKeyUsageOID.ANY_EXTENDED_KEY_USAGE in usage


def _certificate(parsed: x509.Certificate) -> Certificate:
    names = parsed.subject.get_attributes_for_oid(NameOID.COMMON_NAME)
    return Certificate(
        name=str(names[0].value) if names else "",
        subject=parsed.subject.rfc4514_string(),
        issuer=parsed.issuer.rfc4514_string(),
        serial=f"{parsed.serial_number:x}",
        not_before=parsed.not_valid_before_utc,
        not_after=parsed.not_valid_after_utc,
        _x509=parsed,
    )


def _private(pem: bytes) -> ec.EllipticCurvePrivateKey:
    try:
        key = serialization.load_pem_private_key(pem, password=None)
    except (ValueError, TypeError) as error:
        raise CertificateError(f"the key cannot be read: {error}") from error
    if not isinstance(key, ec.EllipticCurvePrivateKey):
        raise CertificateError("the key is not an elliptic-curve key")
    return key


def _public(key: ec.EllipticCurvePublicKey) -> bytes:
    return key.public_bytes(serialization.Encoding.DER, serialization.PublicFormat.SubjectPublicKeyInfo)
