"""A dry decision by a policy folder: nothing is recorded, nothing is started, no service is asked.

The question is a small file; what it does not say is as on a quiet day: a fresh policy, a right clock, nothing else
going on. The decision is agent/core's own; here it is only watched, rule by rule.
"""

from __future__ import annotations

import difflib
import hmac
import json
from collections.abc import Mapping
from dataclasses import dataclass, fields
from datetime import UTC, datetime, timedelta
from decimal import Decimal
from pathlib import Path
from typing import Annotated, Any

from pydantic import BaseModel, BeforeValidator, ConfigDict, Field, ValidationError

from agent.cache.contents import Contents
from agent.cache.documents import Amount, Connector, Country, Currency, Microdegrees, Name, Network, Watts
from agent.core import texts
from agent.core.answers import Heard, Silence
from agent.core.credentials import Assurance, Credential
from agent.core.decisions import AskBackend, Decision, Granted, decide
from agent.core.history import Visit
from agent.core.instants import ClockQuality, Instant
from agent.core.pins import PinState
from agent.core.policy import Policy, Token
from agent.core.positions import Position
from agent.core.prices import plain_prices
from agent.core.reasons import Reason
from agent.core.requests import Given, Place, Request, Usage
from agent.core.rules import RULES, Question, Rule
from agent.core.statuses import Statuses, statuses_of
from agent.core.tariff.tariffs import Basis
from agent.core.whereabouts import located
from agent.fleet import sheets
from agent.fleet.effective import NoSuchCard, find_card
from agent.fleet.remarks import Remark
from agent.fleet.source import Source

UNKNOWN_CARD = "unknown"


class QuestionUnfit(Exception):
    """The file is no question; a line for each thing wrong."""

    def __init__(self, lines: list[str]) -> None:
        super().__init__("\n".join(lines))
        self.lines = lines


@dataclass(frozen=True, slots=True, kw_only=True)
class Asked:
    """One rule's answer. `verdict`: what follows from each objection; none of them means that it is satisfied."""

    rule: str
    objections: tuple[tuple[str, Reason], ...]


@dataclass(frozen=True, slots=True, kw_only=True)
class Trial:
    request: Request
    now: Instant
    decision: Decision
    without_answer: Decision | None
    rules: tuple[Asked, ...]
    text: str
    statuses: Statuses


def _utc(value: object) -> object:
    if isinstance(value, str):
        value = datetime.fromisoformat(value)
    if not isinstance(value, datetime) or value.tzinfo is None:
        raise ValueError("must be a time with its zone, such as 2026-05-01T08:00:00Z")
    return value.astimezone(UTC)


Moment = Annotated[datetime, BeforeValidator(_utc)]
Count = Annotated[int, Field(ge=0, le=1_000_000)]


class _Part(BaseModel):
    model_config = ConfigDict(extra="forbid", frozen=True, strict=False)


class _Position(_Part):
    latitude: Microdegrees
    longitude: Microdegrees
    accuracy_m: Count | None = 10
    age_s: Count | None = 0


class _Place(_Part):
    evse: Name | None = None
    network: Network | None = None
    country: Country | None = None
    site: Name | None = None
    connector: Connector | None = None
    power_w: Watts | None = None
    position: _Position | None = None


class _Prices(_Part):
    currency: Currency
    basis: Basis | None = None
    tax_percent: Decimal | None = None
    per_kwh: Amount = Decimal(0)
    per_hour: Amount = Decimal(0)
    per_parking_hour: Amount = Decimal(0)
    fixed: Amount = Decimal(0)


class _Visit(_Part):
    began: Moment
    ended: Moment


class _Usage(_Part):
    """What is going on, and has been."""

    sessions_of_token: Count = 0
    sessions_of_vehicle: Count = 0
    charger_busy: bool = False
    charger_reachable: bool = True
    storage_full: bool = False
    wrong_pins: Count = 0
    last_odometer_km: Count | None = None
    past: Annotated[list[_Visit], Field(max_length=100)] = []
    known_since: Moment | None = None


