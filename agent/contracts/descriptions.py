"""JSON Schemas of what messages.py reads and writes: for the local API's description, so that any stack can ask.

The reader is messages.py; a test sends what these describe through it.
"""

from __future__ import annotations

from typing import Any


def fields(required: dict[str, Any], optional: dict[str, Any] | None = None, **more: Any) -> dict[str, Any]:
    properties = {**required, **(optional or {})}
    described = {"type": "object", "required": list(required), "properties": properties, "additionalProperties": False}
    return {**described, **more}


def many(items: dict[str, Any], most: int = 8) -> dict[str, Any]:
    return {"type": "array", "items": items, "maxItems": most}


TEXT = {"type": "string", "maxLength": 256}
BINARY = {"type": "string", "contentEncoding": "base64"}
CHAIN = {**many(BINARY), "description": "X.509 in DER, base64; the contract's own first, without the root"}

SIGNATURE = fields(
    {"references": many(fields({"uri": TEXT, "digest": BINARY})), "value": {**BINARY, "description": "r || s"}}
)
CONTEXT = fields(
    {},
    {
        **dict.fromkeys(("evse", "network", "country"), TEXT),
        "session": {**TEXT, "description": "what your software calls it; recorded, and decides nothing"},
    },
    description="what is known of the charger; what is left out is missing, and the policy says what that means",
)

POSITION = fields(
    {"latitude": {"type": "string"}, "longitude": {"type": "string"}},
    {"accuracy_m": {"type": "integer"}, "age_s": {"type": "integer"}},
    description="the vehicle's, degrees as text; without accuracy and age it is as good as none",
)
INPUT = fields({}, {"pin": {"type": "string"}, "odometer_km": {"type": "integer"}})

BODIES: dict[str, dict[str, Any]] = {
    "post /v1/contracts/sign-authorization": fields(
        {
            "id": {**TEXT, "description": "Id of the AuthorizationReq"},
            "challenge": {**BINARY, "description": "16 bytes"},
        },
        {
            "context": CONTEXT,
            "emaid": TEXT,
            "providers": many(TEXT, 128),
            "roots": many(TEXT, 128),
            "position": POSITION,
            "input": INPUT,
        },
    ),
    "post /v1/contracts/sign-installation": fields(
        {
            "id": TEXT,
            "provisioning_certificate": BINARY,
            "roots": many(fields({"issuer": TEXT, "serial": {"type": "integer"}}), 20),
        }
    ),
    "post /v1/contracts/install": fields(
        {
            "provisioning_chain": CHAIN,
            "contract_chain": fields({"id": TEXT, "certificates": CHAIN}),
            "encrypted_private_key": fields({"id": TEXT, "value": BINARY}),
            "dh_public_key": fields({"id": TEXT, "value": BINARY}),
            "emaid": fields({"id": TEXT, "value": TEXT}),
            "signature": SIGNATURE,
        },
        {
            "priority": {
                "type": "integer",
                "minimum": 0,
                "maximum": 1000,
                "description": "the lowest is used first; without it the one of the contract that it renews, or 100",
            }
        },
    ),
    "post /v1/contracts/sign-receipt": fields(
        {
            "decision": {**TEXT, "description": "of the signature with which the session began"},
            "fingerprint": {**TEXT, "description": "of the contract that signed then"},
            "id": {**TEXT, "description": "Id of the MeteringReceiptReq"},
            "session": {**BINARY, "description": "SessionID, 1 to 8 bytes"},
            "schedule": {"type": "integer", "minimum": 1, "maximum": 255, "description": "SAScheduleTupleID"},
            "meter": fields(
                {"id": {"type": "string", "maxLength": 32}},
                {
                    "reading_wh": {"type": "integer", "minimum": 0},
                    "signature": BINARY,
                    "status": {"type": "integer"},
                    "time": {"type": "integer"},
                },
                description="MeterInfo, as the charger sent it",
            ),
        },
        {"context": CONTEXT, "position": POSITION, "input": INPUT},
    ),
    "post /v1/contracts/session-ended": fields(
        {"decision": {**TEXT, "description": "`decision` of the answer that had the signature"}}
    ),
    "post /v1/contracts/remove": fields({"fingerprint": {"type": "string", "pattern": "^[0-9a-fA-F]{64}$"}}),
    "post /v1/contracts/verify": fields(
        {"chain": CHAIN, "emaid": TEXT},
        {
            "ocsp": many(BINARY),
            "challenge": {**BINARY, "description": "the one that was sent; comes with proof"},
            "proof": fields({"id": TEXT, "challenge": BINARY, "signature": SIGNATURE}),
        },
    ),
}

LIST = {
    "type": "object",
    "required": ["contracts"],
    "properties": {
        "contracts": {
            "type": "array",
            "items": {
                "type": "object",
                "properties": {
                    "emaid": {"type": "string"},
                    "state": {"enum": ["present", "expires_soon", "pending", "expired", "revoked", "superseded"]},
                    "fingerprint": {"type": "string"},
                    "not_after": {"type": "string", "format": "date-time"},
                    "renew_from": {"type": "string", "format": "date-time"},
                },
            },
        }
    },
}
SIGNED = {
    "type": "object",
    "required": ["signed"],
    "properties": {
        "signed": {"type": "boolean"},
        "decision": {"type": ["string", "null"], "description": "`GET /v1/decisions/{id}` explains it"},
        "emaid": {"type": "string", "description": "as PaymentDetailsReq has it"},
        "fingerprint": {"type": "string", "description": "SHA-256 of the contract's own certificate"},
        "limits": {
            "type": "object",
            "description": "what the fleet allows; a limit that is left out there is none. Keep the session to it",
            "properties": {
                "max_energy_wh": {"type": "integer"},
                "max_duration_s": {"type": "integer"},
                "target_soc_percent": {"type": "integer"},
                "max_cost": {"type": "object"},
            },
        },
        "chain": CHAIN,
        "fragment": {**BINARY, "description": "the canonical EXI of the signed element"},
        "signed_info": {**BINARY, "description": "the canonical EXI of SignedInfo"},
        "references": {"type": "array"},
        "signature": {**BINARY, "description": "r || s, ECDSA on P-256 with SHA-256"},
        "obstruction": {"type": "string"},
        "detail": {"type": "string"},
        "reasons": {"type": "array", "description": "the fleet's, when it was the policy that refused"},
        "needs": {"type": "array", "items": {"enum": ["pin", "odometer"]}},
        "explanation": {"type": "array", "items": {"type": "string"}},
    },
}
INSTALLED = {
    "type": "object",
    "required": ["installed"],
    "properties": {
        "installed": {"type": "boolean"},
        "repeated": {"type": "boolean"},
        "fingerprint": {"type": "string"},
        "obstacle": {"type": "string"},
        "detail": {"type": "string"},
        "flaws": {"type": "array"},
    },
}
VERDICT = {
    "type": "object",
    "required": ["outcome", "codes", "flaws", "doubts"],
    "properties": {
        "outcome": {"enum": ["refused", "possession_unproven", "authorised"]},
        "codes": {
            "type": "object",
            "properties": {"iso15118-2": {"type": "string"}, "iso15118-20": {"type": "string"}},
        },
        "flaws": {"type": "array"},
        "doubts": {"type": "array"},
    },
}
