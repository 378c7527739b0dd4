"""What the identifiers of charging contracts, chargers and vehicles have in common: plain text, and errors about it."""

from __future__ import annotations


class NotAnIdentifier(ValueError):
    """The text is no such identifier; says which, why, and what one looks like."""


def plain(text: str, *, separators: str) -> str:
    """Upper case without these separators.

    Only ASCII is folded: `ſ`, `ı` and `ß` become other letters in upper case, so they would pass for S, I and SS.
    """
    if not text.isascii():
        return text
    for separator in separators:
        text = text.replace(separator, "")
    return text.upper()
