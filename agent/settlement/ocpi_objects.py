"""Settled sessions as OCPI 2.2.1 and 2.3.0 Session and CDR objects: the fleet's own record in the networks' language.

What OCPI demands and nobody told is not invented: the object is left out, and what is missing is said. OCPI's own word
for "not available" in a location is #NA. The card's number is nowhere: `uid` is its keyed reference, cut to 36.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from datetime import datetime
from decimal import Decimal

from agent.core.countries import alpha_3
from agent.core.networks import normalise_network
from agent.core.tariff.amounts import Amount
from agent.core.tariff.records import Period, Total
from agent.core.tariff.tariffs import Tariff, Version
from agent.exact_json import decimal_document
from agent.ocpi.shapes import flaws, shape_of
from agent.ocpi.tariffs import read_tariffs
from agent.settlement.carried import Carried
from agent.settlement.rows import money, stamp
from agent.settlement.settled import Settled

NOT_AVAILABLE = "#NA"
UID_CHARS = 36  # OCPI CiString(36); the reference has 64
SIGNED_CHARS = 5000
FOUR = Decimal("0.0001")

Document = dict[str, object]


@dataclass(frozen=True, slots=True, kw_only=True)
class Written:
    """`document` is None when something is missing that OCPI demands; `missing` says what."""

    session: str
    document: Document | None
    missing: tuple[str, ...] = ()


def session_object(one: Settled, version: Version, carried: Carried) -> Written:
    """Without a price there is no total_cost, which does not mean free; the currency is the buyer's network's then."""
    ended, place = one.ended, one.ended.place
    document = _common(one, carried) | {
        "id": one.id,
        "end_date_time": stamp(ended.ended_at),
        "kwh": _four(Decimal(ended.energy_wh) / 1000),
        "authorization_reference": ended.decision,
        "location_id": place.site or place.evse or NOT_AVAILABLE,
        "evse_uid": place.evse or NOT_AVAILABLE,
        "connector_id": carried.evse(place.evse).get("connector_id", NOT_AVAILABLE),
        "charging_periods": list(_periods(one)),
        "total_cost": None if one.priced is None else _price(_payable(one), version),
        "status": "COMPLETED" if ended.complete else "INVALID",
        "last_updated": stamp(ended.ended_at),
    }
    return _judged(one, document, "session", version)


def cdr_object(one: Settled, version: Version, carried: Carried) -> Written:
    """What the fleet would have been billed by the tariff that it was shown."""
    ended = one.ended
    document = _common(one, carried) | {
        "id": one.id,
        "end_date_time": stamp(ended.ended_at),
        "session_id": one.id,
        "authorization_reference": ended.decision,
        "cdr_location": _location(one, carried),
        "tariffs": list(_tariffs(one, version)),
        "charging_periods": list(_periods(one)),
        "signed_data": _signed(one),
        **_totals(one, version),
        "total_energy": _four(Decimal(ended.energy_wh) / 1000),
        "total_time": _four(Decimal(ended.duration_s) / 3600),
        "total_parking_time": _four(sum((period.parking_h for period in one.tally.periods), Decimal(0))),
        "last_updated": stamp(ended.ended_at),
    }
    return _judged(one, document, "cdr", version)


def _judged(one: Settled, document: Document, what: str, version: Version) -> Written:
    told = {name: value for name, value in document.items() if value is not None}
    found = tuple(flaws(told, shape_of(what, version)))
    return Written(session=one.id, document=None if found else told, missing=found)


def _common(one: Settled, carried: Carried) -> Document:
    country, party = _party(one)
    evse = carried.evse(one.ended.place.evse)
    return {
        "country_code": country,
        "party_id": party,
        "start_date_time": stamp(one.ended.started_at),
        "cdr_token": _token(one, carried),
        "auth_method": "WHITELIST",  # decided by the fleet's own policy on the device
        "meter_id": evse.get("meter_id"),
        "currency": one.priced.currency if one.priced is not None else None,
    }


def _party(one: Settled) -> tuple[str | None, str | None]:
    """The operator: DE*ABC is Germany's ABC."""
    network = normalise_network(one.ended.place.network or "")
    return (network[:2], network[2:]) if len(network) == 5 else (None, None)


def _token(one: Settled, carried: Carried) -> Document:
    ended = one.ended
    party = normalise_network(carried.buyer.get("party", ""))
    reference = (ended.credential.reference or NOT_AVAILABLE)[:UID_CHARS]
    return {
        "country_code": party[:2] or None,
        "party_id": party[2:] or None,
        "uid": reference,
        "type": "RFID",
        "contract_id": (ended.holder.driver or ended.holder.label or reference)[:UID_CHARS],
    }


def _location(one: Settled, carried: Carried) -> Document:
    place = one.ended.place
    site, evse = carried.sites.get(place.site or "", {}), carried.evse(place.evse)
    country = site.get("country") or place.country or ""
    return {
        name: value
        for name, value in {
            "id": place.site or place.evse or NOT_AVAILABLE,
            "name": site.get("name"),
            "address": site.get("address", NOT_AVAILABLE),
            "city": site.get("city", NOT_AVAILABLE),
            "postal_code": site.get("postal_code"),
            "country": alpha_3(country),
            "coordinates": _coordinates(one, site),
            "evse_uid": place.evse or NOT_AVAILABLE,
            "evse_id": place.evse or NOT_AVAILABLE,
            "connector_id": evse.get("connector_id", NOT_AVAILABLE),
            "connector_standard": evse.get("connector_standard") or place.connector,
            "connector_format": evse.get("connector_format"),
            "connector_power_type": evse.get("connector_power_type"),
        }.items()
        if value is not None
    }


