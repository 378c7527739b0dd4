"""The certificate profile of ISO 15118-2, Annex F: a tuple of small checks, each named for what it wants.

A check answers with its findings and knows of no other; all are always asked. Evidence against a revocation is
revocation.py; the order of questions, and the verdict, verification.py.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from datetime import datetime

from agent.core.contracts.certificates import Certificate
from agent.core.contracts.emaid import Emaid, read_emaid
from agent.core.contracts.flaws import Finding, Flaw
from agent.core.contracts.identifiers import NotAnIdentifier
from agent.core.contracts.path import MAX_SUB_CERTIFICATES, Path
from agent.core.contracts.trust import ClockState, Role

MAX_CERTIFICATE_BYTES = 800  # V2G2-010
_UNDERSTOOD = frozenset({"2.5.29.19", "2.5.29.15"})  # basicConstraints, keyUsage


@dataclass(frozen=True, slots=True, kw_only=True)
class Use:
    """What a chain is shown for. `domain`: its leaf's domain component, if it has or must have one."""

    name: str
    roles: frozenset[Role]
    leaf_bits: tuple[str, ...]
    domain: str
    domain_required: bool
    names_a_contract: bool = False


CONTRACT = Use(
    name="contract",
    roles=frozenset({Role.MOBILITY_OPERATOR, Role.V2G}),
    leaf_bits=("digital_signature", "content_commitment"),  # Table F.4; keyAgreement only matters to renewal
    domain="MO",
    domain_required=False,
    names_a_contract=True,
)
PROVISIONING_SERVICE = Use(
    name="provisioning service",
    roles=frozenset({Role.V2G}),
    leaf_bits=("digital_signature",),
    domain="CPS",
    domain_required=True,  # V2G2-925
)
CHARGER = Use(
    name="charger",
    roles=frozenset({Role.V2G, Role.CHARGE_POINT_OPERATOR}),
    leaf_bits=("digital_signature",),
    domain="CPO",
    domain_required=True,  # V2G2-925
)


@dataclass(frozen=True, slots=True, kw_only=True)
class Case:
    """What the checks look at. `moment` is what time it surely is (trust.moment_of).

    `set_back`: the clock was believed once and stands before that moment: somebody has moved it.
    """

    use: Use
    shown: tuple[Certificate, ...]
    path: Path
    moment: datetime
    clock: ClockState
    claimed: str | None
    set_back: bool = False

    @property
    def certificates(self) -> tuple[Certificate, ...]:
        return self.path.certificates

    @property
    def whole(self) -> tuple[Certificate, ...]:
        """With the anchor, when there is one."""
        return self.certificates if self.path.anchor is None else (*self.certificates, self.path.anchor.certificate)


Check = Callable[[Case], Iterator[Finding]]


def within_size(case: Case) -> Iterator[Finding]:
    """At most 800 bytes of DER each (V2G2-010)."""
    for each in case.shown:
        if len(each.der) > MAX_CERTIFICATE_BYTES:
            yield about(each, Flaw.TOO_LARGE, f"{len(each.der)} bytes, at most {MAX_CERTIFICATE_BYTES}")


def within_number(case: Case) -> Iterator[Finding]:
    """At most three certificates below the root (V2G2-009)."""
    if len(case.shown) > MAX_SUB_CERTIFICATES + 1:
        yield Finding(code=Flaw.TOO_MANY, detail=f"{len(case.shown)} certificates below the root, at most 3")


def each_once(case: Case) -> Iterator[Finding]:
    for index, each in enumerate(case.shown):
        if each in case.shown[:index]:
            yield about(each, Flaw.DUPLICATE, "is in the chain twice")


def nothing_left_over(case: Case) -> Iterator[Finding]:
    """Every certificate is on the path: what proves nothing was not sent by accident."""
    for each in case.path.left_over:
        yield about(each, Flaw.LEFT_OVER, f"{named(each)} is not on the path from the leaf")


def no_foreign_root(case: Case) -> Iterator[Finding]:
    """A self-signed certificate is trusted when it is an anchor already, and never because it came along."""
    for each in case.shown:
        if each.is_self_issued:
            yield about(each, Flaw.SELF_SIGNED, f"{named(each)} is self-signed and no anchor")


