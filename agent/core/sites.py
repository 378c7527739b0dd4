"""The fleet's sites, and which of them a position means. They come with the bundle: agent/cache/documents.py.

What a charge's place is, of all that is known of it, is whereabouts.py.
"""

from __future__ import annotations

from bisect import bisect_left, bisect_right
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from enum import StrEnum
from heapq import merge
from math import asin, ceil, cos, radians, sin, sqrt
from types import MappingProxyType

from agent.core.networks import normalise_network
from agent.core.positions import Position

EARTH_RADIUS_M = 6_371_009  # the mean; off by at most 0.6 % on the ellipsoid, a foot at the distances that matter here
FARTHEST_M = 50_000  # a preferred site beyond that is no help to anybody
UDEG_A_METRE = 9  # of latitude, rounded up: 111,195 m a degree


@dataclass(frozen=True, slots=True, kw_only=True)
class Evse:
    """A charging point of a site, under its id as the network writes it."""

    id: str
    connector: str | None = None
    power_w: int | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class Site:
    """An OCPI location as far as rules ask for it. `radius_m`: how far from its point a vehicle may stand."""

    id: str
    latitude_udeg: int
    longitude_udeg: int
    network: str | None = None
    country: str | None = None
    radius_m: int | None = None
    evses: tuple[Evse, ...] = ()

    @property
    def position(self) -> Position:
        """As sure as the fleet's own records, and never old."""
        return Position(latitude_udeg=self.latitude_udeg, longitude_udeg=self.longitude_udeg, accuracy_m=0, age_s=0)


class Doubt(StrEnum):
    """Why a position names no site, or why what was told cannot be believed."""

    OLD = "old"
    VAGUE = "vague"
    NOWHERE = "nowhere"
    AMBIGUOUS = "ambiguous"
    CONTRADICTED = "contradicted"


@dataclass(frozen=True, slots=True, kw_only=True)
class Matching:
    """When a position names a site. `radius_m` is that of a site without one of its own."""

    radius_m: int = 100
    max_age_s: int = 60
    max_accuracy_m: int = 50

    def doubt(self, position: Position) -> Doubt | None:
        """What is wrong with the measurement itself. An age or accuracy that nobody told is no good one."""
        if position.age_s is None or position.age_s > self.max_age_s:
            return Doubt.OLD
        if position.accuracy_m is None or position.accuracy_m > self.max_accuracy_m:
            return Doubt.VAGUE
        return None


@dataclass(frozen=True, slots=True, kw_only=True)
class Match:
    """`candidates`: the sites that it may be, nearest first; exactly one of them when there is no doubt."""

    candidates: tuple[Site, ...] = ()
    distance_m: int | None = None
    doubt: Doubt | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class Sites:
    """Sorted by latitude, so that a look for what is near touches few of them; made by `sites_of`."""

    by_latitude: tuple[Site, ...] = ()
    by_id: Mapping[str, Site] = field(default_factory=lambda: MappingProxyType({}), compare=False, repr=False)
    by_evse: Mapping[str, tuple[Site, Evse]] = field(
        default_factory=lambda: MappingProxyType({}), compare=False, repr=False
    )
    matching: Matching = Matching()
    widest_m: int = 0

    def match(self, position: Position) -> Match:
        """The site that is nearest wherever in its circle of error the vehicle may be. Too old or too vague: none."""
        unfit = self.matching.doubt(position)
        if unfit is not None:
            return Match(doubt=unfit)
        accuracy_m = position.accuracy_m or 0
        near = sorted(self._possible(position, accuracy_m), key=lambda found: (found[0], found[1].id))
        if not near or near[0][0] > self.radius_of(near[0][1]):
            return Match(doubt=Doubt.NOWHERE)
        least_m = near[0][0]
        rivals = tuple(site for away_m, site in near if away_m - least_m <= 2 * accuracy_m)
        doubt = Doubt.AMBIGUOUS if len(rivals) > 1 else None
        return Match(candidates=rivals, distance_m=ceil(least_m), doubt=doubt)

    def nearest(self, position: Position, names: frozenset[str]) -> Site | None:
        """Of these normalised ids. Looked for from here outwards, and not farther away than anybody would go."""
        after = bisect_left(self.by_latitude, position.latitude_udeg, key=_latitude)
        outwards = merge(
            reversed(self.by_latitude[:after]),
            self.by_latitude[after:],
            key=lambda site: abs(site.latitude_udeg - position.latitude_udeg),
        )
        best, best_m = None, float(FARTHEST_M)
        for site in outwards:
            if abs(site.latitude_udeg - position.latitude_udeg) > best_m * UDEG_A_METRE:
                break
            if normalise_network(site.id) in names and (away_m := distance_m(position, site)) < best_m:
                best, best_m = site, away_m
        return best

    def radius_of(self, site: Site) -> int:
        return self.matching.radius_m if site.radius_m is None else site.radius_m

    def _possible(self, position: Position, accuracy_m: int) -> Iterable[tuple[float, Site]]:
        """Every site in whose radius the vehicle may stand, with its distance."""
        reach_udeg = (self.widest_m + accuracy_m) * UDEG_A_METRE + 1
        first = bisect_left(self.by_latitude, position.latitude_udeg - reach_udeg, key=_latitude)
        last = bisect_right(self.by_latitude, position.latitude_udeg + reach_udeg, key=_latitude)
        for site in self.by_latitude[first:last]:
            away_m = distance_m(position, site)
            if away_m - accuracy_m <= self.radius_of(site):
                yield away_m, site


def sites_of(sites: Iterable[Site], matching: Matching = Matching()) -> Sites:
    ordered = tuple(sorted(sites, key=lambda site: (site.latitude_udeg, site.longitude_udeg, site.id)))
    return Sites(
        by_latitude=ordered,
        by_id=MappingProxyType({normalise_network(site.id): site for site in ordered}),
        by_evse=MappingProxyType({normalise_network(evse.id): (site, evse) for site in ordered for evse in site.evses}),
        matching=matching,
        widest_m=max((matching.radius_m if each.radius_m is None else each.radius_m for each in ordered), default=0),
    )


def distance_m(position: Position, site: Site) -> float:
    """On the sphere (haversine), so the antimeridian and the poles are places like any other."""
    here, there = radians(position.latitude_udeg / 1e6), radians(site.latitude_udeg / 1e6)
    apart = radians((site.longitude_udeg - position.longitude_udeg) / 1e6)
    chord = sin((there - here) / 2) ** 2 + cos(here) * cos(there) * sin(apart / 2) ** 2
    return 2 * EARTH_RADIUS_M * asin(min(1.0, sqrt(chord)))


def _latitude(site: Site) -> int:
    return site.latitude_udeg
