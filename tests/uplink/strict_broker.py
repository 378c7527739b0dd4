"""A small MQTT broker that is strict and can be naughty: what no real broker offers on demand.

MQTT 5 and 3.1.1, QoS 0 and 1, retained messages, wildcards. It ends a connection that exceeds Receive Maximum with
0x93, and can delay or withhold PUBACK, answer any reason, cut after N publishes, stay silent, or talk junk.
"""

from __future__ import annotations

import asyncio
import struct
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from dataclasses import dataclass, field

CONNECT, CONNACK, PUBLISH, PUBACK, SUBSCRIBE, SUBACK = 1, 2, 3, 4, 8, 9
UNSUBSCRIBE, UNSUBACK, PINGREQ, PINGRESP, DISCONNECT = 10, 11, 12, 13, 14


@dataclass
class StrictBroker:
    """Its switches may be turned while it runs; its counters tell what it saw."""

    receive_maximum: int = 20
    maximum_packet_size: int | None = None
    speaks_mqtt_5: bool = True
    puback_delay_s: float = 0.0
    withhold_pubacks: bool = False
    # The reason for a publish to a topic; None takes it normally.
    reason_for: Callable[[str], int | None] = lambda topic: None
    # Whether a message that was taken is handed on; a real broker may lose it after its PUBACK.
    hands_on: Callable[[str, bytes], bool] = lambda topic, payload: True
    cut_after_publishes: int | None = None
    silent: bool = False
    junk: bytes | None = None

    port: int = 0
    violations: int = 0
    connects: int = 0
    # The most unacknowledged publishes at once, by client identifier.
    most_in_flight: dict[str, int] = field(default_factory=dict)
    published: list[tuple[str, bytes]] = field(default_factory=list)
    retained: dict[str, bytes] = field(default_factory=dict)
    wills: list[tuple[str, bytes]] = field(default_factory=list)
    _peers: list[_Peer] = field(default_factory=list)
    _tasks: set[asyncio.Task[None]] = field(default_factory=set)

    def publish_to_all(self, topic: str, payload: bytes, *, retain: bool = False) -> int:
        """As a (rogue) client would; the number of connections it went to."""
        if retain:
            self.retained[topic] = payload
        peers = [peer for peer in self._peers if any(matches(name, topic) for name in peer.filters)]
        for peer in peers:
            peer.deliver(topic, payload)
        return len(peers)

    def cut_everyone(self) -> None:
        for peer in list(self._peers):
            peer.writer.transport.abort()

    async def serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        task = asyncio.current_task()
        assert task is not None
        self._tasks.add(task)
        peer = _Peer(self, reader, writer)
        self._peers.append(peer)
        self.connects += 1
        try:
            if self.junk is not None:
                writer.write(self.junk)
                await writer.drain()
            await peer.run()
        except (asyncio.IncompleteReadError, OSError, struct.error, IndexError, asyncio.CancelledError):
            pass
        finally:
            self._peers.remove(peer)
            self._tasks.discard(task)
            writer.transport.abort()
            if peer.will is not None:
                self.wills.append(peer.will)
                self.publish_to_all(*peer.will, retain=True)


@asynccontextmanager
async def strict_broker(**switches: object) -> AsyncIterator[StrictBroker]:
    broker = StrictBroker(**switches)  # type: ignore[arg-type]
    server = await asyncio.start_server(broker.serve, "127.0.0.1", broker.port)
    broker.port = server.sockets[0].getsockname()[1]
    try:
        yield broker
    finally:
        server.close()
        broker.cut_everyone()
        for task in list(broker._tasks):
            task.cancel()
        await asyncio.gather(*broker._tasks, return_exceptions=True)
        await server.wait_closed()


