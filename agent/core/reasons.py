"""Why a charge was refused, or granted with a warning. Their mapping to OCPI, OCPP and OICP is statuses.py."""

from __future__ import annotations

from dataclasses import dataclass
from enum import StrEnum


class ReasonCode(StrEnum):
    """Why not, or why with a warning. Names are stable: backends and technicians match on them."""

    NO_POLICY = "NO_POLICY"
    POLICY_EXPIRED = "POLICY_EXPIRED"
    CACHE_STALE = "CACHE_STALE"
    CACHE_UNREADABLE = "CACHE_UNREADABLE"
    CLOCK_UNTRUSTED = "CLOCK_UNTRUSTED"
    TOKEN_UNKNOWN = "TOKEN_UNKNOWN"
    TOKEN_RANDOM_UID = "TOKEN_RANDOM_UID"
    TOKEN_AMBIGUOUS = "TOKEN_AMBIGUOUS"
    CARD_NOT_GENUINE = "CARD_NOT_GENUINE"
    CARD_TORN = "CARD_TORN"
    PHONE = "PHONE"
    TOKEN_BLOCKED = "TOKEN_BLOCKED"
    REVOKED = "REVOKED"
    TOKEN_NOT_YET_VALID = "TOKEN_NOT_YET_VALID"
    TOKEN_EXPIRED = "TOKEN_EXPIRED"
    NO_ANSWER = "NO_ANSWER"
    NO_CREDIT = "NO_CREDIT"
    BACKEND_REFUSED = "BACKEND_REFUSED"
    OVERRIDE_UNFIT = "OVERRIDE_UNFIT"
    NETWORK = "NETWORK"
    COUNTRY = "COUNTRY"
    GEOFENCE = "GEOFENCE"
    SITE = "SITE"
    NON_PREFERRED_SITE = "NON_PREFERRED_SITE"
    PLACE_UNSURE = "PLACE_UNSURE"
    TIME_WINDOW = "TIME_WINDOW"
    HOLIDAY = "HOLIDAY"
    CALENDAR_STALE = "CALENDAR_STALE"
    CONNECTOR = "CONNECTOR"
    POWER_LIMIT = "POWER_LIMIT"
    ASSURANCE = "ASSURANCE"
    PRICE_CAP = "PRICE_CAP"
    PRICE_UNKNOWN = "PRICE_UNKNOWN"
    CURRENCY_MISMATCH = "CURRENCY_MISMATCH"
    SESSION_COST_CAP = "SESSION_COST_CAP"
    LIMIT_UNENFORCEABLE = "LIMIT_UNENFORCEABLE"
    SOC = "SOC"
    BUDGET_EXHAUSTED = "BUDGET_EXHAUSTED"
    LEASE_EMPTY = "LEASE_EMPTY"
    LEASE_EXPIRED = "LEASE_EXPIRED"
    LEASE_MISSING = "LEASE_MISSING"
    CONCURRENT_SESSION = "CONCURRENT_SESSION"
    VELOCITY = "VELOCITY"
    PIN = "PIN"
    PIN_LOCKED = "PIN_LOCKED"
    ODOMETER = "ODOMETER"
    SEVERAL_CARDS = "SEVERAL_CARDS"
    EVSE_OCCUPIED = "EVSE_OCCUPIED"
    EVSE_UNAVAILABLE = "EVSE_UNAVAILABLE"
    STORAGE_FULL = "STORAGE_FULL"


@dataclass(frozen=True, slots=True, kw_only=True)
class Reason:
    """One rule's objection: what was seen against what was allowed, and which group of the policy said so."""

    code: ReasonCode
    rule: str
    observed: str = ""
    limit: str = ""
    group: str | None = None
    missing: bool = False


@dataclass(frozen=True, slots=True, kw_only=True)
class Ground:
    """A rule that could have refused, and did not. `group`: whose limit it was; absent: it binds every card."""

    rule: str
    observed: str
    limit: str
    group: str | None = None
