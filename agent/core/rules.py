"""The fleet's rules: a tuple of small named functions, each named for what it wants.

A rule answers with its objections. It never knows of another rule, their order never matters, and each says what
missing data means to it. Emptiness refuses. Their mapping to peers' statuses is statuses.py.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass
from datetime import datetime, timedelta
from enum import StrEnum

from agent.core.credentials import Assurance
from agent.core.instants import Instant
from agent.core.policy import (
    Freshness,
    Group,
    Policy,
    Schedule,
    TokenStatus,
    Window,
    normalise_country,
    normalise_network,
)
from agent.core.reasons import Reason, ReasonCode
from agent.core.requests import Request, Usage


class Effect(StrEnum):
    """What an objection does to the decision."""

    DENY = "deny"
    WARN = "warn"
    ALLOW = "allow"


@dataclass(frozen=True, slots=True, kw_only=True)
class Objection:
    """What a rule found wrong. `missing` says that it could not look, which `Rule.when_missing` then judges."""

    code: ReasonCode
    observed: str = ""
    limit: str = ""
    group: str | None = None
    missing: bool = False


Check = Callable[[Request, Policy | None, Usage, Instant], Iterable[Objection]]


@dataclass(frozen=True, slots=True)
class Rule:
    """One rule of the table below: its function, and what it makes of missing data."""

    check: Check
    when_missing: Effect

    @property
    def name(self) -> str:
        return self.check.__name__


def objections(
    request: Request, policy: Policy | None, usage: Usage, now: Instant
) -> tuple[tuple[Reason, ...], tuple[Reason, ...]]:
    """(refusals, warnings) of every rule, in the table's order."""
    refusals: list[Reason] = []
    warnings: list[Reason] = []
    for rule in RULES:
        for found in rule.check(request, policy, usage, now):
            reason = Reason(
                code=found.code,
                rule=rule.name,
                observed=found.observed,
                limit=found.limit,
                group=found.group,
                missing=found.missing,
            )
            match rule.when_missing if found.missing else Effect.DENY:
                case Effect.DENY:
                    refusals.append(reason)
                case Effect.WARN:
                    warnings.append(reason)
                case Effect.ALLOW:
                    pass
    return tuple(refusals), tuple(warnings)


def policy_in_force(request: Request, policy: Policy | None, usage: Usage, now: Instant) -> Iterator[Objection]:
    """There is a policy, and it is young enough; a stale one serves only tokens flagged for offline use.

    With an unproven clock the age of a policy from an earlier boot is a guess: it is then taken as stale at best.
    """
    if policy is None:
        yield Objection(code=ReasonCode.NO_POLICY, observed="none", missing=True)
        return
    age = policy_age(policy, now)
    guessed = not now.trusted and now.boot != policy.confirmed_boot
    match Freshness.STALE if guessed and age <= policy.stale_after else freshness(policy, age):
        case Freshness.EXPIRED:
            yield Objection(code=ReasonCode.POLICY_EXPIRED, observed=hours(age), limit=hours(policy.expired_after))
        case Freshness.STALE if request.token is not None and not request.token.offline:
            observed = f"{hours(age)} by an unproven clock" if guessed else hours(age)
            yield Objection(code=ReasonCode.CACHE_STALE, observed=observed, limit=hours(policy.stale_after))


def clock_trusted(request: Request, policy: Policy | None, usage: Usage, now: Instant) -> Iterator[Objection]:
    """Whatever depends on the hour needs a clock that is proven; a clock before the proven floor never grants."""
    if now.trusted:
        return
    depends = request.token is not None and (request.token.not_before is not None or request.token.until is not None)
    depends = depends or any(level.schedule is not None for level in levels(request, policy))
    if depends or now.is_set_back:
        yield Objection(
            code=ReasonCode.CLOCK_UNTRUSTED,
            observed=f"{now.quality} {now.utc:%Y-%m-%dT%H:%MZ}",
            limit=f"not before {now.floor:%Y-%m-%dT%H:%MZ}",
        )


def token_known(request: Request, policy: Policy | None, usage: Usage, now: Instant) -> Iterator[Objection]:
    """The credential names somebody and that token is in the fleet's table."""
    if request.crowded:
        return  # one_card says so; which of them is meant is not known
    if request.lookup_failed:
        yield Objection(code=ReasonCode.CACHE_UNREADABLE, missing=True)
    elif request.credential.assurance is Assurance.RANDOM or not request.credential.is_identity:
        yield Objection(code=ReasonCode.TOKEN_RANDOM_UID, observed=request.credential.assurance)
    elif request.token is None:
        yield Objection(code=ReasonCode.TOKEN_UNKNOWN, missing=True)


