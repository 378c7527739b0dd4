"""The fleet's documents as JSON becomes values here, and nowhere else: strict in type, and unknown fields are refused.

Strict although peers deserve patience: a rule that an older device silently skipped would be a rule that allows. So
the schema has a number, and a bundle for newer devices is refused whole while the good one stays in force.
Signatures were judged before (sync/documents.py); what the fleet wants is judged in agent/core.
"""

from __future__ import annotations

import difflib
import json
import re
from collections.abc import Mapping
from dataclasses import dataclass, replace
from datetime import UTC, date, datetime, timedelta
from decimal import Decimal
from typing import Annotated, Any, Literal, TypeVar
from zoneinfo import ZoneInfo

from pydantic import AfterValidator, BaseModel, BeforeValidator, ConfigDict, Field, ValidationError, model_validator

from agent.cache.budget_documents import MAX_BUDGETS, BudgetDocument, BudgetName, budget_of
from agent.cache.contents import Contents, KeyUse, ServiceKey
from agent.config import NAME
from agent.contracts.trust_documents import ANCHORS, REVOCATIONS, TrustUnfit, read_trust
from agent.core.answers import Whitelist
from agent.core.countries import ALPHA_2, normalise_country
from agent.core.credentials import Assurance
from agent.core.history import LONGEST, MOST_VISITS
from agent.core.networks import normalise_network
from agent.core.pins import Pin
from agent.core.policy import (
    MAX_GROUP_DEPTH,
    Driver,
    Group,
    Token,
    TokenStatus,
    Vehicle,
)
from agent.core.positions import Corner
from agent.core.prices import PriceCaps
from agent.core.sites import Evse, Matching, Site, Sites, sites_of
from agent.core.tariff.tariffs import Basis
from agent.core.terms import (
    Calendar,
    Demand,
    Effect,
    Fence,
    Holidays,
    Kind,
    Lenience,
    PriceAbove,
    Prompt,
    Schedule,
    Velocity,
    Window,
)
from sync.bundle import FIRST_PART
from sync.signing import SigningError, thumbprint

SCHEMA = 1
POLICY = "policy.json"
PEOPLE = "people.json"
VEHICLES = "vehicles.json"
KEYS = "keys.json"
DEVICES = "devices.json"  # optional: whose signatures the fleet vouches for
SITES = "sites.json"  # optional: where charging happens, for a device that finds out by its position
REVOKED = FIRST_PART  # optional: references of tokens that nothing makes good again
REQUIRED = (POLICY, PEOPLE, VEHICLES, KEYS)
CONTRACTS = (ANCHORS, REVOCATIONS)  # optional: whose contracts are believed, and which no longer
MAX_GROUPS = 10_000
MAX_PEOPLE = 1_000_000
LOOK_BACK_S = int(LONGEST.total_seconds())
MAX_DEVICES = 100_000
MAX_REVOKED = 20_000
MAX_SITES = 20_000  # held in memory: about 1 KiB each
Entry = Literal["budget", "calendar", "group", "driver", "vehicle", "token", "site"]
_SHARD = re.compile(r"tokens/([0-9a-f]{2})\.json")
_CLOCK = re.compile(r"([01][0-9]|2[0-3]):([0-5][0-9])")
_DAYS = ("mon", "tue", "wed", "thu", "fri", "sat", "sun")


class DocumentUnfit(Exception):
    """A document, signed or not, does not say what it must. `code` is a stable name for records and tests."""

    def __init__(self, document: str, detail: str, *, code: str = "DocumentUnfit") -> None:
        super().__init__(f"{document}: {detail}")
        self.document = document
        self.detail = detail
        self.code = code


