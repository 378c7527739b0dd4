"""Rules about where: the network, the country, the area and the site of the charge."""

from __future__ import annotations

from collections.abc import Iterator
from functools import lru_cache

from agent.core.countries import normalise_country
from agent.core.networks import normalise_network
from agent.core.positions import lies_in
from agent.core.reasons import ReasonCode
from agent.core.rules.question import Objection, Question, listed
from agent.core.sites import Doubt

REMEMBERED_SETS = 1024  # a fleet's groups; the sets are normalised once and found again by their hash


def network_allowed(asked: Question) -> Iterator[Objection]:
    """The charger's network is in the set of every level that names one."""
    network = asked.request.place.network
    for level in asked.levels:
        if level.networks is None:
            continue
        if not network or not normalise_network(network):
            yield Objection(code=ReasonCode.NETWORK, limit=listed(level.networks), level=level, missing=True)
        elif normalise_network(network) not in networks_of(level.networks):
            yield Objection(code=ReasonCode.NETWORK, observed=network, limit=listed(level.networks), level=level)


def country_allowed(asked: Question) -> Iterator[Objection]:
    """The charger's country is in the set of every level that names one; two letters or three are the same."""
    country = asked.request.place.country
    for level in asked.levels:
        if level.countries is None:
            continue
        if not country or not normalise_country(country):
            yield Objection(code=ReasonCode.COUNTRY, limit=listed(level.countries), level=level, missing=True)
        elif normalise_country(country) not in countries_of(level.countries):
            yield Objection(code=ReasonCode.COUNTRY, observed=country, limit=listed(level.countries), level=level)


def site_allowed(asked: Question) -> Iterator[Objection]:
    """The site is in no level's set of denied ones."""
    site = normalise_network(asked.request.place.site or "")
    for level in asked.levels:
        if not level.denied_sites:
            continue
        limit = f"not {listed(level.denied_sites)}"
        if not site:
            yield Objection(code=ReasonCode.SITE, limit=limit, level=level, missing=True)
        elif site in networks_of(level.denied_sites):
            yield Objection(code=ReasonCode.SITE, observed=asked.request.place.site or "", limit=limit, level=level)


def inside_fence(asked: Question) -> Iterator[Objection]:
    """The position lies in an area of every level that has some. Too old or too vague, it is missing."""
    position = asked.request.place.position
    for level in asked.levels:
        if level.fence is None:
            continue
        if position is None:
            yield Objection(code=ReasonCode.GEOFENCE, limit="a position", level=level, missing=True)
        elif position.age_s is None or position.age_s > level.fence.max_age_s:
            limit = f"{level.fence.max_age_s} s old"
            observed = f"{position.age_s} s old" if position.age_s is not None else "of unknown age"
            yield Objection(code=ReasonCode.GEOFENCE, observed=observed, limit=limit, level=level, missing=True)
        elif position.accuracy_m is None or position.accuracy_m > level.fence.max_accuracy_m:
            limit = f"to {level.fence.max_accuracy_m} m"
            observed = f"to {position.accuracy_m} m" if position.accuracy_m is not None else "of unknown accuracy"
            yield Objection(code=ReasonCode.GEOFENCE, observed=observed, limit=limit, level=level, missing=True)
        elif not any(lies_in(position, polygon) for polygon in level.fence.polygons):
            observed = f"{position.latitude_udeg / 1_000_000:.6f} {position.longitude_udeg / 1_000_000:.6f}"
            yield Objection(code=ReasonCode.GEOFENCE, observed=observed, limit="inside the area", level=level)


def site_preferred(asked: Question) -> Iterator[Objection]:
    """The site is one that the level would rather have. Never refuses; where the site is unknown it says nothing.

    It names the nearest one that would be, where the fleet's sites and this place are known.
    """
    place = asked.request.place
    site = normalise_network(place.site or "")
    for level in asked.levels:
        preferred = level.preferred_sites
        if site and preferred is not None and site not in networks_of(preferred):
            near = None
            if asked.policy is not None and place.position is not None:
                near = asked.policy.sites.nearest(place.position, networks_of(preferred))
            yield Objection(
                code=ReasonCode.NON_PREFERRED_SITE,
                observed=place.site or "",
                limit=listed(preferred) if near is None else near.id,
                level=level,
            )


def place_sure(asked: Question) -> Iterator[Objection]:
    """Where this is, is beyond doubt, for every level that asks for the network, the country or the site.

    What a doubt leaves unknown is missing to those rules as well; this one says why, and refuses where told to.
    Where nobody measures there is nothing to doubt: a level that wants a position has a fence.
    """
    place = asked.request.place
    if place.doubt is None:
        return
    for level in asked.levels:
        named = (level.networks, level.countries, level.denied_sites or None, level.preferred_sites)
        if any(each is not None for each in named):
            between = f"{place.doubt} {','.join(place.candidates or ())}".strip()
            yield Objection(
                code=ReasonCode.PLACE_UNSURE,
                observed=between,
                limit="one site",
                level=level,
                missing=place.doubt is not Doubt.CONTRADICTED,
            )


@lru_cache(maxsize=REMEMBERED_SETS)
def networks_of(values: frozenset[str]) -> frozenset[str]:
    return frozenset(normalise_network(each) for each in values)


@lru_cache(maxsize=REMEMBERED_SETS)
def countries_of(values: frozenset[str]) -> frozenset[str]:
    return frozenset(normalise_country(each) for each in values)
