"""A bad link between MQTT clients and a broker: a connection is cut, delayed, goes half-open, or repeats packets."""

from __future__ import annotations

import asyncio
import random
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from enum import StrEnum

from tests.uplink.fault_proxy import FaultProxy

PUBLISH = 3
MOST_DELAY_S = 0.03


class Fault(StrEnum):
    NONE = "none"
    CUT = "cut"
    DELAY = "delay"
    HALF_OPEN = "half-open"
    REPEAT = "repeat"


ODDS = {Fault.NONE: 10, Fault.CUT: 4, Fault.DELAY: 3, Fault.HALF_OPEN: 1, Fault.REPEAT: 4}


@dataclass
class BadLink(FaultProxy):
    """`is_good`: from then on, new connections have no fault."""

    chance: random.Random = field(default_factory=random.Random)
    is_good: bool = False
    faults: dict[Fault, int] = field(default_factory=dict)

    async def _pump(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter, allowance: int | None) -> None:
        fault = Fault.NONE if self.is_good else self.chance.choices(list(ODDS), list(ODDS.values()))[0]
        self.faults[fault] = self.faults.get(fault, 0) + 1
        match fault:
            case Fault.NONE:
                await super()._pump(reader, writer, None)
            case Fault.CUT:
                await super()._pump(reader, writer, self.chance.randint(100, 20_000))
            case Fault.DELAY:
                await self._delayed(reader, writer)
            case Fault.HALF_OPEN:
                await self._half_open(reader, writer)
            case Fault.REPEAT:
                await self._repeating(reader, writer)

    async def _delayed(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        while chunk := await reader.read(4096):
            await asyncio.sleep(self.chance.uniform(0, MOST_DELAY_S))
            writer.write(chunk)
            await writer.drain()

    async def _half_open(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        """It looks connected, and from some byte on nothing arrives any more."""
        allowance = self.chance.randint(200, 10_000)
        while chunk := await reader.read(4096):
            if allowance > 0:
                writer.write(chunk[:allowance])
                await writer.drain()
            allowance -= len(chunk)

    async def _repeating(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        """Every third PUBLISH comes twice, the second time marked as a duplicate, as after a lost PUBACK."""
        while packet := await _packet(reader):
            writer.write(packet)
            if packet[0] >> 4 == PUBLISH and packet[0] & 0b110 and self.chance.random() < 1 / 3:
                writer.write(bytes((packet[0] | 0b1000,)) + packet[1:])
            await writer.drain()


async def _packet(reader: asyncio.StreamReader) -> bytes:
    """One MQTT control packet, whole; empty at the end of the connection."""
    try:
        head = await reader.readexactly(1)
        length, shift = 0, 0
        while True:
            head += (byte := await reader.readexactly(1))
            length |= (byte[0] & 0x7F) << shift
            shift += 7
            if byte[0] < 0x80:
                return head + await reader.readexactly(length)
    except asyncio.IncompleteReadError:
        return b""


@asynccontextmanager
async def bad_link(target_port: int, chance: random.Random) -> AsyncIterator[BadLink]:
    link = BadLink(target_port, chance=chance)
    server = await asyncio.start_server(link.serve, "127.0.0.1", 0, limit=4 << 20)
    link.port = server.sockets[0].getsockname()[1]
    try:
        yield link
    finally:
        server.close()
        link.drop_all()
        for task in list(link._tasks):
            task.cancel()
        await asyncio.gather(*link._tasks, return_exceptions=True)
        await server.wait_closed()
