"""Live questions and their signed answers. What they mean is decided at either end; here they are only said.

A question is plain: it travels over a link that is authenticated, and names no card but by its keyed reference. An
answer is a JWS, bound to the bytes of its question: nobody else's, no earlier and no altered one fits.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping
from dataclasses import dataclass, fields
from datetime import datetime
from typing import Any

from sync.claims import json_object, maybe_number, maybe_text, moment, number, seconds, text
from sync.messages import BadMessage

ANSWER_TYP = "roamkey-answer+jwt"
MAX_QUESTION_BYTES = 8 * 1024
MAX_ANSWER_BYTES = 8 * 1024
MAX_DEADLINE_MS = 60_000
MAX_KEEP_S = 24 * 3600
VERDICTS = ("ALLOWED", "BLOCKED", "EXPIRED", "NO_CREDIT", "NOT_ALLOWED", "UNKNOWN")
_PLACE = ("charger", "evse", "network", "country", "site", "connector")


@dataclass(frozen=True, slots=True, kw_only=True)
class Question:
    """May this token charge here? `token` is its keyed reference, `whitelist` OCPI's type of it.

    After `deadline_ms` nobody listens any more.
    """

    ask: str
    token: str
    whitelist: str
    assurance: str
    deadline_ms: int
    group: str | None = None
    label: str | None = None
    driver: str | None = None
    vehicle: str | None = None
    charger: str | None = None
    evse: str | None = None
    network: str | None = None
    country: str | None = None
    site: str | None = None
    connector: str | None = None
    power_w: int | None = None
    policy_revision: int | None = None

    def to_bytes(self) -> bytes:
        told = {field.name: getattr(self, field.name) for field in fields(self)}
        known = {name: value for name, value in told.items() if value is not None}
        return json.dumps(known, separators=(",", ":"), ensure_ascii=False).encode()


@dataclass(frozen=True, slots=True, kw_only=True)
class Answer:
    """`question` is the SHA-256 of the question's bytes. `keep_s`: so long may the device remember the verdict, too."""

    fleet: str
    device: str
    ask: str
    question: str
    verdict: str
    answered_at: datetime
    expires_at: datetime
    keep_s: int = 0

    def to_claims(self) -> dict[str, Any]:
        return {
            "fleet": self.fleet,
            "device": self.device,
            "ask": self.ask,
            "question": self.question,
            "verdict": self.verdict,
            "keep_s": self.keep_s,
            "iat": seconds(self.answered_at),
            "exp": seconds(self.expires_at),
        }


def digest_of(question: bytes) -> str:
    return hashlib.sha256(question).hexdigest()


def parse_question(payload: bytes) -> Question:
    message = json_object(payload, MAX_QUESTION_BYTES)
    token = text(message, "token")
    if len(token) != 64 or not set(token) <= set("0123456789abcdef"):
        raise BadMessage("token must be a keyed reference, 64 hex characters")
    return Question(
        ask=text(message, "ask"),
        token=token,
        whitelist=text(message, "whitelist"),
        assurance=text(message, "assurance"),
        deadline_ms=number(message, "deadline_ms", MAX_DEADLINE_MS),
        group=maybe_text(message, "group"),
        label=maybe_text(message, "label"),
        driver=maybe_text(message, "driver"),
        vehicle=maybe_text(message, "vehicle"),
        **{name: maybe_text(message, name, 200) for name in _PLACE},
        power_w=maybe_number(message, "power_w"),
        policy_revision=maybe_number(message, "policy_revision"),
    )


def parse_answer(claims: Mapping[str, Any]) -> Answer:
    """The claims of a token whose signature has been verified. Unknown claims are ignored, unknown verdicts are not."""
    verdict = text(claims, "verdict")
    if verdict not in VERDICTS:
        raise BadMessage(f"verdict must be one of {', '.join(VERDICTS)}")
    return Answer(
        fleet=text(claims, "fleet"),
        device=text(claims, "device"),
        ask=text(claims, "ask"),
        question=text(claims, "question"),
        verdict=verdict,
        answered_at=moment(claims, "iat"),
        expires_at=moment(claims, "exp"),
        keep_s=number(claims, "keep_s", MAX_KEEP_S) if "keep_s" in claims else 0,
    )
