"""Which profile fits a device that is plugged in, by what the device says of itself. Pure; looking is the caller's."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from fnmatch import fnmatchcase
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from firmware_profiles.profile import Match, Profile


@dataclass(frozen=True, slots=True, kw_only=True)
class Described:
    """What is known about a device without opening it. `usb` is "072f:2200", `by_id` a name in /dev/serial/by-id."""

    usb: str | None = None
    by_id: str | None = None
    product: str | None = None


def matching(device: Described, profiles: Iterable[Profile]) -> tuple[Profile, ...]:
    """The profiles that fit best: none, one, or several that a person must choose from."""
    ranked = [(rank, profile) for profile in profiles if (rank := _rank(profile.match, device)) is not None]
    best = max((rank for rank, _ in ranked), default=None)
    return tuple(profile for rank, profile in ranked if rank == best)


def overlaps(profiles: Iterable[Profile]) -> tuple[str, ...]:
    """Sentences about profiles that claim the same device with the same priority."""
    claimed: dict[tuple[str, str, int], str] = {}
    found = []
    for profile in profiles:
        match = profile.match
        claims = [("usb", each) for each in match.usb] + [("serial_by_id", each) for each in match.serial_by_id]
        claims += [("product", each.casefold()) for each in match.product]
        for kind, text in claims:
            other = claimed.setdefault((kind, text, match.priority), profile.id)
            if other != profile.id:
                found.append(f"{other} and {profile.id} both claim {kind} {text!r}; give one a higher match.priority")
    return tuple(found)


def _rank(match: Match, device: Described) -> tuple[int, int] | None:
    """Priority first, then how exact the key is: a whole USB id, a name by-id, a product text, a maker's any."""
    exactness = 0
    if device.product and any(each.casefold() in device.product.casefold() for each in match.product):
        exactness = 2
    if device.by_id and any(_is_glob(each, device.by_id) for each in match.serial_by_id):
        exactness = 3
    if device.usb:
        vendor = device.usb.split(":")[0]
        if device.usb in match.usb:
            exactness = 4
        elif not exactness and f"{vendor}:*" in match.usb:
            exactness = 1
    return (match.priority, exactness) if exactness else None


def _is_glob(pattern: str, name: str) -> bool:
    """Only * means something; the schema leaves no other character with a meaning."""
    return fnmatchcase(name, pattern)
