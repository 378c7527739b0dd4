"""One row a sentence of the rules of sites, holidays, charging points and cards; a warning's code begins with `!`."""

from __future__ import annotations

from dataclasses import replace
from datetime import UTC, date, datetime, timedelta
from typing import Any

from agent.core.credentials import Assurance
from agent.core.history import Visit
from agent.core.instants import ClockQuality
from agent.core.pins import Pin, PinState
from agent.core.policy import Driver, Group
from agent.core.positions import Corner, Position
from agent.core.requests import Given, Usage
from agent.core.sites import Doubt
from agent.core.terms import Calendar, Demand, Effect, Fence, Holidays, Kind, Lenience, Prompt, Velocity
from tests.core.builders import (
    BERLIN,
    NOON,
    a_credential,
    a_group,
    a_place,
    a_policy,
    a_request,
    a_token,
    an_instant,
    ask,
)

ANNA = Driver(id="anna", pin=Pin(salt="00", hash=""))
NO_INPUT, NO_USAGE = Given(), Usage()
ALLOW, WARN, DENY = (Lenience(effect=each) for each in (Effect.ALLOW, Effect.WARN, Effect.DENY))
Row = tuple[str, Any, str]


def at_place(group: dict[str, Any] | None = None, *above: Group, **place: Any) -> Any:
    parent = above[0].id if above else None
    return lambda: ask(a_request(place=a_place(**place)), a_policy(a_group(parent=parent, **(group or {})), *above))


def site_rows() -> list[Row]:
    denied = {"denied_sites": frozenset({"MALL7"})}
    preferred = {"preferred_sites": frozenset({"depot"})}
    return [
        ("a site that nobody denies is allowed", at_place(denied, site="depot"), ""),
        ("a denied site is refused, however it is spelled", at_place(denied, site="mall-7"), "SITE"),
        ("an unknown site is refused where some are denied", at_place(denied, site=None), "SITE"),
        ("unless the group lets it pass", at_place({**denied, "missing": {Kind.SITES: ALLOW}}, site=None), ""),
        ("nobody denied, nothing to know", at_place({"denied_sites": frozenset()}, site=None), ""),
        ("a preferred site is fine", at_place(preferred, site="Depot"), ""),
        ("another one is only warned of", at_place(preferred, site="mall"), "!NON_PREFERRED_SITE"),
        ("of an unknown one nothing is said", at_place(preferred, site=None), ""),
        ("a doubt about the place is told where a place is asked for",
         at_place(denied, site="depot", doubt=Doubt.CONTRADICTED), "!PLACE_UNSURE"),
        ("it refuses where the group wants so",
         at_place({**denied, "effects": {Kind.PLACE: Effect.DENY}}, doubt=Doubt.CONTRADICTED), "PLACE_UNSURE"),
        ("where a position names no site, only warned of",
         at_place({**denied, "effects": {Kind.PLACE: Effect.DENY}}, doubt=Doubt.AMBIGUOUS), "!PLACE_UNSURE"),
        ("unless the group says so of missing data",
         at_place({**denied, "missing": {Kind.PLACE: Lenience(effect=Effect.DENY)}}, doubt=Doubt.OLD), "PLACE_UNSURE"),
        ("nobody asks for the place, nobody doubts it", at_place({}, doubt=Doubt.VAGUE), ""),
        ("a denied site may be one to warn of",
         at_place({**denied, "effects": {Kind.SITES: Effect.WARN}}, site="MALL7"), "!SITE"),
        ("what a child denies its parent cannot allow", at_place(denied, a_group("all"), site="mall7"), "SITE"),
        ("what a parent denies its child cannot allow",
         at_place({"denied_sites": frozenset()}, a_group("all", **denied), site="mall7"), "SITE"),
    ]  # fmt: skip


def charger_rows() -> list[Row]:
    types = {"connectors": frozenset({"IEC_62196_T2"})}
    power = {"max_power_w": 22_000}
    return [
        ("a connector of the set is allowed", at_place(types, connector="iec_62196_t2"), ""),
        ("another is not", at_place(types, connector="CHADEMO"), "CONNECTOR"),
        ("an unknown one is warned of", at_place(types), "!CONNECTOR"),
        ("and refused where the group says so", at_place({**types, "missing": {Kind.CONNECTORS: DENY}}), "CONNECTOR"),
        ("an empty set of connectors refuses", at_place({"connectors": frozenset()}, connector="CHADEMO"), "CONNECTOR"),
        ("the highest allowed power is allowed", at_place(power, power_w=22_000), ""),
        ("a watt more is not", at_place(power, power_w=22_001), "POWER_LIMIT"),
        ("an unknown power is warned of", at_place(power), "!POWER_LIMIT"),
        ("and refused where the group says so", at_place({**power, "missing": {Kind.POWER: DENY}}), "POWER_LIMIT"),
        ("a power above the limit may be one to warn of",
         at_place({**power, "effects": {Kind.POWER: Effect.WARN}}, power_w=300_000), "!POWER_LIMIT"),
        ("the least power of all levels counts",
         at_place({"max_power_w": 300_000}, a_group("all", **power), power_w=50_000), "POWER_LIMIT"),
    ]  # fmt: skip


