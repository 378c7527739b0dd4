"""Runs inside the foreign stack's environment: its charger, with our verifier behind its official hook.

The hook is called twice: with the chain, before the key is proven, and again after the stack has checked the
signature. What is asked goes as one JSON line over the Unix socket in ROAMKEY_CHARGER. Imports nothing of roamkey.

The stack's own look at the chain comes before the hook, and would answer for what is expired: with our verifier behind
the hook it is left out, so that the verdict is ours.
"""

from __future__ import annotations

import base64
import json
import os
import re
import socket
from typing import Any

from iso15118.secc.controller.interface import AuthorizationResponse
from iso15118.secc.controller.simulator import SimEVSEController
from iso15118.secc.main import run
from iso15118.secc.states import iso15118_2_states
from iso15118.shared.messages.enums import AuthorizationStatus
from iso15118.shared.messages.iso15118_2.datatypes import ResponseCode


async def is_authorized(
    self: Any,
    id_token: str | None = None,
    id_token_type: object = None,
    certificate_chain: bytes | None = None,
    hash_data: object = None,
) -> AuthorizationResponse:
    if not certificate_chain:  # the second call: the stack has verified the signature by now
        return AuthorizationResponse(AuthorizationStatus.ACCEPTED, ResponseCode.OK)
    blocks = re.findall(rb"-----BEGIN CERTIFICATE-----(.*?)-----END CERTIFICATE-----", certificate_chain, re.DOTALL)
    with socket.socket(socket.AF_UNIX, socket.SOCK_STREAM) as line:
        line.connect(os.environ["ROAMKEY_CHARGER"])
        chain = [base64.b64decode(each).hex() for each in blocks]
        line.sendall(json.dumps({"do": "verify", "chain": chain, "emaid": id_token}).encode() + b"\n")
        verdict = json.loads(line.makefile().readline())["answer"]
    status = AuthorizationStatus.ACCEPTED if verdict["accepted"] else AuthorizationStatus.REJECTED
    return AuthorizationResponse(status, ResponseCode(verdict["code"]))


if os.environ.get("ROAMKEY_CHARGER"):
    SimEVSEController.is_authorized = is_authorized
    iso15118_2_states.verify_certs = lambda *chain: None

if __name__ == "__main__":
    run()
