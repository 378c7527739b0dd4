"""`roamkey tariff lint`: what is wrong or unwise in an OCPI tariff."""

from __future__ import annotations

import argparse
from pathlib import Path

from agent.cli import output

HELP = "look a tariff over: elements that never apply, gaps, needless components, dates, spelling"


def add_arguments(parser: argparse.ArgumentParser) -> None:
    verbs = parser.add_subparsers(dest="tariff_verb", required=True, metavar="VERB")
    lint = verbs.add_parser("lint", help="report what is wrong or unwise in a tariff")
    lint.add_argument("file", type=Path, metavar="FILE", help="OCPI tariff (2.1.1, 2.2.1 or 2.3.0), or a list of them")
    lint.add_argument("--ocpi", choices=("2.1.1", "2.2.1", "2.3.0"), help="its version, where it does not show it")
    lint.add_argument("--json", action="store_true", help="print one JSON object")


def main(arguments: argparse.Namespace) -> int:
    """Bad data when a tariff cannot be taken as it was meant; warnings alone are no failure."""
    from agent.cli.price import read
    from agent.cli.price_report import finding_document, say_findings
    from agent.clock import SystemClock
    from agent.core.findings import is_sound, unique
    from agent.core.tariff.lint import lint
    from agent.core.tariff.tariffs import Version
    from agent.exact_json import dumps
    from agent.ocpi.tariffs import read_tariffs

    try:
        text = read(arguments.file)
    except OSError as error:
        output.complain(f"{error.filename}: {error.strerror}")
        return output.NO_INPUT
    found = read_tariffs(text, version=Version(arguments.ocpi) if arguments.ocpi else None)
    now = SystemClock().now().utc
    linted = {place: lint(tariff, now=now) for place, tariff in enumerate(found.tariffs)}
    everything = unique((*found.findings, *(finding for findings in linted.values() for finding in findings)))
    if arguments.json:
        tariffs = [
            {"id": tariff.id, "version": tariff.version, "findings": [finding_document(f) for f in linted[place]]}
            for place, tariff in enumerate(found.tariffs)
        ]
        output.say(dumps({"tariffs": tariffs, "findings": [finding_document(f) for f in found.findings]}))
    else:
        say_findings(found.findings)
        for place, tariff in enumerate(found.tariffs):
            count = len(linted[place])
            output.say(f"tariff {tariff.id or '(without id)'}, OCPI {tariff.version}: {count or 'no'} remarks")
            say_findings(linted[place])
    return output.OK if found.tariffs and is_sound(everything) else output.DATA
