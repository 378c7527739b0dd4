"""Write the golden samples of a live question, its answer and an override. Once: what is written is never rewritten.

`.venv/bin/python -m tests.wire_documents.write_golden_live`
"""

from __future__ import annotations

import json
from datetime import UTC, datetime, timedelta

from sync import signing
from sync.overrides import OVERRIDE_TYP, SignedOverride
from sync.questions import ANSWER_TYP, Answer, Question, digest_of
from tests.wire_documents.write_golden_messages import FOLDER

TOKEN = "5f3c" * 16
SAID_AT = datetime(2026, 3, 2, 7, 30, tzinfo=UTC)
QUESTION = Question(
    ask="019cadf3-2f80-7c3e-9a51-3d2f6f1b8a44",
    token=TOKEN,
    whitelist="ALLOWED_OFFLINE",
    assurance="static",
    deadline_ms=1_500,
    group="vans",
    label="card 7",
    driver="anna",
    vehicle="van-7",
    charger="left",
    evse="DE*ABC*E1001*1",
    network="DE*ABC",
    country="DE",
    site="car park north",
    connector="IEC_62196_T2",
    power_w=22_000,
)
ANSWER = Answer(
    fleet="nordlicht",
    device="gw-17",
    ask=QUESTION.ask,
    question=digest_of(QUESTION.to_bytes()),
    verdict="ALLOWED",
    answered_at=SAID_AT,
    expires_at=SAID_AT + timedelta(seconds=3),
    keep_s=86_400,
)
OVERRIDE = SignedOverride(
    fleet="nordlicht",
    device="gw-17",
    id="0b6f6d3e-8f0e-4f0a-9c6d-0b7d3f1f2a11",
    token=TOKEN,
    waives=("inside_window", "network_allowed"),
    why="the depot is closed for works",
    by="ada",
    issued=SAID_AT,
    not_after=SAID_AT + timedelta(hours=4),
    max_energy_wh=20_000,
    max_duration_s=7_200,
    max_cost=("EUR", "25.00"),
)


def main() -> None:
    if (FOLDER / "question.json").exists():
        raise SystemExit("the samples are there: what is written is never rewritten")
    key = signing.generate()
    (FOLDER / "live.jwk").write_bytes(key.public_jwk.encode() + b"\n")
    (FOLDER / "question.json").write_bytes(QUESTION.to_bytes())
    for name, claims, typ in (
        ("answer", ANSWER.to_claims(), ANSWER_TYP),
        ("override", OVERRIDE.to_claims(), OVERRIDE_TYP),
    ):
        (FOLDER / f"{name}.jws").write_text(signing.sign(claims, key, typ=typ))
        (FOLDER / f"{name}.json").write_text(json.dumps(claims, indent=1) + "\n")


if __name__ == "__main__":
    main()
