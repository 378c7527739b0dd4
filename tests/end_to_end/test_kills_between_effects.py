"""SIGKILL between every two effects of a tap, a charge and a stop: what was told is recorded, and nothing is lost (P1).

The moments are found, not listed: the same story is played with death at its first moment, its second and so on, until
it lives to its end. Charger, reader, broker and receiver outlive the service, as in the field.
"""

from __future__ import annotations

import sys
import time
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest

from agent.cli.client import Refused, Unreachable
from agent.demo.fleet import ANNA
from drivers.readers.virtual_cards import Type2Card
from tests.end_to_end.composed_service import witnessed_in
from tests.end_to_end.premises import FleetOffice, Premises, built_premises, until

pytestmark = [pytest.mark.slow, pytest.mark.timeout(240)]

COMPOSED = (sys.executable, "-m", "tests.end_to_end.composed_service")
AT_ONCE = 3  # stories side by side: they wait more than they work
MOST_MOMENTS = 60
STEP_WITHIN_S = 15.0
ROUNDS = 4
MOMENTS = (
    "Record AgentStarted",
    "Record PolicyActivated",
    "Record DecisionMade+SessionAuthorised",
    "Signal",
    "shown",
    "StartCharging",
    "told to start",
    "Record SessionStarted",
    "Record SessionMetered",
    "Record SessionStopRequested",
    "Reply",
    "StopCharging",
    "told to stop",
    "Record SessionEnded",
    "Seal",
    "Record AgentStopped",
)


@dataclass(frozen=True, slots=True, kw_only=True)
class Death:
    """One story that was cut off, and what came of it."""

    number: int
    survived: bool
    at: str = ""
    interrupted: bool = False


@pytest.fixture(scope="module")
def hub(tmp_path_factory: pytest.TempPathFactory, office: FleetOffice) -> Iterator[Premises]:
    """Broker and receiver for all of them; its own service never runs."""
    with built_premises(tmp_path_factory.mktemp("hub") / "hub", office, broker=True, bays=()) as here:
        yield here


def test_a_kill_between_any_two_effects_loses_nothing_and_contradicts_nobody(hub, tmp_path, capsys):
    deaths: list[Death] = []
    with ThreadPoolExecutor(AT_ONCE) as pool:

        def die_at(numbers: range, what: str) -> None:
            deaths.extend(pool.map(lambda number: story(hub, tmp_path / f"{what}-{number}", number), numbers))

        for first in range(1, MOST_MOMENTS, AT_ONCE):
            die_at(range(first, first + AT_ONCE), "van")
            if any(death.survived for death in deaths):
                break
        last = max(death.number for death in deaths if not death.survived)
        for again in range(ROUNDS):  # no two stories have as many samples: a moment may lie one further each time
            if set(MOMENTS) <= {death.at for death in deaths}:
                break
            die_at(range(last - 5, last + 1), f"again-{again}")
    at = [death.at for death in deaths if not death.survived]
    with capsys.disabled():
        sys.stdout.write(f"\n{len(at)} deaths, at: {', '.join(at)}\n")
    assert any(death.survived for death in deaths), "the story never came to its end"
    assert len(at) >= 18
    for moment in MOMENTS:
        assert moment in at, f"nobody died at {moment}"
    assert any(death.interrupted for death in deaths)


def story(hub: Premises, root: Path, number: int) -> Death:
    """Played with death at this moment, then judged, then gone on with until everything is at rest."""
    root.mkdir()
    where = {"device": root.name, "port": hub.port, "bundle_folder": hub.office.repository}
    with built_premises(root / "van", hub.office, bays=("bay-1",), readers=("left",), **where) as here:
        here.database = hub.database
        witness = root / "witness"
        normal = [*COMPOSED, "--witness", str(witness), "--config", str(here.config), "--log", "debug"]
        here.service.command = [*normal, "--die-at", str(number)]
        play(here)
        if here.service.runs:
            return Death(number=number, survived=here.service.stop() == 0)
        code = here.service.process.returncode
        if code == 0:
            return Death(number=number, survived=True)
        assert code == -9, f"moment {number}: ended with {code}: {here.service.said()[-2000:]}"
        told = witnessed_in(witness)
        try:
            judge_what_was_told(here, told)
            here.service.command = normal
            go_on(here)
            judge_the_end(here)
        except BaseException as error:
            error.add_note(f"died at moment {number}, {told[-1]}; the service said:\n{here.service.said()[-4000:]}")
            if here.service.runs:
                error.add_note(f"its status: {here.status()}")
            raise
        interrupted = any(here.events("session.interrupted"))
        return Death(number=number, survived=False, at=told[-1]["what"], interrupted=interrupted)


