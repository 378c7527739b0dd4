"""A fleet that has published several revisions, each kept as a folder, and a device that goes from one to the next."""

from __future__ import annotations

import shutil
from pathlib import Path

from agent.cache.cache import PolicyCache, Refused
from sync.carriers import FolderCarrier
from tests.policy_bundle.conftest import KEY, AFleet, at

REVISIONS = 6
NAME = "meadow"


def found(folder: Path) -> Path:
    """Revision after revision; what the device is given beforehand lies beside them."""
    fleet = AFleet(folder / "office", NAME)
    for number in range(1, REVISIONS + 1):
        fleet.publishes(hours=number)
        shutil.copytree(fleet.repository, folder / f"revision-{number}")
    (folder / "root.json").write_bytes(fleet.root)
    (folder / "token.key").write_bytes(KEY)
    return folder


def a_cache(state: Path, fleet: Path) -> PolicyCache:
    root = (fleet / "root.json").read_bytes()
    return PolicyCache(state / "policy", fleet=NAME, root=root, key=KEY, now=at(REVISIONS))


def revision_of(cache: PolicyCache) -> int:
    return cache.active.policy.revision if cache.active is not None else 0


async def next_revision(cache: PolicyCache, fleet: Path) -> int:
    """In force, durably, on return."""
    number = next(n for n in range(1, REVISIONS + 1) if not _has(cache, n))
    result = await cache.update(FolderCarrier(fleet / f"revision-{number}"), at(REVISIONS))
    assert not isinstance(result, Refused), f"revision {number} was refused: {result}"
    return revision_of(cache)


def _has(cache: PolicyCache, number: int) -> bool:
    """The publisher counts its root's revision, too: the n-th published is revision n + 1."""
    return revision_of(cache) >= number + 1
