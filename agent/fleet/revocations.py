"""Cards that the fleet has revoked, whatever its files say: kept beside the keys, and part of every bundle.

    revoked.json    reference of the token to {"at": ..., "why": ..., "label": ...}; never a UID

Blocking a card in tokens.csv is for good order and can be taken back there; this is for a card that is lost or stolen,
now, from a machine that need not have the files.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass
from datetime import datetime
from pathlib import Path
from typing import Any

from agent.cache.documents import MAX_REVOKED, POLICY, REVOKED, SCHEMA
from agent.files import replace_durably
from agent.fleet.source import Wrong, encoded, reference_of
from sync.backend.publisher import PublisherError


class NoSuchToken(Exception):
    """Nothing published is called so; the text says what there is."""


@dataclass(frozen=True, slots=True)
class Revocations:
    path: Path

    def read(self) -> dict[str, dict[str, str]]:
        try:
            found = json.loads(self.path.read_bytes())
        except FileNotFoundError:
            return {}
        except ValueError as error:
            raise PublisherError(
                f"{self.path} cannot be read ({error}): restore it, or lost cards charge again"
            ) from error
        if not isinstance(found, dict):
            raise PublisherError(f"{self.path} is no list of revoked cards: restore it, or lost cards charge again")
        return found

    def add(self, reference: str, *, at: datetime, why: str, label: str) -> bool:
        """False when it is revoked already. Durable on return."""
        revoked = self.read()
        if reference in revoked:
            return False
        if len(revoked) >= MAX_REVOKED:
            raise PublisherError(f"{MAX_REVOKED} cards are revoked: lift those that are no longer in the fleet's files")
        revoked[reference] = {"at": f"{at:%Y-%m-%dT%H:%M:%SZ}", "why": why, "label": label}
        self._write(revoked)
        return True

    def lift(self, reference: str) -> bool:
        revoked = self.read()
        if revoked.pop(reference, None) is None:
            return False
        self._write(revoked)
        return True

    def part(self) -> dict[str, bytes]:
        """For the bundle; nothing when nothing is revoked."""
        revoked = self.read()
        return {REVOKED: encoded({"schema": SCHEMA, "revoked": sorted(revoked)})} if revoked else {}

    def _write(self, revoked: Mapping[str, Any]) -> None:
        replace_durably(self.path, json.dumps(revoked, indent=1, sort_keys=True).encode())


def find_reference(bodies: Mapping[str, bytes], name: str, token_key: bytes) -> tuple[str, str]:
    """(reference, label) of a published card, by its label or number; also of a number that nobody has published."""
    by_reference = {
        each["reference"]: each["label"]
        for part, body in bodies.items()
        if part.startswith("tokens/")
        for each in json.loads(body)["tokens"]
    }
    for kind in ("uid", "emaid"):
        named = reference_of(name, kind, token_key)
        if not isinstance(named, Wrong):
            return named, by_reference.get(named, "")
    found = [reference for reference, label in by_reference.items() if label == name]
    if len(found) != 1:
        raise NoSuchToken(f"{len(found)} published cards are called {name!r}: give the card's number")
    return found[0], name


def reissued(bodies: Mapping[str, bytes], *, revision: int, issued: datetime) -> dict[str, bytes]:
    """The same bundle under its new number."""
    if POLICY not in bodies:
        raise PublisherError("nothing is published yet: roamkey fleet publish")
    policy = json.loads(bodies[POLICY]) | {"revision": revision, "issued": f"{issued:%Y-%m-%dT%H:%M:%SZ}"}
    return {name: body for name, body in bodies.items() if name != REVOKED} | {POLICY: encoded(policy)}
