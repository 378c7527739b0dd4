"""The vectors of section 10 of the project's ISO 15118 fact sheet: each was byte-identical with EXIficient."""

from __future__ import annotations

import hashlib

import pytest
from hypothesis import given
from hypothesis import strategies as st

from agent.core.contracts.exi_fragments import (
    MeterReading,
    Reference,
    RootId,
    Unencodable,
    authorization_request,
    certificate_installation_request,
    contract_chain,
    dh_public_key,
    emaid,
    encrypted_private_key,
    metering_receipt_request,
    read_authorization_request,
    signed_info,
)


def sha256(content: bytes) -> bytes:
    return hashlib.sha256(content).digest()


FIRST = authorization_request("id1", bytes(range(16)))
URIS = "687474703a2f2f7777772e77332e6f72672f"

VECTORS = {
    "AuthorizationReq": (FIRST, "8004015a590c408000081018202830384048505860687079e8"),
    "AuthorizationReq of a live session": (
        authorization_request("id1", bytes.fromhex("2c622a27d2c6bb57f26419fa8732a40f")),
        "8004015a590c40816311513e9635dabf9320cfd439952079e8",
    ),
    "SignedInfo": (
        signed_info([Reference(id="id1", digest=sha256(FIRST))]),
        "808112b43a3a381d1797bbbbbb973b999737b93397aa2917b1b0b737b734b1b0b616b2bc3497a1ab43a3a381d1797bbbbbb973b99973"
        "7b933979918181897981a17bc36b63239b4b396b6b7b93291b2b1b239b096b9b430991a9b220623696431025687474703a2f2f777777"
        "2e77332e6f72672f54522f63616e6f6e6963616c2d6578692f4852d0e8e8e0745e5eeeeeee5cee665cdee4ce5e646060625e60685ef0"
        "dad8cadcc646e6d0c2646a6c84055ab76fa6f3e169e1293a13ab56694376c15c22b9460ed7b1d5dcb70f1851ed8370",
    ),
    "eMAID": (emaid("id4", "DE8AA0012345670"), "80ec0202b4b21a400451114e10504c0c0c4c8ccd0d4d8dcc3d3d00"),
    "DHpublickey": (
        dh_public_key("id3", b"\x04" + bytes(range(64))),
        "802d02b4b219904100004080c1014181c2024282c3034383c4044484c5054585c6064686c7074787c8084888c9094989ca0a4a8acb0b4"
        "b8bcc0c4c8ccd0d4d8dce0e4e8ecf0f4f8fde80",
    ),
    "EncryptedPrivateKey": (
        encrypted_private_key("id2", bytes(range(48))),
        "802202b4b2190c00004080c1014181c2024282c3034383c4044484c5054585c6064686c7074787c8084888c9094989ca0a4a8acb0b4b"
        "8bde80",
    ),
    "MeteringReceiptReq with all of a meter's words": (
        metering_receipt_request(
            "id1", bytes(range(1, 9)), 2, MeterReading(meter="M", reading_wh=300, signature=b"\xaa", status=-2, time=5)
        ),
        "8079015a590c40801020304050607080010034d056010006a82020051e80",
    ),
    "MeteringReceiptReq with a reading": (
        metering_receipt_request("id1", bytes(range(1, 9)), 255, MeterReading(meter="M", reading_wh=300)),
        "8079015a590c40801020304050607080fe0034d056011bd0",
    ),
    "MeteringReceiptReq without any": (
        metering_receipt_request("id1", bytes(range(1, 9)), 1, MeterReading(meter="M")),
        "8079015a590c40801020304050607080000034d47a00",
    ),
    "CertChain with leaf and two subs": (
        contract_chain("id1", bytes.fromhex("a0a1a2"), [bytes.fromhex("b0b1"), bytes.fromhex("c0")]),
        "8021015a590c403a0a1a20015858800e017a00",
    ),
    "CertChain without subs": (contract_chain("id1", b"\xa0", []), "8021015a590c401a03e8"),
    "CertChain with one sub": (contract_chain("id1", b"\xa0", [b"\xb0"]), "8021015a590c401a0000d817a0"),
    "CertChain with three subs": (
        contract_chain("id1", b"\xa0", [b"\xb0", b"\xb1", b"\xb2"]),
        "8021015a590c401a0000d8000d8800d917a0",
    ),
    "CertChain with four subs": (
        contract_chain("id1", b"\xa0", [b"\xb0", b"\xb1", b"\xb2", b"\xb3"]),
        "8021015a590c401a0000d8000d8800d9000d98f4",
    ),
    "CertificateInstallationReq": (
        certificate_installation_request(
            "id1",
            bytes.fromhex("a0a1a2"),
            [RootId(issuer="CN=V2GRootCA", serial=1), RootId(issuer="CN=MORootCA", serial=300)],
        ),
        "800f02b4b21880741434400e434e3d563247526f6f74434100100350d38f5353d49bdbdd10d042b0085e80",
    ),
    "CertificateInstallationReq with a long serial": (
        certificate_installation_request("id1", b"\xa0", [RootId(issuer="CN=a", serial=0x7F * 2**152 + 12345)]),
        "800f02b4b21880340006434e3d610b9e080808080808080808080808080808080808080e01f17a00",
    ),
}  # fmt: skip


