"""AES as cards use it: CBC with a given IV, CMAC, the short MAC, paddings. Only here cards know cryptography.

Pure. What is encrypted with it is said by the card's protocol: ev2.py, ev1.py, sdm.py, diversification.py.
"""

from __future__ import annotations

import hmac
import zlib

from cryptography.hazmat.primitives.ciphers import Cipher, algorithms, modes

BLOCK = 16
ZERO = bytes(BLOCK)
KEY_BYTES = 16
_MSB_CONSTANT = 0x87  # NIST SP 800-38B, 5.3: R for a block of 128 bits


def encrypted(key: bytes, plain: bytes, *, iv: bytes = ZERO) -> bytes:
    cipher = Cipher(algorithms.AES(key), modes.CBC(iv)).encryptor()
    return cipher.update(plain) + cipher.finalize()


def decrypted(key: bytes, secret: bytes, *, iv: bytes = ZERO) -> bytes:
    cipher = Cipher(algorithms.AES(key), modes.CBC(iv)).decryptor()
    return cipher.update(secret) + cipher.finalize()


def cmac(key: bytes, message: bytes, *, iv: bytes = ZERO) -> bytes:
    """NIST SP 800-38B, but for the IV: EV1 goes on from the last MAC."""
    first, second = subkeys(encrypted(key, ZERO))
    whole, rest = _last_block(message)
    last = xor(rest, first) if len(rest) == BLOCK else xor(padded(rest), second)
    return encrypted(key, whole + last, iv=iv)[-BLOCK:]


def subkeys(of_zero: bytes) -> tuple[bytes, bytes]:
    """K1 and K2 from the encryption of the zero block: so the key itself may stay where it is."""
    first = _doubled(of_zero)
    return first, _doubled(first)


def short_mac(key: bytes, message: bytes) -> bytes:
    """The odd-indexed bytes of the CMAC: what EV2, NTAG 424 and SDM send."""
    return cmac(key, message)[1::2]


def padded(message: bytes) -> bytes:
    """ISO 9797-1, method 2: always at least one byte."""
    return message + b"\x80" + bytes(-(len(message) + 1) % BLOCK)


def unpadded(message: bytes) -> bytes | None:
    """None when there is no such padding."""
    stripped = message.rstrip(b"\x00")
    return stripped[:-1] if stripped.endswith(b"\x80") and len(message) - len(stripped) < BLOCK else None


def rotated(block: bytes) -> bytes:
    """Left by one byte."""
    return block[1:] + block[:1]


def xor(one: bytes, other: bytes) -> bytes:
    return bytes(a ^ b for a, b in zip(one, other, strict=True))


def same(one: bytes, other: bytes) -> bool:
    """In constant time."""
    return hmac.compare_digest(one, other)


def crc32(octets: bytes) -> bytes:
    """As DESFire appends it: not inverted at the end, least significant byte first."""
    return (zlib.crc32(octets) ^ 0xFFFFFFFF).to_bytes(4, "little")


def _last_block(message: bytes) -> tuple[bytes, bytes]:
    at = max(0, (len(message) - 1) // BLOCK * BLOCK)
    return message[:at], message[at:]


def _doubled(block: bytes) -> bytes:
    number = int.from_bytes(block, "big") << 1
    carried = number >> (8 * BLOCK)
    return ((number & ((1 << 8 * BLOCK) - 1)) ^ (_MSB_CONSTANT if carried else 0)).to_bytes(BLOCK, "big")
