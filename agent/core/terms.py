"""What a group may say, as values: what a failed rule does, and the rules' parameters that are more than a number.

The groups themselves are policy.py; what each term means is judged in rules/.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from datetime import date
from decimal import Decimal
from enum import StrEnum
from zoneinfo import ZoneInfo

from agent.core.credentials import Assurance
from agent.core.positions import Polygon


class Effect(StrEnum):
    """What an objection does to the decision. `require`: the driver's PIN outweighs it."""

    DENY = "deny"
    REQUIRE = "require"
    WARN = "warn"
    ALLOW = "allow"


class Kind(StrEnum):
    """The rules whose effect, and whose view of missing data, a group may set for itself."""

    NETWORKS = "networks"
    COUNTRIES = "countries"
    SITES = "sites"
    GEOFENCE = "geofence"
    PLACE = "place"
    SCHEDULE = "schedule"
    HOLIDAYS = "holidays"
    CONNECTORS = "connectors"
    POWER = "power"
    ASSURANCE = "assurance"
    PRICES = "prices"
    COST = "cost"
    LIMITS = "limits"
    SOC = "soc"
    VELOCITY = "velocity"


class Prompt(StrEnum):
    """What a driver can be asked for."""

    PIN = "pin"
    ODOMETER = "odometer"


@dataclass(frozen=True, slots=True, kw_only=True)
class Lenience:
    """What missing data means to a rule. `max_energy_wh`: allowed with a warning, but only so much."""

    effect: Effect
    max_energy_wh: int | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class Window:
    """Local minutes of the day, [start, end), on weekdays (0 = Monday). It belongs to the day on which it starts."""

    weekdays: frozenset[int]
    start_minute: int
    end_minute: int


@dataclass(frozen=True, slots=True, kw_only=True)
class Schedule:
    """When charging may start: inside any window, in this zone."""

    zone: ZoneInfo
    windows: tuple[Window, ...]


@dataclass(frozen=True, slots=True, kw_only=True)
class Calendar:
    """Days on which nobody charges. `until` is the last day that its author has thought of."""

    name: str
    days: frozenset[date]
    until: date


@dataclass(frozen=True, slots=True, kw_only=True)
class Holidays:
    """No charging may start on a day of any of these calendars, by the local date in this zone."""

    zone: ZoneInfo
    calendars: tuple[Calendar, ...]


@dataclass(frozen=True, slots=True, kw_only=True)
class PriceAbove:
    """More than this for a kWh, with taxes."""

    currency: str
    per_kwh: Decimal


@dataclass(frozen=True, slots=True, kw_only=True)
class Demand:
    """A card at least so good is wanted where all named conditions hold; without any, everywhere.

    A condition that cannot be looked at counts as holding, as missing data.
    """

    assurance: Assurance
    networks: frozenset[str] | None = None
    outside_countries: frozenset[str] | None = None
    above_power_w: int | None = None
    above_price: PriceAbove | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class Fence:
    """Charging is allowed inside any of these. A position that is older or vaguer than this is as good as none."""

    polygons: tuple[Polygon, ...]
    max_age_s: int = 300
    max_accuracy_m: int = 100


@dataclass(frozen=True, slots=True, kw_only=True)
class Velocity:
    """At most so many sessions of a card within any such time; those that run count."""

    sessions: int
    window_s: int


Effects = Mapping[Kind, Effect]
Leniences = Mapping[Kind, Lenience]
