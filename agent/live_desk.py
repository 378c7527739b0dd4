"""Asks the backend what the machine wants to know, and believes only what a key of the fleet's documents has signed.

A question is remembered until its deadline: an answer counts for exactly those bytes, once. Overrides come over the
broker, or by hand where there is no signal; it makes no difference. What they mean is decided in the core.
"""

from __future__ import annotations

import logging
from collections.abc import Callable, Mapping
from datetime import timedelta
from decimal import Decimal

from agent.cache.contents import KeyUse
from agent.clock import Clock
from agent.core import answers, observations, overrides
from agent.core.effects import Ask
from agent.core.instants import MAX_DRIFT
from agent.core.observations import Observation
from sync import signing
from sync.messages import BadMessage
from sync.overrides import OVERRIDE_TYP, SignedOverride, lines_of, parse_override
from sync.questions import ANSWER_TYP, MAX_ANSWER_BYTES, Question, digest_of, parse_answer

log = logging.getLogger("roamkey")

MOST_OPEN = 128
ANSWER_REFUSED, OVERRIDE_REFUSED = "answer-refused", "override-refused"


class LiveDesk:
    """Everything on the loop's thread. `keys` are those of the bundle in force, by what they may sign."""

    def __init__(
        self,
        *,
        fleet: str,
        device: str,
        clock: Clock,
        keys: Callable[[KeyUse], Mapping[str, str]],
        send: Callable[[bytes, float], None],
        quiet: Callable[[], None],
        tell: Callable[[Observation], None],
        alarm: Callable[[str, str], None],
    ) -> None:
        self._fleet = fleet
        self._device = device
        self._clock = clock
        self._keys = keys
        self._send = send
        self._quiet = quiet
        self._tell = tell
        self._alarm = alarm
        self._open: dict[str, tuple[str, int]] = {}
        self._connected = False
        self._told_up = False
        self._unproven = b""
        self._said: dict[str, str] = {}

    def ask(self, effect: Ask) -> None:
        now_ms = self._clock.now().monotonic_ms
        self._open = {ask: each for ask, each in self._open.items() if each[1] > now_ms}
        question = question_of(effect).to_bytes()
        if len(self._open) < MOST_OPEN:
            self._open[effect.ask] = (digest_of(question), now_ms + effect.deadline_ms)
            self._send(question, effect.deadline_ms / 1000)

    def connected(self, *, up: bool) -> None:
        self._connected = up
        self._look_at_link()

    def keys_changed(self) -> None:
        """Another bundle may name other keys: what nobody could vouch for is judged again."""
        self._look_at_link()
        if self._unproven:
            self.overrides_came(self._unproven)

    def answer_came(self, token: bytes) -> None:
        """Late, repeated, for another question or device, or by another key: it changes nothing."""
        try:
            answer = self._answer(token)
        except (signing.SigningError, BadMessage) as error:
            self._complain(ANSWER_REFUSED, f"an answer is not from our backend, nothing follows from it: {error}")
            return
        if answer is None:
            return
        ask, told = answer
        if not self._open:
            self._quiet()
        self._tell(observations.BackendAnswered(ask=ask, answer=told))

    def overrides_came(self, payload: bytes) -> None:
        """Over the broker. Kept until a bundle names who may sign overrides, if none does yet."""
        self._unproven = payload if not self._keys(KeyUse.OVERRIDE) else b""
        if self._unproven:
            return
        try:
            lines = lines_of(payload)
        except BadMessage as error:
            self._complain(OVERRIDE_REFUSED, f"overrides cannot be read: {error}")
            return
        for line in lines:
            try:
                self._tell(observations.OverrideOffered(override=self._override(line)))
            except (signing.SigningError, BadMessage) as error:
                self._complain(OVERRIDE_REFUSED, f"an override is not for us or not signed by our fleet: {error}")

    def take(self, payload: bytes) -> list[overrides.Override]:
        """By hand: all of them or none. Raises BadMessage or SigningError, which say why."""
        if not self._keys(KeyUse.OVERRIDE):
            raise BadMessage("no policy bundle here names a key that may sign overrides")
        taken = [self._override(line) for line in lines_of(payload)]
        for override in taken:
            self._tell(observations.OverrideOffered(override=override))
        return taken

    def _answer(self, token: bytes) -> tuple[str, answers.Answer] | None:
        if len(token) > MAX_ANSWER_BYTES:
            raise BadMessage(f"an answer of {len(token)} bytes is larger than {MAX_ANSWER_BYTES}")
        said = parse_answer(signing.verify(token, self._keys(KeyUse.ANSWER), typ=ANSWER_TYP))
        if (said.fleet, said.device) != (self._fleet, self._device):
            raise BadMessage(f"it is for {said.fleet}/{said.device}")
        now = self._clock.now()
        digest, until_ms = self._open.get(said.ask, ("", 0))
        if now.monotonic_ms >= until_ms:
            log.info("an answer to question %s came late, or again: it changes nothing", said.ask)
            return None
        if digest != said.question:
            raise BadMessage("it answers another question")
        if now.trusted and said.expires_at < now.utc - MAX_DRIFT:
            raise BadMessage(f"it has expired at {said.expires_at:%Y-%m-%dT%H:%M:%SZ}")
        del self._open[said.ask]
        return said.ask, answers.Answer(
            verdict=answers.Verdict(said.verdict),
            answered_at=said.answered_at,
            keep=timedelta(seconds=said.keep_s),
            jws=token.decode("ascii"),
        )

    def _override(self, token: bytes) -> overrides.Override:
        said = parse_override(signing.verify(token, self._keys(KeyUse.OVERRIDE), typ=OVERRIDE_TYP))
        if (said.fleet, said.device) != (self._fleet, self._device):
            raise BadMessage(f"it is for {said.fleet}/{said.device}")
        return override_of(said, token.decode("ascii"))

    def _complain(self, code: str, text: str) -> None:
        """Whoever repeats himself fills no log."""
        if self._said.get(code) != text:
            self._said[code] = text
            log.warning("%s", text)
        self._alarm(code, text)

    def _look_at_link(self) -> None:
        """Where nobody may answer, nobody is asked: silence is known at once."""
        up = self._connected and bool(self._keys(KeyUse.ANSWER))
        if up != self._told_up:
            self._told_up = up
            self._tell(observations.LinkChanged(up=up))


def question_of(effect: Ask) -> Question:
    asked, token = effect.asked, effect.asked.token
    place = asked.place
    return Question(
        ask=effect.ask,
        token=asked.credential.reference,
        whitelist="" if token is None else token.whitelist.value,
        assurance=asked.credential.assurance.value,
        deadline_ms=effect.deadline_ms,
        group=None if token is None else token.group,
        label=None if token is None else token.label,
        driver=None if token is None else token.driver,
        vehicle=asked.vehicle,
        charger=asked.charger,
        evse=place.evse,
        network=place.network,
        country=place.country,
        site=place.site,
        connector=place.connector,
        power_w=place.power_w,
        policy_revision=effect.policy_revision,
    )


def override_of(said: SignedOverride, jws: str) -> overrides.Override:
    cost = None
    if said.max_cost is not None:
        cost = overrides.MostCost(currency=said.max_cost[0], gross=Decimal(said.max_cost[1]))
    return overrides.Override(
        id=said.id,
        token=said.token,
        waives=frozenset(said.waives),
        why=said.why,
        by=said.by,
        issued=said.issued,
        not_after=said.not_after,
        max_energy_wh=said.max_energy_wh,
        max_duration_s=said.max_duration_s,
        max_cost=cost,
        jws=jws,
    )
