"""Our bytes against those of a Java codec, our signatures and wrapped keys against a foreign stack's; random values.

`ROAMKEY_INTEROP_CASES` of each kind (default 1000). Run by `make interop`. Their speed is `make bench NAME=contracts`.
"""

from __future__ import annotations

import os
import random
import string
from collections.abc import Callable, Iterator
from typing import Any

import pytest
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric import ec

from agent.core.contracts.exi_fragments import (
    MeterReading,
    Reference,
    RootId,
    authorization_request,
    certificate_installation_request,
    contract_chain,
    dh_public_key,
    emaid,
    encrypted_private_key,
    metering_receipt_request,
    signed_info,
)
from agent.core.contracts.key_transport import private_key, sender_key, unwrap, wrap
from agent.core.contracts.signatures import raw_signature, signature_holds
from agent.core.contracts.signing import AuthorizationRequest, to_be_signed
from tests.contract_wallet.foreign_oracle import Oracle, an_oracle
from tests.contract_wallet.pki_builder import LEAF
from tests.contract_wallet.provisioning import SENDER_KEY, VEHICLE_KEY, point_of

pytestmark = [pytest.mark.slow, pytest.mark.timeout(1800)]

CASES = int(os.environ.get("ROAMKEY_INTEROP_CASES", "1000"))
SEED = 15118
FIRST = string.ascii_letters + "_ÄÖÅéŽΩж"
FURTHER = FIRST + string.digits + ".-"
TEXT = string.ascii_letters + string.digits + " =,+-_./äöüßéŽ中"

Case = tuple[bytes, dict[str, Any]]


@pytest.fixture(scope="module")
def oracle(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Oracle]:
    with an_oracle(tmp_path_factory.mktemp("oracle") / "codec.log") as started:
        yield started


def a_name(rng: random.Random) -> str:
    return rng.choice(FIRST) + "".join(rng.choices(FURTHER, k=rng.randint(0, 20)))


def an_authorization(rng: random.Random) -> Case:
    id, challenge = a_name(rng), rng.randbytes(16)
    return authorization_request(id, challenge), {"id": id, "challenge": challenge.hex()}


def an_installation(rng: random.Random) -> Case:
    id, certificate = a_name(rng), rng.randbytes(rng.randint(1, 800))
    count = rng.choice((1, 2, 3, 19, 20))
    roots = [
        ("".join(rng.choices(TEXT, k=rng.randint(1, 60))).strip() or "x", rng.getrandbits(rng.randint(1, 159)))
        for _ in range(count)
    ]
    ours = certificate_installation_request(id, certificate, [RootId(issuer=name, serial=n) for name, n in roots])
    return ours, {"id": id, "certificate": certificate.hex(), "roots": roots}


def a_chain(rng: random.Random) -> Case:
    id, leaf = a_name(rng), rng.randbytes(rng.randint(1, 800))
    subs = [rng.randbytes(rng.randint(1, 800)) for _ in range(rng.randint(0, 4))]
    return contract_chain(id, leaf, subs), {"id": id, "leaf": leaf.hex(), "subs": [each.hex() for each in subs]}


def a_key(rng: random.Random) -> Case:
    id, value = a_name(rng), rng.randbytes(rng.randint(12, 48))
    return encrypted_private_key(id, value), {"id": id, "value": value.hex()}


def a_dh(rng: random.Random) -> Case:
    id, value = a_name(rng), rng.randbytes(rng.randint(12, 65))
    return dh_public_key(id, value), {"id": id, "value": value.hex()}


def an_emaid(rng: random.Random) -> Case:
    id = a_name(rng)
    value = "".join(rng.choices(string.ascii_uppercase + string.digits, k=rng.choice((14, 15))))
    return emaid(id, value), {"id": id, "value": value}