def version_3(case: Case) -> Iterator[Finding]:
    for each in case.certificates:
        if not each.is_version_3:
            yield about(each, Flaw.VERSION, f"{named(each)} is no X.509 v3 certificate")


def keys_on_p256(case: Case) -> Iterator[Finding]:
    """V2G2-006: secp256r1 everywhere, the anchor included. With any other key nobody computes the signature."""
    for each in case.whole:
        if not each.is_p256:
            yield about(each, Flaw.KEY_TYPE, f"{named(each)} has no key on secp256r1")


def signed_with_ecdsa_sha256(case: Case) -> Iterator[Finding]:
    """V2G2-007. How an anchor signed itself proves nothing, so it does not matter."""
    for each in case.certificates:
        if not each.has_ecdsa_sha256:
            yield about(each, Flaw.SIGNATURE_ALGORITHM, f"{named(each)} is not signed with ecdsa-with-SHA256")


def signatures_hold(case: Case) -> Iterator[Finding]:
    for each in case.path.broken:
        yield about(each, Flaw.BAD_SIGNATURE, f"{named(each)} was not signed by its issuer's key")


def anchored(case: Case) -> Iterator[Finding]:
    """The last certificate was signed by a root of the bundle; one with the right name and another key is no such."""
    if case.path.anchor is None:
        last = case.certificates[-1]
        why = (
            "an anchor of that name has another key" if case.path.namesake else "no anchor and no sub-CA has that name"
        )
        issuer = "itself" if last.is_self_issued else last.issuer.rfc4514_string()  # a leaf's own name is an eMAID
        yield about(last, Flaw.UNKNOWN_ANCHOR, f"issued by {issuer}: {why}")


def anchor_in_role(case: Case) -> Iterator[Finding]:
    """An MO or V2G root vouches for contracts, never one that is only a charge point operator's or a manufacturer's."""
    anchor = case.path.anchor
    if anchor is not None and anchor.role not in case.use.roles:
        yield about(anchor.certificate, Flaw.ANCHOR_ROLE, f"a root in the role {anchor.role} for a {case.use.name}")


def leaf_below_a_sub_ca(case: Case) -> Iterator[Finding]:
    """A root shall not issue leaves (V2G2-867)."""
    if len(case.certificates) == 1 and case.path.anchor is not None:
        yield about(case.path.leaf, Flaw.ISSUED_BY_ROOT, "the leaf was issued by a root")


def leaf_is_no_ca(case: Case) -> Iterator[Finding]:
    leaf = case.path.leaf
    if leaf.is_ca or leaf.uses("key_cert_sign"):
        yield about(leaf, Flaw.LEAF_IS_CA, "the leaf may issue certificates")


def issuers_are_cas(case: Case) -> Iterator[Finding]:
    for each in case.whole[1:]:
        if not each.is_ca:
            yield about(each, Flaw.NOT_A_CA, f"{named(each)} issues certificates and is no CA")


def constraints_critical(case: Case) -> Iterator[Finding]:
    for each in case.certificates:
        if each.basic_constraints is None or not each.basic_constraints.critical:
            yield about(each, Flaw.BASIC_CONSTRAINTS, f"{named(each)} has no critical basic constraints")


def path_lengths_fit(case: Case) -> Iterator[Finding]:
    """Sub-CA 2, which issues leaves, has path length 0; Sub-CA 1 above it has 1."""
    for length, each in enumerate(case.certificates[1:]):
        if each.is_ca and each.basic_constraints is not None and each.basic_constraints.value.path_length != length:
            found = each.basic_constraints.value.path_length
            yield about(each, Flaw.PATH_LENGTH, f"{named(each)} has path length {found}, not {length}")


def key_usage_critical(case: Case) -> Iterator[Finding]:
    for each in case.certificates:
        if each.key_usage is None or not each.key_usage.critical:
            yield about(each, Flaw.KEY_USAGE, f"{named(each)} has no critical key usage")


def leaf_may_sign(case: Case) -> Iterator[Finding]:
    """Table F.4: at least digitalSignature and nonRepudiation for a contract."""
    missing = [bit for bit in case.use.leaf_bits if not case.path.leaf.uses(bit)]
    if case.path.leaf.key_usage is not None and missing:
        yield about(case.path.leaf, Flaw.KEY_USAGE, f"the leaf's key usage lacks {', '.join(missing)}")


