"""What a contract's or a vehicle's key may sign: these two kinds of requests, and never bytes that somebody brings.

The fragments are encoded here from typed values (exi_fragments.py); key stores (agent/contracts) see requests only.
"""

from __future__ import annotations

import hashlib
import re
from dataclasses import dataclass
from typing import assert_never

from agent.core.contracts.exi_fragments import (
    MAX_ROOT_IDS,
    Reference,
    RootId,
    Unencodable,
    authorization_request,
    certificate_installation_request,
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


Signable = AuthorizationRequest | InstallationRequest


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
