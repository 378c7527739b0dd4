"""How a priced charge record is shown: one JSON object under OCPI's names, or tables."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from decimal import Decimal
from zoneinfo import ZoneInfo

from agent.cli import output
from agent.core.findings import Finding
from agent.core.tariff.amounts import Amount, exact_arithmetic
from agent.core.tariff.priced import UNITS, Line, Priced
from agent.core.tariff.records import ChargeRecord, Stated, Total
from agent.core.tariff.tariffs import Basis, Tariff
from agent.core.tariff.verdicts import Comparison, Difference
from agent.exact_json import dumps, plain

BASES = {Basis.NET: "excl_vat", Basis.GROSS: "incl_vat"}


@dataclass(frozen=True, slots=True, kw_only=True)
class Report:
    record: ChargeRecord
    tariffs: tuple[Tariff, ...]
    zone: ZoneInfo | None
    priced: Priced
    comparison: Comparison
    findings: tuple[Finding, ...]


def print_documents(reports: list[Report]) -> None:
    documents = [document(report) for report in reports]
    output.say(dumps(documents[0] if len(documents) == 1 else documents))


def document(report: Report) -> dict[str, object]:
    with exact_arithmetic():  # a hostile record's numbers do not fit into the usual 28 digits
        return _document(report)


def _document(report: Report) -> dict[str, object]:
    priced, comparison = report.priced, report.comparison
    taxes = priced.stated[Total.COST].taxes
    return {
        "cdr": report.record.id,
        "tariffs": [tariff.id for tariff in report.tariffs],
        "zone": None if report.zone is None else report.zone.key,
        "currency": priced.currency,
        "verdict": comparison.verdict,
        **{total.value: _money(priced.stated[total]) for total in Total},
        "total_payable": _money(priced.payable),
        "taxes": taxes
        if taxes is None
        else [{"name": tax.name, "percentage": tax.percent, "amount": tax.amount} for tax in taxes],
        "tolerance": comparison.tolerance,
        "differences": [_difference(one) for one in comparison.differences],
        "lines": [_line(line) for line in priced.lines],
        "findings": [finding_document(finding) for finding in report.findings],
    }


def finding_document(finding: Finding) -> dict[str, object]:
    return {"code": finding.code, "path": finding.path, "severity": finding.severity, "text": finding.text}


def _money(amount: Amount) -> dict[str, Decimal | None]:
    return {"excl_vat": amount.net, "incl_vat": amount.gross}


def _difference(one: Difference) -> dict[str, object]:
    return {
        "total": one.total,
        "basis": BASES[one.basis],
        "ours": one.ours,
        "theirs": one.theirs,
        "difference": one.difference,
        "verdict": one.verdict,
    }


def _line(line: Line) -> dict[str, object]:
    return {
        "dimension": line.item,
        "total": line.belongs_to,
        "period": line.period,
        "tariff": line.tariff,
        "element": line.element,
        "unit": UNITS.get(line.item),
        "metered": _six(line.metered),
        "billed": _six(line.billed),
        "price": line.price,
        "net": _six(line.amount.net),
        "tax": _six(line.amount.tax),
        "gross": _six(line.amount.gross),
        "why": line.why,
    }


def _six(value: Decimal | None) -> Decimal | None:
    """Enough to add the lines up again; thirds of an hour have no end."""
    return None if value is None else round(value, 6)


def print_tables(report: Report) -> None:
    with exact_arithmetic():
        _print_tables(report)


def _print_tables(report: Report) -> None:
    record, priced, comparison = report.record, report.priced, report.comparison
    names = ", ".join(tariff.id for tariff in report.tariffs)
    zone = "unknown" if report.zone is None else report.zone.key
    title = f"CDR {record.id} under tariff {names}, {priced.currency}, time zone {zone}"
    head = ("period", "element", "dimension", "metered", "billed", "price", "net", "tax", "gross")
    output.table(title, head, (_row(line) for line in priced.lines))
    output.table("Totals", ("total", "excl_vat", "incl_vat", "stated excl", "stated incl"), _totals(report))
    output.say(f"{comparison.verdict} (tolerance {plain(comparison.tolerance)} {priced.currency})")
    for one in comparison.differences:
        output.say(
            f"  {one.total} {BASES[one.basis]}: ours {plain(one.ours)}, theirs {plain(one.theirs)}, "
            f"difference {plain(one.difference)}: {one.verdict}"
        )
    say_findings(report.findings)


def say_findings(findings: Iterable[Finding]) -> None:
    for finding in findings:
        output.say(f"{finding.severity.upper()} {finding.code} at {finding.path}: {finding.text}")


def _row(line: Line) -> tuple[str, ...]:
    unit = UNITS.get(line.item, "")
    amount = line.amount
    return (
        _place(line.period),
        _place(line.element),
        line.item,
        f"{_figure(line.metered)} {unit}".strip(),
        f"{_figure(line.billed)} {unit}".strip(),
        "" if line.price is None else _figure(line.price),
        *(_figure(value) for value in (amount.net, amount.tax, amount.gross)),
    )


def _place(number: int | None) -> str:
    return "" if number is None else str(number)


def _totals(report: Report) -> Iterator[tuple[str, ...]]:
    priced = report.priced
    for total in Total:
        ours, theirs = priced.stated[total], report.record.stated.get(total, Stated(net=None, gross=None))
        stated = ("" if side is None else _figure(side) for side in (theirs.net, theirs.gross))
        yield (total, _figure(ours.net), _figure(ours.gross), *stated)
    yield ("payable", _figure(priced.payable.net), _figure(priced.payable.gross), "", "")


def _figure(value: Decimal | None) -> str:
    return "unknown" if value is None else plain(round(value, 4))
