"""The conversation with a gpsd: found, fixes, silence, loss and return; and with what only stands on its port."""

from __future__ import annotations

import asyncio
import json
import time
from collections.abc import Awaitable, Callable, Iterator
from contextlib import asynccontextmanager
from itertools import repeat
from typing import Any

import pytest

from drivers.positions import gpsd as client
from drivers.positions.gpsd import Gpsd
from drivers.positions.receiver import Measured, Receiver, ReceiverEvent, ReceiverFound, ReceiverLost, Unmeasured
from drivers.positions.simulated import SimulatedReceiver

VERSION = b'{"class":"VERSION","release":"3.22","proto_major":3,"proto_minor":14}\r\n'
Talk = Callable[[asyncio.StreamReader, asyncio.StreamWriter], Awaitable[None]]


def soon() -> Iterator[float]:
    return repeat(0.01)


def a_fix(latitude: float = 52.5, *, second: int | None = 0, **fields: Any) -> bytes:
    report = {"class": "TPV", "mode": 3, "lat": latitude, "lon": 13.4, "eph": 10.0, **fields}
    if second is not None:
        report["time"] = f"2026-11-22T10:00:{second:02}.000Z"
    return json.dumps(report).encode() + b"\r\n"


class Listener:
    """What a receiver told, to be waited for."""

    def __init__(self) -> None:
        self.events: list[ReceiverEvent] = []
        self._news = asyncio.Event()

    def __call__(self, event: ReceiverEvent) -> None:
        self.events.append(event)
        self._news.set()

    async def until(self, kind: type[ReceiverEvent], count: int = 1) -> list[Any]:
        async with asyncio.timeout(3):
            while len(found := [each for each in self.events if isinstance(each, kind)]) < count:
                self._news.clear()
                await self._news.wait()
        return found


@asynccontextmanager
async def a_gpsd(talk: Talk, *, port: int = 0) -> Any:
    """Somebody on a port who talks like this to each who comes."""

    async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        try:
            await talk(reader, writer)
        except ConnectionError:
            pass  # the client went first
        finally:
            writer.close()

    server = await asyncio.start_server(serve, "127.0.0.1", port)
    try:
        yield server.sockets[0].getsockname()[1]
    finally:
        server.close()


@asynccontextmanager
async def listening(port: int, **settings: Any) -> Any:
    heard = Listener()
    task = asyncio.create_task(Gpsd("127.0.0.1", port, delays=soon, **settings).run(heard))
    try:
        yield heard
    finally:
        began = time.monotonic()
        task.cancel()
        await asyncio.gather(task, return_exceptions=True)
        assert time.monotonic() - began < 1


