"""Signed is not enough: documents that do not say what they must are refused whole, with the place of the fault."""

from __future__ import annotations

import json
from collections.abc import Callable
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from agent.cache.documents import DocumentUnfit, read_contents, read_shard
from agent.core.terms import Effect, Kind, Lenience

Spoil = Callable[[dict[str, Any]], None]


def _read(bodies: dict[str, bytes]) -> None:
    contents = read_contents(bodies)
    for name, body in bodies.items():
        if name.startswith("tokens/"):
            read_shard(name, body, contents)


def _group(**fields: Any) -> Spoil:
    return lambda policy: policy["groups"]["fleet"].update(fields)


def _window(**fields: Any) -> Spoil:
    window = {"days": ["mon"], "start": "06:00", "end": "20:00", **fields}
    return _group(schedule={"zone": "Europe/Berlin", "windows": [window]})


def _calendars(zone: str = "Europe/Berlin", **fields: Any) -> Spoil:
    def spoil(policy: dict[str, Any]) -> None:
        policy["calendars"] = {"public": {"until": "2027-12-31", "days": ["2027-01-01"], **fields}}
        policy["groups"]["fleet"]["holidays"] = {"zone": zone, "calendars": ["public"]}

    return spoil


PRICES = {"currency": "EUR", "basis": "gross"}
POLICY_FAULTS: list[tuple[str, Spoil, str]] = [
    ("unknown field", lambda policy: policy.update(price_cap=3), "price_cap: Extra inputs"),
    ("unknown rule in a group", _group(max_price="0.50"), "groups.fleet.max_price: Extra inputs"),
    ("newer schema", lambda policy: policy.update(schema=2), "update roamkey"),
    ("no schema", lambda policy: policy.pop("schema"), "schema: Field required"),
    ("no groups", lambda policy: policy.pop("groups"), "groups: Field required"),
    ("revision as text", lambda policy: policy.update(revision="3"), "revision: Input should be a valid integer"),
    ("revision zero", lambda policy: policy.update(revision=0), "revision: "),
    ("local time", lambda policy: policy.update(issued="2026-11-22T12:00:00"), "issued: must be a time with its zone"),
    ("expired before stale", lambda policy: policy.update(expired_after_hours=1), "less than stale_after_hours"),
    ("no key check", lambda policy: policy.update(key_check="x"), "key_check: "),
    ("unknown parent", _group(parent="nobody"), "parent 'nobody' is not in the policy"),
    ("own parent", _group(parent="fleet"), "form a circle"),
    ("country in full", _group(countries=["Germany"]), "groups.fleet.countries.0: "),
    ("limit below zero", _group(max_sessions_per_token=-1), "max_sessions_per_token: "),
    ("unknown zone", _group(schedule={"zone": "Europe/Atlantis", "windows": []}), "is no IANA time zone"),
    ("zone outside its folder", _group(schedule={"zone": "../../etc/passwd", "windows": []}), "is no IANA time zone"),
    ("window of no length", _window(start="06:00", end="06:00"), "is no window"),
    ("window after midnight", _window(end="25:00"), "is no window"),
    ("window from 24:00", _window(start="24:00"), "is no window"),
    ("unknown day", _window(days=["monday"]), "windows.0.days.0: "),
    ("no day", _window(days=[]), "windows.0.days: "),
    ("unknown country in three letters", _group(countries=["XXX"]), "no country of ISO 3166-1"),
    ("effect of a rule that is none", _group(effects={"weather": "warn"}), "groups.fleet.effects.weather"),
    ("effect that is none", _group(effects={"networks": "perhaps"}), "groups.fleet.effects.networks: "),
    ("missing data with another limit", _group(missing={"networks": {"max_eur": 5}}), "groups.fleet.missing.networks"),
    ("demand of a grade that is none", _group(demands=[{"assurance": "good"}]), "groups.fleet.demands.0.assurance: "),
    ("unknown calendar", _group(holidays={"zone": "UTC", "calendars": ["x"]}), "calendar 'x' is not in the policy"),
    ("holidays of no calendar", _group(holidays={"zone": "UTC", "calendars": []}), "holidays.calendars: "),
    ("holidays nowhere", _calendars(zone="Mars"), "groups.fleet.holidays.zone: 'Mars' is no IANA"),
    ("calendar that says more than it knows", _calendars(days=["2028-01-01"]), "is after its own horizon"),
    ("calendar with a day that is none", _calendars(days=["2027-02-30"]), "must be a day, such as 2027-12-25"),
    ("price with a binary fraction", _group(prices={**PRICES, "per_kwh": 0.55}), "prices.per_kwh: must be an amount"),
    ("price below zero", _group(prices={**PRICES, "per_kwh": "-1"}), "prices.per_kwh: must be an amount"),
    ("price without its basis", _group(prices={"currency": "EUR"}), "groups.fleet.prices.basis: Field required"),
    ("price of another dimension", _group(prices={**PRICES, "energy": "1"}), "prices.energy: Extra inputs"),
    ("currency in words", _group(prices={**PRICES, "currency": "Euro"}), "groups.fleet.prices.currency: "),
    ("more than a full battery", _group(target_soc_percent=101), "groups.fleet.target_soc_percent: "),
    ("looking back for longer than is remembered", _group(min_gap_s=32 * 86_400), "groups.fleet.min_gap_s: "),
    ("area of two corners", _group(fence={"polygons": [[["50", "10"], ["51", "10"]]]}), "fence.polygons.0: "),
    ("corner beyond the pole", _group(fence={"polygons": [[["91", "1"]] * 3]}), "beyond a pole"),
    ("corner with a binary fraction", _group(fence={"polygons": [[[50.5, 1]] * 3]}), "must be degrees as text"),
    ("connector in words", _group(connectors=["Type 2"]), "groups.fleet.connectors.0: "),
]


