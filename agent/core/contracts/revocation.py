"""Whether a certificate was revoked: the fleet's list, CRLs and OCSP responses, each verified here and now, offline.

A statement that something is revoked counts for ever, however old the paper it stands on. A statement that it is good
ages, and the ladder says what its age is worth. Fetching such papers is not here.
"""

from __future__ import annotations

import hashlib
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta
from enum import StrEnum

from cryptography import x509
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.serialization import Encoding
from cryptography.x509 import ocsp
from cryptography.x509.oid import ExtendedKeyUsageOID, ExtensionOID

from agent.core.contracts.certificates import (
    UNPARSABLE,
    Certificate,
    Unreadable,
    is_signed_by,
    key_signed,
    read_certificate,
)
from agent.core.contracts.trust import ClockState, Ladder, RevocationKey, Rung, TrustBundle

SKEW = timedelta(minutes=5)  # a responder's clock may be this far ahead of ours
MAX_PAPER_BYTES = 1 << 20


class Source(StrEnum):
    FLEET_LIST = "fleet_list"
    CRL = "crl"
    OCSP = "ocsp"
    REMEMBERED = "remembered"


class Status(StrEnum):
    GOOD = "good"
    REVOKED = "revoked"
    UNKNOWN = "unknown"


@dataclass(frozen=True, slots=True, kw_only=True)
class Evidence:
    """One verified statement about one certificate. `age` is None when it is not bound to a time (REMEMBERED)."""

    certificate: str
    source: Source
    status: Status
    as_of: datetime | None
    until: datetime | None = None
    age: timedelta | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class HashData:
    """A certificate as OCPP 2.0.1 (CertificateHashDataType) and OCSP (CertID) name it: hex, lower case.

    `serial_number` has no leading zeros; everything equals what `openssl ocsp -req_text` prints.
    """

    hash_algorithm: str
    issuer_name_hash: str
    issuer_key_hash: str
    serial_number: str

    @property
    def revocation_key(self) -> RevocationKey:
        return RevocationKey(issuer_key_hash=self.issuer_key_hash, serial=self.serial_number)


def hash_data(certificate: Certificate, issuer: Certificate) -> HashData:
    return HashData(
        hash_algorithm="SHA256",
        issuer_name_hash=hashlib.sha256(_name(certificate.parsed.issuer)).hexdigest(),
        issuer_key_hash=hashlib.sha256(_key_bits(issuer)).hexdigest(),
        serial_number=format(certificate.serial, "x"),
    )


def evidence_about(
    certificate: Certificate,
    issuer: Certificate,
    *,
    bundle: TrustBundle,
    stapled: Sequence[bytes],
    remembered: frozenset[RevocationKey],
    moment: datetime,
    clock: ClockState,
) -> tuple[Evidence, ...]:
    """All that is proven about this certificate, good and bad. What cannot be verified is no evidence and not here."""
    key = hash_data(certificate, issuer).revocation_key
    found = [
        *_remembered(certificate, key, remembered),
        *_fleet_list(certificate, key, bundle),
        *(each for paper in bundle.crls for each in _crl(paper, certificate, issuer)),
        *(each for paper in (*stapled, *bundle.ocsp_responses) for each in _ocsp(paper, certificate, issuer)),
    ]
    aged = (_aged(each, moment) for each in found)
    return tuple(each for each in aged if each.status is Status.REVOKED or not _from_future(each, moment, clock))


def newest(evidence: Iterable[Evidence]) -> Evidence | None:
    """The newest statement that is bound to a time: an UNKNOWN outweighs an older GOOD, and the other way round."""
    dated = [each for each in evidence if each.as_of is not None]
    return max(dated, key=lambda each: (each.as_of, each.status is not Status.GOOD), default=None)


def rung_of(evidence: Sequence[Evidence], *, ladder: Ladder, moment: datetime, clock: ClockState) -> Rung:
    """Where one certificate's evidence stands: the best of its GOOD statements."""
    rungs = [_rung(each, ladder, moment, clock) for each in evidence if each.status is Status.GOOD]
    return min(rungs, key=list(Rung).index, default=Rung.NONE)


def _rung(evidence: Evidence, ladder: Ladder, moment: datetime, clock: ClockState) -> Rung:
    """With an untrusted clock the age is a lower bound, so nothing is fresh."""
    if evidence.age is None or evidence.age > ladder.usable_for:
        return Rung.TOO_OLD
    overdue = evidence.until is not None and moment > evidence.until
    if clock is ClockState.UNTRUSTED or overdue or evidence.age > ladder.fresh_for:
        return Rung.STALE
    return Rung.FRESH


def _aged(evidence: Evidence, moment: datetime) -> Evidence:
    if evidence.as_of is None:
        return evidence
    return Evidence(
        certificate=evidence.certificate,
        source=evidence.source,
        status=evidence.status,
        as_of=evidence.as_of,
        until=evidence.until,
        age=max(moment - evidence.as_of, timedelta(0)),
    )


def _from_future(evidence: Evidence, moment: datetime, clock: ClockState) -> bool:
    """A good word that was not spoken yet is none. Without a clock nobody can say what is the future."""
    return clock is not ClockState.UNTRUSTED and evidence.as_of is not None and evidence.as_of > moment + SKEW


