"""The machine's dealings with budgets: reserve before the green light, settle at the end, ask for leases in time.

What a session needs is claims.py, the leases are budgets.py. A reservation becomes durable with the session's
authorisation, before anybody sees a green light; its end is settled in the record of the end. A question for leases is
a record, too: it reaches the backend behind everything that was spent before it, and survives whatever happens here.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from dataclasses import replace
from types import MappingProxyType

from agent.core import facts, observations
from agent.core.budgets import Budget, Held, Holdings, LeaseUse, Scope, UsedUp, Want, bound
from agent.core.claims import Claim, claims_of, held_to, spent_by, wanted_of
from agent.core.decisions import Granted, limits_for
from agent.core.effects import Record, Seal, WakeAt
from agent.core.facts import Holder
from agent.core.instants import Instant
from agent.core.memory import Effects, Memory
from agent.core.requests import Request
from agent.core.sessions import Session

ASK_AGAIN_MS = 15 * 60_000  # what the backend could not give a moment ago
USED_UP_MS = 4 * 3_600_000  # what it said that it has no more of: somebody may give back, or the fleet allow more
HURRY_MS = 60_000  # when somebody stands there and was refused for it
LOOK_MS = 30 * 60_000  # leases grow old without anybody tapping
MOST_WANTED = 64


class Budgeting:
    def __init__(self, memory: Memory) -> None:
        self._memory = memory

    @property
    def _holdings(self) -> Holdings:
        return self._memory.state.holdings

    def _change(self, **changes: object) -> None:
        self._memory.change(holdings=replace(self._holdings, **changes))  # type: ignore[arg-type]

    def claims(self, asked: Request, holder: Holder, now: Instant) -> tuple[Claim, ...]:
        """What the budgets say to this question; nothing where no budget is."""
        policy, token = self._memory.state.policy, asked.token
        if policy is None or token is None or not policy.budgets:
            return ()
        limits = limits_for(asked, token, policy, now)
        return claims_of(asked, policy.budgets, subjects_of(holder), limits, self._holdings, now)

    def held_to(self, granted: Granted, claims: Iterable[Claim], asked: Request) -> Granted:
        return replace(granted, limits=held_to(granted.limits, claims, asked))

    def reserve(self, claims: Iterable[Claim], now: Instant) -> tuple[LeaseUse, ...]:
        """To be recorded with the authorisation; nothing is reserved before that is durable."""
        uses: list[LeaseUse] = []
        for claim in claims:
            if claim.code is None and claim.key is not None:
                basis = claim.budget.basis if claim.budget.currency is not None else None
                holdings, taken = self._holdings.reserve(
                    claim.key, claim.needed, now, unit=claim.budget.unit, basis=basis
                )
                self._memory.change(holdings=holdings)
                uses += taken
        return tuple(uses)

    def note(self, claims: Iterable[Claim], now: Instant) -> None:
        """Somebody wants to charge: from now on these budgets are asked for, and soon where this was refused."""
        claims = tuple(claims)
        if not claims:
            return
        wanted = {**self._holdings.wanted, **dict(wanted_of(claims))}
        asked = dict(self._holdings.asked_ms)
        for claim in claims:
            if claim.code is not None and claim.key in asked:
                hurry_ms = now.monotonic_ms - self._again_ms(claim.key, now) + HURRY_MS
                asked[claim.key] = min(asked[claim.key], hurry_ms)
        newest = dict(list(wanted.items())[-MOST_WANTED:])
        self._change(wanted=MappingProxyType(newest), asked_ms=MappingProxyType(asked))

    def settled(self, session: Session, ended: facts.SessionEnded) -> facts.SessionEnded:
        """The end with what it took of its leases; the rest of the reservation is free again."""
        if not session.reserved:
            return ended
        spent = spent_by(
            session,
            complete=ended.complete,
            energy_wh=ended.energy_wh,
            net=None if ended.cost is None else ended.cost.net,
            gross=None if ended.cost is None else ended.cost.gross,
        )
        holdings, uses = self._holdings.settle(session.reserved, spent)
        self._memory.change(holdings=holdings)
        return replace(ended, leases=uses or None)

    def granted(self, seen: observations.GrantReceived, now: Instant) -> Effects:
        """A grant that is older than the newest one, or says the same, changes nothing."""
        before = self._holdings
        if seen.number <= before.message:
            return ()
        after = before.granted(seen.leases, message=seen.number, used_up=seen.used_up, now=now)
        new = [id for id in after.held if id not in before.held]
        answered = {after.held[id].lease.budget for id in new}
        asked = {key: at_ms for key, at_ms in after.asked_ms.items() if key not in answered}
        after = replace(after, asked_ms=MappingProxyType(asked))
        self._memory.change(holdings=after)
        if not new and dict(after.used_up) == dict(before.used_up):
            return ()
        replaced = [after.held[id] for id in seen.replaces if id in after.held and new and after.held[id].reserved == 0]
        told: list[facts.Fact] = [self._snapshot(after)]
        if replaced:
            holdings, closed = after.close(each for each in replaced if not each.closed)
            self._memory.change(holdings=holdings)
            told.append(facts.BudgetAsked(wants=(), closed=closed))
        return (Record(facts=tuple(told)), Seal())

    def began_anew(self, seen: observations.JournalChanged) -> Effects:
        """Another journal is another epoch: nothing more is taken from the leases of before."""
        self._change(journal=seen.journal, asked_ms=MappingProxyType({}))
        return ()

    def look(self, now: Instant) -> Effects:
        """Ask for what is short, and give back what is over. Only while somebody can hear it, and where there is room:
        the last of it is for the ends of sessions."""
        state, policy, holdings = self._memory.state, self._memory.state.policy, self._holdings
        if policy is None or not (policy.budgets or holdings.held) or not state.link_up or state.storage_full:
            return ()
        due = [key for key in self._keys(policy.budgets) if self._is_due(key, now)]
        closing = holdings.closing(now)
        wake = self._wake(now)
        if not due and not closing:
            return wake
        holdings, closed = holdings.close(closing)
        asked = {**holdings.asked_ms, **dict.fromkeys(due, now.monotonic_ms)}
        self._memory.change(holdings=replace(holdings, asked_ms=MappingProxyType(asked)))
        fact = facts.BudgetAsked(
            wants=tuple(Want(budget=key, need=holdings.wanted.get(key, 0)) for key in due),
            closed=closed,
            leases=tuple(each.use() for each in holdings.held.values() if not each.closed and each.count > 0) or None,
        )
        return (Record(facts=(fact,)), Seal(), *wake)

    def _wake(self, now: Instant) -> Effects:
        if self._holdings.look_ms > now.monotonic_ms:
            return ()
        self._change(look_ms=now.monotonic_ms + LOOK_MS)
        return (WakeAt(monotonic_ms=now.monotonic_ms + LOOK_MS),)

    def _keys(self, budgets: Iterable[Budget]) -> Iterator[str]:
        """Those of this vehicle, and those that somebody tapped for."""
        policy, vehicle = self._memory.state.policy, self._memory.setup.vehicle
        known = policy.vehicles.get(vehicle) if policy is not None and vehicle is not None else None
        subjects = {Scope.VEHICLE: vehicle, Scope.COST_CENTRE: known.cost_centre if known is not None else None}
        ids = {budget.id for budget in budgets}
        own = [key for _, key in bound(budgets, subjects) if key is not None]
        yield from dict.fromkeys([*own, *(key for key in self._holdings.wanted if key.partition("/")[0] in ids)])

    def _is_due(self, key: str, now: Instant) -> bool:
        holdings = self._holdings
        asked = holdings.asked_ms.get(key)
        if asked is not None and now.monotonic_ms - asked < self._again_ms(key, now):
            return False
        leases = tuple(holdings.in_force(key, now))
        free, lent = sum(each.free for each in leases), sum(each.lease.amount for each in leases)
        need = min(holdings.wanted.get(key, 0), holdings.per_session(key, now))
        if not leases or free < max(1, need) or 2 * free < lent:
            return True
        return all(is_half_over(each, now) for each in leases)

    def _again_ms(self, key: str, now: Instant) -> int:
        until = self._holdings.used_up.get(key)
        return USED_UP_MS if until is not None and now.latest < until else ASK_AGAIN_MS

    def _snapshot(self, holdings: Holdings) -> facts.BudgetGranted:
        held = [each for each in holdings.held.values() if not each.closed]
        return facts.BudgetGranted(
            message=holdings.message,
            newest=holdings.newest,
            held=tuple(each.lease for each in held),
            leases=tuple(each.use() for each in held),
            used_up=tuple(UsedUp(budget=key, until=until) for key, until in holdings.used_up.items()),
        )


def is_half_over(held: Held, now: Instant) -> bool:
    start = max(held.lease.issued_at, held.lease.not_before)
    return now.latest >= start + (held.lease.spend_until - start) / 2


def subjects_of(holder: Holder) -> Mapping[Scope, str | None]:
    return {Scope.DRIVER: holder.driver, Scope.VEHICLE: holder.vehicle, Scope.COST_CENTRE: holder.cost_centre}
