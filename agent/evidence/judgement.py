"""Does the evidence prove the session? Every check is made and told, with nothing but the file and the fleet's root.

The checks lean on each other in this order: the root vouches for the bundles, a bundle for the device's key, the key
for the checkpoint, the checkpoint through the chain for the records; then it is asked whether the records are what they
are said to be. A check whose ground has failed fails, too.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from datetime import timedelta
from enum import StrEnum
from hashlib import sha256
from typing import TYPE_CHECKING, Any

from agent.core.answers import Whitelist
from agent.core.claims import held_to, reserved_claims
from agent.core.decisions import Granted, decide
from agent.core.facts import (
    Checkpoint,
    DecisionMade,
    Fact,
    Outcome,
    RecordsShed,
    SessionAuthorised,
    SessionEnded,
    SessionFact,
    SessionPriced,
    SessionSigned,
)
from agent.core.instants import Instant
from agent.core.pins import PinState
from agent.core.policy import Group, Policy, Token
from agent.core.requests import Given, Request, Usage
from agent.core.sessions import Session, cost_so_far, fold
from agent.evidence.document import Evidence, NotEvidence, from_bytes
from agent.evidence.proofs import papers_of
from agent.journal.verification import Anchor, verify
from agent.ocpi.quotes import quote_of
from agent.samples import NAMED_SESSIONS
from agent.signed_meter import OCMF, Unopened, records_of
from agent.wire import Record, Unreadable, open_envelope, open_record, source_of
from sync.bundle import SignedBundle
from sync.signing import SigningError, thumbprint

if TYPE_CHECKING:
    from sync.vouching import Roots


class Check(StrEnum):
    FILE = "file"
    ROOT = "root"
    BUNDLES = "bundles"
    DEVICE_KEY = "device key"
    RECORDS = "records"
    SESSION = "session"
    METER = "meter"
    DECISION = "decision"
    RULES = "rules"


@dataclass(frozen=True, slots=True, kw_only=True)
class Finding:
    """One check's outcome; `flaws` is empty when it passed."""

    check: Check
    flaws: tuple[str, ...] = ()
    told: str = ""

    @property
    def ok(self) -> bool:
        return not self.flaws


@dataclass(frozen=True, slots=True, kw_only=True)
class Judgement:
    """`groups` are the levels of the policy that decided, nearest first; empty when they are not proven."""

    findings: tuple[Finding, ...]
    evidence: Evidence | None = None
    groups: tuple[Group, ...] = ()

    @property
    def ok(self) -> bool:
        return bool(self.findings) and all(finding.ok for finding in self.findings)

    @property
    def failed(self) -> tuple[Check, ...]:
        return tuple(finding.check for finding in self.findings if not finding.ok)


@dataclass(slots=True, kw_only=True)
class _Case:
    """What the checks have found so far."""

    evidence: Evidence
    root: bytes
    session: str | None
    device_keys: Mapping[str, str] | None
    token_key: bytes | None = None
    meter_key: str | bytes | None = None
    roots: Roots = field(default_factory=dict)
    good: list[SignedBundle] = field(default_factory=list)
    keys: dict[str, str] = field(default_factory=dict)
    whole: bool = False
    records: list[Record] = field(default_factory=list)
    decision: tuple[DecisionMade, Record] | None = None
    policy: Policy | None = None
    told: str = ""


def judge(
    body: bytes,
    *,
    root: bytes,
    session: str | None = None,
    device_keys: Mapping[str, str] | None = None,
    token_key: bytes | None = None,
    meter_key: str | bytes | None = None,
) -> Judgement:
    """`session` is the one that was asked for, `device_keys` (kid to public key) are trusted, too.

    The `token_key` opens signed meter records that name a card; `meter_key` is the meter's, from elsewhere.
    """
    try:
        evidence = from_bytes(body)
    except NotEvidence as error:
        return Judgement(findings=(Finding(check=Check.FILE, flaws=(str(error),)),))
    return judge_claims(
        evidence, root=root, session=session, device_keys=device_keys, token_key=token_key, meter_key=meter_key
    )


