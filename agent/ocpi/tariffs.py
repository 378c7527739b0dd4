"""OCPI 2.1.1, 2.2.1 and 2.3.0 tariffs become agent.core.tariff.tariffs.Tariff: one model with a list of taxes.

How JSON is checked is documents.py; charge records are records.py; what is unwise in a tariff is core/tariff/lint.py.
"""

from __future__ import annotations

import json
import re
from dataclasses import dataclass
from datetime import date
from decimal import Decimal
from enum import StrEnum

from agent.core.findings import Finding, unique
from agent.core.tariff.amounts import exact_arithmetic
from agent.core.tariff.codes import Code
from agent.core.tariff.tariffs import (
    DAY_MINUTES,
    Basis,
    Component,
    Dimension,
    Element,
    Phase,
    PriceLimit,
    Restrictions,
    Tariff,
    TaxRate,
    Version,
)
from agent.ocpi.documents import MAX_ITEMS, Node, Notes, currency_of, documents, parse

WEEKDAYS = ("MONDAY", "TUESDAY", "WEDNESDAY", "THURSDAY", "FRIDAY", "SATURDAY", "SUNDAY")


@dataclass(frozen=True, slots=True, kw_only=True)
class TariffsRead:
    tariffs: tuple[Tariff, ...]
    findings: tuple[Finding, ...]


def read_tariffs(text: str | bytes, *, version: Version | None = None) -> TariffsRead:
    """One tariff, a list of them, or an OCPI response with either as its data."""
    document, findings = parse(text)
    notes = Notes(findings=list(findings))
    with exact_arithmetic():
        found = tuple(tariff_of(node, version) for node in documents(document, notes))
    return TariffsRead(tariffs=found, findings=unique(notes.findings))


class TaxIncluded(StrEnum):
    YES = "YES"
    NO = "NO"
    NOT_APPLICABLE = "N/A"


@dataclass(frozen=True, slots=True, kw_only=True)
class Taxation:
    """How this document's prices are to be understood; the three versions differ here and nowhere else."""

    version: Version
    basis: Basis
    without_vat: tuple[TaxRate, ...] | None
    """What a component without `vat` means: None = unknown, () = no tax is applicable."""


def tariff_of(node: Node, version: Version | None) -> Tariff:
    node = node.know(
        *("country_code", "party_id", "id", "currency", "type", "tariff_alt_text", "tariff_alt_url", "min_price"),
        *("max_price", "preauthorize_amount", "elements", "tax_included", "start_date_time", "end_date_time"),
        *("energy_mix", "last_updated"),
    )
    taxation = _taxation(node, version or _tariff_version(node))
    elements = [_element(child, index, taxation) for index, child in node.children("elements", required=True)]
    return Tariff(
        id=node.text("id", required=True) or "",
        currency=currency_of(node),
        elements=tuple(element for element in elements if element is not None),
        basis=taxation.basis,
        min_price=_limit(node, "min_price"),
        max_price=_limit(node, "max_price"),
        valid_from=node.moment("start_date_time"),
        valid_until=node.moment("end_date_time"),
        kind=node.text("type"),
        country=node.text("country_code"),
        party=node.text("party_id"),
        version=taxation.version,
    )


def _tariff_version(node: Node) -> Version:
    """By what only the later versions have. 2.2.1 made country_code and party_id mandatory."""
    if node.has("tax_included"):
        return Version.V2_3_0
    limits = [node.value.get(name) for name in ("min_price", "max_price")]
    if any(isinstance(limit, dict) and "before_taxes" in limit for limit in limits):
        return Version.V2_3_0
    later = ("country_code", "party_id", "type", "min_price", "max_price", "start_date_time", "end_date_time")
    if any(node.has(name) for name in later) or '"vat"' in json.dumps(node.value.get("elements"), default=str):
        return Version.V2_2_1
    node.inform(Code.VERSION_ASSUMED, "id", "Nothing tells the OCPI version; read as 2.1.1, so taxes are unknown")
    return Version.V2_1_1


def _taxation(node: Node, version: Version) -> Taxation:
    match version:
        case Version.V2_1_1:
            return Taxation(version=version, basis=Basis.NET, without_vat=None)
        case Version.V2_2_1:
            return Taxation(version=version, basis=Basis.NET, without_vat=())
        case Version.V2_3_0:
            included = node.enum("tax_included", TaxIncluded, required=True)
            if included is None:
                node.error(Code.TAX_UNKNOWN, "tax_included", "Taken as NO: taxes come on top of these prices")
            basis = Basis.GROSS if included is TaxIncluded.YES else Basis.NET
            nothing = () if included is TaxIncluded.NOT_APPLICABLE else None
            return Taxation(version=version, basis=basis, without_vat=nothing)


def _element(node: Node, index: int, taxation: Taxation) -> Element | None:
    node = node.know("price_components", "restrictions")
    found = [_component(child, taxation) for _, child in node.children("price_components", required=True)]
    components = tuple(component for component in found if component is not None)
    child = node.child("restrictions")
    restrictions = Restrictions() if child is None else _restrictions(child)
    return Element(components=components, restrictions=restrictions, index=index) if components else None


def _component(node: Node, taxation: Taxation) -> Component | None:
    node = node.know("type", "price", "vat", "step_size")
    dimension = node.enum("type", Dimension, required=True)
    price = node.number("price", required=True)
    step = node.number("step_size", required=True)
    if dimension is None or price is None:
        return None
    if price < 0:
        node.warn(Code.NEGATIVE_PRICE, "price", f"The price is {price}: the driver would be paid")
    if step is None or step != step.to_integral_value() or step < 0:
        if step is not None:
            node.error(Code.STEP_SIZE, "step_size", f"step_size is {step}, not a whole number; nothing is rounded")
        step = Decimal(0)
    return Component(dimension=dimension, price=price, taxes=_rates(node, taxation), step_size=int(step))


