"""What can be wrong with a contract that is shown, and what peers are told: response codes of ISO 15118-2 and -20.

Finding flaws is profile.py, revocation.py and verification.py; here are their names, their order and their codes.
"""

from __future__ import annotations

from dataclasses import dataclass
from enum import StrEnum


class Flaw(StrEnum):
    """Names are stable: backends and technicians match on them."""

    REVOKED = "REVOKED"
    NO_CERTIFICATE = "NO_CERTIFICATE"
    UNREADABLE = "UNREADABLE"
    TOO_MANY = "TOO_MANY"
    DUPLICATE = "DUPLICATE"
    LEFT_OVER = "LEFT_OVER"
    SELF_SIGNED = "SELF_SIGNED"
    BAD_SIGNATURE = "BAD_SIGNATURE"
    UNKNOWN_ANCHOR = "UNKNOWN_ANCHOR"
    ANCHOR_ROLE = "ANCHOR_ROLE"
    ISSUED_BY_ROOT = "ISSUED_BY_ROOT"
    TOO_LARGE = "TOO_LARGE"
    VERSION = "VERSION"
    KEY_TYPE = "KEY_TYPE"
    SIGNATURE_ALGORITHM = "SIGNATURE_ALGORITHM"
    CRITICAL_EXTENSION = "CRITICAL_EXTENSION"
    BASIC_CONSTRAINTS = "BASIC_CONSTRAINTS"
    LEAF_IS_CA = "LEAF_IS_CA"
    NOT_A_CA = "NOT_A_CA"
    PATH_LENGTH = "PATH_LENGTH"
    KEY_USAGE = "KEY_USAGE"
    WRONG_USE = "WRONG_USE"
    SUBJECT = "SUBJECT"
    EMAID_MISMATCH = "EMAID_MISMATCH"
    NOT_YET_VALID = "NOT_YET_VALID"
    EXPIRED = "EXPIRED"
    CONTRACT_CANCELLED = "CONTRACT_CANCELLED"
    NOT_LISTED = "NOT_LISTED"
    STATUS_UNKNOWN = "STATUS_UNKNOWN"
    EVIDENCE_TOO_OLD = "EVIDENCE_TOO_OLD"
    NO_EVIDENCE = "NO_EVIDENCE"
    CHALLENGE = "CHALLENGE"
    SIGNED_ELEMENT = "SIGNED_ELEMENT"
    REQUEST_SIGNATURE = "REQUEST_SIGNATURE"
    PATH_REFUSED = "PATH_REFUSED"


class Doubt(StrEnum):
    """What is worth telling although it refuses nothing."""

    CHECK_CHARACTER = "CHECK_CHARACTER"
    EXPIRES_SOON = "EXPIRES_SOON"
    VALIDITY_UNKNOWN = "VALIDITY_UNKNOWN"
    EVIDENCE_STALE = "EVIDENCE_STALE"
    KEY_AGREEMENT_MISSING = "KEY_AGREEMENT_MISSING"


@dataclass(frozen=True, slots=True, kw_only=True)
class Finding:
    """`certificate` is the fingerprint (SHA-256, hex) of the one it is about, empty when it is about all of them."""

    code: Flaw | Doubt
    detail: str
    certificate: str = ""


@dataclass(frozen=True, slots=True, kw_only=True)
class ResponseCodes:
    """What the vehicle is answered with, in either edition."""

    iso2: str
    iso20: str


ACCEPTED = ResponseCodes(iso2="OK", iso20="OK")
EXPIRES_SOON = ResponseCodes(iso2="OK_CertificateExpiresSoon", iso20="OK_CertificateExpiresSoon")

_CHAIN = ResponseCodes(iso2="FAILED_CertChainError", iso20="WARNING_CertificateValidationError")
_NOT_HERE = ResponseCodes(iso2="FAILED_CertificateNotAllowedAtThisEVSE", iso20="WARNING_GeneralPnCAuthorizationError")
_UNPROVEN = ResponseCodes(iso2="FAILED_SignatureError", iso20="WARNING_GeneralPnCAuthorizationError")

# The most severe first: of several flaws the first in this table is the one that peers are told.
# A known revocation comes before all; a chain that proves nothing comes before what its own words say (dates, names).
CODES: dict[Flaw, ResponseCodes] = {
    Flaw.REVOKED: ResponseCodes(iso2="FAILED_CertificateRevoked", iso20="WARNING_CertificateRevoked"),
    Flaw.NO_CERTIFICATE: ResponseCodes(
        iso2="FAILED_NoCertificateAvailable", iso20="WARNING_CertificateValidationError"
    ),
    Flaw.UNREADABLE: _CHAIN,
    Flaw.TOO_MANY: _CHAIN,
    Flaw.DUPLICATE: _CHAIN,
    Flaw.LEFT_OVER: _CHAIN,
    Flaw.SELF_SIGNED: _CHAIN,
    Flaw.BAD_SIGNATURE: _CHAIN,
    Flaw.UNKNOWN_ANCHOR: _CHAIN,
    Flaw.ANCHOR_ROLE: _CHAIN,
    Flaw.ISSUED_BY_ROOT: _CHAIN,
    Flaw.TOO_LARGE: _CHAIN,
    Flaw.VERSION: _CHAIN,
    Flaw.KEY_TYPE: _CHAIN,
    Flaw.SIGNATURE_ALGORITHM: _CHAIN,
    Flaw.CRITICAL_EXTENSION: _CHAIN,
    Flaw.BASIC_CONSTRAINTS: _CHAIN,
    Flaw.LEAF_IS_CA: _CHAIN,
    Flaw.NOT_A_CA: _CHAIN,
    Flaw.PATH_LENGTH: _CHAIN,
    Flaw.KEY_USAGE: _CHAIN,
    Flaw.WRONG_USE: _CHAIN,
    Flaw.SUBJECT: _CHAIN,
    Flaw.EMAID_MISMATCH: ResponseCodes(iso2="FAILED_CertChainError", iso20="WARNING_GeneralPnCAuthorizationError"),
    # V2G2-824: a certificate that is not valid yet is answered like an expired one.
    Flaw.NOT_YET_VALID: ResponseCodes(iso2="FAILED_CertificateExpired", iso20="WARNING_CertificateNotYetValid"),
    Flaw.EXPIRED: ResponseCodes(iso2="FAILED_CertificateExpired", iso20="WARNING_CertificateExpired"),
    Flaw.CONTRACT_CANCELLED: ResponseCodes(
        iso2="FAILED_ContractCanceled", iso20="WARNING_GeneralPnCAuthorizationError"
    ),
    Flaw.NOT_LISTED: ResponseCodes(iso2="FAILED_CertificateNotAllowedAtThisEVSE", iso20="WARNING_eMSPUnknown"),
    Flaw.STATUS_UNKNOWN: _NOT_HERE,
    Flaw.EVIDENCE_TOO_OLD: _NOT_HERE,
    Flaw.NO_EVIDENCE: _NOT_HERE,
    Flaw.CHALLENGE: ResponseCodes(iso2="FAILED_ChallengeInvalid", iso20="WARNING_ChallengeInvalid"),
    Flaw.SIGNED_ELEMENT: _UNPROVEN,
    Flaw.REQUEST_SIGNATURE: _UNPROVEN,
    # The library's second opinion: last, since our own checks mostly say the same with a better name.
    Flaw.PATH_REFUSED: _CHAIN,
}


def worst(findings: tuple[Finding, ...]) -> Flaw | None:
    found = {finding.code for finding in findings}
    return next((flaw for flaw in CODES if flaw in found), None)