def country_rows() -> list[Row]:
    return [
        ("three letters are the same country as two", at_place({"countries": {"DE"}}, country="DEU"), ""),
        ("also in the policy", at_place({"countries": {"deu"}}, country="DE"), ""),
        ("and another country stays another", at_place({"countries": {"DE"}}, country="DNK"), "COUNTRY"),
    ]


def leniency_rows() -> list[Row]:
    def network(effect: Effect = Effect.DENY, missing: Lenience | None = None, **place: Any) -> Any:
        said = {} if missing is None else {Kind.NETWORKS: missing}
        group = {"networks": {"NL*XYZ"}, "effects": {Kind.NETWORKS: effect}, "missing": said}
        return at_place(group, **place)

    parent = a_group("all", networks={"NL*XYZ"})
    return [
        ("a rule that warns does not refuse", network(Effect.WARN), "!NETWORK"),
        ("nor where it cannot look", network(Effect.WARN, network=None), "!NETWORK"),
        ("unless the group says that missing data refuses", network(Effect.WARN, DENY, network=None), "NETWORK"),
        ("missing data may be let pass", network(Effect.DENY, ALLOW, network=None), ""),
        ("or be warned of", network(Effect.DENY, WARN, network=None), "!NETWORK"),
        ("a failure is no missing data", network(Effect.DENY, ALLOW), "NETWORK"),
        ("a child cannot soften its parent's rule",
         at_place({"effects": {Kind.NETWORKS: Effect.WARN}, "missing": {Kind.NETWORKS: ALLOW}}, parent), "NETWORK"),
    ]  # fmt: skip


def holiday_rows() -> list[Row]:
    calendar = Calendar(name="public", days=frozenset({date(2027, 3, 11)}), until=date(2027, 12, 31))

    def on(*when: int, group: dict[str, Any] | None = None, days: Calendar = calendar) -> Any:
        holidays = Holidays(zone=BERLIN, calendars=(days,))
        policy = a_policy(a_group(holidays=holidays, **(group or {})), confirmed=datetime(*when, tzinfo=UTC))
        return lambda: ask(None, policy, now=an_instant(datetime(*when, tzinfo=UTC), boot="other"))

    return [
        ("an ordinary day is no holiday", on(2027, 3, 10, 22, 59), ""),
        ("a holiday begins at the local midnight", on(2027, 3, 10, 23, 0), "HOLIDAY"),
        ("and ends at the next", on(2027, 3, 11, 23, 0), ""),
        ("a holiday may be one to warn of", on(2027, 3, 11, 12, group={"effects": {Kind.HOLIDAYS: Effect.WARN}}),
         "!HOLIDAY"),
        ("the last day of a calendar is within it", on(2027, 12, 31, 22, 59), ""),
        ("beyond it is warned that nobody knows", on(2027, 12, 31, 23, 0), "!CALENDAR_STALE"),
        ("or refused where the group says so",
         on(2028, 1, 5, group={"missing": {Kind.HOLIDAYS: DENY}}), "CALENDAR_STALE"),
    ]  # fmt: skip


