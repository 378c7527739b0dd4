"""What the delivery asks of its surroundings: an outbox to read from, and the events it tells.

Here are only shapes. The journal behind the outbox belongs to the application; the sibling that keeps records in
memory is `sync.memory_outbox`; who fetches documents is in `sync.carriers`.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Protocol

from sync.grants import Grant


@dataclass(frozen=True, slots=True, kw_only=True)
class Sealed:
    """One record: its sequence and the exact bytes that were sealed. They are never re-serialised."""

    sequence: int
    body: bytes


@dataclass(frozen=True, slots=True, kw_only=True)
class Head:
    """Where a journal stands. `hash` is the hex SHA-256 of the last record's bytes, "" while it is empty.

    `lost`: ranges between `first` and `last` that this device can no longer read, and never will; never empty while
    there are any.
    """

    journal: str
    first: int
    last: int
    hash: str
    acknowledged: int
    lost: tuple[tuple[int, int], ...] = ()


class OutboxBusy(Exception):
    """An acknowledgement could not be made durable now (a full disk): nothing changed, it may be told again."""


class Outbox(Protocol):
    """A cursor over journals. Acknowledged records may still be readable: a restored backend asks for them."""

    async def heads(self) -> Sequence[Head]:
        """The journal that is written now, then earlier ones of this device that can still be read; at most 8."""
        ...

    async def read(self, after: int, *, records: int, size_bytes: int, journal: str | None = None) -> list[Sealed]:
        """Records after a sequence, in order; at least one if there is any, however large it is. Of the journal that
        is written now, or of the one named."""
        ...

    async def hash_at(self, sequence: int, *, journal: str | None = None) -> str | None:
        """Hex SHA-256 of that record's bytes; None when the journal does not hold it (any more)."""
        ...

    async def acknowledge(self, *, journal: str, through: int, quarantined: Mapping[int, str]) -> None:
        """Durable on return; never moves backwards. Raises OutboxBusy."""
        ...

    async def changed(self) -> None:
        """Return as soon as something was appended since the last call returned."""
        ...


@dataclass(frozen=True, slots=True, kw_only=True)
class Connected:
    """The broker accepted us. `protocol` is "5" or "3.1.1"; `encrypted` is False on a plain connection.

    `former_certificate`: it accepted the certificate of before the renewal, and not (yet) the new one.
    """

    protocol: str
    encrypted: bool
    former_certificate: bool = False


@dataclass(frozen=True, slots=True, kw_only=True)
class Disconnected:
    """The connection ended, or never stood."""

    reason: str


@dataclass(frozen=True, slots=True, kw_only=True)
class Acknowledged:
    """The backend has every record up to `through` in its store, and signed that."""

    journal: str
    through: int


@dataclass(frozen=True, slots=True, kw_only=True)
class Quarantined:
    """One record is kept aside with a reason (by the backend, or here because it cannot travel)."""

    journal: str
    sequence: int
    reason: str


@dataclass(frozen=True, slots=True, kw_only=True)
class Alarm:
    """Something a technician should see; `text` says what happened and what to do. The codes:

    broker-certificate-expired, broker-certificate-not-yet-valid, broker-name-wrong, broker-untrusted: the broker's
        certificate does not verify; nothing is said to it.
    certificate-refused, connection-refused: the broker does not let us in.
    tls-files: a certificate or key file is missing or damaged.
    no-receiver, quota-exceeded, refused-by-broker: the records stay here, it is tried again.
    no-service-keys: no bundle names the backend's keys yet, so nobody can be believed; nothing is trimmed.
    grant-refused: somebody grants budgets in the backend's place; nothing is taken.
    ack-refused, ack-for-another, ack-wrong-journal: somebody answers in the backend's place; nothing is trimmed.
    fork, backend-ahead: this journal and the backend's differ; nothing is trimmed or sent until it is resolved.
    acknowledgement-waits: no room to note here what the backend has; it will say so again.
    record-too-large, not-a-line: one record cannot travel and is withheld; the others go on.
    """

    code: str
    text: str


@dataclass(frozen=True, slots=True, kw_only=True)
class AlarmOver:
    """What that alarm said is so no longer."""

    code: str


# Over as soon as a connection stands.
CONNECTING_ALARMS = frozenset(
    {
        "broker-certificate-expired",
        "broker-certificate-not-yet-valid",
        "broker-name-wrong",
        "broker-untrusted",
        "certificate-refused",
        "connection-refused",
        "tls-files",
    }
)
# Over as soon as the backend answers: with where to resume, or with what it has stored.
DELIVERY_ALARMS = frozenset({"no-receiver", "no-service-keys", "quota-exceeded", "refused-by-broker"})


@dataclass(frozen=True, slots=True, kw_only=True)
class AnswerCame:
    """Somebody answers a live question (sync/questions.py). Not trusted yet."""

    token: bytes


@dataclass(frozen=True, slots=True, kw_only=True)
class OverridesCame:
    """Somebody sends one-time overrides, one a line (sync/overrides.py). Not trusted yet."""

    payload: bytes


@dataclass(frozen=True, slots=True, kw_only=True)
class PolicyHint:
    """The fleet's policy timestamp changed (hex SHA-256 of its bytes): a refresh is worth it. Not trusted."""

    timestamp: str


@dataclass(frozen=True, slots=True, kw_only=True)
class Granted:
    """The leases that the backend counts as ours, signed by it. Retained, so it comes again with each connection."""

    grant: Grant


@dataclass(frozen=True, slots=True, kw_only=True)
class Diverged:
    """The backend holds another continuation of this journal; both hold the same up to `agreed`.

    Signed by the backend, so no broker can say it. Nothing of the journal is sent any more: its owner goes on under
    a new journal id.
    """

    journal: str
    agreed: int
    backend_through: int


UplinkEvent = (
    Connected
    | Disconnected
    | Acknowledged
    | Quarantined
    | Alarm
    | AlarmOver
    | PolicyHint
    | Granted
    | Diverged
    | AnswerCame
    | OverridesCame
)