def judge_claims(
    evidence: Evidence,
    *,
    root: bytes,
    session: str | None = None,
    device_keys: Mapping[str, str] | None = None,
    token_key: bytes | None = None,
    meter_key: str | bytes | None = None,
) -> Judgement:
    """The claims themselves, whatever file they came in."""
    case = _Case(
        evidence=evidence,
        root=root,
        session=session,
        device_keys=device_keys,
        token_key=token_key,
        meter_key=meter_key,
    )
    findings = [Finding(check=Check.FILE, told="whole and in its one form")]
    for check, look in _CHECKS.items():
        case.told = ""
        flaws = tuple(look(case))
        findings.append(Finding(check=check, flaws=flaws, told="" if flaws else case.told))
    groups: tuple[Group, ...] = ()
    if case.policy is not None and case.decision is not None:
        groups = tuple(case.policy.levels(case.decision[0].holder.group or "") or ())
    return Judgement(findings=tuple(findings), evidence=evidence, groups=groups)


def _root_vouches(case: _Case) -> Iterator[str]:
    from sync.vouching import follow_roots

    case.roots, flaws = follow_roots(case.root, case.evidence.roots, fleet=case.evidence.fleet)
    case.told = f"fleet {case.evidence.fleet}, root versions {', '.join(map(str, sorted(case.roots)))}"
    yield from flaws


def _bundles_are_the_fleets(case: _Case) -> Iterator[str]:
    from sync.vouching import flaws_of

    if not case.evidence.bundles:
        yield "there is no signed document of the fleet"
    for bundle in case.evidence.bundles:
        flaws = flaws_of(bundle, case.roots, fleet=case.evidence.fleet)
        yield from (f"bundle {bundle.fingerprint[:12]}: {flaw}" for flaw in flaws)
        if not flaws:
            case.good.append(bundle)
    case.told = ", ".join(f"{bundle.fingerprint[:12]} signed by the fleet" for bundle in case.good)


def _device_key_is_vouched_for(case: _Case) -> Iterator[str]:
    from agent.cache.documents import DEVICES, DocumentUnfit, read_devices

    evidence = case.evidence
    kid = evidence.device_key.get("kid")
    listed: dict[str, str] = dict(case.device_keys or {})
    for bundle in case.good:
        try:
            if DEVICES in bundle.parts:
                listed |= read_devices(bundle.parts[DEVICES]).get(evidence.device, {})
        except DocumentUnfit as error:
            yield str(error)
    try:
        claimed = thumbprint(json.dumps(dict(evidence.device_key)))
    except SigningError as error:
        yield f"the key in the file: {error}"
        return
    if kid != claimed:
        yield f"the key in the file says that it is {kid!r}, but it is {claimed!r}"
    elif kid not in listed:
        yield f"neither the fleet's signed list nor --device-key names key {kid} for device {evidence.device}"
    else:
        case.keys = {kid: listed[kid]}
        case.told = f"{kid} of device {evidence.device}"


def _records_are_whole(case: _Case) -> Iterator[str]:
    """The chain from the first record to the last, which is a checkpoint signed by the device's key."""
    bodies = case.evidence.records
    if not bodies:
        yield "there are no records"
        return
    try:
        first, last = open_envelope(bodies[0]), open_envelope(bodies[-1])
    except Unreadable as error:
        yield f"the first or the last record: {error}"
        return
    verdict = verify(bodies, keys=case.keys, base=Anchor(sequence=first.sequence - 1, hash=first.previous))
    if verdict.finding is not None:
        yield f"record {verdict.finding.at} {verdict.finding.damage}: {verdict.finding.detail}"
    source = source_of(case.evidence.fleet, case.evidence.device)
    if first.source != source:
        yield f"they are of {first.source}, not of {source}"
    if "jws" not in last.data:
        yield "the last record is no checkpoint: nothing signs for them"
    elif verdict.finding is None and verdict.signed_through != last.sequence - 1:
        yield f"the signature reaches record {verdict.signed_through} only"
    case.whole = verdict.finding is None
    for body in bodies:
        try:
            case.records.append(open_record(body))
        except Unreadable:
            continue  # of a newer version: it is chained, and no fact of this session as far as we can tell
    case.told = f"{len(bodies)} records, {first.sequence} to {last.sequence} of journal {first.journal}, in one chain"


