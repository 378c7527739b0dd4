"""Where a decision was made, with who said so and how good it was, comes back from its record as it went in."""

from __future__ import annotations

from dataclasses import replace

import pytest

from agent.core.facts import DecisionMade
from agent.core.positions import Position
from agent.core.requests import Place, Source
from agent.core.sites import Doubt
from agent.wire import open_record, seal
from tests.journal.samples import GOLDEN_INSTANT, JOURNAL, SAMPLES, SOURCE

MADE = next(fact for fact in SAMPLES if isinstance(fact, DecisionMade))
HERE = Position(latitude_udeg=-17_000_000, longitude_udeg=179_999_999, accuracy_m=12, age_s=3)


@pytest.mark.parametrize(
    "place",
    [
        Place(),
        Place(
            position=HERE, measured_by=Source.GPSD, doubt=Doubt.AMBIGUOUS, candidates=("depot", "hall"), country="DE"
        ),
        Place(position=HERE, measured_by=Source.API, source=Source.SITES, distance_m=14, site="depot"),
        Place(position=replace(HERE, accuracy_m=None, age_s=None), evse="DE*ABC*E1", source=Source.CHARGER),
    ],
)
def test_a_place_comes_back_from_its_record_whole(place: Place) -> None:
    fact = replace(MADE, place=place)

    body = seal(fact, sequence=1, previous="0" * 64, journal=JOURNAL, source=SOURCE, now=GOLDEN_INSTANT)

    assert open_record(body).fact == fact