def play(here: Premises) -> None:
    """A card starts it, energy flows, a technician's tap stops it, the service stops. Death may come anywhere."""
    here.service.start()
    here.bays["bay-1"].plug_in()
    alive = while_alive(here, lambda: is_ready(here))
    alive = alive and charge(here)
    alive = alive and stop_charging(here)
    if alive:
        here.service.process.terminate()
        here.service.ended(within_s=STEP_WITHIN_S)


def charge(here: Premises) -> bool:
    bay = here.bays["bay-1"]
    here.left.present(Type2Card(ANNA))
    began = bay.meter_wh
    alive = while_alive(here, lambda: here.events("decision.made"))
    here.left.remove()
    return alive and while_alive(here, lambda: here.events("session.metered") and bay.meter_wh > began)


def stop_charging(here: Premises) -> bool:
    with suppress(Unreachable, Refused):
        here.tap("left", ANNA)
    return while_alive(here, lambda: here.events("session.ended") and here.events("checkpoint"))


def while_alive(here: Premises, claim: Callable[[], Any]) -> bool:
    """Wait for it; False when the service dies first."""
    give_up = time.monotonic() + STEP_WITHIN_S
    while time.monotonic() < give_up:
        if not here.service.runs:
            return False
        with suppress(Unreachable, Refused):
            if claim():
                return True
        time.sleep(0.05)
    pytest.fail(f"neither dead nor done; it said:\n{here.service.said()[-3000:]}")


def is_ready(here: Premises) -> bool:
    return here.status()["policy"] is not None and here.reader_state("left") == "ready" and here.reachable("bay-1")


def judge_what_was_told(here: Premises, told: list[dict[str, Any]]) -> None:
    """Right after death, from the journal as it lies there: every green light and every command has its record."""
    events = here.events() if (here.state / "journal" / "journal.db").exists() else []
    kinds = [each["type"].removeprefix("io.roamkey.") for each in events]
    green = sum(each["what"] == "shown" and each["feedback"] == "granted" for each in told)
    assert green <= kinds.count("session.authorised") + kinds.count("session.stop_requested")
    started = {each["session"] for each in told if each["what"] == "told to start"}
    assert started <= {each["data"]["session"] for each in events if each["type"].endswith("session.authorised")}
    stopped = {each["session"] for each in told if each["what"] == "told to stop"}
    assert stopped <= {
        each["data"]["session"] for each in events if each["type"].endswith(("stop_requested", "session.ended"))
    }
    assert sum(each["what"] == "Signal" for each in told) <= kinds.count("decision.made") + kinds.count(
        "session.stop_requested"
    )


def go_on(here: Premises) -> None:
    """Started again: an open session is taken up or closed, and the driver can do what is left to do."""
    here.start()
    until("ready again", lambda: is_ready(here))
    until("nothing is in the dark", lambda: all(each["phase"] != "interrupted" for each in here.open_sessions()))
    if not here.events("session.authorised"):
        assert charge(here)
    if here.open_sessions():
        until("energy flows", lambda: not here.open_sessions() or here.open_sessions()[0]["phase"] != "authorised")
        if here.open_sessions() and here.open_sessions()[0]["phase"] == "charging":
            here.tap("left", ANNA)
    until("every session has its end", lambda: here.open_sessions() == [])
    here.until_delivered()
    here.stop()


def judge_the_end(here: Premises) -> None:
    here.assert_nothing_lost()
    events = here.events()

    def sessions(kind: str) -> list[str]:
        return [each["data"]["session"] for each in events if each["type"] == f"io.roamkey.session.{kind}"]

    assert len(set(sessions("authorised"))) == len(sessions("authorised")) == 1
    assert sessions("ended") == sessions("authorised")
    assert len(sessions("started")) == 1
    (ended,) = here.events("session.ended")
    bay = here.bays["bay-1"]
    assert bay.session is None
    assert ended["data"]["complete"], ended
    assert ended["data"]["energy_wh"] == bay.meter_wh - ended["data"]["meter_start_wh"]