class _Peer:
    def __init__(self, broker: StrictBroker, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self.broker = broker
        self.reader = reader
        self.writer = writer
        self.filters: list[str] = []
        self.will: tuple[str, bytes] | None = None
        self.version = 4
        self.name = ""
        self._packet_id = 0
        self._unacknowledged: set[int] = set()
        self._publishes = 0

    async def run(self) -> None:
        while True:
            first = (await self.reader.readexactly(1))[0]
            body = await self.reader.readexactly(await self._remaining_length())
            if self.broker.silent:
                continue
            kind = first >> 4
            if kind == CONNECT:
                if not self._connect(body):
                    return
            elif kind == PUBLISH:
                if not self._publish(first, body):
                    return
            elif kind == SUBSCRIBE:
                self._subscribe(body)
            elif kind == UNSUBSCRIBE:
                packet_id, names = self._filters(body, options=False)
                self.filters = [name for name in self.filters if name not in names]
                codes = bytes(len(names)) if self.version == 5 else b""
                self._write(UNSUBACK, 0, packet_id + self._no_properties + codes)
            elif kind == PINGREQ:
                self._write(PINGRESP, 0, b"")
            elif kind == DISCONNECT:
                self.will = None
                return

    def deliver(self, topic: str, payload: bytes, content_type: bytes = b"", *, retained: bool = False) -> None:
        self._packet_id = self._packet_id % 65535 + 1
        name = topic.encode()
        properties = b""
        if self.version == 5:
            inside = b"\x03" + _text(content_type) if content_type else b""
            properties = _length(len(inside)) + inside
        packet = _text(name) + struct.pack("!H", self._packet_id) + properties + payload
        self._write(PUBLISH, 0b0011 if retained else 0b0010, packet)

    def _connect(self, body: bytes) -> bool:
        self.version = body[6]
        flags = body[7]
        at = 10
        if self.version == 5:
            if not self.broker.speaks_mqtt_5:
                # As a 3.1.1 broker answers: return code 1, unacceptable protocol version.
                self._write(CONNACK, 0, b"\x00\x01")
                return False
            _, at = _properties(body, at)
        name, at = _take_text(body, at)
        self.name = name.decode()
        if flags & 0b100:
            if self.version == 5:
                _, at = _properties(body, at)
            topic, at = _take_text(body, at)
            payload, at = _take_text(body, at)
            self.will = (topic.decode(), payload)
        answer = b"\x00\x00"
        if self.version == 5:
            inside = b"\x21" + struct.pack("!H", self.broker.receive_maximum)
            if self.broker.maximum_packet_size is not None:
                inside += b"\x27" + struct.pack("!I", self.broker.maximum_packet_size)
            answer += _length(len(inside)) + inside
        self._write(CONNACK, 0, answer)
        return True

    def _publish(self, first: int, body: bytes) -> bool:
        broker = self.broker
        limit = broker.maximum_packet_size
        if limit is not None and len(body) + 5 > limit:
            broker.violations += 1
            self._disconnect(0x95)
            return False
        name, at = _take_text(body, 0)
        topic = name.decode()
        packet_id = 0
        if first & 0b110:
            (packet_id,) = struct.unpack_from("!H", body, at)
            at += 2
        content_type = b""
        if self.version == 5:
            properties, at = _properties(body, at)
            if properties[:1] == b"\x03":
                content_type, _ = _take_text(properties, 1)
        payload = body[at:]
        self._publishes += 1
        if broker.cut_after_publishes is not None and self._publishes > broker.cut_after_publishes:
            self.writer.transport.abort()
            return False
        if packet_id:
            self._unacknowledged.add(packet_id)
            most = max(broker.most_in_flight.get(self.name, 0), len(self._unacknowledged))
            broker.most_in_flight[self.name] = most
            if len(self._unacknowledged) > broker.receive_maximum:
                broker.violations += 1
                self._disconnect(0x93)
                return False
        broker.published.append((topic, payload))
        reason = broker.reason_for(topic)
        if reason is None or reason == 0x10:
            if first & 1:
                broker.retained[topic] = payload
            if reason is None:
                reason = self._hand_on(topic, payload, content_type)
        if packet_id and not broker.withhold_pubacks:
            asyncio.get_running_loop().call_later(broker.puback_delay_s, self._puback, packet_id, reason)
        return True

    def _hand_on(self, topic: str, payload: bytes, content_type: bytes) -> int:
        if not self.broker.hands_on(topic, payload):
            return 0
        peers = [peer for peer in self.broker._peers if any(matches(name, topic) for name in peer.filters)]
        for peer in peers:
            peer.deliver(topic, payload, content_type)
        return 0 if peers else 0x10

    def _puback(self, packet_id: int, reason: int) -> None:
        self._unacknowledged.discard(packet_id)
        more = bytes([reason]) if self.version == 5 and reason else b""
        self._write(PUBACK, 0, struct.pack("!H", packet_id) + more)

    def _subscribe(self, body: bytes) -> None:
        packet_id, names = self._filters(body, options=True)
        self.filters += [name for name in names if name not in self.filters]
        self._write(SUBACK, 0, packet_id + self._no_properties + b"\x01" * len(names))
        for topic, payload in self.broker.retained.items():
            if payload and any(matches(name, topic) for name in names):
                self.deliver(topic, payload, retained=True)

    def _filters(self, body: bytes, *, options: bool) -> tuple[bytes, list[str]]:
        at = 2
        if self.version == 5:
            _, at = _properties(body, at)
        names = []
        while at < len(body):
            name, at = _take_text(body, at)
            at += options
            names.append(name.decode())
        return body[:2], names

    @property
    def _no_properties(self) -> bytes:
        return b"\x00" if self.version == 5 else b""

    def _disconnect(self, reason: int) -> None:
        if self.version == 5:
            self._write(DISCONNECT, 0, bytes([reason, 0]))

    def _write(self, kind: int, flags: int, body: bytes) -> None:
        if not self.writer.is_closing():
            self.writer.write(bytes([kind << 4 | flags]) + _length(len(body)) + body)

    async def _remaining_length(self) -> int:
        length = shift = 0
        while True:
            byte = (await self.reader.readexactly(1))[0]
            length |= (byte & 127) << shift
            shift += 7
            if not byte & 128:
                return length


def matches(name: str, topic: str) -> bool:
    """Whether a topic filter covers a topic (MQTT 5.0, 4.7)."""
    filters, levels = name.split("/"), topic.split("/")
    for at, part in enumerate(filters):
        if part == "#":
            return True
        if at >= len(levels) or part not in ("+", levels[at]):
            return False
    return len(filters) == len(levels)


def _text(text: bytes) -> bytes:
    return struct.pack("!H", len(text)) + text


def _take_text(body: bytes, at: int) -> tuple[bytes, int]:
    (length,) = struct.unpack_from("!H", body, at)
    return body[at + 2 : at + 2 + length], at + 2 + length


def _length(length: int) -> bytes:
    out = bytearray()
    while True:
        length, low = divmod(length, 128)
        out.append(low | (128 if length else 0))
        if not length:
            return bytes(out)


def _properties(body: bytes, at: int) -> tuple[bytes, int]:
    length = shift = 0
    while True:
        byte = body[at]
        at += 1
        length |= (byte & 127) << shift
        shift += 7
        if not byte & 128:
            return body[at : at + length], at + length
