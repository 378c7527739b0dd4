"""AuthenticateEV2First and the secure messaging after it: DESFire EV2, EV3 and Light, NTAG 424 DNA. Pure.

    1. 90 71 .. keyNo 00            -> E(RndB)                                       IV 0, in each of the three
    2. 90 AF .. E(RndA | rol RndB)  -> E(TI 4 | rol RndA 16 | PDcap2 6 | PCDcap2 6)
    3. session keys by CMAC over what both drew; from here every message has a MAC and a counter

(NXP AN12196, whose traces are the tests.) EV1's AuthenticateAES chains its IV instead: ev1.py.
"""

from __future__ import annotations

from secrets import token_bytes

from drivers.cards import aes
from drivers.cards.apdu import MORE, OK, CardRefused, NotGenuine, Transceive, native

FIRST, CONTINUED = 0x71, 0xAF
GET_CARD_UID, GET_FILE_SETTINGS, CHANGE_KEY = 0x51, 0xF5, 0xC4
MAC_BYTES = 8
UID_SIZES = (4, 7, 10)
_COUNTER_END = 0xFFFF


class Session:
    """What both sides know after the authentication, bound to one presence. Shows nothing of it."""

    def __init__(self, transceive: Transceive, *, enc: bytes, mac: bytes, identifier: bytes, counter: int = 0) -> None:
        self._transceive = transceive
        self._enc = enc
        self._mac = mac
        self._identifier = identifier
        self._counter = counter

    def __repr__(self) -> str:
        return f"Session(after {self._counter} commands)"

    def card_uid(self) -> bytes:
        """The true UID, also of a card that shows a random one. Encrypted and authenticated."""
        uid = self.enciphered(GET_CARD_UID)
        if len(uid) not in UID_SIZES:
            raise NotGenuine("the card's encrypted UID has no length of a UID")
        return uid

    def maced(self, ins: int, header: bytes = b"") -> bytes:
        """MAC mode: the answer's body is plain, its MAC was checked."""
        return self._exchanged(ins, header)

    def enciphered(self, ins: int, header: bytes = b"", data: bytes = b"") -> bytes:
        """FULL mode: data are encrypted both ways, the header is not, and the MAC is over what was sent."""
        answer = self._exchanged(ins, header + self._encrypted(data))
        if not answer:
            return b""
        if len(answer) % aes.BLOCK:
            raise NotGenuine("the card's encrypted answer is not of whole blocks")
        plain = aes.unpadded(aes.decrypted(self._enc, answer, iv=self._iv(b"\x5a\xa5")))
        if plain is None:
            raise NotGenuine("the card's encrypted answer has no padding")
        return plain

    def change_key(self, key_no: int, new: bytes, *, version: int, old: bytes | None) -> None:
        """`old` is None for the key that opened this session; with that change the session is over.

        The other keys are sent as old XOR new with a CRC, so that a wrong idea of the old one is noticed.
        """
        data = new + bytes([version]) if old is None else aes.xor(new, old) + bytes([version]) + aes.crc32(new)
        self._exchanged(CHANGE_KEY, bytes([key_no]) + self._encrypted(data), ends=old is None)

    def _encrypted(self, data: bytes) -> bytes:
        return aes.encrypted(self._enc, aes.padded(data), iv=self._iv(b"\xa5\x5a")) if data else b""

    def _exchanged(self, ins: int, body: bytes, *, ends: bool = False) -> bytes:
        if self._counter >= _COUNTER_END:
            raise NotGenuine("the session has come to its end")
        answer = native(self._transceive, ins, body + self._mac_of(ins, body))
        if answer.status != OK:
            raise CardRefused(f"command {ins:02X}", answer.status)
        self._counter += 1  # a response is counted already
        if ends:
            return b""  # the key of the MAC is gone
        plain, mac = answer.body[:-MAC_BYTES], answer.body[-MAC_BYTES:]
        if not aes.same(mac, self._mac_of(OK, plain)):
            raise NotGenuine("the card's answer has a wrong MAC")
        return plain

    def _mac_of(self, ins_or_status: int, body: bytes) -> bytes:
        head = bytes([ins_or_status]) + self._counter.to_bytes(2, "little") + self._identifier
        return aes.short_mac(self._mac, head + body)

    def _iv(self, label: bytes) -> bytes:
        return aes.encrypted(self._enc, label + self._identifier + self._counter.to_bytes(2, "little") + bytes(8))


def authenticate(transceive: Transceive, key: bytes, key_no: int, *, random_a: bytes | None = None) -> Session:
    """Both sides prove the key. NotGenuine when the card cannot; CardRefused when it does not take ours."""
    random_a = random_a or token_bytes(aes.BLOCK)
    asked = native(transceive, FIRST, bytes([key_no, 0x00]))
    if asked.status != MORE:
        raise CardRefused("authentication", asked.status)
    if len(asked.body) != aes.BLOCK:
        raise NotGenuine("the card's challenge has a wrong length")
    random_b = aes.decrypted(key, asked.body)
    proof = native(transceive, CONTINUED, aes.encrypted(key, random_a + aes.rotated(random_b)))
    if proof.status != OK:
        raise CardRefused("authentication", proof.status)
    if len(proof.body) != 2 * aes.BLOCK:
        raise NotGenuine("the card's proof has a wrong length")
    plain = aes.decrypted(key, proof.body)
    identifier, rotated_a = plain[:4], plain[4:20]
    if not aes.same(rotated_a, aes.rotated(random_a)):
        raise NotGenuine("the card does not have the key")
    enc, mac = session_keys(key, random_a, random_b)
    return Session(transceive, enc=enc, mac=mac, identifier=identifier)


def session_keys(key: bytes, random_a: bytes, random_b: bytes) -> tuple[bytes, bytes]:
    """KSesEnc and KSesMAC."""
    context = random_a[:2] + aes.xor(random_a[2:8], random_b[:6]) + random_b[6:] + random_a[8:]
    return (
        aes.cmac(key, bytes.fromhex("A55A00010080") + context),
        aes.cmac(key, bytes.fromhex("5AA500010080") + context),
    )
