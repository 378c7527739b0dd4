"""The exact bytes that ISO 15118-2 signs: canonical EXI fragments of a few messages. Encoding only, no codec for all.

Schema-informed, bit-packed, non-strict grammars, no string table; the layouts were compared byte by
byte with EXIficient. A fragment is the bits of its fields without gaps: event codes and values in turn. What may be
signed, and when, is signing.py; the cryptography of it is not here either.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Self

MAX_SUB_CERTIFICATES = 4
MAX_ROOT_IDS = 20
MAX_REFERENCES = 4
CANONICAL_EXI = "http://www.w3.org/TR/canonical-exi/"
ECDSA_SHA256 = "http://www.w3.org/2001/04/xmldsig-more#ecdsa-sha256"
SHA256 = "http://www.w3.org/2001/04/xmlenc#sha256"

_HEADER = 0x80
_END_OF_MESSAGE_FRAGMENT = 244
_END_OF_SIGNATURE_FRAGMENT = 46


class Unencodable(ValueError):
    """The value has no place in the schema; says which and what the schema wants."""


@dataclass(frozen=True, slots=True, kw_only=True)
class RootId:
    """One root that the vehicle knows, in a CertificateInstallationReq: X509IssuerSerialType."""

    issuer: str
    serial: int


@dataclass(frozen=True, slots=True, kw_only=True)
class Reference:
    """One signed element: its Id without the `#`, and the SHA-256 of its fragment."""

    id: str
    digest: bytes


@dataclass(frozen=True, slots=True, kw_only=True)
class MeterReading:
    """MeterInfoType: what the charger's meter says, as it asks for a receipt. None is left out."""

    meter: str
    reading_wh: int | None = None
    signature: bytes | None = None
    status: int | None = None
    time: int | None = None


def authorization_request(id: str, challenge: bytes) -> bytes:
    bits = _MessageBits(4).code(2, 0).text(id).code(2, 0).code(1, 0).binary(challenge)
    return bits.code(1, 0).code(1, 0).end()


def certificate_installation_request(id: str, oem_certificate: bytes, roots: Sequence[RootId]) -> bytes:
    _within("root ids", len(roots), 1, MAX_ROOT_IDS)
    bits = _MessageBits(15).code(1, 0).text(id).code(1, 0).code(1, 0).binary(oem_certificate).code(1, 0)
    bits.code(1, 0).code(1, 0)
    for index, root in enumerate(roots):
        if index:
            bits.code(2, 0)
        bits.code(1, 0).code(1, 0).text(root.issuer).code(1, 0)
        bits.code(1, 0).code(1, 0).integer(root.serial).code(1, 0).code(1, 0)
    # The end stays 2 bits wide also after the 20th id, unlike the sub-certificates' after the 4th.
    return bits.code(2, 1).code(1, 0).end()


def metering_receipt_request(id: str, session: bytes, schedule: int, reading: MeterReading) -> bytes:
    """MeteringReceiptReq with its SAScheduleTupleID: only with one was it compared, so one is demanded."""
    _within("schedule tuple id", schedule, 1, 255)
    bits = _MessageBits(121).code(2, 0).text(id).code(1, 0).code(1, 0).binary(session).code(1, 0)
    bits.code(2, 0).code(1, 0).code(8, schedule - 1).code(1, 0).code(1, 0)
    bits.code(1, 0).code(1, 0).text(reading.meter).code(1, 0)
    last = 0
    for place, value in enumerate((reading.reading_wh, reading.signature, reading.status, reading.time)):
        if value is None:
            continue
        bits.code(_METER_WIDTHS[last], place - last).code(1, 0)
        if isinstance(value, bytes):
            bits.binary(value)
        elif place == 0:
            bits.uint(value)
        else:
            bits.integer(value)
        bits.code(1, 0)
        last = place + 1
    return bits.code(_METER_WIDTHS[last], 4 - last).code(1, 0).end()


# Of the event code in MeterInfo before its 1st to 4th optional element, and after the last.
_METER_WIDTHS = (3, 3, 2, 2, 1)


def contract_chain(id: str, leaf: bytes, sub_certificates: Sequence[bytes]) -> bytes:
    """ContractSignatureCertChain of a CertificateInstallationRes."""
    _within("sub-certificates", len(sub_certificates), 0, MAX_SUB_CERTIFICATES)
    bits = _MessageBits(33).code(2, 0).text(id).code(1, 0).code(1, 0).binary(leaf).code(1, 0)
    if not sub_certificates:
        return bits.code(2, 1).end()
    bits.code(2, 0)
    for index, certificate in enumerate(sub_certificates):
        bits.code(*((2, 0) if index else (1, 0)))
        bits.code(1, 0).binary(certificate).code(1, 0)
    bits.code(*((1, 0) if len(sub_certificates) == MAX_SUB_CERTIFICATES else (2, 1)))
    return bits.code(1, 0).end()


def encrypted_private_key(id: str, field: bytes) -> bytes:
    """ContractSignatureEncryptedPrivateKey of a CertificateInstallationRes."""
    return _MessageBits(34).code(1, 0).text(id).code(1, 0).binary(field).code(1, 0).end()


