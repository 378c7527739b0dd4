"""What is asked: this token, here, at this charger, with this much going on already."""

from __future__ import annotations

from dataclasses import dataclass, field
from datetime import datetime
from enum import StrEnum
from typing import TYPE_CHECKING

from agent.core.answers import Heard
from agent.core.credentials import CardDoubt, Credential
from agent.core.history import Visit
from agent.core.overrides import Override
from agent.core.pins import PinState
from agent.core.policy import Token
from agent.core.positions import Position
from agent.core.prices import Prices
from agent.core.quotes import Quote
from agent.core.sites import Doubt

if TYPE_CHECKING:
    from agent.core.claims import Claim


class Source(StrEnum):
    """Who says where this is."""

    CONFIGURATION = "configuration"
    CHARGER = "charger"
    REQUEST = "request"
    SITES = "sites"
    GPSD = "gpsd"
    API = "api"


@dataclass(frozen=True, slots=True, kw_only=True)
class Place:
    """Where the charge would happen, as far as is known. None is missing, and the rules say what missing means.

    `connector` is its type in OCPI's words, `power_w` what the charging point is rated for. `source` names the EVSE;
    `measured_by` told the position, which lies `distance_m` from the site that it was found to be. `doubt`: why a
    position named none, with the sites that it may be, or which one it contradicts (whereabouts.py).
    """

    evse: str | None = None
    network: str | None = None
    country: str | None = None
    site: str | None = None
    connector: str | None = None
    power_w: int | None = None
    position: Position | None = None
    source: Source | None = None
    measured_by: Source | None = None
    distance_m: int | None = None
    doubt: Doubt | None = None
    candidates: tuple[str, ...] | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class Code:
    """A break-glass code that the driver was told, and what for."""

    code: str = field(repr=False)
    why: str


@dataclass(frozen=True, slots=True, kw_only=True)
class Told:
    """What whoever asks may tell besides the card, when the machine does not know it better. The PIN stays here."""

    prices: Prices | None = None
    quote: Quote | None = None
    soc_percent: int | None = None
    pin: str | None = field(default=None, repr=False)
    odometer_km: int | None = None
    route: str | None = None
    code: Code | None = None


NOTHING = Told()


@dataclass(frozen=True, slots=True, kw_only=True)
class Signs:
    """A contract is to sign; `session` is what the vehicle's software calls its session.

    `within` is the decision that took the contract into use, when this signature goes on with it: then it does not
    stand in its own way, and opens nothing.
    """

    session: str | None = None
    within: str | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class Given:
    """What the driver was asked for and gave: what came of the PIN, and the odometer."""

    pin: PinState | None = None
    odometer_km: int | None = None
    route: str | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class Request:
    """All that a decision may look at besides the policy.

    `lookup_failed`: the token table could not be read. `crowded`: more than one card was in the field. `metered`: the
    charger tells what it delivers.
    """

    credential: Credential
    token: Token | None
    lookup_failed: bool = False
    doubt: CardDoubt | None = None
    reader: str | None = None
    charger: str | None = None
    place: Place
    vehicle: str | None = None
    crowded: bool = False
    prices: Prices | None = None
    quote: Quote | None = None
    soc_percent: int | None = None
    metered: bool = True
    given: Given = Given()
    heard: Heard | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class Usage:
    """What is going on at this device: open sessions of the token and of the vehicle, and room to store facts.

    `past`: earlier sessions of the token. `known_since`: the log of them does not reach further back. `overrides`:
    those for this token that were not used yet. `claims`: what the budgets that bind it say.
    """

    sessions_of_token: tuple[str, ...] = ()
    sessions_of_vehicle: tuple[str, ...] = ()
    session_at_charger: str | None = None
    charger_reachable: bool = True
    storage_full: bool = False
    past: tuple[Visit, ...] = ()
    known_since: datetime | None = None
    wrong_pins: int = 0
    last_odometer_km: int | None = None
    overrides: tuple[Override, ...] = ()
    claims: tuple[Claim, ...] = ()
