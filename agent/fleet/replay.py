"""Which past decisions another policy would have changed: a journal's decisions, asked again.

The records of a journal hold what a decision looked at, and its sessions hold what was going on; what neither holds is
assumed, and each replayed decision says so. Read-only; the decision is agent/core's own.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from datetime import datetime, timedelta
from enum import StrEnum

from agent.cache.contents import Contents
from agent.core.decisions import AskBackend, Decision, Granted, NeedsInput, Refused, decide
from agent.core.facts import (
    DecisionMade,
    JournalOpened,
    Outcome,
    PinTried,
    SessionAuthorised,
    SessionEnded,
)
from agent.core.history import History, Visit
from agent.core.instants import ClockQuality, Instant
from agent.core.pins import PinState
from agent.core.policy import Token
from agent.core.reasons import Reason, ReasonCode
from agent.core.requests import Given, Request, Usage
from agent.core.rules.budget import within_budget
from agent.core.rules.card import DOUBTED
from agent.core.statuses import by_severity
from agent.fleet.trial import policy_of
from agent.wire import Record, UnknownType, Unreadable, open_record

CREATED = "created"


class Gap(StrEnum):
    """What a record does not hold, and what is taken instead."""

    CARD = "the card is not in this policy's list, or the list was made with another reference key: taken as unknown"
    HISTORY = "the journal begins later than the rules look back: earlier sessions are taken as none"
    METER = "whether the charger tells energy is not recorded: taken as yes"
    PRICES = "the prices of then are taken; worked out of a tariff, they could be others under other limits"
    RECEIPT = "how the device came to its policy's age is not recorded: the age itself is taken"
    PIN = "which PIN was tried is not recorded: what came of it then is taken"
    LIVE = "the backend's word of then is taken; another policy might not have asked, or asked for the first time"
    OVERRIDE = "overrides are not replayed: this one was granted by an override"
    BUDGET = (
        "which leases the device held is not asked again: what the budgets said then is taken, if there are any now"
    )
    PROMPTED = "what the driver was not asked for then cannot be known: taken as not given"


@dataclass(frozen=True, slots=True, kw_only=True)
class Verdict:
    outcome: str
    codes: tuple[str, ...]

    def __str__(self) -> str:
        return f"{self.outcome} ({', '.join(self.codes)})" if self.codes else self.outcome


@dataclass(frozen=True, slots=True, kw_only=True)
class Replayed:
    """One decision, then and now. `gaps` are those that may have changed the verdict here."""

    sequence: int
    decision: str
    time: datetime
    card: str
    before: Verdict
    after: Verdict
    reasons: tuple[Reason, ...]
    gaps: tuple[Gap, ...]

    @property
    def is_changed(self) -> bool:
        return self.before.outcome != self.after.outcome

    @property
    def has_other_reasons(self) -> bool:
        return not self.is_changed and self.before.codes != self.after.codes


@dataclass(frozen=True, slots=True, kw_only=True)
class Report:
    replayed: tuple[Replayed, ...]
    unreadable: int
    gaps: Mapping[Gap, int]

    @property
    def changes(self) -> Counter[tuple[str, str]]:
        """How many went from which outcome to which, also those that stayed."""
        return Counter((each.before.outcome, each.after.outcome) for each in self.replayed)


def replay(bodies: Iterable[bytes], contents: Contents, tokens: Mapping[str, Token]) -> Report:
    """`tokens` by the reference that this fleet's key gives them."""
    past = _Past()
    replayed: list[Replayed] = []
    gaps: Counter[Gap] = Counter()
    unreadable = 0
    for body in bodies:
        try:
            record = open_record(body)
        except UnknownType:
            continue
        except Unreadable:
            unreadable += 1
            continue
        if isinstance(record.fact, DecisionMade):
            found = _again(record, record.fact, contents, tokens, past)
            replayed.append(found)
            gaps.update(found.gaps)
        past.saw(record)
    return Report(replayed=tuple(replayed), unreadable=unreadable, gaps=gaps)


class _Past:
    """What the device knew of earlier sessions, as far as this journal tells."""

    def __init__(self) -> None:
        self.history = History()
        self.open: dict[str, SessionAuthorised] = {}
        self.begins: datetime | None = None
        self._is_first = True

    def saw(self, record: Record) -> None:
        if self._is_first:
            self._is_first = False
            made = isinstance(record.fact, JournalOpened) and record.fact.reason == CREATED
            self.begins = None if made else record.time
        match record.fact:
            case SessionAuthorised() as fact:
                self.open[fact.session] = fact
                if fact.odometer_km is not None and fact.holder.vehicle is not None:
                    self.history = self.history.with_odometer(fact.holder.vehicle, fact.odometer_km)
            case SessionEnded() as fact:
                self.open.pop(fact.session, None)
                if fact.started and fact.credential.is_identity:
                    visit = Visit(began=fact.authorised_at, ended=fact.ended_at)
                    self.history = self.history.with_visit(fact.credential.reference, visit)
            case PinTried() as fact:
                self.history = self.history.with_try(fact.driver, fact.salt, right=fact.right)

    def usage(self, fact: DecisionMade, request: Request, wrong_pins: int) -> Usage:
        said = {reason.code for reason in (*fact.reasons, *fact.warnings)}
        reference, vehicle = fact.credential.reference, request.vehicle
        return Usage(
            sessions_of_token=tuple(
                each.session for each in self.open.values() if reference and each.credential.reference == reference
            ),
            sessions_of_vehicle=tuple(
                each.session for each in self.open.values() if vehicle is not None and each.holder.vehicle == vehicle
            ),
            # What was wrong with the charger and the storage is in the reasons of then, whatever the policy.
            session_at_charger="then" if ReasonCode.EVSE_OCCUPIED in said else None,
            charger_reachable=ReasonCode.EVSE_UNAVAILABLE not in said,
            storage_full=ReasonCode.STORAGE_FULL in said,
            past=self.history.of(reference),
            wrong_pins=wrong_pins,
            last_odometer_km=self.history.odometers_km.get(vehicle or ""),
        )