@pytest.mark.parametrize(("spoil", "told"), [row[1:] for row in POLICY_FAULTS], ids=[row[0] for row in POLICY_FAULTS])
def test_policy_with_a_fault_is_unfit(make: Any, spoil: Spoil, told: str) -> None:
    bodies = make.documents()
    policy = json.loads(bodies["policy.json"])
    spoil(policy)

    with pytest.raises(DocumentUnfit) as caught:
        _read({**bodies, "policy.json": json.dumps(policy).encode()})

    assert str(caught.value).startswith("policy.json: ")
    assert told in str(caught.value)


EVERYTHING: dict[str, Any] = {
    "networks": ["DE*ABC"],
    "countries": ["deu", "NL"],
    "schedule": {"zone": "Europe/Berlin", "windows": [{"days": ["mon", "sun"], "start": "22:00", "end": "06:00"}]},
    "max_sessions_per_token": 2,
    "max_energy_wh": 60_000,
    "denied_sites": ["mall-7"],
    "preferred_sites": ["depot"],
    "holidays": {"zone": "Europe/Berlin", "calendars": ["public"]},
    "connectors": ["IEC_62196_T2"],
    "max_power_w": 22_000,
    "demands": [
        {"assurance": "authenticated", "outside_countries": ["DEU"], "above_power_w": 100_000},
        {"assurance": "static", "above_price": {"currency": "EUR", "per_kwh": "0.79"}},
    ],
    "lossy_cards": True,
    "prices": {"currency": "EUR", "basis": "gross", "per_kwh": "0.55", "session": "40"},
    "max_duration_s": 14_400,
    "velocity": {"sessions": 3, "window_s": 86_400},
    "min_gap_s": 600,
    "fence": {"polygons": [[["50", "10"], ["50.5", "12.000001"], ["52", "-10"]]], "max_age_s": 60},
    "prompts": ["pin", "odometer"],
    "max_odometer_increase_km": 1_500,
    "max_start_soc_percent": 80,
    "target_soc_percent": 90,
    "effects": {"sites": "warn"},
    "missing": {"networks": "allow", "power": {"max_energy_wh": 5_000}},
}
CALENDARS = {"public": {"until": "2027-12-31", "days": ["2027-01-01", "2027-12-25"]}}


def test_a_group_that_says_everything_comes_back_from_its_generation_as_it_was_read(make: Any, device: Any) -> None:
    fleet = make.AFleet(device.folder.parent / "another", device.fleet)
    device.root = fleet.root
    bodies = make.documents(fleet=device.fleet, groups={"fleet": EVERYTHING}, calendars=CALENDARS)

    device.updates(fleet.publishes(bodies=bodies))
    device.starts(make.at())

    group = device.cache.active.policy.groups["fleet"]
    assert group == read_contents(bodies).groups["fleet"]
    assert {name for name in EVERYTHING if not getattr(group, name)} == set()
    assert (group.countries, group.denied_sites) == ({"DE", "NL"}, {"MALL7"})
    assert group.missing[Kind.POWER] == Lenience(effect=Effect.WARN, max_energy_wh=5_000)


