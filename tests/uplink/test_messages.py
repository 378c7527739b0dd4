"""Hello and acknowledgement: read back as written, and nothing hostile passes."""

from __future__ import annotations

import json

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from sync.messages import (
    Acknowledgement,
    BadMessage,
    Hello,
    Withheld,
    parse_acknowledgement,
    parse_hello,
)

HASH = "ab" * 32


def test_a_hello_is_read_back_as_written() -> None:
    hello = Hello(nonce="n", journal="j", first=1, last=9, hash=HASH, withheld={3: Withheld(hash=HASH, reason="large")})
    assert parse_hello(hello.to_bytes()) == (hello,)


def test_an_acknowledgement_is_read_back_as_written() -> None:
    ack = Acknowledgement(
        fleet="f",
        device="d",
        journal="j",
        nonce="n",
        through=9,
        hash=HASH,
        answers_hello=True,
        resend=((1, 2), (5, 5)),
        fork=10,
        quarantined={3: "why"},
    )
    claims = json.loads(json.dumps(ack.to_claims(issued_at_s=0)))
    assert parse_acknowledgement({**claims, "added later": 1}) == ack


JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=5),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=3), inner, max_size=3),
    max_leaves=5,
)
NAMES = [
    "fleet",
    "device",
    "journal",
    "nonce",
    "through",
    "hash",
    "hello",
    "resend",
    "quarantined",
    "fork",
    "journals",
    "first",
    "last",
    "withheld",
]


@settings(max_examples=40, deadline=None)
@given(st.dictionaries(st.sampled_from(NAMES), JSON))
def test_wrong_shapes_are_bad_messages_and_nothing_else(message: dict[str, object]) -> None:
    for parse in (
        lambda: parse_acknowledgement(message),
        lambda: parse_hello(json.dumps(message).encode()),
        lambda: parse_hello(json.dumps({"nonce": "n", "journals": [message]}).encode()),
    ):
        with pytest.raises(BadMessage):
            parse()


@given(st.binary(max_size=200))
def test_junk_is_a_bad_message(payload: bytes) -> None:
    with pytest.raises(BadMessage):
        parse_hello(payload)


@pytest.mark.parametrize(
    "change",
    [
        {"through": True},
        {"through": 1.0},
        {"through": -1},
        {"through": 2**63},
        {"hash": "AB" * 32},
        {"hash": "ab"},
        {"resend": [[2, 1]]},
        {"resend": [[0, 1]]},
        {"resend": [[1]]},
        {"quarantined": {"x": "y"}},
        {"quarantined": {"-1": "y"}},
        {"hello": "true"},
        {"fork": "1"},
    ],
)
def test_each_field_of_an_acknowledgement_is_checked(change: dict[str, object]) -> None:
    good = {"fleet": "f", "device": "d", "journal": "j", "nonce": "n", "through": 1, "hash": HASH}
    assert parse_acknowledgement(good)
    with pytest.raises(BadMessage):
        parse_acknowledgement({**good, **change})


def test_long_lists_are_cut_before_they_leave() -> None:
    ack = Acknowledgement(
        fleet="f",
        device="d",
        journal="j",
        nonce="n",
        through=9,
        hash=HASH,
        resend=((1, 1),) * 500,
        quarantined=dict.fromkeys(range(500), "x" * 1000),
    )
    claims = ack.to_claims(issued_at_s=0)
    assert (len(claims["resend"]), len(claims["quarantined"])) == (100, 200)
    assert {len(reason) for reason in claims["quarantined"].values()} == {300}
