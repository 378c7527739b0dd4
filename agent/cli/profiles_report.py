"""How `roamkey profiles` shows a profile: a line in a list, a table, a document for programs."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from firmware_profiles.profile import Profile


def summary(profile: Profile) -> dict[str, object]:
    return {
        "id": profile.id,
        "kind": profile.kind,
        "make": profile.make,
        "model": profile.model,
        "driver": profile.driver,
        "recognised_by": list(recognised_by(profile)),
        "evidence": dict(Counter(each.level for each in profile.evidence)),
        "loss": profile.uid.loss if profile.uid is not None else None,
        "vectors": len(vectors_of(profile)),
    }


def told(profile: Profile) -> Iterator[tuple[str, object]]:
    yield "make and model", f"{profile.make} {profile.model}"
    yield "driver", f"{profile.driver} over {profile.transport.kind}"
    if profile.transport.baud is not None:
        yield "baud", profile.transport.baud
    yield "recognised by", ", ".join(recognised_by(profile)) or "nothing: name its port in the configuration"
    if profile.uid is not None:
        lengths = ", ".join(map(str, profile.uid.lengths))
        yield "UIDs", f"{', '.join(profile.uid.technologies)}; {lengths} bytes, {profile.uid.byte_order}"
        if profile.uid.loss != "none":
            yield "loses", f"{profile.uid.loss}: its cards are lossy, the policy says whether they count"
    yield "capabilities", ", ".join(profile.capabilities)
    if profile.feedback:
        yield "shows", ", ".join(sorted(profile.feedback))
    if profile.firmware.minimum:
        yield "firmware", f"{profile.firmware.minimum} or later, otherwise: {profile.firmware.below_minimum}"
    for advisory in profile.security:
        yield (
            "weakness",
            f"{advisory.id} ({advisory.severity}) in {advisory.affects}: {advisory.action}; {advisory.source}",
        )
    if profile.kernel_conflicts:
        yield "modules in the way", ", ".join(profile.kernel_conflicts)
    for quirk in profile.quirks:
        yield "quirk", quirk
    yield "vectors", f"{len(profile.vectors.accept)} to read, {len(profile.vectors.reject)} to reject"


def plain(value: Any) -> Any:
    """As JSON can say it: bytes in hexadecimal, as in the profile's own file."""
    match value:
        case bytes():
            return value.hex().upper()
        case dict():
            return {key: plain(each) for key, each in value.items()}
        case list() | tuple():
            return [plain(each) for each in value]
        case _:
            return value


def recognised_by(profile: Profile) -> tuple[str, ...]:
    match = profile.match
    return (*(f"USB {each}" for each in match.usb), *match.serial_by_id, *(f'"{each}"' for each in match.product))


def known_from(profile: Profile) -> str:
    counted = Counter(each.level for each in profile.evidence)
    return ", ".join(f"{level} {count}" for level, count in counted.most_common())


def vectors_of(profile: Profile) -> tuple[object, ...]:
    return (*profile.vectors.accept, *profile.vectors.reject)
