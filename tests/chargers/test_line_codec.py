"""The line protocol's bytes: every message there and back, in pieces, and between noise."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from drivers.chargers import line_codec
from drivers.chargers.charger import ChargerState
from drivers.chargers.line_codec import (
    MAX_LINE_BYTES,
    Fault,
    LineDecoder,
    Meter,
    Plugged,
    Query,
    Refused,
    Start,
    Started,
    Status,
    Stop,
    Stopped,
    Unplugged,
    encode,
    parse_command,
    parse_report,
)

sessions = st.from_regex(line_codec.SESSION, fullmatch=True)
words = st.from_regex(line_codec.WORD, fullmatch=True)
numbers = st.integers(0, 10**12 - 1)
maybe_sessions = st.none() | sessions
maybe_numbers = st.none() | numbers
reports = st.one_of(
    st.builds(Status, state=st.sampled_from(ChargerState), session=maybe_sessions, meter_wh=maybe_numbers),
    st.builds(Plugged),
    st.builds(Unplugged),
    st.builds(Started, session=maybe_sessions, meter_wh=numbers),
    st.builds(Meter, session=maybe_sessions, meter_wh=numbers, power_w=maybe_numbers),
    st.builds(Stopped, session=maybe_sessions, meter_wh=maybe_numbers, reason=words),
    st.builds(Fault, code=words),
    st.builds(Refused, session=sessions, reason=words),
)
commands = st.one_of(
    st.builds(Start, session=sessions, max_energy_wh=maybe_numbers), st.builds(Stop, session=sessions), st.builds(Query)
)


@given(report=reports)
def test_a_report_survives_the_wire(report):
    assert LineDecoder(parse_report).feed(encode(report)) == [report]


@given(command=commands)
def test_a_command_survives_the_wire(command):
    assert LineDecoder(parse_command).feed(encode(command)) == [command]


@given(sent=st.lists(reports, max_size=5), cuts=st.lists(st.integers(1, 50), max_size=40))
def test_reports_arrive_whole_however_the_bytes_are_cut(sent, cuts):
    wire = b"".join(encode(report) for report in sent)
    decoder = LineDecoder(parse_report)
    heard = []
    for cut in cuts:
        heard += decoder.feed(wire[:cut])
        wire = wire[cut:]
    heard += decoder.feed(wire)
    assert heard == sent
    assert decoder.dropped == 0


@given(noise=st.binary(max_size=400), report=reports)
def test_noise_before_a_line_costs_no_line(noise, report):
    assert LineDecoder(parse_report).feed(noise + encode(report))[-1] == report


@given(report=reports, place=st.integers(0, 1000), bit=st.integers(0, 7))
def test_a_flipped_bit_never_makes_another_report(report, place, bit):
    line = bytearray(encode(report))
    line[place % len(line)] ^= 1 << bit
    assert LineDecoder(parse_report).feed(bytes(line)) in ([], [report])


@given(noise=st.binary(max_size=2000))
def test_noise_never_raises_and_is_never_hoarded(noise):
    decoder = LineDecoder(parse_report)
    decoder.feed(noise)
    assert len(decoder._line) <= MAX_LINE_BYTES


def test_an_endless_line_is_dropped_once_and_the_next_one_is_heard():
    decoder = LineDecoder(parse_report)
    for _ in range(1000):
        assert decoder.feed(b"A" * 100) == []
    assert decoder.feed(encode(Plugged())) == [Plugged()]
    assert decoder.dropped == 1
    assert "without an end of line" in decoder.last_complaint


def test_carriage_return_and_empty_lines_are_tolerated():
    line = encode(Unplugged()).strip()
    assert LineDecoder(parse_report).feed(b"\r\n\n" + line + b"\r\n") == [Unplugged()]


def sealed(body: bytes) -> bytes:
    return b"%b*%04X\n" % (body, line_codec.checksum(body))


@pytest.mark.parametrize(
    ("line", "complaint"),
    [
        (b"PLUGGED\n", "checksum"),
        (b"PLUGGED*0000\n", "checksum"),
        (encode(Plugged()).lower(), "checksum"),
        (sealed(b"PLUGGED\x00"), "printable"),
        (sealed("PLUGGED\u00e9".encode()), "printable"),
        (sealed(b"PLUGGED twice"), "no report"),
        (sealed(b"METER s1 5"), "no report"),
        (sealed(b"METER s1  5 7"), "no report"),
        (sealed(b"STARTED s1 -5"), "a number"),
        (sealed(b"STARTED s1 -"), "a number"),
        (sealed(b"STARTED s1 1e3"), "a number"),
        (sealed(b"STARTED s1 1234567890123"), "a number"),
        (sealed(b"STATUS asleep - -"), "no state"),
        (sealed(b"STARTED " + b"s" * 65 + b" 5"), "a session"),
        (sealed(b"FAULT -"), "a reason or code"),
        (sealed(b"REFUSED - unplugged"), "a session"),
        (encode(Query()), "no report"),
    ],
)
def test_an_unsound_line_is_dropped_with_its_reason(line, complaint):
    decoder = LineDecoder(parse_report)
    assert decoder.feed(line) == []
    assert decoder.dropped == 1
    assert complaint in decoder.last_complaint


@pytest.mark.parametrize("session", ["", "two words", "line\nbreak", "s" * 65, "é"])
def test_a_session_that_would_break_the_line_is_never_sent(session):
    with pytest.raises(ValueError, match="a field of Stop"):
        encode(Stop(session=session))
