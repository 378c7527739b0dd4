"""The fleet's documents about contracts as JSON become values here, and nowhere else: strict, as all of the fleet's.

`contracts/anchors.json`      {"schema": 1, "anchors": [{"role": "mo", "certificate": base64 of DER}, ...]}
`contracts/revocations.json`  {"schema": 1, "issued": RFC 3339, "revoked": [{"issuer_key_hash", "serial"}, ...],
                               "ocsp": [base64 of DER, ...], "crls": [...], "cancelled": [eMAID, ...],
                               "allowed": null or [eMAID, ...]}

Who signed them was judged before. All but schema, anchors and issued may be left out.
"""

from __future__ import annotations

import base64
import json
from collections.abc import Mapping
from dataclasses import replace
from datetime import UTC, datetime
from typing import Any

from agent.core.contracts.certificates import Unreadable, read_certificate
from agent.core.contracts.emaid import read_typed_emaid
from agent.core.contracts.trust import Anchor, RevocationKey, Role, TrustBundle

SCHEMA = 1
ANCHORS = "contracts/anchors.json"
REVOCATIONS = "contracts/revocations.json"
_HEX = frozenset("0123456789abcdef")


class TrustUnfit(Exception):
    """A document does not say what it must; the text says which and what is wrong where."""


def read_trust(bodies: Mapping[str, bytes]) -> TrustBundle:
    """From a bundle's targets, by name. Without anchors nobody is trusted; without revocations nothing is fresh."""
    bundle = TrustBundle()
    if ANCHORS in bodies:
        bundle = replace(bundle, anchors=read_anchors(bodies[ANCHORS]))
    if REVOCATIONS in bodies:
        bundle = with_revocations(bundle, bodies[REVOCATIONS])
    return bundle


def read_anchors(body: bytes) -> tuple[Anchor, ...]:
    document = _document(ANCHORS, body, required={"anchors"}, optional=set())
    return tuple(
        _anchor(f"{ANCHORS}: anchors.{index}", each)
        for index, each in enumerate(_list(f"{ANCHORS}: anchors", document["anchors"]))
    )


def with_revocations(bundle: TrustBundle, body: bytes) -> TrustBundle:
    where = REVOCATIONS
    optional = {"revoked", "ocsp", "crls", "cancelled", "allowed"}
    document = _document(where, body, required={"issued"}, optional=optional)

    def papers(name: str) -> tuple[bytes, ...]:
        return tuple(_binary(f"{where}: {name}", each) for each in _list(f"{where}: {name}", document.get(name, [])))

    def contracts(name: str) -> frozenset[str]:
        return frozenset(_emaid(f"{where}: {name}", each) for each in _list(f"{where}: {name}", document[name]))

    return replace(
        bundle,
        revoked=frozenset(
            _revocation(f"{where}: revoked.{index}", each)
            for index, each in enumerate(_list(f"{where}: revoked", document.get("revoked", [])))
        ),
        revoked_as_of=_moment(f"{where}: issued", document["issued"]),
        ocsp_responses=papers("ocsp"),
        crls=papers("crls"),
        cancelled=contracts("cancelled") if "cancelled" in document else frozenset(),
        allowed=contracts("allowed") if document.get("allowed") is not None else None,
    )


def _anchor(where: str, value: object) -> Anchor:
    document = _object(where, value, required={"role", "certificate"}, optional=set())
    try:
        return Anchor(
            certificate=read_certificate(_binary(f"{where}.certificate", document["certificate"])),
            role=Role(document["role"]),
        )
    except (Unreadable, ValueError) as error:
        raise TrustUnfit(f"{where}: {error}") from error


def _revocation(where: str, value: object) -> RevocationKey:
    document = _object(where, value, required={"issuer_key_hash", "serial"}, optional=set())
    key_hash = _hex(f"{where}.issuer_key_hash", document["issuer_key_hash"])
    serial = _hex(f"{where}.serial", document["serial"]).lstrip("0")
    if len(key_hash) != 64 or not 0 < len(serial) <= 40:
        raise TrustUnfit(f"{where}: a SHA-256 in hex and a serial of at most 20 bytes in hex are wanted")
    return RevocationKey(issuer_key_hash=key_hash, serial=serial)


def _document(where: str, body: bytes, *, required: set[str], optional: set[str]) -> Mapping[str, Any]:
    try:
        value = json.loads(body)
    except ValueError as error:
        raise TrustUnfit(f"{where}: is no JSON ({error})") from error
    document = _object(where, value, required=required | {"schema"}, optional=optional)
    if document["schema"] != SCHEMA:
        raise TrustUnfit(f"{where}: has schema {document['schema']!r}, this version reads {SCHEMA}")
    return document


def _object(where: str, value: object, *, required: set[str], optional: set[str]) -> Mapping[str, Any]:
    if not isinstance(value, dict):
        raise TrustUnfit(f"{where}: is no object")
    if missing := required - value.keys():
        raise TrustUnfit(f"{where}: lacks {', '.join(sorted(missing))}")
    if unknown := value.keys() - required - optional:
        raise TrustUnfit(f"{where}: has the unknown {', '.join(sorted(unknown))}")
    return value


def _list(where: str, value: object) -> list[object]:
    if not isinstance(value, list):
        raise TrustUnfit(f"{where}: is no list")
    return value


def _binary(where: str, value: object) -> bytes:
    try:
        return base64.b64decode(value if isinstance(value, str) else "!", validate=True)
    except ValueError as error:
        raise TrustUnfit(f"{where}: is no base64") from error


def _hex(where: str, value: object) -> str:
    text = value.lower() if isinstance(value, str) else "?"
    if not set(text) <= _HEX:
        raise TrustUnfit(f"{where}: is no hexadecimal number")
    return text


def _emaid(where: str, value: object) -> str:
    try:
        return read_typed_emaid(value if isinstance(value, str) else "").canonical
    except ValueError as error:
        raise TrustUnfit(f"{where}: {error}") from error


def _moment(where: str, value: object) -> datetime:
    try:
        moment = datetime.fromisoformat(value if isinstance(value, str) else "")
    except ValueError as error:
        raise TrustUnfit(f"{where}: is no time") from error
    if moment.tzinfo is None:
        raise TrustUnfit(f"{where}: has no time zone")
    return moment.astimezone(UTC)