TOKEN_FAULTS: list[tuple[str, dict[str, Any], str]] = [
    ("clear UID as reference", {"reference": "04A1B2C3"}, "tokens.0.reference: "),
    ("reference of another shard", {"reference": "ff" * 32}, "belongs into another shard"),
    ("unknown group", {"group": "nobody"}, "group 'nobody' is not in the bundle"),
    ("unknown driver", {"driver": "nobody"}, "driver 'nobody' is not in the bundle"),
    ("unknown vehicle", {"vehicle": "nobody"}, "vehicle 'nobody' is not in the bundle"),
    ("unknown status", {"status": "lost"}, "tokens.0.status: "),
    ("offline as text", {"offline": "false"}, "tokens.0.offline: "),
    ("parent too long for OCPP", {"parent": "x" * 21}, "tokens.0.parent: "),
    ("unknown field", {"uid": "04A1"}, "tokens.0.uid: Extra inputs"),
    ("day without a zone", {"until": "2027-01-01"}, "tokens.0.until: must be a time with its zone"),
]


@pytest.mark.parametrize(("fields", "told"), [row[1:] for row in TOKEN_FAULTS], ids=[row[0] for row in TOKEN_FAULTS])
def test_token_with_a_fault_is_unfit(make: Any, fields: dict[str, Any], told: str) -> None:
    contents = read_contents(make.documents())
    token = make.a_token("04A1")
    name = f"tokens/{token['reference'][:2]}.json"
    body = json.dumps({"schema": 1, "tokens": [{**token, **fields}]}).encode()

    with pytest.raises(DocumentUnfit) as caught:
        read_shard(name, body, contents)

    assert told in str(caught.value)


def test_same_token_twice_is_unfit(make: Any) -> None:
    with pytest.raises(DocumentUnfit, match="is here twice"):
        _read(make.documents(tokens=[make.a_token("04A1"), make.a_token("04A1", group="fleet")]))


def test_same_driver_twice_is_unfit(make: Any) -> None:
    with pytest.raises(DocumentUnfit, match="'anna' is here twice"):
        _read(make.documents(drivers=[{"id": "anna"}, {"id": "anna", "language": "de"}]))


def test_private_service_key_in_the_bundle_is_unfit(make: Any) -> None:
    from joserfc.jwk import ECKey

    from sync.signing import generate

    key = generate()
    jwk = ECKey.import_key(key.private_pem).as_dict(private=True)
    body = json.dumps({"schema": 1, "keys": [{"kid": key.kid, "use": "ack", "jwk": {**jwk, "kid": key.kid}}]}).encode()

    with pytest.raises(DocumentUnfit, match="private half") as caught:
        _read({**make.documents(), "keys.json": body})

    assert jwk["d"] not in str(caught.value)


def test_service_key_under_another_name_is_unfit(make: Any) -> None:
    bodies = make.documents()
    keys = json.loads(bodies["keys.json"])
    keys["keys"][0]["kid"] = "other"
    with pytest.raises(DocumentUnfit, match="both must be the same"):
        _read({**bodies, "keys.json": json.dumps(keys).encode()})


def test_groups_deeper_than_the_core_follows_are_unfit(make: Any) -> None:
    groups = {f"g{n}": {"parent": f"g{n + 1}"} if n < 9 else {} for n in range(10)}
    with pytest.raises(DocumentUnfit, match="more than 8 levels"):
        _read(make.documents(groups=groups, tokens=[]))


def test_eight_levels_are_fit(make: Any) -> None:
    groups = {f"g{n}": {"parent": f"g{n + 1}"} if n < 7 else {} for n in range(8)}
    _read(make.documents(groups=groups, tokens=[]))


def test_document_of_a_later_edition_beside_ours_is_let_be(make: Any) -> None:
    """policy.json's schema says whether rules are missed, not the list of files."""
    _read({**make.documents(), "weather.json": b"anything"})


_JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.text(max_size=8),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=8), inner, max_size=3),
    max_leaves=8,
)


@settings(max_examples=150, deadline=None)
@given(body=st.binary(max_size=200) | _JSON.map(lambda value: json.dumps(value).encode()))
def test_whatever_the_bytes_are_they_are_fit_or_unfit(body: bytes) -> None:
    for name in ("policy.json", "people.json", "vehicles.json", "keys.json"):
        good = dict.fromkeys(("policy.json", "people.json", "vehicles.json", "keys.json"), b'{"schema":1}')
        with pytest.raises(DocumentUnfit):
            read_contents({**good, name: body})