def a_receipt(rng: random.Random) -> Case:
    id, session, schedule = a_name(rng), rng.randbytes(rng.randint(1, 8)), rng.randint(1, 255)
    reading = MeterReading(
        meter="".join(rng.choices(TEXT, k=rng.randint(1, 32))).strip() or "x",
        reading_wh=rng.choice((None, rng.getrandbits(rng.randint(1, 29)))),
        signature=rng.choice((None, rng.randbytes(rng.randint(1, 64)))),
        status=rng.choice((None, rng.randint(-(2**15), 2**15 - 1))),
        time=rng.choice((None, rng.getrandbits(40))),
    )
    asked = {
        "id": id,
        "session": session.hex().upper(),
        "schedule": schedule,
        "meter": reading.meter,
        "reading": reading.reading_wh,
        "signature": reading.signature.hex() if reading.signature is not None else None,
        "status": reading.status,
        "time": reading.time,
    }
    return metering_receipt_request(id, session, schedule, reading), asked


def a_signed_info(rng: random.Random) -> Case:
    references = [Reference(id=a_name(rng), digest=rng.randbytes(32)) for _ in range(rng.randint(1, 4))]
    return signed_info(references), {"references": [(each.id, each.digest.hex()) for each in references]}


TYPES: dict[str, Callable[[random.Random], Case]] = {
    "authorization": an_authorization,
    "installation": an_installation,
    "chain": a_chain,
    "key": a_key,
    "dh": a_dh,
    "emaid": an_emaid,
    "receipt": a_receipt,
    "signed_info": a_signed_info,
}


@pytest.mark.parametrize("kind", TYPES)
def test_random_fragments_are_byte_for_byte_those_of_the_java_codec(oracle: Oracle, kind: str) -> None:
    rng = random.Random(f"{SEED} {kind}")
    for number in range(CASES):
        ours, values = TYPES[kind](rng)
        theirs = oracle.ask("fragment", type=kind, **values)
        assert ours.hex() == theirs, (number, values)


def test_our_signatures_are_accepted_by_the_foreign_charger_and_theirs_by_us(oracle: Oracle) -> None:
    rng = random.Random(SEED)
    assert isinstance(LEAF.key, ec.EllipticCurvePrivateKey)
    scalar = LEAF.key.private_numbers().private_value
    for number in range(max(20, CASES // 20)):
        request = AuthorizationRequest(id=f"id{number}", challenge=rng.randbytes(16))
        prepared = to_be_signed(request)
        signature = raw_signature(LEAF.key.sign(prepared.signed_info, ec.ECDSA(hashes.SHA256())))
        asked = {
            "id": request.id,
            "challenge": request.challenge.hex(),
            "references": [(each.id, each.digest.hex()) for each in prepared.references],
            "leaf": LEAF.der.hex(),
        }
        assert oracle.ask("verified", **asked, signature=signature.hex()) is True
        flipped = bytes([signature[0] ^ 1]) + signature[1:]
        assert oracle.ask("verified", **asked, signature=flipped.hex()) is False

        theirs = oracle.ask("signed", id=request.id, challenge=request.challenge.hex(), scalar=f"{scalar:x}")
        references = tuple(Reference(id=id, digest=bytes.fromhex(digest)) for id, digest in theirs["references"])
        assert references == prepared.references
        assert signature_holds(LEAF.certificate.point, references, bytes.fromhex(theirs["signature"]))


def test_wrapped_keys_open_on_both_sides_also_with_leading_zeros(oracle: Oracle) -> None:
    rng = random.Random(SEED)
    vehicle = LEAF.but(key=VEHICLE_KEY)
    for _ in range(CASES):
        scalar = rng.getrandbits(rng.choice((256, 255, 248, 240, 200, 8))) % (2**255) or 1
        key = ec.derive_private_key(scalar, ec.SECP256R1())

        theirs = oracle.ask("wrapped", scalar=f"{scalar:x}", certificate=vehicle.der.hex())
        agreement = VEHICLE_KEY.exchange(ec.ECDH(), sender_key(bytes.fromhex(theirs["point"])))
        opened = private_key(unwrap(agreement, bytes.fromhex(theirs["field"])), point_of(key))
        assert opened.private_numbers().private_value == scalar

        field = wrap(SENDER_KEY.exchange(ec.ECDH(), VEHICLE_KEY.public_key()), scalar, rng.randbytes(16))
        told = oracle.ask(
            "unwrapped",
            vehicle=f"{VEHICLE_KEY.private_numbers().private_value:x}",
            field=field.hex(),
            point=point_of(SENDER_KEY).hex(),
        )
        assert int(told, 16) == scalar