def read_contents(bodies: Mapping[str, bytes]) -> Contents:
    """The four documents by their target names, each fit and all fitting together."""
    for name in REQUIRED:
        if name not in bodies:
            raise DocumentUnfit(name, "is not in the bundle")
    contents = read_policy(bodies[POLICY])
    people = _parse(PEOPLE, _People, bodies[PEOPLE])
    vehicles = _parse(VEHICLES, _Vehicles, bodies[VEHICLES])
    keys = read_keys(bodies[KEYS])
    if DEVICES in bodies:
        read_devices(bodies[DEVICES])
    _judge_trust(bodies)
    _judge_profiles(bodies)
    return replace(
        contents,
        sites=read_sites(bodies[SITES]) if SITES in bodies else Sites(),
        revoked=read_revoked(bodies[REVOKED]) if REVOKED in bodies else frozenset(),
        drivers=_unique(PEOPLE, [_driver(each) for each in people.drivers]),
        vehicles=_unique(VEHICLES, [Vehicle(**each.model_dump()) for each in vehicles.vehicles]),
        keys=keys,
    )


def _judge_trust(bodies: Mapping[str, bytes]) -> None:
    """Read anew from the parts when it is needed: certificates are not stored a second time as values."""
    for name in bodies:
        if name.startswith("contracts/") and name not in CONTRACTS:
            raise DocumentUnfit(name, f"is no document about contracts; they are {' and '.join(CONTRACTS)}")
    for name in CONTRACTS:
        if name in bodies:
            try:
                read_trust({name: bodies[name]})
            except TrustUnfit as error:
                raise DocumentUnfit(name, str(error).removeprefix(f"{name}: ")) from error


def _judge_profiles(bodies: Mapping[str, bytes]) -> None:
    """Every one with its vectors through the real codec: a bundle with one that fails is not taken."""
    named = [name for name in bodies if name.startswith("profiles/")]
    if not named:
        return
    from agent.bundled_profiles import judge
    from firmware_profiles.profile import ProfileError

    for name in named:
        try:
            judge(name, bodies[name])
        except ProfileError as error:
            raise DocumentUnfit(name, str(error).removeprefix(f"{name}: ")) from error


def read_policy(body: bytes) -> Contents:
    """The policy alone, without people and keys: enough to ask its rules again."""
    policy = _parse(POLICY, _Policy, body)
    if policy.expired_after_hours < policy.stale_after_hours:
        raise DocumentUnfit(POLICY, "expired_after_hours is less than stale_after_hours")
    return Contents(
        fleet=policy.fleet,
        revision=policy.revision,
        key_check=policy.key_check,
        stale_after=timedelta(hours=policy.stale_after_hours),
        expired_after=timedelta(hours=policy.expired_after_hours),
        groups=_groups(policy.groups, _calendars(policy.calendars)),
        budgets=tuple(budget_of(name, each) for name, each in policy.budgets.items()),
        drivers={},
        vehicles={},
        keys=(),
    )


def read_shard(name: str, body: bytes, contents: Contents) -> list[Token]:
    """The tokens of one shard, sorted by reference; every one of this shard, once, and of people that exist."""
    prefix = shard_prefix(name)
    if prefix is None:
        raise DocumentUnfit(name, "is no token shard; they are tokens/00.json to tokens/ff.json")
    tokens: dict[str, Token] = {}
    for index, entry in enumerate(_parse(name, _Shard, body).tokens):
        where = f"tokens.{index}"
        if not entry.reference.startswith(prefix):
            raise DocumentUnfit(name, f"{where}: reference {entry.reference[:8]}... belongs into another shard")
        if entry.reference in tokens:
            raise DocumentUnfit(name, f"{where}: reference {entry.reference[:8]}... is here twice")
        for field, known in (
            ("group", contents.groups),
            ("driver", contents.drivers),
            ("vehicle", contents.vehicles),
        ):
            value = getattr(entry, field)
            if value is not None and value not in known:
                raise DocumentUnfit(name, f"{where}: {field} {value!r} is not in the bundle")
        tokens[entry.reference] = Token(**{field: getattr(entry, field) for field in _TOKEN_FIELDS})
    return [tokens[reference] for reference in sorted(tokens)]


