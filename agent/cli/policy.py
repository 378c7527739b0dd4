"""`roamkey policy`: write a fleet's policy: check it, see what binds a card, try a question, replay the past, import.

All of these look at a folder of files as `roamkey fleet publish` takes it, and need no fleet's keys unless they say so.
"""

from __future__ import annotations

import argparse
from collections.abc import Callable
from dataclasses import asdict
from datetime import UTC, datetime
from pathlib import Path
from typing import TYPE_CHECKING

from agent.cli import output

if TYPE_CHECKING:
    from agent.fleet.source import Source

HELP = "check a fleet's policy files, explain and replay decisions by them, import cards and sites"


def add_arguments(parser: argparse.ArgumentParser) -> None:
    actions = parser.add_subparsers(dest="action", required=True, metavar="ACTION")

    def action(name: str, told: str) -> argparse.ArgumentParser:
        made = actions.add_parser(name, help=told, description=told)
        if name != "schema":
            made.add_argument(
                "folder",
                type=Path,
                metavar="FOLDER",
                nargs="?",
                default=Path(),
                help="policy folder (default: this one)",
            )
        made.add_argument("--json", action="store_true", help="print JSON for programs")
        return made

    check = action("check", "look the files over: what is wrong, what can never match, what has no effect")
    check.add_argument("--strict", action="store_true", help="end with an error also when there are only warnings")
    check.add_argument("--now", type=_moment, metavar="TIME", help="judge calendars and expiries at this time")


def main(arguments: argparse.Namespace) -> int:
    from agent.fleet.source import SourceMissing

    do: dict[str, Callable[[argparse.Namespace], int]] = {"check": check}
    try:
        return do[arguments.action](arguments)
    except SourceMissing as error:
        output.complain(str(error))
        return output.NO_INPUT
    except OSError as error:
        output.complain(f"{error.filename}: {error.strerror}")
        return output.NO_INPUT


def check(arguments: argparse.Namespace) -> int:
    from agent.core.findings import Severity
    from agent.fleet.policy_lint import review
    from agent.fleet.remarks import in_order

    now = arguments.now or datetime.now(UTC)
    source = _read(arguments.folder, now)
    remarks = in_order([*source.remarks, *review(source, now=now)])
    errors = sum(each.severity is Severity.ERROR for each in remarks)
    warnings = sum(each.severity is Severity.WARNING for each in remarks)
    ok = not errors and not (warnings and arguments.strict)
    if arguments.json:
        told = [asdict(each) for each in remarks]
        output.print_json({"ok": ok, "errors": errors, "warnings": warnings, "findings": told})
        return output.OK if ok else output.DATA
    for each in remarks:
        output.say(f"{each.severity.upper():7} {each.code:18} {each}")
    counted = f"{len(source.tokens)} cards and contracts" if source.contents else "nothing can be published like this"
    output.say(f"{errors} errors, {warnings} warnings, {len(remarks) - errors - warnings} notes; {counted}")
    return output.OK if ok else output.DATA


def _read(folder: Path, now: datetime) -> Source:
    from agent.fleet.source import read_folder

    return read_folder(folder, issued=now, hash_pins=False, progress=output.progress)


def _moment(text: str) -> datetime:
    moment = datetime.fromisoformat(text)
    return moment if moment.tzinfo is not None else moment.replace(tzinfo=UTC)
