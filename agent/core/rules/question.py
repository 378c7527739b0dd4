"""What every rule is asked, and how it answers: with objections, or with nothing. Who asks them is __init__.py."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from dataclasses import dataclass
from datetime import timedelta
from functools import lru_cache

from agent.core.instants import Instant
from agent.core.policy import Group, Policy
from agent.core.reasons import Reason, ReasonCode
from agent.core.requests import Request, Usage
from agent.core.terms import Effect, Kind, Lenience, Prompt

MOST_LISTED = 8  # of a long list, these and how many more there are
REMEMBERED_LISTS = 1024  # a fleet's groups, as rules/place.py has it
SEVERITY = (Effect.ALLOW, Effect.WARN, Effect.REQUIRE, Effect.DENY)  # mildest first


@dataclass(frozen=True, slots=True, kw_only=True)
class Question:
    """`levels`: the groups that bind this token, nearest first; none when there is nothing to ask of them."""

    request: Request
    policy: Policy | None
    usage: Usage
    now: Instant
    levels: tuple[Group, ...]


@dataclass(frozen=True, slots=True, kw_only=True)
class Objection:
    """What a rule found wrong. `missing` says that it could not look, and the rule and its level say what then.

    `prompt`: the driver can put it right; `ask`: the backend can, and has not been asked.
    """

    code: ReasonCode
    observed: str = ""
    limit: str = ""
    level: Group | None = None
    missing: bool = False
    prompt: Prompt | None = None
    ask: bool = False


Check = Callable[[Question], Iterable[Objection]]


@dataclass(frozen=True, slots=True)
class Rule:
    """A rule: its function, what it does and makes of missing data, and the name under which a group changes that.

    `waivable`: a signed override may outweigh its refusal, but never one of NEVER_WAIVED (overrides.py).
    """

    check: Check
    when_missing: Effect
    kind: Kind | None = None
    effect: Effect = Effect.DENY
    waivable: bool = False

    @property
    def name(self) -> str:
        return self.check.__name__

    def verdict(self, found: Objection) -> Lenience:
        """What follows from an objection. Unless a group says so, missing data is never worse than a failure."""
        level = found.level if self.kind is not None else None
        effect = self.effect if level is None else level.effects.get(self.kind, self.effect)  # type: ignore[arg-type]
        if not found.missing:
            return Lenience(effect=effect)
        said = None if level is None else level.missing.get(self.kind)  # type: ignore[arg-type]
        return said or Lenience(effect=min(effect, self.when_missing, key=SEVERITY.index))

    def reason(self, found: Objection) -> Reason:
        return Reason(
            code=found.code,
            rule=self.name,
            observed=found.observed,
            limit=found.limit,
            group=found.level.id if found.level is not None else None,
            missing=found.missing,
        )


def binds(level: Group, kind: Kind) -> bool:
    """Whether a failure of this level's rule can refuse."""
    return level.effects.get(kind, Effect.DENY) not in (Effect.WARN, Effect.ALLOW)


@lru_cache(maxsize=REMEMBERED_LISTS)
def listed(values: frozenset[str]) -> str:
    """The first of them, and how many more: what a group names by the thousand would fill the journal tap by tap."""
    names = sorted(values)
    more = f" and {len(names) - MOST_LISTED} more" if len(names) > MOST_LISTED else ""
    return ",".join(names[:MOST_LISTED]) + more or "none"


def hours(age: timedelta) -> str:
    return f"{age.total_seconds() / 3600:.1f} h"
