"""The key and address of a reader on a line that others can listen to (OSDP). Values only; files are the agent's."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

KEY_BYTES = 16
# OSDP 2.2, D.2: SCBK-D, which every reader in install mode accepts. Whoever knows the standard knows it.
INSTALL_KEY = bytes(range(0x30, 0x40))


class KeyUnusable(Exception):
    """There is no key, or one that protects nothing. Never holds the key."""

    def __init__(self, cause: str, *, hint: str) -> None:
        super().__init__(f"{cause}; {hint}")
        self.cause = cause
        self.hint = hint


def no_key() -> bytes:
    raise KeyUnusable(
        "no key is configured for the secure channel",
        hint="name a file in `key`, or plain = true where anybody may read and replay what is on the wire",
    )


@dataclass(frozen=True, slots=True, kw_only=True)
class SecureLine:
    """`key` is called each time the line is opened, so that a key is kept nowhere and a new one needs no restart.

    `plain` is the explicit wish to do without: then there is no secure channel and no key is asked for.
    """

    address: int = 0
    plain: bool = False
    key: Callable[[], bytes] = no_key


def checked(key: bytes) -> bytes:
    """The key, unless it is one that everybody has. KeyUnusable says so."""
    if len(key) != KEY_BYTES:
        raise KeyUnusable(
            f"the key of the secure channel has {len(key)} bytes, not {KEY_BYTES}",
            hint="write 32 hexadecimal digits, or 16 bytes, into the key file",
        )
    if key == INSTALL_KEY or len(set(key)) == 1:
        raise KeyUnusable(
            "the key of the secure channel is a default key that everybody knows",
            hint="give the reader a key of its own with its vendor's tool, then put it into the key file",
        )
    return key