def _remembered(
    certificate: Certificate, key: RevocationKey, remembered: frozenset[RevocationKey]
) -> Iterator[Evidence]:
    if key in remembered:
        yield Evidence(certificate=certificate.fingerprint, source=Source.REMEMBERED, status=Status.REVOKED, as_of=None)


def _fleet_list(certificate: Certificate, key: RevocationKey, bundle: TrustBundle) -> Iterator[Evidence]:
    """Signed with the bundle. Without a date it can say that something is revoked, and nothing good."""
    revoked = key in bundle.revoked
    if revoked or bundle.revoked_as_of is not None:
        yield Evidence(
            certificate=certificate.fingerprint,
            source=Source.FLEET_LIST,
            status=Status.REVOKED if revoked else Status.GOOD,
            as_of=bundle.revoked_as_of,
        )


def _crl(paper: bytes, certificate: Certificate, issuer: Certificate) -> Iterator[Evidence]:
    """RFC 5280, 5: signed by the issuer itself. Partial, indirect and delta lists say too little: no evidence."""
    try:
        crl = x509.load_der_x509_crl(paper) if len(paper) <= MAX_PAPER_BYTES else None
        if crl is None or crl.issuer != certificate.issuer or crl.issuer != issuer.subject:
            return
        if not key_signed(issuer, crl.signature, crl.tbs_certlist_bytes, crl.signature_hash_algorithm):
            return
        if issuer.key_usage is not None and not issuer.uses("crl_sign"):
            return
        entry = crl.get_revoked_certificate_by_serial_number(certificate.serial)
        if entry is None and any(each.critical for each in crl.extensions):
            return
        as_of, until = crl.last_update_utc, crl.next_update_utc
    except UNPARSABLE:
        return
    yield Evidence(
        certificate=certificate.fingerprint,
        source=Source.CRL,
        status=Status.GOOD if entry is None else Status.REVOKED,
        as_of=as_of,
        until=until,
    )


def _ocsp(paper: bytes, certificate: Certificate, issuer: Certificate) -> Iterator[Evidence]:
    """RFC 6960: about this certificate by all three parts of its CertID, signed by the issuer or whom it delegated."""
    try:
        response = ocsp.load_der_ocsp_response(paper) if len(paper) <= MAX_PAPER_BYTES else None
        if response is None or response.response_status is not ocsp.OCSPResponseStatus.SUCCESSFUL:
            return
        if any(each.critical for each in response.extensions):
            return
        statements = [
            (each.certificate_status, each.this_update_utc, each.next_update_utc)
            for each in response.responses
            if _is_about(each, certificate, issuer) and _spoken_by_issuer(response, issuer, each.this_update_utc)
        ]
    except UNPARSABLE:
        return
    for status, as_of, until in statements:
        yield Evidence(
            certificate=certificate.fingerprint,
            source=Source.OCSP,
            status=_STATUSES[status],
            as_of=as_of,
            until=until,
        )


_STATUSES = {
    ocsp.OCSPCertStatus.GOOD: Status.GOOD,
    ocsp.OCSPCertStatus.REVOKED: Status.REVOKED,
    ocsp.OCSPCertStatus.UNKNOWN: Status.UNKNOWN,
}


def _is_about(single: ocsp.OCSPSingleResponse, certificate: Certificate, issuer: Certificate) -> bool:
    return (
        single.serial_number == certificate.serial
        and single.issuer_name_hash == _digest(single.hash_algorithm, _name(certificate.parsed.issuer))
        and single.issuer_key_hash == _digest(single.hash_algorithm, _key_bits(issuer))
    )


def _spoken_by_issuer(response: ocsp.OCSPResponse, issuer: Certificate, as_of: datetime) -> bool:
    """By the issuer's key, or by a certificate that the issuer itself made for OCSP signing (RFC 6960, 4.2.2.2)."""
    signers = [issuer]
    for each in response.certificates[:4]:
        try:
            delegate = read_certificate(each.public_bytes(Encoding.DER))
        except Unreadable:
            continue
        if _may_answer_for(delegate, issuer, as_of):
            signers.append(delegate)
    return any(
        key_signed(signer, response.signature, response.tbs_response_bytes, response.signature_hash_algorithm)
        for signer in signers
    )


def _may_answer_for(delegate: Certificate, issuer: Certificate, as_of: datetime) -> bool:
    """What it says must be dated within its own validity: an old responder key can only say old things."""
    return (
        delegate.issuer == issuer.subject
        and ExtendedKeyUsageOID.OCSP_SIGNING.dotted_string in delegate.extended_uses
        and delegate.not_before <= as_of <= delegate.not_after
        and not delegate.critical - _UNDERSTOOD
        and is_signed_by(delegate, issuer)
    )


_UNDERSTOOD = frozenset(
    oid.dotted_string
    for oid in (ExtensionOID.BASIC_CONSTRAINTS, ExtensionOID.KEY_USAGE, ExtensionOID.EXTENDED_KEY_USAGE)
)


def _digest(algorithm: hashes.HashAlgorithm, content: bytes) -> bytes:
    return hashlib.new(algorithm.name, content).digest()


def _name(name: x509.Name) -> bytes:
    return name.public_bytes()


def _key_bits(issuer: Certificate) -> bytes:
    """The value of the issuer's subjectPublicKey, without tag, length and unused bits (RFC 6960, 4.1.1)."""
    return issuer.point
