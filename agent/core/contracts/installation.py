"""Is this CertificateInstallationRes what it says? Judged whole, before any byte of its wrapped key is touched.

Order as V2G2 wants it: the provisioning service's chain and its signature over the four elements; the contract's chain
and its eMAID. Then the key store unwraps and compares (key_transport.py), and the wallet makes room for it.
"""

from __future__ import annotations

import hashlib
from collections.abc import Sequence
from dataclasses import dataclass, replace
from enum import StrEnum

from agent.core.contracts.certificates import Certificate, Unreadable, read_certificate
from agent.core.contracts.emaid import Emaid
from agent.core.contracts.exi_fragments import (
    MAX_SUB_CERTIFICATES,
    Reference,
    contract_chain,
    dh_public_key,
    emaid,
    encrypted_private_key,
)
from agent.core.contracts.flaws import Finding
from agent.core.contracts.profile import PROVISIONING_SERVICE
from agent.core.contracts.signatures import signature_holds
from agent.core.contracts.trust import ClockState, RevocationKey, TrustBundle, clock_state
from agent.core.contracts.verification import Verdict, verify_chain
from agent.core.instants import Instant


class Obstacle(StrEnum):
    """Why nothing was installed. Names are stable."""

    PROVISIONING_CHAIN = "PROVISIONING_CHAIN"
    PROVISIONING_SIGNATURE = "PROVISIONING_SIGNATURE"
    CONTRACT_CHAIN = "CONTRACT_CHAIN"
    NO_PROVISIONING_KEY = "NO_PROVISIONING_KEY"
    KEY_TRANSPORT = "KEY_TRANSPORT"
    ROLLED_BACK = "ROLLED_BACK"
    WALLET_FULL = "WALLET_FULL"
    STORAGE = "STORAGE"


@dataclass(frozen=True, slots=True, kw_only=True)
class NotInstalled:
    """The wallet is as it was. `findings` are the flaws of the chain that failed, if one did."""

    obstacle: Obstacle
    detail: str
    findings: tuple[Finding, ...] = ()


@dataclass(frozen=True, slots=True, kw_only=True)
class InstallationResponse:
    """A CertificateInstallationRes with its header's signature. The ids are those of its four signed elements."""

    provisioning_chain: tuple[bytes, ...]
    contract_chain_id: str
    contract_leaf: bytes
    contract_subs: tuple[bytes, ...]
    encrypted_key_id: str
    encrypted_key: bytes
    dh_public_key_id: str
    dh_public_key: bytes
    emaid_id: str
    emaid: str
    references: tuple[Reference, ...]
    signature: bytes


@dataclass(frozen=True, slots=True, kw_only=True)
class Offer:
    """A contract that may be installed, if its key turns out to belong to `leaf`."""

    leaf: Certificate
    emaid: Emaid
    issuer: str
    revocation_keys: frozenset[RevocationKey]


def judge_installation(
    response: InstallationResponse,
    *,
    bundle: TrustBundle,
    now: Instant,
    remembered: frozenset[RevocationKey] = frozenset(),
) -> Offer | NotInstalled:
    """Nobody can staple evidence to this message, so only known revocations count against it.

    A contract that begins later is judged as of its beginning: it is installed ahead and used when its time comes.
    """
    service = verify_chain(
        response.provisioning_chain, claimed=None, bundle=bundle, now=now, use=PROVISIONING_SERVICE,
        remembered=remembered, ladder=None,
    )  # fmt: skip
    if service.flaws or service.leaf is None:
        return NotInstalled(obstacle=Obstacle.PROVISIONING_CHAIN, detail=spelled(service), findings=service.flaws)
    if not _signed(response, service.leaf.point):
        return NotInstalled(
            obstacle=Obstacle.PROVISIONING_SIGNATURE,
            detail="the provisioning service did not sign these four elements with this key",
        )
    verdict = verify_chain(
        (response.contract_leaf, *response.contract_subs), claimed=response.emaid, bundle=bundle,
        now=_as_of_beginning(response, now), remembered=remembered, ladder=None,
    )  # fmt: skip
    if verdict.flaws or verdict.leaf is None or verdict.emaid is None or verdict.anchor is None:
        return NotInstalled(obstacle=Obstacle.CONTRACT_CHAIN, detail=spelled(verdict), findings=verdict.flaws)
    if verdict.leaf.der != response.contract_leaf:
        return NotInstalled(obstacle=Obstacle.CONTRACT_CHAIN, detail="the contract's certificate is among its sub-CAs")
    return Offer(
        leaf=verdict.leaf,
        emaid=verdict.emaid,
        issuer=verdict.anchor.subject,
        revocation_keys=frozenset(each.revocation_key for each in verdict.hash_data),
    )


def signed_elements(response: InstallationResponse) -> tuple[Reference, ...]:
    """What the service must have signed, in the order of the message."""
    fragments = (
        (response.contract_chain_id,
         contract_chain(response.contract_chain_id, response.contract_leaf, response.contract_subs)),
        (response.encrypted_key_id, encrypted_private_key(response.encrypted_key_id, response.encrypted_key)),
        (response.dh_public_key_id, dh_public_key(response.dh_public_key_id, response.dh_public_key)),
        (response.emaid_id, emaid(response.emaid_id, response.emaid)),
    )  # fmt: skip
    return tuple(Reference(id=id, digest=hashlib.sha256(fragment).digest()) for id, fragment in fragments)


def spelled(verdict: Verdict) -> str:
    return "; ".join(f"{finding.code}: {finding.detail}" for finding in verdict.flaws) or "the chain names no contract"


def _signed(response: InstallationResponse, point: bytes) -> bool:
    """All four elements, each once, whatever their order in SignedInfo; an element more would be something else."""
    if len(response.contract_subs) > MAX_SUB_CERTIFICATES:
        return False
    expected = signed_elements(response)
    ids = {reference.id for reference in expected}
    if len(ids) != len(expected) or len(response.references) != len(expected):
        return False
    return _same(expected, response.references) and signature_holds(point, response.references, response.signature)


def _same(expected: Sequence[Reference], found: Sequence[Reference]) -> bool:
    return {(each.id, each.digest) for each in expected} == {(each.id, each.digest) for each in found}


def _as_of_beginning(response: InstallationResponse, now: Instant) -> Instant:
    try:
        begins = read_certificate(response.contract_leaf).not_before
    except Unreadable:
        return now  # said by the verification
    if clock_state(now) is ClockState.UNTRUSTED:
        return replace(now, floor=max(now.floor, begins))
    return replace(now, utc=max(now.utc, begins))
