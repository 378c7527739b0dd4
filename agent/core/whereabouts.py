"""Where a charge would happen, from all that is known: the charger's own word, the configuration, the position.

Pure: what was measured is handed in. Which site a position means is sites.py; what missing means, the rules say.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass, replace

from agent.core.contracts.evse_id import EvseId, read_evse_id
from agent.core.contracts.identifiers import NotAnIdentifier
from agent.core.countries import normalise_country
from agent.core.instants import Instant
from agent.core.networks import normalise_network
from agent.core.positions import Position
from agent.core.requests import Place, Source
from agent.core.sites import Doubt, Site, Sites, distance_m

NAMES = ("network", "country", "site")


@dataclass(frozen=True, slots=True, kw_only=True)
class Fix:
    """A position as it was measured, at this moment of the monotonic clock; its age is told when it is used."""

    source: Source
    latitude_udeg: int
    longitude_udeg: int
    accuracy_m: int | None
    measured_ms: int

    def position(self, now: Instant) -> Position:
        """Its age is rounded up. It is by the monotonic clock alone: a receiver's own time can be wrong or forged."""
        return Position(
            latitude_udeg=self.latitude_udeg,
            longitude_udeg=self.longitude_udeg,
            accuracy_m=self.accuracy_m,
            age_s=max(0, -((self.measured_ms - now.monotonic_ms) // 1000)),
        )


def linked(place: Place, evse: str | None) -> Place:
    """The charger has said which EVSE it is. What the operator has configured stands, and the difference is told."""
    if evse is None:
        return place
    if place.evse is None:
        return replace(place, evse=evse, source=Source.CHARGER)
    if normalise_network(place.evse) == normalise_network(evse):
        return place
    return replace(place, doubt=Doubt.CONTRADICTED, candidates=(place.evse, evse))


def located(place: Place, sites: Sites, fixes: Iterable[Fix], now: Instant) -> Place:
    """What is known, completed: by the EVSE's id and record, then by the position. Nothing that is known is changed.

    A fixed charger's configured position is never replaced by a measured one.
    """
    place = _measured(place, sites, fixes, now)
    site = None
    if place.evse is not None:
        place, site = _of_evse(place, place.evse, sites)
    if site is None and place.site is not None:
        site = sites.by_id.get(normalise_network(place.site))
        place = place if site is None else _completed(place, site)
    if site is not None:
        return _beside(place, site, sites)
    if place.position is None or all(getattr(place, name) is not None for name in NAMES):
        return place
    return _by_position(place, place.position, sites)


def _measured(place: Place, sites: Sites, fixes: Iterable[Fix], now: Instant) -> Place:
    """With the youngest position that is fit, or the youngest if none is."""
    found = sorted(((each.position(now), each.source) for each in fixes), key=lambda each: (each[0].age_s, each[1]))
    if place.position is not None or not found:
        return place
    position, source = next((each for each in found if sites.matching.doubt(each[0]) is None), found[0])
    return replace(place, position=position, measured_by=source)


def _of_evse(place: Place, evse: str, sites: Sites) -> tuple[Place, Site | None]:
    """By the fleet's record of it; without one its id still says the country and the operator."""
    recorded = sites.by_evse.get(normalise_network(evse))
    if recorded is None:
        said = _id_of(evse)
        if said is None or said.country.startswith("+"):  # DIN names a telephone zone, which several countries share
            return place, None
        return replace(place, network=place.network or said.operator, country=place.country or said.country), None
    site, point = recorded
    if not _agrees(place, site):
        return replace(place, doubt=Doubt.CONTRADICTED, candidates=(site.id,)), None
    place = replace(
        place,
        connector=point.connector if place.connector is None else place.connector,
        power_w=point.power_w if place.power_w is None else place.power_w,
    )
    return _completed(place, site), site


def _beside(place: Place, site: Site, sites: Sites) -> Place:
    """The site is known: its point serves as the position, and a fit measured one must not be elsewhere."""
    if place.position is None:
        return replace(place, position=site.position, measured_by=Source.SITES)
    if sites.matching.doubt(place.position) is not None:
        return place
    away_m = distance_m(place.position, site)
    if away_m - (place.position.accuracy_m or 0) > sites.radius_of(site):
        return replace(place, doubt=Doubt.CONTRADICTED, candidates=(site.id,))
    return place


def _by_position(place: Place, position: Position, sites: Sites) -> Place:
    """One site, and all that is known of it; or of several that it may be what all of them agree on.

    A place that is in doubt already is not made clearer by where it is.
    """
    if not sites.by_latitude or place.doubt is not None:
        return place
    match = sites.match(position)
    names = tuple(site.id for site in match.candidates) or None
    if match.doubt is None and not _agrees(place, match.candidates[0]):
        return replace(place, doubt=Doubt.CONTRADICTED, candidates=names)
    if match.doubt is None:
        return replace(_completed(place, match.candidates[0]), distance_m=match.distance_m)
    if match.doubt is Doubt.AMBIGUOUS:
        shared = Site(
            id="",
            latitude_udeg=0,
            longitude_udeg=0,
            network=_common(normalise_network(each.network or "") for each in match.candidates),
            country=_common(normalise_country(each.country or "") for each in match.candidates),
        )
        place = replace(place, network=place.network or shared.network, country=place.country or shared.country)
    return replace(place, doubt=match.doubt, candidates=names)


def _completed(place: Place, site: Site) -> Place:
    """A site of one charging point names that too."""
    (only,) = site.evses if len(site.evses) == 1 and place.evse is None else (None,)
    return replace(
        place,
        site=place.site or site.id,
        network=place.network or site.network,
        country=place.country or site.country,
        evse=place.evse or (only.id if only is not None else None),
        connector=place.connector or (only.connector if only is not None else None),
        power_w=place.power_w if place.power_w is not None or only is None else only.power_w,
        source=place.source or Source.SITES,
    )


def _agrees(place: Place, site: Site) -> bool:
    """Nothing that is known of both differs."""
    return (
        _same(normalise_network(place.site or ""), normalise_network(site.id))
        and _same(normalise_network(place.network or ""), normalise_network(site.network or ""))
        and _same(normalise_country(place.country or ""), normalise_country(site.country or ""))
    )


def _same(one: str, other: str) -> bool:
    return not one or not other or one == other


def _common(values: Iterable[str]) -> str | None:
    all_of_them = set(values)
    return all_of_them.pop() or None if len(all_of_them) == 1 else None


def _id_of(text: str) -> EvseId | None:
    try:
        return read_evse_id(text)
    except NotAnIdentifier:
        return None
