"""Which site a position means: the nearest wherever in its circle of error the vehicle may be, or none."""

from __future__ import annotations

import random
from dataclasses import replace
from math import asin, atan2, cos, degrees, radians, sin
from typing import Any

import pytest

from agent.core.networks import normalise_network
from agent.core.positions import Position
from agent.core.sites import EARTH_RADIUS_M, FARTHEST_M, Doubt, Matching, Site, distance_m, sites_of
from tests.core.builders import a_place, a_policy, a_request, ask

BERLIN = (52_520_008, 13_404_954)
FIJI = (-17_000_000, 180_000_000)  # on the antimeridian
POLE = (89_999_500, 0)


def a_site(id: str = "depot", at: tuple[int, int] = BERLIN, **fields: Any) -> Site:
    return Site(id=id, latitude_udeg=at[0], longitude_udeg=at[1], **fields)


def a_position(at: tuple[int, int] = BERLIN, *, accuracy_m: int | None = 10, age_s: int | None = 0) -> Position:
    return Position(latitude_udeg=at[0], longitude_udeg=at[1], accuracy_m=accuracy_m, age_s=age_s)


def away(from_: tuple[int, int], metres: float, bearing: float) -> tuple[int, int]:
    """So far from there in this direction, on the sphere."""
    latitude, longitude, angle = radians(from_[0] / 1e6), radians(from_[1] / 1e6), metres / EARTH_RADIUS_M
    there = asin(sin(latitude) * cos(angle) + cos(latitude) * sin(angle) * cos(bearing))
    east = atan2(sin(bearing) * sin(angle) * cos(latitude), cos(angle) - sin(latitude) * sin(there))
    wrapped = (degrees(longitude + east) + 180) % 360 - 180
    return round(degrees(there) * 1e6), round(wrapped * 1e6)


@pytest.mark.parametrize("centre", [BERLIN, FIJI, POLE, (-89_999_999, 12_000_000), (0, 0)])
@pytest.mark.parametrize("bearing", [0.0, 1.0, 2.0, 3.1416, 4.0, 5.5])
def test_a_vehicle_in_the_radius_is_at_the_site_and_one_outside_is_nowhere(
    centre: tuple[int, int], bearing: float
) -> None:
    sites = sites_of([a_site(at=centre, radius_m=150)])

    inside = sites.match(a_position(away(centre, 148, bearing)))
    outside = sites.match(a_position(away(centre, 152, bearing)))

    assert (inside.candidates, inside.doubt) == ((a_site(at=centre, radius_m=150),), None)
    assert inside.distance_m is not None
    assert 147 <= inside.distance_m <= 149
    assert (outside.candidates, outside.doubt) == ((), Doubt.NOWHERE)


def test_either_side_of_the_antimeridian_is_near_the_other() -> None:
    east, west = (-17_000_000, 179_999_500), (-17_000_000, -179_999_500)

    assert distance_m(a_position(east), a_site(at=west)) == pytest.approx(106, abs=1)
    assert sites_of([a_site(at=west, radius_m=110)]).match(a_position(east)).doubt is None


@pytest.mark.parametrize(
    ("position", "doubt"),
    [
        (a_position(age_s=60, accuracy_m=50), None),
        (a_position(age_s=61), Doubt.OLD),
        (a_position(age_s=None), Doubt.OLD),
        (a_position(accuracy_m=51), Doubt.VAGUE),
        (a_position(accuracy_m=None), Doubt.VAGUE),
    ],
)
def test_what_is_too_old_or_too_vague_names_no_site(position: Position, doubt: Doubt | None) -> None:
    match = sites_of([a_site()]).match(position)

    assert match.doubt is doubt
    assert bool(match.candidates) is (doubt is None)


def test_between_two_sites_it_is_none_of_them_until_the_position_tells_them_apart() -> None:
    left, right = a_site("left"), a_site("right", away(BERLIN, 60, 1.57))
    sites = sites_of([left, right])
    beside_left = away(BERLIN, 10, 1.57)

    vague = sites.match(a_position(beside_left, accuracy_m=25))
    sharp = sites.match(a_position(beside_left, accuracy_m=15))

    assert (vague.doubt, [each.id for each in vague.candidates]) == (Doubt.AMBIGUOUS, ["left", "right"])
    assert (sharp.doubt, [each.id for each in sharp.candidates]) == (None, ["left"])