def token_active(request: Request, policy: Policy | None, usage: Usage, now: Instant) -> Iterator[Objection]:
    """Not blocked, and not_before <= now < until. Expiry looks at the latest proven time, a start at the clock."""
    token = request.token
    if token is None:
        return  # token_known has said so
    if token.status is not TokenStatus.ACTIVE:
        yield Objection(code=ReasonCode.TOKEN_BLOCKED, observed=token.status, limit=TokenStatus.ACTIVE)
    if token.not_before is not None and now.utc < token.not_before:
        yield Objection(code=ReasonCode.TOKEN_NOT_YET_VALID, observed=stamp(now.utc), limit=stamp(token.not_before))
    if token.until is not None and now.latest >= token.until:
        yield Objection(code=ReasonCode.TOKEN_EXPIRED, observed=stamp(now.latest), limit=stamp(token.until))


def group_known(request: Request, policy: Policy | None, usage: Usage, now: Instant) -> Iterator[Objection]:
    """The token's group and all its ancestors are in the policy: a token without rules charges nowhere."""
    if policy is None or request.token is None:
        return  # policy_in_force, token_known have said so
    if policy.levels(request.token.group) is None:
        yield Objection(
            code=ReasonCode.NO_POLICY,
            observed=request.token.group,
            limit="a group of the policy",
            missing=True,
        )


def network_allowed(request: Request, policy: Policy | None, usage: Usage, now: Instant) -> Iterator[Objection]:
    """The charger's network is in the set of every level that names one."""
    for level in levels(request, policy):
        if level.networks is None:
            continue
        limit = listed(level.networks)
        if request.place.network is None or not normalise_network(request.place.network):
            yield Objection(code=ReasonCode.NETWORK, limit=limit, group=level.id, missing=True)
        elif normalise_network(request.place.network) not in {normalise_network(each) for each in level.networks}:
            yield Objection(code=ReasonCode.NETWORK, observed=request.place.network, limit=limit, group=level.id)


def country_allowed(request: Request, policy: Policy | None, usage: Usage, now: Instant) -> Iterator[Objection]:
    """The charger's country is in the set of every level that names one."""
    for level in levels(request, policy):
        if level.countries is None:
            continue
        limit = listed(level.countries)
        if request.place.country is None or not normalise_country(request.place.country):
            yield Objection(code=ReasonCode.COUNTRY, limit=limit, group=level.id, missing=True)
        elif normalise_country(request.place.country) not in {normalise_country(each) for each in level.countries}:
            yield Objection(code=ReasonCode.COUNTRY, observed=request.place.country, limit=limit, group=level.id)


def inside_window(request: Request, policy: Policy | None, usage: Usage, now: Instant) -> Iterator[Objection]:
    """The start instant lies in a window of every level that has a schedule. UTC to local is total, also at DST.

    Where a proven moment is newer than the wall clock it is the better guess of the hour; clock_trusted bounds both.
    """
    for level in levels(request, policy):
        if level.schedule is not None and not opens(level.schedule, now.latest):
            local = now.latest.astimezone(level.schedule.zone)
            yield Objection(
                code=ReasonCode.TIME_WINDOW,
                observed=f"{local:%a %H:%M} {level.schedule.zone.key}",
                limit=spelled(level.schedule),
                group=level.id,
            )


def not_concurrent(request: Request, policy: Policy | None, usage: Usage, now: Instant) -> Iterator[Objection]:
    """One active session a token and one a vehicle, unless a group says otherwise (never more than its parents)."""
    if request.token is None:
        return
    counted = (
        (
            "token",
            usage.sessions_of_token,
            [level.max_sessions_per_token for level in levels(request, policy)],
        ),
        (
            "vehicle",
            usage.sessions_of_vehicle,
            [level.max_sessions_per_vehicle for level in levels(request, policy)],
        ),
    )
    for what, sessions, limits in counted:
        limit = min((each for each in limits if each is not None), default=1)
        if len(sessions) >= limit:
            yield Objection(
                code=ReasonCode.CONCURRENT_SESSION,
                observed=f"{len(sessions)} of this {what}",
                limit=f"{limit} a {what}",
            )


def storage_ready(request: Request, policy: Policy | None, usage: Usage, now: Instant) -> Iterator[Objection]:
    """A session that could not be recorded is not begun; room is kept for ending those that run."""
    if usage.storage_full:
        yield Objection(code=ReasonCode.STORAGE_FULL)