def assurance_rows() -> list[Row]:
    def card(assurance: Assurance, *demands: Demand, group: dict[str, Any] | None = None, **place: Any) -> Any:
        asked = replace(a_request(place=a_place(**place)), credential=a_credential(assurance=assurance))
        return lambda: ask(asked, a_policy(a_group(demands=demands, **(group or {}))))

    good = Demand(assurance=Assurance.AUTHENTICATED)
    abroad = replace(good, outside_countries=frozenset({"DE"}), above_power_w=100_000)
    roaming = replace(good, networks=frozenset({"NL*XYZ"}))
    weak, strong = Assurance.STATIC, Assurance.AUTHENTICATED
    return [
        ("a bare UID is enough where nobody asks for more", card(weak), ""),
        ("not where a better card is wanted", card(weak, good), "ASSURANCE"),
        ("a card as good as that is enough", card(strong, good), ""),
        ("abroad at 300 kW a bare UID is not enough", card(weak, abroad, country="FR", power_w=300_000), "ASSURANCE"),
        ("it is abroad at 22 kW", card(weak, abroad, country="FR", power_w=22_000), ""),
        ("and at home at 300 kW", card(weak, abroad, country="DEU", power_w=300_000), ""),
        ("a country that nobody knows is abroad", card(weak, abroad, country=None, power_w=300_000), "ASSURANCE"),
        ("unless the group lets missing data pass",
         card(weak, abroad, group={"missing": {Kind.ASSURANCE: WARN}}, country=None, power_w=300_000), "!ASSURANCE"),
        ("a demand of one network", card(weak, roaming, network="nl-xyz"), "ASSURANCE"),
        ("says nothing of another", card(weak, roaming), ""),
        ("part of a UID is refused where nobody permits it", card(Assurance.LOSSY), "ASSURANCE"),
        ("it serves where the group does", card(Assurance.LOSSY, group={"lossy_cards": True}), ""),
        ("and not where the group forbids it", card(Assurance.LOSSY, group={"lossy_cards": False}), "ASSURANCE"),
        ("every demand is heard", card(weak, abroad, roaming, network="NL*XYZ", country="DE"), "ASSURANCE"),
        ("a level that forbids part UIDs outweighs one that permits them", lambda: ask(
            replace(a_request(), credential=a_credential(assurance=Assurance.LOSSY)),
            a_policy(a_group(parent="all", lossy_cards=True), a_group("all", lossy_cards=False))), "ASSURANCE"),
    ]  # fmt: skip


def hour_of_rules_rows() -> list[Row]:
    calendar = Calendar(name="public", days=frozenset(), until=date(2027, 12, 31))
    holidays = {"holidays": Holidays(zone=BERLIN, calendars=(calendar,))}
    unknown = an_instant(NOON, quality=ClockQuality.UNKNOWN)
    return [
        ("a calendar needs a clock", lambda: ask(None, a_policy(a_group(**holidays)), now=unknown), "CLOCK_UNTRUSTED"),
        ("but not where holidays only warn",
         lambda: ask(None, a_policy(a_group(effects={Kind.HOLIDAYS: Effect.WARN}, **holidays)), now=unknown), ""),
    ]  # fmt: skip


def velocity_rows() -> list[Row]:
    hour = timedelta(hours=1)

    def at_noon(*visits: tuple[timedelta, timedelta], since: Any = None, **group: Any) -> Any:
        past = tuple(Visit(began=NOON - began, ended=NOON - ended) for began, ended in visits)
        usage = Usage(past=past, known_since=since)
        return lambda: ask(None, a_policy(a_group(**group)), usage=usage)

    two = {"velocity": Velocity(sessions=2, window_s=3_600)}
    gap = {"min_gap_s": 3_600}
    young, old = (hour * 0.9, hour * 0.8), (hour * 1.1, hour * 0.9)
    return [
        ("fewer sessions than allowed", at_noon(young, **two), ""),
        ("as many are too many for another", at_noon(young, young, **two), "VELOCITY"),
        ("what began before does not count", at_noon(young, old, **two), ""),
        ("what began just as long ago does not count", at_noon(young, (hour, hour), **two), ""),
        ("where the log was lost nobody knows", at_noon(since=NOON - hour / 2, **two), "VELOCITY"),
        ("until so much time has passed", at_noon(since=NOON - hour, **two), ""),
        ("unless the group lets that pass",
         at_noon(since=NOON, **two, missing={Kind.VELOCITY: WARN}), "!VELOCITY"),
        ("too soon after the last", at_noon(old, **gap), "VELOCITY"),
        ("soon enough", at_noon((hour * 2, hour), **gap), ""),
        ("nobody knows when the last was", at_noon(since=NOON, **gap), "VELOCITY"),
        ("running sessions count, too", lambda: ask(
            None, a_policy(max_sessions_per_token=9, velocity=Velocity(sessions=1, window_s=60)),
            usage=Usage(sessions_of_token=("s1",))), "VELOCITY"),
        ("a count over time needs a clock", lambda: ask(
            None, a_policy(**gap), now=an_instant(NOON, quality=ClockQuality.UNKNOWN)), "CLOCK_UNTRUSTED"),
    ]  # fmt: skip