def read_keys(body: bytes) -> tuple[ServiceKey, ...]:
    """The backend's service keys, and what each may sign."""
    return tuple(_service_key(each) for each in _parse(KEYS, _Keys, body).keys_)


def read_devices(body: bytes) -> dict[str, dict[str, str]]:
    """The fleet's devices and their public keys: name to kid to JWK. A replaced key stays, for what it has signed."""
    devices: dict[str, dict[str, str]] = {}
    for entry in _parse(DEVICES, _Devices, body).devices:
        if entry.device in devices:
            raise DocumentUnfit(DEVICES, f"{entry.device!r} is here twice")
        devices[entry.device] = {each.kid: _public_key(DEVICES, each.kid, each.jwk) for each in entry.keys_}
    return devices


def read_revoked(body: bytes) -> frozenset[str]:
    return frozenset(_parse(REVOKED, _Revoked, body).revoked)


def read_sites(body: bytes) -> Sites:
    """Every site once, and every EVSE at one site."""
    document = _parse(SITES, _Sites, body)
    sites = _unique(SITES, [_site(each) for each in document.sites])
    evses: set[str] = set()
    for site in sites.values():
        for evse in site.evses:
            name = normalise_network(evse.id)
            if name in evses:
                raise DocumentUnfit(SITES, f"sites.{site.id}: EVSE {evse.id!r} is here twice")
            evses.add(name)
    return sites_of(sites.values(), Matching(**document.matching.model_dump()))


def shard_name(reference: str) -> str:
    return f"tokens/{reference[:2]}.json"


def shard_prefix(name: str) -> str | None:
    """The first byte of the references in this shard, as hex; None when the name is no shard's."""
    match = _SHARD.fullmatch(name)
    return match.group(1) if match else None


@dataclass(frozen=True, slots=True, kw_only=True)
class Fault:
    """What is wrong with one entry, and where in it."""

    place: tuple[str | int, ...]
    text: str
    unknown_key: bool = False


def entry_faults(kind: Entry, value: Mapping[str, Any]) -> list[Fault]:
    """What is wrong with one entry as an operator wrote it, each with its place and the nearest known key."""
    try:
        _ENTRIES[kind].model_validate_json(json.dumps(value), strict=True)
    except ValidationError as error:
        return [_fault(each, _ENTRIES[kind]) for each in error.errors(include_url=False, include_input=False)]
    return []


def entry_keys(kind: Entry) -> tuple[str, ...]:
    """What such an entry may say, in the order of its description."""
    return tuple(_ENTRIES[kind].model_fields)


def entry_defaults(kind: Entry) -> dict[str, Any]:
    """What an entry that does not say it means, as it would be written."""
    fields = _ENTRIES[kind].model_fields.items()
    return {name: field.default for name, field in fields if not field.is_required() and field.default is not None}


def entry_schema(kind: Entry) -> dict[str, Any]:
    """JSON Schema of what such an entry may say."""
    return _ENTRIES[kind].model_json_schema()


def policy_schema() -> dict[str, Any]:
    return _Policy.model_json_schema()


def matching_schema() -> dict[str, Any]:
    return _Matching.model_json_schema()


def _fault(problem: Any, model: type[BaseModel]) -> Fault:
    place: tuple[str | int, ...] = tuple(problem["loc"])
    if problem["type"] != "extra_forbidden":
        return Fault(place=place, text=problem["msg"].removeprefix("Value error, "))
    known = _known_keys(model)
    near = difflib.get_close_matches(str(place[-1]), known, n=1)
    told = "unknown key" + (f", did you mean {near[0]!r}?" if near else f"; known are {', '.join(known)}")
    return Fault(place=place, text=told, unknown_key=True)


def _known_keys(model: type[BaseModel]) -> list[str]:
    nested: tuple[type[BaseModel], ...] = (
        (_Schedule, _Window, _Holidays, _Demand, _Prices, _Velocity, _Fence) if model is _Group else ()
    )
    return [name for each in (model, *nested) for name in each.model_fields]


