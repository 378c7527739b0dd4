"""An OCPI tariff as it was shown before a session becomes a quote; and that of a record becomes one again."""

from __future__ import annotations

import hashlib
from pathlib import Path
from zoneinfo import ZoneInfo

from agent.core.facts import SessionPriced
from agent.core.findings import Severity
from agent.core.quotes import MAX_DOCUMENT_BYTES, Quote
from agent.ocpi.tariffs import read_tariffs


class QuoteUnfit(Exception):
    """Nobody can be charged by this document; the text says why."""


def read_quote(document: str, zone: str | None = None) -> Quote:
    """One tariff in which nothing was read wrongly: a price half understood is an unknown price. Raises QuoteUnfit."""
    body = document.encode("utf-8", "replace")
    if len(body) > MAX_DOCUMENT_BYTES:
        raise QuoteUnfit(f"the tariff has {len(body)} bytes; at most {MAX_DOCUMENT_BYTES} are taken")
    found = read_tariffs(document)
    wrong = next((each for each in found.findings if each.severity is Severity.ERROR), None)
    if wrong is not None:
        raise QuoteUnfit(f"the tariff: {wrong.path}: {wrong.text}")
    if len(found.tariffs) != 1:
        raise QuoteUnfit(f"one tariff is wanted, and there are {len(found.tariffs)}")
    return Quote(
        document=document,
        sha256=hashlib.sha256(body).hexdigest(),
        tariff=found.tariffs[0],
        zone=None if zone is None else _zone(zone),
    )


def read_quote_file(path: Path, zone: str | None = None) -> Quote:
    """Raises QuoteUnfit, also when there is no such file."""
    try:
        return read_quote(path.read_text(encoding="utf-8"), zone)
    except OSError as error:
        raise QuoteUnfit(f"{path}: {error.strerror}") from error
    except (UnicodeDecodeError, QuoteUnfit) as error:
        raise QuoteUnfit(f"{path}: {error}") from error


def quote_of(fact: SessionPriced) -> Quote | None:
    """Of a record. None when this version cannot read it: then the session's cost is unknown, and it goes on."""
    try:
        return read_quote(fact.document, fact.zone)
    except QuoteUnfit:
        return None


def _zone(name: str) -> ZoneInfo:
    try:
        return ZoneInfo(name)
    except (KeyError, ValueError, OSError):  # not found is a KeyError; a folder or a strange name are the others
        raise QuoteUnfit(f"{name!r} is no time zone that is known here; try Europe/Berlin") from None
