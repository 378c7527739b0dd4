"""The charger's question, answered offline: is this chain a contract that may charge here, and is it really theirs?

`verify_chain` judges the certificates, `prove_possession` the signature over our challenge. Only both together are
AUTHORISED: a chain is public, and the hook of a foreign stack is called once before and once after the proof. Both
always answer with a verdict that holds every flaw, whatever the bytes are; neither ever raises for them.
"""

from __future__ import annotations

import hashlib
import hmac
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from datetime import datetime, timedelta
from enum import StrEnum

from agent.core.contracts.certificates import Certificate, Unreadable, read_certificate
from agent.core.contracts.emaid import Emaid, names_of
from agent.core.contracts.exi_fragments import Reference, authorization_request
from agent.core.contracts.flaws import ACCEPTED, CODES, EXPIRES_SOON, Doubt, Finding, Flaw, ResponseCodes, worst
from agent.core.contracts.path import MAX_SUB_CERTIFICATES, Path, find_path, library_objection
from agent.core.contracts.profile import CHECKS, CONTRACT, Case, Use, contract_of, named
from agent.core.contracts.revocation import (
    Evidence,
    HashData,
    Status,
    evidence_about,
    hash_data,
    newest,
    rung_of,
)
from agent.core.contracts.signatures import signature_holds
from agent.core.contracts.trust import (
    DEFAULT_LADDER,
    ClockState,
    Ladder,
    RevocationKey,
    Role,
    Rung,
    TrustBundle,
    clock_state,
    moment_of,
    was_set_back,
)
from agent.core.instants import Instant

EXPIRES_SOON_WITHIN = timedelta(days=14)  # V2G20-2218
MAX_SHOWN = MAX_SUB_CERTIFICATES + 3  # a root that came along, one spare to name; with more, no path is even looked for


class Outcome(StrEnum):
    REFUSED = "refused"
    POSSESSION_UNPROVEN = "possession_unproven"
    AUTHORISED = "authorised"


@dataclass(frozen=True, slots=True, kw_only=True)
class AnchorSeen:
    fingerprint: str
    role: Role
    subject: str


@dataclass(frozen=True, slots=True, kw_only=True)
class Verdict:
    """Everything that was found. `flaws` is every failed check; `doubts` refuse nothing. It is answered to whoever
    asked and written to no journal: the charge that may follow is the caller's, and so is its record.

    `rung` FRESH or STALE: on STALE whoever asked is to apply its own limits for charging offline (which no limit here
    stands for) and to mark the session. `revoked` are revocations that were proven just now, to be remembered for ever.
    """

    flaws: tuple[Finding, ...]
    doubts: tuple[Finding, ...] = ()
    proven: bool = False
    emaid: Emaid | None = None
    anchor: AnchorSeen | None = None
    leaf: Certificate | None = None
    clock: ClockState
    judged_at: datetime
    rung: Rung = Rung.NONE
    evidence: tuple[Evidence, ...] = ()
    hash_data: tuple[HashData, ...] = ()
    revoked: frozenset[RevocationKey] = frozenset()

    @property
    def outcome(self) -> Outcome:
        if self.flaws:
            return Outcome.REFUSED
        return Outcome.AUTHORISED if self.proven else Outcome.POSSESSION_UNPROVEN

    @property
    def codes(self) -> ResponseCodes:
        """Of the most severe flaw (flaws.CODES)."""
        flaw = worst(self.flaws)
        if flaw is not None:
            return CODES[flaw]
        return EXPIRES_SOON if any(each.code is Doubt.EXPIRES_SOON for each in self.doubts) else ACCEPTED

    @property
    def revocation_unverified(self) -> bool:
        """Accepted within the asker's offline limits only: the evidence is old, or the clock cannot tell its age."""
        return self.rung is not Rung.FRESH


@dataclass(frozen=True, slots=True, kw_only=True)
class Proof:
    """What came with the AuthorizationReq: its Id and challenge, SignedInfo's references, and the signature r || s."""

    id: str
    challenge: bytes
    references: tuple[Reference, ...]
    signature: bytes


