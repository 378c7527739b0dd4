"""What a look of a reader or a question leads to: a decision, a session begun, or a stop of what the card began."""

from __future__ import annotations

from dataclasses import replace
from typing import assert_never

from agent.core import facts, observations, texts
from agent.core.charging import Charging
from agent.core.credentials import RANDOM, Assurance
from agent.core.decisions import Decision, Granted, NeedsInput, Refused, decide
from agent.core.effects import (
    Feedback,
    Record,
    Reply,
    Signal,
    StartCharging,
    StopCharging,
    WakeAt,
)
from agent.core.facts import EndReason, Holder, Outcome, Trigger
from agent.core.instants import Instant, time_ordered_id
from agent.core.limits import Limits
from agent.core.memory import Effects, Memory, with_item
from agent.core.observations import Presented
from agent.core.pins import MOST_TRIES, PinState, tried
from agent.core.policy import Token, TokenStatus
from agent.core.presence import Crowd, Presence, Tap, anonymous, lay_already, look, reader_back
from agent.core.requests import NOTHING, Given, Place, Request, Told, Usage
from agent.core.rules import policy_age
from agent.core.sessions import Phase, Session, start
from agent.core.sites import Sites
from agent.core.statuses import statuses_of
from agent.core.terms import Effect, Prompt
from agent.core.whereabouts import linked, located

OUTCOMES: dict[type[Decision], Outcome] = {
    Granted: Outcome.GRANTED,
    Refused: Outcome.REFUSED,
    NeedsInput: Outcome.NEEDS_INPUT,
}
STRANGER = Presented(credential=RANDOM, token=None)


