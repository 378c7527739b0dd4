"""One charging session of the foreign stack's vehicle with its charger, in a throw-away network namespace.

Both may ask us over Unix sockets, which do not care for network namespaces.
"""

from __future__ import annotations

import json
import os
import re
import signal
import socketserver
import subprocess
import tempfile
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from tests.contract_wallet.foreign_oracle import need, need_oracle

Answer = Callable[[dict[str, Any]], Any]

PLUG_AND_CHARGE = {
    "supportedProtocols": ["ISO_15118_2"],
    "supportedEnergyServices": ["AC"],
    "energyTransferMode": "AC_three_phase_core",
    "isCertInstallNeeded": False,
    "useTls": True,
    "chargeLoopCycle": 1,
}
# Address detection takes its time before a link-local address may be used, and Java before it answers.
SCRIPT = """
ip link add pnc0 type veth peer name pnc1
ip link set lo up; ip link set pnc0 up; ip link set pnc1 up
sleep 2.5
(cd charger; NETWORK_INTERFACE=pnc1 PROTOCOLS=ISO_15118_2 AUTH_MODES=PNC SECC_ENFORCE_TLS=True \
  exec "$ORACLE" "$HERE/oracle_charger.py" >../charger.log 2>&1) &
sleep 4
cd vehicle; NETWORK_INTERFACE=pnc0 EVCC_CONFIG_PATH=$PWD/vehicle.json \
  exec "$ORACLE" "$HERE/oracle_vehicle.py" >../vehicle.log 2>&1
"""
SESSION_S = 60
ENDED = ("Negative response code", "SessionStopRes", "The data link will", "terminated", "Traceback")


@dataclass(frozen=True, kw_only=True)
class Session:
    """What came of it. `refused`: the response code that ended it, as it was on the wire."""

    vehicle_log: str
    charger_log: str

    @property
    def refused(self) -> str | None:
        found = re.search(r"Negative response code ResponseCode\.(\w+)", self.vehicle_log)
        return found[1] if found else None

    @property
    def charging_messages(self) -> int:
        return len(re.findall(r"Decoded message[^\n]*ChargingStatusRe", self.vehicle_log + self.charger_log))

    @property
    def stopped_in_order(self) -> bool:
        return "SessionStopRes" in self.vehicle_log

    def tail(self) -> str:
        return f"vehicle:\n{self.vehicle_log[-3000:]}\ncharger:\n{self.charger_log[-3000:]}"


def need_namespace() -> None:
    allowed = subprocess.run(["unshare", "-Urn", "true"], capture_output=True, check=False).returncode == 0
    need(allowed, "no user and network namespaces here (unshare -Urn is refused)")


def a_foreign_pki(folder: Path) -> Path:
    """Made by the stack's own script; its keys have the password that everybody knows."""
    python = need_oracle()
    source = next((python.parents[1] / "lib").glob("python3*/site-packages/iso15118/shared/pki"))
    subprocess.run(["cp", "-r", source, folder], check=True)
    made = subprocess.run(
        ["bash", "create_certs.sh", "-v", "iso-2"], cwd=folder, capture_output=True, text=True, check=False
    )
    assert (folder / "iso15118_2" / "certs" / "contractLeafCert.der").exists(), made.stderr[-2000:]
    return folder


def charge(
    folder: Path, pki: Path, *, vehicle: Answer, charger: Answer | None = None, installing: bool = False
) -> Session:
    """Begin a session, wait for its end or for a minute, and end every process of it."""
    python = need_oracle()
    need_namespace()
    for role in ("vehicle", "charger"):
        (folder / role).mkdir(parents=True)
    configuration = {**PLUG_AND_CHARGE, "isCertInstallNeeded": installing}
    (folder / "vehicle" / "vehicle.json").write_text(json.dumps(configuration))
    environment = {
        "PATH": os.environ["PATH"], "HOME": str(folder), "ORACLE": str(python), "HERE": str(Path(__file__).parent),
        "PKI_PATH": f"{pki}/",
    }  # fmt: skip
    with answering(vehicle) as vehicle_socket, answering(charger or (lambda asked: None)) as charger_socket:
        environment["ROAMKEY_VEHICLE"] = vehicle_socket
        if charger is not None:
            environment["ROAMKEY_CHARGER"] = charger_socket
        process = subprocess.Popen(
            ["unshare", "-Urn", "bash", "-c", SCRIPT], cwd=folder, env=environment, start_new_session=True,
            stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL,
        )  # fmt: skip
        try:
            wait_for_end(process, folder / "vehicle.log")
        finally:
            os.killpg(process.pid, signal.SIGKILL)
            process.wait()
    return Session(
        vehicle_log=(folder / "vehicle.log").read_text(errors="replace"),
        charger_log=(folder / "charger.log").read_text(errors="replace"),
    )


def wait_for_end(process: subprocess.Popen[bytes], log: Path) -> None:
    until = time.monotonic() + SESSION_S
    while time.monotonic() < until and process.poll() is None:
        time.sleep(0.3)
        text = log.read_text(errors="replace") if log.exists() else ""
        if any(sign in text for sign in ENDED):
            time.sleep(1)  # let it write what it has to say
            return


@contextmanager
def answering(answer: Answer) -> Iterator[str]:
    """A Unix socket that answers one JSON line a connection; errors go to the asker."""

    class Handler(socketserver.StreamRequestHandler):
        def handle(self) -> None:
            asked = json.loads(self.rfile.readline())
            try:
                told: dict[str, Any] = {"answer": answer(asked)}
            except Exception as error:  # noqa: BLE001
                told = {"error": f"{type(error).__name__}: {error}"}
            self.wfile.write(json.dumps(told).encode() + b"\n")

    with tempfile.TemporaryDirectory(prefix="rk-") as folder:
        path = f"{folder}/socket"
        with socketserver.UnixStreamServer(path, Handler) as server:
            thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.1})
            thread.start()
            try:
                yield path
            finally:
                server.shutdown()
                thread.join()