def verify_chain(
    chain: Sequence[bytes],
    *,
    claimed: str | None,
    bundle: TrustBundle,
    now: Instant,
    use: Use = CONTRACT,
    stapled: Sequence[bytes] = (),
    remembered: frozenset[RevocationKey] = frozenset(),
    ladder: Ladder | None = DEFAULT_LADDER,
) -> Verdict:
    """Judge a chain in DER, in any order. `claimed`: the eMAID of the message; None only where no message claims one.

    `remembered`: revocations that were ever proven; they outlast every list. `ladder` None asks for no evidence at
    all, for uses where nobody can have any (a vehicle judging a provisioning service); what is known still counts.
    """
    clock, moment = clock_state(now), moment_of(now)
    shown, unreadable = _read(chain, bundle)
    path = find_path(shown, bundle.anchors, use.roles) if len(chain) <= MAX_SHOWN else None
    if path is None:
        return Verdict(flaws=(*unreadable, *_nothing_to_judge(chain, shown)), clock=clock, judged_at=moment)

    case = Case(
        use=use, shown=shown, path=path, moment=moment, clock=clock, claimed=claimed, set_back=was_set_back(now)
    )
    flaws = [*unreadable, *(finding for check in CHECKS for finding in check(case))]
    flaws += _library(case)

    links = [(each, issuer) for each, issuer in zip(path.certificates, path.issuers, strict=True) if issuer is not None]
    evidence = [
        evidence_about(each, issuer, bundle=bundle, stapled=stapled, remembered=remembered, moment=moment, clock=clock)
        for each, issuer in links
    ]
    rungs = [rung_of(each, ladder=ladder or DEFAULT_LADDER, moment=moment, clock=clock) for each in evidence]
    rung = max(rungs, key=list(Rung).index, default=Rung.NONE) if path.holds else Rung.NONE
    flaws += _revocations(links, evidence)
    if ladder is not None and path.holds:  # of a path that proves nothing, nobody could say it is still good
        flaws += _too_little_evidence(rung)
    contract = contract_of(path.leaf) if use.names_a_contract else None
    flaws += _contract_lists(contract, bundle)
    return Verdict(
        flaws=tuple(flaws),
        doubts=tuple(_doubts(case, contract, rung)),
        emaid=contract,
        anchor=_seen(path),
        leaf=path.leaf,
        clock=clock,
        judged_at=moment,
        rung=rung,
        evidence=tuple(each for found in evidence for each in found),
        hash_data=tuple(hash_data(each, issuer) for each, issuer in links),
        revoked=_proven_revocations(path, links, evidence),
    )


def prove_possession(verdict: Verdict, *, challenge: bytes, proof: Proof) -> Verdict:
    """The verdict with the answer to our challenge judged. A refused chain stays refused, whoever has its key.

    What was signed is encoded again by us: one reference, to the request with this Id and *our* challenge.
    """
    return replace(verdict, flaws=(*verdict.flaws, *_unproven(verdict, challenge, proof)), proven=True)


def _unproven(verdict: Verdict, challenge: bytes, proof: Proof) -> Iterator[Finding]:
    if not hmac.compare_digest(proof.challenge, challenge):
        yield Finding(code=Flaw.CHALLENGE, detail="the challenge is not the one that was sent")
    digest = hashlib.sha256(authorization_request(proof.id, proof.challenge)).digest()
    if proof.references != (Reference(id=proof.id, digest=digest),):
        yield Finding(code=Flaw.SIGNED_ELEMENT, detail="what was signed is not this AuthorizationReq and only this")
    if verdict.leaf is None or not signature_holds(verdict.leaf.point, proof.references, proof.signature):
        yield Finding(code=Flaw.REQUEST_SIGNATURE, detail="the signature was not made with the contract's key")


def _read(chain: Sequence[bytes], bundle: TrustBundle) -> tuple[tuple[Certificate, ...], list[Finding]]:
    """The certificates below the anchors: an anchor that came along is trusted for the bundle's sake and set aside."""
    shown: list[Certificate] = []
    unreadable: list[Finding] = []
    anchors = {anchor.certificate.fingerprint for anchor in bundle.anchors}
    for index, der in enumerate(chain[:MAX_SHOWN]):
        try:
            certificate = read_certificate(der)
        except Unreadable as error:
            unreadable.append(Finding(code=Flaw.UNREADABLE, detail=f"certificate {index + 1} of the chain: {error}"))
            continue
        if certificate.fingerprint not in anchors:
            shown.append(certificate)
    return tuple(shown), unreadable


def _nothing_to_judge(chain: Sequence[bytes], shown: tuple[Certificate, ...]) -> Iterator[Finding]:
    if len(chain) > MAX_SHOWN:
        yield Finding(code=Flaw.TOO_MANY, detail=f"{len(chain)} certificates, at most 3 below the root")
    elif not shown:
        yield Finding(code=Flaw.NO_CERTIFICATE, detail="the chain holds no certificate below a root")


