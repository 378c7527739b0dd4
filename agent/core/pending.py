"""A decision that waits for the backend's word: what was asked, by whom, and until when it waits."""

from __future__ import annotations

from dataclasses import dataclass

from agent.core.facts import Trigger
from agent.core.overrides import Override
from agent.core.requests import Request, Signs

MOST_PENDING = 64  # far more than readers; beyond, the backend counts as silent


@dataclass(frozen=True, slots=True, kw_only=True)
class Pending:
    """`request` waits at the local API, `code` is the override of a break-glass code that was given.

    `signs`: a yes lets a contract's key sign, in the session of this name if it has one.
    """

    asked: Request
    trigger: Trigger
    reader: str | None
    request: str | None
    waited_ms: int
    since_ms: int
    due_ms: int = 0
    code: Override | None = None
    signs: Signs | None = None
