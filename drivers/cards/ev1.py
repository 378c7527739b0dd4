"""AuthenticateAES (0xAA) of DESFire EV1 and the session after it. Pure. Newer cards take ev2.py's, which is stronger.

CBC is chained over the three messages of the authentication (its IV is the last ciphertext block), starts again at 0
for the session, and from then on each message's CMAC is the next IV. (Public EV1 trace, in the tests.)
"""

from __future__ import annotations

from secrets import token_bytes

from drivers.cards import aes
from drivers.cards.apdu import MORE, OK, CardRefused, NotGenuine, Transceive, native

AUTHENTICATE_AES, CONTINUED = 0xAA, 0xAF
GET_CARD_UID = 0x51
UID_BYTES = 7  # EV1 has no other
CRC_BYTES = 4


class Session:
    """Bound to one presence. Shows nothing of its key."""

    def __init__(self, transceive: Transceive, *, key: bytes) -> None:
        self._transceive = transceive
        self._key = key
        self._iv = aes.ZERO

    def __repr__(self) -> str:
        return "Session(EV1)"

    def card_uid(self) -> bytes:
        """The true UID: encrypted, with a CRC over it and the status inside."""
        self._iv = aes.cmac(self._key, bytes([GET_CARD_UID]), iv=self._iv)
        answer = native(self._transceive, GET_CARD_UID)
        if answer.status != OK:
            raise CardRefused("its UID", answer.status)
        if len(answer.body) != aes.BLOCK:
            raise NotGenuine("the card's encrypted UID has a wrong length")
        plain = aes.decrypted(self._key, answer.body, iv=self._iv)
        self._iv = answer.body
        uid, check, filling = (
            plain[:UID_BYTES],
            plain[UID_BYTES : UID_BYTES + CRC_BYTES],
            plain[UID_BYTES + CRC_BYTES :],
        )
        if not aes.same(check + filling, aes.crc32(uid + bytes([OK])) + bytes(len(filling))):
            raise NotGenuine("the card's encrypted UID has a wrong check")
        return uid


def authenticate(transceive: Transceive, key: bytes, key_no: int, *, random_a: bytes | None = None) -> Session:
    """Both sides prove the key. NotGenuine when the card cannot; CardRefused when it does not take ours."""
    random_a = random_a or token_bytes(aes.BLOCK)
    asked = native(transceive, AUTHENTICATE_AES, bytes([key_no]))
    if asked.status != MORE:
        raise CardRefused("authentication", asked.status)
    if len(asked.body) != aes.BLOCK:
        raise NotGenuine("the card's challenge has a wrong length")
    random_b = aes.decrypted(key, asked.body)
    token = aes.encrypted(key, random_a + aes.rotated(random_b), iv=asked.body)
    proof = native(transceive, CONTINUED, token)
    if proof.status != OK:
        raise CardRefused("authentication", proof.status)
    if len(proof.body) != aes.BLOCK:
        raise NotGenuine("the card's proof has a wrong length")
    if not aes.same(aes.decrypted(key, proof.body, iv=token[-aes.BLOCK :]), aes.rotated(random_a)):
        raise NotGenuine("the card does not have the key")
    return Session(transceive, key=session_key(random_a, random_b))


def session_key(random_a: bytes, random_b: bytes) -> bytes:
    return random_a[:4] + random_b[:4] + random_a[12:] + random_b[12:]
