"""The local API's OpenAPI 3.1 description: shapes of the requests from their models in api.py, answers by hand.

A test compares its paths with the routes that are served.
"""

from __future__ import annotations

from typing import Any

from agent.contracts import descriptions as contracts

_DECISION = {
    "type": "object",
    "required": ["outcome", "needs", "decision", "session", "reasons"],
    "properties": {
        "outcome": {"enum": ["granted", "refused", "needs_input"]},
        "needs": {"type": "array", "items": {"enum": ["pin", "odometer"]}},
        "decision": {"type": "string", "description": "UUIDv7; `GET /v1/decisions/{id}` explains it"},
        "session": {"type": ["string", "null"]},
        "override": {"type": ["string", "null"], "description": "the one-time override that this used up"},
        "reasons": {
            "type": "array",
            "items": {
                "type": "object",
                "properties": {name: {"type": "string"} for name in ("code", "rule", "observed", "limit")},
            },
        },
    },
}
_ERROR = {"type": "object", "required": ["error"], "properties": {"error": {"type": "string"}}}
_OBJECT = {"type": "object"}
_LIMIT = {"name": "limit", "in": "query", "schema": {"type": "integer", "minimum": 1, "maximum": 1000}}


def description(version: str, bodies: dict[str, dict[str, Any]]) -> dict[str, Any]:
    """`bodies` maps an operation ("post /v1/taps") to the JSON Schema of its request body."""
    paths: dict[str, dict[str, Any]] = {
        "/openapi.json": {"get": operation("This description", _OBJECT)},
        "/v1/status": {
            "get": operation("How the service is: clock, policy, journal, link, devices, sessions", _OBJECT)
        },
        "/v1/sessions": {"get": operation("Open sessions, then the newest that ended", _OBJECT, parameters=[_LIMIT])},
        "/v1/decisions/{id}": {
            "get": operation(
                "One decision with all its reasons, by id or support reference", _OBJECT, parameters=[path("id")]
            )
        },
        "/v1/evidence/{session}": {
            "get": operation(
                "What proves a session beside its records: their range, the device's key, the fleet's signed documents",
                _OBJECT,
                parameters=[path("session")],
            )
        },
        "/v1/decisions": {"post": operation("May this card charge here? Recorded; nothing is started", _DECISION)},
        "/v1/taps": {"post": operation("A tap without a card: decided, recorded and carried out", _DECISION)},
        "/v1/overrides": {
            "post": operation(
                "Signed one-time overrides, one a line, where there is no signal: all are taken or none",
                _OBJECT,
                status="202",
            )
        },
        "/v1/chargers/{name}/events": {
            "post": operation(
                "A charger that the gateway's own software drives reports (profile = api)",
                _OBJECT,
                parameters=[path("name")],
                status="202",
            )
        },
        "/v1/position": {
            "put": operation("Where the vehicle is, measured by the gateway's own software", _OBJECT, status="202")
        },
        "/v1/contracts": {
            "get": operation("The ISO 15118 contracts in the vehicle's wallet, with states", contracts.LIST)
        },
        "/v1/contracts/sign-authorization": {
            "post": operation(
                "Sign an AuthorizationReq if the fleet's policy permits; the decision is recorded first, "
                "and each challenge is signed once",
                contracts.SIGNED,
            )
        },
        "/v1/contracts/sign-installation": {
            "post": operation("Sign a CertificateInstallationReq with the vehicle's own key", contracts.SIGNED)
        },
        "/v1/contracts/install": {
            "post": operation("Verify a CertificateInstallationRes whole and keep its contract", contracts.INSTALLED)
        },
        "/v1/contracts/sign-receipt": {
            "post": operation(
                "In a session that goes on: sign a MeteringReceiptReq when the fleet's policy permits it",
                contracts.SIGNED,
            )
        },
        "/v1/contracts/session-ended": {
            "post": operation(
                "The session for which a contract signed has ended. Until this is told the contract and the vehicle "
                "count as charging: at most `contracts.session_hours`, or as long as the fleet lets a session last",
                _OBJECT,
            )
        },
        "/v1/contracts/remove": {"post": operation("Destroy a contract's key and forget the contract", _OBJECT)},
        "/v1/contracts/verify": {
            "post": operation("Judge a contract that a vehicle shows to a charger, offline", contracts.VERDICT)
        },
        "/v1/journal": {
            "get": operation(
                "Sealed records in sequence, exact bytes as strings; a negative `after` counts from the end",
                _OBJECT,
                parameters=[{"name": "after", "in": "query", "schema": {"type": "integer"}}, _LIMIT],
            )
        },
        "/v1/journal/export": {"post": operation("A consistent copy of the journal as one SQLite file", _OBJECT)},
        "/v1/events": {
            "get": operation(
                "JSON lines for as long as one listens: each record as it is sealed, and commands for api chargers",
                {"type": "string"},
                media="application/x-ndjson",
            )
        },
    }
    for name, schema in bodies.items():
        method, _, where = name.partition(" ")
        paths[where][method]["requestBody"] = {"required": True, "content": {"application/json": {"schema": schema}}}
    return {
        "openapi": "3.1.0",
        "info": {
            "title": "roamkey local API",
            "version": version,
            "description": "HTTP on a Unix socket; access by its file mode. Nothing listens on a network port.",
            "license": {"name": "Apache-2.0", "identifier": "Apache-2.0"},
        },
        "paths": paths,
    }


def operation(
    summary: str,
    answer: dict[str, Any],
    *,
    parameters: list[dict[str, Any]] | None = None,
    status: str = "200",
    media: str = "application/json",
) -> dict[str, Any]:
    return {
        "summary": summary,
        **({"parameters": parameters} if parameters else {}),
        "responses": {
            status: {"description": "done", "content": {media: {"schema": answer}}},
            "default": {"description": "refused", "content": {"application/json": {"schema": _ERROR}}},
        },
    }


def path(name: str) -> dict[str, Any]:
    return {"name": name, "in": "path", "required": True, "schema": {"type": "string"}}
