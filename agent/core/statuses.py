"""What peers call our reasons: OCPI AllowedType, OCPP 1.6 and 2.0.1 AuthorizationStatus, OICP code.

Table: policy reference 9.4. With several reasons the most severe gives the status that is told to a peer.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass

from agent.core.reasons import Reason, ReasonCode


@dataclass(frozen=True, slots=True, kw_only=True)
class Statuses:
    """One decision in the words of four protocols. `ocpi` is empty where OCPI answers with error 2004 instead."""

    ocpi: str
    ocpp16: str
    ocpp201: str
    oicp: str


ACCEPTED = Statuses(ocpi="ALLOWED", ocpp16="Accepted", ocpp201="Accepted", oicp="000")

_UNKNOWN = Statuses(ocpi="", ocpp16="Invalid", ocpp201="Unknown", oicp="102")
_NO_POLICY = Statuses(ocpi="", ocpp16="Invalid", ocpp201="Invalid", oicp="102")
_BLOCKED = Statuses(ocpi="BLOCKED", ocpp16="Blocked", ocpp201="Blocked", oicp="200")
_EXPIRED = Statuses(ocpi="EXPIRED", ocpp16="Expired", ocpp201="Expired", oicp="210")
_NO_CREDIT = Statuses(ocpi="NO_CREDIT", ocpp16="Blocked", ocpp201="NoCredit", oicp="210")
_PLACE = Statuses(ocpi="NOT_ALLOWED", ocpp16="Invalid", ocpp201="NotAtThisLocation", oicp="106")
_TIME = Statuses(ocpi="NOT_ALLOWED", ocpp16="Invalid", ocpp201="NotAtThisTime", oicp="106")
_TYPE = Statuses(ocpi="NOT_ALLOWED", ocpp16="Invalid", ocpp201="NotAllowedTypeEVSE", oicp="106")
_BUSY = Statuses(ocpi="NOT_ALLOWED", ocpp16="ConcurrentTx", ocpp201="ConcurrentTx", oicp="602")
_SILENT = Statuses(ocpi="NOT_ALLOWED", ocpp16="Invalid", ocpp201="Invalid", oicp="310")
_OTHER = Statuses(ocpi="NOT_ALLOWED", ocpp16="Invalid", ocpp201="Invalid", oicp="106")

# Most severe first: blocked, expired, no credit, place, time, type, other. This order is the order of reasons.
TABLE: dict[ReasonCode, Statuses] = {
    ReasonCode.REVOKED: _BLOCKED,
    ReasonCode.TOKEN_BLOCKED: _BLOCKED,
    ReasonCode.TOKEN_EXPIRED: _EXPIRED,
    ReasonCode.POLICY_EXPIRED: _EXPIRED,
    ReasonCode.NO_POLICY: _NO_POLICY,  # without a policy every card is unknown: this is what to tell
    ReasonCode.CARD_NOT_GENUINE: _UNKNOWN,  # whose card it claims to be is nobody's business
    ReasonCode.TOKEN_AMBIGUOUS: _UNKNOWN,
    ReasonCode.PHONE: _UNKNOWN,
    ReasonCode.TOKEN_RANDOM_UID: _UNKNOWN,
    ReasonCode.TOKEN_UNKNOWN: _UNKNOWN,
    ReasonCode.NO_CREDIT: _NO_CREDIT,
    ReasonCode.BUDGET_EXHAUSTED: _NO_CREDIT,
    ReasonCode.LEASE_EMPTY: _NO_CREDIT,
    ReasonCode.LEASE_EXPIRED: _NO_CREDIT,
    ReasonCode.LEASE_MISSING: _NO_CREDIT,
    ReasonCode.SESSION_COST_CAP: _NO_CREDIT,
    ReasonCode.NETWORK: _PLACE,
    ReasonCode.COUNTRY: _PLACE,
    ReasonCode.GEOFENCE: _PLACE,
    ReasonCode.SITE: _PLACE,
    ReasonCode.NON_PREFERRED_SITE: _PLACE,
    ReasonCode.PLACE_UNSURE: _PLACE,
    ReasonCode.TIME_WINDOW: _TIME,
    ReasonCode.HOLIDAY: _TIME,
    ReasonCode.CALENDAR_STALE: _TIME,
    ReasonCode.TOKEN_NOT_YET_VALID: _TIME,
    ReasonCode.POWER_LIMIT: _TYPE,
    ReasonCode.CONNECTOR: _TYPE,
    ReasonCode.CONCURRENT_SESSION: _BUSY,
    ReasonCode.VELOCITY: _BUSY,
    ReasonCode.EVSE_OCCUPIED: _BUSY,
    ReasonCode.EVSE_UNAVAILABLE: _OTHER,
    ReasonCode.BACKEND_REFUSED: _OTHER,
    ReasonCode.NO_ANSWER: _SILENT,
    ReasonCode.PRICE_CAP: _OTHER,
    ReasonCode.PRICE_UNKNOWN: _OTHER,
    ReasonCode.CURRENCY_MISMATCH: _OTHER,
    ReasonCode.LIMIT_UNENFORCEABLE: _OTHER,
    ReasonCode.SOC: _OTHER,
    ReasonCode.PIN_LOCKED: _OTHER,
    ReasonCode.ASSURANCE: _OTHER,
    ReasonCode.CARD_TORN: _OTHER,
    ReasonCode.SEVERAL_CARDS: _OTHER,
    ReasonCode.CLOCK_UNTRUSTED: _OTHER,
    ReasonCode.CACHE_STALE: _OTHER,
    ReasonCode.CACHE_UNREADABLE: _OTHER,
    ReasonCode.STORAGE_FULL: _OTHER,
    ReasonCode.PIN: _OTHER,
    ReasonCode.ODOMETER: _OTHER,
    ReasonCode.OVERRIDE_UNFIT: _OTHER,
}

_RANK = {code: rank for rank, code in enumerate(TABLE)}


def by_severity(reasons: Iterable[Reason]) -> tuple[Reason, ...]:
    """A total order that does not depend on the order of the rules."""
    found = tuple(reasons)
    if len(found) < 2:
        return found
    return tuple(
        sorted(found, key=lambda reason: (_RANK[reason.code], reason.rule, reason.group or "", reason.observed))
    )


def statuses_of(reasons: tuple[Reason, ...]) -> Statuses:
    return TABLE[min(reasons, key=lambda reason: _RANK[reason.code]).code] if reasons else ACCEPTED
