"""The small values below the machine: instants, ids, references and spellings."""

from __future__ import annotations

import uuid
from datetime import UTC, datetime, timedelta

import pytest

from agent.core.countries import normalise_country
from agent.core.credentials import RANDOM, Assurance, Credential, key_check, reference
from agent.core.instants import MAX_DRIFT, ClockQuality, time_ordered_id
from agent.core.networks import normalise_network
from tests.core.builders import NOON, an_instant


def test_the_latest_proven_moment_is_never_before_the_floor() -> None:
    assert an_instant(NOON, floor=NOON + timedelta(hours=1)).latest == NOON + timedelta(hours=1)
    assert an_instant(NOON, floor=NOON - timedelta(hours=1)).latest == NOON


@pytest.mark.parametrize(
    ("quality", "behind", "trusted"),
    [
        (ClockQuality.SYNCHRONISED, timedelta(0), True),
        (ClockQuality.HOLDOVER, timedelta(0), True),
        (ClockQuality.UNKNOWN, timedelta(0), False),
        (ClockQuality.SYNCHRONISED, MAX_DRIFT, True),
        (ClockQuality.SYNCHRONISED, MAX_DRIFT + timedelta(microseconds=1), False),
        (ClockQuality.SYNCHRONISED, timedelta(days=-9_000), True),
    ],
)
def test_a_clock_is_trusted_when_it_is_proven_and_not_set_back(
    quality: ClockQuality, behind: timedelta, trusted: bool
) -> None:
    assert an_instant(NOON, floor=NOON + behind, quality=quality).trusted is trusted


def test_ids_are_uuid_version_7_and_sort_by_time() -> None:
    first = time_ordered_id(an_instant(NOON))
    later = time_ordered_id(an_instant(NOON + timedelta(milliseconds=1), entropy=bytes(16)))

    assert uuid.UUID(first).version == 7
    assert uuid.UUID(first).variant == uuid.RFC_4122
    assert int(first[:8] + first[9:13], 16) == int(NOON.timestamp() * 1000)
    assert first < later


def test_ids_differ_by_index_and_by_entropy_and_are_repeatable() -> None:
    now = an_instant()

    assert len({time_ordered_id(now, 0), time_ordered_id(now, 1), time_ordered_id(an_instant(entropy=b"x"), 0)}) == 3
    assert time_ordered_id(now, 1) == time_ordered_id(now, 1)


@pytest.mark.parametrize("year", [1, 1969, 9999])
def test_ids_can_be_made_at_any_time(year: int) -> None:
    assert uuid.UUID(time_ordered_id(an_instant(datetime(year, 1, 2, tzinfo=UTC)))).version == 7


def test_a_reference_is_keyed_bound_to_its_purpose_and_blind_to_case() -> None:
    assert reference(b"k", "04a1") == reference(b"k", "04A1")
    assert len({reference(b"k", "04A1"), reference(b"l", "04A1"), reference(b"k", "04A2")}) == 3
    assert len(reference(b"k", "04A1")) == 64
    assert key_check(b"k") != key_check(b"l")
    assert key_check(b"k") not in reference(b"k", "")


def test_a_reference_is_what_openssl_says() -> None:
    """printf 'roamkey/token/v1\\x0004A1' | openssl dgst -sha256 -hmac k"""
    assert reference(b"k", "04A1") == "c28c2fcacd0ce6f57d3f084598d56af4ff12337ca5fa2ab3d106dff86ecb57aa"


def test_only_a_reference_is_an_identity() -> None:
    assert not RANDOM.is_identity
    assert Credential(reference="ab", assurance=Assurance.STATIC).is_identity


@pytest.mark.parametrize("spelling", ["DE*ABC", "de*abc", "DE-ABC", "DEABC", " de-ABC "])
def test_a_network_has_one_spelling(spelling: str) -> None:
    assert normalise_network(spelling) == "DEABC"


def test_a_country_has_one_spelling() -> None:
    assert normalise_country(" de ") == "DE"
