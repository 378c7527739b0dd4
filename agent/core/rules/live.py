"""The rule about tokens whose fleet wants its backend to be asked, by OCPI's whitelist type."""

from __future__ import annotations

from collections.abc import Iterator

from agent.core.answers import Verdict, Whitelist
from agent.core.reasons import ReasonCode
from agent.core.requests import Request
from agent.core.rules.question import Objection, Question

CODES = {
    Verdict.BLOCKED: ReasonCode.TOKEN_BLOCKED,
    Verdict.EXPIRED: ReasonCode.TOKEN_EXPIRED,
    Verdict.NO_CREDIT: ReasonCode.NO_CREDIT,
    Verdict.NOT_ALLOWED: ReasonCode.BACKEND_REFUSED,
    Verdict.UNKNOWN: ReasonCode.TOKEN_UNKNOWN,
}


def backend_agrees(asked: Question) -> Iterator[Objection]:
    """What the backend says counts. Without its word NEVER is refused; ALLOWED_OFFLINE goes by what it said lately,
    else by the other rules. Nobody asks for ALWAYS and ALLOWED."""
    token, heard = asked.request.token, asked.request.heard
    if token is None or not token.whitelist.asks:
        return
    if heard is None:
        yield Objection(code=ReasonCode.NO_ANSWER, observed="not asked yet", limit=token.whitelist, ask=True)
        return
    offline = token.whitelist is Whitelist.ALLOWED_OFFLINE
    verdict = heard.verdict or (heard.kept if offline else None)
    if verdict is None:
        observed = heard.silence or "nothing"
        yield Objection(code=ReasonCode.NO_ANSWER, observed=observed, limit=token.whitelist, missing=offline)
    elif verdict is not Verdict.ALLOWED:
        said = "the backend says" if heard.verdict is not None else "the backend said"
        yield Objection(code=CODES[verdict], observed=f"{said} {verdict}", limit=Verdict.ALLOWED)


def is_confirmed(request: Request) -> bool:
    """The backend's word on this very question is yes."""
    return _asks(request) and request.heard is not None and request.heard.verdict is Verdict.ALLOWED


def was_confirmed(request: Request) -> bool:
    """It is, or it was lately and now nothing is heard; NEVER has no such memory."""
    token, heard = request.token, request.heard
    if token is None or heard is None or not token.whitelist.asks:
        return False
    kept = heard.verdict is None and token.whitelist is Whitelist.ALLOWED_OFFLINE and heard.kept is Verdict.ALLOWED
    return kept or is_confirmed(request)


def is_open(request: Request) -> bool:
    """The backend was not asked yet, and its word would count."""
    return _asks(request) and request.heard is None


def _asks(request: Request) -> bool:
    return request.token is not None and request.token.whitelist.asks
