"""The charger's side of a contract: the pure verdict, with the fleet's trust of today and a memory that only grows."""

from __future__ import annotations

import logging
from collections.abc import Sequence
from pathlib import Path

from agent.contracts.revocations import RememberedRevocations
from agent.core.contracts.trust import DEFAULT_LADDER, Ladder, RevocationKey, TrustBundle
from agent.core.contracts.verification import Verdict, verify_chain
from agent.core.instants import Instant

log = logging.getLogger("roamkey")


class Verifier:
    """`bundle` is replaced by the shell when a new policy bundle is activated. For one thread."""

    def __init__(self, folder: Path, *, bundle: TrustBundle, ladder: Ladder = DEFAULT_LADDER) -> None:
        folder.mkdir(mode=0o700, parents=True, exist_ok=True)
        self.bundle = bundle
        self._ladder = ladder
        self._remembered = RememberedRevocations(folder / "revocations")

    @property
    def known(self) -> frozenset[RevocationKey]:
        """Every revocation that was ever proven here."""
        return self._remembered.known

    def verify(self, chain: Sequence[bytes], *, claimed: str, now: Instant, stapled: Sequence[bytes] = ()) -> Verdict:
        """A revocation that is proven here is durable before the verdict is told. When it cannot be written (a full
        disk), it is refused all the same, remembered until the service stops, and written with the next verdict."""
        verdict = verify_chain(
            chain,
            claimed=claimed,
            bundle=self.bundle,
            now=now,
            stapled=stapled,
            remembered=self._remembered.known,
            ladder=self._ladder,
        )
        try:
            self._remembered.remember(verdict.revoked)
        except OSError as error:
            log.error("contracts: a revocation cannot be written (%s): it counts until the service stops", error)
        return verdict
