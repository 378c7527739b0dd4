"""An NTAG 424 DNA in memory only: its one application, its five keys, and a URL that is new at each read."""

from __future__ import annotations

from collections.abc import Callable
from secrets import token_bytes

from drivers.cards import aes, sdm
from drivers.cards.virtual_desfire import FACTORY_KEY, PICC, Generation, Key, VirtualDesfire

APPLICATION_NAME = bytes.fromhex("D2760000850101")
NDEF_FILE = bytes.fromhex("E104")
KEYS = 5
URI_PREFIX_HTTPS = 0x04


class VirtualNtag424(VirtualDesfire):
    """`meta_no` and `file_no` name the keys of the message; the URL is without its https://."""

    HARDWARE = 0x04

    def __init__(
        self,
        uid: bytes,
        *,
        keys: dict[int, bytes] | None = None,
        random_id: bool = False,
        url: str = "card.example/",
        meta_no: int = 1,
        file_no: int = 2,
        draw: Callable[[int], bytes] = token_bytes,
    ) -> None:
        super().__init__(uid, generation=Generation.EV2, random_id=random_id, draw=draw)
        self.applications = {PICC: {number: Key((keys or {}).get(number, FACTORY_KEY)) for number in range(KEYS)}}
        self.reads = 0
        self._url = url
        self._meta_no, self._file_no = meta_no, file_no

    def reset(self) -> None:
        super().reset()
        self._is_selected = False
        self._file: bytes | None = None

    def iso(self, command: bytes) -> bytes:
        match command[1:4], command[5:]:
            case b"\xa4\x04\x00", name if name[: len(APPLICATION_NAME)] == APPLICATION_NAME:
                self._is_selected, self._file = True, None
                self._forget()
                return b"\x90\x00"
            case b"\xa4\x00\x0c", name if self._is_selected and name[:2] == NDEF_FILE:
                self.reads += 1
                self._file = self._message()
                return b"\x90\x00"
            case (header, _) if header[:1] == b"\xb0" and self._file is not None:
                at = int.from_bytes(header[1:3], "big")
                return self._file[at : at + (command[4] or 256)] + b"\x90\x00"
            case _:
                return b"\x6a\x82"

    def native(self, ins: int, body: bytes) -> bytes:
        return super().native(ins, body) if self._is_selected and ins not in (0x5A, 0xCA, 0xAA) else b"\x91\x1c"

    def sun_url(self) -> str:
        """What a phone would open after one more read."""
        self.reads += 1
        return "https://" + self._mirrored()

    def _mirrored(self) -> str:
        plain = b"\xc7" + self.uid + self.reads.to_bytes(3, "little")
        picc = aes.encrypted(self.keys[self._meta_no].octets, plain + self._draw(16 - len(plain)))
        _, mac = sdm.session_keys(self.keys[self._file_no].octets, self.uid, self.reads)
        return f"{self._url}?picc_data={picc.hex().upper()}&cmac={aes.short_mac(mac, b'').hex().upper()}"

    def _message(self) -> bytes:
        """An NDEF file with one URI record."""
        uri = bytes([URI_PREFIX_HTTPS]) + self._mirrored().encode()
        record = bytes([0xD1, 0x01, len(uri)]) + b"U" + uri
        return len(record).to_bytes(2, "big") + record
