"""`roamkey reconcile`: a network's CDRs against the fleet's own sessions."""

from __future__ import annotations

import argparse
import sys
from collections import Counter
from collections.abc import Iterator
from decimal import Decimal
from pathlib import Path
from typing import TYPE_CHECKING

from agent.cli import output

if TYPE_CHECKING:
    from agent.settlement.bundles import Dispute
    from agent.settlement.reconciliation import Case
    from agent.settlement.tolerances import Tolerances

HELP = "match a network's CDRs with the fleet's own sessions, and say where they differ"

SHOWN_AT_MOST = 50
BUNDLES_AT_MOST = 1_000


def add_arguments(parser: argparse.ArgumentParser) -> None:
    add = parser.add_argument
    add("--cdrs", type=Path, metavar="FILE", required=True, help="OCPI CDRs: a JSON list, JSON Lines, or a response")
    add("--sessions", type=Path, metavar="DB", required=True, help="database of `roamkey receive`, or a journal copy")
    add("--bundles", type=Path, metavar="FOLDER", help="write what settles each dispute into folders there")
    add("--time", type=int, default=120, metavar="S", help="start and end may differ so much (default: 120)")
    add("--energy", type=int, default=100, metavar="WH", help="energy may differ so much (default: 100)")
    add(
        "--energy-percent", type=Decimal, default=Decimal(1), metavar="P", help="or so much of it, if more (default: 1)"
    )
    add("--money", type=int, default=2, metavar="N", help="minor units of money (default: 2)")
    add("--window", type=int, default=10_800, metavar="S", help="how far apart one charge may be told (default: 10800)")
    add("--late", type=int, default=30, metavar="DAYS", help="a CDR made later is told as late (default: 30)")
    add("--all", action="store_true", help="list also what agrees")
    add("--json", action="store_true", help="print JSON Lines: a line a case, then a line with the counts")


def main(arguments: argparse.Namespace) -> int:
    """0 when everything agrees, 1 when something is to be disputed."""
    from agent.ocpi.claims import ClaimsUnfit
    from agent.settlement.sources import SourceUnfit

    try:
        return reconciled(arguments)
    except (ClaimsUnfit, SourceUnfit) as error:
        output.complain(str(error))
        return output.DATA
    except FileExistsError as error:
        output.complain(f"{error.filename} is there already; name another folder with --bundles")
        return output.CANNOT_CREATE
    except OSError as error:
        output.complain(f"{error.filename}: {error.strerror}")
        return output.NO_INPUT


def reconciled(arguments: argparse.Namespace) -> int:
    from agent.ocpi.claims import read_claims
    from agent.settlement.bundles import Dispute, write_bundles
    from agent.settlement.ledger import a_ledger
    from agent.settlement.reconciliation import reconcile
    from agent.settlement.sources import sessions_of

    tolerances = tolerances_of(arguments)
    disputes: list[Dispute] = []
    shown: list[Case] = []
    counts: Counter[str] = Counter()
    with a_ledger() as ledger:
        claims = ledger.book_claims(read_claims(arguments.cdrs))
        sessions = ledger.book_sessions(sessions_of(arguments.sessions, worked_out=False))
        for number, case in enumerate(reconcile(ledger, tolerances), 1):
            counts.update(each.value for each in case.outcomes)
            if case.is_dispute and arguments.bundles is not None and len(disputes) < BUNDLES_AT_MOST:
                disputes.append(Dispute(number=number, case=case))
            if arguments.json and (arguments.all or case.is_dispute):
                say(case)
            elif (arguments.all or case.is_dispute) and len(shown) < SHOWN_AT_MOST:
                shown.append(case)
    disputed = sum(count for name, count in counts.items() if name not in ("matched", "credited"))
    if arguments.bundles is not None and len(disputes) == BUNDLES_AT_MOST:
        output.complain(f"there are bundles for the first {BUNDLES_AT_MOST} disputes only: divide the bill for more")
    if arguments.bundles is not None:
        write_bundles(
            disputes, arguments.bundles, cdrs=arguments.cdrs, database=arguments.sessions, tolerances=tolerances
        )
    if arguments.json:
        say_counts(claims, sessions, counts)
    else:
        report(claims, sessions, counts, shown, tolerances)
        if arguments.bundles is not None:
            output.say(f"{len(disputes)} bundles in {arguments.bundles}")
    return output.FAILURE if disputed else output.OK


def tolerances_of(arguments: argparse.Namespace) -> Tolerances:
    from agent.settlement.tolerances import Tolerances

    return Tolerances(
        time_s=arguments.time,
        energy_wh=arguments.energy,
        energy_percent=arguments.energy_percent,
        money_units=arguments.money,
        window_s=arguments.window,
        late_days=arguments.late,
    )


def say(case: Case) -> None:
    from agent.settlement.bundles import case_document
    from agent.settlement.rows import compact

    sys.stdout.write(compact(case_document(case)) + "\n")


def say_counts(claims: int, sessions: int, counts: Counter[str]) -> None:
    from agent.settlement.rows import compact

    sys.stdout.write(compact({"cdrs": claims, "sessions": sessions, "counts": dict(sorted(counts.items()))}) + "\n")


def report(claims: int, sessions: int, counts: Counter[str], shown: list[Case], tolerances: Tolerances) -> None:
    from agent.settlement.reconciliation import Outcome

    title = f"{claims} CDRs, {sessions} sessions"
    output.table(title, ("outcome", "how many"), [(each.value, counts[each.value]) for each in Outcome])
    if shown:
        output.table("To look at", ("outcome", "CDR", "session", "difference"), rows(shown))
    output.say(
        f"A difference is more than {tolerances.time_s} s, {tolerances.energy_wh} Wh or "
        f"{tolerances.energy_percent} % of energy, {tolerances.money_units} minor units of money."
    )


def rows(cases: list[Case]) -> Iterator[tuple[str, str, str, str]]:
    from agent.exact_json import plain

    for case in cases:
        told = [
            f"{each.what} {'+' if each.difference > 0 else ''}{plain(round(each.difference, 3))} {each.unit}"
            for each in case.differences
        ]
        if case.beside is not None:
            told.append(f"beside {case.beside}")
        yield case.outcome.value, case.claim or "", case.session or "", "; ".join((*told, *case.notes))
