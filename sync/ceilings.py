"""What no online key may exceed: limits that the root has signed, in its own metadata.

A stolen targets or service key can do much harm, but not more than this. The root keys are off line, so a ceiling is
changed with a new root only (`roamkey fleet rotate-key FOLDER root`). A ceiling that this version does not know is not
passed over: a device that cannot keep it takes no bundle under it.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import asdict, dataclass, fields

CEILINGS_FIELD = "x-roamkey-ceilings"
MOST = 10_000_000


class CeilingsUnfit(Exception):
    """The root's ceilings cannot be read; the text says why."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Ceilings:
    """None: the root sets no limit. `expired_after_hours`: a policy may be valid no longer than that unconfirmed."""

    override_energy_wh: int | None = None
    override_hours: int | None = None
    expired_after_hours: int | None = None

    def to_field(self) -> dict[str, int]:
        return {name: value for name, value in asdict(self).items() if value is not None}


NAMES = tuple(field.name for field in fields(Ceilings))


def ceilings_from(told: Mapping[str, object]) -> Ceilings:
    for name, value in told.items():
        if name not in NAMES:
            raise CeilingsUnfit(f"ceiling {str(name)[:40]!r} is not known here; known are {', '.join(NAMES)}")
        if not isinstance(value, int) or isinstance(value, bool) or not 0 <= value <= MOST:
            raise CeilingsUnfit(f"ceiling {name} must be a whole number from 0 to {MOST}")
    return Ceilings(**told)  # type: ignore[arg-type]


def ceilings_of(root: bytes) -> Ceilings:
    """Of root metadata whose signatures were judged before."""
    try:
        told = json.loads(root)["signed"].get(CEILINGS_FIELD, {})
    except (ValueError, KeyError, TypeError, AttributeError, RecursionError) as error:
        raise CeilingsUnfit(f"the root cannot be read: {type(error).__name__}") from error
    if not isinstance(told, dict):
        raise CeilingsUnfit(f"{CEILINGS_FIELD} is no object")
    return ceilings_from(told)
