"""Rules about the charging point: its connector and power, whether it is free and answers, and room to record it."""

from __future__ import annotations

from collections.abc import Iterator

from agent.core.reasons import ReasonCode
from agent.core.rules.question import Objection, Question, listed


def connector_allowed(asked: Question) -> Iterator[Objection]:
    """The connector's type, in OCPI's words (IEC_62196_T2), is in the set of every level that names one."""
    connector = asked.request.place.connector
    for level in asked.levels:
        if level.connectors is None:
            continue
        if connector is None:
            yield Objection(code=ReasonCode.CONNECTOR, limit=listed(level.connectors), level=level, missing=True)
        elif connector.upper() not in {each.upper() for each in level.connectors}:
            yield Objection(code=ReasonCode.CONNECTOR, observed=connector, limit=listed(level.connectors), level=level)


def power_within(asked: Question) -> Iterator[Objection]:
    """The rated power is at most what every level allows."""
    power_w = asked.request.place.power_w
    for level in asked.levels:
        if level.max_power_w is None:
            continue
        limit = f"{level.max_power_w} W"
        if power_w is None:
            yield Objection(code=ReasonCode.POWER_LIMIT, limit=limit, level=level, missing=True)
        elif power_w > level.max_power_w:
            yield Objection(code=ReasonCode.POWER_LIMIT, observed=f"{power_w} W", limit=limit, level=level)


def battery_needs_it(asked: Question) -> Iterator[Objection]:
    """The state of charge is below where charging may begin, and below where it would be stopped at once."""
    soc = asked.request.soc_percent
    for level in asked.levels:
        said = [each for each in (level.max_start_soc_percent, level.target_soc_percent) if each is not None]
        if not said:
            continue
        limit = f"below {min(said)} %"
        if soc is None:
            yield Objection(code=ReasonCode.SOC, limit=limit, level=level, missing=True)
        elif soc >= min(said):
            yield Objection(code=ReasonCode.SOC, observed=f"{soc} %", limit=limit, level=level)


def charger_free(asked: Question) -> Iterator[Objection]:
    """No other session is open at this charger; the one who began it stops it instead (tapping.py)."""
    if asked.usage.session_at_charger is not None:
        yield Objection(code=ReasonCode.EVSE_OCCUPIED, observed=asked.usage.session_at_charger)


def charger_reachable(asked: Question) -> Iterator[Objection]:
    """The charger answers: a green light that cannot start anything would be a lie."""
    if not asked.usage.charger_reachable:
        yield Objection(code=ReasonCode.EVSE_UNAVAILABLE, observed=asked.request.charger or "none", missing=True)


def storage_ready(asked: Question) -> Iterator[Objection]:
    """A session that could not be recorded is not begun; room is kept for ending those that run."""
    if asked.usage.storage_full:
        yield Objection(code=ReasonCode.STORAGE_FULL)