def _parse(name: str, model: type[M], body: bytes) -> M:
    try:
        return model.model_validate_json(body, strict=True)
    except ValidationError as error:
        raise DocumentUnfit(name, explain(error)) from None  # pydantic's own text would repeat the input


def explain(error: ValidationError) -> str:
    """The first problem, as place and reason, without the value: it may be secret or very long."""
    first = error.errors(include_url=False, include_input=False, include_context=False)[0]
    place = ".".join(str(each) for each in first["loc"]) or "document"
    more = f" (and {error.error_count() - 1} more)" if error.error_count() > 1 else ""
    return f"{place}: {first['msg'].removeprefix('Value error, ')}{more}"


def _groups(documents: Mapping[str, _Group], calendars: Mapping[str, Calendar]) -> dict[str, Group]:
    groups = {name: _group(name, group, calendars) for name, group in documents.items()}
    for name in groups:
        _check_ancestors(name, groups)
    return groups


def _group(name: str, group: _Group, calendars: Mapping[str, Calendar]) -> Group:
    return Group(
        id=name,
        parent=group.parent,
        networks=_ids(group.networks),
        countries=_countries(group.countries),
        schedule=None if group.schedule is None else _schedule(name, group.schedule),
        max_sessions_per_token=group.max_sessions_per_token,
        max_sessions_per_vehicle=group.max_sessions_per_vehicle,
        max_energy_wh=group.max_energy_wh,
        stale_max_energy_wh=group.stale_max_energy_wh,
        denied_sites=_ids(group.denied_sites),
        preferred_sites=_ids(group.preferred_sites),
        fence=None if group.fence is None else _fence(group.fence),
        holidays=None if group.holidays is None else _holidays(name, group.holidays, calendars),
        connectors=None if group.connectors is None else frozenset(group.connectors),
        max_power_w=group.max_power_w,
        demands=tuple(
            Demand(
                assurance=Assurance(each.assurance),
                networks=_ids(each.networks),
                outside_countries=_countries(each.outside_countries),
                above_power_w=each.above_power_w,
                above_price=None if each.above_price is None else PriceAbove(**dict(each.above_price)),
            )
            for each in group.demands
        ),
        lossy_cards=group.lossy_cards,
        prices=None if group.prices is None else PriceCaps(**dict(group.prices)),
        max_duration_s=group.max_duration_s,
        max_start_soc_percent=group.max_start_soc_percent,
        target_soc_percent=group.target_soc_percent,
        velocity=None if group.velocity is None else Velocity(**dict(group.velocity)),
        min_gap_s=group.min_gap_s,
        prompts=frozenset(group.prompts),
        max_odometer_increase_km=group.max_odometer_increase_km,
        effects={Kind(kind): effect for kind, effect in group.effects.items()},
        missing={Kind(kind): _lenience(said) for kind, said in group.missing.items()},
    )


def _fence(fence: _Fence) -> Fence:
    polygons = tuple(
        tuple(Corner(latitude_udeg=latitude, longitude_udeg=longitude) for latitude, longitude in polygon)
        for polygon in fence.polygons
    )
    return Fence(polygons=polygons, max_age_s=fence.max_age_s, max_accuracy_m=fence.max_accuracy_m)


def _ids(values: list[str] | None) -> frozenset[str] | None:
    return None if values is None else frozenset(normalise_network(each) for each in values)


def _countries(values: list[str] | None) -> frozenset[str] | None:
    return None if values is None else frozenset(normalise_country(each) for each in values)


def _lenience(said: Effect | _Stated) -> Lenience:
    if isinstance(said, _Stated):
        return Lenience(effect=Effect.WARN, max_energy_wh=said.max_energy_wh)
    return Lenience(effect=said)


def _calendars(documents: Mapping[str, _Calendar]) -> dict[str, Calendar]:
    calendars = {}
    for name, each in documents.items():
        late = sorted(day for day in each.days if day > each.until)
        if late:
            raise DocumentUnfit(POLICY, f"calendars.{name}: {late[0]} is after its own horizon, until {each.until}")
        calendars[name] = Calendar(name=name, days=frozenset(each.days), until=each.until)
    return calendars


