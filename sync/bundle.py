"""What both ends of the policy distribution agree on: names, signed extra fields and size limits of the repository.

The repository is a TUF repository with consistent snapshots: `metadata/timestamp.json` is its only name whose content
changes, so that a device which reads during a publication sees the old bundle or the new one. Parts are named by
their content. Making it is sync/backend/publisher.py, checking it is sync/documents.py.
"""

from __future__ import annotations

import hashlib
from collections.abc import Mapping
from dataclasses import dataclass

TIMESTAMP = "metadata/timestamp.json"

# Signed fields of ours in TUF metadata (the specification lets clients ignore what they do not know).
FLEET_FIELD = (
    "x-roamkey-fleet"  # in all four roles: the audience. Keys alone would not tell two fleets of one operator apart
)
ISSUED_FIELD = "x-roamkey-issued"  # in timestamp: when the publisher last said that this bundle is the current one

# Fetched before all other parts, and good alone: what is revoked stays so though the rest may never arrive.
FIRST_PART = "revoked.json"

MAX_ROOT_BYTES = 256 * 1024
MAX_TIMESTAMP_BYTES = 16 * 1024
MAX_SNAPSHOT_BYTES = 16 * 1024  # one entry: there are no delegations
MAX_TARGETS_BYTES = 1024 * 1024  # 256 token shards and a few documents need 60 kB
MAX_PART_BYTES = 1_900_000  # one MQTT packet as devices take it (2 MiB); 1,000,000 tokens make shards of about 1 MB
MAX_PARTS = 1024
MAX_BUNDLE_BYTES = 512 * 1024 * 1024
MAX_ROOT_ROTATIONS = 256  # in one update, as in the specification's advice against endless chains


def metadata(role: str, version: int) -> str:
    return f"metadata/{version}.{role}.json"


def part(sha256: str) -> str:
    return f"targets/{sha256}"


@dataclass(frozen=True, slots=True, kw_only=True)
class SignedBundle:
    """One bundle's metadata as it was published, and some of its parts. `root` is the version that vouches for it."""

    root: int
    timestamp: bytes
    snapshot: bytes
    targets: bytes
    parts: Mapping[str, bytes]

    @property
    def fingerprint(self) -> str:
        """What records call it by: the hash of the signed list of its parts."""
        return hashlib.sha256(self.targets).hexdigest()
