"""Evidence proves exactly its session; every change of it, and every wrong question, is named by a check that fails."""

from __future__ import annotations

import json
from collections.abc import Callable, Sequence
from dataclasses import replace
from decimal import Decimal
from pathlib import Path
from typing import Any

import pytest

from agent.core.facts import Outcome, RecordsShed
from agent.core.running_cost import Cost
from agent.evidence.document import Evidence, to_bytes
from agent.evidence.judgement import Check, Judgement, judge, judge_claims
from agent.journal import Journal
from agent.vault import Vault
from sync.backend.publisher import Publisher
from sync.bundle import SignedBundle
from sync.signing import generate
from tests.evidence.charging_case import DEVICE, FLEET, NOON, Case, at


def test_evidence_of_a_session_proves_it_with_the_fleets_root_alone(charged: Case, file: bytes) -> None:
    judgement = judge(file, root=charged.bootstrap, session="s-1")

    assert judgement.ok, judgement.findings
    assert [finding.check for finding in judgement.findings] == list(Check)
    assert [group.id for group in judgement.groups] == ["vans", "fleet"]


def test_a_session_is_proven_after_its_policy_was_replaced(case: Case) -> None:
    case.charges()
    case.publishes(minutes=70)
    case.publishes(minutes=80)
    assert judge(to_bytes(case.evidence()), root=case.bootstrap).ok


def test_a_device_that_was_listed_only_later_is_proven_by_the_later_list(tmp_path: Path) -> None:
    case = Case(tmp_path, vouched=False)
    case.charges()
    assert judge(to_bytes(case.evidence()), root=case.bootstrap).failed == (
        Check.DEVICE_KEY,
        Check.RECORDS,
        Check.SESSION,
    )

    case.publishes(minutes=70, vouched=True)
    evidence = case.evidence()
    case.close()

    assert len(evidence.bundles) == 2
    assert judge(to_bytes(evidence), root=case.bootstrap).ok


def test_a_key_that_is_known_from_elsewhere_can_stand_in_for_the_fleets_list(tmp_path: Path) -> None:
    case = Case(tmp_path, vouched=False)
    case.charges()
    file = to_bytes(case.evidence())
    case.close()
    assert judge(file, root=case.bootstrap, device_keys=case.vault.keys).ok


@pytest.mark.parametrize("role", ["root", "targets", "timestamp"])
def test_evidence_bridges_rotated_roots_from_the_first_one_on(case: Case, role: str) -> None:
    case.charges("s-1")
    case.publisher.rotate(role, now=NOON)
    case.publishes(minutes=70)
    second = case.publisher.root
    case.charges("s-2", minute=90)

    assert judge(to_bytes(case.evidence("s-2")), root=case.bootstrap).ok
    assert judge(to_bytes(case.evidence("s-2")), root=second).ok
    assert judge(to_bytes(case.evidence("s-1")), root=case.bootstrap).ok
    too_new = judge(to_bytes(case.evidence("s-1")), root=second)
    assert Check.BUNDLES in too_new.failed
    assert "trusted are: 2" in too_new.findings[2].flaws[0]


def test_the_proof_survives_a_restart_of_the_device(case: Case) -> None:
    case.charges()
    case.reopens_its_cache()
    assert judge(to_bytes(case.evidence()), root=case.bootstrap).ok


def test_another_fleets_root_proves_nothing(charged: Case, file: bytes, tmp_path: Path) -> None:
    twin = Publisher.init(tmp_path / "twin", fleet=FLEET, now=NOON).root
    stranger = Publisher.init(tmp_path / "stranger", fleet="harbour", now=NOON).root
    for root in (twin, stranger, b"", b"{}", b"[]", file):
        failed = judge(file, root=root).failed
        assert failed[:3] == (Check.ROOT, Check.BUNDLES, Check.DEVICE_KEY)
        assert Check.RULES in failed


def test_evidence_of_another_session_than_was_asked_for_is_named(charged: Case, file: bytes) -> None:
    judgement = judge(file, root=charged.bootstrap, session="s-2")
    assert judgement.failed == (Check.SESSION,)
    assert "evidence of session s-1, not of s-2" in judgement.findings[5].flaws[0]


def test_another_devices_records_do_not_pass_under_this_name(charged: Case, evidence: Evidence) -> None:
    """van-8 is in the list, too, but with a key of its own."""
    judgement = judge_claims(replace(evidence, device="van-8"), root=charged.bootstrap)
    assert {Check.DEVICE_KEY, Check.RECORDS} <= set(judgement.failed)


