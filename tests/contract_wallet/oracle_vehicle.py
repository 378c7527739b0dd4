"""Runs inside the foreign stack's environment: its vehicle, with our wallet in place of its key files.

The stack has no official hook for that, so names of one module are replaced. What is asked goes as one JSON line over
the Unix socket in ROAMKEY_VEHICLE. Imports nothing of roamkey. Started by oracle_session.py.
"""

from __future__ import annotations

import json
import os
import socket
from typing import Any

from iso15118.evcc.main import run
from iso15118.evcc.states import iso15118_2_states as states
from iso15118.shared.messages.iso15118_2.datatypes import CertificateChain, SubCertificates
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
)
from iso15118.shared.security import CertPath, get_cert_issuer_serial, load_cert

CANONICAL_EXI = "http://www.w3.org/TR/canonical-exi/"


def ask(do: str, **values: Any) -> Any:
    with socket.socket(socket.AF_UNIX, socket.SOCK_STREAM) as line:
        line.connect(os.environ["ROAMKEY_VEHICLE"])
        line.sendall(json.dumps({"do": do, **values}).encode() + b"\n")
        answer = json.loads(line.makefile().readline())
    if "error" in answer:
        raise RuntimeError(answer["error"])
    return answer["answer"]


def own_cert(path: str) -> bytes:
    return bytes.fromhex(ask("contract")["chain"][0]) if path == CertPath.CONTRACT_LEAF_DER else load_cert(path)


def own_chain(*, protocol: object, leaf_path: str, **others: str) -> CertificateChain:
    chain = [bytes.fromhex(each) for each in ask("contract")["chain"]]
    return CertificateChain(certificate=chain[0], sub_certificates=SubCertificates(certificates=chain[1:]))


def own_name(certificate: bytes) -> str:
    return str(ask("contract")["emaid"])


def own_signature(elements: list[tuple[str, bytes]], key: object) -> Signature:
    [(id, fragment)] = elements
    issuer, serial = get_cert_issuer_serial(CertPath.V2G_ROOT_DER)
    made = ask(
        "sign",
        id=id,
        fragment=fragment.hex(),
        vehicle=load_cert(CertPath.OEM_LEAF_DER).hex(),
        root=[issuer, serial],
    )
    references = [
        Reference(
            uri="#" + id,
            transforms=Transforms(transform=[Transform(algorithm=CANONICAL_EXI)]),
            digest_method=DigestMethod(algorithm="http://www.w3.org/2001/04/xmlenc#sha256"),
            digest_value=bytes.fromhex(digest),
        )
        for id, digest in made["references"]
    ]
    info = SignedInfo(
        canonicalization_method=CanonicalizationMethod(algorithm=CANONICAL_EXI),
        signature_method=SignatureMethod(algorithm="http://www.w3.org/2001/04/xmldsig-more#ecdsa-sha256"),
        reference=references,
    )
    return Signature(signed_info=info, signature_value=SignatureValue(value=bytes.fromhex(made["signature"])))


stack_s_request = states.AuthorizationReq


def own_request(**fields: Any) -> Any:
    """With the charger's challenge, unless the vehicle is a bad one that brings its own."""
    if "gen_challenge" in fields:
        fields["gen_challenge"] = bytes.fromhex(ask("challenge", given=fields["gen_challenge"].hex()))
    return stack_s_request(**fields)


def hexed(chain: CertificateChain) -> list[str]:
    return [each.hex() for each in (chain.certificate, *chain.sub_certificates.certificates)]


stack_s_own = states.CertificateInstallation.process_message


async def installed_first(self: Any, message: Any, message_exi: bytes | None = None) -> None:
    """Our wallet takes the contract in before the stack goes on with it; what it refuses ends the session."""
    response = getattr(getattr(message, "body", None), "certificate_installation_res", None)
    if response is not None:
        signature = message.header.signature
        ask(
            "install",
            service=hexed(response.cps_cert_chain),
            contract=[response.contract_cert_chain.id, hexed(response.contract_cert_chain)],
            key=[response.encrypted_private_key.id, response.encrypted_private_key.value.hex()],
            dh=[response.dh_public_key.id, response.dh_public_key.value.hex()],
            emaid=[response.emaid.id, response.emaid.value],
            references=[(each.uri, each.digest_value.hex()) for each in signature.signed_info.reference],
            signature=signature.signature_value.value.hex(),
        )
    await stack_s_own(self, message, message_exi)


states.load_cert = own_cert
states.load_cert_chain = own_chain
states.get_cert_cn = own_name
states.create_signature = own_signature
states.AuthorizationReq = own_request
states.load_priv_key = lambda *path: None
states.decrypt_priv_key = lambda **field: b""
states.CertificateInstallation.process_message = installed_first

if __name__ == "__main__":
    run()
