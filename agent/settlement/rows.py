"""Settled sessions as flat rows for spreadsheets and columns stores: one a session, or one a billed line.

Every row has every column, in one order and one type: text, or a number with all its digits, or nothing. So JSON Lines
become Parquet without a schema to be written by hand.
"""

from __future__ import annotations

import csv
import io
import json
from collections.abc import Iterable, Iterator, Mapping
from datetime import UTC, datetime
from decimal import Decimal

from agent.core.countries import alpha_3, normalise_country
from agent.core.tariff.amounts import Amount
from agent.core.tariff.priced import UNITS, Line, Priced
from agent.core.tariff.records import Total
from agent.core.tariff.rounding import Rounding
from agent.exact_json import plain
from agent.settlement.carried import Carried
from agent.settlement.settled import Settled

Cell = str | int | Decimal | bool | None
Row = dict[str, Cell]

KWH = Decimal(1000)


def session_row(one: Settled, carried: Carried) -> Row:
    """What it cost and to whom it goes. `tax_status`: `documented` by the tariff, or `unknown`; never worked out."""
    ended, begun, place = one.ended, one.begun, one.ended.place
    net, tax, gross = money(one)
    country = normalise_country(place.country) if place.country else None
    seller, buyer = carried.network(place.network), carried.buyer
    site = carried.sites.get(place.site or "", {})
    return {
        "session": one.id,
        "decision": ended.decision,
        "fleet": one.fleet,
        "device": one.device,
        "journal": one.journal,
        "record": one.record,
        "complete": ended.complete,
        "interrupted": ended.interrupted,
        "reason": ended.reason.value,
        "authorised_at": stamp(ended.authorised_at),
        "started_at": stamp(ended.started_at),
        "ended_at": stamp(ended.ended_at),
        "time_zone": one.zone,
        "clock": one.clock.value,
        "duration_s": ended.duration_s,
        "duration_source": ended.duration_source,
        "meter_start_kwh": _kwh(ended.meter_start_wh),
        "meter_stop_kwh": _kwh(ended.meter_stop_wh),
        "energy_kwh": _kwh(ended.energy_wh),
        "energy_billed_kwh": None if one.priced is None else _billed(one.priced),
        "driver": ended.holder.driver,
        "vehicle": ended.holder.vehicle,
        "cost_centre": ended.holder.cost_centre,
        "route": begun.route,
        "group": ended.holder.group,
        "token_label": ended.holder.label,
        "token_reference": ended.credential.reference or None,
        "odometer_km": begun.odometer_km,
        "network": place.network,
        "evse": place.evse,
        "connector": place.connector,
        "site": place.site,
        "site_address": site.get("address"),
        "country": country,
        "country_alpha3": alpha_3(country) if country else None,
        "currency": one.priced.currency if one.priced is not None else None,
        "net": net,
        "tax": tax,
        "gross": gross,
        "price_source": one.price_source,
        "tax_status": "unknown" if tax is None else "documented",
        "tariff_sha256": one.tariff.sha256 if one.tariff is not None else None,
        "seller_name": seller.get("name"),
        "seller_vat_id": seller.get("vat_id"),
        "seller_country": seller.get("country"),
        "buyer_name": buyer.get("name"),
        "buyer_vat_id": buyer.get("vat_id"),
        "buyer_country": buyer.get("country"),
        "signed_meter_sha256": " ".join(dict.fromkeys(each.sha256 for each in one.signed)) or None,
    }


def line_rows(one: Settled, carried: Carried) -> Iterator[Row]:
    """One a billed line and tax; a session without a price has one row without a line."""
    session = session_row(one, carried)
    lines = one.priced.lines if one.priced is not None else ()
    if not lines:
        yield session | dict.fromkeys(LINE_COLUMNS)
    for number, line in enumerate(lines, 1):
        for taxed in _taxes(line):
            yield session | {
                "line": number,
                "line_type": line.item.value,
                "element": line.element,
                "unit": UNITS.get(line.item),
                "metered": _six(line.metered),
                "billed": _six(line.billed),
                "unit_price": line.price,
                "line_net": _six(line.amount.net),
                "line_tax": _six(line.amount.tax),
                "line_gross": _six(line.amount.gross),
                **taxed,
            }


LINE_COLUMNS = (
    "line", "line_type", "element", "unit", "metered", "billed", "unit_price", "line_net", "line_tax", "line_gross",
    "tax_name", "tax_percent", "tax_amount",
)  # fmt: skip


def as_csv(rows: Iterable[Row]) -> Iterator[str]:
    """RFC 4180; numbers with a point, times in UTC. Text that a spreadsheet would take for a formula is quoted off."""
    head: list[str] | None = None
    for row in rows:
        if head is None:
            head = list(row)
            yield _csv_line(head)
        yield _csv_line([_cell(value) for value in row.values()])


def as_json_lines(rows: Iterable[Mapping[str, object]]) -> Iterator[str]:
    for row in rows:
        yield compact(row) + "\n"


def compact(value: object) -> str:
    """JSON on one line; a Decimal digit by digit."""
    if isinstance(value, Decimal):
        return plain(value)
    if isinstance(value, Mapping):
        return "{" + ",".join(f"{json.dumps(str(name))}:{compact(each)}" for name, each in value.items()) + "}"
    if isinstance(value, list | tuple):
        return "[" + ",".join(map(compact, value)) + "]"
    return json.dumps(value, ensure_ascii=False)


def stamp(moment: datetime | None) -> str | None:
    """As OCPI writes a DateTime."""
    if moment is None:
        return None
    return moment.astimezone(UTC).replace(microsecond=0, tzinfo=None).isoformat() + "Z"


def _csv_line(cells: list[str]) -> str:
    text = io.StringIO()
    csv.writer(text, lineterminator="\r\n").writerow(cells)
    return text.getvalue()


FORMULA = ("=", "+", "-", "@", "\t", "\r")


def _cell(value: Cell) -> str:
    match value:
        case None:
            return ""
        case bool():
            return "true" if value else "false"
        case Decimal():
            return plain(value)
        case str() if value.startswith(FORMULA):
            return f"'{value}"
        case _:
            return str(value)


def money(one: Settled) -> tuple[Decimal | None, Decimal | None, Decimal | None]:
    """(net, tax, gross) as it has to be paid; of plain prices each basis that is known, and so no taxes."""
    if one.priced is None:
        return None, None, None
    cost = one.ended.cost
    if one.tariff is None and cost is not None:
        paid = Rounding().payable(Amount(net=cost.net, taxes=None, gross=cost.gross), cost.currency)
        return paid.net, None, paid.gross
    payable = one.priced.payable
    return payable.net, payable.tax, payable.gross


def _billed(priced: Priced) -> Decimal:
    return sum((line.billed for line in priced.lines if line.belongs_to is Total.ENERGY), Decimal(0))


def _taxes(line: Line) -> list[Row]:
    taxes = line.amount.taxes
    if not taxes:
        return [{"tax_name": None, "tax_percent": None, "tax_amount": None}]
    return [{"tax_name": tax.name, "tax_percent": tax.percent, "tax_amount": _six(tax.amount)} for tax in taxes]


def _kwh(energy_wh: int | None) -> Decimal | None:
    return None if energy_wh is None else Decimal(energy_wh) / KWH


def _six(value: Decimal | None) -> Decimal | None:
    return None if value is None else round(value, 6)
