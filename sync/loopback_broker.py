"""A real broker on loopback for the demo and the tests: mosquitto when it is installed, else the `amqtt` package.

It can be killed and started again on the same port. Nothing in the field needs it: a fleet has its own broker.
"""

from __future__ import annotations

import asyncio
import contextlib
import ctypes
import getpass
import os
import shutil
import signal
import socket
import sys
from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager
from enum import StrEnum
from importlib.util import find_spec
from pathlib import Path

_READY_WITHIN_S = 15.0
_GONE_WITHIN_S = 5.0


class Engine(StrEnum):
    MOSQUITTO = "mosquitto"
    AMQTT = "amqtt"


class NoBroker(Exception):
    """No broker program can be started here; the text says what to install."""


def installed_engine() -> Engine:
    if _mosquitto() is not None:
        return Engine.MOSQUITTO
    if find_spec("amqtt") is not None:
        return Engine.AMQTT
    raise NoBroker("no MQTT broker here: install Debian's mosquitto, or roamkey with the extra [demo]")


@asynccontextmanager
async def loopback_broker(
    folder: Path, *, port: int | None = None, engine: Engine | None = None, options: Sequence[str] = ()
) -> AsyncIterator[LoopbackBroker]:
    """A started broker; `folder` holds its store and log, `options` are further lines for mosquitto.conf."""
    broker = LoopbackBroker(folder, port or free_port(), engine or installed_engine(), options)
    await broker.start()
    try:
        yield broker
    finally:
        await broker.stop()


class LoopbackBroker:
    """One broker process at a time, on one port."""

    def __init__(self, folder: Path, port: int, engine: Engine, options: Sequence[str]) -> None:
        self.port = port
        self.engine = engine
        self.folder = folder
        self._options = options
        self._process: asyncio.subprocess.Process | None = None

    async def start(self) -> None:
        self.folder.mkdir(parents=True, exist_ok=True)
        with (self.folder / "broker.log").open("ab") as log:
            self._process = await asyncio.create_subprocess_exec(
                *self._command(),
                stdin=asyncio.subprocess.DEVNULL,
                stdout=log,
                stderr=log,
                preexec_fn=end_with_parent,
            )
        try:
            async with asyncio.timeout(_READY_WITHIN_S):
                while not await self._accepts():
                    if self._process.returncode is not None:
                        raise NoBroker(f"{self.engine} ended at once: {self._last_words()}")
                    await asyncio.sleep(0.02)
        except TimeoutError:
            await self.kill()
            raise NoBroker(f"{self.engine} does not accept connections on port {self.port}") from None

    async def stop(self) -> None:
        """A clean end, so that the store is saved."""
        process = self._process
        if process is None or process.returncode is not None:
            return
        process.terminate()
        try:
            async with asyncio.timeout(_GONE_WITHIN_S):
                await process.wait()
        except TimeoutError:
            await self.kill()

    async def kill(self) -> None:
        """As a power cut would end it."""
        if self._process is not None and self._process.returncode is None:
            self._process.kill()
            await self._process.wait()

    async def _accepts(self) -> bool:
        try:
            _, writer = await asyncio.open_connection("127.0.0.1", self.port)
        except OSError:
            return False
        writer.close()
        with contextlib.suppress(OSError):
            await writer.wait_closed()
        return True

    def _command(self) -> list[str]:
        if self.engine is Engine.AMQTT:
            return [sys.executable, "-m", "sync.loopback_broker", str(self.port)]
        program = _mosquitto()
        if program is None:
            raise NoBroker("mosquitto is not installed: apt-get install mosquitto")
        settings = self.folder / "mosquitto.conf"
        lines = [
            f"listener {self.port} 127.0.0.1",
            "allow_anonymous true",
            "set_tcp_nodelay true",
            "persistence true",
            f"persistence_location {self.folder}/",
            # Started as root it would become another user, who may not write here.
            f"user {getpass.getuser()}",
            *self._options,
        ]
        settings.write_text("\n".join(lines) + "\n", encoding="utf-8")
        return [program, "-c", str(settings)]

    def _last_words(self) -> str:
        lines = (self.folder / "broker.log").read_text(encoding="utf-8", errors="replace").splitlines()
        return lines[-1] if lines else "it said nothing"


_LIBC = ctypes.CDLL(None)  # loaded before any fork
_PR_SET_PDEATHSIG = 1


def end_with_parent() -> None:
    """For a child, before it becomes its program: whatever ends the parent, SIGKILL too, ends the child (prctl(2))."""
    _LIBC.prctl(_PR_SET_PDEATHSIG, signal.SIGTERM)


def free_port() -> int:
    """A port that nobody listens on now; another program could still take it first."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


def _mosquitto() -> str | None:
    # Debian installs it where an ordinary user's PATH does not look.
    return shutil.which("mosquitto", path=f"{os.environ.get('PATH', '')}:/usr/sbin:/usr/local/sbin")


async def _serve_amqtt(port: int) -> None:
    from amqtt.broker import Broker

    broker = Broker(
        {
            "listeners": {"default": {"type": "tcp", "bind": f"127.0.0.1:{port}"}},
            "plugins": {"amqtt.plugins.authentication.AnonymousAuthPlugin": {"allow_anonymous": True}},
        }
    )
    await broker.start()
    await asyncio.Event().wait()


if __name__ == "__main__":
    asyncio.run(_serve_amqtt(int(sys.argv[1])))
