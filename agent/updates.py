"""Keeps the policy up to date: asks each carrier for a newer bundle, at a hint from the broker and every so often."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Callable, Mapping
from contextlib import suppress

from agent.cache.cache import Activated, PolicyCache, Refused, Unchanged
from agent.clock import Clock
from agent.core import observations
from agent.core.facts import PolicyRejected
from agent.core.observations import Observation
from sync.carriers import Carrier, CarrierError

log = logging.getLogger("roamkey")


class PolicyUpdates:
    """What a carrier brings is believed for its signatures only; a carrier that fails changes nothing."""

    def __init__(
        self,
        *,
        cache: PolicyCache,
        carriers: Mapping[str, Carrier],
        clock: Clock,
        tell: Callable[[Observation], None],
        activated: Callable[[], None],
        every_s: float,
    ) -> None:
        self._cache = cache
        self._carriers = carriers
        self._clock = clock
        self._tell = tell
        self._activated = activated
        self._every_s = every_s
        self._wanted = asyncio.Event()
        self._last_refusal: PolicyRejected | None = None

    def hint(self) -> None:
        """Something may be new: look now."""
        self._wanted.set()

    async def run(self) -> None:
        while True:
            self._wanted.clear()
            for name, carrier in self._carriers.items():
                await self._ask(name, carrier)
            with suppress(TimeoutError):
                async with asyncio.timeout(self._every_s):
                    await self._wanted.wait()

    async def _ask(self, name: str, carrier: Carrier) -> None:
        try:
            result = await self._cache.update(carrier, self._clock.now())
        except CarrierError as error:
            log.info("no policy from the %s now: %s", name, error)
            return
        match result:
            case Activated():
                log.info("policy revision %d is active, from the %s", result.policy.revision, name)
                self._last_refusal = None
                self._clock.raise_floor(result.policy.confirmed)
                self._tell(observations.PolicyActivated(policy=result.policy, tokens=result.tokens, announce=True))
                self._activated()
            case Unchanged():
                self._clock.raise_floor(result.policy.confirmed)
                self._tell(observations.PolicyActivated(policy=result.policy, tokens=0, announce=False))
            case Refused():
                if result.policy is not None:
                    log.info("cards are revoked by a bundle from the %s that is not complete yet", name)
                    self._tell(observations.PolicyActivated(policy=result.policy, tokens=0, announce=False))
                if result.transient:
                    log.info("no policy from the %s now: %s", name, result.detail)
                else:
                    self._refused(name, result)

    def _refused(self, name: str, refused: Refused) -> None:
        """The same refusal again is not news: a carrier that offers the same bad bundle cannot fill the journal."""
        active = self._cache.active
        fact = PolicyRejected(
            error=refused.error, detail=refused.detail, kept_revision=active.policy.revision if active else None
        )
        if fact == self._last_refusal:
            return
        self._last_refusal = fact
        log.warning("a policy bundle from the %s is refused: %s: %s", name, refused.error, refused.detail)
        self._tell(observations.Noted(fact=fact))
