"""A session that an override or the backend's answer began is proven with the signed paper, and not without it."""

from __future__ import annotations

import json
from collections.abc import Callable
from dataclasses import replace
from datetime import timedelta
from pathlib import Path
from typing import Any

import pytest

from agent.core.answers import Heard, Mode, Verdict, Whitelist
from agent.core.facts import BackendAnswered, Fact, Outcome, OverrideUsed
from agent.evidence.document import to_bytes
from agent.evidence.judgement import Check, Judgement, judge
from sync.overrides import OVERRIDE_TYP, SignedOverride
from sync.questions import ANSWER_TYP, Answer
from sync.signing import SigningKey, generate, sign
from tests.evidence.charging_case import CARD, DEVICE, FLEET, NOON, Case, at

ELSEWHERE: dict[str, Any] = {"vans": {"networks": ["NL*XYZ"], "max_energy_wh": 40_000}}


class PaperCase(Case):
    """Its fleet names keys for answers and overrides."""

    answer_key: SigningKey
    override_key: SigningKey

    def documents(self) -> dict[str, bytes]:
        made = super().documents()
        keys = json.loads(made["keys.json"])
        for use, key in (("answer", self.answer_key), ("override", self.override_key)):
            keys["keys"].append({"kid": key.kid, "use": use, "jwk": json.loads(key.public_jwk)})
        return {**made, "keys.json": json.dumps(keys).encode()}

    def charges_by(self, paper: Fact, **decided: Any) -> None:
        made, begun = self.tap("s-1", 0, max_energy_wh=decided.pop("max_energy_wh", 40_000), **decided)
        begun = replace(begun, max_energy_wh=made.max_energy_wh)  # type: ignore[type-var, attr-defined]
        self.journal.append([(paper, at()), (made, at()), (begun, at())])
        self.journal.append([(self.start("s-1", 0), at())])
        self.journal.append([(self.end("s-1", 0), at(60))])
        self.journal.seal_checkpoint(self.vault, at(60))

    def judged(self) -> Judgement:
        judgement = judge(to_bytes(self.evidence()), root=self.bootstrap, session="s-1")
        self.close()
        return judgement


@pytest.fixture
def build(tmp_path: Path) -> Callable[..., PaperCase]:
    PaperCase.answer_key, PaperCase.override_key = generate(), generate()
    return lambda **changes: PaperCase(tmp_path, **changes)


def a_signed_override(key: SigningKey, **changes: Any) -> str:
    override = SignedOverride(
        fleet=FLEET,
        device=DEVICE,
        id="o-1",
        token=CARD.reference,
        waives=("network_allowed",),
        why="stranded",
        by="ada",
        issued=NOON - timedelta(hours=1),
        not_after=NOON + timedelta(hours=1),
        max_energy_wh=30_000,
    )
    return sign(replace(override, **changes).to_claims(), key, typ=OVERRIDE_TYP)


def used(jws: str | None, **changes: Any) -> OverrideUsed:
    paper = OverrideUsed(
        override="o-1", decision="d-s-1", credential=CARD, by="ada", why="stranded", rules=("network_allowed",), jws=jws
    )
    return replace(paper, **changes)


BY_OVERRIDE: dict[str, Any] = {"outcome": Outcome.OVERRIDE, "override": "o-1", "max_energy_wh": 30_000}


def test_a_session_that_an_override_began_is_proven_with_it(build: Callable[..., PaperCase]) -> None:
    case = build(groups=ELSEWHERE)
    case.charges_by(used(a_signed_override(case.override_key)), **BY_OVERRIDE)

    judgement = case.judged()

    assert judgement.ok, judgement.findings
    assert "by override o-1 of ada: stranded" in judgement.findings[-1].told


@pytest.mark.parametrize(
    ("paper", "flaw"),
    [
        (lambda case: used(a_signed_override(generate())), "not among the trusted keys"),
        (lambda case: used(a_signed_override(case.answer_key)), "not among the trusted keys"),
        (lambda case: used(a_signed_override(case.override_key, device="van-8")), "another device or card"),
        (lambda case: used(a_signed_override(case.override_key, token="0" * 64)), "another device or card"),
        (lambda case: used(a_signed_override(case.override_key, id="o-2")), "the override is o-2"),
        (
            lambda case: used(a_signed_override(case.override_key, waives=("country_allowed",))),
            "rule network_allowed refuses",
        ),
        (
            lambda case: used(a_signed_override(case.override_key, not_after=NOON - timedelta(minutes=1))),
            "rule network_allowed refuses",
        ),
        (
            lambda case: used(a_signed_override(case.override_key, max_energy_wh=20_000)),
            "its limit was 30000 Wh, the policy says 20000 Wh",
        ),
        (lambda case: used(None, counter=7), "which only the fleet office can check"),
        (lambda case: used(a_signed_override(case.override_key), decision="d-other"), "not among the records"),
    ],
)
def test_an_override_that_is_not_the_fleets_for_this_session_proves_nothing(
    build: Callable[..., PaperCase], paper: Callable[[PaperCase], OverrideUsed], flaw: str
) -> None:
    case = build(groups=ELSEWHERE)
    case.charges_by(paper(case), **BY_OVERRIDE)

    judgement = case.judged()

    assert judgement.failed == (Check.RULES,)
    assert flaw in "; ".join(judgement.findings[-1].flaws)


def test_without_an_override_the_same_session_is_not_proven(build: Callable[..., PaperCase]) -> None:
    case = build(groups=ELSEWHERE)
    case.charges_by(used(a_signed_override(case.override_key)), max_energy_wh=30_000)

    assert Check.RULES in case.judged().failed


def a_signed_answer(key: SigningKey, **changes: Any) -> str:
    answer = Answer(
        fleet=FLEET,
        device=DEVICE,
        ask="q-1",
        question="0" * 64,
        verdict="ALLOWED",
        answered_at=NOON,
        expires_at=NOON + timedelta(seconds=3),
    )
    return sign(replace(answer, **changes).to_claims(), key, typ=ANSWER_TYP)


ONLINE: dict[str, Any] = {
    "mode": Mode.ONLINE,
    "whitelist": Whitelist.NEVER,
    "backend": Heard(verdict=Verdict.ALLOWED),
}


@pytest.mark.parametrize(
    ("jws", "flaw"),
    [
        (lambda case: a_signed_answer(case.answer_key), None),
        (lambda case: a_signed_answer(generate()), "not among the trusted keys"),
        (lambda case: a_signed_answer(case.answer_key, verdict="BLOCKED"), "the backend said BLOCKED"),
        (lambda case: a_signed_answer(case.answer_key, device="van-8"), "another device or question"),
        (lambda case: a_signed_answer(case.answer_key, ask="q-2"), "another device or question"),
    ],
)
def test_a_session_that_the_backend_agreed_to_is_proven_with_its_signed_answer(
    build: Callable[..., PaperCase], jws: Callable[[PaperCase], str], flaw: str | None
) -> None:
    case = build()
    paper = BackendAnswered(
        decision="d-s-1", ask="q-1", credential=CARD, verdict=Verdict.ALLOWED, answered_at=NOON, keep_s=0, jws=jws(case)
    )
    case.charges_by(paper, **ONLINE)

    judgement = case.judged()

    assert judgement.ok == (flaw is None)
    assert flaw is None or flaw in "; ".join(judgement.findings[-1].flaws)