def _session_is_this_one(case: _Case) -> Iterator[str]:
    wanted = case.session or case.evidence.session
    if case.evidence.session != wanted:
        yield f"this is evidence of session {case.evidence.session}, not of {wanted}"
    about = [record for record in case.records if record.subject == case.evidence.session]
    facts = [record.fact for record in about if isinstance(record.fact, SessionFact)]
    begun, ended = _only(facts, SessionAuthorised), _only(facts, SessionEnded)
    if begun is None or ended is None:
        yield "its beginning and its end are not both among the records, once each"
        return
    if (begun.decision, begun.credential, begun.place) != (ended.decision, ended.credential, ended.place):
        yield "its end is of another decision, card or place than its beginning"
    session = fold(facts[:-1], quote_of) if isinstance(facts[-1], SessionEnded) else None
    if session is None:
        yield "something of it was recorded after its end"
    elif ended.complete and ended.meter_start_wh is not None and ended.meter_stop_wh is not None:
        if ended.meter_start_wh != session.meter_start_wh:
            yield f"it ended with a meter start of {ended.meter_start_wh} Wh, but began at {session.meter_start_wh} Wh"
        if ended.energy_wh != max(0, ended.meter_stop_wh - ended.meter_start_wh):
            yield f"its energy of {ended.energy_wh} Wh is not what the meter counted"
    uncounted = _readings_given_up(case)
    if session is not None and not uncounted:
        yield from _cost_flaws(session, ended, facts)
    last = case.records[-1].fact if case.records else None
    if not isinstance(last, Checkpoint) or about[-1].sequence >= case.records[-1].sequence:
        yield "no checkpoint follows its end"
    if not case.whole or not case.keys:
        yield "the records are not proven, so neither is what they say"
    case.told = f"{ended.energy_wh} Wh, {ended.duration_s} s, ended by {ended.reason.value}"
    if ended.cost is not None:
        case.told += f", {ended.cost.gross or ended.cost.net} {ended.cost.currency}"
        if uncounted:
            case.told += f"; the cost was NOT counted again: {uncounted}"


def _readings_given_up(case: _Case) -> str:
    """Why the cost cannot be worked out again: the device counted it by more readings than are here. Empty if it can.

    A full list of sessions leaves open whether this one is among those it does not name.
    """
    for record in case.records:
        match record.fact:
            case RecordsShed(sessions=sessions, count=count) if case.evidence.session in sessions:
                return f"record {record.sequence} tells of {count} readings given up, of this session too"
            case RecordsShed(sessions=sessions, count=count) if len(sessions) >= NAMED_SESSIONS:
                return f"record {record.sequence} tells of {count} readings given up, of more sessions than it names"
            case _:
                continue
    return ""


def _cost_flaws(session: Session, ended: SessionEnded, facts: Sequence[Fact]) -> Iterator[str]:
    """The price worked out again from the readings and the tariff in the records."""
    for fact in facts:
        if isinstance(fact, SessionPriced) and fact.sha256 != sha256(fact.document.encode()).hexdigest():
            yield "its tariff is not the document whose hash is told"
    known = session.quote is not None or not any(isinstance(fact, SessionPriced) for fact in facts)
    if ended.cost is None or not known or ended.meter_stop_wh is None:
        return
    again = cost_so_far(replace(session, meter_last_wh=ended.meter_stop_wh), ended.duration_s * 1000)
    if again != ended.cost:
        yield f"it cost {ended.cost.gross or ended.cost.net}, but by its tariff and readings it costs another sum"


