"""Only a genuine answer, in time, to this very question, once, reaches the machine; and only our fleet's overrides."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field, replace
from datetime import timedelta
from typing import Any

import pytest

from agent.cache.contents import KeyUse
from agent.core import observations
from agent.core.answers import Verdict, Whitelist
from agent.core.effects import Ask
from agent.core.facts import Trigger
from agent.core.instants import ClockQuality, Instant
from agent.live_desk import LiveDesk
from sync.messages import BadMessage
from sync.overrides import OVERRIDE_TYP, SignedOverride
from sync.questions import ANSWER_TYP, Answer, digest_of, parse_question
from sync.signing import SigningError, SigningKey, generate, sign
from tests.core.builders import NOON, a_request, a_token, an_instant

ANSWERS, OVERRIDES, ACKS = generate(), generate(), generate()
TOKEN = a_token(whitelist=Whitelist.NEVER)


@dataclass
class Desk:
    """A desk with a hand-set clock, and what it sends, tells and complains of."""

    now: Instant = field(default_factory=an_instant)
    keys: dict[KeyUse, dict[str, str]] = field(
        default_factory=lambda: {
            use: {key.kid: key.public_jwk}
            for use, key in (
                (KeyUse.ANSWER, ANSWERS),
                (KeyUse.OVERRIDE, OVERRIDES),
                (KeyUse.ACKNOWLEDGEMENT, ACKS),
            )
        }
    )
    sent: list[bytes] = field(default_factory=list)
    told: list[Any] = field(default_factory=list)
    alarms: list[str] = field(default_factory=list)

    def __post_init__(self) -> None:
        self.desk = LiveDesk(
            fleet="acme",
            device="van-7",
            clock=_Clock(self),  # type: ignore[arg-type]
            keys=lambda use: self.keys.get(use, {}),
            send=lambda question, within_s: self.sent.append(question),
            quiet=lambda: None,
            tell=self.told.append,
            alarm=lambda code, text: self.alarms.append(code),
        )

    def asks(self, ask: str = "q-1") -> bytes:
        self.desk.ask(Ask(ask=ask, asked=a_request(TOKEN), trigger=Trigger.TAP, deadline_ms=1_500))
        return self.sent[-1]

    def passes(self, milliseconds: int) -> None:
        now = self.now
        span = timedelta(milliseconds=milliseconds)
        self.now = replace(now, utc=now.utc + span, monotonic_ms=now.monotonic_ms + milliseconds)

    @property
    def answers(self) -> list[Any]:
        return [each for each in self.told if isinstance(each, observations.BackendAnswered)]


def desk_of(**changes: Any) -> Desk:
    return Desk(**changes)


class _Clock:
    def __init__(self, desk: Desk) -> None:
        self._desk = desk

    def now(self) -> Instant:
        return self._desk.now


def an_answer(question: bytes, key: SigningKey = ANSWERS, *, typ: str = ANSWER_TYP, **changes: Any) -> bytes:
    answer = Answer(
        fleet="acme",
        device="van-7",
        ask="q-1",
        question=digest_of(question),
        verdict="ALLOWED",
        answered_at=NOON,
        expires_at=NOON + timedelta(seconds=3),
        keep_s=3_600,
    )
    return sign(replace(answer, **changes).to_claims(), key, typ=typ).encode()


def test_the_question_says_what_is_known_and_names_no_card() -> None:
    question = parse_question(desk_of().asks())

    assert (question.ask, question.token, question.whitelist) == ("q-1", TOKEN.reference, "NEVER")
    assert (question.network, question.evse, question.deadline_ms) == ("DE*ABC", "DE*ABC*E1", 1_500)


def test_a_genuine_answer_in_time_is_told_once() -> None:
    desk = desk_of()
    answer = an_answer(desk.asks())

    for _ in range(3):
        desk.desk.answer_came(answer)

    (told,) = desk.answers
    assert (told.ask, told.answer.verdict, told.answer.keep) == ("q-1", Verdict.ALLOWED, timedelta(hours=1))
    assert told.answer.jws.encode() == answer
    assert desk.alarms == []


FALSE: dict[str, Callable[[bytes], bytes]] = {
    "another fleet's": lambda question: an_answer(question, fleet="other"),
    "another device's": lambda question: an_answer(question, device="van-8"),
    "to another question of the same id": lambda question: an_answer(question + b" "),
    "by a key that only acknowledges": lambda question: an_answer(question, ACKS),
    "by a key for overrides": lambda question: an_answer(question, OVERRIDES),
    "by a stranger's key": lambda question: an_answer(question, generate()),
    "of another type": lambda question: an_answer(question, typ="roamkey-ack+jwt"),
    "with an unknown verdict": lambda question: an_answer(question, verdict="MAYBE"),
    "kept for too long": lambda question: an_answer(question, keep_s=24 * 3600 + 1),
    "expired": lambda question: an_answer(question, expires_at=NOON - timedelta(seconds=121)),
    "with a changed byte": lambda question: an_answer(question)[:-4] + b"AAAA",
    "no token": lambda question: b"ALLOWED",
    "too long": lambda question: b"x" * 10_000,
}


@pytest.mark.parametrize("name", FALSE)
def test_a_false_answer_changes_nothing_and_the_right_one_still_counts(name: str) -> None:
    desk = desk_of()
    question = desk.asks()

    desk.desk.answer_came(FALSE[name](question))
    assert desk.answers == []
    assert desk.alarms == ["answer-refused"]

    desk.desk.answer_came(an_answer(question))
    assert len(desk.answers) == 1


def test_a_late_answer_changes_nothing_and_is_nobodys_fault() -> None:
    desk = desk_of()
    answer = an_answer(desk.asks())

    desk.passes(1_500)
    desk.desk.answer_came(answer)

    assert (desk.answers, desk.alarms) == ([], [])


def test_an_answer_of_before_a_restart_answers_nothing() -> None:
    answer = an_answer(desk_of().asks())

    fresh = desk_of()
    fresh.desk.answer_came(answer)

    assert fresh.answers == []


def test_an_expiry_is_not_judged_by_a_clock_that_nobody_believes() -> None:
    desk = desk_of(now=an_instant(NOON + timedelta(days=400), quality=ClockQuality.UNKNOWN))

    desk.desk.answer_came(an_answer(desk.asks()))

    assert len(desk.answers) == 1  # its question's deadline bounds it


def test_where_nobody_may_answer_nobody_is_asked() -> None:
    desk = desk_of(keys={})
    desk.desk.connected(up=True)
    assert desk.told == []

    desk.keys = {KeyUse.ANSWER: {ANSWERS.kid: ANSWERS.public_jwk}}
    desk.desk.keys_changed()
    desk.desk.connected(up=True)
    desk.desk.connected(up=False)

    assert desk.told == [observations.LinkChanged(up=True), observations.LinkChanged(up=False)]


def test_questions_beyond_what_can_wait_are_not_sent() -> None:
    desk = desk_of()
    for number in range(200):
        desk.asks(f"q-{number}")

    assert len(desk.sent) == 128
    desk.passes(1_500)
    desk.asks("q-again")
    assert len(desk.sent) == 129


# Overrides


def an_override(key: SigningKey = OVERRIDES, **changes: Any) -> bytes:
    override = SignedOverride(
        fleet="acme",
        device="van-7",
        id="o-1",
        token=TOKEN.reference,
        waives=("*",),
        why="stranded",
        by="ada",
        issued=NOON,
        not_after=NOON + timedelta(hours=4),
        max_energy_wh=10_000,
        max_cost=("EUR", "25.00"),
    )
    return sign(replace(override, **changes).to_claims(), key, typ=OVERRIDE_TYP).encode()


def test_an_override_of_the_fleet_for_this_device_is_offered_to_the_machine() -> None:
    desk = desk_of()

    desk.desk.overrides_came(an_override() + b"\n" + an_override(id="o-2") + b"\n")

    first, second = (each.override for each in desk.told)
    assert (first.id, second.id, first.token, first.waives) == ("o-1", "o-2", TOKEN.reference, {"*"})
    assert (first.max_cost.currency, str(first.max_cost.gross)) == ("EUR", "25.00")


@pytest.mark.parametrize(
    "false",
    [
        lambda: an_override(ANSWERS),
        lambda: an_override(generate()),
        lambda: an_override(device="van-8"),
        lambda: an_override(fleet="other"),
        lambda: an_override(not_after=NOON + timedelta(hours=24, seconds=1)),
        lambda: an_override(max_energy_wh=None, max_cost=None),
        lambda: an_override(token="04A1B2C3D4E5F6"),
        lambda: an_override()[:-3] + b"AAA",
        lambda: b"\xff\xfe",
    ],
)
def test_a_false_override_is_refused_and_those_beside_it_are_not(false: Callable[[], bytes]) -> None:
    desk = desk_of()

    desk.desk.overrides_came(an_override() + b"\n" + false() + b"\n")

    assert [each.override.id for each in desk.told] == ["o-1"]
    assert desk.alarms == ["override-refused"]
    with pytest.raises((BadMessage, SigningError)):
        desk.desk.take(an_override(id="o-2") + b"\n" + false())
    assert len(desk.told) == 1, "by hand it is all or none"


def test_a_claim_that_this_version_does_not_know_may_be_a_limit() -> None:
    claims = {**SignedOverrideClaims, "max_sessions": 1}
    desk = desk_of()

    desk.desk.overrides_came(sign(claims, OVERRIDES, typ=OVERRIDE_TYP).encode())

    assert desk.told == []


SignedOverrideClaims: dict[str, Any] = {
    "fleet": "acme", "device": "van-7", "id": "o-1", "token": TOKEN.reference, "waives": ["*"], "why": "w", "by": "b",
    "iat": 1_800_000_000, "exp": 1_800_000_100, "max_energy_wh": 1,
}  # fmt: skip


def test_an_override_that_came_before_its_key_is_judged_when_the_key_is_known() -> None:
    desk = desk_of(keys={})
    desk.desk.overrides_came(an_override())
    assert (desk.told, desk.alarms) == ([], [])

    desk.keys = {KeyUse.OVERRIDE: {OVERRIDES.kid: OVERRIDES.public_jwk}}
    desk.desk.keys_changed()

    assert [each.override.id for each in desk.told] == ["o-1"]
