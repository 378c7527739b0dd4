"""Rows for the table of rules: tokens whose backend is asked, the list of the withdrawn, what a stale policy limits."""

from __future__ import annotations

from dataclasses import replace
from datetime import timedelta
from typing import Any

from agent.core.answers import Heard, Silence, Verdict, Whitelist
from agent.core.overrides import Override
from agent.core.policy import TokenStatus
from agent.core.requests import Usage
from tests.core.builders import NOON, a_policy, a_request, a_token, an_instant, ask

Row = tuple[str, Any, str]

ASKED = {
    Verdict.BLOCKED: "TOKEN_BLOCKED",
    Verdict.EXPIRED: "TOKEN_EXPIRED",
    Verdict.NO_CREDIT: "NO_CREDIT",
    Verdict.NOT_ALLOWED: "BACKEND_REFUSED",
    Verdict.UNKNOWN: "TOKEN_UNKNOWN",
}
SAYS_YES = Heard(verdict=Verdict.ALLOWED)
SILENT = Heard(silence=Silence.DEADLINE)
SAID_YES, SAID_NO = (Heard(silence=Silence.OFFLINE, kept=each) for each in (Verdict.ALLOWED, Verdict.BLOCKED))
OLD = {"confirmed": NOON - timedelta(hours=24, seconds=1), "confirmed_boot": "earlier"}
OVER = {"confirmed": NOON - timedelta(days=8), "confirmed_boot": "earlier"}


def asked(whitelist: Whitelist, heard: Heard | None, policy: Any = None, **token: Any) -> Any:
    return lambda: ask(a_request(a_token(whitelist=whitelist, **token), heard=heard), policy or a_policy())


def live_rows() -> list[Row]:
    never, offline, allowed, always = Whitelist.NEVER, Whitelist.ALLOWED_OFFLINE, Whitelist.ALLOWED, Whitelist.ALWAYS
    gone = a_policy(revoked=frozenset({a_token().reference}))
    blocked = {"status": TokenStatus.BLOCKED}
    return [
        *((f"the backend says {said}", asked(each, Heard(verdict=said)), code)
          for each in (never, offline) for said, code in ASKED.items()),
        *((f"nobody asks the backend of {each}", asked(each, Heard(verdict=Verdict.BLOCKED)), "")
          for each in (allowed, always)),
        ("the backend says yes", asked(never, SAYS_YES), ""),
        ("without its word NEVER is refused", asked(never, SILENT), "NO_ANSWER"),
        ("without its word the device decides of ALLOWED_OFFLINE", asked(offline, SILENT), "!NO_ANSWER"),
        ("what it said lately counts for ALLOWED_OFFLINE", asked(offline, SAID_NO), "TOKEN_BLOCKED"),
        ("also when it was yes", asked(offline, SAID_YES), ""),
        ("but not for NEVER, of which every use is asked", asked(never, SAID_YES), "NO_ANSWER"),
        ("nor does its no", asked(never, SAID_NO), "NO_ANSWER"),
        ("before it is asked nothing is granted", asked(never, None), "NO_ANSWER"),
        ("a token that is blocked here is asked for all the same (OCPI: valid has no influence)",
         asked(never, None, **blocked), "TOKEN_BLOCKED NO_ANSWER"),
        ("and the backend's yes is newer than the table", asked(offline, SAYS_YES, **blocked), ""),
        ("what it said lately is not", asked(offline, SAID_YES, **blocked), "TOKEN_BLOCKED"),
        ("silence lifts no block", asked(offline, SILENT, **blocked), "TOKEN_BLOCKED !NO_ANSWER"),
        ("for a token that nobody asks for the table is final", asked(allowed, SAYS_YES, **blocked), "TOKEN_BLOCKED"),
        ("an expired one may have been renewed", asked(never, SAYS_YES, until=NOON), ""),
        ("whoever is withdrawn stays so, whatever the backend says", asked(never, SAYS_YES, gone), "REVOKED"),
        ("withdrawn counts for every token", asked(allowed, None, gone), "REVOKED"),
        ("withdrawn comes before blocked", asked(allowed, None, gone, **blocked), "REVOKED TOKEN_BLOCKED"),
        ("a stale policy serves a card for online use once the backend agrees",
         asked(offline, SAYS_YES, a_policy(**OLD), offline=False), ""),
        ("or agreed lately", asked(offline, SAID_YES, a_policy(**OLD), offline=False), ""),
        ("not when nothing is heard", asked(offline, SILENT, a_policy(**OLD), offline=False), "CACHE_STALE !NO_ANSWER"),
        ("an expired policy serves nobody, whatever the backend says",
         asked(never, SAYS_YES, a_policy(**OVER)), "POLICY_EXPIRED"),
        ("an override that does not fit is told",
         lambda: ask(a_request(), a_policy(networks=set()), usage=Usage(overrides=(an_override(waives={"no_rule"}),))),
         "NETWORK !OVERRIDE_UNFIT"),
    ]  # fmt: skip


def ladder_rows() -> list[Row]:
    """What is left on each rung: everything, a little, nothing."""
    stale = {"stale_max_energy_wh": 5_000}
    unmetered = replace(a_request(), metered=False)
    return [
        ("a limit for a stale policy needs a meter, too",
         lambda: ask(unmetered, a_policy(**stale, **OLD)), "!LIMIT_UNENFORCEABLE"),
        ("but says nothing while the policy is fresh", lambda: ask(unmetered, a_policy(**stale)), ""),
    ]  # fmt: skip


def an_override(**changes: Any) -> Override:
    waives = changes.pop("waives", {"*"})
    defaults: dict[str, Any] = {
        "id": "o-1",
        "token": a_token().reference,
        "waives": frozenset(waives),
        "why": "a driver is stranded",
        "by": "ada",
        "issued": NOON - timedelta(hours=1),
        "not_after": NOON + timedelta(hours=1),
        "max_energy_wh": 10_000,
        "boot": an_instant().boot,
        "received_ms": an_instant().monotonic_ms - 1_000,
    }
    return Override(**{**defaults, **changes})


LIVE_ROWS = [*live_rows(), *ladder_rows()]