def _decision_began_it(case: _Case) -> Iterator[str]:
    begun = _only([record.fact for record in case.records], SessionAuthorised, session=case.evidence.session)
    made = [
        (record.fact, record)
        for record in case.records
        if isinstance(record.fact, DecisionMade) and begun is not None and record.fact.decision == begun.decision
    ]
    if begun is None or len(made) != 1:
        yield "the decision that began the session is not among the records, once"
        return
    decision, record = made[0]
    if decision.outcome not in (Outcome.GRANTED, Outcome.OVERRIDE):
        yield "the decision was a refusal"
    same = (decision.credential, decision.holder, decision.place, decision.charger, decision.max_energy_wh)
    if same != (begun.credential, begun.holder, begun.place, begun.charger, begun.max_energy_wh):
        yield "the session began with another card, holder, place or limit than was decided"
    if decision.policy is None:
        yield "the decision names no policy"
    elif not any(bundle.fingerprint == decision.policy.fingerprint for bundle in case.evidence.bundles):
        yield f"the policy that decided, revision {decision.policy.revision}, is not in the file"
    else:
        case.told = f"granted by policy revision {decision.policy.revision}, {decision.policy.age_s} s after it was new"
    case.decision = decision, record


def _rules_grant_it(case: _Case) -> Iterator[str]:
    """Ask the rules again. That the token was active is the record's word: its list entry is not in the file."""
    from sync.vouching import ceilings_under

    decision, record = case.decision or (None, None)
    stamp = decision.policy if decision is not None else None
    if decision is None or record is None or stamp is None:
        yield "there is no decision to ask again"
        return
    bundle = next((each for each in case.good if each.fingerprint == stamp.fingerprint), None)
    if bundle is None:
        yield "the policy that decided is not proven"
        return
    flaw, policy = _policy_of(bundle, record, age=timedelta(seconds=stamp.age_s))
    if policy is None:
        yield flaw
        return
    ceilings = ceilings_under(case.roots, bundle.root)
    policy = replace(policy, override_energy_wh=ceilings.override_energy_wh, override_hours=ceilings.override_hours)
    case.policy = policy
    if policy.revision != stamp.revision:
        yield f"the decision names revision {stamp.revision}, but the document is revision {policy.revision}"
    if policy.fleet != case.evidence.fleet:
        yield f"the policy is of fleet {policy.fleet!r}"
    holder = decision.holder
    if holder.group is None or policy.levels(holder.group) is None:
        yield f"group {holder.group!r} of the token is not in the policy"
        return
    token = Token(
        reference=decision.credential.reference,
        label=holder.label or "",
        group=holder.group,
        parent=holder.parent,
        driver=holder.driver,
        vehicle=holder.vehicle,
        whitelist=decision.whitelist or Whitelist.ALLOWED,
    )
    papers = papers_of(
        decision,
        record,
        [each.fact for each in case.records],
        case.good,
        (case.evidence.fleet, case.evidence.device),
    )
    yield from papers.flaws
    asked = Request(
        credential=decision.credential,
        token=token,
        place=decision.place,
        vehicle=holder.vehicle,
        prices=decision.prices,
        soc_percent=decision.soc_percent,
        given=Given(pin=PinState.RIGHT if decision.pin_proven else None, odometer_km=decision.odometer_km),
        heard=decision.backend,
    )
    now = _instant_of(record)
    again = decide(asked, policy, Usage(overrides=papers.overrides), now)
    if isinstance(again, Granted) and decision.leases:
        # What the leases left of it then is the record's word, as are the leases; how that narrows the limits is not.
        claims = reserved_claims(decision.leases, policy.budgets, asked, again.limits, now)
        again = replace(again, limits=held_to(again.limits, claims, asked))
    if not isinstance(again, Granted):
        yield from (
            f"asked again, rule {reason.rule} refuses: {reason.code.value} ({reason.observed}, allowed {reason.limit})"
            for reason in again.reasons
        )
    elif again.limits.max_energy_wh != decision.max_energy_wh:
        yield f"its limit was {decision.max_energy_wh} Wh, the policy says {again.limits.max_energy_wh} Wh"
    elif papers.overrides and again.override is None:
        yield "asked again, they grant it without the override that was used up"
    case.told = "; ".join((f"asked again, they grant it to group {holder.group}", *papers.told))


