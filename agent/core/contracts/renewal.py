"""When to ask for the next certificate of a contract: in good time, and less and less often while nobody answers.

Renewal is CertificateInstallation again. Asking is the vehicle's stack; it needs a charger that passes it on.
"""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime, timedelta

from agent.core.contracts.contract import Contract

BEGIN_BEFORE_END = timedelta(days=30)  # two weeks before anybody calls it "expires soon": chargers are met by chance
FIRST_WAIT = timedelta(hours=1)
LONGEST_WAIT = timedelta(days=1)


@dataclass(frozen=True, slots=True, kw_only=True)
class Attempts:
    """Of asking for this certificate's successor; what is counted begins anew with each certificate."""

    failed: int = 0
    last: datetime | None = None


def is_due(contract: Contract, moment: datetime) -> bool:
    """Whether asking for its successor at this moment is an attempt to renew it, or about something else."""
    return moment >= contract.not_after - BEGIN_BEFORE_END


def next_attempt(contract: Contract, attempts: Attempts, *, moment: datetime, chance: float) -> datetime:
    """Never before a month ahead of the end; then after 1, 2, 4 ... 24 hours, spread by `chance` (0 to 1).

    A whole fleet's contracts end on one day: the spread keeps its vehicles from asking in one hour. `moment`: what time
    it surely is. An attempt far ahead of it was dated by a clock that was wrong, and keeps nobody waiting for years.
    """
    begin = contract.not_after - BEGIN_BEFORE_END
    if attempts.last is None or attempts.last > moment + LONGEST_WAIT:
        return begin + LONGEST_WAIT * chance
    wait: timedelta = min(FIRST_WAIT * (1 << min(attempts.failed, 10)), LONGEST_WAIT)
    return max(begin, attempts.last + wait * (0.5 + 0.5 * chance))
