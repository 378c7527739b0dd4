"""The signed papers that a decision rests on besides the policy: the backend's answer, and a dispatcher's override.

Each is in the journal with the decision. Here they are held against the keys that the fleet's documents name for them;
what follows from a proven one is judgement.py. A break-glass code has no signature: only the fleet office can check it.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace

from agent.cache.contents import KeyUse
from agent.core.answers import Mode
from agent.core.facts import BackendAnswered, DecisionMade, Fact, Outcome, OverrideUsed
from agent.core.overrides import Override
from agent.live_desk import override_of
from agent.wire import Record
from sync.bundle import SignedBundle
from sync.messages import BadMessage
from sync.overrides import OVERRIDE_TYP, parse_override
from sync.questions import ANSWER_TYP, parse_answer
from sync.signing import SigningError, verify


@dataclass(slots=True, kw_only=True)
class Papers:
    """`flaws` is what is wrong with them; `told` what they prove."""

    overrides: tuple[Override, ...] = ()
    flaws: list[str] = field(default_factory=list)
    told: list[str] = field(default_factory=list)


def papers_of(
    decision: DecisionMade,
    record: Record,
    facts: Sequence[Fact],
    bundles: Sequence[SignedBundle],
    device: tuple[str, str],
) -> Papers:
    """`device` is (fleet, device). Nothing is wrong with a decision that rests on the policy alone."""
    papers = Papers()
    if decision.mode is Mode.ONLINE:
        papers.flaws += _answer_flaws(decision, facts, _keys(bundles, KeyUse.ANSWER), device)
        verdict = None if decision.backend is None else decision.backend.verdict
        papers.told.append(f"the backend said {verdict}")
    if decision.outcome is Outcome.OVERRIDE or decision.override is not None:
        found = _override(decision, facts, _keys(bundles, KeyUse.OVERRIDE), device)
        if isinstance(found, str):
            papers.flaws.append(found)
        else:
            # Received at the latest when it was used; that it had not expired is asked again with the rules.
            here = replace(found, boot=record.boot, received_ms=record.monotonic_ms)
            papers.overrides = (here,)
            papers.told.append(f"by override {found.id} of {found.by}: {found.why}")
    return papers


def _answer_flaws(
    decision: DecisionMade, facts: Sequence[Fact], keys: Mapping[str, str], device: tuple[str, str]
) -> Iterator[str]:
    kept = [each for each in facts if isinstance(each, BackendAnswered) and each.decision == decision.decision]
    if len(kept) != 1 or decision.backend is None:
        yield "it was decided by an answer of the backend, which is not among the records, once"
        return
    try:
        said = parse_answer(verify(kept[0].jws, keys, typ=ANSWER_TYP))
    except (SigningError, BadMessage) as error:
        yield f"the backend's answer is not proven: {error}"
        return
    if (said.fleet, said.device, said.ask) != (*device, kept[0].ask):
        yield "the backend's answer is for another device or question"
    if not said.verdict == kept[0].verdict == decision.backend.verdict:
        yield f"the backend said {said.verdict}, the decision says {decision.backend.verdict}"


def _override(
    decision: DecisionMade, facts: Sequence[Fact], keys: Mapping[str, str], device: tuple[str, str]
) -> Override | str:
    """Proven, or why it is not."""
    kept = [each for each in facts if isinstance(each, OverrideUsed) and each.decision == decision.decision]
    if len(kept) != 1 or kept[0].override != decision.override:
        return "it was granted by an override, which is not among the records, once"
    jws = kept[0].jws
    if jws is None:
        return f"it was granted by break-glass code {kept[0].counter}, which only the fleet office can check"
    try:
        said = parse_override(verify(jws, keys, typ=OVERRIDE_TYP))
    except (SigningError, BadMessage) as error:
        return f"the override is not proven: {error}"
    if (said.fleet, said.device) != device or said.token != decision.credential.reference:
        return "the override is for another device or card"
    if said.id != decision.override:
        return f"the override is {said.id}, the decision names {decision.override}"
    return override_of(said, jws)


def _keys(bundles: Sequence[SignedBundle], use: KeyUse) -> Mapping[str, str]:
    """Of every bundle that is proven; one that was not kept with its keys names none."""
    from agent.cache.documents import KEYS, DocumentUnfit, read_keys

    named: dict[str, str] = {}
    for bundle in bundles:
        try:
            found = read_keys(bundle.parts[KEYS]) if KEYS in bundle.parts else ()
        except DocumentUnfit:
            found = ()
        named |= {each.kid: each.jwk for each in found if each.use is use}
    return named
