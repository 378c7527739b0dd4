"""sites.json: where charging happens, strict in every field, stored with the generation and found by position again."""

from __future__ import annotations

import json
from typing import Any

import pytest

from agent.cache.cache import Refused
from agent.cache.documents import DocumentUnfit, read_contents, read_sites
from agent.core.positions import Position
from agent.core.sites import Evse, Matching, Site

DEPOT: dict[str, Any] = {
    "id": "depot",
    "latitude": "52.520008",
    "longitude": "-13.404954",
    "network": "DE*ABC",
    "country": "DEU",
    "radius_m": 80,
    "evses": [{"id": "DE*ABC*E1", "connector": "IEC_62196_T2", "power_w": 22_000}],
}


def a_document(*sites: dict[str, Any], **fields: Any) -> bytes:
    return json.dumps({"schema": 1, "sites": list(sites), **fields}).encode()


def test_every_field_of_a_site_is_read() -> None:
    matching = {"radius_m": 50, "max_age_s": 30, "max_accuracy_m": 20}

    sites = read_sites(a_document(DEPOT, matching=matching))

    assert sites.by_latitude == (
        Site(
            id="depot",
            latitude_udeg=52_520_008,
            longitude_udeg=-13_404_954,
            network="DE*ABC",
            country="DEU",
            radius_m=80,
            evses=(Evse(id="DE*ABC*E1", connector="IEC_62196_T2", power_w=22_000),),
        ),
    )
    assert sites.matching == Matching(radius_m=50, max_age_s=30, max_accuracy_m=20)


def test_a_bundle_without_sites_has_none(make: Any) -> None:
    assert read_contents(make.documents()).sites.by_latitude == ()


FAULTS: list[tuple[str, dict[str, Any], str]] = [
    ("latitude beyond a pole", {"latitude": "90.000001"}, "sites.0.latitude: "),
    ("longitude beyond the antimeridian", {"longitude": "180.1"}, "sites.0.longitude: "),
    ("degrees with a binary fraction", {"latitude": 52.5}, "must be degrees as text"),
    ("seven decimals", {"latitude": "52.5200081"}, "must be degrees as text"),
    ("country in full", {"country": "Germany"}, "sites.0.country: "),
    ("radius of a region", {"radius_m": 10_001}, "sites.0.radius_m: "),
    ("no name", {"id": ""}, "sites.0.id: "),
    ("unknown field", {"coordinates": {}}, "sites.0.coordinates: Extra inputs"),
    ("unknown field of an EVSE", {"evses": [{"id": "DE*ABC*E1", "uid": "1"}]}, "sites.0.evses.0.uid: Extra inputs"),
    ("EVSE twice", {"evses": [{"id": "DE*ABC*E1"}, {"id": "deabce1"}]}, "EVSE 'deabce1' is here twice"),
]


@pytest.mark.parametrize(("fields", "told"), [row[1:] for row in FAULTS], ids=[row[0] for row in FAULTS])
def test_a_site_with_a_fault_makes_the_bundle_unfit(make: Any, fields: dict[str, Any], told: str) -> None:
    with pytest.raises(DocumentUnfit, match=r"^sites\.json: ") as caught:
        read_contents({**make.documents(), "sites.json": a_document({**DEPOT, **fields})})

    assert told in str(caught.value)


@pytest.mark.parametrize(
    "body", [b"", b"[]", b'{"schema": 2, "sites": []}', b'{"schema": 1}', a_document(DEPOT, DEPOT)]
)
def test_a_document_that_lists_no_sites_once_each_is_unfit(body: bytes) -> None:
    with pytest.raises(DocumentUnfit):
        read_sites(body)


def test_sites_are_in_force_with_their_generation_also_after_a_restart(fleet: Any, device: Any, make: Any) -> None:
    bodies = make.documents(revision=fleet.publisher.next_version)
    device.updates(fleet.publishes(bodies={**bodies, "sites.json": a_document(DEPOT)}))
    here = Position(latitude_udeg=52_520_008, longitude_udeg=-13_404_954, accuracy_m=10, age_s=0)

    for cache in (device.cache, device.starts(make.at(1))):
        sites = cache.active.policy.sites
        assert sites.match(here).candidates[0].id == "depot"
        assert "DEABCE1" in sites.by_evse


def test_a_bundle_with_unfit_sites_is_refused_and_the_good_one_stays(fleet: Any, device: Any, make: Any) -> None:
    device.updates(fleet.publishes())
    bodies = make.documents(revision=fleet.publisher.next_version)

    refused = device.updates(fleet.publishes(bodies={**bodies, "sites.json": b'{"schema": 1, "sites": [{}]}'}))

    assert isinstance(refused, Refused)
    assert "sites.json" in refused.detail
    assert device.revision == 2
