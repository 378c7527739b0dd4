"""What records say of budgets: which leases a device holds, what it spent of them, and what it asks for.

Untrusted bytes become values here. Only these few kinds of records are looked into; all others mean nothing here.
"""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Any

from sync.backend.budgets import Use
from sync.grants import GrantedLease, parse_grant
from sync.messages import BadMessage

ASKED = "io.roamkey.budget.asked"
GRANTED = "io.roamkey.budget.granted"
# Looked for before a body is parsed: most records speak of no lease.
_MARKS = (b'"io.roamkey.budget.', b'"leases":[{')
_MOST = 2**53 - 1
MAX_WANTS = 64


@dataclass(frozen=True, slots=True, kw_only=True)
class Wish:
    """A device asks for a lease of this budget; a session there needs so much, or 0 when it does not know."""

    budget: str
    need: int


@dataclass(frozen=True, slots=True, kw_only=True)
class Statement:
    """`asks` is false for records that only tell; a record that asks may wish for nothing."""

    uses: tuple[Use, ...] = ()
    held: tuple[GrantedLease, ...] = ()
    wishes: tuple[Wish, ...] = ()
    asks: bool = False


def statement_of(body: bytes) -> Statement | None:
    """None when the record says nothing of budgets, or nothing that can be understood."""
    if not any(mark in body for mark in _MARKS):
        return None
    try:
        event = json.loads(body)
        data = event["data"]
        kind = event["type"]
        if not isinstance(data, dict):
            return None
        return Statement(
            uses=tuple(_uses(data)),
            held=tuple(_held(data)) if kind == GRANTED else (),
            wishes=tuple(_wishes(data)) if kind == ASKED else (),
            asks=kind == ASKED,
        )
    except (ValueError, KeyError, TypeError, RecursionError):
        return None


def _uses(data: Mapping[str, Any]) -> Iterator[Use]:
    for name in ("leases", "closed"):
        for each in data.get(name) or ():
            if isinstance(each, dict) and "count" in each:
                yield Use(
                    lease=str(each["lease"])[:64],
                    consumed=_number(each["consumed"]),
                    reserved=_number(each["reserved"]),
                    count=_number(each["count"]),
                    closed=name == "closed",
                )


def _held(data: Mapping[str, Any]) -> Iterator[GrantedLease]:
    """Leases in full, as the device took them: a backend that was put back learns again what it gave."""
    terms = [each for each in data.get("held") or () if isinstance(each, dict)]
    for each in terms:
        try:
            claims = {"fleet": "-", "device": "-", "number": 0, "leases": [each]}
            yield from parse_grant(claims).leases
        except BadMessage:
            continue


def _wishes(data: Mapping[str, Any]) -> Iterator[Wish]:
    for each in (data.get("wants") or ())[:MAX_WANTS]:
        yield Wish(budget=str(each["budget"])[:160], need=_number(each["need"]))


def _number(value: object) -> int:
    if not isinstance(value, int) or isinstance(value, bool) or not 0 <= value <= _MOST:
        raise ValueError("not a number of a lease")
    return value
