"""A TCP proxy that stands for a bad mobile link: cuts, delays, swallows, refuses. Its switches turn while it runs."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from dataclasses import dataclass, field


@dataclass
class FaultProxy:
    target_port: int
    # Upstream bytes of the next connection before both sides are aborted; exactly so many are forwarded.
    cut_after: Callable[[], int | None] = lambda: None
    latency_s: float = 0.0
    # Everything is accepted and nothing is forwarded: a half-open link.
    blackhole: bool = False
    refuse: bool = False

    port: int = 0
    cuts: int = 0
    connections: int = 0
    _tasks: set[asyncio.Task[None]] = field(default_factory=set)
    _writers: set[asyncio.StreamWriter] = field(default_factory=set)

    def drop_all(self) -> None:
        for writer in list(self._writers):
            writer.transport.abort()

    async def serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        task = asyncio.current_task()
        assert task is not None
        self._tasks.add(task)
        self.connections += 1
        onward = None
        try:
            if self.refuse:
                return
            onward_reader, onward = await asyncio.open_connection("127.0.0.1", self.target_port)
            self._writers |= {writer, onward}
            up = asyncio.create_task(self._pump(reader, onward, self.cut_after()))
            down = asyncio.create_task(self._pump(onward_reader, writer, None))
            try:
                await asyncio.wait([up, down], return_when=asyncio.FIRST_COMPLETED)
            finally:
                up.cancel()
                down.cancel()
                await asyncio.gather(up, down, return_exceptions=True)
        except (OSError, asyncio.CancelledError):
            pass
        finally:
            for side in (writer, onward):
                if side is not None:
                    self._writers.discard(side)
                    side.transport.abort()
            self._tasks.discard(task)

    async def _pump(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter, allowance: int | None) -> None:
        while chunk := await reader.read(4096):
            if self.blackhole:
                continue
            if self.latency_s:
                await asyncio.sleep(self.latency_s)
            if allowance is not None and len(chunk) >= allowance:
                writer.write(chunk[:allowance])
                await writer.drain()
                # Let the last bytes reach the other side before the reset overtakes them.
                await asyncio.sleep(0.002)
                self.cuts += 1
                return
            if allowance is not None:
                allowance -= len(chunk)
            writer.write(chunk)
            await writer.drain()


@asynccontextmanager
async def fault_proxy(target_port: int, **switches: object) -> AsyncIterator[FaultProxy]:
    proxy = FaultProxy(target_port, **switches)  # type: ignore[arg-type]
    server = await asyncio.start_server(proxy.serve, "127.0.0.1", 0)
    proxy.port = server.sockets[0].getsockname()[1]
    try:
        yield proxy
    finally:
        server.close()
        proxy.drop_all()
        for task in list(proxy._tasks):
            task.cancel()
        await asyncio.gather(*proxy._tasks, return_exceptions=True)
        await server.wait_closed()
