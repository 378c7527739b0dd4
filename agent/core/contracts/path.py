"""From certificates in any order to a path: leaf, Sub-CA 2, Sub-CA 1, anchor. Finds the best one and hides nothing.

A path says only who signed whom. Whether such a path is allowed is profile.py, and the library's own path validation,
asked here as a second opinion.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime
from functools import cache
from itertools import pairwise

from cryptography import x509
from cryptography.x509 import BasicConstraints, KeyUsage
from cryptography.x509.verification import (
    Criticality,
    ExtensionPolicy,
    Policy,
    PolicyBuilder,
    Store,
    VerificationError,
)

from agent.core.contracts.certificates import Certificate, is_signed_by
from agent.core.contracts.trust import Anchor, Role

MAX_SUB_CERTIFICATES = 2  # V2G2-009: at most three certificates that are not self-signed


@dataclass(frozen=True, slots=True, kw_only=True)
class Path:
    """`certificates`: the leaf first. `broken`: those that the next one by name did not sign. `left_over`: not on it.

    `namesake`: no anchor signed the last certificate, although one has its issuer's name.
    """

    certificates: tuple[Certificate, ...]
    anchor: Anchor | None
    broken: tuple[Certificate, ...] = ()
    left_over: tuple[Certificate, ...] = ()
    namesake: bool = False

    @property
    def leaf(self) -> Certificate:
        return self.certificates[0]

    @property
    def holds(self) -> bool:
        """Every certificate was signed by the next one, and the last by an anchor."""
        return self.anchor is not None and not self.broken

    @property
    def issuers(self) -> tuple[Certificate | None, ...]:
        """Who issued each: the next on the path, the anchor at the end; None where nobody is known to have."""
        following = (*self.certificates[1:], self.anchor.certificate if self.anchor is not None else None)
        pairs = zip(self.certificates, following, strict=True)
        return tuple(None if each in self.broken else issuer for each, issuer in pairs)


def find_path(certificates: Sequence[Certificate], anchors: Sequence[Anchor], roles: frozenset[Role]) -> Path | None:
    """The best path of all leaves: to an anchor in one of these roles, then to any, then with fewest breaks, longest.

    Several anchors may have one name and different keys (V2G2-878), so each is tried; a name alone proves nothing.
    None only when there is no certificate.
    """
    signed = cache(is_signed_by)

    def grow(path: tuple[Certificate, ...]) -> list[tuple[Certificate, ...]]:
        tip = path[-1]
        named = [each for each in certificates if each not in path and each.subject == tip.issuer]
        following = [each for each in named if signed(tip, each)] or named
        return [path, *(longer for each in following for longer in grow((*path, each)))]

    def judged(path: tuple[Certificate, ...]) -> Path:
        tip = path[-1]
        namesakes = [anchor for anchor in anchors if anchor.certificate.subject == tip.issuer]
        signers = [anchor for anchor in namesakes if signed(tip, anchor.certificate)]
        return Path(
            certificates=path,
            anchor=min(signers, key=lambda anchor: anchor.role not in roles, default=None),
            broken=tuple(each for each, issuer in pairwise(path) if not signed(each, issuer)),
            left_over=tuple(each for each in certificates if each not in path),
            namesake=bool(namesakes) and not signers,
        )

    def worth(path: Path) -> tuple[bool, bool, int, int]:
        anchored = path.anchor is not None
        allowed = path.anchor is not None and path.anchor.role in roles
        return allowed, anchored, -len(path.broken), len(path.certificates)

    paths = [judged(path) for leaf in _leaves(certificates) for path in grow((leaf,))]
    return max(paths, key=worth, default=None)


def library_objection(path: Path, moment: datetime) -> str | None:
    """What cryptography's path validation (RFC 5280 with our extension policy) has against this path at this time."""
    if path.anchor is None:
        return None  # UNKNOWN_ANCHOR is said by profile.py
    verifier = (
        PolicyBuilder()
        .store(Store([path.anchor.certificate.parsed]))
        .time(moment)
        .max_chain_depth(MAX_SUB_CERTIFICATES)
        .extension_policies(ca_policy=_CA_POLICY, ee_policy=_EE_POLICY)
        .build_client_verifier()
    )
    try:
        verifier.verify(path.leaf.parsed, [each.parsed for each in path.certificates[1:]])
    except (VerificationError, ValueError, TypeError) as error:
        return str(error).split(" (encountered processing")[0][:300]  # what follows names the subject: an eMAID
    return None


def _is_ca(policy: Policy, certificate: x509.Certificate, constraints: BasicConstraints) -> None:
    if not constraints.ca:
        raise ValueError("an issuer is no CA")


def _may_issue(policy: Policy, certificate: x509.Certificate, usage: KeyUsage) -> None:
    if not usage.key_cert_sign:
        raise ValueError("an issuer's key usage lacks keyCertSign")


def _is_no_ca(policy: Policy, certificate: x509.Certificate, constraints: BasicConstraints) -> None:
    if constraints.ca:
        raise ValueError("the leaf is a CA")


def _may_sign(policy: Policy, certificate: x509.Certificate, usage: KeyUsage) -> None:
    if usage.key_cert_sign or not usage.digital_signature:
        raise ValueError("the leaf's key usage is not that of a leaf that signs")


_CA_POLICY = (
    ExtensionPolicy.permit_all()
    .require_present(BasicConstraints, Criticality.CRITICAL, _is_ca)
    .require_present(KeyUsage, Criticality.CRITICAL, _may_issue)
)
_EE_POLICY = (
    ExtensionPolicy.permit_all()
    .require_present(BasicConstraints, Criticality.CRITICAL, _is_no_ca)
    .require_present(KeyUsage, Criticality.CRITICAL, _may_sign)
)


def _leaves(certificates: Sequence[Certificate]) -> list[Certificate]:
    """No CA, if there is such a one; otherwise whoever issued none of the others; otherwise each may be it."""
    issuers = [each.issuer for each in certificates if not each.is_self_issued]
    return (
        [each for each in certificates if not each.is_ca]
        or [each for each in certificates if each.subject not in issuers]
        or list(certificates)
    )