def one_card(request: Request, policy: Policy | None, usage: Usage, now: Instant) -> Iterator[Objection]:
    """One card in the field: with two, nobody knows who asked."""
    if request.crowded:
        yield Objection(code=ReasonCode.SEVERAL_CARDS)


def charger_free(request: Request, policy: Policy | None, usage: Usage, now: Instant) -> Iterator[Objection]:
    """No other session is open at this charger; the one who began it stops it instead (agent.py)."""
    if usage.session_at_charger is not None:
        yield Objection(code=ReasonCode.EVSE_OCCUPIED, observed=usage.session_at_charger)


def charger_reachable(request: Request, policy: Policy | None, usage: Usage, now: Instant) -> Iterator[Objection]:
    """The charger answers: a green light that cannot start anything would be a lie."""
    if not usage.charger_reachable:
        yield Objection(code=ReasonCode.EVSE_UNAVAILABLE, observed=request.charger or "none", missing=True)


RULES: tuple[Rule, ...] = (
    Rule(policy_in_force, when_missing=Effect.DENY),
    Rule(clock_trusted, when_missing=Effect.DENY),
    Rule(token_known, when_missing=Effect.DENY),
    Rule(token_active, when_missing=Effect.DENY),
    Rule(group_known, when_missing=Effect.DENY),
    Rule(network_allowed, when_missing=Effect.DENY),
    Rule(country_allowed, when_missing=Effect.DENY),
    Rule(inside_window, when_missing=Effect.DENY),
    Rule(not_concurrent, when_missing=Effect.DENY),
    Rule(storage_ready, when_missing=Effect.DENY),
    Rule(one_card, when_missing=Effect.DENY),
    Rule(charger_free, when_missing=Effect.DENY),
    Rule(charger_reachable, when_missing=Effect.DENY),
)


def policy_age(policy: Policy, now: Instant) -> timedelta:
    """By the wall clock since the signed time and by the monotonic clock since receipt in this boot: the larger."""
    age = now.latest - policy.confirmed
    if now.boot == policy.confirmed_boot:
        age = max(age, timedelta(milliseconds=now.monotonic_ms - policy.confirmed_ms))
    return max(age, timedelta(0))


def freshness(policy: Policy, age: timedelta) -> Freshness:
    if age > policy.expired_after:
        return Freshness.EXPIRED
    return Freshness.STALE if age > policy.stale_after else Freshness.FRESH


def levels(request: Request, policy: Policy | None) -> tuple[Group, ...]:
    """The groups that bind this token, nearest first; none when there is nothing to ask (group_known refuses then)."""
    if policy is None or request.token is None:
        return ()
    return tuple(policy.levels(request.token.group) or ())


def opens(schedule: Schedule, utc: datetime) -> bool:
    local = utc.astimezone(schedule.zone)
    minute = local.hour * 60 + local.minute
    return any(contains(window, local.weekday(), minute) for window in schedule.windows)


def contains(window: Window, weekday: int, minute: int) -> bool:
    """[start, end); an end before the start wraps past midnight and belongs to the weekday on which it started.

    An end equal to the start leaves nothing open, as [start, end) says: the whole day is 00:00 to 24:00.
    """
    if window.start_minute <= window.end_minute:
        return weekday in window.weekdays and window.start_minute <= minute < window.end_minute
    yesterday = (weekday - 1) % 7
    return (weekday in window.weekdays and minute >= window.start_minute) or (
        yesterday in window.weekdays and minute < window.end_minute
    )


WEEKDAYS = ("Mon", "Tue", "Wed", "Thu", "Fri", "Sat", "Sun")


def spelled(schedule: Schedule) -> str:
    """`Mon-Fri 22:00-06:00 Europe/Berlin`, for people."""
    windows = (
        f"{','.join(WEEKDAYS[day] for day in sorted(window.weekdays))} "
        f"{clock(window.start_minute)}-{clock(window.end_minute)}"
        for window in schedule.windows
    )
    return f"{'; '.join(windows) or 'never'} {schedule.zone.key}"


def clock(minute: int) -> str:
    return f"{minute // 60:02}:{minute % 60:02}"


def listed(values: frozenset[str]) -> str:
    return ",".join(sorted(values)) or "none"


def hours(age: timedelta) -> str:
    return f"{age.total_seconds() / 3600:.1f} h"


def stamp(moment: datetime) -> str:
    return f"{moment:%Y-%m-%dT%H:%M:%SZ}"
