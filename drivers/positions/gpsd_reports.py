"""gpsd's JSON reports (gpsd_json(5), protocol 3): one line's untrusted bytes become a value, or nothing.

Reports that say nothing of a position (SKY, GST, PPS) are let be, as are fields that we do not know. Conversation and
reconnection are gpsd.py.
"""

from __future__ import annotations

import json
from dataclasses import dataclass
from math import ceil, hypot, isfinite
from typing import Any

PROTOCOL = 3
LONGEST_LINE_BYTES = 32 * 1024  # gpsd's own limit of a response is 20 KiB
HIGHEST_ACCURACY_M = 40_000_000  # half the way round the earth: whatever is worse says nothing
TEXT_LIMIT = 80


class NotGpsd(Exception):
    """The line is none that a gpsd would write."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Version:
    release: str
    protocol: int


@dataclass(frozen=True, slots=True, kw_only=True)
class Devices:
    """The receivers that this gpsd knows; none when nothing is plugged in."""

    paths: tuple[str, ...]


@dataclass(frozen=True, slots=True, kw_only=True)
class Fix:
    """`time` is the receiver's own, only to tell a repeated report from a new one."""

    latitude_udeg: int
    longitude_udeg: int
    accuracy_m: int | None
    time: str | None


@dataclass(frozen=True, slots=True, kw_only=True)
class NoFix:
    """The receiver reports, and does not know where it is."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Complaint:
    message: str


Report = Version | Devices | Fix | NoFix | Complaint


def read_report(line: bytes) -> Report | None:
    """None for a report that says nothing of this. Raises NotGpsd."""
    if len(line) > LONGEST_LINE_BYTES:
        raise NotGpsd(f"a line of more than {LONGEST_LINE_BYTES} bytes")
    try:
        report = json.loads(line)
    except (ValueError, RecursionError) as error:
        raise NotGpsd("a line that is no JSON") from error
    if not isinstance(report, dict) or not isinstance(report.get("class"), str):
        raise NotGpsd("a line that is no report of a gpsd")
    match report["class"]:
        case "TPV":
            return _fix(report)
        case "VERSION":
            major = report.get("proto_major")
            return Version(release=_text(report.get("release")), protocol=major if type(major) is int else 0)
        case "DEVICES":
            listed = report.get("devices")
            devices = [each for each in listed if isinstance(each, dict)] if isinstance(listed, list) else []
            return Devices(paths=tuple(_text(each.get("path")) for each in devices))
        case "ERROR":
            return Complaint(message=_text(report.get("message")))
        case _:
            return None


def _fix(report: dict[str, Any]) -> Fix | NoFix:
    """Mode 2 is a fix in the plane, 3 one in space; below, and with coordinates that are none, it is no fix."""
    latitude, longitude = _number(report.get("lat")), _number(report.get("lon"))
    if report.get("mode") not in (2, 3) or latitude is None or longitude is None:
        return NoFix()
    if abs(latitude) > 90 or abs(longitude) > 180:
        return NoFix()
    time = report.get("time")
    return Fix(
        latitude_udeg=round(latitude * 1_000_000),
        longitude_udeg=round(longitude * 1_000_000),
        accuracy_m=_accuracy_m(report),
        time=_text(time) if isinstance(time, str) else None,
    )


def _accuracy_m(report: dict[str, Any]) -> int | None:
    """The worse of what it says: `eph` for the plane, `epx` and `epy` for its two directions."""
    plane, east, north = (_number(report.get(name)) for name in ("eph", "epx", "epy"))
    said = [plane, hypot(east, north) if east is not None and north is not None else None]
    known = [each for each in said if each is not None]
    if not known or min(known) <= 0 or max(known) > HIGHEST_ACCURACY_M:
        return None
    return ceil(max(known))


def _number(value: object) -> float | None:
    if type(value) not in (int, float):
        return None
    try:
        number = float(value)  # type: ignore[arg-type]
    except OverflowError:
        return None
    return number if isfinite(number) else None


def _text(value: object) -> str:
    """For people; whoever writes to the port may write anything, so only what can be printed and not much of it."""
    text = value if isinstance(value, str) else ""
    return "".join(each for each in text if each.isprintable())[:TEXT_LIMIT]