def test_a_device_that_is_not_the_signer_cannot_make_evidence(charged: Case, evidence: Evidence) -> None:
    """A thief who re-seals everything with a key of his own has no fleet that vouches for it."""
    thief = generate()
    forged = replace(evidence, device_key=json.loads(thief.public_jwk))
    assert Check.DEVICE_KEY in judge_claims(forged, root=charged.bootstrap).failed


def test_a_session_that_a_neighbour_invents_is_not_this_devices(tmp_path: Path, charged: Case) -> None:
    """Another device of the fleet, with a key that the fleet knows, cannot speak for this one."""
    neighbour = Case(tmp_path, device="van-9")
    neighbour.charges()
    invented = neighbour.evidence()
    neighbour.close()

    as_it_is = judge_claims(invented, root=neighbour.bootstrap)
    claimed = judge_claims(replace(invented, device=DEVICE), root=neighbour.bootstrap)

    assert as_it_is.ok
    assert {Check.DEVICE_KEY, Check.RECORDS} <= set(claimed.failed)


@pytest.mark.slow
def test_every_flipped_byte_of_the_file_is_named(charged: Case, file: bytes) -> None:
    for at_byte in range(len(file)):
        flipped = bytearray(file)
        flipped[at_byte] ^= 1 << (at_byte % 8)
        assert judge(bytes(flipped), root=charged.bootstrap).failed == (Check.FILE,), at_byte