class Asking(_Part):
    """A question, as a person writes it."""

    token: Annotated[str, Field(description="label, UID or eMAID of a card of the folder, or: unknown")]
    time: Moment | None = None
    clock: ClockQuality = ClockQuality.SYNCHRONISED
    policy_age_hours: Annotated[int, Field(ge=0, le=24 * 366)] = 0
    assurance: Assurance = Assurance.STATIC
    online: Annotated[bool, Field(description="whether the backend can be asked")] = False
    several_cards: bool = False
    place: _Place = _Place()
    prices: _Prices | None = None
    metered: bool = True
    soc_percent: Annotated[int, Field(ge=0, le=100)] | None = None
    pin: str | None = Field(default=None, repr=False)
    odometer_km: Count | None = None
    vehicle: Name | None = None
    charger: Name | None = None
    usage: _Usage = _Usage()


def read_question(path: Path) -> Asking:
    """TOML, YAML or JSON. Raises QuestionUnfit, and OSError."""
    remarks: list[Remark] = []
    if path.suffix == ".json":
        try:
            value, lines = json.loads(path.read_bytes(), parse_float=Decimal), None
        except ValueError as error:
            raise QuestionUnfit([f"{path.name}: {error}"]) from error
    else:
        with path.open("rb"):
            sheet = sheets.read(path, remarks)
        value, lines = sheet.value, sheet
    if remarks:
        raise QuestionUnfit([str(each) for each in remarks])
    try:
        return Asking.model_validate(_exact(value))
    except ValidationError as error:
        told = []
        for each in error.errors(include_url=False, include_input=False, include_context=False):
            line = lines.line(*each["loc"]) if lines is not None else None
            where = f"{path.name}:{line}" if line else path.name
            near = _near(str(each["loc"][-1])) if each["type"] == "extra_forbidden" else each["msg"]
            told.append(f"{where}: {'.'.join(str(part) for part in each['loc'])}: {near}")
        raise QuestionUnfit(told) from None


def ask(source: Source, contents: Contents, asking: Asking, *, now: datetime) -> Trial:
    """Raises NoSuchCard."""
    moment = asking.time or now
    token = None if asking.token == UNKNOWN_CARD else find_card(source, asking.token)
    instant = Instant(
        utc=moment,
        floor=moment if asking.clock is not ClockQuality.UNKNOWN else moment - timedelta(days=1),
        monotonic_ms=0,
        boot="trial",
        quality=asking.clock,
        entropy=b"",
    )
    policy = policy_of(contents, instant, age=timedelta(hours=asking.policy_age_hours))
    request = _request(source, asking, token, located(_place(asking.place), contents.sites, (), instant))
    usage = _usage(asking.usage)
    decision = decide(request, policy, usage, instant)
    later = None
    if isinstance(decision, AskBackend):
        silent = Heard(silence=Silence.DEADLINE if asking.online else Silence.OFFLINE)
        heard = Request(**{each.name: getattr(request, each.name) for each in fields(request)} | {"heard": silent})
        later = decide(heard, policy, usage, instant)
        if not asking.online:
            request, decision, later = heard, later, None
    reasons = () if isinstance(decision, Granted) else decision.reasons
    driver = contents.drivers.get(token.driver or "") if token is not None else None
    language = driver.language if driver is not None else texts.DEFAULT_LANGUAGE
    return Trial(
        request=request,
        now=instant,
        decision=decision,
        without_answer=later,
        rules=watched(request, policy, usage, instant),
        text=told_driver(decision, reasons, language),
        statuses=statuses_of(reasons),
    )


def told_driver(decision: Decision, reasons: tuple[Reason, ...], language: str) -> str:
    if isinstance(decision, AskBackend):
        return texts.say(texts.ASKING, language)
    return texts.refusal_text(reasons, language) if reasons else texts.say(texts.GRANTED, language)


def policy_of(contents: Contents, now: Instant, *, age: timedelta) -> Policy:
    """As a device would have it that was told of it so long ago."""
    shared = {each.name: getattr(contents, each.name) for each in fields(Policy) if hasattr(contents, each.name)}
    said: dict[str, Any] = {
        "fingerprint": "0" * 64,
        "confirmed": now.utc - age,
        "confirmed_boot": now.boot,
        "confirmed_ms": now.monotonic_ms - int(age.total_seconds() * 1000),
    }
    return Policy(**shared | said)


