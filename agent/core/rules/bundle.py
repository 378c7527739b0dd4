"""Rules about the policy itself and the clock that it is judged by: is there one, is it young enough, is it now?"""

from __future__ import annotations

from collections.abc import Iterator
from datetime import timedelta

from agent.core.instants import Instant
from agent.core.policy import Freshness, Policy
from agent.core.reasons import ReasonCode
from agent.core.rules.live import is_open, was_confirmed
from agent.core.rules.question import Objection, Question, binds, hours
from agent.core.terms import Kind


def policy_in_force(asked: Question) -> Iterator[Objection]:
    """There is a policy, and it is young enough; a stale one serves only tokens flagged for offline use.

    The backend's own word on the token serves as well. With an unproven clock the age of a policy from an earlier boot
    is a guess: it is then taken as stale at best.
    """
    policy, now, token = asked.policy, asked.now, asked.request.token
    if policy is None:
        yield Objection(code=ReasonCode.NO_POLICY, observed="none", missing=True)
        return
    age = policy_age(policy, now)
    match freshness_at(policy, now):
        case Freshness.EXPIRED:
            yield Objection(code=ReasonCode.POLICY_EXPIRED, observed=hours(age), limit=hours(policy.expired_after))
        case Freshness.STALE if token is not None and not token.offline and not was_confirmed(asked.request):
            observed = hours(age) if age > policy.stale_after else f"{hours(age)} by an unproven clock"
            limit, ask = hours(policy.stale_after), is_open(asked.request)
            yield Objection(code=ReasonCode.CACHE_STALE, observed=observed, limit=limit, ask=ask)


def clock_trusted(asked: Question) -> Iterator[Objection]:
    """Whatever depends on the hour needs a clock that is proven; a clock before the proven floor never grants."""
    now, token = asked.now, asked.request.token
    if now.trusted:
        return
    depends = token is not None and (token.not_before is not None or token.until is not None)
    depends = depends or any(
        (level.schedule is not None and binds(level, Kind.SCHEDULE))
        or (level.holidays is not None and binds(level, Kind.HOLIDAYS))
        or ((level.velocity is not None or level.min_gap_s is not None) and binds(level, Kind.VELOCITY))
        for level in asked.levels
    )
    if depends or now.is_set_back:
        yield Objection(
            code=ReasonCode.CLOCK_UNTRUSTED,
            observed=f"{now.quality} {now.utc:%Y-%m-%dT%H:%MZ}",
            limit=f"not before {now.floor:%Y-%m-%dT%H:%MZ}",
        )


def group_known(asked: Question) -> Iterator[Objection]:
    """The token's group and all its ancestors are in the policy: a token without rules charges nowhere."""
    if asked.policy is None or asked.request.token is None:
        return  # policy_in_force, token_known have said so
    if not asked.levels:
        yield Objection(
            code=ReasonCode.NO_POLICY,
            observed=asked.request.token.group,
            limit="a group of the policy",
            missing=True,
        )


def policy_age(policy: Policy, now: Instant) -> timedelta:
    """By the wall clock since the signed time and by the monotonic clock since receipt in this boot: the larger."""
    age = now.latest - policy.confirmed
    if now.boot == policy.confirmed_boot:
        age = max(age, timedelta(milliseconds=now.monotonic_ms - policy.confirmed_ms))
    return max(age, timedelta(0))


def freshness_at(policy: Policy, now: Instant) -> Freshness:
    """The rung of the ladder by which is decided: with an unproven clock it is never the first."""
    age = policy_age(policy, now)
    guessed = not now.trusted and now.boot != policy.confirmed_boot
    return Freshness.STALE if guessed and age <= policy.stale_after else freshness(policy, age)


def freshness(policy: Policy, age: timedelta) -> Freshness:
    if age > policy.expired_after:
        return Freshness.EXPIRED
    return Freshness.STALE if age > policy.stale_after else Freshness.FRESH