def _holidays(group: str, holidays: _Holidays, calendars: Mapping[str, Calendar]) -> Holidays:
    for each in holidays.calendars:
        if each not in calendars:
            raise DocumentUnfit(POLICY, f"groups.{group}.holidays: calendar {each!r} is not in the policy")
    return Holidays(
        zone=_zone(f"{group}.holidays", holidays.zone), calendars=tuple(calendars[each] for each in holidays.calendars)
    )


def _check_ancestors(name: str, groups: Mapping[str, Group]) -> None:
    above: str | None = name
    for _ in range(MAX_GROUP_DEPTH):
        parent = groups[above].parent if above is not None else None
        if parent is None:
            return
        if parent not in groups:
            raise DocumentUnfit(POLICY, f"groups.{above}: parent {parent!r} is not in the policy")
        above = parent
    raise DocumentUnfit(POLICY, f"groups.{name}: its parents form a circle or are more than {MAX_GROUP_DEPTH} levels")


def _schedule(group: str, schedule: _Schedule) -> Schedule:
    windows = []
    for index, window in enumerate(schedule.windows):
        start, end = _minute(window.start), _minute(window.end)
        if start is None or end is None or start == end or start == 24 * 60:
            raise DocumentUnfit(
                POLICY,
                f"groups.{group}.schedule.windows.{index}: {window.start!r} to {window.end!r} is no window; "
                "write 00:00 to 23:59, the whole day as 00:00 to 24:00",
            )
        days = frozenset(_DAYS.index(day) for day in window.days)
        windows.append(Window(weekdays=days, start_minute=start, end_minute=end))
    return Schedule(zone=_zone(f"{group}.schedule", schedule.zone), windows=tuple(windows))


def _zone(place: str, name: str) -> ZoneInfo:
    try:
        return ZoneInfo(name)
    except (ValueError, OSError, KeyError) as error:  # ZoneInfoNotFoundError is a KeyError
        raise DocumentUnfit(POLICY, f"groups.{place}.zone: {name!r} is no IANA time zone") from error


def _minute(text: str) -> int | None:
    if text == "24:00":
        return 24 * 60
    match = _CLOCK.fullmatch(text)
    return int(match.group(1)) * 60 + int(match.group(2)) if match else None


def _driver(entry: _Driver) -> Driver:
    pin = None if entry.pin is None else Pin(**dict(entry.pin))
    return Driver(id=entry.id, language=entry.language, cost_centre=entry.cost_centre, pin=pin)


def _site(entry: _Site) -> Site:
    return Site(
        id=entry.id,
        latitude_udeg=entry.latitude,
        longitude_udeg=entry.longitude,
        network=entry.network,
        country=entry.country,
        radius_m=entry.radius_m,
        evses=tuple(Evse(**each.model_dump()) for each in entry.evses),
    )


def _service_key(entry: _Key) -> ServiceKey:
    return ServiceKey(kid=entry.kid, use=KeyUse(entry.use), jwk=_public_key(KEYS, entry.kid, entry.jwk))


def _public_key(document: str, kid: str, jwk: Mapping[str, str]) -> str:
    text = json.dumps(jwk, sort_keys=True)
    if "d" in jwk:
        raise DocumentUnfit(document, f"key {kid!r} holds its private half: replace that key, it is public now")
    try:
        of_key = thumbprint(text)
    except SigningError as error:
        raise DocumentUnfit(document, f"key {kid!r}: {error}") from error
    if of_key != kid:
        raise DocumentUnfit(document, f"key {kid!r} has the thumbprint {of_key!r}; both must be the same")
    return text


def _unique(document: str, people: list[P]) -> dict[str, P]:
    by_id = {each.id: each for each in people}
    if len(by_id) != len(people):
        twice = next(each.id for each in people if by_id[each.id] is not each)
        raise DocumentUnfit(document, f"{twice!r} is here twice")
    return by_id