def prompt_rows() -> list[Row]:
    def told(given: Given = NO_INPUT, *, usage: Usage = NO_USAGE, driver: str | None = "anna", **group: Any) -> Any:
        policy = a_policy(a_group(**group), drivers={"anna": ANNA, "ben": Driver(id="ben")})
        return lambda: ask(a_request(a_token(driver=driver), given=given), policy, usage=usage)

    pin, reading = {"prompts": frozenset({Prompt.PIN})}, {"prompts": frozenset({Prompt.ODOMETER})}
    right, wrong, at_600 = Given(pin=PinState.RIGHT), Given(pin=PinState.WRONG), Given(odometer_km=600)
    after_100 = Usage(last_odometer_km=100)
    network = {"networks": {"NL*XYZ"}, "effects": {Kind.NETWORKS: Effect.REQUIRE}}
    return [
        ("a PIN is asked for", told(**pin), "PIN"),
        ("and is enough", told(right, **pin), ""),
        ("a wrong one is asked for again", told(wrong, **pin), "PIN"),
        ("after five wrong ones it is locked", told(usage=Usage(wrong_pins=5), **pin), "PIN_LOCKED"),
        ("who has no PIN cannot give one", told(driver="ben", **pin), "PIN"),
        ("a card of nobody has none", told(driver=None, **pin), "PIN"),
        ("where no PIN is wanted a wrong one does no harm", told(wrong), ""),
        ("the odometer is asked for", told(**reading), "ODOMETER"),
        ("and believed where nothing is known", told(at_600, **reading), ""),
        ("it never goes back", told(Given(odometer_km=99), usage=after_100, **reading), "ODOMETER"),
        ("it may stand still", told(Given(odometer_km=100), usage=after_100, **reading), ""),
        ("nor does it jump further than the group believes",
         told(at_600, usage=after_100, max_odometer_increase_km=499, **reading), "ODOMETER"),
        ("what the group believes is inclusive",
         told(at_600, usage=after_100, max_odometer_increase_km=500, **reading), ""),
        ("a rule may require the PIN instead of refusing", told(**network), "NETWORK PIN"),
        ("with it only a warning is left", told(right, **network), "!NETWORK"),
        ("without one on file it is a refusal", told(driver="ben", **network), "NETWORK PIN"),
    ]  # fmt: skip


def fence_rows() -> list[Row]:
    def corners(*points: tuple[int, int]) -> tuple[Corner, ...]:
        return tuple(Corner(latitude_udeg=lat * 1_000_000, longitude_udeg=lon * 1_000_000) for lat, lon in points)

    def at(lat: float, lon: float, *, accuracy_m: int | None = 5, age_s: int | None = 1, **group: Any) -> Any:
        spot = Position(
            latitude_udeg=round(lat * 1_000_000),
            longitude_udeg=round(lon * 1_000_000),
            accuracy_m=accuracy_m,
            age_s=age_s,
        )
        return at_place({"fence": fence, **group}, position=spot)

    square = corners((50, 10), (50, 12), (52, 12), (52, 10))
    fiji = corners((-20, 177), (-20, -178), (-15, -178), (-15, 177))
    fence = Fence(polygons=(square, fiji))
    return [
        ("inside the area is allowed", at(51, 11), ""),
        ("the boundary counts as inside", at(50, 11), ""),
        ("so does a corner", at(52, 12), ""),
        ("a microdegree further is outside", at(52.000001, 12), "GEOFENCE"),
        ("beside it is outside", at(51, 12.1), "GEOFENCE"),
        ("an area may cross the antimeridian", at(-17, 179), ""),
        ("on both sides of it", at(-17, -179), ""),
        ("and ends where it ends", at(-17, -177.9), "GEOFENCE"),
        ("no position is missing", at_place({"fence": fence}), "GEOFENCE"),
        ("one as old as the fence believes is good", at(51, 11, age_s=300), ""),
        ("an older one is missing", at(51, 11, age_s=301), "GEOFENCE"),
        ("one as vague as the fence believes is good", at(51, 11, accuracy_m=100), ""),
        ("a vaguer one is missing", at(51, 11, accuracy_m=101), "GEOFENCE"),
        ("one of unknown age is missing", at(51, 11, age_s=None), "GEOFENCE"),
        ("one of unknown accuracy is missing", at(51, 11, accuracy_m=None), "GEOFENCE"),
        ("the group may let a missing one pass", at(0, 0, age_s=None, missing={Kind.GEOFENCE: WARN}), "!GEOFENCE"),
        ("but not one outside", at(0, 0, missing={Kind.GEOFENCE: WARN}), "GEOFENCE"),
        ("no area allows nothing", at(51, 11, fence=Fence(polygons=())), "GEOFENCE"),
    ]  # fmt: skip


FLEET_ROWS = [
    *site_rows(),
    *charger_rows(),
    *country_rows(),
    *leniency_rows(),
    *holiday_rows(),
    *assurance_rows(),
    *hour_of_rules_rows(),
    *velocity_rows(),
    *fence_rows(),
    *prompt_rows(),
]
