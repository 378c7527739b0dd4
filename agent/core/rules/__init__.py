"""The fleet's rules: a table of small named functions, each named for what it wants, one file a subject.

A rule answers with its objections. It never knows of another rule, their order never matters, and each says here what
missing data means to it. Emptiness refuses. Their mapping to peers' statuses is statuses.py.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from typing import assert_never

from agent.core.instants import Instant
from agent.core.policy import Policy
from agent.core.reasons import Reason
from agent.core.requests import Request, Usage
from agent.core.rules.budget import budget_known, within_budget
from agent.core.rules.bundle import clock_trusted, freshness, freshness_at, group_known, policy_age, policy_in_force
from agent.core.rules.card import assured_enough, card_undoubted, not_revoked, one_card, token_active, token_known
from agent.core.rules.charger import (
    battery_needs_it,
    charger_free,
    charger_reachable,
    connector_allowed,
    power_within,
    storage_ready,
)
from agent.core.rules.hours import calendar_current, inside_window, no_holiday, opens
from agent.core.rules.live import backend_agrees, is_confirmed
from agent.core.rules.place import (
    country_allowed,
    inside_fence,
    network_allowed,
    place_sure,
    site_allowed,
    site_preferred,
)
from agent.core.rules.price import currency_known, energy_metered, price_within, session_affordable
from agent.core.rules.prompts import odometer_given, pin_given, pin_wanted
from agent.core.rules.question import Objection, Question, Rule
from agent.core.rules.sieve import COVERED, suspects
from agent.core.rules.usage import not_concurrent, not_too_often, not_too_soon
from agent.core.terms import Effect, Kind, Lenience, Prompt

__all__ = [
    "RULES",
    "SILENCE",
    "Effect",
    "Findings",
    "Kind",
    "Objection",
    "Question",
    "Rule",
    "freshness",
    "freshness_at",
    "is_confirmed",
    "objections",
    "objections_of",
    "opens",
    "policy_age",
    "waivable",
]


@dataclass(frozen=True, slots=True, kw_only=True)
class Findings:
    """What the rules object to, and the least energy that a rule allows where it could not look.

    `wanted` are objections that the driver can put right, by what is in `prompts`; `open` those that the backend can,
    which was not asked yet.
    """

    refusals: tuple[Reason, ...]
    warnings: tuple[Reason, ...]
    max_energy_wh: int | None = None
    wanted: tuple[Reason, ...] = ()
    prompts: frozenset[Prompt] = frozenset()
    open: tuple[Reason, ...] = ()


RULES: tuple[Rule, ...] = (
    Rule(policy_in_force, when_missing=Effect.DENY, waivable=True),
    Rule(clock_trusted, when_missing=Effect.DENY),
    Rule(card_undoubted, when_missing=Effect.DENY),
    Rule(token_known, when_missing=Effect.DENY),
    Rule(not_revoked, when_missing=Effect.DENY),
    Rule(backend_agrees, when_missing=Effect.WARN, waivable=True),
    Rule(token_active, when_missing=Effect.DENY, waivable=True),
    Rule(group_known, when_missing=Effect.DENY),
    Rule(assured_enough, when_missing=Effect.DENY, kind=Kind.ASSURANCE, waivable=True),
    Rule(network_allowed, when_missing=Effect.DENY, kind=Kind.NETWORKS, waivable=True),
    Rule(country_allowed, when_missing=Effect.DENY, kind=Kind.COUNTRIES, waivable=True),
    Rule(inside_fence, when_missing=Effect.DENY, kind=Kind.GEOFENCE, waivable=True),
    Rule(site_allowed, when_missing=Effect.DENY, kind=Kind.SITES, waivable=True),
    Rule(site_preferred, when_missing=Effect.WARN, effect=Effect.WARN),
    Rule(place_sure, when_missing=Effect.WARN, effect=Effect.WARN, kind=Kind.PLACE, waivable=True),
    Rule(inside_window, when_missing=Effect.DENY, kind=Kind.SCHEDULE, waivable=True),
    Rule(no_holiday, when_missing=Effect.DENY, kind=Kind.HOLIDAYS, waivable=True),
    Rule(calendar_current, when_missing=Effect.WARN, kind=Kind.HOLIDAYS, waivable=True),
    Rule(connector_allowed, when_missing=Effect.WARN, kind=Kind.CONNECTORS, waivable=True),
    Rule(power_within, when_missing=Effect.WARN, kind=Kind.POWER, waivable=True),
    Rule(price_within, when_missing=Effect.DENY, kind=Kind.PRICES, waivable=True),
    Rule(currency_known, when_missing=Effect.DENY, kind=Kind.PRICES, waivable=True),
    Rule(session_affordable, when_missing=Effect.WARN, kind=Kind.COST, waivable=True),
    Rule(within_budget, when_missing=Effect.DENY, waivable=True),
    Rule(budget_known, when_missing=Effect.WARN, effect=Effect.WARN),
    Rule(energy_metered, when_missing=Effect.WARN, kind=Kind.LIMITS, waivable=True),
    Rule(battery_needs_it, when_missing=Effect.WARN, kind=Kind.SOC, waivable=True),
    Rule(not_concurrent, when_missing=Effect.DENY, waivable=True),
    Rule(not_too_often, when_missing=Effect.DENY, kind=Kind.VELOCITY, waivable=True),
    Rule(not_too_soon, when_missing=Effect.DENY, kind=Kind.VELOCITY, waivable=True),
    Rule(pin_given, when_missing=Effect.DENY, waivable=True),
    Rule(odometer_given, when_missing=Effect.DENY),
    Rule(storage_ready, when_missing=Effect.DENY),
    Rule(one_card, when_missing=Effect.DENY),
    Rule(charger_free, when_missing=Effect.DENY),
    Rule(charger_reachable, when_missing=Effect.DENY),
)


SILENCE = Findings(refusals=(), warnings=())
BY_CHECK = {rule.check: rule for rule in RULES}
UNSIEVED = tuple(rule for rule in RULES if rule.check not in COVERED)


def objections(request: Request, policy: Policy | None, usage: Usage, now: Instant) -> Findings:
    """Of every rule. Those that cannot have any are not asked; SILENCE itself when that are all."""
    suspected = suspects(request, policy, usage, now)
    if suspected is None:
        return objections_of(RULES, request, policy, usage, now)
    if suspected or UNSIEVED:
        asked = [*UNSIEVED, *(BY_CHECK[each] for each in dict.fromkeys(suspected))]
        return objections_of(asked, request, policy, usage, now)
    return SILENCE


def objections_of(
    rules: Iterable[Rule], request: Request, policy: Policy | None, usage: Usage, now: Instant
) -> Findings:
    """Of these rules; what is made of their objections does not depend on their order."""
    levels = () if policy is None or request.token is None else tuple(policy.levels(request.token.group) or ())
    asked = Question(request=request, policy=policy, usage=usage, now=now, levels=levels)
    refusals: list[Reason] = []
    warnings: list[Reason] = []
    stated: list[int] = []
    wanted: list[Reason] = []
    prompts: set[Prompt] = set()
    unanswered: list[Reason] = []
    for rule in rules:
        for found in rule.check(asked):
            verdict = rule.verdict(found)
            if verdict.max_energy_wh is not None and not request.metered:
                verdict = Lenience(effect=Effect.DENY)  # what is allowed only so far must be counted
            if found.prompt is not None:
                wanted.append(rule.reason(found))
                prompts.add(found.prompt)
                continue
            if found.ask:
                unanswered.append(rule.reason(found))
                continue
            match verdict.effect:
                case Effect.DENY:
                    refusals.append(rule.reason(found))
                case Effect.REQUIRE:
                    hindrance = next(iter(pin_wanted(asked)), None)
                    if hindrance is None:
                        warnings.append(rule.reason(found))
                    elif hindrance.prompt is None:
                        refusals += [rule.reason(found), rule.reason(hindrance)]
                    else:
                        wanted += [rule.reason(found), rule.reason(hindrance)]
                        prompts.add(hindrance.prompt)
                case Effect.WARN:
                    warnings.append(rule.reason(found))
                case Effect.ALLOW:
                    pass
                case _:
                    assert_never(verdict.effect)
            if verdict.max_energy_wh is not None:
                stated.append(verdict.max_energy_wh)
    return Findings(
        refusals=tuple(refusals),
        warnings=tuple(warnings),
        max_energy_wh=min(stated, default=None),
        wanted=tuple(wanted),
        prompts=frozenset(prompts),
        open=tuple(unanswered),
    )


def waivable() -> frozenset[str]:
    """The names of the rules that a signed override may outweigh."""
    return frozenset(rule.name for rule in RULES if rule.waivable)
