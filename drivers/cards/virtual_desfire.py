"""DESFire cards that exist in memory only: EV1, EV2 and EV3 at the level of commands, with real cryptography.

For tests, the demonstration and whoever builds a reader. They know what a reader of ours needs: applications with AES
keys, both authentications, secure messaging, GetVersion, GetCardUID, CreateApplication, ChangeKey. No files, no DES.
Around them: blocks in drivers/readers/virtual_cards.py, a PC/SC slot in tests.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field
from enum import StrEnum
from secrets import token_bytes

from drivers.cards import aes, ev1, ev2

OK, MORE = 0x00, 0xAF
ILLEGAL, INTEGRITY, NO_KEY, LENGTH, PERMISSION, NO_APPLICATION, AUTHENTICATION, DUPLICATE, ABORTED = (
    0x1C, 0x1E, 0x40, 0x7E, 0x9D, 0xA0, 0xAE, 0xDE, 0xCA,
)  # fmt: skip
PICC = b"\x00\x00\x00"
FACTORY_KEY = bytes(16)
CAPABILITIES = bytes(12)


class Generation(StrEnum):
    EV1 = "ev1"
    EV2 = "ev2"
    EV3 = "ev3"

    @property
    def major(self) -> int:
        return {Generation.EV1: 0x01, Generation.EV2: 0x12, Generation.EV3: 0x33}[self]


@dataclass(slots=True)
class Key:
    octets: bytes = field(repr=False)
    version: int = 0


class VirtualDesfire:
    """`random_id`: the card shows a random UID, and its true one only inside a session."""

    HARDWARE = 0x01
    HISTORICAL = b"\x80"

    def __init__(
        self,
        uid: bytes,
        *,
        generation: Generation = Generation.EV2,
        random_id: bool = False,
        draw: Callable[[int], bytes] = token_bytes,
    ) -> None:
        self.uid = uid
        self.random_id = random_id
        self.generation = generation
        self.applications: dict[bytes, dict[int, Key]] = {PICC: {}}
        self.authentications = 0  # how often the whole protocol was gone through
        self._draw = draw
        self._number: int | None = None
        self._enc = self._mac = self._key1 = self._identifier = b""
        self._iv1 = aes.ZERO
        self._counter = 0
        self.reset()

    def install(self, application: bytes, keys: dict[int, bytes]) -> None:
        """As the factory or a back office leaves it; `application` is written most significant byte first."""
        self.applications[application] = {number: Key(key) for number, key in keys.items()}

    def reset(self) -> None:
        """The field dropped: nothing is selected and nobody is authenticated."""
        self.selected = PICC
        self._parts: list[bytes] = []
        self._asked: tuple[int, int, bytes, bytes] | None = None
        self._forget()

    def apdu(self, command: bytes) -> bytes:
        if len(command) < 5 or command[0] != 0x90:
            return self.iso(command)
        body = command[5:-1] if len(command) > 5 else b""
        if len(command) > 5 and command[4] != len(body):
            return b"\x67\x00"
        return self.native(command[1], body)

    def iso(self, command: bytes) -> bytes:
        return b"\x6a\x82" if command[1:2] == b"\xa4" else b"\x6e\x00"

    def native(self, ins: int, body: bytes) -> bytes:
        asked, self._asked = self._asked, None
        match ins:
            case 0x5A:
                return self._select(body)
            case 0x60:
                return self._version()
            case 0xAF if self._parts:
                return self._next_part()
            case 0xAA | 0x71:
                return self._challenged(ins, body)
            case 0xAF if asked is not None:
                return self._proven(asked, body)
            case 0x64:
                return self._key_version(body)
            case 0xCA:
                return self._create(body)
            case 0x51:
                return self._card_uid(body)
            case 0xC4:
                return self._change_key(body)
            case _:
                return _said(ILLEGAL)

    @property
    def keys(self) -> dict[int, Key]:
        return self.applications[self.selected]

    def _select(self, body: bytes) -> bytes:
        if body[::-1] not in self.applications:
            return _said(NO_APPLICATION)
        self.selected = body[::-1]
        self._forget()
        return _said(OK)

    def _version(self) -> bytes:
        told = b"\x04" + bytes([self.HARDWARE, 0x01, self.generation.major, 0x00, 0x18, 0x05])
        shown = bytes(7) if self.random_id else self.uid
        self._parts = [told, told, shown + bytes.fromhex("BA0102030405") + b"\x26"]
        return self._next_part()

    def _next_part(self) -> bytes:
        part = self._parts.pop(0)
        return part + _said(MORE if self._parts else OK)

    def _challenged(self, ins: int, body: bytes) -> bytes:
        self._forget()
        if ins == ev2.FIRST and self.generation is Generation.EV1:
            return _said(ILLEGAL)
        if len(body) < 1 or (ins == ev2.FIRST and len(body) < 2):
            return _said(LENGTH)
        if body[0] not in self.keys:
            return _said(NO_KEY)
        random_b = self._draw(16)
        secret = aes.encrypted(self.keys[body[0]].octets, random_b)
        self._asked = ins, body[0], random_b, secret
        return secret + _said(MORE)

    def _proven(self, asked: tuple[int, int, bytes, bytes], body: bytes) -> bytes:
        ins, number, random_b, secret = asked
        if len(body) != 32:
            return _said(LENGTH)
        key = self.keys[number].octets
        is_ev1 = ins == ev1.AUTHENTICATE_AES
        plain = aes.decrypted(key, body, iv=secret if is_ev1 else aes.ZERO)
        random_a = plain[:16]
        if plain[16:] != aes.rotated(random_b):
            return _said(AUTHENTICATION)
        self.authentications += 1
        self._number = number
        if is_ev1:
            self._key1 = ev1.session_key(random_a, random_b)
            return aes.encrypted(key, aes.rotated(random_a), iv=body[-16:]) + _said(OK)
        self._identifier = self._draw(4)
        self._enc, self._mac = ev2.session_keys(key, random_a, random_b)
        return aes.encrypted(key, self._identifier + aes.rotated(random_a) + CAPABILITIES) + _said(OK)

    def _card_uid(self, body: bytes) -> bytes:
        if self._key1:
            self._iv1 = aes.cmac(self._key1, b"\x51", iv=self._iv1)
            plain = self.uid + aes.crc32(self.uid + b"\x00")
            secret = aes.encrypted(self._key1, plain + bytes(-len(plain) % 16), iv=self._iv1)
            self._iv1 = secret[-16:]
            return secret + _said(OK)
        if not self._enc:
            return _said(AUTHENTICATION)
        if not self._is_ours(0x51, body):
            return self._refused(INTEGRITY)
        self._counter += 1
        secret = aes.encrypted(self._enc, aes.padded(self.uid), iv=self._iv(b"\x5a\xa5"))
        return secret + self._mac_of(OK, secret) + _said(OK)

    def _key_version(self, body: bytes) -> bytes:
        number = body[:1]
        if not number or number[0] not in self.keys:
            return _said(NO_KEY)
        version = bytes([self.keys[number[0]].version])
        if not self._enc:
            return version + _said(OK)
        if not self._is_ours(0x64, body):
            return self._refused(INTEGRITY)
        self._counter += 1
        return version + self._mac_of(OK, version) + _said(OK)

    def _create(self, body: bytes) -> bytes:
        """Free at the card's own level in the factory's settings. The last byte: AES, and how many keys."""
        if len(body) != 5 or self.selected != PICC:
            return _said(LENGTH if len(body) != 5 else PERMISSION)
        if body[:3][::-1] in self.applications:
            return _said(DUPLICATE)
        if body[4] & 0xC0 != 0x80:
            return _said(ILLEGAL)
        self.applications[body[:3][::-1]] = {number: Key(FACTORY_KEY) for number in range(body[4] & 0x0F)}
        return _said(OK)

    def _change_key(self, body: bytes) -> bytes:
        """Key 0 changes every key, and only inside a session of EV2."""
        if not self._enc or self._number != 0:
            return _said(AUTHENTICATION if not self._enc else PERMISSION)
        if not self._is_ours(0xC4, body):
            return self._refused(INTEGRITY)
        number, secret = body[0], body[1:-8]
        plain = aes.unpadded(aes.decrypted(self._enc, secret, iv=self._iv(b"\xa5\x5a")))
        if plain is None or number not in self.keys:
            return self._refused(INTEGRITY)
        octets, version, check = plain[:16], plain[16], plain[17:]
        self._counter += 1
        if number == self._number:
            self.keys[number] = Key(octets, version)
            self._forget()
            return _said(OK)
        octets = aes.xor(octets, self.keys[number].octets)
        if check != aes.crc32(octets):
            return self._refused(INTEGRITY)
        self.keys[number] = Key(octets, version)
        return self._mac_of(OK, b"") + _said(OK)

    def _is_ours(self, ins: int, body: bytes) -> bool:
        return aes.same(body[-8:], self._mac_of(ins, body[:-8]))

    def _mac_of(self, ins_or_status: int, body: bytes) -> bytes:
        head = bytes([ins_or_status]) + self._counter.to_bytes(2, "little") + self._identifier
        return aes.short_mac(self._mac, head + body)

    def _iv(self, label: bytes) -> bytes:
        return aes.encrypted(self._enc, label + self._identifier + self._counter.to_bytes(2, "little") + bytes(8))

    def _refused(self, status: int) -> bytes:
        self._forget()
        return _said(status)

    def _forget(self) -> None:
        self._number = None
        self._enc = self._mac = self._key1 = self._identifier = b""  # none of these keys is in force
        self._iv1 = aes.ZERO
        self._counter = 0


def _said(status: int) -> bytes:
    return bytes([0x91, status])