def _utc(value: Any) -> Any:
    if not isinstance(value, str) or not value.endswith("Z"):
        raise ValueError("must be a time with its zone, such as 2026-05-01T00:00:00Z")
    try:
        return datetime.fromisoformat(value).astimezone(UTC)
    except ValueError:
        raise ValueError("must be a time with its zone, such as 2026-05-01T00:00:00Z") from None


def _country(value: str) -> str:
    if len(value) == 3 and value.upper() not in ALPHA_2:
        raise ValueError(f"{value!r} is no country of ISO 3166-1 alpha-3")
    return value


def _day(value: Any) -> Any:
    try:
        return date.fromisoformat(value)
    except (TypeError, ValueError):
        raise ValueError("must be a day, such as 2027-12-25") from None


def _amount(value: Any) -> Any:
    if not isinstance(value, str) or re.fullmatch(r"[0-9]{1,8}(\.[0-9]{1,6})?", value) is None:
        raise ValueError('must be an amount as text, such as "0.55"')
    return Decimal(value)


def _microdegrees(value: Any) -> Any:
    if not isinstance(value, str) or re.fullmatch(r"-?[0-9]{1,3}(\.[0-9]{1,6})?", value) is None:
        raise ValueError('must be degrees as text with at most 6 decimals, such as "52.520008"')
    return int(Decimal(value) * 1_000_000)


def _corner(value: list[int]) -> list[int]:
    if abs(value[0]) > 90_000_000:
        raise ValueError("the latitude, which comes first, is beyond a pole")
    return value


Utc = Annotated[datetime, BeforeValidator(_utc)]
Day = Annotated[date, BeforeValidator(_day)]
# An amount is text, so that no number on the way has a binary fraction.
Amount = Annotated[Decimal, BeforeValidator(_amount), Field(ge=0, max_digits=14, decimal_places=6)]
Currency = Annotated[str, Field(pattern=r"^[A-Z]{3}$")]
# Latitude and longitude as text in degrees; microdegrees inside.
Microdegrees = Annotated[int, BeforeValidator(_microdegrees), Field(ge=-180_000_000, le=180_000_000)]
_Corner = Annotated[list[Microdegrees], Field(min_length=2, max_length=2), AfterValidator(_corner)]
_Polygon = Annotated[list[_Corner], Field(min_length=3, max_length=1_000)]
Name = Annotated[str, Field(min_length=1, max_length=64)]
Reference = Annotated[str, Field(pattern=r"^[0-9a-f]{64}$")]
Country = Annotated[str, Field(pattern=r"^[A-Za-z]{2,3}$"), AfterValidator(_country)]
Network = Annotated[str, Field(min_length=2, max_length=36)]
Connector = Annotated[str, Field(pattern=r"^[A-Z0-9_]{2,40}$")]  # OCPI ConnectorType, an open enumeration
WattHours = Annotated[int, Field(ge=0, le=10_000_000)]
Watts = Annotated[int, Field(ge=0, le=100_000_000)]


class _Document(BaseModel):
    model_config = ConfigDict(extra="forbid", frozen=True)


class _Versioned(_Document):
    # Named first, so that a document of a newer schema is refused for that and not for its first new field.
    schema_: Annotated[int, Field(alias="schema")]

    @model_validator(mode="before")
    @classmethod
    def _known_schema(cls, value: Any) -> Any:
        if isinstance(value, dict) and value.get("schema") not in (None, SCHEMA):
            raise ValueError(f"its schema is {value['schema']!r}, this program knows {SCHEMA}: update roamkey")
        return value


class _Window(_Document):
    days: Annotated[list[Literal["mon", "tue", "wed", "thu", "fri", "sat", "sun"]], Field(min_length=1, max_length=7)]
    start: str
    end: str


class _Schedule(_Document):
    zone: Annotated[str, Field(max_length=64)]
    windows: Annotated[list[_Window], Field(max_length=64)]


