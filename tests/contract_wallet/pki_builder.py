"""Builds the certificates of a charging world, good ones by default; every field can be made wrong by name.

Keys are fixed (frozen seeds), so that a failing row fails again. Signatures differ from run to run: ECDSA is random.
"""

from __future__ import annotations

from dataclasses import dataclass, field, replace
from datetime import UTC, datetime, timedelta
from functools import cache
from typing import Any

from cryptography import x509
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric import ec, ed25519, rsa
from cryptography.hazmat.primitives.serialization import Encoding
from cryptography.x509 import ocsp
from cryptography.x509.oid import NameOID

from agent.core.contracts.certificates import Certificate, read_certificate
from agent.core.contracts.trust import Anchor, Role, TrustBundle
from agent.core.instants import ClockQuality, Instant

NOW = datetime(2027, 3, 1, 12, tzinfo=UTC)
EMAID = "DE8AA0012345670"
BITS = (
    "digital_signature", "content_commitment", "key_encipherment", "data_encipherment", "key_agreement",
    "key_cert_sign", "crl_sign", "encipher_only", "decipher_only",
)  # fmt: skip
CONTRACT_BITS = ("digital_signature", "content_commitment", "key_encipherment", "key_agreement")
CA_BITS = ("key_cert_sign", "crl_sign")

Key = ec.EllipticCurvePrivateKey | rsa.RSAPrivateKey | ed25519.Ed25519PrivateKey


@cache
def p256(seed: int) -> ec.EllipticCurvePrivateKey:
    return ec.derive_private_key(seed + 10**20, ec.SECP256R1())


@cache
def rsa_key() -> rsa.RSAPrivateKey:
    return rsa.generate_private_key(65537, 2048)


@dataclass(frozen=True, kw_only=True, eq=False)
class Wish:
    """One certificate as it shall be. `issuer` None is self-signed; `signed_by` overrides the issuer's real key."""

    name: str
    key: Key
    issuer: Wish | None = None
    issuer_name: str | None = None
    domain: tuple[str, ...] = ()
    ca: bool | None = True
    path_length: int | None = None
    bits: tuple[str, ...] | None = CA_BITS
    constraints_critical: bool = True
    bits_critical: bool = True
    not_before: datetime = NOW - timedelta(days=30)
    not_after: datetime = NOW + timedelta(days=365)
    serial: int = 0x0A0B0C
    signed_by: Key | None = None
    hash: Any = field(default_factory=hashes.SHA256)
    extra: tuple[tuple[x509.ExtensionType, bool], ...] = ()
    printable_issuer: bool = False

    def but(self, **changes: Any) -> Wish:
        return replace(self, **changes)

    @property
    def der(self) -> bytes:
        return certificate_of(self).public_bytes(Encoding.DER)

    @property
    def certificate(self) -> Certificate:
        return read_certificate(self.der)


def name_of(wish: Wish, *, common_name: str | None = None, printable: bool = False) -> x509.Name:
    kind = x509.name._ASN1Type.PrintableString if printable else x509.name._ASN1Type.UTF8String
    attributes = [x509.NameAttribute(NameOID.COMMON_NAME, common_name or wish.name, kind)]
    attributes += [x509.NameAttribute(NameOID.DOMAIN_COMPONENT, each) for each in wish.domain]
    return x509.Name(attributes)


@cache
def certificate_of(wish: Wish) -> x509.Certificate:
    issuer = wish.issuer or wish
    builder = (
        x509.CertificateBuilder()
        .subject_name(name_of(wish))
        .issuer_name(name_of(issuer, common_name=wish.issuer_name, printable=wish.printable_issuer))
        .public_key(wish.key.public_key())
        .serial_number(wish.serial)
        .not_valid_before(wish.not_before)
        .not_valid_after(wish.not_after)
    )
    if wish.ca is not None:
        constraints = x509.BasicConstraints(ca=wish.ca, path_length=wish.path_length if wish.ca else None)
        builder = builder.add_extension(constraints, wish.constraints_critical)
    if wish.bits is not None:
        builder = builder.add_extension(x509.KeyUsage(**{bit: bit in wish.bits for bit in BITS}), wish.bits_critical)
    for extension, critical in wish.extra:
        builder = builder.add_extension(extension, critical)
    key = wish.signed_by or issuer.key
    return builder.sign(key, None if isinstance(key, ed25519.Ed25519PrivateKey) else wish.hash)