def test_a_cut_or_lengthened_file_is_named(charged: Case, file: bytes) -> None:
    for broken in (b"", file[:-1], file[: len(file) // 2], file + b"\n", file + file, b"null", b"[" * 10_000):
        assert judge(broken, root=charged.bootstrap).failed == (Check.FILE,)


def test_the_summary_for_people_cannot_say_anything_else_than_the_records(charged: Case, file: bytes) -> None:
    told = json.loads(file)
    told["summary"]["energy_wh"] = 99_000
    assert judge(json.dumps(told, indent=1).encode() + b"\n", root=charged.bootstrap).failed == (Check.FILE,)


def flipped_in(texts: Sequence[bytes], every: int) -> list[list[bytes]]:
    """One byte other in one of the texts, still text; every `every`th place."""
    made = []
    for number, text in enumerate(texts):
        for place in range(0, len(text), every):
            other = text[:place] + bytes([text[place] ^ 1]) + text[place + 1 :]
            made.append([*texts[:number], other, *texts[number + 1 :]])
    return made


EVERY = [pytest.param(97, id="some"), pytest.param(1, id="all", marks=pytest.mark.slow)]


@pytest.mark.parametrize("every", EVERY)
def test_every_flipped_byte_of_a_record_is_named_also_in_a_file_that_was_written_anew(
    charged: Case, evidence: Evidence, every: int
) -> None:
    *before, closing = evidence.records
    for records in flipped_in(before, every):
        claims = replace(evidence, records=[*records, closing])
        assert Check.RECORDS in judge_claims(claims, root=charged.bootstrap).failed


def test_the_closing_checkpoint_proves_what_is_before_it_and_its_own_place(charged: Case, evidence: Evidence) -> None:
    """Its own id and time are named by the record after it only; nothing is taken from them."""
    *before, closing = evidence.records
    event = json.loads(closing)
    for name, value in {"sequence": "7", "previous": "0" * 64, "journal": "x", "source": "/fleets/a/devices/b"}.items():
        forged = json.dumps({**event, name: value}, separators=(",", ":")).encode()
        claims = replace(evidence, records=[*before, forged])
        assert Check.RECORDS in judge_claims(claims, root=charged.bootstrap).failed
    for place in range(len(event["data"]["jws"])):
        jws = event["data"]["jws"]
        other = jws[:place] + ("A" if jws[place] != "A" else "B") + jws[place + 1 :]
        forged = json.dumps({**event, "data": {"jws": other}}, separators=(",", ":")).encode()
        assert judge_claims(replace(evidence, records=[*before, forged]), root=charged.bootstrap).ok is False


@pytest.mark.parametrize("every", EVERY)
@pytest.mark.parametrize("part", ["policy.json", "devices.json"])
def test_every_flipped_byte_of_a_signed_part_is_named(charged: Case, evidence: Evidence, part: str, every: int) -> None:
    (bundle,) = evidence.bundles
    for (body,) in flipped_in([bundle.parts[part]], every):
        other = replace(bundle, parts={**bundle.parts, part: body})
        failed = judge_claims(replace(evidence, bundles=[other]), root=charged.bootstrap).failed
        assert Check.BUNDLES in failed
        assert Check.RULES in failed


@pytest.mark.parametrize("every", EVERY)
def test_every_flipped_byte_of_the_signed_list_is_named(charged: Case, evidence: Evidence, every: int) -> None:
    """Its bytes are what the record calls the policy by."""
    (bundle,) = evidence.bundles
    for (body,) in flipped_in([bundle.targets], every):
        judgement = judge_claims(replace(evidence, bundles=[replace(bundle, targets=body)]), root=charged.bootstrap)
        assert {Check.BUNDLES, Check.DECISION} & set(judgement.failed)


@pytest.mark.parametrize("gone", range(5))
def test_a_removed_record_is_named(charged: Case, evidence: Evidence, gone: int) -> None:
    records = [body for number, body in enumerate(evidence.records) if number != gone]
    assert set(judge_claims(replace(evidence, records=records), root=charged.bootstrap).failed) & {
        Check.RECORDS,
        Check.DECISION,
    }


def test_records_in_another_order_twice_or_not_at_all_are_named(charged: Case, evidence: Evidence) -> None:
    first, second, *rest = evidence.records
    for records in ([second, first, *rest], [first, first, second, *rest], []):
        judgement = judge_claims(replace(evidence, records=records), root=charged.bootstrap)
        assert Check.RECORDS in judgement.failed


def test_records_without_their_checkpoint_are_not_proven(charged: Case, evidence: Evidence) -> None:
    judgement = judge_claims(replace(evidence, records=evidence.records[:-1]), root=charged.bootstrap)
    assert judgement.failed == (Check.RECORDS, Check.SESSION)


def test_a_whole_chain_that_was_sealed_anew_with_a_smaller_bill_is_named(charged: Case, tmp_path: Path) -> None:
    """All hashes fit, but the checkpoint is signed by nobody whom the fleet knows."""
    (tmp_path / "token.key").write_bytes(bytes(range(32)))
    forger = Vault.open(tmp_path / "vault", token_key=tmp_path / "token.key")
    with Journal.open(tmp_path / "journal", source=f"/fleets/{FLEET}/devices/{DEVICE}", now=at()) as journal:
        journal.append([(fact, at()) for fact in charged.tap("s-1", 0)])
        journal.append([(replace(charged.end("s-1", 0), energy_wh=1), at(60))])
        journal.seal_checkpoint(forger, at(60))
        forged = [each.body for each in journal.read(1, records=100, size_bytes=10**9)]
    for key in (charged.vault.public, forger.public):
        claims = replace(charged.evidence(), records=forged, device_key=key)
        assert Check.RECORDS in judge_claims(claims, root=charged.bootstrap).failed


LIES: list[tuple[str, dict[str, Any], Check]] = [
    ("refused", {"outcome": Outcome.REFUSED}, Check.DECISION),
    ("more than was allowed", {"max_energy_wh": 90_000}, Check.RULES),
    ("another session", {"decision": "d-other"}, Check.DECISION),
]


@pytest.mark.parametrize(("changes", "check"), [row[1:] for row in LIES], ids=[row[0] for row in LIES])
def test_a_device_that_seals_what_the_rules_do_not_say_is_named(
    case: Case, changes: dict[str, Any], check: Check
) -> None:
    case.charges(**changes)
    if "decision" in changes:  # the begun session then names a decision that is there, but of another end
        assert Check.SESSION in judge(to_bytes(case.evidence()), root=case.bootstrap).failed
    else:
        assert check in judge(to_bytes(case.evidence()), root=case.bootstrap).failed


def test_a_grant_at_a_network_that_the_policy_does_not_allow_is_named(case: Case) -> None:
    tap, begun = case.tap("s-1", 0)
    elsewhere = replace(tap.place, network="NL*XYZ")  # type: ignore[union-attr]
    case.journal.append([(replace(each, place=elsewhere), at()) for each in (tap, begun)])  # type: ignore[type-var]
    case.journal.append([(case.start("s-1", 0), at()), (replace(case.end("s-1", 0), place=elsewhere), at(60))])
    case.journal.seal_checkpoint(case.vault, at(60))

    judgement = judge(to_bytes(case.evidence()), root=case.bootstrap)

    assert judgement.failed == (Check.RULES,)
    assert "NETWORK" in judgement.findings[-1].flaws[0]


def test_a_grant_to_a_card_that_the_policy_revoked_is_named(case: Case) -> None:
    begun = case.tap("s-1", 0)
    case.revoked = [begun[0].credential.reference]  # type: ignore[union-attr]
    case.publishes(minutes=1)
    case.journal.append([(fact, at(2)) for fact in case.tap("s-1", 2)])
    case.journal.append([(case.start("s-1", 2), at(2)), (case.end("s-1", 2), at(62))])
    case.journal.seal_checkpoint(case.vault, at(62))

    judgement = judge(to_bytes(case.evidence()), root=case.bootstrap)

    assert judgement.failed == (Check.RULES,)
    assert "REVOKED" in judgement.findings[-1].flaws[0]


def test_a_bill_that_the_meter_did_not_count_is_named(case: Case) -> None:
    case.journal.append([(fact, at()) for fact in case.tap("s-1", 0)])
    case.journal.append([(case.start("s-1", 0), at()), (replace(case.end("s-1", 0), energy_wh=99_000), at(60))])
    case.journal.seal_checkpoint(case.vault, at(60))
    assert judge(to_bytes(case.evidence()), root=case.bootstrap).failed == (Check.SESSION,)


def judged_with_readings_given_up_of(case: Case, *sessions: str) -> Judgement:
    """Its end names a cost that no tariff of its records gives."""
    shed = RecordsShed(kind="session.metered", count=len(sessions), sessions=sessions, reason="storage scarce")
    made_up = Cost(currency="EUR", net=Decimal("900.0000"), gross=None)
    case.journal.append([(fact, at()) for fact in case.tap("s-1", 0)])
    case.journal.append([(case.start("s-1", 0), at()), (shed, at(30))])
    case.journal.append([(replace(case.end("s-1", 0), cost=made_up), at(60))])
    case.journal.seal_checkpoint(case.vault, at(60))
    return judge(to_bytes(case.evidence()), root=case.bootstrap)


def test_readings_that_others_lost_do_not_keep_a_cost_from_being_counted_again(case: Case) -> None:
    judgement = judged_with_readings_given_up_of(case, "s-2")
    assert judgement.failed == (Check.SESSION,)
    assert any("costs another sum" in flaw for finding in judgement.findings for flaw in finding.flaws)


@pytest.mark.parametrize("sessions", [("s-1",), tuple(f"t-{number}" for number in range(20))])
def test_a_cost_that_cannot_be_counted_again_is_told_as_such(case: Case, sessions: tuple[str, ...]) -> None:
    """Readings of it were given up, or of more sessions than the record names."""
    judgement = judged_with_readings_given_up_of(case, *sessions)
    (told,) = [finding.told for finding in judgement.findings if finding.check is Check.SESSION]
    assert judgement.ok
    assert f"NOT counted again: record 5 tells of {len(sessions)} readings given up" in told


def other_bundle(change: Callable[[SignedBundle], SignedBundle], evidence: Evidence) -> Evidence:
    return replace(evidence, bundles=[change(bundle) for bundle in evidence.bundles])


def test_metadata_of_another_revision_does_not_fit(case: Case) -> None:
    case.charges("s-1")
    before = case.evidence("s-1")
    case.publishes(minutes=70)
    case.charges("s-2", minute=90)
    (later,) = case.evidence("s-2").bundles

    for change in (
        lambda bundle: replace(bundle, snapshot=later.snapshot),
        lambda bundle: replace(bundle, timestamp=later.timestamp),
        lambda bundle: replace(bundle, targets=later.targets),
        lambda bundle: replace(bundle, parts=later.parts),
    ):
        assert Check.BUNDLES in judge_claims(other_bundle(change, before), root=case.bootstrap).failed
    assert judge_claims(other_bundle(lambda _: later, before), root=case.bootstrap).failed == (
        Check.DECISION,
        Check.RULES,
    )


def test_evidence_without_its_documents_is_not_proven(charged: Case, evidence: Evidence) -> None:
    assert judge_claims(replace(evidence, bundles=[]), root=charged.bootstrap).failed == (
        Check.BUNDLES,
        Check.DEVICE_KEY,
        Check.RECORDS,
        Check.SESSION,
        Check.DECISION,
        Check.RULES,
    )
