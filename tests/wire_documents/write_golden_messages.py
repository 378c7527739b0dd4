"""Write the golden samples of the messages and of a short journal. Once: what is written is never rewritten.

Signatures differ at each run, and no private key is kept: a second run makes other files, so it refuses to overwrite.
`.venv/bin/python -m tests.wire_documents.write_golden_messages`
"""

from __future__ import annotations

import json
from dataclasses import replace
from datetime import timedelta
from pathlib import Path

from agent.core.facts import Checkpoint, DecisionMade, Fact, JournalOpened, Outcome, SessionAuthorised, SessionEnded
from agent.wire import CHECKPOINT_TYPE, GENESIS, checkpoint_claims, hash_of, seal
from sync import signing
from sync.batch import Codec, pack
from sync.messages import ACK_TYP, Acknowledgement, Hello, Withheld, status
from tests.journal.samples import GOLDEN_INSTANT, JOURNAL, SAMPLES, SOURCE, started

FOLDER = Path(__file__).parent.parent / "golden" / "messages"
NONCE = "8f3a6b1c2d4e5f60"


def a_journal(key: signing.SigningKey) -> list[bytes]:
    """Opened, a session from decision to end, its checkpoint."""
    decision = next(fact for fact in SAMPLES if isinstance(fact, DecisionMade))
    authorised = next(fact for fact in SAMPLES if isinstance(fact, SessionAuthorised))
    ended = next(fact for fact in SAMPLES if isinstance(fact, SessionEnded))
    granted = replace(
        decision,
        decision=authorised.decision,
        outcome=Outcome.GRANTED,
        reasons=(),
        warnings=(),
        text="Lädt",
        ocpi="ALLOWED",
        ocpp16="Accepted",
        ocpp201="Accepted",
        oicp="000",
    )
    facts: list[Fact] = [
        JournalOpened(reason="created", predecessor=None, salvaged=None),
        granted,
        authorised,
        started(authorised.session),
        replace(ended, session=authorised.session, decision=authorised.decision),
    ]
    bodies: list[bytes] = []
    previous = GENESIS
    for sequence in range(1, len(facts) + 2):
        if sequence > len(facts):
            claims = checkpoint_claims(source=SOURCE, journal=JOURNAL, sequence=sequence - 1, hash=previous)
            facts.append(Checkpoint(jws=signing.sign(claims, key, typ=CHECKPOINT_TYPE)))
        now = replace(GOLDEN_INSTANT, utc=GOLDEN_INSTANT.utc + timedelta(seconds=sequence))
        bodies.append(
            seal(facts[sequence - 1], sequence=sequence, previous=previous, journal=JOURNAL, source=SOURCE, now=now)
        )
        previous = hash_of(bodies[-1])
    return bodies


def main() -> None:
    FOLDER.mkdir(parents=True)
    device, service = signing.generate(), signing.generate()
    bodies = a_journal(device)
    head = hash_of(bodies[-1])
    hello = Hello(nonce=NONCE, journal=JOURNAL, first=1, last=len(bodies), hash=head)
    withheld = {3: Withheld(hash=hash_of(bodies[2]), reason="withheld by the device: 300000 bytes packed")}
    ack = Acknowledgement(
        fleet="nordlicht",
        device="gw-17",
        journal=JOURNAL,
        nonce=NONCE,
        through=4,
        hash=hash_of(bodies[3]),
        resend=((5, 5), (7, 9)),
        quarantined={2: "id is not a short text"},
    )
    details = {
        "version": "0.1.0",
        "clock": "synchronised",
        "policy_revision": 12,
        "readers": {"front": "ready"},
        "chargers": {"left": "available"},
        "storage": "ok",
        "open_sessions": 0,
    }
    made = {
        "journal.jsonl": b"".join(body + b"\n" for body in bodies),
        "batch.plain": pack(bodies[:3], Codec.PLAIN),
        "batch.zlib": pack(bodies[:3], Codec.ZLIB),
        "batch.zstd": pack(bodies[:3], Codec.ZSTD),
        "hello.json": hello.to_bytes(),
        "hello-empty.json": replace(hello, last=0, hash="").to_bytes(),
        "hello-withheld.json": replace(hello, withheld=withheld).to_bytes(),
        "ack.jws": signing.sign(ack.to_claims(issued_at_s=1_772_436_600), service, typ=ACK_TYP).encode(),
        "ack-hello.jws": signing.sign(
            replace(ack, answers_hello=True, resend=(), quarantined={}).to_claims(issued_at_s=1_772_436_601),
            service,
            typ=ACK_TYP,
        ).encode(),
        "ack-fork.jws": signing.sign(
            replace(ack, fork=5, resend=(), quarantined={}).to_claims(issued_at_s=1_772_436_602), service, typ=ACK_TYP
        ).encode(),
        "status-online.json": status(online=True, nonce=NONCE, details=details),
        "status-offline.json": status(online=False, nonce=NONCE),
        "device.jwk": device.public_jwk.encode() + b"\n",
        "service.jwk": service.public_jwk.encode() + b"\n",
    }
    for name, body in made.items():
        (FOLDER / name).write_bytes(body)
    for name in ("ack", "ack-hello", "ack-fork"):
        claims = signing.verify(made[f"{name}.jws"], {service.kid: service.public_jwk}, typ=ACK_TYP)
        (FOLDER / f"{name}.json").write_text(json.dumps(claims, indent=1) + "\n")


if __name__ == "__main__":
    main()
