"""Looks at the TLS certificate now and then, and says in good time on board and log that it ends.

Judging a certificate is agent/certificates.py; a broker that refuses it is told by the link (sync/tls.py).
"""

from __future__ import annotations

import asyncio
import logging
from dataclasses import dataclass
from datetime import datetime
from pathlib import Path
from typing import TYPE_CHECKING

from agent.board import Board, Health
from agent.clock import Clock
from sync.repeats import Repeats
from sync.tls import Tls

if TYPE_CHECKING:
    from agent.certificates import Certificate

log = logging.getLogger("roamkey")

LOOK_EVERY_S = 3600.0
MISSING = "missing"
UNREADABLE = "unreadable"
# One alarm at a time: the state it stands for is its end. The first three are those of certificates.Standing.
ALARMS: dict[str, str] = {
    "expiring": "certificate-expiring",
    "expired": "certificate-expired",
    "not yet valid": "certificate-not-yet-valid",
    MISSING: "certificate-missing",
    UNREADABLE: "certificate-unreadable",
}


@dataclass(frozen=True, slots=True, kw_only=True)
class Look:
    """What was found. `state` is a Standing, "missing" or "unreadable"; `detail` says what to do."""

    state: str
    detail: str
    certificate: Certificate | None = None


def inspect(path: Path, now: datetime) -> Look:
    # X.509 is large, and not needed to decide: it is loaded after the start.
    from agent.certificates import CertificateError, Standing, read_all

    try:
        certificate = read_all(path.read_bytes())[0]
    except FileNotFoundError:
        return Look(state=MISSING, detail=f"{path} is not there: `roamkey enrol` makes a key and a request")
    except (OSError, CertificateError) as error:
        return Look(state=UNREADABLE, detail=f"{path} cannot be used: {error}")
    standing, days = certificate.standing(now), certificate.days_left(now)
    until = f"{certificate.name}, issued by {certificate.issuer}, until {certificate.not_after:%Y-%m-%d %H:%M} UTC"
    match standing:
        case Standing.GOOD:
            detail = f"{until}, {days} days left"
        case Standing.EXPIRING:
            detail = f"{until}, {days} days left: renew it with `roamkey enrol --renew`"
        case Standing.EXPIRED:
            detail = f"{until}: it has expired, renew it with `roamkey enrol --renew`"
        case Standing.NOT_YET_VALID:
            detail = f"{until}: it is not valid before {certificate.not_before:%Y-%m-%d}, check this device's clock"
    return Look(state=standing.value, detail=detail, certificate=certificate)


class CertificateWatch:
    """Keeps `board.certificate` and its alarm true, every hour and whenever `look` is called."""

    def __init__(self, tls: Tls, board: Board, clock: Clock) -> None:
        self._tls = tls
        self._board = board
        self._clock = clock
        self._repeats = Repeats(say_again_s=24 * 3600.0)

    async def run(self) -> None:
        while True:
            await self.look()
            await asyncio.sleep(LOOK_EVERY_S)

    async def look(self) -> None:
        """Reads a file, so in a thread."""
        if self._tls.certfile is None:
            return
        now = self._clock.now()
        seen = await asyncio.to_thread(inspect, self._tls.certfile, now.latest)
        self._board.certificate = Health(state=seen.state, detail=seen.detail, since=now.utc)
        for code in ALARMS.values():
            self._board.alarms.pop(code, None)
        if seen.state in ALARMS:
            self._board.alarms[ALARMS[seen.state]] = seen.detail
            log.log(self._repeats.level(seen.detail, logging.WARNING), "certificate is %s: %s", seen.state, seen.detail)
        else:
            self._repeats.forget()
