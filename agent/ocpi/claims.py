"""A network's CDRs as claims: who wants how much for which charge. Read one by one, so that a file may be of any size.

Takes a JSON list, JSON Lines, or an OCPI response. How a CDR is priced is records.py and core/tariff; a claim has only
what tells one charge from another. The card's number in it is not read: matching does without.
"""

from __future__ import annotations

import hashlib
import json
import re
from collections.abc import Iterator
from dataclasses import dataclass, replace
from datetime import datetime
from decimal import Decimal
from pathlib import Path
from typing import Final, TextIO

from agent.core.networks import normalise_network
from agent.core.tariff.records import Total
from agent.ocpi.documents import Node, Notes, decimal_of, documents, parse
from agent.ocpi.records import CDR_FIELDS, stated_total

CHUNK_CHARS: Final = 1 << 20
MOST_CHARS: Final = 1 << 26  # of one CDR, or of an OCPI response, which cannot be read piece by piece
NOT_AVAILABLE = "#NA"
_BETWEEN = re.compile(r"[\s,\[\]]*")
_RESPONSE = re.compile(r'\s*\{\s*"(?:data|status_code|status_message|timestamp)"')


class ClaimsUnfit(Exception):
    """The file is no list of CDRs from there on."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Claim:
    """`lacking` names what it should say and does not. `digest` is of all of it: two the same are the same twice."""

    party: str
    id: str
    session: str | None
    reference: str | None
    evse: str | None
    start: datetime | None
    end: datetime | None
    energy_kwh: Decimal | None
    net: Decimal | None
    gross: Decimal | None
    currency: str | None
    credit: bool
    credits: str | None
    created: datetime | None
    digest: str
    lacking: tuple[str, ...] = ()


def read_claims(path: Path) -> Iterator[Claim]:
    """In the order of the file. Raises OSError and ClaimsUnfit."""
    for document in cdr_documents(path):
        yield claim_of(document)


def cdr_documents(path: Path) -> Iterator[dict[str, object]]:
    """Each CDR as it stands there, its numbers exact."""
    with path.open(encoding="utf-8-sig", errors="replace") as file:
        head = file.read(CHUNK_CHARS)
        if _RESPONSE.match(head):
            yield from _response(head + file.read(MOST_CHARS))
        else:
            yield from _pieces(head, file)


def claim_of(document: dict[str, object]) -> Claim:
    notes = Notes()
    node = Node(document, "$", notes).know(*CDR_FIELDS)
    total = stated_total(node, Total.COST.value)
    party = normalise_network(_named(node.text("country_code")) or "") + (_named(node.text("party_id")) or "").upper()
    claim = Claim(
        party=party,
        id=_named(node.text("id")) or "",
        session=_named(node.text("session_id")),
        reference=_named(node.text("authorization_reference")),
        evse=_evse(node),
        start=node.moment("start_date_time"),
        end=node.moment("end_date_time" if node.has("end_date_time") else "stop_date_time"),
        energy_kwh=node.number("total_energy"),
        net=None if total is None else total.net,
        gross=None if total is None else total.gross,
        currency=(_named(node.text("currency")) or "").upper() or None,
        credit=document.get("credit") is True,
        credits=_named(node.text("credit_reference_id")),
        created=node.moment("last_updated"),
        digest=digest_of(document),
    )
    wanted = {
        "id": claim.id,
        "party": claim.party,
        "EVSE": claim.evse,
        "start": claim.start,
        "end": claim.end,
        "energy": claim.energy_kwh,
        "total_cost": claim.net if claim.gross is None else claim.gross,
        "currency": claim.currency,
    }
    lacking = tuple(name for name, value in wanted.items() if value in (None, ""))
    return replace(claim, lacking=lacking) if lacking else claim


def digest_of(document: dict[str, object]) -> str:
    return hashlib.sha256(json.dumps(document, sort_keys=True, default=str).encode("utf-8", "replace")).hexdigest()


def _named(text: str | None) -> str | None:
    """JSON can say what UTF-8 cannot; no id is such a text."""
    told = (text or "").encode("utf-8", "replace").decode().strip()
    return None if told in ("", NOT_AVAILABLE) else told


def _evse(node: Node) -> str | None:
    """`cdr_location` since 2.2; 2.1.1 has a Location with its EVSEs."""
    for name in ("cdr_location", "location"):
        location = node.child(name)
        if location is None:
            continue
        evse = _named(location.text("evse_id")) or _named(location.text("evse_uid"))
        if evse is None:
            for _, each in location.children("evses"):
                evse = _named(each.text("evse_id")) or _named(each.text("uid"))
                break
        return None if evse is None else normalise_network(evse)
    return None


def _response(text: str) -> Iterator[dict[str, object]]:
    document, findings = parse(text)
    if document is None:
        raise ClaimsUnfit(findings[0].text)
    for node in documents(document, Notes()):
        yield dict(node.value)


def _pieces(buffer: str, file: TextIO) -> Iterator[dict[str, object]]:
    """Objects one after the other, whatever stands between them; one at a time is in memory, and a chunk."""
    decoder = json.JSONDecoder(parse_float=decimal_of, parse_int=decimal_of, parse_constant=decimal_of)
    at, ended, count = 0, False, 0
    while True:
        between = _BETWEEN.match(buffer, at)
        at = at if between is None else between.end()
        if at >= len(buffer) or (not ended and len(buffer) - at < CHUNK_CHARS // 4):
            more = "" if ended else file.read(CHUNK_CHARS)
            ended = not more
            buffer, at = buffer[at:] + more, 0
            if not buffer.strip(" \t\r\n,[]"):
                if ended:
                    return
                continue
        try:
            found, end = decoder.raw_decode(buffer, at)
        except (ValueError, RecursionError) as error:
            more = "" if ended or len(buffer) > MOST_CHARS else file.read(CHUNK_CHARS)
            if not more:
                raise ClaimsUnfit(f"after {count} CDRs the file is not JSON: {error}") from None
            buffer, at = buffer[at:] + more, 0
            continue
        at, count = end, count + 1
        if not isinstance(found, dict):
            raise ClaimsUnfit(f"after {count - 1} CDRs there is something that is no object")
        yield found