class _Calendar(_Document):
    until: Day
    days: Annotated[list[Day], Field(max_length=10_000)]


class _Holidays(_Document):
    zone: Annotated[str, Field(max_length=64)]
    calendars: Annotated[list[Name], Field(min_length=1, max_length=64)]


class _Demand(_Document):
    assurance: Literal["static", "authenticated"]
    networks: Annotated[list[Network], Field(max_length=10_000)] | None = None
    outside_countries: Annotated[list[Country], Field(max_length=300)] | None = None
    above_power_w: Watts | None = None
    above_price: _PriceAbove | None = None


class _PriceAbove(_Document):
    currency: Currency
    per_kwh: Amount


class _Prices(_Document):
    currency: Currency
    basis: Basis
    per_kwh: Amount | None = None
    per_hour: Amount | None = None
    per_parking_hour: Amount | None = None
    fixed: Amount | None = None
    session: Amount | None = None


class _Stated(_Document):
    """What missing data means, as a limit: allowed with a warning, but only so much."""

    max_energy_wh: WattHours


class _Fence(_Document):
    polygons: Annotated[list[_Polygon], Field(min_length=1, max_length=100)]
    max_age_s: Annotated[int, Field(ge=1, le=86_400)] = 300
    max_accuracy_m: Annotated[int, Field(ge=1, le=100_000)] = 100


class _Velocity(_Document):
    sessions: Annotated[int, Field(ge=1, le=MOST_VISITS)]
    window_s: Annotated[int, Field(ge=1, le=LOOK_BACK_S)]


class _Group(_Document):
    parent: Name | None = None
    networks: Annotated[list[Network], Field(max_length=10_000)] | None = None
    countries: Annotated[list[Country], Field(max_length=300)] | None = None
    schedule: _Schedule | None = None
    max_sessions_per_token: Annotated[int, Field(ge=0, le=1_000)] | None = None
    max_sessions_per_vehicle: Annotated[int, Field(ge=0, le=1_000)] | None = None
    max_energy_wh: WattHours | None = None
    stale_max_energy_wh: WattHours | None = None
    denied_sites: Annotated[list[Name], Field(max_length=100_000)] | None = None
    preferred_sites: Annotated[list[Name], Field(max_length=100_000)] | None = None
    fence: _Fence | None = None
    holidays: _Holidays | None = None
    connectors: Annotated[list[Connector], Field(max_length=100)] | None = None
    max_power_w: Watts | None = None
    demands: Annotated[list[_Demand], Field(max_length=64)] = []
    lossy_cards: bool | None = None
    prices: _Prices | None = None
    max_duration_s: Annotated[int, Field(ge=1, le=30 * 24 * 3600)] | None = None
    max_start_soc_percent: Annotated[int, Field(ge=0, le=100)] | None = None
    target_soc_percent: Annotated[int, Field(ge=1, le=100)] | None = None
    velocity: _Velocity | None = None
    min_gap_s: Annotated[int, Field(ge=1, le=LOOK_BACK_S)] | None = None
    prompts: Annotated[list[Prompt], Field(max_length=8)] = []
    max_odometer_increase_km: Annotated[int, Field(ge=0, le=1_000_000)] | None = None
    effects: dict[Kind, Effect] = {}
    missing: dict[Kind, Effect | _Stated] = {}


class _Policy(_Versioned):
    fleet: Name
    revision: Annotated[int, Field(ge=1, le=2**53)]
    issued: Utc
    stale_after_hours: Annotated[int, Field(ge=1, le=24 * 366)] = 24
    expired_after_hours: Annotated[int, Field(ge=1, le=24 * 366)] = 168
    key_check: Annotated[str, Field(pattern=r"^[0-9a-f]{16}$")]
    calendars: Annotated[dict[Name, _Calendar], Field(max_length=1_000)] = {}
    groups: Annotated[dict[Name, _Group], Field(max_length=MAX_GROUPS)]
    budgets: Annotated[dict[BudgetName, BudgetDocument], Field(max_length=MAX_BUDGETS)] = {}


