"""The grant: the leases of budgets that the backend counts as one device's, told in full and signed, retained.

What leases mean is judged by the device's machine, and set aside by sync.backend.budgets; here claims become values.
A grant that arrives twice, late or out of order says nothing new: its number only grows, and a lease never changes.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Any

from sync.messages import BadMessage

GRANT_TYP = "roamkey-grant+jwt"
MAX_LEASES = 64
MAX_USED_UP = 64
_MOST = 2**53 - 1  # what every reader of JSON can hold exactly


@dataclass(frozen=True, slots=True, kw_only=True)
class GrantedLease:
    """`journal` is the epoch for which it holds. `replaces` are leases that the device closes when it takes this."""

    id: str
    budget: str
    journal: str
    amount: int
    per_session: int
    not_before: datetime
    spend_until: datetime
    settle_by: datetime
    issued_at: datetime
    number: int
    replaces: tuple[str, ...] = ()

    def to_claims(self) -> dict[str, Any]:
        return {
            "id": self.id,
            "budget": self.budget,
            "journal": self.journal,
            "amount": self.amount,
            "per_session": self.per_session,
            "not_before": stamp(self.not_before),
            "spend_until": stamp(self.spend_until),
            "settle_by": stamp(self.settle_by),
            "issued_at": stamp(self.issued_at),
            "number": self.number,
            **({"replaces": list(self.replaces)} if self.replaces else {}),
        }


@dataclass(frozen=True, slots=True, kw_only=True)
class Grant:
    """`used_up`: budgets of which nothing is left to give to this device, and until when that stays so."""

    fleet: str
    device: str
    number: int
    leases: tuple[GrantedLease, ...]
    used_up: Mapping[str, datetime]

    def to_claims(self, *, issued_at_s: int) -> dict[str, Any]:
        return {
            "fleet": self.fleet,
            "device": self.device,
            "number": self.number,
            "leases": [lease.to_claims() for lease in self.leases[:MAX_LEASES]],
            "used_up": [
                {"budget": key, "until": stamp(until)} for key, until in list(self.used_up.items())[:MAX_USED_UP]
            ],
            "iat": issued_at_s,
        }


def parse_grant(claims: Mapping[str, Any]) -> Grant:
    """The claims of a token whose signature has been verified. Unknown claims are ignored."""
    leases, used_up = claims.get("leases"), claims.get("used_up", [])
    if not isinstance(leases, list) or len(leases) > MAX_LEASES:
        raise BadMessage(f"leases must be a list of at most {MAX_LEASES}")
    if not isinstance(used_up, list) or len(used_up) > MAX_USED_UP:
        raise BadMessage(f"used_up must be a list of at most {MAX_USED_UP}")
    told = [_object(each, "used_up") for each in used_up]
    return Grant(
        fleet=_text(claims, "fleet"),
        device=_text(claims, "device"),
        number=_number(claims, "number"),
        leases=tuple(lease_of(_object(each, "leases")) for each in leases),
        used_up={_text(each, "budget", 160): _moment(each, "until") for each in told},
    )


def stamp(moment: datetime) -> str:
    return moment.astimezone(UTC).replace(tzinfo=None).isoformat(timespec="seconds") + "Z"


def lease_of(claims: Mapping[str, Any]) -> GrantedLease:
    """One lease's claims."""
    replaces = claims.get("replaces", [])
    if not isinstance(replaces, list) or not all(isinstance(each, str) and len(each) <= 64 for each in replaces):
        raise BadMessage("replaces must be a list of texts of at most 64 characters")
    return GrantedLease(
        id=_text(claims, "id"),
        budget=_text(claims, "budget", 160),
        journal=_text(claims, "journal"),
        amount=_number(claims, "amount"),
        per_session=_number(claims, "per_session"),
        not_before=_moment(claims, "not_before"),
        spend_until=_moment(claims, "spend_until"),
        settle_by=_moment(claims, "settle_by"),
        issued_at=_moment(claims, "issued_at"),
        number=_number(claims, "number"),
        replaces=tuple(replaces[:MAX_LEASES]),
    )


def _object(value: object, name: str) -> Mapping[str, Any]:
    if not isinstance(value, dict):
        raise BadMessage(f"{name} must hold objects")
    return value


def _text(claims: Mapping[str, Any], name: str, most: int = 64) -> str:
    text = claims.get(name)
    if not isinstance(text, str) or not 1 <= len(text) <= most:
        raise BadMessage(f"{name} must be a text of 1 to {most} characters")
    return text


def _number(claims: Mapping[str, Any], name: str) -> int:
    value = claims.get(name)
    if not isinstance(value, int) or isinstance(value, bool) or not 0 <= value <= _MOST:
        raise BadMessage(f"{name} must be an integer from 0 to {_MOST}")
    return value


def _moment(claims: Mapping[str, Any], name: str) -> datetime:
    text = claims.get(name)
    try:
        if not isinstance(text, str) or not text.endswith("Z"):
            raise ValueError
        return datetime.fromisoformat(text).astimezone(UTC)
    except ValueError:
        raise BadMessage(f"{name} must be a time such as 2026-05-01T00:00:00Z") from None
