"""An outbox in memory: the simulated sibling of the journal, for tests, benchmarks and trying a backend.

It seals properly chained CloudEvents, but nothing here is durable. The real outbox is a cursor over the journal.
"""

from __future__ import annotations

import asyncio
import hashlib
import json
import uuid
from collections.abc import Mapping, Sequence

from sync.ports import Head, Sealed

GENESIS = "0" * 64


class MemoryOutbox:
    """A device's journal that forgets on exit. `acknowledged` and `quarantined` show what the backend told."""

    def __init__(self, *, fleet: str, device: str, journal: str | None = None) -> None:
        self.fleet = fleet
        self.device = device
        self.journal = journal or str(uuid.uuid4())
        self.acknowledged = 0
        self.quarantined: dict[int, str] = {}
        self._first = 1
        self._bodies: list[bytes] = []
        self._hashes: list[str] = []
        self._appended = asyncio.Event()

    def seal(self, *, type: str = "io.roamkey.session.metered", **data: object) -> Sealed:
        """One fact becomes the next record."""
        return self.append(json.dumps(self._event(type, data), separators=(",", ":")).encode())

    def seal_many(self, count: int) -> None:
        for number in range(count):
            self.seal(session=f"s-{number // 20}", energy_wh=number * 10)

    def append(self, body: bytes) -> Sealed:
        """Any bytes as the next record, also such that no backend can read."""
        self._bodies.append(body)
        self._hashes.append(hashlib.sha256(body).hexdigest())
        self._appended.set()
        return Sealed(sequence=self._last, body=body)

    def rewrite(self, sequence: int) -> None:
        """Falsify history from one record on, as a technician with root could: the chain is valid, but another."""
        types = [json.loads(body)["type"] for body in self._bodies[sequence - self._first :]]
        del self._bodies[sequence - self._first :], self._hashes[sequence - self._first :]
        for type in types:
            self.seal(type=type, falsified=True)

    def prune(self, through: int) -> None:
        """Forget acknowledged records, as retention does."""
        del self._bodies[: through - self._first + 1], self._hashes[: through - self._first + 1]
        self._first = through + 1

    def body(self, sequence: int) -> bytes:
        return self._bodies[sequence - self._first]

    async def heads(self) -> Sequence[Head]:
        return [await self.head()]

    async def head(self) -> Head:
        return Head(
            journal=self.journal,
            first=self._first,
            last=self._last,
            hash=self._hashes[-1] if self._hashes else "",
            acknowledged=self.acknowledged,
        )

    async def read(self, after: int, *, records: int, size_bytes: int, journal: str | None = None) -> list[Sealed]:
        page: list[Sealed] = []
        room = size_bytes
        for sequence in range(max(after + 1, self._first), self._last + 1):
            body = self.body(sequence)
            room -= len(body)
            if len(page) == records or (page and room < 0):
                break
            page.append(Sealed(sequence=sequence, body=body))
        return page

    async def hash_at(self, sequence: int, *, journal: str | None = None) -> str | None:
        return self._hashes[sequence - self._first] if self._first <= sequence <= self._last else None

    async def acknowledge(self, *, journal: str, through: int, quarantined: Mapping[int, str]) -> None:
        if journal == self.journal:
            self.acknowledged = max(self.acknowledged, through)
            self.quarantined.update(quarantined)

    async def changed(self) -> None:
        await self._appended.wait()
        self._appended.clear()

    @property
    def _last(self) -> int:
        return self._first + len(self._bodies) - 1

    def _event(self, type: str, data: Mapping[str, object]) -> dict[str, object]:
        sequence = self._last + 1
        return {
            "specversion": "1.0",
            "id": str(uuid.uuid4()),
            "source": f"/fleets/{self.fleet}/devices/{self.device}",
            "type": type,
            "time": "2026-01-01T00:00:00Z",
            "datacontenttype": "application/json",
            "sequence": str(sequence),
            "journal": self.journal,
            "previous": self._hashes[-1] if self._hashes else GENESIS,
            "data": dict(data),
        }
