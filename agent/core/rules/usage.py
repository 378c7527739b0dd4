"""Rules about how much: sessions at the same time."""

from __future__ import annotations

from collections.abc import Iterator

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
