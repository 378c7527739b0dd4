"""A budget that holds offline, with real processes and a real broker: lent, spent, settled and renewed.

The charger of the yard reports over the local API, so that every watt-hour is known here.
"""

from __future__ import annotations

import itertools
import json
import sqlite3
import sys
from collections.abc import Iterator
from contextlib import closing, contextmanager, suppress
from pathlib import Path
from typing import Any

import pytest

from agent.cli.client import Refused, Unreachable
from agent.demo.fleet import ANNA
from tests.end_to_end.premises import Premises, Program, a_receiver, good, roamkey, until

pytestmark = [pytest.mark.slow, pytest.mark.timeout(120)]

LIMIT_WH, PER_SESSION_WH = 60_000, 20_000
BUDGETS = f"""
[budgets.vans]
scope = "fleet"
energy_wh = {LIMIT_WH}
energy_wh_per_session = {PER_SESSION_WH}
period = "month"
zone = "Europe/Berlin"
"""
COMPOSED = (sys.executable, "-m", "tests.end_to_end.composed_service")
SETTINGS = "[sessions]\nmeter_record_every_s = 0.2\nstart_timeout_s = 4\n"
_meter = itertools.count(1_000_000, 100_000)


@pytest.fixture
def lending(build: Any) -> Iterator[Premises]:
    """A gateway whose fleet has a budget, and a receiver that lends from it. Nothing of it runs yet but the broker."""
    here: Premises = build(broker=True, bays=("bay-1",), readers=("left", "door"), settings=SETTINGS)
    with (here.office.source / "policy.toml").open("a") as policy:
        policy.write(BUDGETS)
    assert here.receiver is not None
    assert here.broker is not None
    here.receiver.kill()
    here.receiver = lender(here)
    here.receiver.start()
    here.office.publish(port=here.broker.port)
    yield here
    here.receiver.kill()


def lender(here: Premises) -> Program:
    receiver = a_receiver(here)
    receiver.command += ["--budgets", str(here.office.source / "policy.toml")]
    return receiver


def test_a_lease_is_spent_offline_refused_when_it_is_used_up_and_renewed_when_the_link_is_back(lending: Premises):
    here = lending
    open_up(here)
    until("a lease", lambda: left(here) >= PER_SESSION_WH)

    lent = left(here)
    assert lent == LIMIT_WH // 2  # alone it gets a share, and not all

    with offline(here):
        assert charge(here, energy_wh=12_000) == "granted"
        assert left(here) == lent - 12_000
        refused = here.tap("door", ANNA)
        assert [each["code"] for each in refused["reasons"]] == ["LEASE_EMPTY"]
        assert (refused["reasons"][0]["observed"], refused["reasons"][0]["limit"]) == ("18 kWh left", "20 kWh of vans")

    until("a renewal", lambda: left(here) >= PER_SESSION_WH)
    assert settled(here) == 12_000
    while charge(here, energy_wh=15_000) == "granted":
        here.until_delivered()
        until("a word of the backend", lambda: left(here) >= PER_SESSION_WH or used_up(here))
    until("the backend says that nothing is left", lambda: used_up(here))

    standing = ledger(here)
    spent = 12_000 + 15_000 * (len(here.events("session.ended")) - 1)
    assert (standing["limit"], standing["settled"]) == (LIMIT_WH, spent)
    assert standing["settled"] + standing["outstanding"] <= LIMIT_WH
    assert here.tap("door", ANNA)["reasons"][0]["code"] == "BUDGET_EXHAUSTED"
    shown = good(roamkey("status", "--socket", here.root / "api.sock"))
    assert "used up" in shown
    here.until_delivered()
    here.stop()
    here.assert_nothing_lost()


