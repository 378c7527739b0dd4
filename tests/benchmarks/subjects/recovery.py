"""The broker was away and returns: how long until the first of the backlog is acknowledged, beyond the back-off."""

from __future__ import annotations

import time
from collections.abc import Sequence
from contextlib import closing, suppress
from pathlib import Path

from tests.benchmarks.gateway import TOPICS, Gateway, Observer, backend, settled_gateway
from tests.benchmarks.measurement import Bench, Benchmark, Row, load, median, spread
from tests.benchmarks.metered_proxy import MeteredProxy
from tests.end_to_end.premises import until

WAITING = 200


def measure(bench: Bench) -> Sequence[Row]:
    home = bench.fresh("recovery")
    settled = settled_gateway(home)
    outages = [one_outage(settled, home / f"run-{run}", run) for run in range(bench.runs(9))]
    waits = [each[0] for each in outages]
    return [
        Row(
            name="first acknowledgement after the broker returns",
            value=median(waits),
            unit="ms",
            runs=len(waits),
            note=(
                f"from the moment at which device and receiver are both connected again to the first signed "
                f"acknowledgement of the backlog; {spread(waits)} ms; counted from the broker's return, back-off "
                f"included: {median([each[1] for each in outages]):.0f} ms; {load()}"
            ),
            target="< 300 ms beyond the back-off",
        )
    ]


def one_outage(settled: Gateway, root: Path, run: int) -> tuple[float, float]:
    """Milliseconds beyond both back-offs, and since the broker accepts."""
    with backend(root / "backend", settled.office, metered=True) as there, MeteredProxy(there.broker.port) as link:
        gateway = settled.copied_to(root / "gateway", port=link.port)
        assert there.receiver_link is not None
        try:
            gateway.start()
            until("all is delivered", gateway.has_delivered, within_s=30)
            there.broker.kill()
            for number in range(10):
                gateway.api.post("/v1/decisions", {"uid": f"04{run:02X}{number:02X}55667788", "charger": "bay"})
            held = gateway.status()["journal"]
            assert held["backlog"] > 0
            before = held["records"] - held["backlog"]
            there.broker.start()
            returned = time.monotonic()
            with closing(Observer(there.broker.port)) as observer:
                done = observer.first(
                    lambda each: each.topic == TOPICS.ack and each.through > before, "the backlog is acknowledged"
                )
            together = max(
                next(at for at in proxy.answered if at > returned - 0.1) for proxy in (link, there.receiver_link)
            )
        finally:
            with suppress(ProcessLookupError):
                gateway.service.kill()
    return (done.at - together) * 1000, (done.at - returned) * 1000


BENCHMARK = Benchmark(name="recovery", about="the broker returns", measure=measure)
