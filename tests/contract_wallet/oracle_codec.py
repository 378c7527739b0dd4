"""Runs inside the foreign stack's own environment: its Java codec and its cryptography, asked one JSON line at a time.

Imports nothing of roamkey. Started by foreign_oracle.py.
"""

from __future__ import annotations

import json
import os
import sys
from typing import Any

from cryptography.hazmat.primitives.asymmetric import ec
from iso15118.shared.exi_codec import EXI
from iso15118.shared.exificient_exi_codec import ExificientEXICodec
from iso15118.shared.messages.enums import Namespace
from iso15118.shared.messages.iso15118_2.body import AuthorizationReq, CertificateInstallationReq, MeteringReceiptReq
from iso15118.shared.messages.iso15118_2.datatypes import (
    EMAID,
    CertificateChain,
    DHPublicKey,
    EncryptedPrivateKey,
    MeterInfo,
    RootCertificateIDList,
    SubCertificates,
)
from iso15118.shared.messages.xmldsig import (
    CanonicalizationMethod,
    DigestMethod,
    Reference,
    Signature,
    SignatureMethod,
    SignatureValue,
    SignedInfo,
    Transform,
    Transforms,
    X509IssuerSerial,
)
from iso15118.shared.security import (
    create_signature,
    decrypt_priv_key,
    encrypt_priv_key,
    to_ec_pub_key,
    verify_signature,
)
from iso15118.shared.settings import load_shared_settings

CANONICAL_EXI = "http://www.w3.org/TR/canonical-exi/"


def octets(text: str) -> bytes:
    return bytes.fromhex(text)


def authorization(asked: dict[str, Any]) -> AuthorizationReq:
    return AuthorizationReq.construct(id=asked["id"], gen_challenge=octets(asked["challenge"]))


def installation(asked: dict[str, Any]) -> CertificateInstallationReq:
    roots = [
        X509IssuerSerial.construct(x509_issuer_name=name, x509_serial_number=serial) for name, serial in asked["roots"]
    ]
    return CertificateInstallationReq.construct(
        id=asked["id"],
        oem_provisioning_cert=octets(asked["certificate"]),
        list_of_root_cert_ids=RootCertificateIDList.construct(x509_issuer_serials=roots),
    )


def chain(asked: dict[str, Any]) -> CertificateChain:
    subs = [octets(each) for each in asked["subs"]]
    return CertificateChain.construct(
        id=asked["id"],
        certificate=octets(asked["leaf"]),
        sub_certificates=SubCertificates.construct(certificates=subs) if subs else None,
    )


def receipt(asked: dict[str, Any]) -> MeteringReceiptReq:
    told = {
        "meter_id": asked["meter"],
        "meter_reading": asked["reading"],
        "sig_meter_reading": None if asked["signature"] is None else octets(asked["signature"]),
        "meter_status": asked["status"],
        "t_meter": asked["time"],
    }
    return MeteringReceiptReq.construct(
        id=asked["id"],
        session_id=asked["session"],
        sa_schedule_tuple_id=asked["schedule"],
        meter_info=MeterInfo.construct(**{name: value for name, value in told.items() if value is not None}),
    )


def signed_info(asked: dict[str, Any]) -> SignedInfo:
    references = [
        Reference.construct(
            uri="#" + id,
            transforms=Transforms.construct(transform=[Transform.construct(algorithm=CANONICAL_EXI)]),
            digest_method=DigestMethod.construct(algorithm="http://www.w3.org/2001/04/xmlenc#sha256"),
            digest_value=octets(digest),
        )
        for id, digest in asked["references"]
    ]
    return SignedInfo.construct(
        canonicalization_method=CanonicalizationMethod.construct(algorithm=CANONICAL_EXI),
        signature_method=SignatureMethod.construct(algorithm="http://www.w3.org/2001/04/xmldsig-more#ecdsa-sha256"),
        reference=references,
    )


def fragment(asked: dict[str, Any]) -> str:
    element, namespace = {
        "authorization": lambda: (authorization(asked), Namespace.ISO_V2_MSG_DEF),
        "installation": lambda: (installation(asked), Namespace.ISO_V2_MSG_DEF),
        "chain": lambda: (chain(asked), Namespace.ISO_V2_MSG_DEF),
        "key": lambda: (
            EncryptedPrivateKey.construct(id=asked["id"], value=octets(asked["value"])),
            Namespace.ISO_V2_MSG_DEF,
        ),
        "dh": lambda: (DHPublicKey.construct(id=asked["id"], value=octets(asked["value"])), Namespace.ISO_V2_MSG_DEF),
        "emaid": lambda: (EMAID.construct(id=asked["id"], value=asked["value"]), Namespace.ISO_V2_MSG_DEF),
        "receipt": lambda: (receipt(asked), Namespace.ISO_V2_MSG_DEF),
        "signed_info": lambda: (signed_info(asked), Namespace.XML_DSIG),
    }[asked["type"]]()
    return EXI().to_exi(element, namespace).hex()


def verified(asked: dict[str, Any]) -> bool:
    """Whether the stack's SECC would accept this signature over an AuthorizationReq."""
    request = authorization(asked)
    signature = Signature.construct(
        signed_info=signed_info(asked), signature_value=SignatureValue.construct(value=octets(asked["signature"]))
    )
    elements = [(request.id, EXI().to_exi(request, Namespace.ISO_V2_MSG_DEF))]
    return bool(verify_signature(signature, elements, octets(asked["leaf"])))


def signed(asked: dict[str, Any]) -> dict[str, Any]:
    """What the stack's EVCC would send."""
    request = authorization(asked)
    key = ec.derive_private_key(int(asked["scalar"], 16), ec.SECP256R1())
    made = create_signature([(request.id, EXI().to_exi(request, Namespace.ISO_V2_MSG_DEF))], key)
    references = [(each.uri[1:], each.digest_value.hex()) for each in made.signed_info.reference]
    return {"references": references, "signature": made.signature_value.value.hex()}


def wrapped(asked: dict[str, Any]) -> dict[str, str]:
    """A contract's key as the stack's provisioning service wraps it for this vehicle."""
    key = ec.derive_private_key(int(asked["scalar"], 16), ec.SECP256R1())
    point, field = encrypt_priv_key(octets(asked["certificate"]), key)
    return {"point": point.hex(), "field": field.hex()}


def unwrapped(asked: dict[str, Any]) -> str:
    vehicle = ec.derive_private_key(int(asked["vehicle"], 16), ec.SECP256R1())
    return decrypt_priv_key(octets(asked["field"]), vehicle, to_ec_pub_key(octets(asked["point"]))).hex()


def main() -> None:
    answers = os.fdopen(os.dup(1), "w")
    os.dup2(2, 1)  # Java and the stack print what they like to the standard output
    load_shared_settings()
    EXI().set_exi_codec(ExificientEXICodec())
    actions = {"fragment": fragment, "verified": verified, "signed": signed, "wrapped": wrapped, "unwrapped": unwrapped}
    for line in sys.stdin:
        asked = json.loads(line)
        try:
            answer: dict[str, Any] = {"answer": actions[asked["do"]](asked)}
        except Exception as error:  # noqa: BLE001
            answer = {"error": f"{type(error).__name__}: {error}"}
        answers.write(json.dumps(answer) + "\n")
        answers.flush()


if __name__ == "__main__":
    main()