def _meter_signed_it(case: _Case) -> Iterator[str]:
    """Signed meter records are a gift: without any there is nothing to find wrong."""
    from agent.core.ocmf import read
    from agent.ocmf_signatures import Verdict
    from agent.ocmf_signatures import verify as verify_meter

    kept = [record.fact for record in case.records if isinstance(record.fact, SessionSigned)]
    try:
        found = list(records_of((each for each in kept if each.session == case.evidence.session), case.token_key))
    except Unopened as error:
        yield str(error)
        return
    told = []
    for each in found:
        if each.document is None:
            told.append(f"{each.format} {each.sha256[:12]} in a box (--token-key opens it)")
        elif each.format.upper() != OCMF:
            told.append(f"{each.format} {each.sha256[:12]}, which cannot be checked here")
        else:
            verified = verify_meter(read(each.document).record, case.meter_key or each.public_key)
            whose = "" if case.meter_key else ", by the key that the charger named"
            told.append(f"OCMF {each.sha256[:12]} {verified.verdict}{whose}")
            if verified.verdict not in (Verdict.VALID, Verdict.NO_KEY, Verdict.UNSUPPORTED):
                yield f"OCMF {each.sha256[:12]}: {verified.verdict}: {verified.text}"
    case.told = "; ".join(told) or "no signed meter record came"


_CHECKS: Mapping[Check, Callable[[_Case], Iterator[str]]] = {
    Check.ROOT: _root_vouches,
    Check.BUNDLES: _bundles_are_the_fleets,
    Check.DEVICE_KEY: _device_key_is_vouched_for,
    Check.RECORDS: _records_are_whole,
    Check.SESSION: _session_is_this_one,
    Check.METER: _meter_signed_it,
    Check.DECISION: _decision_began_it,
    Check.RULES: _rules_grant_it,
}


def _policy_of(bundle: SignedBundle, record: Record, *, age: timedelta) -> tuple[str, Policy | None]:
    """The signed policy as it was at that moment, as old as the record says."""
    from agent.cache.documents import POLICY, REVOKED, DocumentUnfit, read_policy, read_revoked

    if POLICY not in bundle.parts:
        return f"{POLICY} is not in the file", None
    try:
        read = read_policy(bundle.parts[POLICY])
        revoked = read_revoked(bundle.parts[REVOKED]) if REVOKED in bundle.parts else frozenset()
    except DocumentUnfit as error:
        return str(error), None
    policy = Policy(
        fleet=read.fleet,
        revision=read.revision,
        fingerprint=bundle.fingerprint,
        confirmed=record.time - age,
        confirmed_boot=record.boot,
        confirmed_ms=record.monotonic_ms - age // timedelta(milliseconds=1),
        stale_after=read.stale_after,
        expired_after=read.expired_after,
        groups=read.groups,
        drivers={},
        vehicles={},
        revoked=revoked,
        budgets=read.budgets,
    )
    return "", policy


def _instant_of(record: Record) -> Instant:
    return Instant(
        utc=record.time,
        floor=record.time,
        monotonic_ms=record.monotonic_ms,
        boot=record.boot,
        quality=record.quality,
        entropy=b"",
    )


def _only(facts: Sequence[Fact], kind: type[Any], **having: object) -> Any:
    """The one fact of this kind; None when there is none or another one."""
    found = [
        fact
        for fact in facts
        if isinstance(fact, kind) and all(getattr(fact, name) == value for name, value in having.items())
    ]
    return found[0] if len(found) == 1 else None
