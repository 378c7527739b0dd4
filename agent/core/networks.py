"""How ids of parties, hub operators, sites and EVSEs are compared."""

from __future__ import annotations


def normalise_network(text: str) -> str:
    """Party, hub operator, site or EVSE id for comparison: upper case, without `*` and `-` (DE*ABC = DEABC)."""
    return text.upper().replace("*", "").replace("-", "").strip()
