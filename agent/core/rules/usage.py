"""Rules about how often: sessions at the same time, within some time, and soon after another."""

from __future__ import annotations

from collections.abc import Iterator
from datetime import timedelta

from agent.core.reasons import ReasonCode
from agent.core.rules.question import Objection, Question


def not_concurrent(asked: Question) -> Iterator[Objection]:
    """One active session a token and one a vehicle, unless a group says otherwise (never more than its parents)."""
    if asked.request.token is None:
        return
    usage = asked.usage
    counted = (
        ("token", usage.sessions_of_token, [level.max_sessions_per_token for level in asked.levels]),
        ("vehicle", usage.sessions_of_vehicle, [level.max_sessions_per_vehicle for level in asked.levels]),
    )
    for what, sessions, limits in counted:
        limit = min((each for each in limits if each is not None), default=1)
        if len(sessions) >= limit:
            yield Objection(
                code=ReasonCode.CONCURRENT_SESSION,
                observed=f"{len(sessions)} of this {what}",
                limit=f"{limit} a {what}",
            )


def not_too_often(asked: Question) -> Iterator[Objection]:
    """Fewer sessions of the card in the time up to now than each level allows. Where the log was lost nobody knows."""
    for level in asked.levels:
        if level.velocity is None:
            continue
        start = asked.now.latest - timedelta(seconds=level.velocity.window_s)
        count = len(asked.usage.sessions_of_token) + sum(each.began > start for each in asked.usage.past)
        limit = f"{level.velocity.sessions} in {level.velocity.window_s} s"
        if count >= level.velocity.sessions:
            yield Objection(code=ReasonCode.VELOCITY, observed=f"{count}", limit=limit, level=level)
        elif asked.usage.known_since is not None and asked.usage.known_since > start:
            yield Objection(code=ReasonCode.VELOCITY, observed="log lost", limit=limit, level=level, missing=True)


def not_too_soon(asked: Question) -> Iterator[Objection]:
    """The card's last session ended at least so long ago."""
    for level in asked.levels:
        if level.min_gap_s is None:
            continue
        start = asked.now.latest - timedelta(seconds=level.min_gap_s)
        last = max((each.ended for each in asked.usage.past), default=None)
        limit = f"{level.min_gap_s} s after the last"
        if last is not None and last > start:
            observed = f"{int((asked.now.latest - last).total_seconds())} s"
            yield Objection(code=ReasonCode.VELOCITY, observed=observed, limit=limit, level=level)
        elif asked.usage.known_since is not None and asked.usage.known_since > start:
            yield Objection(code=ReasonCode.VELOCITY, observed="log lost", limit=limit, level=level, missing=True)
