"""The URL that a tag shows to any phone: Type 4 reading and one URI record, no more of NDEF than that. Pure."""

from __future__ import annotations

from drivers.cards.apdu import NotGenuine, Transceive, iso

SELECT_APPLICATION = bytes.fromhex("00A4040007D276000085010100")
SELECT_FILE = bytes.fromhex("00A4000C02E104")
READ_AT_MOST = 0xF0
MESSAGE_MAX_BYTES = 1_024
# One short record: begins and ends the message, well-known type of one byte, "U".
URI_RECORD = (0xD1, 0x01, 0x55)
PREFIXES = {0x00: "", 0x01: "http://www.", 0x02: "https://www.", 0x03: "http://", 0x04: "https://"}


def read_url(transceive: Transceive) -> str:
    """NotGenuine when there is no URL; CardRefused when the tag does not let it be read."""
    iso(transceive, SELECT_APPLICATION)
    iso(transceive, SELECT_FILE)
    content = _read(transceive, 0, 2)
    size = int.from_bytes(content, "big")
    if not 5 <= size <= MESSAGE_MAX_BYTES:
        raise NotGenuine("the tag's message has a wrong length")
    message = b""
    while len(message) < size:
        message += _read(transceive, 2 + len(message), min(READ_AT_MOST, size - len(message)))
    return url_of(message)


def url_of(message: bytes) -> str:
    if len(message) < 5 or (message[0], message[1], message[3]) != URI_RECORD or message[2] != len(message) - 4:
        raise NotGenuine("the tag shows no URL")
    prefix, rest = PREFIXES.get(message[4]), message[5:]
    if prefix is None or not rest.isascii():
        raise NotGenuine("the tag shows a URL of another kind")
    return prefix + rest.decode("ascii")


def _read(transceive: Transceive, at: int, size: int) -> bytes:
    part = iso(transceive, bytes([0x00, 0xB0]) + at.to_bytes(2, "big") + bytes([size]))
    if len(part) != size:
        raise NotGenuine("the tag's file ends too soon")
    return part