def test_a_kill_between_the_reservation_and_the_green_light_keeps_the_reservation(lending: Premises):
    here = lending
    open_up(here)
    until("a lease", lambda: left(here) >= PER_SESSION_WH)
    here.stop()
    normal = here.service.command
    witness = here.root / "witness"
    here.service.command = [*COMPOSED, "--witness", str(witness), "--die-after", MOMENT, *normal[-4:]]
    here.service.start()
    until("it is ready", lambda: answers(here) and budget(here) and here.reachable("bay-1"))
    with suppress(Unreachable, Refused, OSError):
        here.tap("left", ANNA)
    assert here.service.ended() == -9
    told = witness.read_text().splitlines()
    assert told[-1].endswith(f'{{"what": "{MOMENT}"}}')
    assert not any("granted" in line for line in told)
    (authorised,) = here.events("session.authorised")
    assert [use["reserved"] for use in authorised["data"]["leases"]] == [PER_SESSION_WH]

    here.service.command = normal
    here.start_ready()
    # Nobody saw a green light, but nobody knows that now: the reservation stands until the session has its end.
    until("nobody plugs in", lambda: here.open_sessions() == [])
    (ended,) = here.events("session.ended")
    assert [(use["consumed"], use["reserved"]) for use in ended["data"]["leases"]] == [(0, 0)]
    assert reserved(here) == 0
    assert left(here) >= PER_SESSION_WH
    here.until_delivered()
    until("and the backend knows", lambda: settled(here) == 0)
    here.stop()
    here.assert_nothing_lost()


MOMENT = "Record DecisionMade+SessionAuthorised"


def test_a_receiver_that_is_killed_counts_nothing_twice_and_forgets_nothing(lending: Premises):
    here = lending
    assert here.receiver is not None
    open_up(here)
    until("a lease", lambda: left(here) >= PER_SESSION_WH)
    here.receiver.kill()
    assert charge(here, energy_wh=12_000) == "granted"
    assert charge(here, energy_wh=4_000) == "LEASE_EMPTY"
    here.receiver.start()
    here.until_delivered()
    until("all is counted", lambda: settled(here) == 12_000)
    until("and lent again", lambda: left(here) >= PER_SESSION_WH)
    standing = ledger(here)
    assert standing["settled"] + standing["outstanding"] <= LIMIT_WH
    here.stop()


def open_up(here: Premises) -> None:
    here.start_ready()
    here.report("yard", "found", state="available", meter_wh=0)
    until("the charger", lambda: here.reachable("yard"))


def charge(here: Premises, *, energy_wh: int) -> str:
    answer = here.tap("door", ANNA)
    if answer["outcome"] == "granted":
        start_wh = next(_meter)
        session = answer["session"]
        here.report("yard", "started", session=session, meter_wh=start_wh)
        here.report("yard", "stopped", session=session, meter_wh=start_wh + energy_wh, reason="StoppedByEV")
        until("its end", lambda: here.open_sessions() == [])
    return str(answer["outcome"]) if answer["outcome"] == "granted" else answer["reasons"][0]["code"]


@contextmanager
def offline(here: Premises) -> Iterator[None]:
    assert here.broker is not None
    here.broker.kill()
    until("it is offline", lambda: here.status()["link"]["state"] == "offline")
    yield
    here.broker.start()
    until("it is online", lambda: here.status()["link"]["state"] == "online")


def answers(here: Premises) -> bool:
    with suppress(Unreachable, Refused):
        return here.status()["policy"] is not None
    return False


def budget(here: Premises) -> dict[str, Any]:
    return next((each for each in here.status()["budgets"] if each["budget"] == "vans"), {})


def left(here: Premises) -> int:
    return int(budget(here).get("free", 0))


def reserved(here: Premises) -> int:
    return int(budget(here).get("reserved", 0))


def used_up(here: Premises) -> bool:
    return budget(here).get("used_up_until") is not None


def ledger(here: Premises) -> dict[str, Any]:
    path = here.database.with_name(here.database.name + ".budgets")
    (standing,) = json.loads(good(roamkey("budget", "status", "--db", path, "--json")))
    return dict(standing)


def settled(here: Premises) -> int:
    path = Path(f"{here.database}.budgets")
    with closing(sqlite3.connect(f"file:{path}?mode=ro", uri=True)) as database:
        (total,) = database.execute("SELECT coalesce(sum(settled), -1) FROM accounts").fetchone()
    return int(total)
