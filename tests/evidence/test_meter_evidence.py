"""Signed meter records and prices in the evidence of a session: byte for byte, and worked out again."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace
from decimal import Decimal
from pathlib import Path

import pytest
from cryptography.hazmat.primitives.asymmetric import ec

from agent.cli import main
from agent.core.facts import Fact, SessionMetered, SessionSigned
from agent.core.observations import MeterSigned
from agent.core.running_cost import Cost
from agent.core.sessions import priced_by
from agent.evidence.document import to_bytes
from agent.evidence.judgement import Check, judge
from agent.ocpi.quotes import read_quote
from agent.signed_meter import Unopened, opened, records_of, seen
from tests.core.builders import Yard, charging_yard, recorded
from tests.evidence.charging_case import TOKEN_KEY, Case, at
from tests.tariffs.test_ocmf import a_payload, der, signed

NAMED = signed(a_payload())  # it holds the card's number in clear
OTHER = ec.generate_private_key(ec.SECP256R1())
UNNAMED = signed(a_payload(ID=None, IS=False))
TARIFF = (
    '{"id": "T", "currency": "EUR", "country_code": "DE", "party_id": "ABC", "elements": [{"price_components": '
    '[{"type": "ENERGY", "price": 0.40, "vat": 25, "step_size": 1}]}]}'
)


def told(document: bytes, session: str | None = None, format: str = "OCMF") -> MeterSigned:
    return seen("bay", session, document, format=format, public_key=der().hex(), key=TOKEN_KEY)


def facts_from(yard: Yard, observation: MeterSigned) -> list[Fact]:
    return recorded(yard.tell(observation))


def whole(facts: list[Fact], key: bytes | None = TOKEN_KEY) -> list[bytes | None]:
    return [each.document for each in records_of((f for f in facts if isinstance(f, SessionSigned)), key)]


@pytest.mark.parametrize("document", [NAMED, UNNAMED, b"\xff\x00 no text", signed(a_payload(TT="x" * 40_000))])
def test_a_signed_record_comes_out_of_the_journal_byte_for_byte(document: bytes) -> None:
    facts = facts_from(charging_yard(), told(document))

    assert whole(facts) == [document]
    assert max(len(fact.text or fact.box or "") for fact in facts if isinstance(fact, SessionSigned)) <= 16_384


def test_a_card_number_in_a_signed_record_is_nowhere_in_clear() -> None:
    facts = facts_from(charging_yard(), told(NAMED))

    assert b"04A1B2C3D4E5F6" in NAMED
    assert "04A1B2C3D4E5F6" not in repr(facts)
    assert whole(facts, None) == [None]
    with pytest.raises(Unopened):
        whole(facts, bytes(32))


def test_what_cannot_be_read_is_taken_as_naming_somebody() -> None:
    assert told(b"EDL40;04A1B2C3D4E5F6", format="EDL").boxed
    assert told(b"OCMF|{|{}").boxed
    assert not told(UNNAMED).boxed


def test_a_record_is_kept_once_and_also_after_the_end_and_never_without_bound() -> None:
    yard = charging_yard()
    session = yard.session.id
    assert len(facts_from(yard, told(UNNAMED))) == 1
    assert facts_from(yard, told(UNNAMED, session)) == []
    yard.stopped(2_000, yard.session)
    late = yard.tell(told(NAMED))
    assert [type(each).__name__ for each in late] == ["Record", "Seal"]
    for number in range(40):
        yard.tell(told(b"%d" % number))

    assert len(yard.told(SessionSigned)) == 32
    assert facts_from(yard, told(b"another", "no such session")) == []


def test_after_a_restart_a_late_record_still_finds_its_session() -> None:
    yard = charging_yard()
    yard.stopped(2_000, yard.session)
    (over,) = [each for each in yard.agent.state.sessions.values() if not each.is_open]
    yard.dies()
    yard.wakes([over])

    assert len(facts_from(yard, told(UNNAMED, over.id))) == 1
    assert yard.agent.state.open_sessions == ()


def test_a_part_that_is_missing_or_changed_is_named() -> None:
    facts = facts_from(charging_yard(), told(signed(a_payload(TT="x" * 40_000))))
    pieces = [fact for fact in facts if isinstance(fact, SessionSigned)]

    with pytest.raises(Unopened, match="missing"):
        list(records_of(pieces[1:], TOKEN_KEY))
    with pytest.raises(Unopened):
        list(records_of([replace(pieces[0], box=(pieces[0].box or "").swapcase()), *pieces[1:]], TOKEN_KEY))
    with pytest.raises(Unopened):
        opened("no base64!", TOKEN_KEY)


@pytest.fixture
def case(tmp_path: Path) -> Iterator[Case]:
    made = Case(tmp_path)
    yield made
    made.close()


def charges(case: Case, *, document: bytes | None = None, cost: Decimal = Decimal("5.75")) -> None:
    """11.5 kWh at 0.50 with taxes, in two readings."""
    quote = read_quote(TARIFF)
    made, begun = case.tap("s-1", 0)
    sample = SessionMetered(session="s-1", meter_wh=6_000, energy_wh=5_000, power_w=10_000, duration_ms=1_800_000)
    end = replace(case.end("s-1", 0), cost=Cost(currency="EUR", net=Decimal("4.6000"), gross=cost))
    case.journal.append([(fact, at()) for fact in (made, begun, priced_by("s-1", quote))])
    case.journal.append([(fact, at(30)) for fact in (case.start("s-1", 0), sample)])
    case.journal.append([(end, at(60))])
    case.journal.seal_checkpoint(case.vault, at(60))
    if document is not None:
        signed_ = told(document, "s-1")
        fact = SessionSigned(
            session="s-1", charger="left", format="OCMF", sha256=signed_.sha256, part=1, parts=1,
            text=None if signed_.boxed else signed_.content, box=signed_.content if signed_.boxed else None,
            public_key=signed_.public_key,
        )  # fmt: skip
        case.journal.append([(fact, at(61))])
        case.journal.seal_checkpoint(case.vault, at(61))


def test_the_price_is_worked_out_again_from_the_records_alone(case: Case) -> None:
    charges(case)
    judgement = judge(to_bytes(case.evidence()), root=case.bootstrap)

    assert judgement.failed == ()
    assert any("5.75" in finding.told for finding in judgement.findings)


def test_a_price_that_the_records_do_not_give_is_named(case: Case) -> None:
    charges(case, cost=Decimal("5.76"))

    judgement = judge(to_bytes(case.evidence()), root=case.bootstrap)

    assert judgement.failed == (Check.SESSION,)
    assert "another sum" in judgement.findings[5].flaws[0]


def test_a_signed_record_that_came_after_the_end_is_part_of_the_evidence_and_judged(case: Case) -> None:
    charges(case, document=NAMED)
    evidence = to_bytes(case.evidence())

    shut = judge(evidence, root=case.bootstrap)
    good = judge(evidence, root=case.bootstrap, token_key=TOKEN_KEY, meter_key=der())
    other = judge(evidence, root=case.bootstrap, token_key=TOKEN_KEY, meter_key=der(OTHER))

    assert (shut.failed, good.failed, other.failed) == ((), (), (Check.METER,))
    assert "box" in next(each.told for each in shut.findings if each.check is Check.METER)
    assert "VALID" in next(each.told for each in good.findings if each.check is Check.METER)


def test_a_changed_signed_record_fails_the_evidence(case: Case) -> None:
    charges(case, document=UNNAMED.replace(b"112.75", b"912.75"))

    assert judge(to_bytes(case.evidence()), root=case.bootstrap).failed == (Check.METER,)


def test_the_verb_writes_the_signed_records_for_other_verifiers(
    case: Case, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    charges(case, document=NAMED)
    file, root, out = tmp_path / "e.json", tmp_path / "root.json", tmp_path / "e.ocmf"
    file.write_bytes(to_bytes(case.evidence()))
    root.write_bytes(case.bootstrap)
    key = ["--token-key", str(tmp_path / "token.key")]

    assert main(["evidence", "--verify", str(file), "--root", str(root), *key, "--meter-out", str(out)]) == 0
    assert "cost   net 4.6000, gross 5.75 EUR" in capsys.readouterr().out
    assert out.read_bytes() == NAMED + b"\n"
    assert main(["ocmf", "verify", str(out), "--public-key", der().hex()]) == 0