def watched(request: Request, policy: Policy, usage: Usage, now: Instant) -> tuple[Asked, ...]:
    """Every rule on its own, in the table's order."""
    levels = () if request.token is None else tuple(policy.levels(request.token.group) or ())
    question = Question(request=request, policy=policy, usage=usage, now=now, levels=levels)
    return tuple(
        Asked(
            rule=rule.name, objections=tuple((_follows(rule, each), rule.reason(each)) for each in rule.check(question))
        )
        for rule in RULES
    )


def _follows(rule: Rule, found: Any) -> str:
    if found.prompt is not None:
        return f"asks for {found.prompt}"
    if found.ask:
        return "asks the backend"
    verdict = rule.verdict(found)
    return verdict.effect if verdict.max_energy_wh is None else f"{verdict.effect}, {verdict.max_energy_wh} Wh at most"


def _request(source: Source, asking: Asking, token: Token | None, place: Place) -> Request:
    is_random = asking.assurance is Assurance.RANDOM
    reference = "" if is_random else token.reference if token is not None else "f" * 64
    prices = asking.prices
    return Request(
        credential=Credential(reference=reference, assurance=asking.assurance),
        token=None if is_random else token,
        place=place,
        charger=asking.charger,
        vehicle=asking.vehicle or (token.vehicle if token is not None else None),
        crowded=asking.several_cards,
        prices=None if prices is None else plain_prices(**dict(prices)),
        soc_percent=asking.soc_percent,
        metered=asking.metered,
        given=Given(pin=_pin(source, asking.pin, token), odometer_km=asking.odometer_km),
    )


def _pin(source: Source, given: str | None, token: Token | None) -> PinState | None:
    """The folder has it in clear, so nothing is hashed."""
    pin = source.pins.get(token.driver or "") if token is not None else None
    if given is None or pin is None:
        return None
    return PinState.RIGHT if hmac.compare_digest(given.encode(), pin.encode()) else PinState.WRONG


def _place(place: _Place) -> Place:
    position = None
    if place.position is not None:
        position = Position(
            latitude_udeg=place.position.latitude,
            longitude_udeg=place.position.longitude,
            accuracy_m=place.position.accuracy_m,
            age_s=place.position.age_s,
        )
    return Place(**{**dict(place), "position": position})


def _usage(usage: _Usage) -> Usage:
    return Usage(
        sessions_of_token=tuple(f"session {n + 1}" for n in range(usage.sessions_of_token)),
        sessions_of_vehicle=tuple(f"session {n + 1}" for n in range(usage.sessions_of_vehicle)),
        session_at_charger="session 1" if usage.charger_busy else None,
        charger_reachable=usage.charger_reachable,
        storage_full=usage.storage_full,
        past=tuple(Visit(began=each.began, ended=each.ended) for each in usage.past),
        known_since=usage.known_since,
        wrong_pins=usage.wrong_pins,
        last_odometer_km=usage.last_odometer_km,
    )


def _exact(value: Any) -> Any:
    match value:
        case Mapping():
            return {name: str(each) if _is_amount(name, each) else _exact(each) for name, each in value.items()}
        case list():
            return [_exact(each) for each in value]
        case _:
            return value


def _is_amount(name: str, value: Any) -> bool:
    amounts = ("per_kwh", "per_hour", "per_parking_hour", "fixed", "latitude", "longitude", "tax_percent")
    return name in amounts and isinstance(value, int | Decimal) and not isinstance(value, bool)


def _near(word: str) -> str:
    known = [name for part in (Asking, _Place, _Position, _Prices, _Usage, _Visit) for name in part.model_fields]
    near = difflib.get_close_matches(word, known, n=1)
    return "unknown key" + (f", did you mean {near[0]!r}?" if near else f"; known are {', '.join(known)}")


__all__ = ["Asking", "NoSuchCard", "QuestionUnfit", "Trial", "ask", "policy_of", "read_question", "watched"]
