"""The small messages around the records: hello, acknowledgement, status. Untrusted bytes become values here.

The records themselves are opaque here; batches of them are in `sync.batch`, signatures in `sync.signing`.
"""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

ACK_TYP = "roamkey-ack+jwt"
# More ranges or reasons than this are told in a later acknowledgement.
MAX_RANGES = 100
MAX_QUARANTINED = 200
MAX_REASON_CHARS = 300
MAX_CODECS = 16
MAX_LOST = 1000
MAX_MARKS = 100
_MAX_MESSAGE_BYTES = 256 * 1024
_MAX_SEQUENCE = 2**63 - 1


class BadMessage(ValueError):
    """The bytes are not such a message; the text says what is wrong with them."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Withheld:
    """A record that cannot travel to this backend. Its hash keeps the chain provable around it."""

    hash: str
    reason: str


@dataclass(frozen=True, slots=True, kw_only=True)
class Hello:
    """What a device holds of one journal, told after each connect. `nonce` binds the answers to this connection.

    `lost` are ranges that the device can no longer read. `marks` are hashes of some of its records, when the two
    journals differ: the answer's `agreed` names the newest of them that the backend holds with the same hash.
    """

    nonce: str
    journal: str
    first: int
    last: int
    hash: str
    withheld: Mapping[int, Withheld] = field(default_factory=dict)
    lost: tuple[tuple[int, int], ...] = ()
    marks: Mapping[int, str] = field(default_factory=dict)

    def to_bytes(self) -> bytes:
        return greeting([self])

    def to_entry(self) -> dict[str, Any]:
        journal: dict[str, Any] = {
            "journal": self.journal,
            "first": self.first,
            "last": self.last,
            "hash": self.hash,
        }
        if self.withheld:
            journal["withheld"] = {
                str(sequence): {"hash": record.hash, "reason": record.reason}
                for sequence, record in self.withheld.items()
            }
        if self.lost:
            journal["lost"] = [list(ends) for ends in self.lost]
        if self.marks:
            journal["marks"] = {str(sequence): hash for sequence, hash in self.marks.items()}
        return journal


@dataclass(frozen=True, slots=True, kw_only=True)
class Acknowledgement:
    """Everything up to `through` is durable at the backend, and `hash` is what it holds at `through`.

    `answers_hello` marks the answer that tells where to resume; any other one only moves forward. `resend` are
    ranges that are missing behind newer ones; `quarantined` are kept aside there with a reason and count as handled;
    `fork` is the next sequence when what came for it does not continue what the backend holds; `agreed`, in the answer
    to a hello with marks, is the newest mark that is the same here (0: none is). `unpacks`, in the answer to a hello,
    are the codecs that this backend takes apart besides plain and zlib, which every one does.
    """

    fleet: str
    device: str
    journal: str
    nonce: str
    through: int
    hash: str
    answers_hello: bool = False
    resend: tuple[tuple[int, int], ...] = ()
    fork: int | None = None
    agreed: int | None = None
    unpacks: tuple[str, ...] = ()
    quarantined: Mapping[int, str] = field(default_factory=dict)

    def to_claims(self, *, issued_at_s: int) -> dict[str, Any]:
        claims: dict[str, Any] = {
            "fleet": self.fleet,
            "device": self.device,
            "journal": self.journal,
            "nonce": self.nonce,
            "through": self.through,
            "hash": self.hash,
            "hello": self.answers_hello,
            "resend": [list(ends) for ends in self.resend[:MAX_RANGES]],
            "quarantined": {
                str(sequence): reason[:MAX_REASON_CHARS]
                for sequence, reason in list(self.quarantined.items())[:MAX_QUARANTINED]
            },
            "iat": issued_at_s,
        }
        if self.fork is not None:
            claims["fork"] = self.fork
        if self.agreed is not None:
            claims["agreed"] = self.agreed
        if self.unpacks:
            claims["unpacks"] = list(self.unpacks)
        return claims


def greeting(hellos: Sequence[Hello]) -> bytes:
    """One message for all journals of a device; they share the nonce."""
    return _dump({"nonce": hellos[0].nonce, "journals": [hello.to_entry() for hello in hellos]})


def parse_hello(payload: bytes) -> tuple[Hello, ...]:
    """One Hello for each journal that the device names."""
    message = _load(payload)
    nonce = _text(message, "nonce", 64)
    journals = message.get("journals")
    if not isinstance(journals, list) or not 1 <= len(journals) <= 8:
        raise BadMessage("journals must be a list of 1 to 8")
    hellos = []
    for journal in journals:
        if not isinstance(journal, dict):
            raise BadMessage("a journal must be an object")
        withheld = journal.get("withheld", {})
        if not isinstance(withheld, dict) or len(withheld) > 10_000:
            raise BadMessage("withheld must be an object of at most 10000")
        lost, marks = journal.get("lost", []), journal.get("marks", {})
        if not isinstance(lost, list) or len(lost) > MAX_LOST:
            raise BadMessage(f"lost must be a list of at most {MAX_LOST}")
        if not isinstance(marks, dict) or len(marks) > MAX_MARKS:
            raise BadMessage(f"marks must be an object of at most {MAX_MARKS}")
        hellos.append(
            Hello(
                nonce=nonce,
                journal=_text(journal, "journal", 64),
                first=_number(journal.get("first"), "first"),
                last=_number(journal.get("last"), "last"),
                hash=_hash(journal.get("hash")),
                withheld={_sequence(name): _withheld(value) for name, value in withheld.items()},
                lost=tuple(_range(ends, "lost") for ends in lost),
                marks={_sequence(name): _hash(value) for name, value in marks.items()},
            )
        )
    return tuple(hellos)


def parse_acknowledgement(claims: Mapping[str, Any]) -> Acknowledgement:
    """The claims of a token whose signature has been verified. Unknown claims are ignored."""
    resend = claims.get("resend", [])
    quarantined = claims.get("quarantined", {})
    if not isinstance(resend, list) or not isinstance(quarantined, dict):
        raise BadMessage("resend must be a list and quarantined an object")
    fork = claims.get("fork")
    answers_hello = claims.get("hello", False)
    if not isinstance(answers_hello, bool):
        raise BadMessage("hello must be true or false")
    agreed = claims.get("agreed")
    unpacks = claims.get("unpacks", [])
    if not isinstance(unpacks, list):
        raise BadMessage("unpacks must be a list")
    return Acknowledgement(
        fleet=_text(claims, "fleet", 64),
        device=_text(claims, "device", 64),
        journal=_text(claims, "journal", 64),
        nonce=_text(claims, "nonce", 64, may_be_empty=True),
        through=_number(claims.get("through"), "through"),
        hash=_hash(claims.get("hash")),
        answers_hello=answers_hello,
        fork=None if fork is None else _number(fork, "fork"),
        agreed=None if agreed is None else _number(agreed, "agreed"),
        unpacks=tuple(str(name)[:64] for name in unpacks[:MAX_CODECS]),
        resend=tuple(_range(ends, "resend") for ends in resend[:MAX_RANGES]),
        quarantined={_sequence(name): str(reason)[:MAX_REASON_CHARS] for name, reason in quarantined.items()},
    )


def status(*, online: bool, nonce: str, details: Mapping[str, object] | None = None) -> bytes:
    """Birth and last will. A will counts only if its nonce is the last birth's: it may arrive late."""
    return _dump({**(details or {}), "online": online, "nonce": nonce})


