"""From a fleet's master key to a card's own key. In the back office only: no vehicle ever has a master key.

Two algorithms with names, since many programs say "AN10922" and compute the other one. They agree for 16 bytes of
input and more, and for a bare UID of seven bytes they do not.
"""

from __future__ import annotations

from collections.abc import Callable
from enum import StrEnum
from typing import assert_never

from drivers.cards import aes

AES_128 = b"\x01"
LONGEST_INPUT = 31

EncryptBlock = Callable[[bytes], bytes]
"""AES-128 of one block under the master key, wherever that is: in a file's bytes or in an HSM."""


class Algorithm(StrEnum):
    AN10922 = "an10922"
    PLAIN_CMAC = "plain-cmac"


def diversified(algorithm: Algorithm, encrypt: EncryptBlock, diversifier: bytes) -> bytes:
    """The card's key. `diversifier` is M: 1 to 31 bytes, for example UID, application and the fleet's own mark."""
    if not 1 <= len(diversifier) <= LONGEST_INPUT:
        raise ValueError(f"a diversifier has 1 to {LONGEST_INPUT} bytes, not {len(diversifier)}")
    message = AES_128 + diversifier
    match algorithm:
        case Algorithm.AN10922:
            return _cmac(encrypt, message, at_least=2 * aes.BLOCK)
        case Algorithm.PLAIN_CMAC:
            return _cmac(encrypt, message, at_least=aes.BLOCK)
        case _:
            assert_never(algorithm)


def with_key(master: bytes) -> EncryptBlock:
    """For a master key that is at hand as bytes."""
    if len(master) != aes.KEY_BYTES:
        raise ValueError(f"an AES-128 key has {aes.KEY_BYTES} bytes, not {len(master)}")
    return lambda block: aes.encrypted(master, block)


def _cmac(encrypt: EncryptBlock, message: bytes, *, at_least: int) -> bytes:
    """CMAC over a message of at most two blocks, where AN10922 pads also the shortest to both of them."""
    first, second = aes.subkeys(encrypt(aes.ZERO))
    size = max(at_least, -(-len(message) // aes.BLOCK) * aes.BLOCK)
    is_whole = len(message) == size
    filled = message if is_whole else message + b"\x80" + bytes(size - len(message) - 1)
    filled = filled[: -aes.BLOCK] + aes.xor(filled[-aes.BLOCK :], first if is_whole else second)
    chained = aes.ZERO
    for at in range(0, size, aes.BLOCK):
        chained = encrypt(aes.xor(chained, filled[at : at + aes.BLOCK]))
    return chained
