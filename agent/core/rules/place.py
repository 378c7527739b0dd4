"""Rules about where: the network, the country and the site of the charge."""

from __future__ import annotations

from collections.abc import Iterator
from functools import lru_cache

from agent.core.countries import normalise_country
from agent.core.policy import normalise_network
from agent.core.reasons import ReasonCode
from agent.core.rules.question import Objection, Question, listed

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


def site_preferred(asked: Question) -> Iterator[Objection]:
    """The site is one that the level would rather have. Never refuses; where the site is unknown it says nothing."""
    site = normalise_network(asked.request.place.site or "")
    for level in asked.levels:
        if site and level.preferred_sites is not None and site not in networks_of(level.preferred_sites):
            yield Objection(
                code=ReasonCode.NON_PREFERRED_SITE,
                observed=asked.request.place.site or "",
                limit=listed(level.preferred_sites),
                level=level,
            )


@lru_cache(maxsize=REMEMBERED_SETS)
def networks_of(values: frozenset[str]) -> frozenset[str]:
    return frozenset(normalise_network(each) for each in values)


@lru_cache(maxsize=REMEMBERED_SETS)
def countries_of(values: frozenset[str]) -> frozenset[str]:
    return frozenset(normalise_country(each) for each in values)
