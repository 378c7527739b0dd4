"""What the local API shows: plain JSON objects made from the journal's records, the machine's state and the board."""

from __future__ import annotations

import json
from dataclasses import asdict
from datetime import UTC, datetime
from typing import Any

from agent.board import Board, Health
from agent.core.facts import DecisionMade, SessionEnded
from agent.core.instants import Instant
from agent.core.memory import State
from agent.core.prices import CostLimit
from agent.core.requests import Place
from agent.core.rules import freshness, policy_age
from agent.core.running_cost import Cost
from agent.core.sessions import Session, cost_so_far, duration
from agent.core.sites import Sites
from agent.core.whereabouts import located
from agent.journal import Journal
from agent.wire import NAMESPACE, TYPES, open_envelope


def status_of(state: State, board: Board, statistics: dict[str, Any], now: Instant) -> dict[str, Any]:
    policy = state.policy
    age = policy_age(policy, now) if policy is not None else None
    return {
        "clock": {
            "quality": now.quality.value,
            "utc": stamp(now.utc),
            "floor": stamp(now.floor),
            "trusted": now.trusted,
        },
        "policy": None
        if policy is None or age is None
        else {
            "revision": policy.revision,
            "fingerprint": policy.fingerprint,
            "confirmed": stamp(policy.confirmed),
            "age_s": int(age.total_seconds()),
            "freshness": freshness(policy, age).value,
        },
        "journal": statistics,
        "link": health_of(board.link),
        "certificate": health_of(board.certificate) if board.certificate is not None else None,
        "storage": health_of(board.storage),
        "readers": {name: health_of(health) for name, health in sorted(board.readers.items())},
        "receiver": health_of(board.receiver) if board.receiver is not None else None,
        "position": position_of(state, now),
        "chargers": {
            name: {**health_of(health), "reachable": name in state.reachable}
            for name, health in sorted(board.chargers.items())
        },
        "open_sessions": [running(session, now) for session in state.open_sessions],
        "budgets": budgets_of(state, now),
        "alarms": dict(sorted(board.alarms.items())),
        "taps": board.taps,
        "dropped_looks": board.dropped_looks,
    }


def position_of(state: State, now: Instant) -> dict[str, Any] | None:
    """Where a mobile reader is now, as a decision would see it; None where nobody measured."""
    sites = state.policy.sites if state.policy is not None else Sites()
    place = located(Place(), sites, state.fixes.values(), now)
    return None if place.position is None else plain_place(place)


def plain_place(place: Place) -> dict[str, Any]:
    known = {name: value for name, value in asdict(place).items() if value is not None}
    if place.position is not None:
        known["position"] = {name: value for name, value in known["position"].items() if value is not None}
    return known


def budgets_of(state: State, now: Instant) -> list[dict[str, Any]]:
    """What may still be spent here without a connection, of each budget that was lent or asked for."""
    if state.policy is None:
        return []
    named = {budget.id: budget for budget in state.policy.budgets}
    holdings = state.holdings
    keys = dict.fromkeys([*(each.lease.budget for each in holdings.held.values()), *holdings.wanted])
    found = []
    for key in sorted(keys):
        budget = named.get(key.partition("/")[0])
        if budget is None:
            continue
        leases = list(holdings.in_force(key, now))
        used_up = holdings.used_up.get(key)
        found.append(
            {
                "budget": key,
                "unit": budget.unit.value,
                "currency": budget.currency,
                "free": sum(each.free for each in leases),
                "reserved": sum(each.reserved for each in holdings.of(key)),
                "left": budget.spelled(sum(each.free for each in leases)),
                "until": stamp(max(each.lease.spend_until for each in leases)) if leases else None,
                "used_up_until": stamp(used_up) if used_up is not None and now.latest < used_up else None,
            }
        )
    return found


def health_of(health: Health) -> dict[str, Any]:
    return {**asdict(health), "since": stamp(health.since) if health.since is not None else None}


def running(session: Session, now: Instant) -> dict[str, Any]:
    """An open session as it stands in memory: its meter may be ahead of the journal's last sample."""
    return {
        "session": session.id,
        "phase": session.phase.value,
        "charger": session.charger,
        "holder": {name: value for name, value in asdict(session.holder).items() if value is not None},
        "place": plain_place(session.place),
        "authorised_at": stamp(session.authorised_at),
        "started_at": stamp(session.started_at) if session.started_at is not None else None,
        "energy_wh": session.energy_wh,
        "max_energy_wh": session.max_energy_wh,
        "interrupted": session.interrupted,
        "cost": cost_now(session, now),
        "max_cost": None if session.cost is None else money(session.cost.prices.currency, session.cost),
        "tariff_sha256": None if session.quote is None else session.quote.sha256,
    }


def cost_now(session: Session, now: Instant) -> dict[str, Any] | None:
    """At its last meter reading, if it ended now; None while nobody knows what it costs."""
    cost = cost_so_far(session, duration(session, now)[0], session.power_w)
    return None if cost is None else money(cost.currency, cost)


def money(currency: str, amount: Cost | CostLimit) -> dict[str, Any]:
    """Amounts as text, as in the records."""
    sides = {"net": amount.net, "gross": amount.gross}
    return {"currency": currency, **{name: None if side is None else f"{side:f}" for name, side in sides.items()}}


def finished(journal: Journal, limit: int) -> list[dict[str, Any]]:
    """The newest ended sessions, as their records have them."""
    ends = journal.recent(TYPES[SessionEnded], limit=limit)
    return [{"phase": "ended", "sequence": each.sequence, **plain(each.body)["data"]} for each in ends]


def decision_of(journal: Journal, wanted: str) -> dict[str, Any] | None:
    """One decision by its id, or by the support reference that the driver was shown (the newest with it)."""
    found = [each for each in journal.by_subject(wanted) if isinstance(each.fact, DecisionMade)]
    if not found:
        made = journal.recent(TYPES[DecisionMade], limit=SUPPORT_SEARCH)
        found = [each for each in made if isinstance(each.fact, DecisionMade) and each.fact.support == wanted.upper()]
    if not found:
        return None
    event = plain(found[0].body)
    return {
        "sequence": found[0].sequence,
        "time": event["time"],
        "clockquality": event["clockquality"],
        **event["data"],
    }


SUPPORT_SEARCH = 2_000  # decisions looked through for a support reference: months at a charger


def page_of(journal: Journal, after: int, limit: int) -> dict[str, Any]:
    """Records as they are sealed, oldest first; a negative `after` counts from the end."""
    head = journal.head()
    start = after if after >= 0 else max(0, head.last - limit)
    records = journal.read(start, records=limit, size_bytes=1_000_000)
    return {
        "records": [{"sequence": each.sequence, "body": each.body.decode("utf-8")} for each in records],
        "head": asdict(head),
    }


def headline(body: bytes) -> str:
    """One record in one short line, for logs and live views: no tokens in it."""
    envelope = open_envelope(body)
    return f"{envelope.sequence} {envelope.type.removeprefix(NAMESPACE)} {envelope.subject or ''}".rstrip()


def plain(body: bytes) -> dict[str, Any]:
    event: dict[str, Any] = json.loads(body)
    return event


def stamp(moment: datetime) -> str:
    return moment.astimezone(UTC).isoformat(timespec="seconds").replace("+00:00", "Z")
