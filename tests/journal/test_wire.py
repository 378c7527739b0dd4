"""Facts and their bytes: golden for ever, read strictly, and nothing but Unreadable for whatever else arrives."""

from __future__ import annotations

import json
import uuid
from contextlib import suppress
from dataclasses import MISSING, fields, is_dataclass, replace
from datetime import UTC, datetime
from decimal import Decimal
from typing import Any, get_args, get_type_hints

import pytest
from hypothesis import given
from hypothesis import strategies as st

from agent.core.facts import DecisionMade, Fact, ReaderLost, SessionMetered, SessionStarted
from agent.core.running_cost import Cost
from agent.wire import GENESIS, TYPES, UnknownType, Unreadable, open_envelope, open_record, origin_of, seal, source_of
from tests.journal.samples import GOLDEN_INSTANT, JOURNAL, SAMPLES, SOURCE, an_instant, ended, metered, started
from tests.journal.write_golden import FOLDER, golden_bytes, golden_file

NAMES = [type(fact).__name__ for fact in SAMPLES]


def test_every_fact_has_exactly_one_type_name_and_one_golden_sample() -> None:
    assert set(TYPES) == set(get_args(Fact))
    assert len(set(TYPES.values())) == len(TYPES)
    assert sorted(NAMES) == sorted(kind.__name__ for kind in TYPES)
    assert {path.name for path in FOLDER.iterdir()} == {golden_file(fact).name for fact in SAMPLES}


@pytest.mark.parametrize("fact", SAMPLES, ids=NAMES)
def test_a_fact_is_sealed_to_its_golden_bytes(fact: Fact) -> None:
    assert golden_bytes(fact) + b"\n" == golden_file(fact).read_bytes()


@pytest.mark.parametrize("fact", SAMPLES, ids=NAMES)
def test_golden_bytes_are_read_back_as_the_same_fact(fact: Fact) -> None:
    record = open_record(golden_file(fact).read_bytes().rstrip(b"\n"))
    assert record.fact == fact
    assert (record.sequence, record.journal, record.source, record.type) == (17, JOURNAL, SOURCE, TYPES[type(fact)])
    assert (record.time, record.boot) == (GOLDEN_INSTANT.utc, GOLDEN_INSTANT.boot)
    assert record.monotonic_ms == GOLDEN_INSTANT.monotonic_ms


@pytest.mark.parametrize("fact", SAMPLES, ids=NAMES)
def test_fields_that_are_none_are_left_out_and_come_back(fact: Fact) -> None:
    hollow = replace(fact, **{field.name: None for field in fields(fact) if "None" in str(field.type)})
    body = golden_bytes(hollow)
    assert b"null" not in body
    assert open_record(body).fact == hollow


@pytest.mark.parametrize("fact", SAMPLES, ids=NAMES)
def test_attributes_keep_the_rules_of_cloudevents(fact: Fact) -> None:
    event = json.loads(golden_bytes(fact))
    assert {"specversion", "id", "source", "type"} <= set(event)
    for name, value in event.items():
        assert name.isascii()
        assert name.isalnum()
        assert name == name.lower()
        assert len(name) <= 20
        assert name == "data" or (isinstance(value, str) and value)


def test_a_record_is_one_line_whatever_text_it_carries() -> None:
    body = golden_bytes(ReaderLost(reader="front", cause="line one\nline two\r\u2028\x00 end"))
    assert b"\n" not in body
    assert b"\r" not in body
    assert open_record(body).fact == ReaderLost(reader="front", cause="line one\nline two\r\u2028\x00 end")


def test_undecodable_device_text_does_not_stop_the_journal() -> None:
    body = golden_bytes(ReaderLost(reader="front", cause=b"bad \xff byte".decode("utf-8", "surrogateescape")))
    assert open_record(body).fact == ReaderLost(reader="front", cause="bad ? byte")


def test_ids_are_time_ordered_and_differ_within_one_instant() -> None:
    def sealed_id(sequence: int) -> str:
        body = seal(metered(), sequence=sequence, previous="0" * 64, journal=JOURNAL, source=SOURCE, now=GOLDEN_INSTANT)
        return open_envelope(body).id

    ids = [sealed_id(sequence) for sequence in range(1, 100)]
    assert len(set(ids)) == len(ids)
    assert {uuid.UUID(each).version for each in ids} == {7}


@pytest.mark.parametrize("wrong", [True, "500", 500.0, None, [500]])
def test_a_number_must_be_a_number(wrong: object) -> None:
    with pytest.raises(Unreadable, match="energy_wh"):
        open_record(_with_data(metered(), energy_wh=wrong))


def test_a_missing_field_is_named() -> None:
    event = json.loads(golden_bytes(metered()))
    del event["data"]["meter_wh"]
    with pytest.raises(Unreadable, match="meter_wh"):
        open_record(json.dumps(event).encode())


def test_a_time_without_zone_is_neither_sealed_nor_read() -> None:
    with pytest.raises(TypeError, match="without zone"):
        golden_bytes(replace(started(), started_at=datetime(2026, 3, 2)))  # noqa: DTZ001
    with pytest.raises(Unreadable, match="zone"):
        open_record(_with_data(started(), started_at="2026-03-02T07:30:00"))


def test_what_a_newer_version_added_is_ignored() -> None:
    event = json.loads(_with_data(metered(), mood="good"))
    assert open_record(json.dumps({**event, "newattribute": "x"}).encode()).fact == metered()


