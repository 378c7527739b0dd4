"""The EVSE id, the name of a charging point: ISO 15118-2 (DE*AB7*E840*6487) and DIN SPEC 91286 (+49*810*000*438)."""

from __future__ import annotations

import re
from dataclasses import dataclass

from agent.core.contracts.countries import ASSIGNED, IN_USE
from agent.core.contracts.identifiers import NotAnIdentifier, plain

_ISO = re.compile(r"([A-Z]{2})\*?([A-Z0-9]{3})\*?(E[A-Z0-9*]{1,31})", re.IGNORECASE | re.ASCII)
_DIN = re.compile(r"\+?([0-9]{1,3})\*([0-9]{3,6})\*([0-9*]{1,32})", re.ASCII)


@dataclass(frozen=True, slots=True, kw_only=True)
class EvseId:
    """`canonical` is what is compared: upper case, without asterisks (DIN keeps those that tell its parts apart).

    `doubt` says what is odd about an id that is accepted all the same.
    """

    canonical: str
    country: str
    operator: str
    doubt: str | None = None


def read_evse_id(text: str) -> EvseId:
    if din := _DIN.fullmatch(text):
        outlet = plain(din[3], separators="*")
        if outlet:
            return EvseId(canonical=f"+{din[1]}*{din[2]}*{outlet}", country=f"+{din[1]}", operator=din[2])
    iso = _ISO.fullmatch(text)
    if iso is None:
        raise NotAnIdentifier(f"{text!r} is no EVSE id: they look like DE*AB7*E840*6487 or +49*810*000*438")
    country, operator, outlet = (plain(part, separators="*") for part in iso.groups())
    if len(outlet) == 1:
        raise NotAnIdentifier(f"{text!r} is no EVSE id: nothing follows the E")
    if country not in ASSIGNED | IN_USE:
        raise NotAnIdentifier(f"{text!r} is no EVSE id: {country} is no country of ISO 3166-1")
    doubt = None if country in ASSIGNED else f"{country} is in use, but is no country's code in ISO 3166-1"
    return EvseId(canonical=country + operator + outlet, country=country, operator=country + operator, doubt=doubt)
