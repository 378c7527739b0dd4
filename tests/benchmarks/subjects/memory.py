"""Resident memory of the service at rest, and what a backlog adds to it."""

from __future__ import annotations

import time
from collections.abc import Sequence
from contextlib import ExitStack
from dataclasses import dataclass
from pathlib import Path

from drivers.readers.pn532_simulator import Pn532Simulator
from drivers.readers.serial_ascii_simulator import SerialAsciiSimulator
from tests.benchmarks.charging_records import fill
from tests.benchmarks.gateway import SOURCE, Gateway, backend, settled_gateway
from tests.benchmarks.measurement import Bench, Benchmark, Row, load, median, spread
from tests.end_to_end.premises import until

REST_S = 6.0
BACKLOG = 100_000


def measure(bench: Bench) -> Sequence[Row]:
    runs = bench.runs(3)
    home = bench.fresh("memory")
    settled = settled_gateway(home)
    rows = []
    with ExitStack() as stack:
        (home / "dev").mkdir()
        stack.enter_context(SerialAsciiSimulator.rdm6300(link=home / "dev" / "serial"))
        stack.enter_context(Pn532Simulator(link=home / "dev" / "nfc"))
        serial = {"front": ("readers/rdm6300", str(home / "dev" / "serial"))}
        nfc = {"front": ("readers/pn532_hsu", str(home / "dev" / "nfc"))}
        cases = (
            ("one serial reader", serial, False, "<= 60 MB"),
            ("one serial reader, mutual TLS", serial, True, "(60 MB)"),
            ("one reader with nfcpy", nfc, False, "<= 80 MB"),
        )
        for number, (name, readers, tls, target) in enumerate(cases):
            taken = [at_rest(bench, settled, home / f"rest-{number}-{run}", readers, tls=tls) for run in range(runs)]
            rest = [each.rest_mb for each in taken]
            rows.append(
                Row(
                    name=f"resident memory idle, {name}",
                    value=median(rest),
                    unit="MB",
                    runs=runs,
                    note=(
                        f"connected, a new policy fetched over MQTT since the start; {spread(rest, 1)}; once the local "
                        f"API was asked: {median([each.asked_mb for each in taken]):.1f}; highest, with the process "
                        f"that examined the policy: {max(each.highest_mb for each in taken):.1f}"
                    ),
                    target=target,
                )
            )
        records = bench.size(BACKLOG, 1_000)
        added = [with_a_backlog(bench, settled, home / f"backlog-{run}", serial, records) for run in range(runs)]
        rows.append(
            Row(
                name=f"memory added by a backlog of {records}",
                value=median([full - empty for empty, full, _ in added]),
                unit="MB",
                peer="no backlog",
                peer_value=median([empty for empty, _, _ in added]),
                ratio=median([full / empty for empty, full, _ in added]),
                runs=runs,
                note=(
                    f"broker away; while and after it drains: {median([most - empty for empty, _, most in added]):.1f} "
                    f"more at the most; {load()}"
                ),
                target="<= 5 MB",
            )
        )
    return rows


@dataclass(frozen=True, slots=True, kw_only=True)
class Rest:
    """`rest_mb` before anybody asked the local API, `asked_mb` after."""

    rest_mb: float
    asked_mb: float
    highest_mb: float


def at_rest(bench: Bench, settled: Gateway, root: Path, readers: dict[str, tuple[str, str]], *, tls: bool) -> Rest:
    with backend(root / "backend", settled.office, tls=tls) as there:
        gateway = settled.copied_to(root / "gateway", port=there.device_port, tls=there.device_tls)
        gateway.readers = readers
        highest = 0.0
        try:
            gateway.begin()
            until("it is ready", lambda: "ready: deciding" in gateway.service.said(), within_s=30)
            settled.office.publish(port=there.broker.port)
            give_up = time.monotonic() + 60
            while "is active, from the broker" not in gateway.service.said() and time.monotonic() < give_up:
                highest = max(highest, gateway.memory_kb() / 1024)
                time.sleep(0.01)
            time.sleep(bench.size(REST_S, 1))
            rest = gateway.memory_kb() / 1024
            until("it answers", gateway.answers)
            until("all is delivered", gateway.has_delivered, within_s=30)
            time.sleep(bench.size(REST_S, 1))
            return Rest(rest_mb=rest, asked_mb=gateway.memory_kb() / 1024, highest_mb=highest)
        finally:
            gateway.service.kill()


def with_a_backlog(
    bench: Bench, settled: Gateway, root: Path, readers: dict[str, tuple[str, str]], records: int
) -> tuple[float, float, float]:
    """Without a backlog; with it and no broker; the most while it drains. MB."""
    with backend(root / "backend", settled.office) as there:
        there.broker.stop()
        measured = []
        for name, waiting in (("empty", 0), ("full", records)):
            gateway = settled.copied_to(root / name, port=there.broker.port)
            gateway.readers = readers
            if waiting:
                fill(gateway.state / "journal", waiting, source=SOURCE)
            try:
                gateway.begin()
                until("it is ready", lambda: "ready: deciding" in gateway.service.said(), within_s=30)  # noqa: B023
                time.sleep(bench.size(REST_S, 1))
                measured.append(gateway.memory_kb() / 1024)
                if waiting:
                    there.broker.start()
                    until("it is delivered", gateway.has_delivered, within_s=60)
                    measured.append(gateway.memory_kb("VmHWM") / 1024)
            finally:
                gateway.service.kill()
        return measured[0], measured[1], measured[2]


BENCHMARK = Benchmark(name="memory", about="resident memory at rest and with a backlog", measure=measure)