def _library(case: Case) -> Iterator[Finding]:
    """Asked for a time at which it can say yes when the clock is untrusted: dates are judged by our own checks then."""
    moment = case.moment
    if case.clock is ClockState.UNTRUSTED:
        moment = max(moment, *(each.not_before for each in case.whole))
    objection = library_objection(case.path, moment)
    if objection is not None:
        yield Finding(code=Flaw.PATH_REFUSED, detail=f"path validation: {objection}")


def _revocations(
    links: Sequence[tuple[Certificate, Certificate]], evidence: Sequence[tuple[Evidence, ...]]
) -> Iterator[Finding]:
    for (certificate, _), found in zip(links, evidence, strict=True):
        revoked = next((each for each in found if each.status is Status.REVOKED), None)
        latest = newest(found)
        if revoked is not None:
            yield Finding(
                code=Flaw.REVOKED,
                detail=f"{named(certificate)} was revoked, says {revoked.source}",
                certificate=certificate.fingerprint,
            )
        elif latest is not None and latest.status is Status.UNKNOWN:
            yield Finding(
                code=Flaw.STATUS_UNKNOWN,
                detail=f"{named(certificate)} is not known to its issuer's own responder",
                certificate=certificate.fingerprint,
            )


def _too_little_evidence(rung: Rung) -> Iterator[Finding]:
    if rung is Rung.TOO_OLD:
        yield Finding(code=Flaw.EVIDENCE_TOO_OLD, detail="the newest word on revocations is too old to go by")
    elif rung is Rung.NONE:
        yield Finding(code=Flaw.NO_EVIDENCE, detail="nothing says whether every certificate of the path is still good")


def _contract_lists(contract: Emaid | None, bundle: TrustBundle) -> Iterator[Finding]:
    """Lists may hold a contract under its DIN form: any of its names counts."""
    if contract is None:
        return
    if names_of(contract) & bundle.cancelled:
        yield Finding(code=Flaw.CONTRACT_CANCELLED, detail="the fleet has cancelled this contract")
    if bundle.allowed is not None and not names_of(contract) & bundle.allowed:
        yield Finding(code=Flaw.NOT_LISTED, detail="the fleet's list of contracts does not have this one")


def _doubts(case: Case, contract: Emaid | None, rung: Rung) -> Iterator[Finding]:
    leaf = case.path.leaf
    if contract is not None and contract.check_is_wrong:
        yield _doubt(leaf, Doubt.CHECK_CHARACTER, "the eMAID's check character is wrong; the signature is the proof")
    if case.moment <= leaf.not_after < case.moment + EXPIRES_SOON_WITHIN:
        yield _doubt(leaf, Doubt.EXPIRES_SOON, f"the leaf expires at {leaf.not_after:%Y-%m-%dT%H:%M:%SZ}")
    if case.clock is ClockState.UNTRUSTED:
        yield Finding(
            code=Doubt.VALIDITY_UNKNOWN, detail="the clock is untrusted: nobody can say that this is valid now"
        )
    if rung is Rung.STALE:
        yield Finding(
            code=Doubt.EVIDENCE_STALE,
            detail="the word on revocations is not fresh: accept within limits for charging offline only",
        )
    if case.use.names_a_contract and not leaf.uses("key_agreement"):
        yield _doubt(
            leaf, Doubt.KEY_AGREEMENT_MISSING, "without keyAgreement this contract cannot be updated (V2G2-822)"
        )


def _doubt(certificate: Certificate, code: Doubt, detail: str) -> Finding:
    return Finding(code=code, detail=detail, certificate=certificate.fingerprint)


def _proven_revocations(
    path: Path, links: Sequence[tuple[Certificate, Certificate]], evidence: Sequence[tuple[Evidence, ...]]
) -> frozenset[RevocationKey]:
    """Only of a path that ends at an anchor: anybody may revoke what anybody made up."""
    if not path.holds:
        return frozenset()
    return frozenset(
        hash_data(certificate, issuer).revocation_key
        for (certificate, issuer), found in zip(links, evidence, strict=True)
        if any(each.status is Status.REVOKED for each in found)
    )


def _seen(path: Path) -> AnchorSeen | None:
    if path.anchor is None:
        return None
    certificate = path.anchor.certificate
    return AnchorSeen(
        fingerprint=certificate.fingerprint, role=path.anchor.role, subject=certificate.subject.rfc4514_string()
    )
