"""The eMAID, the name of a charging contract: read, normalised, compared; ISO 15118-2 Annex H and DIN SPEC 91286.

A wrong check character is told, not refused, by `read_emaid`: the proof of a certificate is its signature, and the
test certificates in circulation have wrong ones. What a person types has no other proof: `read_typed_emaid` refuses.
"""

from __future__ import annotations

import re
from dataclasses import dataclass

from agent.core.contracts.identifiers import NotAnIdentifier, plain

CANONICAL_CHARACTERS = 14
_ISO = re.compile(r"([A-Z]{2})(-?)([0-9A-Z]{3})(-?)([0-9A-Z]{9})(?:(-?)([0-9A-Z]))?", re.IGNORECASE | re.ASCII)
_DIN = re.compile(
    r"([A-Z]{2})[*-]?([0-9A-Z]{3})[*-]?([0-9A-Z]{6})(?:[*-]?([0-9X]))?",
    re.IGNORECASE | re.ASCII,
)
_DIGITS = "0123456789ABCDEFGHIJKLMNOPQRSTUVWXYZ"
_DIN_PREFIXES = ("C0", "00")  # eMI3, and the older ISO form


@dataclass(frozen=True, slots=True, kw_only=True)
class Emaid:
    """`canonical` is what is compared and stored: 14 characters, upper case, neither separators nor check character."""

    canonical: str
    check: str | None = None

    @property
    def country(self) -> str:
        return self.canonical[:2]

    @property
    def provider(self) -> str:
        """Country and provider, as roaming lists name it: DE8AA."""
        return self.canonical[:5]

    @property
    def instance(self) -> str:
        return self.canonical[5:]

    @property
    def check_is_wrong(self) -> bool:
        """A missing check character is not a wrong one."""
        return self.check is not None and self.check != check_character(self.canonical)

    @property
    def on_wire(self) -> str:
        """As messages carry it, without separators: with the check character that belongs to it."""
        return self.canonical + check_character(self.canonical)

    def __str__(self) -> str:
        return f"{self.country}-{self.provider[2:]}-{self.instance}-{check_character(self.canonical)}"


@dataclass(frozen=True, slots=True, kw_only=True)
class DinContract:
    """A contract id of DIN SPEC 91286, 11 characters; every one has an eMAID, not every eMAID has one."""

    canonical: str
    check: str | None = None

    @property
    def check_is_wrong(self) -> bool:
        return self.check is not None and self.check != din_check_character(self.canonical)

    @property
    def emaid(self) -> Emaid:
        """The eMI3 form, whose instance starts with C: NL-TNM-012204-5 is NL-TNM-C00122045-K."""
        return self._converted("C0")

    @property
    def old_emaid(self) -> Emaid:
        """The older ISO form: NL-TNM-012204-5 was NL-TNM-000122045-U."""
        return self._converted("00")

    def _converted(self, prefix: str) -> Emaid:
        instance = prefix + self.canonical[5:] + din_check_character(self.canonical)
        return Emaid(canonical=self.canonical[:5] + instance)


def read_emaid(text: str) -> Emaid:
    """From a certificate or a message: 14 or 15 characters, hyphens and case as they come.

    ISO 15118-2 Annex H; the comparison ignores hyphens and case, and a peer may leave out the check character.
    """
    match = _ISO.fullmatch(text)
    if match is None:
        raise NotAnIdentifier(f"{text!r} is no eMAID: they look like DE-8AA-CA1B2C3D4-0, without or with hyphens")
    check = match[7]
    return Emaid(canonical=plain(match[1] + match[3] + match[5], separators=""), check=check.upper() if check else None)


def read_typed_emaid(text: str) -> Emaid:
    """From a person or a file that a person wrote: white space around it is nothing, a wrong check character is all."""
    emaid = read_emaid(text.strip())
    if emaid.check_is_wrong:
        raise NotAnIdentifier(
            f"{text.strip()!r} has a typing error: its check character {emaid.check} does not belong to "
            f"{emaid.canonical}; read it again from the contract"
        )
    return emaid


def read_din(text: str) -> DinContract:
    match = _DIN.fullmatch(text)
    if match is None:
        raise NotAnIdentifier(f"{text!r} is no DIN 91286 contract id: they look like IN-TNM-000071-9")
    return DinContract(
        canonical=plain(match[1] + match[2] + match[3], separators=""), check=match[4].upper() if match[4] else None
    )


def read_typed_din(text: str) -> DinContract:
    contract = read_din(text.strip())
    if contract.check_is_wrong:
        raise NotAnIdentifier(
            f"{text.strip()!r} has a typing error: its check character {contract.check} does not belong to "
            f"{contract.canonical}; read it again from the contract"
        )
    return contract


def din_of(emaid: Emaid) -> DinContract | None:
    """The DIN contract that this eMAID was converted from, if it reads like one: C0 or 00, six characters, a check."""
    number, check = emaid.instance[2:8], emaid.instance[8]
    canonical = emaid.provider + number
    if emaid.instance[:2] in _DIN_PREFIXES and din_check_character(canonical) == check:
        return DinContract(canonical=canonical, check=check)
    return None


def names_of(emaid: Emaid) -> frozenset[str]:
    """Every canonical eMAID under which roaming lists may hold this contract: itself, and across a DIN conversion.

    For lists only. A certificate is compared with the claimed eMAID on the 14 characters and on nothing else.
    """
    din = din_of(emaid)
    converted = () if din is None else (din.emaid.canonical, din.old_emaid.canonical)
    return frozenset((emaid.canonical, *converted))


def check_character(canonical: str) -> str:
    """ISO 15118-2 Annex H: a sum over Z2 and one over Z3, in powers of P1 and P2, told as one of 0-9, A-Z."""
    a = b = c = d = 0  # t1 = (a, b) modulo 2, t2 = (c, d) modulo 3, by Horner's rule from the last character
    for character in reversed(canonical):
        value = _DIGITS.index(character)
        a, b = a + value // 18, b + (value // 9) % 2
        a, b = b % 2, (a + b) % 2  # times P1 = [[0, 1], [1, 1]]
        c, d = c + (value // 3) % 3, d + value % 3
        c, d = d % 3, (c + 2 * d) % 3  # times P2 = [[0, 1], [1, 2]]
    c, d = 2 * d % 3, (2 * c + d) % 3  # times [[0, 2], [2, 1]]
    return _DIGITS[18 * a + 9 * b + 3 * c + d]


def din_check_character(canonical: str) -> str:
    """DIN SPEC 91286: weights 2^k, a digit takes one place and a letter two (tens, then units); modulo 11, 10 is X."""
    places = [int(digit) for character in canonical for digit in str(_DIGITS.index(character))]
    total = sum(place << k for k, place in enumerate(places)) % 11
    return "X" if total == 10 else str(total)