ROOT = Wish(name="MORootCA", key=p256(1), not_after=NOW + timedelta(days=3650), serial=1)
V2G_ROOT = Wish(name="V2GRootCA", key=p256(2), domain=("V2G",), not_after=NOW + timedelta(days=3650), serial=2)
SUB_1 = Wish(name="MOSubCA1", key=p256(3), issuer=ROOT, path_length=1, not_after=NOW + timedelta(days=1400), serial=3)
SUB_2 = Wish(name="MOSubCA2", key=p256(4), issuer=SUB_1, path_length=0, not_after=NOW + timedelta(days=1400), serial=4)
LEAF = Wish(
    name=EMAID, key=p256(5), issuer=SUB_2, domain=("MO",), ca=False, bits=CONTRACT_BITS, serial=0x0BCD,
    not_after=NOW + timedelta(days=700),
)  # fmt: skip

CPS_SUB_1 = Wish(name="CPSSubCA1", key=p256(6), issuer=V2G_ROOT, path_length=1, serial=6)
CPS_SUB_2 = Wish(name="CPSSubCA2", key=p256(7), issuer=CPS_SUB_1, path_length=0, serial=7)
CPS_LEAF = Wish(
    name="CPS", key=p256(8), issuer=CPS_SUB_2, domain=("CPS",), ca=False, bits=("digital_signature",), serial=8,
    not_after=NOW + timedelta(days=60),
)  # fmt: skip


def a_bundle(*anchors: tuple[Wish, Role], **changes: Any) -> TrustBundle:
    """An MO and a V2G root, and a list of revocations made yesterday that names nobody."""
    roots = anchors or ((ROOT, Role.MOBILITY_OPERATOR), (V2G_ROOT, Role.V2G))
    values: dict[str, Any] = {
        "anchors": tuple(Anchor(certificate=wish.certificate, role=role) for wish, role in roots),
        "revoked_as_of": NOW - timedelta(days=1),
    }
    return TrustBundle(**{**values, **changes})


def an_instant(
    utc: datetime = NOW, *, floor: datetime | None = None, quality: ClockQuality = ClockQuality.SYNCHRONISED
) -> Instant:
    return Instant(
        utc=utc,
        floor=floor if floor is not None else datetime(2026, 11, 1, tzinfo=UTC),
        monotonic_ms=1_000_000,
        boot="b00t",
        quality=quality,
        entropy=bytes(16),
    )


def ders(*wishes: Wish) -> list[bytes]:
    return [wish.der for wish in wishes]


def an_ocsp_response(
    about: Wish,
    *,
    status: ocsp.OCSPCertStatus = ocsp.OCSPCertStatus.GOOD,
    this_update: datetime = NOW - timedelta(hours=1),
    next_update: datetime | None = NOW + timedelta(days=6),
    signer: Wish | None = None,
    issuer: Wish | None = None,
    delegate: Wish | None = None,
    algorithm: hashes.HashAlgorithm | None = None,
    extra: tuple[tuple[x509.ExtensionType, bool], ...] = (),
) -> bytes:
    issuer = issuer or about.issuer or about
    signer = delegate or signer or issuer
    revoked = status is ocsp.OCSPCertStatus.REVOKED
    builder = (
        ocsp.OCSPResponseBuilder()
        .add_response(
            cert=certificate_of(about),
            issuer=certificate_of(issuer),
            algorithm=algorithm or hashes.SHA256(),
            cert_status=status,
            this_update=this_update,
            next_update=next_update,
            revocation_time=this_update if revoked else None,
            revocation_reason=x509.ReasonFlags.key_compromise if revoked else None,
        )
        .responder_id(ocsp.OCSPResponderEncoding.HASH, certificate_of(signer))
    )
    if delegate is not None:
        builder = builder.certificates([certificate_of(delegate)])
    for extension, critical in extra:
        builder = builder.add_extension(extension, critical)
    assert isinstance(signer.key, ec.EllipticCurvePrivateKey)
    return builder.sign(signer.key, hashes.SHA256()).public_bytes(Encoding.DER)


def a_crl(
    issuer: Wish,
    revoked: tuple[Wish, ...] = (),
    *,
    last_update: datetime = NOW - timedelta(hours=1),
    next_update: datetime = NOW + timedelta(days=6),
    signed_by: Key | None = None,
    extra: tuple[tuple[x509.ExtensionType, bool], ...] = (),
) -> bytes:
    builder = (
        x509.CertificateRevocationListBuilder()
        .issuer_name(name_of(issuer))
        .last_update(last_update)
        .next_update(next_update)
    )
    for wish in revoked:
        entry = x509.RevokedCertificateBuilder().serial_number(wish.serial).revocation_date(last_update).build()
        builder = builder.add_revoked_certificate(entry)
    for extension, critical in extra:
        builder = builder.add_extension(extension, critical)
    key = signed_by or issuer.key
    assert isinstance(key, ec.EllipticCurvePrivateKey)
    return builder.sign(key, hashes.SHA256()).public_bytes(Encoding.DER)
