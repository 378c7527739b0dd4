"""`roamkey sessions`: the open ones as they stand, then the newest that ended."""

from __future__ import annotations

import argparse
from typing import Any

from agent.cli import output
from agent.cli.client import add_service_arguments, api_of

HELP = "list charging sessions"


def add_arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("-n", type=int, default=20, dest="limit", help="how many ended ones (default: 20)")
    add_service_arguments(parser)


def main(arguments: argparse.Namespace) -> int:
    sessions = api_of(arguments).get("/v1/sessions", limit=arguments.limit)["sessions"]
    if arguments.json:
        output.print_json(sessions)
    else:
        columns = ("session", "phase", "driver", "vehicle", "EVSE", "energy", "duration", "cost", "reason")
        output.table("sessions", columns, [row(session) for session in sessions])
    return output.OK


def row(session: dict[str, Any]) -> tuple[str, ...]:
    holder, place = session.get("holder", {}), session.get("place", {})
    duration = f"{session['duration_s']} s" if "duration_s" in session else ""
    marks = "".join(mark for key, mark in (("interrupted", " (interrupted)"),) if session.get(key)) + (
        "" if session.get("complete", True) else " (incomplete)"
    )
    return (
        session["session"],
        session["phase"],
        holder.get("driver", holder.get("label", "")),
        holder.get("vehicle", ""),
        place.get("evse", session["charger"]),
        f"{session['energy_wh'] / 1000:.3f} kWh",
        duration,
        cost_told(session.get("cost")),
        f"{session.get('reason', '')}{marks}",
    )


def cost_told(cost: dict[str, Any] | None) -> str:
    """With taxes where they are known: that is what is paid."""
    if cost is None:
        return ""
    known = [(f"{cost[name]} {cost['currency']}{mark}") for name, mark in SIDES if cost.get(name) is not None]
    return known[0] if known else "unknown"


SIDES = (("gross", ""), ("net", " before taxes"))
