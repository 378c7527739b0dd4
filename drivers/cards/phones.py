"""Phones and watches, recognised: they show a random UID and are nobody without a wallet's own protocol. Pure.

Apple VAS and Google Smart Tap answer to the same application; both give their content only to a certified reader
(wallets.py has the place where one is plugged in). What is recognised here is told so, never taken as a UID.
"""

from __future__ import annotations

from drivers.cards.apdu import CardRefused, Transceive, iso

VAS_APPLICATION = b"OSE.VAS.01"
PAYMENT_DIRECTORY = b"2PAY.SYS.DDF01"
DESFIRE_HISTORICAL = b"\x80"


def is_phone(transceive: Transceive, historical: bytes) -> bool:
    """Of a card with a random UID: it has a wallet, or emulates a card and says nothing of its maker.

    An emulated card has no historical bytes (ATR 3B 80 80 01 01) [believed], DESFire and NTAG 424 say 80. A bank card
    with a random UID passes for a phone, too: it is not what anybody should tap here either.
    """
    if historical == DESFIRE_HISTORICAL:
        return False
    return not historical or any(_has(transceive, name) for name in (VAS_APPLICATION, PAYMENT_DIRECTORY))


def _has(transceive: Transceive, name: bytes) -> bool:
    try:
        iso(transceive, bytes([0x00, 0xA4, 0x04, 0x00, len(name)]) + name + b"\x00")
    except CardRefused:
        return False
    return True
