"""What an office knows and no device records: who sells, who buys, and a site's address. One TOML file, all optional.

    [buyer]                      name, vat_id, country, party (such as DE*FLT)
    [networks."DE*ABC"]          name, vat_id, country                                   the seller
    [sites.depot]                name, address, city, postal_code, country, latitude, longitude
    [evses."DE*ABC*E1*1"]        connector_id, connector_standard, connector_format, connector_power_type, meter_id

It is carried into the exports as it stands. Taxes are never worked out from it: a country alone says no VAT.
"""

from __future__ import annotations

import tomllib
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path

from agent.core.networks import normalise_network

KNOWN = {
    "buyer": ("name", "vat_id", "country", "party"),
    "networks": ("name", "vat_id", "country"),
    "sites": ("name", "address", "city", "postal_code", "country", "latitude", "longitude"),
    "evses": ("connector_id", "connector_standard", "connector_format", "connector_power_type", "meter_id"),
}

Facts = Mapping[str, str]


class CarriedUnfit(Exception):
    """The file cannot be used; the text says where and why."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Carried:
    buyer: Facts = field(default_factory=dict)
    networks: Mapping[str, Facts] = field(default_factory=dict)
    sites: Mapping[str, Facts] = field(default_factory=dict)
    evses: Mapping[str, Facts] = field(default_factory=dict)

    def network(self, name: str | None) -> Facts:
        return self.networks.get(normalise_network(name), {}) if name else {}

    def evse(self, name: str | None) -> Facts:
        return self.evses.get(normalise_network(name), {}) if name else {}


def read_carried(path: Path) -> Carried:
    """Raises CarriedUnfit: an unknown key is a fact that would be missing from a bill."""
    try:
        document = tomllib.loads(path.read_text(encoding="utf-8"))
    except OSError as error:
        raise CarriedUnfit(f"{path}: {error.strerror}") from error
    except (tomllib.TOMLDecodeError, UnicodeDecodeError) as error:
        raise CarriedUnfit(f"{path}: is no TOML: {error}") from error
    for section in document:
        if section not in KNOWN:
            raise CarriedUnfit(f"{path}: [{section}] is not known; there are {', '.join(KNOWN)}")
    tables = {
        section: {name: _facts(path, f"{section}.{name}", section, each) for name, each in _table(document, section)}
        for section in ("networks", "sites", "evses")
    }
    by_number = {name: {normalise_network(key): each for key, each in tables[name].items()} for name in tables}
    return Carried(
        buyer=_facts(path, "buyer", "buyer", document.get("buyer", {})),
        networks=by_number["networks"],
        sites=tables["sites"],
        evses=by_number["evses"],
    )


def _table(document: Mapping[str, object], section: str) -> list[tuple[str, object]]:
    found = document.get(section, {})
    return list(found.items()) if isinstance(found, dict) else []


def _facts(path: Path, place: str, section: str, table: object) -> Facts:
    if not isinstance(table, dict):
        raise CarriedUnfit(f"{path}: [{place}] is no table")
    for name, value in table.items():
        if name not in KNOWN[section]:
            raise CarriedUnfit(f"{path}: [{place}]: {name!r} is not known; there are {', '.join(KNOWN[section])}")
        if not isinstance(value, str):
            raise CarriedUnfit(f"{path}: [{place}]: {name} must be text")
    return table
