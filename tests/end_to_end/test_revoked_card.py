"""`roamkey fleet revoke` over a real broker to a running service: the card is refused, and the record says why."""

from __future__ import annotations

import pytest

from agent.cli import main
from agent.demo.fleet import ANNA
from tests.end_to_end.premises import Premises, until

pytestmark = pytest.mark.slow

PLACE = {"network": "DE*ABC", "country": "DE"}


def answer(here: Premises) -> tuple[str, list[str]]:
    told = here.api.post("/v1/decisions", {"uid": ANNA.hex(), **PLACE})
    return told["outcome"], [each["code"] for each in told.get("reasons", [])]


def test_a_lost_card_is_refused_as_soon_as_the_office_says_so(online: Premises) -> None:
    online.start_ready()
    assert answer(online) == ("granted", [])
    to_broker = ["--broker", f"127.0.0.1:{online.port}", "--plain"]
    revoke = ["fleet", "revoke", str(online.office.folder), ANNA.hex(), "--why", "lost", *to_broker]

    assert main(revoke) == 0

    until("the card is refused", lambda: answer(online) == ("refused", ["REVOKED"]))
    assert main([*revoke, "--lift"]) == 0
    until("the card is welcome again", lambda: answer(online) == ("granted", []))
    online.until_delivered()
    online.stop()
    online.assert_nothing_lost()
