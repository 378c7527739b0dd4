"""What an examination of a repository is told and what it says: values only. The examiner is sync/documents.py."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from datetime import datetime, timedelta

from sync.trust_store import Trust

MAX_ISSUED_AHEAD = timedelta(days=1)  # a publisher's clock may be wrong by a zone, not by a year


@dataclass(frozen=True, slots=True, kw_only=True)
class Moment:
    """When the update is made. `latest` is the newest moment known to have passed (clock or floor).

    `clock_proven` lets a signed time that lies far ahead be noticed.
    """

    latest: datetime
    clock_proven: bool
    boot: str
    monotonic_ms: int

    def is_absurd(self, issued: datetime) -> bool:
        """Signed to be issued later than any honest mistake explains, by a clock that is known to be right."""
        return self.clock_proven and issued > self.latest + MAX_ISSUED_AHEAD


@dataclass(frozen=True, slots=True, kw_only=True)
class Part:
    sha256: str
    size_bytes: int


@dataclass(frozen=True, slots=True, kw_only=True)
class Verified:
    """Every signature, version, expiry, length and hash is right, and every part is kept. Not remembered yet.

    `roots` are the new ones that were followed on the way, oldest first.
    """

    trust: Trust
    targets: Mapping[str, Part]
    roots: tuple[bytes, ...] = ()

    @property
    def version(self) -> int:
        return self.trust.targets.version


@dataclass(frozen=True, slots=True, kw_only=True)
class Rejected:
    """`error` is a stable name (tuf's own where tuf refused). `transient`: the carrier's fault, waiting can help.

    `first`: the signed list of parts was good and the first part (bundle.py) is kept, although the rest is missing.
    """

    error: str
    detail: str
    transient: bool = False
    first: FirstPart | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class FirstPart:
    """The first part of the bundle with this version of targets, signed by these keys, which this root names."""

    sha256: str
    version: int
    keys: str
    root: int
