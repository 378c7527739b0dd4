"""OCPI 2.1.1, 2.2.1 and 2.3.0 charge detail records become agent.core.tariff.records.ChargeRecord.

The token of a CDR is not read: it is nobody's business here. How JSON is checked is documents.py.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from decimal import Decimal

from agent.core.findings import Finding, unique
from agent.core.tariff.amounts import exact_arithmetic
from agent.core.tariff.codes import Code
from agent.core.tariff.records import ChargeRecord, Period, Stated, Total
from agent.core.tariff.tariffs import Tariff, Version
from agent.ocpi.documents import Node, Notes, currency_of, documents, parse
from agent.ocpi.tariffs import tariff_of


@dataclass(frozen=True, slots=True, kw_only=True)
class RecordsRead:
    records: tuple[ChargeRecord, ...]
    findings: tuple[Finding, ...]


def read_records(text: str | bytes, *, version: Version | None = None) -> RecordsRead:
    """One CDR, a list of them, or an OCPI response with either as its data."""
    document, findings = parse(text)
    notes = Notes(findings=list(findings))
    with exact_arithmetic():
        found = tuple(_record(node, version) for node in documents(document, notes))
    return RecordsRead(records=found, findings=unique(notes.findings))


# Which field of a period a CDR dimension fills.
DIMENSIONS = {
    "ENERGY": "energy_kwh",
    "TIME": "time_h",
    "PARKING_TIME": "parking_h",
    "RESERVATION_TIME": "reservation_h",
    "POWER": "power_kw",
    "MIN_POWER": "min_power_kw",
    "MAX_POWER": "max_power_kw",
    "CURRENT": "current_a",
    "MIN_CURRENT": "min_current_a",
    "MAX_CURRENT": "max_current_a",
}
CDR_FIELDS = (
    *("country_code", "party_id", "id", "start_date_time", "end_date_time", "stop_date_time", "session_id"),
    *("cdr_token", "auth_id", "auth_method", "authorization_reference", "cdr_location", "location", "meter_id"),
    *("currency", "tariffs", "charging_periods", "signed_data", "total_energy", "total_time"),
    *("total_parking_time", "remark", "invoice_reference_id", "credit", "credit_reference_id"),
    *("home_charging_compensation", "booking_id", "last_updated"),
    *(total.value for total in Total),
)
SUMMED = frozenset(("energy_kwh", "time_h", "parking_h", "reservation_h"))
NOT_PRICED = frozenset(("FLAT", "ENERGY_IMPORT", "ENERGY_EXPORT", "STATE_OF_CHARGE"))


def _record(node: Node, version: Version | None) -> ChargeRecord:
    node = node.know(*CDR_FIELDS)
    version = version or _record_version(node)
    stop = "end_date_time" if node.has("end_date_time") else "stop_date_time"
    if not node.has(stop):
        node.error(Code.MISSING_FIELD, "end_date_time", "The end of the session is missing")
    stated = {total: stated_total(node, total.value) for total in Total}
    tariffs = [_embedded_tariff(child, version) for _, child in node.children("tariffs")]
    return ChargeRecord(
        id=node.text("id", required=True) or "",
        currency=currency_of(node),
        start=node.moment("start_date_time", required=True),
        end=node.moment(stop),
        periods=tuple(_period(child, index) for index, child in node.children("charging_periods", required=True)),
        total_energy_kwh=node.number("total_energy", required=True),
        total_time_h=node.number("total_time", required=True),
        total_parking_h=node.number("total_parking_time"),
        stated={total: value for total, value in stated.items() if value is not None},
        credit=node.value.get("credit") is True,
        zone=_zone(node),
        tariffs=tuple(tariffs),
        version=version,
    )


def _record_version(node: Node) -> Version:
    total = node.value.get("total_cost")
    if isinstance(total, dict) and "before_taxes" in total:
        return Version.V2_3_0
    if isinstance(total, Decimal) or (node.has("stop_date_time") and not node.has("end_date_time")):
        return Version.V2_1_1
    return Version.V2_2_1


def _embedded_tariff(node: Node, version: Version) -> Tariff:
    """A tariff inside a CDR is of the CDR's version unless it shows a later one."""
    keyed = {key.lower() for key in node.value}
    return tariff_of(node, Version.V2_3_0 if "tax_included" in keyed else version)


def _period(node: Node, index: int) -> Period:
    node = node.know("start_date_time", "dimensions", "tariff_id", "encoding_method")
    values: dict[str, Decimal] = {}
    for _, child in node.children("dimensions", required=True):
        child = child.know("type", "volume")
        kind = (child.text("type", required=True) or "").strip().upper()
        volume = child.number("volume", required=True)
        name = DIMENSIONS.get(kind)
        if name is None:
            if kind and kind not in NOT_PRICED:
                child.inform(Code.UNKNOWN_VALUE, "type", f"The dimension {kind!r} is not known and not priced")
        elif volume is not None:
            if child.value.get("type") != kind:
                child.warn(Code.WRONG_CASE, "type", f"The dimension should be written {kind}")
            if name in values:
                child.warn(Code.UNKNOWN_VALUE, "type", f"{kind} stands twice in this period")
            values[name] = volume + values.get(name, Decimal(0)) if name in SUMMED else volume
    period = Period(start=node.moment("start_date_time", required=True), tariff_id=node.text("tariff_id"), index=index)
    return replace(period, **values)  # type: ignore[arg-type]  # every name in DIMENSIONS is a Decimal field


def stated_total(node: Node, name: str) -> Stated | None:
    """By its shape: a number (2.1.1), excl_vat and incl_vat (2.2.1), before_taxes and taxes (2.3.0)."""
    if isinstance(node.value.get(name), Decimal):
        return Stated(net=node.number(name), gross=None)
    child = node.child(name)
    if child is None:
        if name == Total.COST.value and not node.has(name):
            node.error(Code.MISSING_FIELD, name, "total_cost is mandatory and missing")
        return None
    child = child.know("excl_vat", "incl_vat", "before_taxes", "taxes", "after_taxes")
    if not child.has("before_taxes"):
        return Stated(net=child.number("excl_vat", required=True), gross=child.number("incl_vat"))
    net = child.number("before_taxes")
    if not isinstance(child.value.get("taxes"), list):
        return Stated(net=net, gross=child.number("after_taxes"))
    gross = net
    for _, tax in child.children("taxes"):
        amount = tax.know("name", "account_number", "percentage", "amount").number("amount", required=True)
        gross = None if gross is None or amount is None else gross + amount
    return Stated(net=net, gross=gross)


def _zone(node: Node) -> str | None:
    """OCPI's CdrLocation has no time zone; some networks add the Location's. Never guessed from the country."""
    for name in ("cdr_location", "location"):
        location = node.value.get(name)
        zone = location.get("time_zone") if isinstance(location, dict) else None
        if isinstance(zone, str):
            return zone
    return None
