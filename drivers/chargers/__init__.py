"""Chargers: what starts, meters and stops. The front door is open_charger; what a charger is stands in charger.py."""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from drivers.chargers.charger import Charger
    from firmware_profiles.profile import Profile


def open_charger(name: str, *, profile: Profile, port: str) -> Charger:
    """The charger that this profile describes, not yet listening: await its run(). Raises ValueError for a reader's."""
    match profile.driver:
        case "line":
            from drivers.chargers.line import DEFAULT_BAUD, LineCharger

            return LineCharger(name, port=port, baud=profile.transport.baud or DEFAULT_BAUD)
        case driver:
            raise ValueError(f"charger {name}: profile {profile.id} is for driver {driver}, which drives no charger")