def _dump(message: Mapping[str, Any]) -> bytes:
    return json.dumps(message, separators=(",", ":"), ensure_ascii=False).encode()


def _load(payload: bytes) -> dict[str, Any]:
    if len(payload) > _MAX_MESSAGE_BYTES:
        raise BadMessage(f"message of {len(payload)} bytes is larger than {_MAX_MESSAGE_BYTES}")
    try:
        message = json.loads(payload)
    except (ValueError, RecursionError) as error:
        raise BadMessage(f"not JSON: {type(error).__name__}") from error
    if not isinstance(message, dict):
        raise BadMessage("not a JSON object")
    return message


def _text(message: Mapping[str, Any], name: str, most: int, *, may_be_empty: bool = False) -> str:
    text = message.get(name)
    if not isinstance(text, str) or len(text) > most or not (text or may_be_empty):
        raise BadMessage(f"{name} must be a text of 1 to {most} characters")
    return text


def _number(value: object, name: str) -> int:
    if not isinstance(value, int) or isinstance(value, bool) or not 0 <= value <= _MAX_SEQUENCE:
        raise BadMessage(f"{name} must be an integer from 0 to {_MAX_SEQUENCE}")
    return value


def _sequence(name: str) -> int:
    if not name.isascii() or not name.isdecimal() or len(name) > 19:
        raise BadMessage(f"{name[:40]!r} is not a sequence")
    return _number(int(name), "sequence")


def _hash(value: object) -> str:
    if not isinstance(value, str) or (value and (len(value) != 64 or not set(value) <= set("0123456789abcdef"))):
        raise BadMessage("hash must be a hex SHA-256 or empty")
    return value


def _range(ends: object, name: str) -> tuple[int, int]:
    if not isinstance(ends, list) or len(ends) != 2:
        raise BadMessage(f"a {name} range must be [first, last]")
    first, last = (_number(end, name) for end in ends)
    if not 1 <= first <= last:
        raise BadMessage(f"{name} range {first}..{last} is empty")
    return first, last


def _withheld(value: object) -> Withheld:
    if not isinstance(value, dict) or not value.get("hash"):
        raise BadMessage("a withheld record must be an object with hash and reason")
    return Withheld(hash=_hash(value["hash"]), reason=str(value.get("reason", ""))[:MAX_REASON_CHARS])
