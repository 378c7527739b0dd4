"""The shapes of OCPI 2.2.1 and 2.3.0 Session and CDR objects: which fields there are, how long, which must be there.

From mod_sessions, mod_cdrs and types of both versions. For what this program writes; documents of peers are read by
records.py, which takes what it can.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from decimal import Decimal

from agent.core.tariff.tariffs import Version

TEXT, NUMBER, MOMENT, FLAG = "text", "number", "moment", "flag"
# OCPI DateTime: UTC, at most 25 characters.
_MOMENT = re.compile(r"\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d(\.\d{1,3})?Z", re.ASCII)
_LATITUDE = re.compile(r"-?\d{1,2}\.\d{5,7}", re.ASCII)
_LONGITUDE = re.compile(r"-?\d{1,3}\.\d{5,7}", re.ASCII)
AUTH_METHODS = ("AUTH_REQUEST", "COMMAND", "WHITELIST")
TOKEN_TYPES = ("AD_HOC_USER", "APP_USER", "EMAID", "OTHER", "RFID")
DIMENSIONS = (
    "CURRENT", "ENERGY", "ENERGY_EXPORT", "ENERGY_IMPORT", "MAX_CURRENT", "MIN_CURRENT", "MAX_POWER", "MIN_POWER",
    "PARKING_TIME", "POWER", "RESERVATION_TIME", "STATE_OF_CHARGE", "TIME",
)  # fmt: skip
STATUSES = ("ACTIVE", "COMPLETED", "INVALID", "PENDING", "RESERVATION")
FORMATS, POWERS = ("SOCKET", "CABLE"), ("AC_1_PHASE", "AC_2_PHASE", "AC_2_PHASE_SPLIT", "AC_3_PHASE", "DC")


@dataclass(frozen=True, slots=True, kw_only=True)
class Field:
    """`of` is a kind of value, a shape, or a closed list of words. `many` is a list; `least` how many it must have."""

    of: str | Mapping[str, Field] | tuple[str, ...]
    required: bool = True
    longest: int | None = None
    like: re.Pattern[str] | None = None
    many: bool = False
    least: int = 0


Shape = Mapping[str, Field]


def text(longest: int, *, required: bool = True, like: re.Pattern[str] | None = None) -> Field:
    return Field(of=TEXT, longest=longest, required=required, like=like)


def shape_of(what: str, version: Version) -> Shape:
    """`session` or `cdr`, 2.2.1 or 2.3.0."""
    return {"session": _session, "cdr": _cdr}[what](_price(version))


def flaws(document: object, shape: Shape, path: str = "$") -> Iterator[str]:
    """Everything that is wrong with it; nothing is when a peer must take it."""
    if not isinstance(document, Mapping):
        yield f"{path} is no object"
        return
    for name in document:
        if name not in shape:
            yield f"{path}.{name} is no field of OCPI here"
    for name, field in shape.items():
        value = document.get(name)
        if value is None or (field.many and value == [] and field.least == 0):
            if field.required and not (field.many and field.least == 0):
                yield f"{path}.{name} is missing"
        elif field.many:
            if not isinstance(value, list | tuple) or len(value) < field.least:
                yield f"{path}.{name} is no list of at least {field.least}"
                continue
            for index, each in enumerate(value):
                yield from _value_flaws(each, field, f"{path}.{name}[{index}]")
        else:
            yield from _value_flaws(value, field, f"{path}.{name}")


def _value_flaws(value: object, field: Field, path: str) -> Iterator[str]:
    if isinstance(field.of, Mapping):
        if field.of:
            yield from flaws(value, field.of, path)
        return
    if isinstance(field.of, tuple):
        if value not in field.of:
            yield f"{path} is {value!r}, which is none of {', '.join(field.of)}"
        return
    match field.of:
        case "number":
            if not isinstance(value, Decimal | int) or isinstance(value, bool):
                yield f"{path} is no number"
        case "flag":
            if not isinstance(value, bool):
                yield f"{path} is neither true nor false"
        case _:
            if not isinstance(value, str) or not value:
                yield f"{path} is no text"
            elif field.longest is not None and len(value) > field.longest:
                yield f"{path} has {len(value)} characters; at most {field.longest} are allowed"
            elif field.of == MOMENT and _MOMENT.fullmatch(value) is None:
                yield f"{path} is {value!r}, which is no OCPI DateTime in UTC"
            elif field.like is not None and field.like.fullmatch(value) is None:
                yield f"{path} is {value!r}, which is not as it must be written"


def _price(version: Version) -> Shape:
    if version is Version.V2_3_0:
        tax = {
            "name": text(255),
            "account_number": text(255, required=False),
            "percentage": Field(of=NUMBER, required=False),
            "amount": Field(of=NUMBER),
        }
        return {"before_taxes": Field(of=NUMBER), "taxes": Field(of=tax, many=True, required=False)}
    return {"excl_vat": Field(of=NUMBER), "incl_vat": Field(of=NUMBER, required=False)}


TOKEN: Shape = {
    "country_code": text(2),
    "party_id": text(3),
    "uid": text(36),
    "type": Field(of=TOKEN_TYPES),
    "contract_id": text(36),
}
PERIOD: Shape = {
    "start_date_time": Field(of=MOMENT, longest=25),
    "dimensions": Field(of={"type": Field(of=DIMENSIONS), "volume": Field(of=NUMBER)}, many=True, least=1),
    "tariff_id": text(36, required=False),
}
LOCATION: Shape = {
    "id": text(36),
    "name": text(255, required=False),
    "address": text(45),
    "city": text(45),
    "postal_code": text(10, required=False),
    "state": text(20, required=False),
    "country": text(3, like=re.compile("[A-Z]{3}")),
    "coordinates": Field(of={"latitude": text(10, like=_LATITUDE), "longitude": text(11, like=_LONGITUDE)}),
    "evse_uid": text(36),
    "evse_id": text(48),
    "connector_id": text(36),
    "connector_standard": text(40),
    "connector_format": Field(of=FORMATS),
    "connector_power_type": Field(of=POWERS),
}
SIGNED: Shape = {
    "encoding_method": text(36),
    "encoding_method_version": Field(of=NUMBER, required=False),
    "public_key": text(512, required=False),
    "signed_values": Field(
        of={"nature": text(32), "plain_data": text(5000), "signed_data": text(5000)}, many=True, least=1
    ),
    "url": text(512, required=False),
}


def _session(price: Shape) -> Shape:
    return {
        "country_code": text(2),
        "party_id": text(3),
        "id": text(36),
        "start_date_time": Field(of=MOMENT, longest=25),
        "end_date_time": Field(of=MOMENT, longest=25, required=False),
        "kwh": Field(of=NUMBER),
        "cdr_token": Field(of=TOKEN),
        "auth_method": Field(of=AUTH_METHODS),
        "authorization_reference": text(36, required=False),
        "location_id": text(36),
        "evse_uid": text(36),
        "connector_id": text(36),
        "meter_id": text(255, required=False),
        "currency": text(3, like=re.compile("[A-Z]{3}")),
        "charging_periods": Field(of=PERIOD, many=True),
        "total_cost": Field(of=price, required=False),
        "status": Field(of=STATUSES),
        "last_updated": Field(of=MOMENT, longest=25),
    }


def _cdr(price: Shape) -> Shape:
    optional = (
        "total_fixed_cost", "total_energy_cost", "total_time_cost", "total_parking_cost", "total_reservation_cost",
    )  # fmt: skip
    return {
        "country_code": text(2),
        "party_id": text(3),
        "id": text(39),
        "start_date_time": Field(of=MOMENT, longest=25),
        "end_date_time": Field(of=MOMENT, longest=25),
        "session_id": text(36, required=False),
        "cdr_token": Field(of=TOKEN),
        "auth_method": Field(of=AUTH_METHODS),
        "authorization_reference": text(36, required=False),
        "cdr_location": Field(of=LOCATION),
        "meter_id": text(255, required=False),
        "currency": text(3, like=re.compile("[A-Z]{3}")),
        "tariffs": Field(of={}, many=True),  # tariffs.py reads them
        "charging_periods": Field(of=PERIOD, many=True, least=1),
        "signed_data": Field(of=SIGNED, required=False),
        "total_cost": Field(of=price),
        **{name: Field(of=price, required=False) for name in optional},
        "total_energy": Field(of=NUMBER),
        "total_time": Field(of=NUMBER),
        "total_parking_time": Field(of=NUMBER, required=False),
        "remark": text(255, required=False),
        "invoice_reference_id": text(39, required=False),
        "credit": Field(of=FLAG, required=False),
        "credit_reference_id": text(39, required=False),
        "home_charging_compensation": Field(of=FLAG, required=False),
        "last_updated": Field(of=MOMENT, longest=25),
    }