def _coordinates(one: Settled, site: Mapping[str, str]) -> Document | None:
    if "latitude" in site and "longitude" in site:
        return {"latitude": site["latitude"], "longitude": site["longitude"]}
    where = one.ended.place.position
    if where is None:
        return None
    return {"latitude": _degrees(where.latitude_udeg), "longitude": _degrees(where.longitude_udeg)}


def _degrees(udeg: int) -> str:
    return f"{Decimal(udeg) / 1_000_000:.6f}"


def _periods(one: Settled) -> Iterator[Document]:
    for period in one.tally.periods:
        volumes = [
            ("ENERGY", period.energy_kwh),
            ("TIME", period.time_h),
            ("PARKING_TIME", period.parking_h),
            ("POWER", period.power_kw if _asks_for_power(one) else None),
        ]
        yield {
            "start_date_time": _start(one, period),
            "dimensions": [{"type": kind, "volume": _four(volume)} for kind, volume in volumes if volume],
        }


def _start(one: Settled, period: Period) -> str | None:
    """To the millisecond where it matters: a price may change within a second."""
    start: datetime | None = period.start or one.ended.started_at
    told = stamp(start)
    if start is None or told is None or start.microsecond < 1000:
        return told
    return f"{told[:-1]}.{start.microsecond // 1000:03}Z"


def _asks_for_power(one: Settled) -> bool:
    return one.tariff is not None and '_power"' in one.tariff.document


def _tariffs(one: Settled, version: Version) -> Iterator[object]:
    """The document as it came; one of 2.2.1 can be said in 2.3.0. Any other change would lose something."""
    if one.tariff is None:
        return
    found = read_tariffs(one.tariff.document).tariffs
    document = decimal_document(one.tariff.document)
    if isinstance(document, dict) and "data" in document:
        document = document["data"]
    if not found or not isinstance(document, dict):
        return
    if found[0].version is version:
        yield document
    elif found[0].version is Version.V2_2_1 and version is Version.V2_3_0:
        yield from _raised(document, found[0])


def _raised(document: Document, tariff: Tariff) -> Iterator[Document]:
    """A missing `vat` is "no VAT is applicable" in 2.2.1 and "unknown" beside others in 2.3.0: then it is not said."""
    taxed = {bool(component.taxes) for element in tariff.elements for component in element.components}
    if len(taxed) > 1:
        return
    limits = {
        name: {LIMITS[key]: amount for key, amount in limit.items() if key in LIMITS}
        for name in ("min_price", "max_price")
        if isinstance(limit := document.get(name), dict)
    }
    yield document | limits | {"tax_included": "NO" if True in taxed else "N/A"}


LIMITS = {"excl_vat": "before_taxes", "incl_vat": "after_taxes"}


def _totals(one: Settled, version: Version) -> Document:
    if one.priced is None:
        return {}
    if one.tariff is None:
        return {Total.COST.value: _price(_payable(one), version)}
    stated = one.priced.stated
    return {
        total.value: _price(stated[total], version)
        for total in Total
        if total is Total.COST or any(line.belongs_to is total for line in one.priced.lines)
    }


def _payable(one: Settled) -> Amount:
    if one.priced is not None and one.tariff is not None:
        return one.priced.stated[Total.COST]
    net, _, gross = money(one)
    return Amount(net=net, taxes=None, gross=gross)


def _price(amount: Amount, version: Version) -> Document | None:
    """None where the price before taxes is unknown: both versions demand it."""
    if amount.net is None:
        return None
    if version is not Version.V2_3_0:
        told: Document = {"excl_vat": amount.net}
        return told if amount.gross is None else told | {"incl_vat": amount.gross}
    if amount.taxes is None:
        return {"before_taxes": amount.net}
    taxes = [
        {"name": tax.name, **({} if tax.percent is None else {"percentage": tax.percent}), "amount": tax.amount}
        for tax in amount.taxes
    ]
    return {"before_taxes": amount.net, "taxes": taxes}


def _signed(one: Settled) -> Document | None:
    """Records that name no card and fit into OCPI's fields; the others are in the session's evidence."""
    values = []
    for each in one.signed:
        if each.text is None or each.parts != 1 or len(each.text) > SIGNED_CHARS or each.format.upper() != "OCMF":
            continue
        sections = each.text.split("|")
        if len(sections) == 3:
            values.append({"nature": "End", "plain_data": sections[1].strip(), "signed_data": each.text})
    if not values:
        return None
    key = next((each.public_key for each in one.signed if each.public_key), None)
    return {
        "encoding_method": "OCMF",
        **({} if key is None or len(key) > 512 else {"public_key": key}),
        "signed_values": values,
    }


def _four(value: Decimal | None) -> Decimal | None:
    """OCPI numbers have four decimals."""
    return None if value is None else Decimal(value).quantize(FOUR)
