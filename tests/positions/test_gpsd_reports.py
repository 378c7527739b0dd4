"""What a gpsd writes, and what somebody else on its port might: every line is a value, nothing, or refused."""

from __future__ import annotations

import json
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from drivers.positions.gpsd_reports import (
    LONGEST_LINE_BYTES,
    Complaint,
    Devices,
    Fix,
    NoFix,
    NotGpsd,
    Report,
    Version,
    read_report,
)

TPV = {"class": "TPV", "mode": 3, "time": "2026-11-22T10:00:00.000Z", "lat": 52.520008, "lon": 13.404953, "eph": 19.0}
HERE = {"latitude_udeg": 52_520_008, "longitude_udeg": 13_404_953, "time": "2026-11-22T10:00:00.000Z"}


def a_line(**changes: Any) -> bytes:
    report = {**TPV, **changes}
    return json.dumps({name: value for name, value in report.items() if value is not ...}).encode() + b"\r\n"


ROWS: list[tuple[str, bytes, Report | None]] = [
    ("a fix", a_line(), Fix(**HERE, accuracy_m=19)),
    ("a fix in the plane is one", a_line(mode=2), Fix(**HERE, accuracy_m=19)),
    ("the worse accuracy counts", a_line(epx=15.0, epy=15.5), Fix(**HERE, accuracy_m=22)),
    ("both directions say it, too", a_line(eph=..., epx=3, epy=4), Fix(**HERE, accuracy_m=5)),
    ("one direction says nothing", a_line(eph=..., epx=3), Fix(**HERE, accuracy_m=None)),
    ("no accuracy", a_line(eph=...), Fix(**HERE, accuracy_m=None)),
    ("an accuracy of nothing is none", a_line(eph=0), Fix(**HERE, accuracy_m=None)),
    ("an accuracy below nothing is none", a_line(eph=-5), Fix(**HERE, accuracy_m=None)),
    ("an accuracy as text is none", a_line(eph="5"), Fix(**HERE, accuracy_m=None)),
    ("an accuracy beyond the earth is none", a_line(eph=1e300), Fix(**HERE, accuracy_m=None)),
    ("an accuracy of infinity is none", a_line(eph=float("inf")), Fix(**HERE, accuracy_m=None)),
    ("without a time", a_line(time=...), Fix(**{**HERE, "time": None}, accuracy_m=19)),
    ("a whole degree", a_line(lat=52, lon=-180), Fix(
        latitude_udeg=52_000_000, longitude_udeg=-180_000_000, time=HERE["time"], accuracy_m=19)),
    ("mode 1 is no fix", a_line(mode=1), NoFix()),
    ("mode 0 is no fix", a_line(mode=0), NoFix()),
    ("no mode is no fix", a_line(mode=...), NoFix()),
    ("a mode as text is no fix", a_line(mode="3"), NoFix()),
    ("no latitude is no fix", a_line(lat=...), NoFix()),
    ("a latitude beyond the pole is no fix", a_line(lat=90.1), NoFix()),
    ("a longitude beyond the antimeridian is no fix", a_line(lon=180.1), NoFix()),
    ("a coordinate that is no number is no fix", a_line(lon=float("nan")), NoFix()),
    ("a coordinate larger than any float is no fix", a_line(lat=10**400), NoFix()),
    ("a coordinate that is true is no fix", a_line(lat=True), NoFix()),
    ("a version", b'{"class":"VERSION","release":"3.22","rev":"3.22","proto_major":3,"proto_minor":14}',
     Version(release="3.22", protocol=3)),
    ("a version that is odd", b'{"class":"VERSION","release":["x"],"proto_major":true}',
     Version(release="", protocol=0)),
    ("devices", b'{"class":"DEVICES","devices":[{"path":"/dev/ttyACM0"},7]}', Devices(paths=("/dev/ttyACM0",))),
    ("no devices", b'{"class":"DEVICES","devices":[]}', Devices(paths=())),
    ("devices that are none", b'{"class":"DEVICES","devices":"x"}', Devices(paths=())),
    ("a complaint, without what would spoil a log", b'{"class":"ERROR","message":"Unrecognized\\u001b[2J\\n"}',
     Complaint(message="Unrecognized[2J")),
    ("satellites say nothing", b'{"class":"SKY","satellites":[]}', None),
    ("a report of a later gpsd says nothing", b'{"class":"MOON"}', None),
]  # fmt: skip


@pytest.mark.parametrize(("line", "report"), [row[1:] for row in ROWS], ids=[row[0] for row in ROWS])
def test_a_line_is_read_as_what_it_says(line: bytes, report: Report | None) -> None:
    assert read_report(line) == report


@pytest.mark.parametrize(
    "line",
    [
        b"",
        b"\n",
        b"{",
        b"HTTP/1.1 400 Bad Request",
        b"null",
        b"[]",
        b'{"lat":1}',
        b'{"class":7}',
        b"\xff\xfe",
        b"[" * 9000,
    ],
)
def test_what_no_gpsd_writes_is_refused(line: bytes) -> None:
    with pytest.raises(NotGpsd):
        read_report(line)


def test_a_line_without_end_is_refused_before_it_is_read() -> None:
    with pytest.raises(NotGpsd, match="more than"):
        read_report(b'{"class":"SKY","satellites":"' + b"x" * LONGEST_LINE_BYTES + b'"}')


_JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=8),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=8), inner, max_size=3),
    max_leaves=6,
)
_TPV = st.fixed_dictionaries({}, optional=dict.fromkeys((*TPV, "epx", "epy"), _JSON))


@settings(max_examples=300, deadline=None)
@given(line=st.binary(max_size=200) | st.builds(lambda report: json.dumps({**report, "class": "TPV"}).encode(), _TPV))
def test_whatever_comes_is_a_value_or_refused(line: bytes) -> None:
    try:
        report = read_report(line)
    except NotGpsd:
        return
    if isinstance(report, Fix):
        assert abs(report.latitude_udeg) <= 90_000_000
        assert abs(report.longitude_udeg) <= 180_000_000
        assert report.accuracy_m is None or 0 < report.accuracy_m <= 40_000_000