def test_a_type_of_a_newer_version_is_named_and_its_envelope_still_read() -> None:
    event = json.loads(golden_bytes(metered()))
    body = json.dumps({**event, "type": "io.roamkey.session.teleported"}).encode()
    with pytest.raises(UnknownType, match=r"session\.teleported"):
        open_record(body)
    assert open_envelope(body).sequence == 17


@pytest.mark.parametrize(
    ("attribute", "value"),
    [
        ("specversion", "0.3"),
        ("sequence", "017"),
        ("sequence", 17),
        ("sequence", "0"),
        ("sequence", "-1"),
        ("sequence", "1" * 30),
        ("previous", "00"),
        ("previous", "G" * 64),
        ("journal", ""),
        ("time", "yesterday"),
        ("time", "2026-03-02T07:30:00"),
        ("monotonicms", "-5"),
        ("monotonicms", 5),
        ("clockquality", "excellent"),
        ("subject", ""),
        ("data", []),
        ("data", None),
    ],
)
def test_a_malformed_attribute_is_named(attribute: str, value: object) -> None:
    event = {**json.loads(golden_bytes(metered())), attribute: value}
    with pytest.raises(Unreadable, match=attribute):
        open_record(json.dumps(event).encode())


@pytest.mark.parametrize(
    "junk",
    [
        b"",
        b"{",
        b"[]",
        b"null",
        b"\xff\xfe{}",
        b'{"a":1,"a":2}',
        b'{"a":NaN}',
        b"[" * 100_000,
        b'{"a":' * 100_000,
        b"9" * 5_000,
        '{"specversion":"1.0"}'.encode("utf-16"),
        b'\xef\xbb\xbf{"specversion":"1.0"}',
        b'{"specversion":"\\ud800"}',
    ],
    ids=range(13),
)
def test_junk_is_unreadable_and_nothing_worse(junk: bytes) -> None:
    with pytest.raises(Unreadable):
        open_record(junk)


def test_a_twin_member_is_refused_although_json_would_take_the_last() -> None:
    body = golden_bytes(metered()).replace(b'"sequence":"17"', b'"sequence":"17","sequence":"18"')
    with pytest.raises(Unreadable):
        open_record(body)


@given(st.sampled_from(SAMPLES), st.data())
def test_a_damaged_record_is_read_or_unreadable_and_nothing_worse(fact: Fact, data: st.DataObject) -> None:
    body = bytearray(golden_bytes(fact))
    for _ in range(data.draw(st.integers(1, 4))):
        body[data.draw(st.integers(0, len(body) - 1))] = data.draw(st.integers(0, 255))
    end = data.draw(st.integers(0, len(body)))
    with suppress(Unreadable):
        open_record(bytes(body[:end]))


@given(st.text(), st.integers(-(2**70), 2**70), st.datetimes(timezones=st.just(UTC)))
def test_any_text_number_and_time_survive(text: str, number: int, moment: datetime) -> None:
    if any(0xD800 <= ord(letter) <= 0xDFFF for letter in text):
        return
    fact = SessionStarted(session=text or "s", meter_wh=number, started_at=moment, boot=text, monotonic_ms=number)
    assert open_record(golden_bytes(fact)).fact == fact


def test_a_float_never_gets_into_a_record() -> None:
    with pytest.raises(TypeError, match="float"):
        golden_bytes(SessionMetered(session="s", meter_wh=1, energy_wh=0.5, power_w=None))  # type: ignore[arg-type]


def test_an_error_shows_no_content() -> None:
    with pytest.raises(Unreadable) as caught:
        open_record(_with_data(_decision(), waited_ms="SECRET-7"))
    assert "SECRET-7" not in str(caught.value)


def test_source_names_fleet_and_device() -> None:
    assert origin_of(source_of("nordlicht", "gw-17")) == ("nordlicht", "gw-17")
    with pytest.raises(ValueError, match="source"):
        origin_of("/fleets/a/b/devices/c")


def _decision() -> DecisionMade:
    return next(fact for fact in SAMPLES if isinstance(fact, DecisionMade))


def _with_data(fact: Fact, **changes: Any) -> bytes:
    event = json.loads(golden_bytes(fact))
    event["data"].update(changes)
    return json.dumps(event).encode()


@pytest.mark.parametrize(
    "cost", [Cost(currency="EUR", net=Decimal("9.0000")), Cost(currency="EUR", gross=Decimal("9"))]
)
def test_a_cost_of_which_one_side_is_unknown_is_read_back(cost: Cost) -> None:
    told = replace(ended(), cost=cost)
    assert (
        open_record(seal(told, sequence=1, previous=GENESIS, journal=JOURNAL, source=SOURCE, now=an_instant())).fact
        == told
    )


def test_whatever_may_be_unknown_inside_a_fact_may_be_absent_from_its_record() -> None:
    """Absent fields are left out at every depth; only at the top they are filled in again before reading."""
    found: set[str] = set()
    seen: set[object] = set(TYPES)

    def look(kind: Any) -> None:
        for inner in get_args(kind):
            look(inner)
        if is_dataclass(kind) and kind not in seen:
            seen.add(kind)
            hints = get_type_hints(kind)
            required = {each.name for each in fields(kind) if each.default is MISSING}
            found.update(f"{kind}.{name}" for name in required if type(None) in get_args(hints[name]))
            for hint in hints.values():
                look(hint)

    for fact in TYPES:
        for hint in get_type_hints(fact).values():
            look(hint)
    assert found == set()
    assert len(seen) > len(TYPES) + 5
