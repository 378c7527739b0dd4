"""The backend is asked live, past a backlog, over links that die; a dispatcher helps a driver once."""

from __future__ import annotations

import json
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

import pytest

from agent.demo.fleet import ANNA, BERT, CARLA, DEVICE, DORA, FLEET
from sync.backend.answering import Answerer, AnswererSettings, AnswersFile
from sync.backoff import Backoff
from sync.link import LinkSettings
from tests.end_to_end.premises import Premises, good, roamkey, until
from tests.uplink.fault_proxy import FaultProxy, fault_proxy

pytestmark = pytest.mark.slow

TOKENS = f"""\
uid,label,group,status,whitelist
{ANNA.hex()},card 1,vans,active,NEVER
{BERT.hex()},card 2,vans,active,ALLOWED
{CARLA.hex()},card 3,vans,blocked,ALLOWED_OFFLINE
{DORA.hex()},fob 4,vans,active,ALLOWED_OFFLINE
"""
ANSWERS = """\
otherwise = "UNKNOWN"
keep_hours = 0
[tokens]
"card 1" = "ALLOWED"
"card 3" = "ALLOWED"
"fob 4" = "ALLOWED"
"""
NORTH = {"network": "DE*ABC", "country": "DE"}


def decides(van: Premises, uid: bytes, **place: Any) -> dict[str, Any]:
    """The recorded decision, and how long the caller waited for it."""
    began = time.monotonic()
    answer = van.api.post("/v1/decisions", {"uid": uid.hex(), **NORTH, **place})
    took_s = time.monotonic() - began
    return {**van.api.get(f"/v1/decisions/{answer['decision']}"), "took_s": took_s}


def told(decision: dict[str, Any]) -> tuple[str, list[str], str]:
    return decision["outcome"], [each["code"] for each in decision["reasons"]], decision["mode"]


@contextmanager
def answering(van: Premises) -> Iterator[None]:
    """The answering side of the reference backend, without its receiver."""
    assert van.broker is not None
    file = van.root / "answers.toml"
    file.write_text(ANSWERS)
    settings = AnswererSettings(
        link=LinkSettings(host="127.0.0.1", port=van.broker.port, client_id="answers-1", tls=None),
        fleet=FLEET,
        signing_key=van.office.folder / "keys" / "service-answer.pem",
        reconnect=Backoff(base_s=0.05, cap_s=0.2),
    )
    connected = []

    async def answer() -> None:
        await Answerer(settings, AnswersFile(file), connected=lambda: connected.append(True)).run()

    task = van.beside.keep(answer())
    until("somebody answers", lambda: connected)
    try:
        yield
    finally:
        van.beside.end(task)


@contextmanager
def proxy_before(van: Premises) -> Iterator[FaultProxy]:
    assert van.broker is not None
    manager = fault_proxy(van.broker.port)
    proxy = van.beside.wait(manager.__aenter__())
    van.port = proxy.port
    van.write_config()
    try:
        yield proxy
    finally:
        van.beside.wait(manager.__aexit__(None, None, None))


def link_is(van: Premises, state: str) -> Callable[[], bool]:
    return lambda: van.status()["link"]["state"] == state


def test_the_backend_is_asked_past_a_backlog_and_a_dead_link_never_holds_a_driver_up(online: Premises) -> None:
    van = online
    assert van.broker is not None
    assert van.receiver is not None
    (van.office.source / "tokens.csv").write_text(TOKENS)
    van.office.publish(port=van.broker.port)
    with answering(van), proxy_before(van) as proxy:
        van.start_ready()
        until("online", link_is(van, "online"))
        van.until_delivered()
        van.receiver.process.send_signal(19)  # SIGSTOP: subscribed, and acknowledges nothing
        for _ in range(150):
            van.api.post("/v1/decisions", {"uid": BERT.hex(), **NORTH})
        assert van.status()["journal"]["backlog"] >= 150

        asked = [decides(van, uid) for uid in (ANNA, DORA, CARLA)]
        assert van.status()["journal"]["backlog"] >= 150

        assert [told(each) for each in asked] == [("granted", [], "online")] * 3  # card 3 was unblocked at the backend
        assert max(each["waited_ms"] for each in asked) < 1_000
        assert told(decides(van, BERT)) == ("granted", [], "offline")  # nobody asks of ALLOWED

        proxy.blackhole = True
        half_open = {uid: decides(van, uid) for uid in (ANNA, DORA, CARLA)}

        assert told(half_open[ANNA]) == ("refused", ["NO_ANSWER"], "offline")
        assert told(half_open[DORA]) == ("granted", [], "offline")
        assert [each["code"] for each in half_open[DORA]["warnings"]] == ["NO_ANSWER"]
        assert told(half_open[CARLA]) == ("refused", ["TOKEN_BLOCKED"], "offline")
        assert all(1_400 <= each["waited_ms"] < 2_500 for each in half_open.values())
        assert {each["backend"]["silence"] for each in half_open.values()} == {"no answer in time"}

        van.beside.call(proxy.drop_all)
        proxy.refuse = True
        until("offline", link_is(van, "offline"))
        offline = {uid: decides(van, uid) for uid in (ANNA, DORA)}
        assert told(offline[ANNA]) == ("refused", ["NO_ANSWER"], "offline")
        assert told(offline[DORA]) == ("granted", [], "offline")
        assert all(each["took_s"] < 0.5 for each in offline.values())
        assert {each["backend"]["silence"] for each in offline.values()} == {"offline"}

        proxy.blackhole = proxy.refuse = False
        van.receiver.process.send_signal(18)
        until("online again", link_is(van, "online"))
        assert told(decides(van, ANNA)) == ("granted", [], "online")
        van.until_delivered()
    answered = van.events("backend.answered")
    assert len(answered) == 4  # one for each word that was heard, none for silence
    van.stop()
    van.assert_nothing_lost()


