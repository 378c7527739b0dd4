"""One-time overrides as they travel: a JWS each, several in one retained message or in one file, one a line.

What an override may outweigh is judged by the device's machine; who may sign one is named by the fleet's documents.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Any

from sync.claims import maybe_number, moment, seconds, text, texts
from sync.messages import BadMessage

OVERRIDE_TYP = "roamkey-override+jwt"
MAX_MESSAGE_BYTES = 64 * 1024
MAX_OVERRIDES = 16
MAX_RULES = 64
MAX_WHY = 200
LONGEST = timedelta(hours=24)
_AMOUNT = re.compile(r"[0-9]{1,8}(\.[0-9]{1,6})?")
_CURRENCY = re.compile(r"[A-Z]{3}")


@dataclass(frozen=True, slots=True, kw_only=True)
class SignedOverride:
    """`token` is the card's keyed reference; `waives` names rules, or `*` for all that can be waived.

    `max_cost` is (currency, amount with taxes as text).
    """

    fleet: str
    device: str
    id: str
    token: str
    waives: tuple[str, ...]
    why: str
    by: str
    issued: datetime
    not_after: datetime
    max_energy_wh: int | None = None
    max_duration_s: int | None = None
    max_cost: tuple[str, str] | None = None

    def to_claims(self) -> dict[str, Any]:
        claims: dict[str, Any] = {
            "fleet": self.fleet,
            "device": self.device,
            "id": self.id,
            "token": self.token,
            "waives": list(self.waives),
            "why": self.why,
            "by": self.by,
            "iat": seconds(self.issued),
            "exp": seconds(self.not_after),
        }
        for name in ("max_energy_wh", "max_duration_s"):
            if getattr(self, name) is not None:
                claims[name] = getattr(self, name)
        if self.max_cost is not None:
            claims["max_cost"] = {"currency": self.max_cost[0], "gross": self.max_cost[1]}
        return claims


def parse_override(claims: Mapping[str, Any]) -> SignedOverride:
    """The claims of a token whose signature has been verified. Unknown claims are refused: one may be a limit."""
    unknown = sorted(claims.keys() - _KNOWN)
    if unknown:
        raise BadMessage(f"an override with {unknown[0][:40]!r} is for a newer device")
    token = text(claims, "token")
    if len(token) != 64 or not set(token) <= set("0123456789abcdef"):
        raise BadMessage("token must be a keyed reference, 64 hex characters")
    issued, not_after = moment(claims, "iat"), moment(claims, "exp")
    if not issued < not_after <= issued + LONGEST:
        raise BadMessage(f"exp must be at most {LONGEST.total_seconds() / 3600:.0f} h after iat")
    override = SignedOverride(
        fleet=text(claims, "fleet"),
        device=text(claims, "device"),
        id=text(claims, "id"),
        token=token,
        waives=texts(claims, "waives", MAX_RULES),
        why=text(claims, "why", MAX_WHY),
        by=text(claims, "by"),
        issued=issued,
        not_after=not_after,
        max_energy_wh=maybe_number(claims, "max_energy_wh"),
        max_duration_s=maybe_number(claims, "max_duration_s"),
        max_cost=_max_cost(claims.get("max_cost")),
    )
    if override.max_energy_wh is None and override.max_duration_s is None and override.max_cost is None:
        raise BadMessage("an override must have a limit: max_energy_wh, max_duration_s or max_cost")
    return override


_KNOWN = {"fleet", "device", "id", "token", "waives", "why", "by", "iat", "exp"}
_KNOWN |= {"max_energy_wh", "max_duration_s", "max_cost"}


def lines_of(payload: bytes) -> tuple[bytes, ...]:
    """The tokens of one message, not judged yet. Empty when all were withdrawn."""
    if len(payload) > MAX_MESSAGE_BYTES:
        raise BadMessage(f"message of {len(payload)} bytes is larger than {MAX_MESSAGE_BYTES}")
    lines = tuple(line.strip() for line in payload.splitlines() if line.strip())
    if len(lines) > MAX_OVERRIDES:
        raise BadMessage(f"{len(lines)} overrides in one message, at most {MAX_OVERRIDES} are taken")
    return lines


def _max_cost(value: object) -> tuple[str, str] | None:
    if value is None:
        return None
    if not isinstance(value, dict) or set(value) != {"currency", "gross"}:
        raise BadMessage("max_cost must be an object with currency and gross")
    currency, gross = str(value["currency"]), str(value["gross"])
    if not _CURRENCY.fullmatch(currency) or not _AMOUNT.fullmatch(gross):
        raise BadMessage('max_cost must be such as {"currency":"EUR","gross":"25.00"}')
    return currency, gross
