"""Hold our price against the totals that the network states: MATCH, WITHIN_ROUNDING or DISPUTE, dimension by dimension.

Our own price is calculator.py. Matching whole sets of records with sessions is reconciliation, elsewhere.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from decimal import Decimal
from enum import StrEnum

from agent.core.findings import Finding, Severity
from agent.core.tariff.amounts import Amount, exact_arithmetic
from agent.core.tariff.codes import Code
from agent.core.tariff.priced import Priced
from agent.core.tariff.records import ChargeRecord, Total
from agent.core.tariff.rounding import Rounding
from agent.core.tariff.tariffs import Basis


class Verdict(StrEnum):
    """From best to worst."""

    MATCH = "MATCH"
    WITHIN_ROUNDING = "WITHIN_ROUNDING"
    DISPUTE = "DISPUTE"


@dataclass(frozen=True, slots=True, kw_only=True)
class Difference:
    """`difference` is theirs - ours: positive when the network asks for more."""

    total: Total
    basis: Basis
    ours: Decimal
    theirs: Decimal
    difference: Decimal
    verdict: Verdict


@dataclass(frozen=True, slots=True, kw_only=True)
class Comparison:
    verdict: Verdict
    tolerance: Decimal
    differences: tuple[Difference, ...]
    findings: tuple[Finding, ...] = ()


def compare(priced: Priced, record: ChargeRecord, rounding: Rounding) -> Comparison:
    """Every total that both sides know. Amounts in different currencies, or nothing to compare, are a dispute."""
    with exact_arithmetic():
        tolerance = rounding.tolerance(priced.components, priced.currency)
        differences = tuple(_differences(priced, record, rounding, tolerance))
    order = list(Verdict)
    verdict = max((one.verdict for one in differences), key=order.index, default=Verdict.DISPUTE)
    findings: tuple[Finding, ...] = ()
    if record.currency != priced.currency:
        verdict = Verdict.DISPUTE  # the calculator has reported the currencies
    if not differences:
        text = "No total is known to both sides, so nothing could be compared"
        findings = (Finding(code=Code.NOTHING_TO_COMPARE, path="$.total_cost", severity=Severity.ERROR, text=text),)
    return Comparison(verdict=verdict, tolerance=tolerance, differences=differences, findings=findings)


def _differences(priced: Priced, record: ChargeRecord, rounding: Rounding, tolerance: Decimal) -> Iterator[Difference]:
    for total in Total:
        stated = record.stated.get(total)
        if stated is None:
            continue
        exact, dimension = priced.totals[total], priced.stated[total]
        money = priced.payable if total is Total.COST else rounding.payable(exact, priced.currency)
        # Only the total of a Credit CDR is negated; everything else is copied from the original (mod_cdrs).
        sign = -1 if record.credit and total is Total.COST else 1
        for basis, theirs in ((Basis.NET, stated.net), (Basis.GROSS, stated.gross)):
            ours = _on(basis, exact)
            if theirs is None or ours is None:
                continue
            theirs *= sign
            same = theirs in (ours, _on(basis, dimension), _on(basis, money))
            difference = rounding.rounded(theirs - ours, rounding.dimension_decimals)
            near = abs(theirs - ours) <= tolerance
            yield Difference(
                total=total,
                basis=basis,
                ours=rounding.rounded(ours, rounding.dimension_decimals),
                theirs=theirs,
                difference=difference,
                verdict=Verdict.MATCH if same else Verdict.WITHIN_ROUNDING if near else Verdict.DISPUTE,
            )


def _on(basis: Basis, amount: Amount) -> Decimal | None:
    return amount.net if basis is Basis.NET else amount.gross
