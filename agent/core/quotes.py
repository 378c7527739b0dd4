"""The tariff that was shown before a session, and that it is priced by: the document as it came, and what it says.

Reading the document is agent/ocpi/quotes.py; which prices a policy takes from it is tariff_prices.py.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from zoneinfo import ZoneInfo

from agent.core.tariff.tariffs import Tariff

MAX_DOCUMENT_BYTES = 16 * 1024  # it goes into a record of its own with each session; the longest seen has 6 kB


@dataclass(frozen=True, slots=True, kw_only=True)
class Quote:
    """`document` is OCPI JSON, exactly as it will be kept; `sha256` is of its bytes. Without `zone` no local time."""

    document: str = field(repr=False)
    sha256: str
    tariff: Tariff
    zone: ZoneInfo | None = None
