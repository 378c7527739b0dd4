"""`roamkey status`: how the running service is."""

from __future__ import annotations

import argparse
from collections.abc import Iterator
from typing import Any

from agent.cli import output
from agent.cli.client import add_service_arguments, api_of
from agent.cli.sessions import cost_told

HELP = "show how the running service is"


def add_arguments(parser: argparse.ArgumentParser) -> None:
    add_service_arguments(parser)


def main(arguments: argparse.Namespace) -> int:
    status = api_of(arguments).get("/v1/status")
    if arguments.json:
        output.print_json(status)
    else:
        title = f"{status['device']} of fleet {status['fleet']}, roamkey {status['version']}"
        output.table(title, ("what", "state", "detail"), rows(status))
    return output.OK


def rows(status: dict[str, Any]) -> Iterator[tuple[str, str, str]]:
    policy, journal, clock = status["policy"], status["journal"], status["clock"]
    yield "clock", clock["quality"], f"{clock['utc']}{'' if clock['trusted'] else '  NOT TRUSTED'}"
    if policy is None:
        yield "policy", "none", "every card is refused: see `roamkey check`"
    else:
        yield "policy", policy["freshness"], f"revision {policy['revision']}, confirmed {policy['confirmed']}"
    yield "link", status["link"]["state"], status["link"]["detail"]
    if status["certificate"] is not None:
        yield "certificate", status["certificate"]["state"], status["certificate"]["detail"]
    yield (
        "journal",
        status["storage"]["state"],
        f"{journal['records']} records, {journal['backlog']} not yet acknowledged, "
        f"{journal['quarantined']} quarantined, {journal['size_bytes'] // 1024} KiB"
        + (f"; {status['storage']['detail']}" if status["storage"]["detail"] else "")
        + (f"; {journal['earlier_journals']} earlier journals" if journal["earlier_journals"] else ""),
    )
    if status["receiver"] is not None:
        yield "gpsd", status["receiver"]["state"], status["receiver"]["detail"]
    if status["position"] is not None:
        yield "position", *position_of(status["position"])
    for name, health in status["readers"].items():
        yield f"reader {name}", health["state"], health["detail"]
    for name, health in status["chargers"].items():
        yield f"charger {name}", health["state"], health["detail"]
    for session in status["open_sessions"]:
        holder = session["holder"].get("driver") or session["holder"].get("label") or "?"
        so_far = f"{holder}, {session['energy_wh']} Wh, {cost_told(session['cost'])}".rstrip(", ")
        yield f"session {session['session']}", session["phase"], so_far
    for budget in status["budgets"]:
        yield f"budget {budget['budget']}", *budget_in_words(budget)
    for code, text in status["alarms"].items():
        yield f"alarm {code}", "!", text


def position_of(place: dict[str, Any]) -> tuple[str, str]:
    """The site or why it is none, and what was measured."""
    where = place["position"]
    known = ", ".join(place[name] for name in ("network", "country") if name in place)
    state = place.get("site") or f"unsure: {place['doubt']}" if "doubt" in place or "site" in place else "no site"
    candidates = f" ({', '.join(place['candidates'])})" if "site" not in place and "candidates" in place else ""
    measured = (
        f"{where['latitude_udeg'] / 1e6:.6f} {where['longitude_udeg'] / 1e6:.6f}, "
        f"to {where.get('accuracy_m', '?')} m, {where.get('age_s', '?')} s old, by {place.get('measured_by', '?')}"
    )
    return state + candidates, f"{known}; {measured}" if known else measured


def budget_in_words(budget: dict[str, Any]) -> tuple[str, str]:
    """(state, detail): what is left of it here, and until when that may be spent."""
    if budget["used_up_until"] is not None:
        return "used up", f"{budget['left']} left here; nothing more is lent until {budget['used_up_until']}"
    if budget["until"] is None:
        return "no lease", "none yet, or it is over: connect"
    return "lent", f"{budget['left']} left here until {budget['until']}"
