"""`roamkey settle export`: ended sessions as OCPI objects, CSV or JSON Lines, with all that allocates their cost."""

from __future__ import annotations

import argparse
import sys
from collections.abc import Callable, Iterable, Iterator
from contextlib import ExitStack
from datetime import UTC, datetime
from pathlib import Path
from typing import TYPE_CHECKING, TextIO

from agent.cli import output
from agent.cli.client import add_service_arguments, api_of

if TYPE_CHECKING:
    from agent.settlement.carried import Carried
    from agent.settlement.ocpi_objects import Written
    from agent.settlement.settled import Settled

HELP = "export ended sessions for settlement: OCPI Session and CDR, CSV, JSON Lines"

FORMATS = ("session", "cdr", "csv", "jsonl")
TOLD_AT_MOST = 10
PAGE_RECORDS = 500


def add_arguments(parser: argparse.ArgumentParser) -> None:
    verbs = parser.add_subparsers(dest="settle_verb", required=True, metavar="VERB")
    export = verbs.add_parser("export", help="write ended sessions, from the running service unless told otherwise")
    add = export.add_argument
    add("--format", choices=FORMATS, default="csv", help="OCPI session or cdr objects, or flat rows (default: csv)")
    add("--ocpi", choices=("2.2.1", "2.3.0"), default="2.2.1", help="version of the OCPI objects (default: 2.2.1)")
    add("--lines", action="store_true", help="csv, jsonl: a row for each billed line and tax, not for each session")
    add("--facts", type=Path, metavar="FILE", help="TOML with buyer, networks, sites, EVSEs: carried into the export")
    add("--since", type=moment, metavar="TIME", help="sessions that ended at this time or later, such as 2026-03-01")
    add("--until", type=moment, metavar="TIME", help="sessions that ended before this time")
    add("--out", type=Path, metavar="FILE", help="the new file (default: the terminal)")
    add("--db", type=Path, metavar="FILE", help="a database of `roamkey receive`, or an exported journal")
    add("--state", type=Path, metavar="FOLDER", help="the state folder of a stopped service")
    add_service_arguments(export)


def moment(text: str) -> datetime:
    found = datetime.fromisoformat(text)
    return found if found.tzinfo is not None else found.replace(tzinfo=UTC)


def main(arguments: argparse.Namespace) -> int:
    from agent.cli.client import Refused, Unreachable
    from agent.journal.errors import AlreadyRunning, JournalError
    from agent.settlement.carried import Carried, CarriedUnfit, read_carried
    from agent.settlement.sources import SourceUnfit

    try:
        carried = read_carried(arguments.facts) if arguments.facts else Carried()
        with ExitStack() as stack:
            out = sys.stdout if arguments.out is None else stack.enter_context(opened(arguments.out))
            return export(sessions(arguments), carried, arguments, out)
    except Unreachable as error:
        output.complain(str(error))
        return output.UNAVAILABLE
    except (Refused, AlreadyRunning) as error:
        output.complain(str(error))
        return output.TRY_LATER
    except (CarriedUnfit, SourceUnfit, JournalError) as error:
        output.complain(str(error))
        return output.DATA
    except FileExistsError as error:
        output.complain(f"{error.filename} is there already; name another file with --out")
        return output.CANNOT_CREATE


def opened(path: Path) -> TextIO:
    return path.open("x", encoding="utf-8", newline="")


def sessions(arguments: argparse.Namespace) -> Iterator[Settled]:
    """Those that ended in the time asked for, each once."""
    from agent.settlement.settled import once, settled_in
    from agent.settlement.sources import sessions_of, sessions_of_device

    if arguments.db is not None:
        found = sessions_of(arguments.db)
    elif arguments.state is not None:
        found = sessions_of_device(arguments.state)
    else:
        found = once(settled_in(records_of_service(arguments)))
    for each in found:
        late_enough = arguments.since is None or each.ended.ended_at >= arguments.since
        if late_enough and (arguments.until is None or each.ended.ended_at < arguments.until):
            yield each


def records_of_service(arguments: argparse.Namespace) -> Iterator[bytes]:
    api = api_of(arguments)
    after = api.get("/v1/journal", limit=1)["head"]["first"] - 1
    while page := api.get("/v1/journal", after=after, limit=PAGE_RECORDS)["records"]:
        for record in page:
            after = record["sequence"]
            yield record["body"].encode()


def export(found: Iterable[Settled], carried: Carried, arguments: argparse.Namespace, out: TextIO) -> int:
    if arguments.format in ("csv", "jsonl"):
        return rows(found, carried, arguments, out)
    from agent.core.tariff.tariffs import Version
    from agent.settlement.ocpi_objects import cdr_object, session_object

    write = cdr_object if arguments.format == "cdr" else session_object
    return objects((write(each, Version(arguments.ocpi), carried) for each in found), out)


def rows(found: Iterable[Settled], carried: Carried, arguments: argparse.Namespace, out: TextIO) -> int:
    from agent.settlement.rows import Row, as_csv, as_json_lines, line_rows, session_row

    def flat() -> Iterator[Row]:
        for each in found:
            if arguments.lines:
                yield from line_rows(each, carried)
            else:
                yield session_row(each, carried)

    written: Callable[[Iterable[Row]], Iterator[str]] = as_csv if arguments.format == "csv" else as_json_lines
    for line in written(flat()):
        out.write(line)
    return output.OK


def objects(found: Iterable[Written], out: TextIO) -> int:
    """A JSON list; what cannot be said in OCPI is told, and is no part of it."""
    from agent.settlement.rows import compact

    count, left_out = 0, 0
    out.write("[")
    for each in found:
        if each.document is None:
            left_out += 1
            if left_out <= TOLD_AT_MOST:
                output.complain(f"session {each.session} is left out: {'; '.join(each.missing)}")
            continue
        out.write((",\n " if count else "\n ") + compact(each.document))
        count += 1
    out.write("\n]\n")
    if left_out:
        output.complain(
            f"{left_out} sessions are left out; --facts brings what no device knows, csv and jsonl take all"
        )
    return output.FAILURE if left_out else output.OK