class _Pin(_Document):
    salt: Annotated[str, Field(pattern=r"^([0-9a-f]{2}){8,32}$")]
    hash: Annotated[str, Field(pattern=r"^[0-9a-f]{64}$", repr=False)]
    cost: Literal[4096, 8192, 16384, 32768] = 16384  # more would exceed a small gateway's memory


class _Driver(_Document):
    id: Name
    language: Annotated[str, Field(pattern=r"^[a-z]{2}$")] = "en"
    cost_centre: Name | None = None
    pin: _Pin | None = None


class _People(_Versioned):
    drivers: Annotated[list[_Driver], Field(max_length=MAX_PEOPLE)]


class _Vehicle(_Document):
    id: Name
    cost_centre: Name | None = None


class _Vehicles(_Versioned):
    vehicles: Annotated[list[_Vehicle], Field(max_length=MAX_PEOPLE)]


class _Token(_Document):
    reference: Reference
    label: Name
    group: Name
    status: TokenStatus = TokenStatus.ACTIVE
    not_before: Utc | None = None
    until: Utc | None = None
    # OCPP 1.5/1.6 limits a parent id to 20 characters.
    parent: Annotated[str, Field(min_length=1, max_length=20)] | None = None
    driver: Name | None = None
    vehicle: Name | None = None
    offline: bool = True
    whitelist: Whitelist = Whitelist.ALLOWED
    aliases: Annotated[list[Reference], Field(max_length=16, validate_default=True), AfterValidator(tuple)] = []


_TOKEN_FIELDS = tuple(_Token.model_fields)


class _Shard(_Versioned):
    tokens: Annotated[list[_Token], Field(min_length=1)]


class _Evse(_Document):
    id: Annotated[str, Field(min_length=1, max_length=48)]  # OCPI: evse_id
    connector: Connector | None = None
    power_w: Watts | None = None


class _Site(_Document):
    """An OCPI location, as far as rules ask for it."""

    id: Name
    latitude: Annotated[Microdegrees, Field(ge=-90_000_000, le=90_000_000)]
    longitude: Microdegrees
    network: Network | None = None
    country: Country | None = None
    radius_m: Annotated[int, Field(ge=1, le=10_000)] | None = None
    evses: Annotated[list[_Evse], Field(max_length=1_000)] = []


class _Matching(_Document):
    radius_m: Annotated[int, Field(ge=1, le=10_000)] = 100
    max_age_s: Annotated[int, Field(ge=1, le=86_400)] = 60
    max_accuracy_m: Annotated[int, Field(ge=1, le=10_000)] = 50


class _Sites(_Versioned):
    matching: _Matching = _Matching()
    sites: Annotated[list[_Site], Field(max_length=MAX_SITES)]


class _Key(_Document):
    kid: Name
    use: Literal["ack", "grant", "answer", "override"]
    jwk: Annotated[dict[str, str], Field(max_length=16)]


class _Keys(_Versioned):
    keys_: Annotated[list[_Key], Field(alias="keys", max_length=64)]


class _Revoked(_Versioned):
    revoked: Annotated[list[Reference], Field(max_length=MAX_REVOKED)]


class _DeviceKey(_Document):
    kid: Name
    jwk: Annotated[dict[str, str], Field(max_length=16)]


class _Device(_Document):
    device: Annotated[str, Field(pattern=NAME)]
    keys_: Annotated[list[_DeviceKey], Field(alias="keys", min_length=1, max_length=16)]


class _Devices(_Versioned):
    devices: Annotated[list[_Device], Field(max_length=MAX_DEVICES)]


_ENTRIES: Mapping[Entry, type[BaseModel]] = {
    "budget": BudgetDocument,
    "calendar": _Calendar,
    "group": _Group,
    "driver": _Driver,
    "vehicle": _Vehicle,
    "token": _Token,
    "site": _Site,
}

M = TypeVar("M", bound=BaseModel)
P = TypeVar("P", Driver, Vehicle, Site)