class Tapping:
    def __init__(self, memory: Memory, charging: Charging) -> None:
        self._memory = memory
        self._charging = charging

    def look(self, seen: observations.Sighted, now: Instant) -> Effects:
        before = self._memory.state.presences.get(seen.reader, Presence())
        cards = [presented.credential for presented in seen.presented]
        after, outcome = look(before, cards, seen.monotonic_ms)
        self._memory.change(presences=with_item(self._memory.state.presences, seen.reader, after))
        waited_ms = max(0, now.monotonic_ms - seen.monotonic_ms)
        match outcome:
            case Tap():
                return self.tap(seen.reader, seen.presented[0], now, waited_ms=waited_ms)  # one card, if twice
            case Crowd():
                return self.tap(seen.reader, STRANGER, now, waited_ms=waited_ms, crowded=True)
            case None:
                return ()
            case _:
                assert_never(outcome)

    def tap(
        self,
        reader: str,
        presented: Presented,
        now: Instant,
        *,
        waited_ms: int = 0,
        crowded: bool = False,
        request: str | None = None,
        told: Told = NOTHING,
    ) -> Effects:
        """Stop what this card began here, else decide whether it may begin."""
        presented = recognised(presented)
        charger = self._memory.setup.readers.get(reader)
        active = self._memory.state.open_at(charger) if charger is not None else None
        if active is not None and may_stop(active, presented):
            return self._stop_by_card(active, presented, reader, now, request)
        asked = self._request(presented, reader, charger, self._place(charger, Place(), now), told, crowded=crowded)
        asked, first = self._with_pin(asked, told)
        decision = decide(asked, self._memory.state.policy, self._usage(asked), now)
        made = self._made(asked, decision, Trigger.TAP, waited_ms, now)
        reply = (Reply(request=request, decision_id=made.decision, decision=decision, session=None),) if request else ()
        match decision:
            case Granted() if charger is not None:
                return self._authorise((*first, made), made, decision, reader, charger, now, request)
            case _:
                feedback = Feedback.PENDING if isinstance(decision, NeedsInput) else Feedback.REFUSED
                return (
                    Record(facts=(*first, made)),
                    Signal(reader=reader, feedback=feedback, text=made.text),
                    *reply,
                )

    def _authorise(
        self,
        told: tuple[facts.Fact, ...],
        made: facts.DecisionMade,
        granted: Granted,
        reader: str,
        charger: str,
        now: Instant,
        request: str | None,
    ) -> Effects:
        authorised = facts.SessionAuthorised(
            session=time_ordered_id(now, 1),
            decision=made.decision,
            credential=made.credential,
            holder=made.holder,
            place=made.place,
            reader=reader,
            charger=charger,
            max_energy_wh=granted.limits.max_energy_wh,
            max_duration_s=granted.limits.max_duration_s,
            target_soc_percent=granted.limits.target_soc_percent,
            cost=granted.limits.cost,
            odometer_km=made.odometer_km,
            authorised_at=now.utc,
            boot=now.boot,
            monotonic_ms=now.monotonic_ms,
        )
        session = start(authorised)
        self._memory.keep(session)
        if made.odometer_km is not None and made.holder.vehicle is not None:
            history = self._memory.state.history.with_odometer(made.holder.vehicle, made.odometer_km)
            self._memory.change(history=history)
        reply = (
            Reply(request=request, decision_id=made.decision, decision=granted, session=session.id) if request else None
        )
        return (
            Record(facts=(*told, authorised)),
            Signal(reader=reader, feedback=Feedback.GRANTED, text=made.text),
            *((reply,) if reply else ()),
            StartCharging(charger=charger, session=session.id, max_energy_wh=session.max_energy_wh),
            WakeAt(monotonic_ms=now.monotonic_ms + self._memory.setup.timing.start_timeout_ms),
        )

    def _stop_by_card(
        self, session: Session, presented: Presented, reader: str, now: Instant, request: str | None
    ) -> Effects:
        language = self._language(presented.token)
        signal = Signal(reader=reader, feedback=Feedback.GRANTED, text=texts.say(texts.STOPPING, language))
        reply = (
            Reply(request=request, decision_id=session.decision, decision=Granted(limits=Limits()), session=session.id)
            if request
            else None
        )
        answers = (signal, *((reply,) if reply else ()))
        if session.phase is Phase.STOPPING:
            return (*answers, StopCharging(charger=session.charger, session=session.id))
        return self._charging.stop(session, EndReason.LOCAL, presented.credential, now, answers)

    def answer(self, seen: observations.DecisionRequested, now: Instant) -> Effects:
        place = self._place(seen.charger, seen.place, now)
        asked = self._request(recognised(seen.presented), None, seen.charger, place, seen.told)
        asked, first = self._with_pin(asked, seen.told)
        decision = decide(asked, self._memory.state.policy, self._usage(asked), now)
        made = self._made(asked, decision, Trigger.REQUEST, 0, now)
        return (
            Record(facts=(*first, made)),
            Reply(request=seen.request, decision_id=made.decision, decision=decision, session=None),
        )

    def _place(self, charger: str | None, told: Place, now: Instant) -> Place:
        """A charger that is configured is where the configuration says; nobody can tell it to be elsewhere."""
        state = self._memory.state
        place = self._memory.setup.chargers.get(charger) if charger is not None else None
        if charger is not None and place is not None:
            told = linked(place, state.linked.get(charger))
        sites = state.policy.sites if state.policy is not None else Sites()
        return located(told, sites, state.fixes.values(), now)

    def _request(
        self,
        presented: Presented,
        reader: str | None,
        charger: str | None,
        place: Place,
        told: Told,
        *,
        crowded: bool = False,
    ) -> Request:
        token = presented.token
        vehicle = token.vehicle if token is not None and token.vehicle is not None else self._memory.setup.vehicle
        return Request(
            credential=presented.credential,
            token=token,
            lookup_failed=presented.lookup_failed,
            reader=reader,
            charger=charger,
            place=place,
            vehicle=vehicle,
            crowded=crowded,
            prices=told.prices or self._memory.setup.prices.get(charger or ""),
            soc_percent=told.soc_percent,
            given=Given(odometer_km=told.odometer_km),
            metered=charger not in self._memory.setup.unmetered,
        )

    def _with_pin(self, asked: Request, told: Told) -> tuple[Request, tuple[facts.Fact, ...]]:
        """Try the PIN that was given, if the policy asks for it here and it is not locked. A try is kept for ever."""
        policy, token = self._memory.state.policy, asked.token
        if told.pin is None or policy is None or token is None or token.driver is None:
            return asked, ()
        driver, levels = policy.drivers.get(token.driver), policy.levels(token.group)
        wanted = any(
            Prompt.PIN in level.prompts
            or Effect.REQUIRE in level.effects.values()
            or any(each.effect is Effect.REQUIRE for each in level.missing.values())
            for level in levels or ()
        )
        if driver is None or driver.pin is None or not wanted:
            return asked, ()
        history = self._memory.state.history
        if history.wrong_in_a_row(driver.id, driver.pin) >= MOST_TRIES:
            return asked, ()
        state = tried(driver.pin, told.pin)
        fact = facts.PinTried(driver=driver.id, salt=driver.pin.salt, right=state is PinState.RIGHT)
        self._memory.change(history=history.with_try(fact.driver, fact.salt, right=fact.right))
        return replace(asked, given=replace(asked.given, pin=state)), (fact,)

    def _wrong_pins(self, asked: Request) -> int:
        policy, name = self._memory.state.policy, asked.token.driver if asked.token is not None else None
        driver = policy.drivers.get(name) if policy is not None and name is not None else None
        if driver is None or driver.pin is None:
            return 0
        return self._memory.state.history.wrong_in_a_row(driver.id, driver.pin)

    def _usage(self, asked: Request) -> Usage:
        at_charger = self._memory.state.open_at(asked.charger) if asked.charger is not None else None
        wired = asked.charger in self._memory.setup.chargers
        return Usage(
            sessions_of_token=tuple(
                each.id
                for each in self._memory.state.open_sessions
                if asked.credential.is_identity and each.credential.reference == asked.credential.reference
            ),
            sessions_of_vehicle=tuple(
                each.id
                for each in self._memory.state.open_sessions
                if asked.vehicle is not None and each.holder.vehicle == asked.vehicle
            ),
            session_at_charger=at_charger.id if at_charger is not None else None,
            charger_reachable=(asked.charger in self._memory.state.reachable)
            if wired or asked.reader is not None
            else True,
            storage_full=self._memory.state.storage_full,
            past=self._memory.state.history.of(asked.credential.reference),
            known_since=self._memory.state.history.since,
            wrong_pins=self._wrong_pins(asked),
            last_odometer_km=self._memory.state.history.odometers_km.get(asked.vehicle or ""),
        )

    def _made(
        self, asked: Request, decision: Decision, trigger: Trigger, waited_ms: int, now: Instant
    ) -> facts.DecisionMade:
        reasons = () if isinstance(decision, Granted) else decision.reasons
        statuses = statuses_of(reasons)
        language = self._language(asked.token)
        decision_id = time_ordered_id(now, 0)
        policy = self._memory.state.policy
        limits = decision.limits if isinstance(decision, Granted) else Limits()
        return facts.DecisionMade(
            decision=decision_id,
            trigger=trigger,
            outcome=OUTCOMES[type(decision)],
            credential=asked.credential,
            holder=self._holder(asked),
            place=asked.place,
            reader=asked.reader,
            charger=asked.charger,
            reasons=reasons,
            warnings=decision.warnings,
            max_energy_wh=limits.max_energy_wh,
            max_duration_s=limits.max_duration_s,
            target_soc_percent=limits.target_soc_percent,
            cost=limits.cost,
            prices=asked.prices,
            soc_percent=asked.soc_percent,
            pin_proven=None if asked.given.pin is None else asked.given.pin is PinState.RIGHT,
            odometer_km=asked.given.odometer_km,
            policy=None
            if policy is None
            else facts.PolicyStamp(
                revision=policy.revision,
                fingerprint=policy.fingerprint,
                age_s=int(policy_age(policy, now).total_seconds()),
            ),
            clock=now.quality,
            text=texts.refusal_text(reasons, language) if reasons else texts.say(texts.GRANTED, language),
            support=decision_id[-8:].upper(),
            waited_ms=waited_ms,
            ocpi=statuses.ocpi,
            ocpp16=statuses.ocpp16,
            ocpp201=statuses.ocpp201,
            oicp=statuses.oicp,
        )

    def _holder(self, asked: Request) -> Holder:
        token, policy = asked.token, self._memory.state.policy
        if token is None:
            return Holder(vehicle=asked.vehicle)
        driver = policy.drivers.get(token.driver) if policy is not None and token.driver is not None else None
        vehicle = policy.vehicles.get(asked.vehicle) if policy is not None and asked.vehicle is not None else None
        return Holder(
            label=token.label,
            group=token.group,
            parent=token.parent,
            driver=token.driver,
            vehicle=asked.vehicle,
            cost_centre=(driver.cost_centre if driver else None) or (vehicle.cost_centre if vehicle else None),
        )

    def _language(self, token: Token | None) -> str:
        policy = self._memory.state.policy
        if token is None or token.driver is None or policy is None or token.driver not in policy.drivers:
            return texts.DEFAULT_LANGUAGE
        return policy.drivers[token.driver].language

    def reader_is_back(self, reader: str, now: Instant) -> None:
        known = self._memory.state.presences.get(reader)
        lying = reader_back(known, now.monotonic_ms) if known is not None else self._lay_already(reader, now)
        if lying is not None:
            self._memory.change(presences=with_item(self._memory.state.presences, reader, lying))

    def _lay_already(self, reader: str, now: Instant) -> Presence | None:
        """After a restart: the card that began the running session may lie there still, and that is no new tap."""
        session = self._memory.state.open_at(self._memory.setup.readers.get(reader))
        began_here = session is not None and session.reader == reader
        return lay_already(session.credential, now.monotonic_ms) if session is not None and began_here else None


def recognised(presented: Presented) -> Presented:
    """A random UID names nobody: neither its number nor what the table says of that number is kept."""
    if anonymous(presented.credential) == RANDOM:
        return replace(presented, credential=RANDOM, token=None)
    return presented


def may_stop(session: Session, presented: Presented) -> bool:
    """The card that began it, even if it was blocked since, or an active one of the same parent group.

    OCPI: a token's group_id, compared without case.
    """
    if presented.credential.assurance is Assurance.RANDOM or not presented.credential.is_identity:
        return False
    if presented.credential.reference == session.credential.reference:
        return True
    token = presented.token
    if token is None or token.status is not TokenStatus.ACTIVE or not token.parent or not session.holder.parent:
        return False
    return token.parent.lower() == session.holder.parent.lower()