def test_two_sites_at_one_point_are_always_ambiguous() -> None:
    match = sites_of([a_site("one"), a_site("two")]).match(a_position(accuracy_m=0))

    assert match.doubt is Doubt.AMBIGUOUS


def test_the_fleet_says_how_old_and_how_vague_may_be() -> None:
    strict = sites_of([a_site()], Matching(radius_m=20, max_age_s=5, max_accuracy_m=3))

    assert strict.match(a_position(accuracy_m=3, age_s=5)).doubt is None
    assert strict.match(a_position(accuracy_m=4)).doubt is Doubt.VAGUE
    assert strict.match(a_position(accuracy_m=3, age_s=6)).doubt is Doubt.OLD
    assert strict.match(a_position(away(BERLIN, 21, 0), accuracy_m=3)).doubt is Doubt.NOWHERE


def test_without_sites_a_position_is_nowhere() -> None:
    assert sites_of([]).match(a_position()).doubt is Doubt.NOWHERE


def test_a_look_into_the_sorted_sites_finds_what_a_look_at_all_of_them_finds() -> None:
    draw = random.Random(4)
    for _ in range(200):
        centre = draw.choice((BERLIN, FIJI, POLE, (0, -180_000_000)))
        spots = [away(centre, draw.uniform(0, 400), draw.uniform(0, 6.3)) for _ in range(6)]
        sites = [
            a_site(str(number), spot, radius_m=draw.choice((30, None)))
            for number, spot in enumerate(spots[1 : draw.choice((2, 3, 6))])
        ]
        found = sites_of(sites)
        position = a_position(spots[0], accuracy_m=draw.choice((0, 5, 40)))

        match = found.match(position)

        accuracy_m = position.accuracy_m or 0
        every = sorted((distance_m(position, each), each.id, each.radius_m or 100) for each in sites)
        possible = [each for each in every if each[0] - accuracy_m <= each[2]]
        if not possible or possible[0][0] > possible[0][2]:
            assert match.doubt is Doubt.NOWHERE
        else:
            rivals = [name for far, name, _ in possible if far - possible[0][0] <= 2 * accuracy_m]
            assert [each.id for each in match.candidates] == rivals
            assert match.doubt is (Doubt.AMBIGUOUS if len(rivals) > 1 else None)


@pytest.mark.parametrize("centre", [BERLIN, FIJI, POLE])
def test_the_nearest_of_some_sites_is_the_nearest_of_all_that_count(centre: tuple[int, int]) -> None:
    draw = random.Random(centre[0])
    some = [
        a_site(f"S*{number}", away(centre, draw.uniform(0, 2 * FARTHEST_M), draw.uniform(0, 6.28)))
        for number in range(200)
    ]
    sites = sites_of(some)
    for _ in range(60):
        position = a_position(away(centre, draw.uniform(0, FARTHEST_M), draw.uniform(0, 6.28)))
        names = {each.id for each in draw.sample(some, draw.choice((0, 1, 5, 200)))}
        near = [(distance_m(position, each), each.id) for each in some if each.id in names]

        found = sites.nearest(position, frozenset(normalise_network(each) for each in names))

        expected = min((each for each in near if each[0] < FARTHEST_M), default=None)
        assert (found.id if found else None) == (expected[1] if expected else None)


def test_who_is_at_another_site_is_told_the_nearest_that_the_fleet_prefers() -> None:
    sites = sites_of([a_site("mall"), a_site("far", away(BERLIN, 9_000, 1)), a_site("near", away(BERLIN, 4_000, 4))])
    policy = replace(a_policy(preferred_sites=frozenset({"far", "near"})), sites=sites)

    here = ask(a_request(place=a_place(site="mall", position=a_position())), policy)
    somewhere = ask(a_request(place=a_place(site="mall")), policy)

    assert [(each.code, each.limit) for each in here.warnings] == [("NON_PREFERRED_SITE", "near")]
    assert [each.limit for each in somewhere.warnings] == ["far,near"]
