"""What a look of a reader or a question leads to: a decision, a session begun, or a stop of what the card began."""

from __future__ import annotations

from dataclasses import replace
from typing import assert_never

from agent.core import break_glass, facts, observations, texts
from agent.core.answers import Answer, Heard, Mode, Silence
from agent.core.asking import Asking
from agent.core.budgeting import Budgeting
from agent.core.budgets import LeaseUse
from agent.core.charging import Charging
from agent.core.claims import Claim
from agent.core.credentials import RANDOM, Assurance
from agent.core.decisions import AskBackend, Decision, Granted, NeedsInput, Refused, decide, limits_for
from agent.core.effects import (
    Ask,
    Feedback,
    Record,
    Reply,
    Signal,
    StartCharging,
    StopCharging,
    WakeAt,
)
from agent.core.facts import EndReason, Holder, Outcome, Trigger
from agent.core.grounds import grounds_of
from agent.core.instants import Instant, time_ordered_id
from agent.core.limits import Limits
from agent.core.memory import Effects, Memory, with_item
from agent.core.observations import Presented
from agent.core.overrides import Override
from agent.core.pending import Pending
from agent.core.pins import MOST_TRIES, PinState, tried
from agent.core.policy import Token, TokenStatus
from agent.core.presence import Crowd, Presence, Tap, anonymous, lay_already, look, reader_back
from agent.core.reasons import Ground, ReasonCode
from agent.core.recollection import use_of
from agent.core.requests import NOTHING, Given, Place, Request, Signs, Told, Usage
from agent.core.rules import freshness_at, policy_age
from agent.core.sessions import Phase, Session, priced_by, start
from agent.core.sites import Sites
from agent.core.statuses import statuses_of
from agent.core.tariff_prices import prices_of
from agent.core.terms import Effect, Prompt
from agent.core.whereabouts import linked, located

OUTCOMES: dict[type[Decision], Outcome] = {
    Granted: Outcome.GRANTED,
    Refused: Outcome.REFUSED,
    NeedsInput: Outcome.NEEDS_INPUT,
}


def outcome_of(decision: Decision) -> Outcome:
    by_override = isinstance(decision, Granted) and decision.override is not None
    return Outcome.OVERRIDE if by_override else OUTCOMES[type(decision)]


STRANGER = Presented(credential=RANDOM, token=None)


