"""How often a contract's successor was asked for in vain, also across restarts: a van is switched off every evening.

When to ask next is agent/core/contracts/renewal.py. What is written here is a courtesy to the provisioning service:
a file that is damaged or cannot be written is told in the log, and stops no renewal.
"""

from __future__ import annotations

import json
import logging
from collections.abc import Iterable
from dataclasses import replace
from datetime import datetime
from pathlib import Path

from agent.core.contracts.contract import Contract
from agent.core.contracts.renewal import Attempts, is_due
from agent.files import replace_durably

log = logging.getLogger("roamkey")


class Renewals:
    """Attempts by the fingerprint of the certificate that is to be renewed."""

    def __init__(self, path: Path) -> None:
        self._path = path
        self._attempts = _read(path)

    def of(self, fingerprint: str) -> Attempts:
        return self._attempts.get(fingerprint, Attempts())

    def asked(self, contracts: Iterable[Contract], *, at: datetime) -> None:
        """Once more for those that are due; what is no longer in the wallet is forgotten."""
        before = {each: self.of(each.fingerprint) for each in contracts}
        self._attempts = {
            each.fingerprint: replace(attempts, failed=attempts.failed + 1, last=at) if is_due(each, at) else attempts
            for each, attempts in before.items()
        }
        try:
            replace_durably(self._path, _document(self._attempts))
        except OSError as error:
            log.warning(
                "contracts: %s cannot be written (%s): after a restart renewal may ask too soon", self._path, error
            )


def _document(attempts: dict[str, Attempts]) -> bytes:
    told = {
        fingerprint: {"failed": each.failed, "last": None if each.last is None else each.last.isoformat()}
        for fingerprint, each in attempts.items()
    }
    return json.dumps(told, indent=1).encode()


def _read(path: Path) -> dict[str, Attempts]:
    try:
        return {
            str(fingerprint): Attempts(failed=int(each["failed"]), last=_moment(each["last"]))
            for fingerprint, each in json.loads(path.read_bytes()).items()
        }
    except FileNotFoundError:
        return {}
    except (OSError, ValueError, KeyError, TypeError, AttributeError, RecursionError) as error:
        log.warning("contracts: %s cannot be read (%s): renewals are counted anew", path, type(error).__name__)
        return {}


def _moment(text: str | None) -> datetime | None:
    if text is None:
        return None
    moment = datetime.fromisoformat(text)
    if moment.tzinfo is None:
        raise ValueError("a time without its zone")
    return moment
