"""The receiver's desk for budgets: follow the records that were stored, and sign what each device may spend.

What is lent is decided in the ledger; here are the file names and the key. A grant is retained and says everything, so
losing one, or sending it twice, changes nothing.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path

from sync import signing
from sync.backend.budgets import Terms
from sync.backend.checkpoints import Keys
from sync.backend.ledger import Ledger
from sync.grants import GRANT_TYP, Grant


@dataclass(frozen=True, slots=True, kw_only=True)
class LendingSettings:
    """`signing_key` is a PEM file: a service key that may grant. `witness` should lie where no backup is put back."""

    budgets: tuple[Terms, ...]
    ledger: Path
    signing_key: Path
    witness: Path | None = None


class Lending:
    def __init__(
        self,
        settings: LendingSettings,
        *,
        fleet: str,
        records: Path,
        keys: Callable[[str], Keys | None] = lambda device: None,
        clock: Callable[[], datetime] = lambda: datetime.now(UTC),
    ) -> None:
        self._records = records
        self._clock = clock
        self._key = signing.load(settings.signing_key.read_bytes())
        self._ledger = Ledger(settings.ledger, settings.budgets, fleet=fleet, witness=settings.witness, keys=keys)

    def close(self) -> None:
        self._ledger.close()

    def all(self) -> list[tuple[str, bytes]]:
        """(device, signed grant) of everybody, after what was stored meanwhile is counted."""
        self._ledger.follow(self._records, self._clock())
        return [self._signed(grant) for grant in self._ledger.grants()]

    def changed(self, touched: Iterable[tuple[str, str]]) -> list[tuple[str, bytes]]:
        """Of these journals; (device, signed grant) where it is another than before."""
        return [self._signed(grant) for grant in self._ledger.follow(self._records, self._clock(), touched=touched)]

    def _signed(self, grant: Grant) -> tuple[str, bytes]:
        claims = grant.to_claims(issued_at_s=int(self._clock().timestamp()))
        return grant.device, signing.sign(claims, self._key, typ=GRANT_TYP).encode()
