"""A network's CDRs against the fleet's own sessions: each outcome, in any order, and what settles a dispute."""

from __future__ import annotations

import json
import random
from decimal import Decimal
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from agent.cli import main
from agent.journal.copies import copy_out, stopped_store
from agent.ocpi.claims import ClaimsUnfit, claim_of, read_claims
from agent.ocpi.records import CDR_FIELDS
from agent.settlement.ledger import a_ledger
from agent.settlement.reconciliation import Case, Outcome, reconcile
from agent.settlement.sources import sessions_of
from agent.settlement.tolerances import Tolerances
from tests.journal.samples import open_journal
from tests.settlement.fleet_days import Drive, a_backend, elsewhere, sealed
from tests.settlement.network_bills import a_bill, a_cdr, a_credit, later

ONE, TWO, THREE = Drive(id="s-1"), Drive(id="s-2", minutes=180), Drive(id="s-3", minutes=600)
OTHER = Drive(id="s-4", minutes=5, place=elsewhere("DE*ABC*E2*1"))


@pytest.fixture(scope="module")
def fleet(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Read only."""
    return a_backend(tmp_path_factory.mktemp("backend") / "fleet.db", [ONE, TWO, THREE, OTHER])


def cases(fleet: Path, cdrs: list[dict[str, Any]], **tolerances: Any) -> list[Case]:
    bill = a_bill(fleet.with_name("bill.json"), cdrs)
    with a_ledger() as ledger:
        ledger.book_claims(read_claims(bill))
        ledger.book_sessions(sessions_of(fleet))
        return list(reconcile(ledger, Tolerances(**tolerances)))


def told(found: list[Case]) -> list[tuple[str, str | None, str | None]]:
    """All but the sessions without a CDR."""
    return [
        (each.outcome.value, each.claim, each.session) for each in found if each.outcome is not Outcome.MISSING_THERE
    ]


def only(found: list[Case]) -> Case:
    (case,) = [each for each in found if each.outcome is not Outcome.MISSING_THERE]
    return case


def test_what_agrees_is_matched_and_what_nobody_billed_is_told(fleet: Path) -> None:
    found = cases(fleet, [a_cdr(ONE), a_cdr(TWO), a_cdr(OTHER)])

    assert told(found) == [
        ("matched", "DEABC/N-S-1", "s-1"),
        ("matched", "DEABC/N-S-2", "s-2"),
        ("matched", "DEABC/N-S-4", "s-4"),
    ]
    assert [each.session for each in found if each.outcome is Outcome.MISSING_THERE] == ["s-3"]


@pytest.mark.parametrize(
    ("changes", "outcome", "difference"),
    [
        ({"total_cost": {"excl_vat": 6.0, "incl_vat": 7.5}}, Outcome.PRICE_DIFFERS, "1.25"),
        ({"total_energy": 10.25}, Outcome.ENERGY_DIFFERS, "0.25"),
        ({"start_date_time": later(ONE, -10)}, Outcome.TIME_DIFFERS, "-600"),
        ({"end_date_time": later(ONE, 75)}, Outcome.TIME_DIFFERS, "900"),
        ({"total_cost": {"excl_vat": 5.01, "incl_vat": 6.26}}, Outcome.MATCHED, None),
        ({"total_energy": 10.1}, Outcome.MATCHED, None),
        ({"start_date_time": later(ONE, 2)}, Outcome.MATCHED, None),
        ({"currency": "CHF"}, Outcome.PRICE_DIFFERS, "0"),
    ],
)
def test_a_difference_is_named_where_it_is_more_than_the_tolerance(
    fleet: Path, changes: dict[str, Any], outcome: Outcome, difference: str | None
) -> None:
    case = only(cases(fleet, [a_cdr(ONE, **changes)]))

    assert (case.outcome, case.session) == (outcome, "s-1")
    assert [each.difference for each in case.differences] == ([] if difference is None else [Decimal(difference)])


def test_several_differences_of_one_charge_are_all_told(fleet: Path) -> None:
    cdr = a_cdr(ONE, total_energy=12, total_cost={"excl_vat": 5.8, "incl_vat": 7.25}, end_date_time=later(ONE, 90))
    case = only(cases(fleet, [cdr]))

    assert case.outcomes == (Outcome.PRICE_DIFFERS, Outcome.ENERGY_DIFFERS, Outcome.TIME_DIFFERS)


def test_a_network_that_tells_local_time_as_utc_is_found_by_its_energy(fleet: Path) -> None:
    case = only(cases(fleet, [a_cdr(THREE, start_date_time=later(THREE, 120), end_date_time=later(THREE, 180))]))

    assert (case.outcome, case.session) == (Outcome.TIME_DIFFERS, "s-3")


def test_a_charge_that_we_know_nothing_of_is_missing_here(fleet: Path) -> None:
    phantom = Drive(id="s-9", minutes=1_000, kwh="33")
    assert told(cases(fleet, [a_cdr(phantom)])) == [("missing here", "DEABC/N-S-9", None)]


def test_another_charge_at_the_same_evse_is_not_taken_for_ours(fleet: Path) -> None:
    between = Drive(id="s-9", minutes=90, kwh="33", charging_min=30)  # after the first and before the second
    assert told(cases(fleet, [a_cdr(between)])) == [("missing here", "DEABC/N-S-9", None)]


def test_the_same_cdr_twice_counts_once(fleet: Path) -> None:
    cdr = a_cdr(ONE)
    assert told(cases(fleet, [cdr, cdr])) == [
        ("matched", "DEABC/N-S-1", "s-1"),
        ("duplicate", "DEABC/N-S-1", None),
    ]


def test_other_figures_under_the_same_id_are_said_to_be_that(fleet: Path) -> None:
    found = cases(fleet, [a_cdr(ONE), a_cdr(ONE, total_energy=20, last_updated=later(ONE, 300))])

    assert [each.outcome for each in found[:2]] == [Outcome.MATCHED, Outcome.DUPLICATE]
    assert found[1].notes == ("other figures under the same id",)


def test_a_charge_asked_for_under_another_id_is_a_duplicate_beside_the_first(fleet: Path) -> None:
    again = a_cdr(ONE, id="N-again", last_updated=later(ONE, 300))
    found = cases(fleet, [again, a_cdr(ONE), a_cdr(TWO)])

    assert told(found)[:2] == [("duplicate", "DEABC/N-AGAIN", None), ("matched", "DEABC/N-S-1", "s-1")]
    assert found[0].beside == "DEABC/N-S-1"


def test_a_credited_cdr_is_replaced_by_the_corrected_one_in_whatever_order_they_come(fleet: Path) -> None:
    wrong = a_cdr(ONE, total_energy=99)
    three = [wrong, a_credit(wrong), a_cdr(ONE, id="N-new")]
    for order in ([0, 1, 2], [2, 1, 0], [1, 2, 0]):
        assert sorted(told(cases(fleet, [three[at] for at in order]))) == [
            ("credited", "DEABC/N-S-1", None),
            ("credited", "DEABC/N-S-1-C", None),
            ("matched", "DEABC/N-NEW", "s-1"),
        ]


@pytest.mark.parametrize(
    ("changes", "differences"),
    [
        ({"total_cost": {"excl_vat": -4.0, "incl_vat": -5.0}}, ["1.25"]),
        ({"total_cost": {"excl_vat": 5.0, "incl_vat": 6.25}}, ["12.50"]),
        ({"total_cost": {"excl_vat": -6.25, "incl_vat": -6.25}}, ["-1.25"]),
        ({"currency": "CHF"}, ["0"]),
        ({"total_cost": None}, []),
    ],
)
def test_a_credit_that_does_not_take_back_the_whole_sum_is_a_dispute(
    fleet: Path, changes: dict[str, Any], differences: list[str]
) -> None:
    wrong = a_cdr(ONE)
    credit = {name: value for name, value in (a_credit(wrong) | changes).items() if value is not None}
    found = {each.claim: each for each in cases(fleet, [wrong, credit, a_cdr(ONE, id="N-new")])}

    assert found["DEABC/N-NEW"].outcome is Outcome.MATCHED
    case = found["DEABC/N-S-1-C"]
    assert (case.outcomes, case.beside, case.is_dispute) == ((Outcome.PRICE_DIFFERS,), "DEABC/N-S-1", True)
    assert case.notes[-1] == "takes back another sum than was claimed"
    assert [each.difference for each in case.differences] == [Decimal(each) for each in differences]


def test_a_cdr_is_credited_once(fleet: Path) -> None:
    wrong = a_cdr(ONE)
    once, again = a_credit(wrong), a_credit(wrong) | {"id": "X-C"}

    assert told(cases(fleet, [again, wrong, once])) == [
        ("credited", "DEABC/N-S-1", None),
        ("credited", "DEABC/N-S-1-C", None),
        ("duplicate", "DEABC/X-C", None),
    ]


def test_a_wrong_tax_within_a_right_total_is_a_difference(fleet: Path) -> None:
    case = only(cases(fleet, [a_cdr(ONE, total_cost={"excl_vat": 5.25, "incl_vat": 6.25})]))

    assert case.outcome is Outcome.PRICE_DIFFERS
    assert [(each.what, each.difference) for each in case.differences] == [("net", Decimal("0.25"))]


def test_a_cdr_without_its_total_is_incomplete_and_our_price_is_not_said_to_be_missing(fleet: Path) -> None:
    case = only(cases(fleet, [a_cdr(ONE, total_cost=None)]))
    assert (case.outcome, case.notes) == (Outcome.MATCHED, ("incomplete: no total_cost",))


def test_a_credit_of_what_was_never_claimed_is_told(fleet: Path) -> None:
    case = only(cases(fleet, [a_credit(a_cdr(ONE))]))
    assert (case.outcome, case.notes) == (Outcome.MISSING_HERE, ("credit of a CDR that is not here",))


def test_a_claim_that_names_our_decision_needs_no_evse_and_no_time(fleet: Path) -> None:
    cdr = a_cdr(ONE, authorization_reference="D-S-1", cdr_location=None, start_date_time="1970-1-1T00:00:00Z")
    case = only(cases(fleet, [cdr]))

    assert (case.outcome, case.session) == (Outcome.MATCHED, "s-1")
    assert case.notes == ("incomplete: no EVSE, start",)


def test_two_that_name_the_same_session_are_one_and_a_duplicate(fleet: Path) -> None:
    found = cases(fleet, [a_cdr(ONE, session_id="s-1"), a_cdr(ONE, id="Z", session_id="s-1")])
    assert told(found) == [("matched", "DEABC/N-S-1", "s-1"), ("duplicate", "DEABC/Z", None)]


def test_a_claim_without_an_evse_is_matched_only_where_network_time_and_energy_agree(fleet: Path) -> None:
    assert only(cases(fleet, [a_cdr(THREE, cdr_location={"id": "L1", "evse_id": "#NA"})])).session == "s-3"
    assert only(cases(fleet, [a_cdr(THREE, cdr_location=None, total_energy=14)])).outcome is Outcome.MISSING_HERE
    assert only(cases(fleet, [a_cdr(THREE, cdr_location=None, party_id="XYZ")])).outcome is Outcome.MISSING_HERE


def test_a_claim_of_an_unknown_start_is_matched_by_its_end(fleet: Path) -> None:
    case = only(cases(fleet, [a_cdr(TWO, start_date_time="1970-1-1T00:00:00Z")]))
    assert (case.outcome, case.session) == (Outcome.MATCHED, "s-2")


def test_a_late_cdr_is_told_as_late(fleet: Path) -> None:
    case = only(cases(fleet, [a_cdr(ONE, last_updated=later(ONE, 60 + 45 * 24 * 60))]))
    assert (case.outcome, case.notes) == (Outcome.MATCHED, ("late: 45 days",))


def test_a_session_without_a_price_of_ours_is_matched_and_said_so(tmp_path: Path) -> None:
    free = Drive(id="s-1", quote=None)
    fleet = a_backend(tmp_path / "fleet.db", [free])
    case = only(cases(fleet, [a_cdr(Drive(id="s-1"))]))
    assert (case.outcome, case.notes) == (Outcome.MATCHED, ("no price of ours",))


def test_the_order_of_claims_changes_nothing(fleet: Path) -> None:
    rng = random.Random(5)
    cdrs = [
        a_cdr(ONE), a_cdr(ONE, id="B", total_energy=10.05), a_cdr(TWO, start_date_time=later(TWO, 30)),
        a_cdr(THREE, id="C"), a_cdr(THREE, id="D"), a_cdr(OTHER, cdr_location=None), a_cdr(OTHER),
    ]  # fmt: skip
    first = cases(fleet, cdrs)
    for _ in range(5):
        rng.shuffle(cdrs)
        assert cases(fleet, cdrs) == first


@pytest.mark.parametrize("form", ["list", "lines", "response"])
def test_every_form_of_a_bill_is_read(form: str, tmp_path: Path) -> None:
    drive = Drive(id="s-1")
    cdrs = [a_cdr(drive) | {"id": f"N-{number}", "remark": "x" * 9_000} for number in range(250)]
    bill = a_bill(tmp_path / "bill.json", cdrs, form=form)

    assert [claim.id for claim in read_claims(bill)] == [each["id"] for each in cdrs]


@pytest.mark.parametrize("text", ["nonsense", '[{"id": "1"}, 5]', '[{"id": "1"}, {"id"', '{"data": 5, "status_code"'])
def test_a_bill_that_is_no_list_of_cdrs_says_where_it_ends(text: str, tmp_path: Path) -> None:
    (tmp_path / "bill.json").write_text(text)
    with pytest.raises(ClaimsUnfit):
        list(read_claims(tmp_path / "bill.json"))


def test_the_verb_reports_and_writes_what_settles_each_dispute(
    fleet: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    dear = a_cdr(ONE, total_cost={"excl_vat": 6.0, "incl_vat": 7.5})
    bill = a_bill(tmp_path / "bill.json", [dear, a_cdr(TWO), a_cdr(THREE), a_cdr(OTHER)])
    words = ["reconcile", "--cdrs", str(bill), "--sessions", str(fleet)]

    assert main([*words, "--bundles", str(tmp_path / "out")]) == 1
    out = capsys.readouterr().out
    assert "price differs" in out
    assert "gross +1.25 EUR" in out
    (home,) = (tmp_path / "out").iterdir()
    assert {each.name for each in home.iterdir()} == {
        "case.json", "cdr.json", "cdr-priced.json", "session.json", "records.jsonl", "tariff.json",
    }  # fmt: skip
    entries = [entry for drive in (ONE, TWO, THREE, OTHER) for entry in drive.facts()]
    assert (home / "records.jsonl").read_bytes().splitlines() == sealed(entries)[: len(ONE.facts())]
    assert json.loads((home / "cdr-priced.json").read_text())["verdict"] == "DISPUTE"
    assert json.loads((home / "case.json").read_text())["tolerances"]["money_units"] == 2
    assert main([*words, "--bundles", str(tmp_path / "out")]) == 73


def test_the_verb_tells_programs_a_line_a_case_and_the_counts(
    fleet: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    bill = a_bill(tmp_path / "bill.json", [a_cdr(each) for each in (ONE, TWO, THREE, OTHER)], form="lines")

    assert main(["reconcile", "--cdrs", str(bill), "--sessions", str(fleet), "--json", "--all"]) == 0
    lines = [json.loads(line) for line in capsys.readouterr().out.splitlines()]
    assert [line["outcome"] for line in lines[:-1]] == ["matched"] * 4
    assert lines[-1] == {"cdrs": 4, "sessions": 4, "counts": {"matched": 4}}
    assert main(["reconcile", "--cdrs", str(tmp_path / "none"), "--sessions", str(fleet)]) == 66
    assert main(["reconcile", "--cdrs", str(bill), "--sessions", str(tmp_path / "none")]) == 65


def test_a_copy_of_a_devices_journal_will_do(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    journal = open_journal(tmp_path / "journal")
    for entry in ONE.facts():
        journal.append([entry])
    journal.close()
    with stopped_store(tmp_path / "journal") as database:
        copy_out(database, tmp_path / "copy.db")
    dear = a_cdr(ONE, total_cost={"excl_vat": 6.0, "incl_vat": 7.5})
    bill = a_bill(tmp_path / "bill.json", [dear])
    words = ["--cdrs", str(bill), "--sessions", str(tmp_path / "copy.db"), "--bundles", str(tmp_path / "out")]

    assert main(["reconcile", *words]) == 1
    (home,) = (tmp_path / "out").iterdir()
    assert len((home / "records.jsonl").read_bytes().splitlines()) == len(ONE.facts())


def test_a_cdr_of_2_1_1_names_no_party_and_ends_with_stop_date_time(fleet: Path) -> None:
    new = a_cdr(TWO)
    old = {name: value for name, value in new.items() if name not in ("country_code", "party_id", "cdr_location")} | {
        "stop_date_time": new["end_date_time"],
        "end_date_time": None,
        "total_cost": 5.0,
        "location": {"id": "L1", "evses": [{"uid": "1", "evse_id": "DE*ABC*E1*1"}]},
    }
    case = only(cases(fleet, [old]))

    assert (case.outcome, case.session, case.notes) == (Outcome.MATCHED, "s-2", ("incomplete: no party",))


VALUES = st.recursive(
    st.none()
    | st.booleans()
    | st.integers()
    | st.decimals()
    | st.text(max_size=8)
    | st.sampled_from(["\ud800", "#NA"]),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=5), inner, max_size=3),
    max_leaves=6,
)


@settings(max_examples=30, deadline=None)
@given(st.lists(st.dictionaries(st.sampled_from(CDR_FIELDS), VALUES, max_size=9), min_size=1, max_size=4))
def test_no_cdr_whatsoever_stops_a_reconciliation(documents: list[dict[str, Any]]) -> None:
    with a_ledger() as ledger:
        assert ledger.book_claims(claim_of(each) for each in documents) == len(documents)
        found = list(reconcile(ledger, Tolerances()))

    assert len(found) == len(documents)


def a_month(rng: random.Random) -> tuple[list[Drive], list[dict[str, Any]], dict[str, str]]:
    """Charges four hours apart at a few EVSEs, a bill for them, and what each of its CDRs is by the way it was made."""
    drives, cdrs, made = [], [], {}
    for number in range(40):
        place = elsewhere(f"DE*ABC*E{number % 5}*1")
        kwh = f"{rng.randint(5, 60)}.{rng.randint(0, 9)}"
        drive = Drive(id=f"s-{number}", minutes=number // 5 * 240, kwh=kwh, place=place)
        drives.append(drive)
        good = a_cdr(drive)
        what = rng.choice(["agrees", "price", "energy", "time", "unbilled", "twice", "again", "corrected", "named"])
        listed = {
            "agrees": [(good, "matched")],
            "price": [(a_cdr(drive, total_cost={"excl_vat": 99.0, "incl_vat": 123.75}), "price differs")],
            "energy": [(a_cdr(drive, total_energy=float(drive.kwh) + 2), "energy differs")],
            "time": [(a_cdr(drive, end_date_time=later(drive, 95)), "time differs")],
            "unbilled": [],
            "twice": [(good, "matched"), (good, "duplicate")],
            "again": [(good, "matched"), (a_cdr(drive, id=f"A-{number}", last_updated=later(drive, 999)), "duplicate")],
            "corrected": [
                (a_cdr(drive, id=f"W-{number}", total_energy=99), "credited"),
                (a_credit(a_cdr(drive, id=f"W-{number}", total_energy=99)), "credited"),
                (good, "matched"),
            ],
            "named": [(a_cdr(drive, authorization_reference=f"d-{drive.id}", cdr_location=None), "matched")],
        }[what]
        if rng.random() < 0.1:
            phantom = Drive(id=f"p-{number}", minutes=number // 5 * 240 + 120, kwh="77", charging_min=20, place=place)
            listed.append((a_cdr(phantom), "missing here"))
        for cdr, outcome in listed:
            cdrs.append(cdr)
            made.setdefault(f"DEABC/{cdr['id']}".upper(), "")
            made[f"DEABC/{cdr['id']}".upper()] += f"{outcome};"
    rng.shuffle(cdrs)
    return drives, cdrs, made


@pytest.mark.parametrize("seed", range(3))
def test_a_month_of_everything_that_goes_wrong_is_told_as_it_was_made(seed: int, tmp_path: Path) -> None:
    drives, cdrs, made = a_month(random.Random(seed))
    found = cases(a_backend(tmp_path / "fleet.db", drives), cdrs)

    told_of: dict[str, str] = {}
    for case in found:
        if case.claim is not None:
            told_of[case.claim] = told_of.get(case.claim, "") + f"{case.outcome.value};"
    assert told_of == made
    billed = [case.session for case in found if case.session is not None and case.claim is not None]
    unbilled = [case.session for case in found if case.outcome is Outcome.MISSING_THERE]
    assert sorted([*billed, *unbilled]) == sorted(drive.id for drive in drives)