def issuers_may_issue(case: Case) -> Iterator[Finding]:
    for each in case.whole[1:]:
        if each.key_usage is not None and not each.uses("key_cert_sign"):
            yield about(each, Flaw.KEY_USAGE, f"{named(each)}'s key usage lacks key_cert_sign")


def extensions_understood(case: Case) -> Iterator[Finding]:
    """RFC 5280, 4.2: what is critical and not understood refuses."""
    for each in case.certificates:
        for oid in sorted(each.critical - _UNDERSTOOD):
            yield about(each, Flaw.CRITICAL_EXTENSION, f"{named(each)} has the critical extension {oid}")


def for_this_use(case: Case) -> Iterator[Finding]:
    """V2G2-925: the domain component tells uses of one hierarchy apart; contracts may omit it."""
    components = case.path.leaf.domain_components
    if not components and not case.use.domain_required:
        return
    if {each.upper() for each in components} != {case.use.domain}:
        seen = ", ".join(components) or "none"
        yield about(case.path.leaf, Flaw.WRONG_USE, f"domain component {seen}, not {case.use.domain}")


def names_a_contract(case: Case) -> Iterator[Finding]:
    """The subject has one common name and it is an eMAID (V2G2-108)."""
    if case.use.names_a_contract and contract_of(case.path.leaf) is None:
        yield about(case.path.leaf, Flaw.SUBJECT, "the subject's common name is no eMAID, or there is not just one")


def is_the_claimed_contract(case: Case) -> Iterator[Finding]:
    """What the message claims is what the certificate says, on the 14 characters; hyphens and case do not matter."""
    contract = contract_of(case.path.leaf)
    if not case.use.names_a_contract or case.claimed is None or contract is None:
        return
    try:
        claimed = read_emaid(case.claimed).canonical
    except NotAnIdentifier:
        claimed = ""
    if claimed != contract.canonical:
        yield about(case.path.leaf, Flaw.EMAID_MISMATCH, "the claimed eMAID is not the certificate's")


def not_expired(case: Case) -> Iterator[Finding]:
    """Also with an untrusted clock: the floor has surely passed."""
    for each in case.whole:
        if case.moment > each.not_after:
            yield about(each, Flaw.EXPIRED, f"{named(each)} expired at {each.not_after:%Y-%m-%dT%H:%M:%SZ}")


def already_valid(case: Case) -> Iterator[Finding]:
    """With a clock that was never set nobody can say so: the verdict has VALIDITY_UNKNOWN then and is never fresh.

    One that was set back gets no such benefit: moving it would turn this refusal into a grant.
    """
    if case.clock is ClockState.UNTRUSTED and not case.set_back:
        return
    for each in case.whole:
        if case.moment < each.not_before:
            yield about(each, Flaw.NOT_YET_VALID, f"{named(each)} is valid from {each.not_before:%Y-%m-%dT%H:%M:%SZ}")


CHECKS: tuple[Check, ...] = (
    within_size,
    within_number,
    each_once,
    nothing_left_over,
    no_foreign_root,
    version_3,
    keys_on_p256,
    signed_with_ecdsa_sha256,
    signatures_hold,
    anchored,
    anchor_in_role,
    leaf_below_a_sub_ca,
    leaf_is_no_ca,
    issuers_are_cas,
    constraints_critical,
    path_lengths_fit,
    key_usage_critical,
    leaf_may_sign,
    issuers_may_issue,
    extensions_understood,
    for_this_use,
    names_a_contract,
    is_the_claimed_contract,
    not_expired,
    already_valid,
)


def contract_of(leaf: Certificate) -> Emaid | None:
    """The eMAID in the subject, whatever its check character: the proof is the signature."""
    if len(leaf.common_names) != 1:
        return None
    try:
        return read_emaid(leaf.common_names[0])
    except NotAnIdentifier:
        return None


def about(certificate: Certificate, code: Flaw, detail: str) -> Finding:
    return Finding(code=code, detail=detail, certificate=certificate.fingerprint)


def named(certificate: Certificate) -> str:
    """By the fingerprint's start: a leaf's name is an eMAID, which belongs into no log."""
    return f"certificate {certificate.fingerprint[:8]}"
