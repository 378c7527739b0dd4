"""Firmware versions: dotted numbers with a total order, and ranges of them. Pure.

What follows from a version that is too old or known to be weak is firmware_profiles/judgement.py.
"""

from __future__ import annotations

import re
from itertools import dropwhile

VERSION_PATTERN = r"^\d{1,9}(\.\d{1,9}){0,7}$"
_BOUND = r"(<=|>=|<|>|=)\d{1,9}(\.\d{1,9}){0,7}"
RANGE_PATTERN = rf"^(all|{_BOUND}( {_BOUND}){{0,3}})$"

Version = tuple[int, ...]


def parse(text: str, *, prefix: str = "") -> Version | None:
    """The version in what a device says of itself; None when that is no dotted number behind the prefix.

    Zeros at the end say nothing: 1.6 and 1.6.0 are the same version.
    """
    number = text.strip().removeprefix(prefix)
    if not re.fullmatch(VERSION_PATTERN, number):
        return None
    parts = [int(part) for part in number.split(".")]
    return tuple(reversed(list(dropwhile(lambda part: part == 0, reversed(parts)))))


def is_in(version: Version, bounds: str) -> bool:
    """Whether it is in a range such as "all", "<1.6.3" or ">=1.5 <1.6.3"."""
    return bounds == "all" or all(_holds(version, bound) for bound in bounds.split(" "))


def _holds(version: Version, bound: str) -> bool:
    relation = bound.rstrip("0123456789.")
    limit = parse(bound.removeprefix(relation))
    if limit is None:
        raise ValueError(f"{bound!r} is no bound of a version")
    match relation:
        case "<":
            return version < limit
        case "<=":
            return version <= limit
        case ">":
            return version > limit
        case ">=":
            return version >= limit
        case "=":
            return version == limit
        case _:
            raise ValueError(f"{bound!r} is no bound of a version")