def dh_public_key(id: str, point: bytes) -> bytes:
    """DHpublickey of a CertificateInstallationRes."""
    return _MessageBits(45).code(1, 0).text(id).code(1, 0).binary(point).code(1, 0).end()


def emaid(id: str, value: str) -> bytes:
    """eMAID of a CertificateInstallationRes. Two types of the schema have this name: a relaxed grammar applies."""
    bits = _MessageBits(236).code(9, 4).text(id).code(9, 256).text(value)
    return bits.code(8, _END_OF_MESSAGE_FRAGMENT).end()


def signed_info(references: Sequence[Reference]) -> bytes:
    """SignedInfo in the XML signature schema alone; its SHA-256 is what the key signs."""
    _within("references", len(references), 1, MAX_REFERENCES)
    bits = _Bits().code(8, _HEADER).code(6, 32).code(2, 1)
    bits.code(1, 0).text(CANONICAL_EXI).code(2, 1).code(1, 0).code(1, 0).text(ECDSA_SHA256).code(3, 2).code(1, 0)
    for index, reference in enumerate(references):
        if index:
            bits.code(2, 0)
        bits.code(3, 2).text("#" + reference.id).code(2, 0)
        bits.code(1, 0).code(1, 0).text(CANONICAL_EXI).code(3, 2).code(2, 1)
        bits.code(1, 0).code(1, 0).text(SHA256).code(2, 1).code(1, 0).code(1, 0).binary(reference.digest)
        bits.code(1, 0).code(1, 0)
    return bits.code(2, 1).code(6, _END_OF_SIGNATURE_FRAGMENT).octets()


def read_authorization_request(fragment: bytes) -> tuple[str, bytes]:
    """(id, challenge) of a fragment that a foreign stack encoded; refused unless we would write the same bytes.

    So nothing can hide in the bits: what is signed is what was read.
    """
    position = 0
    value = int.from_bytes(fragment, "big")
    width = 8 * len(fragment)

    def take(bits: int) -> int:
        nonlocal position
        position += bits
        if position > width:
            raise Unencodable("the fragment ends too early for an AuthorizationReq")
        return (value >> (width - position)) & ((1 << bits) - 1)

    def take_uint() -> int:
        number = shift = 0
        while True:
            octet = take(8)
            number |= (octet & 0x7F) << shift
            shift += 7
            if octet < 0x80:
                return number
            if shift > 63:
                raise Unencodable("the fragment holds a number that is too large for an AuthorizationReq")

    if width > 8 * 4096:
        raise Unencodable(f"the fragment of {len(fragment)} bytes is too long for an AuthorizationReq")
    take(8 + 8 + 2)
    code_points = [take_uint() for _ in range(take_uint() - 2)]
    if any(code > 0x10FFFF for code in code_points):
        raise Unencodable("the fragment's Id is no text")
    id = "".join(map(chr, code_points))
    take(2 + 1)
    challenge = bytes(take(8) for _ in range(take_uint()))
    if authorization_request(id, challenge) != fragment:
        raise Unencodable("the fragment is no canonical AuthorizationReq: nothing else is signed")
    return id, challenge


class _Bits:
    """Bits in writing order. Each method adds one field and gives back the writer."""

    def __init__(self) -> None:
        self._fields: list[str] = []

    def code(self, width: int, value: int) -> Self:
        self._fields.append(format(value, f"0{width}b"))
        return self

    def uint(self, value: int) -> Self:
        """Groups of 7 bits, the lowest first; the high bit says that more follow."""
        while value >= 0x80:
            self._fields.append(format(0x80 | (value & 0x7F), "08b"))
            value >>= 7
        self._fields.append(format(value, "08b"))
        return self

    def integer(self, value: int) -> Self:
        return self.code(1, 1).uint(-value - 1) if value < 0 else self.code(1, 0).uint(value)

    def text(self, value: str) -> Self:
        """The length is 2 more than it is: 0 and 1 would be hits in the string table."""
        self.uint(len(value) + 2)
        for character in value:
            self.uint(ord(character))
        return self

    def binary(self, value: bytes) -> Self:
        self.uint(len(value))
        if value:
            self._fields.append(format(int.from_bytes(value, "big"), f"0{8 * len(value)}b"))
        return self

    def octets(self) -> bytes:
        """Filled up with zero bits to the whole octet."""
        bits = "".join(self._fields)
        octets = (len(bits) + 7) // 8
        return int(bits.ljust(8 * octets, "0"), 2).to_bytes(octets, "big")


class _MessageBits(_Bits):
    """A fragment in the schema of the messages: header, code of the element, its content, end."""

    def __init__(self, element: int) -> None:
        super().__init__()
        self.code(8, _HEADER).code(8, element)

    def end(self) -> bytes:
        return self.code(8, _END_OF_MESSAGE_FRAGMENT).octets()


def _within(what: str, count: int, least: int, most: int) -> None:
    if not least <= count <= most:
        raise Unencodable(f"{count} {what}: the schema has room for {least} to {most}")
