"""The PCID, the name of a vehicle in its OEM provisioning certificate: its maker, 14 characters, perhaps a check."""

from __future__ import annotations

import re
from dataclasses import dataclass

from agent.core.contracts.identifiers import NotAnIdentifier, plain

_PCID = re.compile(r"([A-Z0-9]{17})([A-Z0-9]?)", re.ASCII)


@dataclass(frozen=True, slots=True, kw_only=True)
class Pcid:
    """`canonical` is what is compared: 17 characters, upper case.

    The rule of the check character is not public: it is kept and not judged.
    """

    canonical: str
    check: str | None = None

    @property
    def maker(self) -> str:
        """The world manufacturer identifier (ISO 3780)."""
        return self.canonical[:3]


def read_pcid(text: str) -> Pcid:
    match = _PCID.fullmatch(plain(text, separators="-"))
    if match is None:
        raise NotAnIdentifier(f"{text!r} is no PCID: 17 letters and digits, perhaps a check character after them")
    return Pcid(canonical=match[1], check=match[2] or None)
