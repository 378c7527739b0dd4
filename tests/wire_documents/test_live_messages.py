"""Live questions, answers and overrides: golden samples read as written, schemas say what the readers take."""

from __future__ import annotations

import json
from typing import Any

import pytest
from jsonschema import Draft202012Validator

from sync import signing
from sync.messages import BadMessage
from sync.overrides import OVERRIDE_TYP, parse_override
from sync.questions import ANSWER_TYP, digest_of, parse_answer, parse_question
from tests.wire_documents.wire_schemas import schemas
from tests.wire_documents.write_golden_live import ANSWER, FOLDER, OVERRIDE, QUESTION

READERS: dict[str, Any] = {
    "question": lambda message: parse_question(json.dumps(message).encode()),
    "answer": parse_answer,
    "override": parse_override,
}
GOOD = {name: json.loads((FOLDER / f"{name}.json").read_text()) for name in READERS}


def test_the_golden_samples_read_as_they_were_meant() -> None:
    key = (FOLDER / "live.jwk").read_text()
    keys = {json.loads(key)["kid"]: key}
    question = (FOLDER / "question.json").read_bytes()

    assert question == QUESTION.to_bytes()
    assert parse_question(question) == QUESTION
    answer = parse_answer(signing.verify((FOLDER / "answer.jws").read_text(), keys, typ=ANSWER_TYP))
    assert answer == ANSWER
    assert answer.question == digest_of(question)
    assert parse_override(signing.verify((FOLDER / "override.jws").read_text(), keys, typ=OVERRIDE_TYP)) == OVERRIDE


def variants(name: str) -> list[tuple[str, Any]]:
    good = GOOD[name]
    odd = ("", "x" * 300, -1, True, None, 1.5, [], {}, ["*"], 2**60, "ALLOWED")
    without = [(f"without {field}", {k: v for k, v in good.items() if k != field}) for field in good]
    return [("as it is", good), *without, *((f"{field} {value!r:.20}", {**good, field: value})
            for field in good for value in odd)]  # fmt: skip


@pytest.mark.parametrize("name", READERS)
def test_the_schema_takes_what_the_reader_takes_and_refuses_the_rest(name: str) -> None:
    validator = Draft202012Validator(schemas()[f"{name}.json"])
    apart = []
    for told, message in variants(name):
        fits = validator.is_valid(message)
        try:
            READERS[name](message)
            read = True
        except BadMessage:
            read = False
        absent = any(value is None for value in message.values())  # a reader takes null for absent, nobody writes it
        if fits != read and not absent:
            apart.append((told, fits, read))

    assert apart == []


def test_an_override_lasts_a_day_at_most() -> None:
    late = {**GOOD["override"], "exp": GOOD["override"]["iat"] + 86_401}

    with pytest.raises(BadMessage, match="at most 24 h"):
        parse_override(late)
