"""Where a charge would happen: who says so, in which order they are believed, and what is done when they differ."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import pytest

from agent.core import observations as seen
from agent.core.facts import DecisionMade
from agent.core.positions import Corner, Position
from agent.core.requests import Place, Source
from agent.core.sites import Doubt, Evse, Site, Sites, sites_of
from agent.core.terms import Fence
from agent.core.whereabouts import Fix, linked, located
from tests.core.builders import CARD, Yard, a_group, a_policy, an_agent, an_instant, presented

HERE = (52_520_008, 13_404_954)
ELSEWHERE = (48_137_154, 11_576_124)
DEPOT = Site(
    id="depot",
    latitude_udeg=HERE[0],
    longitude_udeg=HERE[1],
    network="DE*ABC",
    country="DEU",
    evses=(Evse(id="DE*ABC*E1", connector="IEC_62196_T2", power_w=22_000), Evse(id="DE*ABC*E2")),
)
HALL = Site(
    id="hall",
    latitude_udeg=HERE[0] + 200,
    longitude_udeg=HERE[1],
    network="DE*XYZ",
    country="DE",
    evses=(Evse(id="DE*XYZ*E7", connector="CHADEMO", power_w=50_000),),
)
ONE = sites_of([DEPOT])
BOTH = sites_of([DEPOT, HALL])
UNKNOWN = Place()


def a_fix(at: tuple[int, int] = HERE, *, age_ms: int = 0, **fields: Any) -> Fix:
    defaults = {"source": Source.GPSD, "accuracy_m": 10, "measured_ms": an_instant().monotonic_ms - age_ms}
    return Fix(latitude_udeg=at[0], longitude_udeg=at[1], **{**defaults, **fields})


def find(place: Place = UNKNOWN, sites: Sites = ONE, *fixes: Fix) -> Place:
    return located(place, sites, fixes, an_instant())


def test_a_position_names_the_site_with_its_network_and_country() -> None:
    place = find(Place(), ONE, a_fix(age_ms=1_500))

    assert (place.site, place.network, place.country) == ("depot", "DE*ABC", "DEU")
    assert (place.source, place.measured_by, place.distance_m, place.doubt) == (Source.SITES, Source.GPSD, 0, None)
    assert place.position == Position(latitude_udeg=HERE[0], longitude_udeg=HERE[1], accuracy_m=10, age_s=2)
    assert (place.evse, place.connector, place.power_w) == (None, None, None)  # one of two


def test_the_only_charging_point_of_a_site_is_the_one() -> None:
    place = find(Place(), sites_of([HALL]), a_fix())

    assert (place.evse, place.connector, place.power_w) == ("DE*XYZ*E7", "CHADEMO", 50_000)


def test_of_two_possible_sites_only_what_both_agree_on_is_known() -> None:
    place = find(Place(), BOTH, a_fix(accuracy_m=20))

    assert (place.doubt, place.candidates) == (Doubt.AMBIGUOUS, ("depot", "hall"))
    assert (place.site, place.network, place.country) == (None, None, "DE")


@pytest.mark.parametrize(
    ("fix", "doubt"),
    [
        (a_fix(age_ms=60_001), Doubt.OLD),
        (a_fix(accuracy_m=51), Doubt.VAGUE),
        (a_fix(accuracy_m=None), Doubt.VAGUE),
        (a_fix(ELSEWHERE), Doubt.NOWHERE),
    ],
)
def test_a_position_that_is_not_good_enough_leaves_the_place_missing_and_says_why(fix: Fix, doubt: Doubt) -> None:
    place = find(Place(), ONE, fix)

    assert (place.site, place.network, place.country, place.doubt) == (None, None, None, doubt)


def test_without_a_position_nothing_is_known_and_nothing_doubted() -> None:
    assert find() == Place()


def test_the_record_of_the_evse_says_more_than_its_id() -> None:
    place = find(Place(evse="deabce1"))

    assert (place.site, place.network, place.country) == ("depot", "DE*ABC", "DEU")
    assert (place.connector, place.power_w) == ("IEC_62196_T2", 22_000)
    assert place.measured_by is Source.SITES
    assert place.position == DEPOT.position


def test_an_evse_that_is_in_no_record_still_says_its_country_and_operator() -> None:
    place = find(Place(evse="FR*QQQ*E99"))

    assert (place.site, place.network, place.country) == (None, "FRQQQ", "FR")


@pytest.mark.parametrize("evse", ["+49*810*000*438", "bay 7", "", "DE*ABC*E"])
def test_an_evse_id_that_names_no_country_says_nothing(evse: str) -> None:
    assert find(Place(evse=evse)) == Place(evse=evse)


def test_what_is_configured_is_never_changed() -> None:
    known = Place(evse="DE*ABC*E1", network="DE*OWN", country="AT", site="garage", connector="CHADEMO", power_w=1)

    place = find(known, ONE, a_fix())

    assert (place.network, place.country, place.site) == ("DE*OWN", "AT", "garage")
    assert (place.connector, place.power_w) == ("CHADEMO", 1)
    assert place.doubt is Doubt.CONTRADICTED


def test_a_configured_position_is_not_replaced_by_a_measured_one() -> None:
    fixed = Position(latitude_udeg=HERE[0], longitude_udeg=HERE[1], accuracy_m=0, age_s=0)

    place = find(Place(position=fixed, measured_by=Source.CONFIGURATION), ONE, a_fix(ELSEWHERE))

    assert (place.position, place.measured_by, place.site) == (fixed, Source.CONFIGURATION, "depot")


def test_a_charger_that_claims_to_be_elsewhere_is_contradicted_by_the_position() -> None:
    place = find(Place(evse="DE*ABC*E1"), ONE, a_fix(ELSEWHERE))

    assert (place.site, place.doubt, place.candidates) == ("depot", Doubt.CONTRADICTED, ("depot",))


def test_an_old_position_contradicts_nobody() -> None:
    assert find(Place(evse="DE*ABC*E1"), ONE, a_fix(ELSEWHERE, age_ms=61_000)).doubt is None


def test_a_network_that_the_site_does_not_belong_to_is_no_match() -> None:
    place = find(Place(network="NL*QQQ"), ONE, a_fix())

    assert (place.site, place.network, place.doubt) == (None, "NL*QQQ", Doubt.CONTRADICTED)


def test_the_youngest_fit_position_counts_whoever_measured_it() -> None:
    vague = a_fix(ELSEWHERE, accuracy_m=5_000)
    told = a_fix(age_ms=9_000, source=Source.API, accuracy_m=5)

    assert find(Place(), ONE, vague, told).measured_by is Source.API
    assert find(Place(), ONE, told, a_fix(age_ms=1_000)).measured_by is Source.GPSD
    assert find(Place(), ONE, vague, replace(told, measured_ms=0)).measured_by is Source.GPSD


def test_a_measurement_from_the_future_is_not_younger_than_now() -> None:
    position = a_fix(age_ms=-5_000).position(an_instant())

    assert position.age_s == 0


def test_what_the_charger_says_counts_where_nothing_is_configured_and_is_told_where_it_differs() -> None:
    assert linked(Place(), "DE*ABC*E1") == Place(evse="DE*ABC*E1", source=Source.CHARGER)
    assert linked(Place(evse="DEABCE1"), "DE*ABC*E1") == Place(evse="DEABCE1")
    assert linked(Place(evse="DE*ABC*E1"), "DE*ABC*E2").doubt is Doubt.CONTRADICTED


def test_a_position_does_not_hide_that_link_and_configuration_differ() -> None:
    place = find(linked(Place(evse="FR*QQQ*E1"), "FR*QQQ*E2"), ONE, a_fix(accuracy_m=None))

    assert (place.doubt, place.candidates) == (Doubt.CONTRADICTED, ("FR*QQQ*E1", "FR*QQQ*E2"))


# The machine


def a_yard(policy_sites: Sites = ONE, place: Place = UNKNOWN, **group: Any) -> Yard:
    policy = a_policy(a_group(**group), sites=policy_sites)
    return Yard(agent=an_agent(policy, chargers={"bay": place}, readers={"door": "bay"}))


def made(yard: Yard) -> DecisionMade:
    return next(fact for fact in reversed(yard.journal) if isinstance(fact, DecisionMade))


def test_a_mobile_reader_is_where_its_vehicle_is() -> None:
    yard = a_yard(networks={"DE*ABC"})

    yard.tell(seen.Positioned(fix=a_fix()))
    yard.passes(seconds=3)
    yard.taps(CARD)

    assert made(yard).outcome == "granted"
    assert made(yard).place.site == "depot"
    assert made(yard).place.position is not None
    assert made(yard).place.position.age_s == 3


def test_when_nothing_was_measured_for_too_long_the_network_is_missing_and_the_driver_hears_no() -> None:
    yard = a_yard(networks={"DE*ABC"})

    yard.tell(seen.Positioned(fix=a_fix()))
    yard.passes(seconds=61)
    yard.taps(CARD)

    assert [(each.code, each.missing) for each in made(yard).reasons] == [("NETWORK", True)]
    assert [(each.code, each.observed) for each in made(yard).warnings] == [("PLACE_UNSURE", "old")]


def test_the_evse_of_the_link_holds_until_the_vehicle_is_unplugged() -> None:
    yard = a_yard(countries={"DE"})

    yard.tell(seen.PluggedIn(charger="bay", evse="DE*ABC*E1"))
    yard.taps(CARD)
    granted = made(yard)
    yard.tell(seen.ChargingStarted(charger="bay", session=None, meter_wh=0))
    yard.tell(seen.ChargingStopped(charger="bay", session=None, meter_wh=1, reason="Local"))
    yard.tell(seen.Unplugged(charger="bay"))
    yard.taps(CARD)

    assert (granted.outcome, granted.place.site, granted.place.source) == ("granted", "depot", Source.CHARGER)
    assert (made(yard).outcome, made(yard).place) == ("refused", Place())


@pytest.mark.parametrize("event", [seen.ChargerLost(charger="bay", cause="gone"), seen.Unplugged(charger="bay")])
def test_a_lost_charger_is_no_known_place(event: Any) -> None:
    yard = a_yard()

    yard.tell(seen.ChargerFound(charger="bay", charging=False, state="plugged", session=None, meter_wh=0, evse="DE*A"))
    yard.tell(event)

    assert not yard.agent.state.linked


def test_a_question_about_another_place_is_answered_for_that_place() -> None:
    yard = a_yard(countries={"DE"})
    yard.tell(seen.Positioned(fix=a_fix()))

    for place in (Place(), Place(country="FR")):
        yard.tell(seen.DecisionRequested(request="1", presented=presented(), charger=None, place=place))

    outcomes = [fact.outcome.value for fact in yard.journal if isinstance(fact, DecisionMade)]
    assert outcomes == ["granted", "refused"]


def test_a_fence_is_judged_by_its_own_terms_and_the_site_by_the_fleets() -> None:
    """100 m are good enough for this fence and not for telling sites apart."""
    south, west = HERE[0] - 10_000, HERE[1] - 10_000
    square = tuple(
        Corner(latitude_udeg=south + up, longitude_udeg=west + right)
        for up, right in ((0, 0), (0, 20_000), (20_000, 20_000), (20_000, 0))
    )
    yard = a_yard(fence=Fence(polygons=(square,)))

    yard.tell(seen.Positioned(fix=a_fix(accuracy_m=100)))
    yard.taps(CARD)

    assert made(yard).outcome == "granted"
    assert made(yard).place.doubt is Doubt.VAGUE
