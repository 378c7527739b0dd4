"""RabbitMQ with its MQTT plugin and nats-server, as private processes on loopback: no service, no shared port mapper.

Both speak MQTT 3.1.1 only. They can be killed and started again over the same store.
"""

from __future__ import annotations

import asyncio
import contextlib
import os
import shutil
import signal
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path

import pytest

from sync.loopback_broker import free_port

PATH = f"{os.environ.get('PATH', '')}:/usr/sbin:/usr/local/sbin"
# RabbitMQ needs about 10 s alone; on a busy machine of two cores several times as much.
READY_WITHIN_S = 90.0


class ForeignBroker:
    """One broker: its commands are started in order, the last one is the broker itself."""

    def __init__(self, folder: Path, port: int, commands: list[list[str]], environment: dict[str, str]) -> None:
        self.folder = folder
        self.port = port
        self._commands = commands
        self._environment = environment
        self._processes: list[asyncio.subprocess.Process] = []

    async def start(self) -> None:
        with (self.folder / "broker.log").open("ab") as log:
            for command in self._commands:
                self._processes.append(
                    await asyncio.create_subprocess_exec(
                        *command,
                        stdin=asyncio.subprocess.DEVNULL,
                        stdout=log,
                        stderr=log,
                        env=self._environment,
                        # RabbitMQ's launcher is a shell script over the real program: all end together.
                        start_new_session=True,
                    )
                )
        try:
            async with asyncio.timeout(READY_WITHIN_S):
                while not await self._answers():
                    if self._processes[-1].returncode is not None:
                        pytest.fail(f"{self._commands[-1][0]} ended at once: {self._last_words()}")
                    await asyncio.sleep(0.1)
        except TimeoutError:
            pytest.fail(f"{self._commands[-1][0]} is not ready within {READY_WITHIN_S:g} s: {self._last_words()}")

    async def kill(self) -> None:
        """SIGKILL, as a power cut would end it."""
        processes, self._processes = self._processes, []
        for process in processes:
            with contextlib.suppress(ProcessLookupError):
                os.killpg(process.pid, signal.SIGKILL)
            await process.wait()

    async def _answers(self) -> bool:
        """An MQTT CONNECT is answered: the port alone is open earlier than the broker works."""
        try:
            async with asyncio.timeout(2.0):
                reader, writer = await asyncio.open_connection("127.0.0.1", self.port)
                try:
                    writer.write(b"\x10\x11\x00\x04MQTT\x04\x02\x00\x0a\x00\x05probe")
                    return await reader.readexactly(4) == b"\x20\x02\x00\x00"
                finally:
                    writer.close()
        except (OSError, TimeoutError, asyncio.IncompleteReadError):
            return False

    def _last_words(self) -> str:
        return (self.folder / "broker.log").read_text(encoding="utf-8", errors="replace")[-800:]


@asynccontextmanager
async def rabbitmq(folder: Path) -> AsyncIterator[ForeignBroker]:
    home = made(folder / "rabbitmq")
    (launcher,) = [*Path("/usr/lib/rabbitmq/lib").glob("rabbitmq_server-*/sbin/rabbitmq-server")] or [
        missing("rabbitmq-server")
    ]
    port, amqp_port, mapper_port = free_port(), free_port(), free_port()
    cookie = home / ".erlang.cookie"
    cookie.write_text("roamkeytests")
    cookie.chmod(0o400)
    (home / "rabbitmq.conf").write_text(
        f"listeners.tcp.local = 127.0.0.1:{amqp_port}\n"
        f"mqtt.listeners.tcp.1 = 127.0.0.1:{port}\n"
        "mqtt.allow_anonymous = true\n"
        "mqtt.default_user = guest\n"
        "mqtt.default_pass = guest\n"
        "mqtt.prefetch = 100\n"
        "disk_free_limit.absolute = 50MB\n"
    )
    (home / "plugins").write_text("[rabbitmq_mqtt].\n")
    environment = {
        "PATH": PATH,
        "HOME": str(home),
        "LANG": "C.UTF-8",
        "ERL_EPMD_PORT": str(mapper_port),
        "ERL_EPMD_ADDRESS": "127.0.0.1",
        "RABBITMQ_NODENAME": "roamkey@localhost",
        "RABBITMQ_NODE_PORT": str(amqp_port),
        "RABBITMQ_DIST_PORT": str(free_port()),
        "RABBITMQ_CONFIG_FILE": str(home / "rabbitmq.conf"),
        "RABBITMQ_MNESIA_BASE": str(made(home / "mnesia")),
        "RABBITMQ_LOG_BASE": str(made(home / "log")),
        "RABBITMQ_PID_FILE": str(home / "pid"),
        "RABBITMQ_ENABLED_PLUGINS_FILE": str(home / "plugins"),
        "RABBITMQ_SERVER_ADDITIONAL_ERL_ARGS": "-kernel inet_dist_use_interface {127,0,0,1} +S 1:1 +sbwt none",
    }
    # A port mapper of our own in the foreground: the one that RabbitMQ starts itself would outlive it.
    mapper = [found("epmd", "erlang-base"), "-port", str(mapper_port), "-address", "127.0.0.1"]
    async with started(ForeignBroker(home, port, [mapper, [str(launcher)]], environment)) as broker:
        yield broker


@asynccontextmanager
async def nats(folder: Path) -> AsyncIterator[ForeignBroker]:
    home = made(folder / "nats")
    port = free_port()
    (home / "nats.conf").write_text(
        "server_name: roamkey\n"
        f"listen: 127.0.0.1:{free_port()}\n"
        f'jetstream {{ store_dir: "{home}/store" }}\n'
        f"mqtt {{ listen: 127.0.0.1:{port} }}\n"
    )
    command = [found("nats-server", "nats-server"), "-c", str(home / "nats.conf")]
    async with started(ForeignBroker(home, port, [command], {"PATH": PATH})) as broker:
        yield broker


@asynccontextmanager
async def started(broker: ForeignBroker) -> AsyncIterator[ForeignBroker]:
    try:
        await broker.start()
        yield broker
    finally:
        await broker.kill()


def made(folder: Path) -> Path:
    folder.mkdir()
    return folder


def found(program: str, package: str) -> str:
    return shutil.which(program, path=PATH) or str(missing(package))


def missing(package: str) -> Path:
    """Without the real broker its delivery is not tested at all: that is a failure, not a skip."""
    pytest.fail(f"{package} is not installed: `make needs` installs what the tests need")
