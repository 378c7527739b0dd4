"""Every shipped charger profile says what the real codec does with its vectors."""

from __future__ import annotations

from dataclasses import fields

import pytest

import firmware_profiles
from drivers.chargers import line_codec, open_charger
from drivers.chargers.charger import ChargerEvent
from drivers.chargers.line import LineCharger, event_of
from drivers.chargers.line_codec import LineDecoder
from firmware_profiles.profile import Accept, Reject

PROFILES = [firmware_profiles.load(each) for each in firmware_profiles.available() if each.startswith("chargers/")]
ACCEPT = [pytest.param(v, id=f"{p.id}: {v.name}") for p in PROFILES for v in p.vectors.accept]
REJECT = [pytest.param(v, id=f"{p.id}: {v.name}") for p in PROFILES for v in p.vectors.reject]
NEIGHBOUR = line_codec.encode(line_codec.Fault(code="neighbour"))


def events_in(*chunks: bytes) -> list[str]:
    decoder = LineDecoder(line_codec.parse_report)
    reports = [report for chunk in chunks for report in decoder.feed(chunk)]
    return [in_words(event) for report in reports if (event := event_of(report, "bay1")) is not None]


def in_words(event: ChargerEvent) -> str:
    """The way in which a profile writes an event: its name, then its own fields."""
    own = [field.name for field in fields(event) if field.name not in ("charger", "monotonic_ms")]
    values = [f"{name}={'-' if (value := getattr(event, name)) is None else value}" for name in own]
    return " ".join([type(event).__name__, *values])


@pytest.mark.parametrize("vector", ACCEPT)
def test_an_accepted_vector_is_heard_whole_byte_by_byte_and_in_bad_company(vector: Accept):
    assert events_in(vector.raw) == [vector.event]
    assert events_in(*(bytes([byte]) for byte in vector.raw)) == [vector.event]
    assert events_in(b"\xff\x00*noise\n", vector.raw, b"\x00U\xaa half a li") == [vector.event]
    assert events_in(NEIGHBOUR + vector.raw + NEIGHBOUR)[1] == vector.event


@pytest.mark.parametrize("vector", REJECT)
def test_a_rejected_vector_is_dropped_with_its_reason_and_harms_no_neighbour(vector: Reject):
    decoder = LineDecoder(line_codec.parse_report)
    assert decoder.feed(vector.raw) == []
    assert decoder.last_complaint == vector.reason
    assert events_in(*(bytes([byte]) for byte in vector.raw)) == []
    assert events_in(NEIGHBOUR, vector.raw, NEIGHBOUR) == ["Faulted code=neighbour"] * 2


@pytest.mark.parametrize("profile", PROFILES, ids=lambda profile: profile.id)
def test_a_shipped_charger_profile_opens(profile):
    assert open_charger("bay1", profile=profile, port="/dev/null").name == "bay1"


def test_the_line_profile_opens_a_line_charger():
    profile = firmware_profiles.load("chargers/line")
    assert isinstance(open_charger("bay1", profile=profile, port="/dev/ttyUSB0"), LineCharger)


def test_a_profile_of_a_reader_opens_no_charger():
    profile = firmware_profiles.load("chargers/line").model_copy(update={"driver": "em4100_ascii"})
    with pytest.raises(ValueError, match="drives no charger"):
        open_charger("bay1", profile=profile, port="/dev/ttyUSB0")
