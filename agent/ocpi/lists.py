"""OCPI Tokens and Locations (2.1.1, 2.2.1, 2.3.0) as rows of a fleet's own files: what its rules ask for, no more.

A list, one object, or an OCPI answer with `data`; every object alone, so that each bad one has its place. How JSON is
checked is documents.py; what a row must say is agent/fleet.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from dataclasses import dataclass
from decimal import Decimal
from enum import StrEnum

from agent.core.findings import Severity
from agent.core.tariff.codes import Code
from agent.ocpi.documents import Json, Node, Notes

TOKEN_FIELDS = (
    "country_code", "party_id", "uid", "type", "contract_id", "auth_id", "visual_number", "issuer", "group_id", "valid",
    "whitelist", "language", "default_profile_type", "energy_contract", "last_updated",
)  # fmt: skip
PHASES_AC = {"AC_1_PHASE": 1, "AC_2_PHASE": 2, "AC_2_PHASE_SPLIT": 2, "AC_3_PHASE": 3, "DC": 1}
_SEPARATORS = re.compile(r"[\s:.-]")


class Whitelist(StrEnum):
    ALWAYS = "ALWAYS"
    ALLOWED = "ALLOWED"
    ALLOWED_OFFLINE = "ALLOWED_OFFLINE"
    NEVER = "NEVER"


@dataclass(frozen=True, slots=True, kw_only=True)
class Listed:
    """One object. `rows` is empty for one that has no place in a fleet's files: `passed_over` says why."""

    path: str
    rows: tuple[dict[str, str], ...]
    notes: Notes
    passed_over: str = ""


def objects(document: Json) -> Iterator[Node]:
    """Each object with notes of its own. An answer that is an error, or no list, is told as one bad object."""
    path = "$"
    if isinstance(document, dict) and ("data" in document or "status_code" in document):
        status = document.get("status_code", Decimal(1000))
        if not isinstance(status, Decimal) or not 1000 <= status < 2000 or "data" not in document:
            yield _bad(path, f"This is OCPI's answer {status}, which brings nothing: {document.get('status_message')}")
            return
        document, path = document["data"], "$.data"
    if isinstance(document, dict):
        yield Node(document, path, Notes())
    elif isinstance(document, list):
        for index, item in enumerate(document):
            at = f"{path}[{index}]"
            yield Node(item, at, Notes()) if isinstance(item, dict) else _bad(at, "This item is not an object")
    else:
        yield _bad(path, "The document is neither an object nor a list of objects")


def token(node: Node) -> Listed:
    """A card or a contract. An app's token is on no card, so that no reader of a vehicle ever sees it."""
    known = node.know(*TOKEN_FIELDS)
    uid, kind = known.text("uid", required=True), (known.text("type", required=True) or "").upper()
    contract = known.text("contract_id") or known.text("auth_id")
    rows: tuple[dict[str, str], ...] = ()
    passed_over = ""
    match kind:
        case "RFID":
            rows = (_token(known, "uid", uid or "", contract),)
        case "EMAID":
            rows = (_token(known, "emaid", contract or uid or "", contract),)
        case "":
            pass
        case _:
            passed_over = f"type {kind[:20]} is no card and no contract"
    return Listed(path=node.path, rows=rows, notes=node.notes, passed_over=passed_over)


def _token(node: Node, kind: str, number: str, contract: str | None) -> dict[str, str]:
    valid = node.value.get("valid")
    if not isinstance(valid, bool):
        node.error(Code.MISSING_FIELD, "valid", "valid is mandatory, and true or false")
    whitelist = node.enum("whitelist", Whitelist, required=True)
    printed = node.text("visual_number")
    # What is printed on a card is sometimes its UID, and a label is clear in every record.
    label = next((each for each in (printed, contract) if each and _plain(each) != _plain(number)), None)
    if label is None:
        label = f"{node.text('issuer') or 'card'} ending {_plain(number)[-2:]}"
    group = node.text("group_id")
    return {
        kind: number,
        "label": label,
        "status": "active" if valid else "blocked",
        "parent": group or "",
        "whitelist": whitelist.value if whitelist is not None else "",
    }


def location(node: Node) -> Listed:
    """A site with its charging points: a row each, and one row for a site without any."""
    at = node.child("coordinates")
    if at is None:
        node.error(Code.MISSING_FIELD, "coordinates", "coordinates are mandatory and missing")
    site = {
        "id": node.text("id", required=True) or "",
        "latitude": _degrees(at, "latitude"),
        "longitude": _degrees(at, "longitude"),
        "network": "*".join(each for each in (node.text("country_code"), node.text("party_id")) if each),
        "country": node.text("country", required=True) or "",
    }
    rows = [site | evse for evse in _evses(node)]
    return Listed(path=node.path, rows=tuple(rows or [site]), notes=node.notes)


def _evses(node: Node) -> Iterator[dict[str, str]]:
    for _, evse in node.children("evses"):
        if (evse.text("status") or "").upper() == "REMOVED":
            continue
        name = evse.text("evse_id")
        if name is None:
            evse.inform(Code.MISSING_FIELD, "evse_id", "without an evse_id a charger cannot say that it is this one")
            continue
        connectors = [each for _, each in evse.children("connectors", required=True)]
        standards = {standard for each in connectors if (standard := each.text("standard", required=True))}
        if len(standards) > 1:
            # A charge may be over any of them; which is not known before, and missing is what rules then judge.
            evse.inform(Code.UNKNOWN_VALUE, "connectors", "has plugs of several kinds; none of them is taken")
        powers = [power for each in connectors if (power := _power_w(each)) is not None]
        yield {
            "evse": name,
            "connector": standards.pop() if len(standards) == 1 else "",
            "power_w": str(max(powers)) if powers else "",
        }


def _power_w(connector: Node) -> int | None:
    told = connector.number("max_electric_power")
    if told is not None:
        return int(told)
    volts = connector.number("max_voltage") or connector.number("voltage")
    amperes = connector.number("max_amperage") or connector.number("amperage")
    phases = PHASES_AC.get((connector.text("power_type") or "").upper())
    return None if volts is None or amperes is None or phases is None else int(volts * amperes * phases)


def _degrees(at: Node | None, name: str) -> str:
    if at is None:
        return ""
    text = at.text(name, required=True) or ""
    return f"{Decimal(text):.6f}".rstrip("0").rstrip(".") if re.fullmatch(r"-?[0-9]{1,3}\.[0-9]{7,20}", text) else text


def _plain(text: str) -> str:
    return _SEPARATORS.sub("", text).upper()


def _bad(path: str, text: str) -> Node:
    notes = Notes()
    notes.add(Code.WRONG_TYPE, path, Severity.ERROR, text)
    return Node({}, path, notes)
