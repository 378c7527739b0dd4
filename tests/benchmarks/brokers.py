"""A real mosquitto that a benchmark starts, kills and starts again."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import ExitStack, contextmanager
from pathlib import Path

from sync.loopback_broker import Engine, LoopbackBroker, free_port
from tests.end_to_end.premises import Beside


class Mosquitto:
    """One broker on one port; `options` are further lines of its configuration."""

    def __init__(self, beside: Beside, folder: Path, options: Sequence[str] = (), *, port: int | None = None) -> None:
        folder.mkdir(parents=True)
        self._beside = beside
        self._broker = LoopbackBroker(folder, port or free_port(), Engine.MOSQUITTO, options)
        self.port = self._broker.port
        self.log = folder / "broker.log"

    def start(self) -> None:
        self._beside.wait(self._broker.start())

    def stop(self) -> None:
        self._beside.wait(self._broker.stop())

    def kill(self) -> None:
        self._beside.wait(self._broker.kill())


@contextmanager
def beside_us() -> Iterator[Beside]:
    """An event loop in a thread, for what lives on one."""
    with ExitStack() as stack:
        beside = Beside()
        stack.callback(beside.close)
        yield beside
