"""What a device's firmware means: too old, known to be weak, or unknown, and what follows. Pure.

Drivers ask for the version when they open a device and act on the answer (drivers/readers/firmware.py).
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Literal

from firmware_profiles import versions

if TYPE_CHECKING:
    from firmware_profiles.profile import Action, Profile

_STRENGTH = ("accept", "warn", "lossy", "refuse")


@dataclass(frozen=True, slots=True, kw_only=True)
class Judgement:
    """`findings` are sentences for an operator, strongest first; `action` is the strongest consequence of all."""

    action: Action | Literal["accept"]
    findings: tuple[str, ...]


def judge(profile: Profile, said: str | None) -> Judgement:
    """What `said`, the firmware as the device tells it, means; None: it cannot be asked."""
    rules = profile.firmware
    version = None if said is None else versions.parse(said, prefix=rules.prefix)
    found: list[tuple[Action | Literal["accept"], str]] = []
    if version is None:
        what = (
            "the device does not tell its firmware" if said is None else f"firmware {said!r} is no version we can read"
        )
        if rules.unknown != "accept":
            wanted = f"; {rules.minimum} or later is wanted" if rules.minimum else ""
            found.append((rules.unknown, f"{what}{wanted}"))
        found += [
            ("warn", f"{each.id} ({each.severity}) may apply, it affects {each.affects}: {each.source}")
            for each in profile.security
            if each.affects != "all"
        ]
    elif rules.minimum is not None and version < (versions.parse(rules.minimum) or ()):
        found.append((rules.below_minimum, f"firmware {said} is older than {rules.minimum}: update it"))
    elif rules.known and version not in {versions.parse(each) for each in rules.known}:
        found.append(("warn", f"firmware {said} is not one that the profile knows ({', '.join(rules.known)})"))
    found += [
        (each.action, f"{each.id} ({each.severity}) affects {each.affects}: {each.source}")
        for each in profile.security
        if each.affects == "all" or (version is not None and versions.is_in(version, each.affects))
    ]
    found.sort(key=lambda each: -_STRENGTH.index(each[0]))
    return Judgement(action=found[0][0] if found else "accept", findings=tuple(text for _, text in found))