class Tapping:
    def __init__(self, memory: Memory, charging: Charging, budgets: Budgeting) -> None:
        self._memory = memory
        self._charging = charging
        self._budgets = budgets
        self._asking = Asking(memory)

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
        policy = self._memory.state.policy
        if active is not None and may_stop(active, presented, frozenset() if policy is None else policy.revoked):
            return self._stop_by_card(active, presented, reader, now, request)
        asked = self._request(presented, reader, charger, self._place(charger, Place(), now), told, crowded=crowded)
        if request is None and self._asking.waits(reader, asked):
            return (self._one_moment(reader, asked),)
        asked, first = self._with_pin(self._quoted(asked, told, now), told)
        code, wrong = self._with_code(asked, told, now)
        case = Pending(
            asked=asked,
            trigger=Trigger.TAP,
            reader=reader,
            request=request,
            waited_ms=waited_ms,
            since_ms=now.monotonic_ms,
            code=code,
        )
        return self._conclude(case, self._asking.before(asked, now), (*first, *wrong), now)

    def answered(self, seen: observations.BackendAnswered, now: Instant) -> Effects:
        """Decide with the backend's word. Late, repeated, or to a question that nobody asked: it changes nothing."""
        case = self._asking.end(seen.ask, now)
        if case is None:
            return ()
        self._asking.remember(case.asked, seen.answer, now)
        heard = Heard(verdict=seen.answer.verdict)
        return self._conclude(case, heard, (), now, ask=seen.ask, answer=seen.answer)

    def unanswered(self, why: Silence, now: Instant, *, all_of_them: bool) -> Effects:
        """Decide without the backend's word what waited for it long enough."""
        effects: Effects = ()
        for number, case in enumerate(self._asking.unanswered(now, all_of_them=all_of_them)):
            moment = replace(now, entropy=now.entropy + bytes([number]))  # each decision has an id of its own
            effects += self._conclude(case, self._asking.silence(case.asked, why, now), (), moment)
        return effects

    def _conclude(
        self,
        case: Pending,
        heard: Heard | None,
        first: tuple[facts.Fact, ...],
        now: Instant,
        *,
        ask: str = "",
        answer: Answer | None = None,
    ) -> Effects:
        """Ask the backend if that is wanted, else decide, and do what follows."""
        asked, reader = replace(case.asked, heard=heard), case.reader
        claims = self._budgets.claims(asked, self._holder(asked), now)
        decision = decide(asked, self._memory.state.policy, self._usage(case, asked, claims, now), now)
        if isinstance(decision, AskBackend):
            return self._ask(case, first, now)
        self._budgets.note(claims, now)
        uses: tuple[LeaseUse, ...] = ()
        if isinstance(decision, Granted):
            decision = self._budgets.held_to(decision, claims, asked)
            begins = reader is not None and asked.charger is not None
            uses = self._budgets.reserve(claims, now) if begins else ()
        waited_ms = case.waited_ms + now.monotonic_ms - case.since_ms
        made = self._made(asked, decision, case.trigger, waited_ms, uses, now)
        proofs = self._proofs(made, decision, ask, answer)
        signs = case.signs if isinstance(decision, Granted) else None
        opened = self._opened(signs, made, decision, now) if signs and isinstance(decision, Granted) else ()
        told = (*first, *proofs, made, *opened)
        reply = Reply(request=case.request or "", decision_id=made.decision, decision=decision, session=None)
        match decision:
            case Granted() if reader is not None and asked.charger is not None:
                return self._authorise(told, made, decision, asked, reader, asked.charger, now, case.request)
            case _:
                sign = Signal(reader=reader, feedback=shown(decision), text=made.text) if reader is not None else None
                return (
                    Record(facts=told),
                    *((sign,) if sign is not None else ()),
                    *((reply,) if case.request is not None else ()),
                )

    def _ask(self, case: Pending, first: tuple[facts.Fact, ...], now: Instant) -> Effects:
        ask, waiting = self._asking.begin(case, now)
        deadline_ms, policy = waiting.due_ms - now.monotonic_ms, self._memory.state.policy
        return (
            *((Record(facts=first),) if first else ()),
            *((self._one_moment(case.reader, case.asked),) if case.reader is not None else ()),
            Ask(
                ask=ask,
                asked=case.asked,
                trigger=case.trigger,
                deadline_ms=deadline_ms,
                policy_revision=policy.revision if policy is not None else None,
            ),
            WakeAt(monotonic_ms=waiting.due_ms),
        )

    def _one_moment(self, reader: str, asked: Request) -> Signal:
        text = texts.say(texts.ASKING, self._language(asked.token))
        return Signal(reader=reader, feedback=Feedback.PENDING, text=text)

    def _proofs(
        self, made: facts.DecisionMade, decision: Decision, ask: str, answer: Answer | None
    ) -> tuple[facts.Fact, ...]:
        """What the decision rests on besides the policy: a signed answer, and the override that it has used up."""
        proofs: list[facts.Fact] = []
        if answer is not None:
            said = facts.BackendAnswered(
                decision=made.decision,
                ask=ask,
                credential=made.credential,
                verdict=answer.verdict,
                answered_at=answer.answered_at,
                keep_s=int(answer.keep.total_seconds()),
                jws=answer.jws,
            )
            proofs.append(said)
        if isinstance(decision, Granted) and decision.override is not None:
            override = decision.override
            counter = int(override.id.removeprefix(break_glass.ID)) if override.counted else None
            used = facts.OverrideUsed(
                override=override.id,
                decision=made.decision,
                credential=made.credential,
                by=override.by,
                why=override.why,
                rules=tuple(dict.fromkeys(each.rule for each in decision.waived)),
                jws=override.jws or None,
                counter=counter,
            )
            self._memory.change(history=self._memory.state.history.with_used(override.id, counter))
            proofs.append(used)
        return tuple(proofs)

    def offered(self, seen: observations.OverrideOffered, now: Instant) -> Effects:
        """An override has come: kept until it is used. One that was seen before, used or not, changes nothing."""
        override, history = seen.override, self._memory.state.history
        if history.has_seen(override.id):
            return ()
        override = replace(override, boot=now.boot, received_ms=now.monotonic_ms)
        self._memory.change(history=history.with_override(override))
        fact = facts.OverrideReceived(
            override=override.id,
            token=override.token,
            waives=tuple(sorted(override.waives)),
            why=override.why,
            by=override.by,
            issued=override.issued,
            not_after=override.not_after,
            jws=override.jws,
            max_energy_wh=override.max_energy_wh,
            max_duration_s=override.max_duration_s,
            max_cost=override.max_cost,
        )
        return (Record(facts=(fact,)),)

    def _with_code(
        self, asked: Request, told: Told, now: Instant
    ) -> tuple[Override | None, tuple[facts.CodeTried, ...]]:
        """The override that a break-glass code stands for. A wrong code is kept for ever, a right one until used."""
        secret, history = self._memory.setup.break_glass, self._memory.state.history
        if told.code is None or secret is None or not asked.credential.is_identity:
            return None, ()
        if break_glass.is_locked(history.codes, now):
            return None, ()
        token = asked.credential.reference
        counter = break_glass.counter_of(secret, told.code.code, token, after=history.codes.counter)
        if counter is None:
            self._memory.change(history=history.with_wrong_code(now.latest))
            return None, (facts.CodeTried(credential=asked.credential, reader=asked.reader),)
        return break_glass.override_of(counter, token, told.code.why, now), ()

    def _authorise(
        self,
        told: tuple[facts.Fact, ...],
        made: facts.DecisionMade,
        granted: Granted,
        asked: Request,
        reader: str,
        charger: str,
        now: Instant,
        request: str | None,
    ) -> Effects:
        quote = asked.quote
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
            prices=made.prices if granted.limits.cost is None and quote is None else None,
            authorised_at=now.utc,
            boot=now.boot,
            monotonic_ms=now.monotonic_ms,
            leases=made.leases,
            route=asked.given.route,
        )
        session = replace(start(authorised), quote=quote)
        shown = () if quote is None else (priced_by(session.id, quote),)
        self._memory.keep(session)
        if made.odometer_km is not None and made.holder.vehicle is not None:
            history = self._memory.state.history.with_odometer(made.holder.vehicle, made.odometer_km)
            self._memory.change(history=history)
        reply = (
            Reply(request=request, decision_id=made.decision, decision=granted, session=session.id) if request else None
        )
        return (
            Record(facts=(*told, authorised, *shown)),
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
        asked, first = self._with_pin(self._quoted(asked, seen.told, now), seen.told)
        code, wrong = self._with_code(asked, seen.told, now)
        case = Pending(
            asked=asked,
            trigger=Trigger.REQUEST,
            reader=None,
            request=seen.request,
            waited_ms=0,
            since_ms=now.monotonic_ms,
            code=code,
            signs=seen.signs,
        )
        return self._conclude(case, self._asking.before(asked, now), (*first, *wrong), now)

    def released(self, seen: observations.ContractReleased, now: Instant) -> Effects:
        """Told again, or of a decision that let nothing sign: it changes nothing."""
        history = self._memory.state.history
        use = history.use(seen.decision)
        reply = (
            Reply(request=seen.request, decision_id=seen.decision, decision=Granted(limits=Limits()), session=None)
            if seen.request is not None
            else None
        )
        answers = (reply,) if reply is not None else ()
        if use is None or use.ended is not None:
            return answers
        ended = seen.reason is facts.UseEnd.ENDED
        history = history.with_use_ended(use.decision, now.latest) if ended else history.without_use(use.decision)
        self._memory.change(history=history)
        return (Record(facts=(facts.ContractClosed(decision=use.decision, reason=seen.reason),)), *answers)

    def _opened(
        self, signs: Signs, made: facts.DecisionMade, granted: Granted, now: Instant
    ) -> tuple[facts.ContractOpened, ...]:
        """The contract is in use from the moment of the yes: two that ask at once are not both granted."""
        if signs.within is not None:
            return ()
        most_s = self._memory.setup.timing.contract_session_s
        limit_s = granted.limits.max_duration_s
        opened = facts.ContractOpened(
            decision=made.decision,
            credential=made.credential,
            vehicle=made.holder.vehicle,
            opened_at=now.latest,
            boot=now.boot,
            monotonic_ms=now.monotonic_ms,
            lasts_s=most_s if limit_s is None else min(most_s, limit_s),
            session=signs.session,
        )
        self._memory.change(history=self._memory.state.history.with_use(use_of(opened)))
        return (opened,)

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
            doubt=presented.doubt,
            reader=reader,
            charger=charger,
            place=place,
            vehicle=vehicle,
            crowded=crowded,
            prices=told.prices or self._memory.setup.prices.get(charger or ""),
            soc_percent=told.soc_percent,
            given=Given(odometer_km=told.odometer_km, route=told.route),
            metered=charger not in self._memory.setup.unmetered,
        )

    def _quoted(self, asked: Request, told: Told, now: Instant) -> Request:
        """With the tariff that was shown, unless plain prices were told: of it the policy sees the highest prices."""
        quote = told.quote or (None if told.prices is not None else self._memory.setup.quotes.get(asked.charger or ""))
        if quote is None:
            return asked
        policy, token = self._memory.state.policy, asked.token
        limits = Limits()
        if policy is not None and token is not None:
            limits = limits_for(replace(asked, prices=None), token, policy, now)
        prices = prices_of(quote.tariff, now.latest, limits, quote.zone)
        return replace(asked, prices=prices, quote=None if prices is None else quote)

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

    def _usage(self, case: Pending, asked: Request, claims: tuple[Claim, ...], now: Instant) -> Usage:
        history, token, code = self._memory.state.history, asked.credential.reference, case.code
        goes_on = case.signs.within if case.signs is not None else None
        uses = tuple(each for each in history.open_uses(now) if each.decision != goes_on or each.reference != token)
        given = () if code is None or history.has_seen(code.id) else (code,)
        at_charger = self._memory.state.open_at(asked.charger) if asked.charger is not None else None
        wired = asked.charger in self._memory.setup.chargers
        return Usage(
            sessions_of_token=tuple(
                each.id
                for each in self._memory.state.open_sessions
                if asked.credential.is_identity and each.credential.reference == asked.credential.reference
            )
            + tuple(each.decision for each in uses if each.reference == token),
            sessions_of_vehicle=tuple(
                each.id
                for each in self._memory.state.open_sessions
                if asked.vehicle is not None and each.holder.vehicle == asked.vehicle
            )
            + tuple(each.decision for each in uses if asked.vehicle is not None and each.vehicle == asked.vehicle),
            session_at_charger=at_charger.id if at_charger is not None else None,
            charger_reachable=(asked.charger in self._memory.state.reachable)
            if wired or asked.reader is not None
            else True,
            storage_full=self._memory.state.storage_full,
            past=(*history.of(token), *history.past_uses_of(token, now)),
            known_since=self._memory.state.history.since,
            wrong_pins=self._wrong_pins(asked),
            last_odometer_km=self._memory.state.history.odometers_km.get(asked.vehicle or ""),
            overrides=(*(each for each in history.overrides.values() if token and each.token == token), *given),
            claims=claims,
        )

    def _made(
        self,
        asked: Request,
        decision: Decision,
        trigger: Trigger,
        waited_ms: int,
        uses: tuple[LeaseUse, ...],
        now: Instant,
    ) -> facts.DecisionMade:
        reasons = () if isinstance(decision, Granted) else decision.reasons
        statuses = statuses_of(reasons)
        language = self._language(asked.token)
        decision_id = time_ordered_id(now, 0)
        policy = self._memory.state.policy
        limits = decision.limits if isinstance(decision, Granted) else Limits()
        override = decision.override if isinstance(decision, Granted) else None
        granted = texts.GRANTED if override is None else texts.BY_OVERRIDE
        return facts.DecisionMade(
            decision=decision_id,
            trigger=trigger,
            outcome=outcome_of(decision),
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
                state=freshness_at(policy, now),
            ),
            clock=now.quality,
            text=texts.refusal_text(reasons, language) if reasons else texts.say(granted, language),
            support=decision_id[-8:].upper(),
            waited_ms=waited_ms,
            ocpi=statuses.ocpi,
            ocpp16=statuses.ocpp16,
            ocpp201=statuses.ocpp201,
            oicp=statuses.oicp,
            mode=Mode.ONLINE if asked.heard is not None and asked.heard.verdict is not None else Mode.OFFLINE,
            whitelist=asked.token.whitelist if asked.token is not None else None,
            backend=asked.heard,
            override=None if override is None else override.id,
            override_by=None if override is None else override.by,
            override_why=None if override is None else override.why,
            waived=decision.waived if isinstance(decision, Granted) and decision.waived else None,
            grounds=self._grounds(asked, decision, now),
            leases=uses or None,
        )

    def _grounds(self, asked: Request, decision: Decision, now: Instant) -> tuple[Ground, ...] | None:
        """What a yes rests on; a no says it all in its reasons."""
        policy = self._memory.state.policy
        if not isinstance(decision, Granted) or policy is None:
            return None
        return grounds_of(asked, policy, now, but=(*decision.warnings, *decision.waived))

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


def may_stop(session: Session, presented: Presented, revoked: frozenset[str]) -> bool:
    """The card that began it, even if it was blocked since, or an active one of the same parent group.

    OCPI: a token's group_id, compared without case.
    """
    if presented.credential.assurance is Assurance.RANDOM or not presented.credential.is_identity:
        return False
    if presented.doubt is not None:
        return False  # a clone of the card that began it
    if presented.credential.reference == session.credential.reference:
        return True
    if presented.credential.reference in revoked:
        return False
    token = presented.token
    if token is None or token.status is not TokenStatus.ACTIVE or not token.parent or not session.holder.parent:
        return False
    return token.parent.lower() == session.holder.parent.lower()


def shown(decision: Decision) -> Feedback:
    """To the person at the reader, of what is no green light."""
    match decision:
        case NeedsInput():
            return Feedback.PENDING
        case Refused(reasons=reasons) if all(each.code is ReasonCode.NO_ANSWER for each in reasons):
            return Feedback.OFFLINE
        case _:
            return Feedback.REFUSED