def saying(*lines: bytes, then_stay: bool = True) -> Talk:
    async def talk(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        writer.write(VERSION)
        await reader.readline()
        for line in lines:
            writer.write(line)
        await writer.drain()
        if then_stay:
            await reader.read()

    return talk


async def test_gpsd_is_asked_for_every_fix_and_tells_it() -> None:
    asked: list[bytes] = []

    async def talk(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        writer.write(VERSION)
        asked.append(await reader.readline())
        writer.write(b'{"class":"DEVICES","devices":[{"path":"/dev/ttyACM0"}]}\r\n' + a_fix())
        await reader.read()

    async with a_gpsd(talk) as port, listening(port, device="/dev/ttyACM0") as heard:
        (measured,) = await heard.until(Measured)

    assert asked == [b'?WATCH={"enable":true,"json":true,"device":"/dev/ttyACM0"};\n']
    assert heard.events[0] == ReceiverFound(detail="gpsd 3.22")
    assert (measured.latitude_udeg, measured.longitude_udeg, measured.accuracy_m) == (52_500_000, 13_400_000, 10)
    assert abs(time.monotonic_ns() // 1_000_000 - measured.monotonic_ms) < 2_000


async def test_a_receiver_that_repeats_one_moment_for_ever_does_not_stay_young(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(client, "EMIT_EVERY_MS", 0)

    async def talk(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        writer.write(VERSION)
        for second in (0, 0, 0, 1):
            writer.write(a_fix(second=second))
            await asyncio.sleep(0.03)
        await reader.read()

    async with a_gpsd(talk) as port, listening(port) as heard:
        measured = await heard.until(Measured, 4)

    first, again, and_again, later = (each.monotonic_ms for each in measured)
    assert first == again == and_again
    assert later - first >= 80


async def test_many_fixes_a_second_are_told_once_a_second_unless_one_is_better() -> None:
    lines = [a_fix(second=0, eph=20.0), a_fix(second=1, eph=21.0), a_fix(second=2, eph=5.0), a_fix(second=3, eph=6.0)]
    async with a_gpsd(saying(*lines, a_fix(mode=1))) as port, listening(port) as heard:
        await heard.until(Unmeasured)
        measured = await heard.until(Measured)

    assert [each.accuracy_m for each in measured] == [20, 5]


async def test_no_fix_is_told_once_and_the_next_fix_at_once() -> None:
    lines = (a_fix(), a_fix(mode=1), a_fix(mode=1), a_fix(second=1))
    async with a_gpsd(saying(*lines)) as port, listening(port) as heard:
        await heard.until(Measured, 2)

    assert [type(each) for each in heard.events] == [ReceiverFound, Measured, Unmeasured, Measured]


async def test_a_gpsd_without_a_receiver_says_so() -> None:
    async with a_gpsd(saying(b'{"class":"DEVICES","devices":[]}\n')) as port, listening(port) as heard:
        (unmeasured,) = await heard.until(Unmeasured)

    assert unmeasured.cause == "no receiver is attached to gpsd"


async def test_a_gpsd_that_ends_is_lost_once_and_found_again() -> None:
    async with a_gpsd(saying(a_fix(), then_stay=False)) as port, listening(port) as heard:
        await heard.until(ReceiverFound, 3)

    kinds = [type(each) for each in heard.events[:6]]
    assert kinds == [ReceiverFound, Measured, ReceiverLost, ReceiverFound, Measured, ReceiverLost]


async def test_where_nobody_listens_the_loss_is_told_once_however_often_it_is_tried() -> None:
    async with a_gpsd(saying()) as port:
        pass  # and gone
    async with listening(port) as heard:
        (lost,) = await heard.until(ReceiverLost)
        await asyncio.sleep(0.1)

    assert heard.events == [lost]
    assert f"no gpsd at 127.0.0.1:{port}" in lost.cause
    assert "[gpsd]" in lost.hint


async def test_a_silent_gpsd_is_asked_whether_it_is_still_there() -> None:
    asked: list[bytes] = []

    async def talk(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        writer.write(VERSION)
        while line := await reader.readline():
            asked.append(line)
            if line.startswith(b"?VERSION") and len(asked) < 4:
                writer.write(VERSION)

    async with a_gpsd(talk) as port, listening(port, silence_s=0.03) as heard:
        async with asyncio.timeout(3):
            while len(asked) < 3:
                await asyncio.sleep(0.01)

    assert asked[1:3] == [b"?VERSION;\n"] * 2
    assert [type(each) for each in heard.events] == [ReceiverFound]


async def test_a_gpsd_that_hangs_is_lost(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(client, "ANSWER_TIMEOUT_S", 0.05)
    async with a_gpsd(saying()) as port, listening(port, silence_s=0.05) as heard:
        (lost, *_) = await heard.until(ReceiverLost)

    assert lost.cause == "gpsd does not answer"


HOSTILE: list[tuple[str, bytes, str]] = [
    ("another protocol", b"HTTP/1.1 400 Bad Request\r\n\r\n", "no JSON"),
    ("reports before a version", a_fix(), "something else than its version first"),
    ("a version to come", VERSION.replace(b'"proto_major":3', b'"proto_major":4'), "protocol 4"),
    ("a line without end", VERSION + b"x" * 100_000, "without end"),
    ("rubbish after a good beginning", VERSION + b"\xff\x00\xfe\n", "no JSON"),
    ("a flood", VERSION + b'{"class":"SKY"}\n' * 2_000, "lines in a second"),
]


@pytest.mark.parametrize(("bytes_", "told"), [row[1:] for row in HOSTILE], ids=[row[0] for row in HOSTILE])
async def test_who_is_no_gpsd_is_left_and_tried_again_later(bytes_: bytes, told: str) -> None:
    async def talk(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        writer.write(bytes_)
        await reader.read()

    async with a_gpsd(talk) as port, listening(port) as heard:
        (lost, *_) = await heard.until(ReceiverLost)

    assert told in lost.cause
    assert not [each for each in heard.events if isinstance(each, Measured)]


async def test_a_simulated_receiver_obeys_the_same_protocol() -> None:
    receiver = SimulatedReceiver()
    as_protocol: Receiver = receiver
    receiver.is_at(52.5, 13.4)
    heard = Listener()
    task = asyncio.create_task(as_protocol.run(heard))

    await heard.until(Measured)
    receiver.goes_underground()
    receiver.dies()
    await heard.until(ReceiverLost)
    task.cancel()

    assert [type(each) for each in heard.events] == [ReceiverFound, Measured, Unmeasured, ReceiverLost]