@pytest.mark.parametrize("name", VECTORS)
def test_fragment_is_byte_for_byte_what_a_java_codec_writes(name: str) -> None:
    fragment, expected = VECTORS[name]
    assert fragment.hex() == expected


def test_digests_are_those_of_the_vectors() -> None:
    four = signed_info([Reference(id=f"id{each}", digest=sha256(bytes([each]))) for each in (1, 2, 3, 4)])

    assert sha256(FIRST).hex() == "2ad5bb7d379f0b4f0949d09d5ab34a1bb60ae115ca3076bd8eaee5b878c28f6c"
    assert (
        sha256(signed_info([Reference(id="id1", digest=sha256(FIRST))])).hex()
        == "869f57e77e4db3284afacff9cbccd5d572978b646821c6c582ffc37b2cb0ae0f"
    )
    assert (
        sha256(authorization_request("id1", bytes.fromhex("2c622a27d2c6bb57f26419fa8732a40f"))).hex()
        == "43478a1dea7b81a86856a7969f152203e9de37da62747c58d2475106f7667dbc"
    )
    assert len(four) == 559
    assert sha256(four).hex() == "a5b38f413526794aafb09818f26a01fb07c364350070444e8ad8f5cf2f31a833"


def test_what_the_schema_has_no_room_for_is_refused() -> None:
    root = RootId(issuer="CN=a", serial=1)
    with pytest.raises(Unencodable, match="21 root ids"):
        certificate_installation_request("id1", b"", [root] * 21)
    with pytest.raises(Unencodable, match="0 root ids"):
        certificate_installation_request("id1", b"", [])
    with pytest.raises(Unencodable, match="5 sub-certificates"):
        contract_chain("id1", b"", [b""] * 5)
    with pytest.raises(Unencodable, match="5 references"):
        signed_info([Reference(id="a", digest=b"")] * 5)


@given(st.text(min_size=1, max_size=40), st.binary(max_size=40))
def test_an_authorization_request_is_read_back_as_it_was_written(id: str, challenge: bytes) -> None:
    assert read_authorization_request(authorization_request(id, challenge)) == (id, challenge)


@given(st.binary(max_size=64))
def test_random_bytes_are_no_authorization_request(noise: bytes) -> None:
    with pytest.raises(Unencodable):
        read_authorization_request(b"\x80\x05" + noise)


def test_a_fragment_with_any_one_bit_changed_is_another_request_or_none() -> None:
    original = read_authorization_request(FIRST)
    for bit in range(8 * len(FIRST)):
        changed = (int.from_bytes(FIRST, "big") ^ (1 << bit)).to_bytes(len(FIRST), "big")
        try:
            assert read_authorization_request(changed) != original
        except Unencodable:
            continue
