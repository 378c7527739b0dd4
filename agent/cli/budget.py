"""`roamkey budget`: at the backend, what of each budget is settled, what is lent to which device, and what is left."""

from __future__ import annotations

import argparse
from collections.abc import Iterator
from contextlib import closing
from datetime import UTC, datetime
from pathlib import Path
from typing import TYPE_CHECKING

from agent.cli import output

if TYPE_CHECKING:
    from sync.backend.ledger import Ledger, Standing

HELP = "show what of the fleet's budgets is spent, lent and left (at the backend)"


def add_arguments(parser: argparse.ArgumentParser) -> None:
    actions = parser.add_subparsers(dest="action", required=True, metavar="ACTION")

    def action(name: str, told: str) -> argparse.ArgumentParser:
        made = actions.add_parser(name, help=told, description=told)
        made.add_argument("--db", type=Path, required=True, metavar="FILE", help="the receiver's ledger (DB.budgets)")
        made.add_argument("--json", action="store_true", help="print JSON for programs")
        return made

    status = action("status", "limits, what is settled, outstanding and free, by period and device")
    status.add_argument("--all", action="store_true", help="also periods that are over")
    off = action("write-off", "say what a lease has cost, when its device is gone for good or was copied")
    off.add_argument("lease", metavar="LEASE")
    off.add_argument(
        "--spent", type=int, required=True, metavar="N", help="Wh, millionths of the currency, or sessions"
    )
    action("thaw", "lend again after an older copy of the ledger was put back: every device has been heard since")


def main(arguments: argparse.Namespace) -> int:
    from sync.backend.budgets import StillSpendable
    from sync.backend.ledger import Ledger

    if not arguments.db.is_file():
        output.complain(f"--db {arguments.db}: no such file; `roamkey receive --budgets` makes it")
        return output.NO_INPUT
    with closing(Ledger(arguments.db, (), fleet="-")) as ledger:
        match arguments.action:
            case "status":
                return _status(ledger, arguments)
            case "write-off":
                try:
                    known = ledger.write_off(arguments.lease, spent=arguments.spent, now=datetime.now(UTC))
                except StillSpendable as error:
                    output.complain(str(error))
                    return output.FAILURE
                if not known:
                    output.complain(f"no lease is named {arguments.lease!r}: see `roamkey budget status`")
                    return output.FAILURE
            case _:
                ledger.thaw()
    return output.OK


def _status(ledger: Ledger, arguments: argparse.Namespace) -> int:
    from sync.backend.ledger import plain

    now = datetime.now(UTC)
    found = [each for each in ledger.standings(now) if arguments.all or datetime.fromisoformat(each.until) > now]
    if arguments.json:
        output.print_json([plain(each) for each in found])
        return output.OK
    columns = ("budget", "from", "limit", "settled", "outstanding", "free", "note")
    rows = [
        (each.key, each.start[:10], *(_spelled(each, amount) for amount in _amounts(each)), _note(each))
        for each in found
    ]
    output.table("budgets", columns, rows)
    lent = ("budget", "device", "lease", "amount", "spent", "reserved", "until", "state")
    output.table("leases", lent, [row for each in found for row in _lines(each)])
    return output.OK


def _amounts(standing: Standing) -> tuple[int, int, int, int]:
    return standing.limit, standing.settled, standing.outstanding, standing.free


def _note(standing: Standing) -> str:
    notes = [
        "nothing is lent: an older copy of the ledger was put back" if standing.frozen else "",
        f"{_spelled(standing, standing.overrun)} beyond reservations" if standing.overrun else "",
    ]
    return "; ".join(note for note in notes if note)


def _lines(standing: Standing) -> Iterator[tuple[str, ...]]:
    for loan in standing.loans:
        if loan.state != "closed":
            amounts = (_spelled(standing, each) for each in (loan.amount, loan.consumed, loan.reserved))
            yield standing.key, loan.device, loan.lease, *amounts, loan.spend_until, loan.state


def _spelled(standing: Standing, amount: int) -> str:
    match standing.unit:
        case "energy":
            return f"{amount / 1000:g} kWh"
        case "money":
            return f"{amount / 1_000_000:.2f} {standing.currency}"
        case _:
            return str(amount)