def test_a_stranded_driver_is_helped_once_over_the_broker_by_hand_and_by_telephone(online: Premises) -> None:
    van = online
    assert van.broker is not None
    good(roamkey("fleet", "device-files", van.office.folder, "--out", van.root / "own", "--device", DEVICE))
    (van.root / "own" / "break-glass.key").rename(van.root / "break-glass.key")
    config = van.configuration().replace("[trust]", '[trust]\nbreak_glass = "break-glass.key"')
    van.config.write_text(config)
    van.start_ready()
    until("online", link_is(van, "online"))
    whom = ("--device", DEVICE, "--uid", BERT.hex(), "--by", "ada", "--why", "depot is closed")
    most = ("--max-energy-wh", "9000")
    assert told(decides(van, BERT))[:2] == ("refused", ["NETWORK", "TIME_WINDOW"])

    # over the broker
    port = van.broker.port
    good(roamkey("fleet", "override", van.office.folder, *whom, *most, "--broker", f"127.0.0.1:{port}", "--plain"))
    until("the override", van.has("override.received"))
    helped = decides(van, BERT)

    assert told(helped)[:2] == ("granted_by_override", [])
    assert [each["code"] for each in helped["waived"]] == ["NETWORK", "TIME_WINDOW"]
    assert (helped["override_by"], helped["override_why"], helped["max_energy_wh"]) == ("ada", "depot is closed", 9_000)
    explained = good(roamkey("explain", helped["decision"], "--socket", van.root / "api.sock"))
    assert "override" in explained
    assert "ada: depot is closed" in explained
    assert "NETWORK" in explained

    # used once, also after a restart, with the retained message offered again
    assert told(decides(van, BERT))[:2] == ("refused", ["NETWORK", "TIME_WINDOW"])
    van.service.kill()
    van.start_ready()
    until("online", link_is(van, "online"))
    until("everything is said", lambda: van.status()["journal"]["backlog"] == 0)
    assert told(decides(van, BERT))[:2] == ("refused", ["NETWORK", "TIME_WINDOW"])

    # by hand
    file = van.root / "help.jws"
    good(roamkey("fleet", "override", van.office.folder, *whom, *most, "--waive", "network_allowed", "--out", file))
    good(roamkey("override", file, "--socket", van.root / "api.sock"))
    narrow = decides(van, BERT)
    assert told(narrow)[:2] == ("refused", ["NETWORK", "TIME_WINDOW"])
    assert "it does not waive inside_window" in [each["observed"] for each in narrow["warnings"]]
    file.write_text(file.read_text()[:-9] + "AAAAAAAA\n")
    assert roamkey("override", file, "--socket", van.root / "api.sock").returncode != 0

    # by telephone
    spoken = good(roamkey("fleet", "break-glass", van.office.folder, *whom, "--json"))
    code = {"code": json.loads(spoken)["code"], "why": "no signal at all"}
    by_code = decides(van, BERT, input={"break_glass": code})
    assert told(by_code)[:2] == ("granted_by_override", [])
    assert told(decides(van, BERT, input={"break_glass": code}))[:2] == ("refused", ["NETWORK", "TIME_WINDOW"])
    van.stop()
    assert [body for body in van.sealed() if code["code"].encode() in body] == []
