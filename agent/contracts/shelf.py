"""The wallet's contracts on disk: one small file that is replaced whole, so that one rename is the pointer swap.

The file holds what is public of each contract, the names of the keys, and the marks against roll-back. The keys
themselves are the key store's.
"""

from __future__ import annotations

import base64
import json
from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import datetime
from pathlib import Path
from typing import Any

from agent.core.contracts.contract import Contract
from agent.core.contracts.emaid import read_emaid
from agent.core.contracts.trust import RevocationKey
from agent.files import replace_durably

SCHEMA = 1


class ShelfDamaged(Exception):
    """The file exists and cannot be read; says where, and what to do."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Mark:
    """The newest certificate of one contract that was ever installed. It outlives the contract itself."""

    not_before: datetime
    serial: int
    fingerprint: str


@dataclass(frozen=True, slots=True, kw_only=True)
class Shelf:
    contracts: tuple[Contract, ...] = ()
    marks: Mapping[str, Mark] = field(default_factory=dict)


def read_shelf(path: Path) -> Shelf:
    try:
        text = path.read_bytes()
    except FileNotFoundError:
        return Shelf()
    try:
        document = json.loads(text)
        if document["schema"] != SCHEMA:
            raise ValueError(f"schema {document['schema']}, this version reads {SCHEMA}")
        return Shelf(
            contracts=tuple(_contract(each) for each in document["contracts"]),
            marks={emaid: _mark(each) for emaid, each in document["marks"].items()},
        )
    except (ValueError, KeyError, TypeError, AttributeError) as error:
        raise ShelfDamaged(
            f"the contracts' file {path} cannot be read ({type(error).__name__}: {error}): "
            "restore it, or move it away and install the contracts again"
        ) from error


def write_shelf(path: Path, shelf: Shelf) -> None:
    """Durable on return; a crash leaves the old file or the new one."""
    document = {
        "schema": SCHEMA,
        "contracts": [_contract_document(each) for each in shelf.contracts],
        "marks": {emaid: _mark_document(each) for emaid, each in shelf.marks.items()},
    }
    replace_durably(path, json.dumps(document, indent=1).encode() + b"\n", mode=0o600)


def _contract_document(contract: Contract) -> dict[str, Any]:
    return {
        "emaid": contract.emaid.canonical + (contract.emaid.check or ""),
        "chain": [base64.b64encode(each).decode("ascii") for each in contract.chain],
        "fingerprint": contract.fingerprint,
        "serial": format(contract.serial, "x"),
        "issuer": contract.issuer,
        "not_before": contract.not_before.isoformat(),
        "not_after": contract.not_after.isoformat(),
        "installed": contract.installed.isoformat(),
        "key": contract.key,
        "priority": contract.priority,
        "revocation_keys": sorted([each.issuer_key_hash, each.serial] for each in contract.revocation_keys),
    }


def _contract(document: Mapping[str, Any]) -> Contract:
    return Contract(
        emaid=read_emaid(document["emaid"]),
        chain=tuple(base64.b64decode(each, validate=True) for each in document["chain"]),
        fingerprint=document["fingerprint"],
        serial=int(document["serial"], 16),
        issuer=document["issuer"],
        not_before=_moment(document["not_before"]),
        not_after=_moment(document["not_after"]),
        installed=_moment(document["installed"]),
        key=document["key"],
        priority=int(document["priority"]),
        revocation_keys=frozenset(
            RevocationKey(issuer_key_hash=issuer, serial=serial) for issuer, serial in document["revocation_keys"]
        ),
    )


def _mark_document(mark: Mark) -> dict[str, Any]:
    return {
        "not_before": mark.not_before.isoformat(),
        "serial": format(mark.serial, "x"),
        "fingerprint": mark.fingerprint,
    }


def _mark(document: Mapping[str, Any]) -> Mark:
    return Mark(
        not_before=_moment(document["not_before"]),
        serial=int(document["serial"], 16),
        fingerprint=document["fingerprint"],
    )


def _moment(text: str) -> datetime:
    moment = datetime.fromisoformat(text)
    if moment.tzinfo is None:
        raise ValueError(f"{text} has no time zone")
    return moment