def _again(
    record: Record, fact: DecisionMade, contents: Contents, tokens: Mapping[str, Token], past: _Past
) -> Replayed:
    said = {reason.code for reason in (*fact.reasons, *fact.warnings)}
    now = Instant(
        utc=record.time,
        # That the clock stood before a proven moment is told by the reason of then; the moment itself is not.
        floor=record.time + (timedelta(days=1) if _was_set_back(fact) else timedelta(0)),
        monotonic_ms=record.monotonic_ms,
        boot=record.boot,
        quality=record.quality,
        entropy=b"",
    )
    age = timedelta(seconds=fact.policy.age_s) if fact.policy is not None else timedelta(0)
    policy = policy_of(contents, now, age=age)
    token = tokens.get(fact.credential.reference)
    driver = contents.drivers.get(token.driver or "") if token is not None else None
    pin = None if fact.pin_proven is None else PinState.RIGHT if fact.pin_proven else PinState.WRONG
    request = Request(
        credential=fact.credential,
        token=token,
        lookup_failed=ReasonCode.CACHE_UNREADABLE in said,
        doubt=next((doubt for doubt, code in DOUBTED.items() if code in said), None),
        reader=fact.reader,
        charger=fact.charger,
        place=fact.place,
        vehicle=(token.vehicle if token is not None else None) or fact.holder.vehicle,
        crowded=ReasonCode.SEVERAL_CARDS in said,
        prices=fact.prices,
        soc_percent=fact.soc_percent,
        given=Given(pin=pin, odometer_km=fact.odometer_km),
        heard=fact.backend,
    )
    wrong = past.history.wrong_in_a_row(driver.id, driver.pin) if driver is not None and driver.pin is not None else 0
    decision = _with_budgets(decide(request, policy, past.usage(fact, request, wrong), now), fact, contents)
    before = Verdict(outcome=fact.outcome.value, codes=_codes(fact.reasons))
    match decision:
        case Granted():
            after = Verdict(outcome=Outcome.GRANTED.value, codes=())
        case Refused():
            after = Verdict(outcome=Outcome.REFUSED.value, codes=_codes(decision.reasons))
        case NeedsInput():
            after = Verdict(outcome=Outcome.NEEDS_INPUT.value, codes=_codes(decision.reasons))
        case AskBackend():
            after = Verdict(outcome="asks_backend", codes=_codes(decision.reasons))
    reasons = () if isinstance(decision, Granted) else decision.reasons
    is_known_stranger = fact.holder.label is None
    gaps = _gaps(fact, request, contents, past, reasons, is_known_stranger=is_known_stranger)
    return Replayed(
        sequence=record.sequence,
        decision=fact.decision,
        time=record.time,
        card=fact.holder.label or f"{fact.credential.reference[:8] or 'no card'}",
        before=before,
        after=after,
        reasons=reasons,
        gaps=tuple(gaps),
    )


def _with_budgets(decision: Decision, fact: DecisionMade, contents: Contents) -> Decision:
    said = tuple(reason for reason in fact.reasons if reason.rule == within_budget.__name__)
    if not said or not contents.budgets:
        return decision
    others = decision.reasons if isinstance(decision, Refused) else ()
    return Refused(reasons=by_severity((*others, *said)), warnings=decision.warnings)


def _gaps(
    fact: DecisionMade,
    request: Request,
    contents: Contents,
    past: _Past,
    reasons: tuple[Reason, ...],
    *,
    is_known_stranger: bool,
) -> Iterator[Gap]:
    """Only those that bear on this decision: a gap that changes nothing is no news."""
    token = request.token
    if token is None:
        if not is_known_stranger:
            yield Gap.CARD
        return
    levels = []
    name: str | None = token.group
    while name is not None and name in contents.groups:
        levels.append(contents.groups[name])
        name = levels[-1].parent
    if any(level.velocity is not None or level.min_gap_s is not None for level in levels) and past.begins is not None:
        yield Gap.HISTORY
    if any(level.max_energy_wh is not None for level in levels):
        yield Gap.METER
    if fact.prices is not None and any(level.prices is not None for level in levels):
        yield Gap.PRICES
    if fact.clock is not ClockQuality.SYNCHRONISED:
        yield Gap.RECEIPT
    if fact.pin_proven is not None:
        yield Gap.PIN
    if token.whitelist.asks or fact.backend is not None:
        yield Gap.LIVE
    if fact.override is not None:
        yield Gap.OVERRIDE
    if contents.budgets:
        yield Gap.BUDGET
    if any(reason.code in (ReasonCode.PIN, ReasonCode.ODOMETER) for reason in reasons):
        yield Gap.PROMPTED


def _codes(reasons: Iterable[Reason]) -> tuple[str, ...]:
    return tuple(dict.fromkeys(reason.code.value for reason in reasons))


def _was_set_back(fact: DecisionMade) -> bool:
    clock = [reason for reason in fact.reasons if reason.code is ReasonCode.CLOCK_UNTRUSTED]
    return bool(clock) and fact.clock is not ClockQuality.UNKNOWN


__all__ = ["Gap", "Replayed", "Report", "Verdict", "replay"]
