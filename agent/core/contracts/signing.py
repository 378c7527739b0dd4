"""What a contract's or a vehicle's key may sign: these three kinds of requests, and never bytes that somebody brings.

The fragments are encoded here from typed values (exi_fragments.py); key stores (agent/contracts) see requests only.
"""

from __future__ import annotations

import hashlib
import re
from dataclasses import dataclass
from typing import assert_never

from agent.core.contracts.exi_fragments import (
    MAX_ROOT_IDS,
    MeterReading,
    Reference,
    RootId,
    Unencodable,
    authorization_request,
    certificate_installation_request,
    metering_receipt_request,
    read_authorization_request,
    signed_info,
)
from agent.core.contracts.profile import MAX_CERTIFICATE_BYTES

CHALLENGE_BYTES = 16
_ID = re.compile(r"[A-Za-z_][A-Za-z0-9_.-]{0,63}", re.ASCII)  # xs:ID, as far as anybody uses it


class Unsignable(ValueError):
    """The request is not one that ISO 15118-2 lets us sign; says why."""


@dataclass(frozen=True, slots=True, kw_only=True)
class AuthorizationRequest:
    """The first AuthorizationReq of a session (V2G2-684), signed with the contract's key."""

    id: str
    challenge: bytes

    def __post_init__(self) -> None:
        _check_id(self.id)
        if len(self.challenge) != CHALLENGE_BYTES:
            raise Unsignable(f"a challenge has {CHALLENGE_BYTES} bytes, this one {len(self.challenge)}")


@dataclass(frozen=True, slots=True, kw_only=True)
class InstallationRequest:
    """A CertificateInstallationReq, signed with the vehicle's provisioning key."""

    id: str
    provisioning_certificate: bytes
    roots: tuple[RootId, ...]

    def __post_init__(self) -> None:
        _check_id(self.id)
        if not 0 < len(self.provisioning_certificate) <= MAX_CERTIFICATE_BYTES:
            raise Unsignable(f"a provisioning certificate has 1 to {MAX_CERTIFICATE_BYTES} bytes of DER")
        if not 0 < len(self.roots) <= MAX_ROOT_IDS:
            raise Unsignable(f"a request names 1 to {MAX_ROOT_IDS} roots, this one {len(self.roots)}")


@dataclass(frozen=True, slots=True, kw_only=True)
class MeteringReceiptRequest:
    """A MeteringReceiptReq, signed with the contract's key: the driver's side says that it has seen this reading."""

    id: str
    session: bytes
    schedule: int
    reading: MeterReading

    def __post_init__(self) -> None:
        _check_id(self.id)
        reading = self.reading
        for what, fits in (
            ("a session id has 1 to 8 bytes", 0 < len(self.session) <= 8),
            ("a schedule tuple id is 1 to 255", 0 < self.schedule <= 255),
            ("a meter id has 1 to 32 characters", 0 < len(reading.meter) <= 32),
            ("a meter reading is 0 or more, below 2^64", reading.reading_wh is None or 0 <= reading.reading_wh < 2**64),
            ("a meter's signature has at most 64 bytes", reading.signature is None or len(reading.signature) <= 64),
            ("a meter status has 16 bits", reading.status is None or -(2**15) <= reading.status < 2**15),
            ("a meter's time has 64 bits", reading.time is None or -(2**63) <= reading.time < 2**63),
        ):
            if not fits:
                raise Unsignable(what)


Signable = AuthorizationRequest | InstallationRequest | MeteringReceiptRequest


@dataclass(frozen=True, slots=True, kw_only=True)
class Signed:
    """A signature (r || s) and what the message's header says about it; `fragment` is the signed element in EXI."""

    fragment: bytes
    references: tuple[Reference, ...]
    signed_info: bytes
    signature: bytes


def authorization_request_of(fragment: bytes) -> AuthorizationRequest:
    """From the EXI fragment of a foreign stack; it must be canonical to the last bit."""
    try:
        id, challenge = read_authorization_request(fragment)
    except Unencodable as error:
        raise Unsignable(str(error)) from error
    return AuthorizationRequest(id=id, challenge=challenge)


def fragment_of(request: Signable) -> bytes:
    match request:
        case AuthorizationRequest():
            return authorization_request(request.id, request.challenge)
        case InstallationRequest():
            return certificate_installation_request(request.id, request.provisioning_certificate, request.roots)
        case MeteringReceiptRequest():
            return metering_receipt_request(request.id, request.session, request.schedule, request.reading)
        case _:
            assert_never(request)


def to_be_signed(request: Signable) -> Signed:
    """Everything but the signature, which is empty: for key stores to fill in over the SHA-256 of `signed_info`."""
    fragment = fragment_of(request)
    references = (Reference(id=request.id, digest=hashlib.sha256(fragment).digest()),)
    return Signed(fragment=fragment, references=references, signed_info=signed_info(references), signature=b"")


def _check_id(id: str) -> None:
    if not _ID.fullmatch(id):
        raise Unsignable("the Id of a signed element is a short name of letters, digits, dots, hyphens, underscores")
