"""The whole service over mutual TLS: started without a certificate, enrolled, renewed, and never restarted."""

from __future__ import annotations

import json
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest

from agent.demo.fleet import DEVICE, FLEET
from sync.link import Tls
from sync.loopback_broker import LoopbackBroker, free_port
from tests.end_to_end.premises import ROAMKEY, Beside, Premises, Program, built_premises, found_office, roamkey, until
from tests.uplink.certificates import HOUR, Authority
from tests.uplink.closed_loop import Engine

pytestmark = pytest.mark.slow


@contextmanager
def tls_broker(folder: Path, server: Tls) -> Iterator[tuple[LoopbackBroker, Beside]]:
    options = (
        f"cafile {server.cafile}",
        f"certfile {server.certfile}",
        f"keyfile {server.keyfile}",
        "require_certificate true",
        "use_identity_as_username true",
        "use_username_as_clientid true",
    )
    beside = Beside()
    broker = LoopbackBroker(folder, free_port(), Engine.MOSQUITTO, options)
    beside.wait(broker.start())
    try:
        yield broker, beside
    finally:
        beside.wait(broker.stop())
        beside.close()


def enrol(here: Premises, *words: str | Path, code: int = 0) -> dict[str, Any]:
    done = roamkey("enrol", "--config", here.config, "--json", *words)
    assert done.returncode == code, done.stderr
    found: dict[str, Any] = json.loads(done.stdout)
    return found


def install(here: Premises, authority: Authority, request: dict[str, Any]) -> None:
    certificate = here.root / "given.pem"
    certificate.write_bytes(authority.sign(request["csr"].encode(), valid=100 * 24 * HOUR))
    enrol(here, "--install", certificate, "--ca", authority.cafile)


def test_a_service_is_enrolled_and_renewed_while_it_runs_and_delivers(tmp_path: Path) -> None:
    authority = Authority(tmp_path / "authority", valid=200 * 24 * HOUR)
    office = found_office(tmp_path / "office")
    with tls_broker(tmp_path / "broker", authority.issue("broker")) as (broker, beside):
        mqtt = f'[mqtt]\nhost = "127.0.0.1"\nport = {broker.port}\nbackoff_base_s = 0.1\nbackoff_cap_s = 0.3\n'
        with built_premises(tmp_path / "van", office, bays=(), readers=("door",), settings=mqtt) as here:
            here.start()
            until("the missing certificate shows", lambda: "certificate-missing" in here.status()["alarms"])
            until("the link says so, too", lambda: "tls-files" in here.status()["alarms"])
            assert here.status()["certificate"]["state"] == "missing"
            checked = json.loads(roamkey("check", "--config", here.config, "--json").stdout)
            verdicts = {each["what"]: each["verdict"] for each in checked["findings"]}
            assert (verdicts["certificate"], verdicts["broker"]) == ("error", "error")

            install(here, authority, enrol(here))
            until("it connects", lambda: here.status()["link"]["state"] == "online")
            until("the board is clean", lambda: not {"certificate-missing", "tls-files"} & set(here.status()["alarms"]))
            assert here.status()["certificate"]["state"] == "good"
            assert "TLS" in here.status()["link"]["detail"]
            first = enrol(here, "--status")

            install(here, authority, enrol(here, "--renew"))
            assert enrol(here, "--status")["former_kept"]
            before = here.service.process.pid
            beside.wait(broker.stop())
            beside.wait(broker.start())
            until("the renewed one has worked", lambda: not enrol(here, "--status")["former_kept"])
            assert enrol(here, "--status")["serial"] != first["serial"]
            assert here.service.process.pid == before

            ours = authority.issue("receiver-1")
            receiver = Program(
                here.root / "receiver.log",
                *(*ROAMKEY, "receive", "--broker", f"127.0.0.1:{broker.port}", "--fleet", FLEET),
                *("--cafile", str(ours.cafile), "--certfile", str(ours.certfile), "--keyfile", str(ours.keyfile)),
                *("--db", here.database, "--key", here.office.service_key, "--retry-cap", "0.5"),
            )
            receiver.start()
            try:
                here.until_delivered()
            finally:
                receiver.kill()
            assert not here.status()["alarms"]
            checked = json.loads(roamkey("check", "--config", here.config, "--json").stdout)
            verdicts = {each["what"]: each["verdict"] for each in checked["findings"]}
            assert (verdicts["certificate"], verdicts["broker"]) == ("ok", "ok")
            assert json.loads(roamkey("status", "--config", here.config, "--json").stdout)["device"] == DEVICE
            here.stop()
