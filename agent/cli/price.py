"""`roamkey price`: what a charge record costs under a tariff, and whether the network's own totals agree."""

from __future__ import annotations

import argparse
from pathlib import Path
from typing import TYPE_CHECKING
from zoneinfo import ZoneInfo

from agent.cli import output

if TYPE_CHECKING:
    from agent.core.tariff.records import ChargeRecord
    from agent.core.tariff.tariffs import Version
    from agent.core.tariff.terms import Terms
    from agent.ocpi.tariffs import TariffsRead

HELP = "price a charge record (OCPI CDR) under a tariff and judge the network's own totals"

MAX_BYTES = 64 * 1024 * 1024  # a day of one-second periods is 20 MB


def add_arguments(parser: argparse.ArgumentParser) -> None:
    add = parser.add_argument
    add("--tariff", type=Path, metavar="FILE", help="OCPI tariff; without it, the tariffs inside the CDR are used")
    add("--cdr", type=Path, metavar="FILE", required=True, help="OCPI CDR, or a list of them")
    add("--zone", metavar="ZONE", help="IANA time zone of the location, such as Europe/Berlin")
    add("--ocpi", choices=("2.1.1", "2.2.1", "2.3.0"), help="version of both files, where they do not show it")
    add(
        "--missing",
        choices=("average", "no-match", "match"),
        default="average",
        help="what a restriction on power or current means where none was measured (default: average power)",
    )
    add(
        "--reach",
        choices=("span", "peak", "trough"),
        default="span",
        help="how a period whose power varied meets a range of power (default: by touching it)",
    )
    add(
        "--parking",
        choices=("not-requesting", "not-charging"),
        default="not-requesting",
        help="what PARKING_TIME means (default: the vehicle is not requesting power)",
    )
    add("--split", action="store_true", help="cut periods where a restriction changes inside them")
    add("--halves", choices=("half-up", "half-even"), default="half-up", help="how halves are rounded")
    add("--round", choices=("total", "line"), default="total", help="round the total, or each line (default: total)")
    add("--json", action="store_true", help="print one JSON object (a list of them for a list of CDRs)")


def main(arguments: argparse.Namespace) -> int:
    from agent.cli import price_report
    from agent.core.findings import unique
    from agent.core.tariff.calculator import price
    from agent.core.tariff.tariffs import Version
    from agent.core.tariff.verdicts import Verdict, compare
    from agent.ocpi.records import read_records

    zone = zone_named(arguments.zone) if arguments.zone else None
    if arguments.zone and zone is None:
        output.complain(f"--zone {arguments.zone}: not a time zone that is known here; try Europe/Berlin")
        return output.USAGE
    try:
        cdr = read(arguments.cdr)
        tariff = read(arguments.tariff) if arguments.tariff else None
    except OSError as error:
        output.complain(f"{error.filename}: {error.strerror}")
        return output.NO_INPUT
    version = Version(arguments.ocpi) if arguments.ocpi else None
    records, terms, reports = read_records(cdr, version=version), terms_of(arguments), []
    for record in records.records:
        tariffs = _tariffs(tariff, record, version)
        local = zone or (zone_named(record.zone) if record.zone else None)
        priced = price(record, tariffs.tariffs, zone=local, terms=terms)
        comparison = compare(priced, record, terms.rounding)
        findings = unique((*tariffs.findings, *records.findings, *priced.findings, *comparison.findings))
        reports.append(
            price_report.Report(
                record=record,
                tariffs=tariffs.tariffs,
                zone=local,
                priced=priced,
                comparison=comparison,
                findings=findings,
            )
        )
        if not tariffs.tariffs:
            path, first = arguments.tariff or arguments.cdr, next(iter(tariffs.findings), None)
            output.complain(f"{path}: holds no tariff{f': {first.path}: {first.text}' if first else ''}")
            return output.DATA
    if not reports:
        first = next(iter(records.findings), None)
        output.complain(f"{arguments.cdr}: holds no CDR{f': {first.path}: {first.text}' if first else ''}")
        return output.DATA
    if arguments.json:
        price_report.print_documents(reports)
    else:
        for report in reports:
            price_report.print_tables(report)
    return output.FAILURE if any(one.comparison.verdict is Verdict.DISPUTE for one in reports) else output.OK


def terms_of(arguments: argparse.Namespace) -> Terms:
    from agent.core.tariff.matching import Matching, Missing, Reach
    from agent.core.tariff.rounding import Mode, Rounding, Scope
    from agent.core.tariff.terms import Parking, Terms

    return Terms(
        matching=Matching(missing=Missing(arguments.missing), reach=Reach(arguments.reach)),
        rounding=Rounding(mode=Mode(arguments.halves), scope=Scope(arguments.round)),
        parking=Parking(arguments.parking),
        split=arguments.split,
    )


def zone_named(name: str) -> ZoneInfo | None:
    try:
        return ZoneInfo(name)
    except (KeyError, ValueError, OSError):  # not found is a KeyError; a folder or a strange name are the others
        return None


def read(path: Path) -> bytes:
    """At most MAX_BYTES: a longer file is no document of ours and will be reported as malformed."""
    with path.open("rb") as file:
        return file.read(MAX_BYTES)


def _tariffs(text: bytes | None, record: ChargeRecord, version: Version | None) -> TariffsRead:
    """A tariff that does not show its version is of the CDR's, as far as the two can be told apart."""
    from agent.core.tariff.codes import Code
    from agent.core.tariff.tariffs import Version
    from agent.ocpi.tariffs import TariffsRead, read_tariffs

    if text is None:
        return TariffsRead(tariffs=record.tariffs, findings=())
    found = read_tariffs(text, version=version)
    unmarked = any(finding.code is Code.VERSION_ASSUMED for finding in found.findings)
    if unmarked and record.version is not Version.V2_1_1:
        return read_tariffs(text, version=Version.V2_2_1)
    return found
