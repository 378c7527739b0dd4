"""What a PC/SC reader says of a card: its ATR and its answer to FF CA 00 00 00, as a Card. Pure.

Talking to pcscd is pcsc_lite.py. PC/SC part 3, 3.1.3.2.3: a contactless reader makes up the ATR, and the standard of a
storage card stands in it.
"""

from __future__ import annotations

from drivers.readers.reader import Card, Technology, card_of
from drivers.readers.rejects import Reason, Rejected

GET_UID = bytes.fromhex("FFCA000000")
SUCCESS = b"\x90\x00"
STORAGE_CARD = bytes.fromhex("804F0CA000000306")  # of PC/SC part 3, then SS: the standard
TECHNOLOGY_OF_STANDARD = {
    **dict.fromkeys((0x01, 0x02, 0x03), Technology.ISO14443A),
    **dict.fromkeys((0x05, 0x06, 0x07), Technology.ISO14443B),
    **dict.fromkeys((0x09, 0x0A, 0x0B, 0x0C), Technology.ISO15693),
    0x11: Technology.FELICA,
}
TYPE_B_HISTORICAL_BYTES = 8  # four of application data, three of protocol, MBLI: PC/SC part 3, 3.1.3.2.3.1
ESCAPE_ANSWER = b"\xe1\x00\x00\x00"
DIRECT, INVERSE = 0x3B, 0x3F


def card(atr: bytes, said: bytes) -> Card | Rejected:
    """The card, or why it is none that we can name."""
    historical = historical_bytes(atr)
    if historical is None:
        return Rejected(reason=Reason.FRAMING)
    if said[-2:] != SUCCESS:
        return Rejected(reason=Reason.CONTENT)
    uid = said[:-2]
    technology = _technology(historical, uid)
    if technology is None:
        return Rejected(reason=Reason.IDENTIFIER)
    if not 4 <= len(uid) <= 10:
        return Rejected(reason=Reason.LENGTH)
    return card_of(uid, technology)


def historical_bytes(atr: bytes) -> bytes | None:
    """The text in an ATR (ISO/IEC 7816-3, 8.2); None when the ATR contradicts itself or its check byte is wrong."""
    if len(atr) < 2 or atr[0] not in (DIRECT, INVERSE):
        return None
    count, follow, at, checked = atr[1] & 0x0F, atr[1] >> 4, 2, False
    while follow:
        at += follow.bit_count()
        if not follow & 0x8:
            break
        if at > len(atr):
            return None
        following = atr[at - 1]  # TD: the protocol, and which bytes follow
        checked = checked or bool(following & 0x0F)  # TCK is left out only where T=0 is all there is
        follow = following >> 4
    end = at + count
    if len(atr) != end + checked:
        return None
    check = 0
    for byte in atr[1:]:
        check ^= byte
    return None if checked and check else atr[at:end]


def firmware(said: bytes) -> str | None:
    """The version in an answer of ACS readers: a bare text (ACR122U), or a text behind E1 and four bytes."""
    text = said[5:] if said.startswith(ESCAPE_ANSWER) else said
    return text.removesuffix(SUCCESS).decode("ascii", "replace").strip("\0 ") or None


def split(transcript: bytes) -> tuple[bytes, bytes] | None:
    """An ATR and the answer behind it, as vectors write them: the ATR says itself how long it is."""
    for size in range(2, min(len(transcript), 33) + 1):
        if historical_bytes(transcript[:size]) is not None:
            return transcript[:size], transcript[size:]
    return None


def _technology(historical: bytes, uid: bytes) -> Technology | None:
    if historical.startswith(STORAGE_CARD) and len(historical) > len(STORAGE_CARD):
        return TECHNOLOGY_OF_STANDARD.get(historical[len(STORAGE_CARD)])
    # ISO 14443-4. A Type B card's text has eight bytes and its PUPI four; a Type A card with both is taken for one,
    # which errs on the side of no identity.
    if len(historical) == TYPE_B_HISTORICAL_BYTES and len(uid) == 4:
        return Technology.ISO14443B
    return Technology.ISO14443A
