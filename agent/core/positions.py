"""Positions on the WGS 84 ellipsoid in whole microdegrees (0.1 m), and whether one lies in a polygon: exact.

Between two corners an edge is straight in latitude and longitude, as on a plain map. Where the vehicle is, and how that
is found out, is not here.
"""

from __future__ import annotations

from dataclasses import dataclass

FULL_CIRCLE_UDEG = 360_000_000


@dataclass(frozen=True, slots=True, kw_only=True)
class Position:
    """Somebody's measurement. `accuracy_m` and `age_s` are None when nobody told: then it is as good as none."""

    latitude_udeg: int
    longitude_udeg: int
    accuracy_m: int | None = None
    age_s: int | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class Corner:
    latitude_udeg: int
    longitude_udeg: int


Polygon = tuple[Corner, ...]


def lies_in(position: Position, polygon: Polygon) -> bool:
    """The boundary counts as inside. A polygon may cross the antimeridian; none holds a pole."""
    corners = unwrapped(polygon)
    return any(
        _contains(corners, position.longitude_udeg + turn, position.latitude_udeg)
        for turn in (-FULL_CIRCLE_UDEG, 0, FULL_CIRCLE_UDEG)
    )


def unwrapped(polygon: Polygon) -> list[tuple[int, int]]:
    """(longitude, latitude) of the corners, each on the shorter way round from the one before."""
    corners: list[tuple[int, int]] = []
    for corner in polygon:
        longitude = corner.longitude_udeg
        if corners:
            half = FULL_CIRCLE_UDEG // 2
            longitude = corners[-1][0] + (longitude - corners[-1][0] + half) % FULL_CIRCLE_UDEG - half
        corners.append((longitude, corner.latitude_udeg))
    return corners


def _contains(corners: list[tuple[int, int]], x: int, y: int) -> bool:
    """Crossings of the ray to the east; half-open edges, so that a corner is crossed once (even-odd rule)."""
    inside = False
    for (x1, y1), (x2, y2) in zip(corners, corners[1:] + corners[:1], strict=True):
        side = (x2 - x1) * (y - y1) - (x - x1) * (y2 - y1)
        if side == 0 and min(x1, x2) <= x <= max(x1, x2) and min(y1, y2) <= y <= max(y1, y2):
            return True
        if (y1 > y) != (y2 > y) and (side > 0) == (y2 > y1):
            inside = not inside
    return inside