def _rates(node: Node, taxation: Taxation) -> tuple[TaxRate, ...] | None:
    vat = node.number("vat")
    if vat is None:
        if node.has("vat"):
            return None  # what it should have been has been reported
        return taxation.without_vat
    if not 0 <= vat <= 100:
        node.error(Code.OUT_OF_RANGE, "vat", f"vat is {vat} %; the taxes of this component are unknown")
        return None
    if 0 < vat < 1:
        node.warn(Code.OUT_OF_RANGE, "vat", f"vat is {vat}: a percentage is expected, is this a fraction?")
    return (TaxRate(name="VAT", percent=vat),)


def _limit(node: Node, name: str) -> PriceLimit:
    """Price (2.2.1) or PriceLimit (2.3.0); a plain number, which no version has, counts as before taxes."""
    if isinstance(node.value.get(name), Decimal):
        node.warn(Code.WRONG_TYPE, name, f"{name} is a plain number; taken as the amount before taxes")
        return PriceLimit(net=_not_negative(node, name, node.number(name)))
    child = node.child(name)
    if child is None:
        return PriceLimit()
    child = child.know("excl_vat", "incl_vat", "before_taxes", "after_taxes")
    before = "before_taxes" if child.has("before_taxes") else "excl_vat"
    after = "after_taxes" if child.has("after_taxes") else "incl_vat"
    return PriceLimit(
        net=_not_negative(child, before, child.number(before, required=True)),
        gross=_not_negative(child, after, child.number(after)),
    )


def _not_negative(node: Node, name: str, value: Decimal | None) -> Decimal | None:
    if value is not None and value < 0:
        node.error(Code.OUT_OF_RANGE, name, f"{name} is {value}; a limit cannot be negative and is ignored")
        return None
    return value


def _restrictions(node: Node) -> Restrictions:
    node = node.know(
        *("start_time", "end_time", "start_date", "end_date", "min_kwh", "max_kwh", "min_current", "max_current"),
        *("min_power", "max_power", "min_duration", "max_duration", "day_of_week", "reservation"),
    )
    end = _minute(node, "end_time")
    reservation = node.enum("reservation", _Reservation)
    return Restrictions(
        start_minute=_minute(node, "start_time"),
        end_minute=DAY_MINUTES if end == 0 else end,  # 00:00 as an end is the end of the day
        start_date=_date(node, "start_date"),
        end_date=_date(node, "end_date"),
        min_kwh=node.number("min_kwh"),
        max_kwh=node.number("max_kwh"),
        min_current_a=node.number("min_current"),
        max_current_a=node.number("max_current"),
        min_power_kw=node.number("min_power"),
        max_power_kw=node.number("max_power"),
        min_duration_s=node.number("min_duration"),
        max_duration_s=node.number("max_duration"),
        days_of_week=_days(node),
        phase=Phase.CHARGE if reservation is None else Phase(reservation.value),
    )


class _Reservation(StrEnum):
    RESERVATION = "RESERVATION"
    RESERVATION_EXPIRES = "RESERVATION_EXPIRES"


def _minute(node: Node, name: str) -> int | None:
    text = node.text(name)
    if text is None:
        return None
    match = re.fullmatch(r"(\d\d):(\d\d)(:00)?", text.strip(), re.ASCII)
    minute = None if match is None else int(match[1]) * 60 + int(match[2])
    if match is None or minute is None or minute > DAY_MINUTES or int(match[2]) > 59:
        node.error(Code.TIME_FORMAT, name, f"{name} is {text!r}; OCPI wants hh:mm; the restriction is ignored")
        return None
    if minute == DAY_MINUTES or match[3]:
        node.warn(Code.TIME_FORMAT, name, f"{name} is {text!r}; OCPI wants 00:00 to 23:59")
    return minute % DAY_MINUTES if name == "start_time" else minute


def _date(node: Node, name: str) -> date | None:
    text = node.text(name)
    if text is None:
        return None
    try:
        if not re.fullmatch(r"\d{4}-\d\d-\d\d", text.strip(), re.ASCII):
            raise ValueError(text)
        return date.fromisoformat(text.strip())
    except ValueError:
        node.error(Code.TIME_FORMAT, name, f"{name} is {text!r}; OCPI wants yyyy-mm-dd; the restriction is ignored")
        return None


def _days(node: Node) -> frozenset[int] | None:
    value = node.value.get("day_of_week")
    if value is None:
        return None
    if isinstance(value, str):
        node.warn(Code.WRONG_TYPE, "day_of_week", "day_of_week is one text and should be a list")
        value = [value]
    if not isinstance(value, list):
        node.error(Code.WRONG_TYPE, "day_of_week", "day_of_week is not a list; the restriction is ignored")
        return None
    if not value:
        node.inform(Code.MISSING_FIELD, "day_of_week", "day_of_week is empty: no restriction")
        return None
    days: set[int] = set()
    for index, item in enumerate(value[:MAX_ITEMS]):
        name = item.strip().upper() if isinstance(item, str) else ""
        if name not in WEEKDAYS:
            node.error(Code.UNKNOWN_VALUE, f"day_of_week[{index}]", "This is no weekday of OCPI")
        else:
            if name != item:
                node.warn(Code.WRONG_CASE, f"day_of_week[{index}]", f"{item!r} should be {name}")
            days.add(WEEKDAYS.index(name))
    return frozenset(days)
