"""One MQTT connection, from CONNECT to its end. paho-mqtt is known in this file only.

A Link is made for one connection and thrown away with it: paho resends its whole queue on reconnect and ignores the
broker's Receive Maximum, so it never gets to reconnect and its queue is never deeper than our window. Reconnecting,
resending and what messages mean is in `sync.uplink` and `sync.backend.receiver`; TLS is in `sync.tls`.
"""

from __future__ import annotations

import asyncio
import contextlib
import os
import socket
from collections.abc import AsyncIterator, Callable, Iterable
from contextlib import asynccontextmanager
from dataclasses import dataclass, field, replace
from enum import StrEnum
from typing import Any

import paho.mqtt.client as paho
from paho.mqtt.enums import CallbackAPIVersion, MQTTErrorCode
from paho.mqtt.packettypes import PacketTypes
from paho.mqtt.properties import Properties
from paho.mqtt.subscribeoptions import SubscribeOptions

from sync.link_errors import (
    AnswerMissing,
    BrokerRefused,
    BrokerSilent,
    BrokerUnreachable,
    BrokerUntrusted,
    CertificateRefused,
    LinkError,
    LinkLost,
    LinkMisconfigured,
    SubscribeRefused,
)
from sync.tls import Tls, explained, tls_context

__all__ = [
    "AnswerMissing",
    "BrokerRefused",
    "BrokerSilent",
    "BrokerUnreachable",
    "BrokerUntrusted",
    "CertificateRefused",
    "Dialect",
    "Link",
    "LinkError",
    "LinkLost",
    "LinkMisconfigured",
    "LinkSettings",
    "Message",
    "Protocol",
    "SubscribeRefused",
    "Tls",
    "Will",
    "open_link",
]

# PUBACK and DISCONNECT reasons that mean something to a sender (MQTT 5.0, 3.4.2.1 and 3.14.2.1).
SUCCESS = 0x00
NO_MATCHING_SUBSCRIBERS = 0x10
NOT_AUTHORIZED = 0x87
PACKET_TOO_LARGE = 0x95
QUOTA_EXCEEDED = 0x97
_UNSUPPORTED_PROTOCOL_VERSION = 0x84


class Protocol(StrEnum):
    MQTT_5 = "5"
    MQTT_3_1_1 = "3.1.1"


@dataclass(frozen=True, slots=True, kw_only=True)
class LinkSettings:
    """How to reach a broker. `tls=None` is a plain connection: it must be asked for, there is no default."""

    host: str
    port: int
    client_id: str
    tls: Tls | None
    username: str | None = None
    password: str | None = field(default=None, repr=False)
    # None tries MQTT 5 first and falls back to 3.1.1 by what the broker does.
    protocol: Protocol | None = None
    # A half-open link is noticed after one to two of these.
    keepalive_s: int = 30
    # DNS, TCP, TLS and CONNACK together.
    connect_timeout_s: float = 10.0
    # SUBACK and PUBACK.
    answer_timeout_s: float = 10.0
    # Our own packets without PUBACK; the broker's Receive Maximum lowers it.
    in_flight: int = 20
    # What we let the broker have unacknowledged towards us, and how large one packet may be (MQTT 5).
    inbound: int = 100
    inbound_packet_bytes: int = 2 * 1024 * 1024


@dataclass(frozen=True, slots=True, kw_only=True)
class Will:
    """What the broker says for us when we are gone: retained, QoS 1."""

    topic: str
    payload: bytes
    # MQTT 5 only; long enough that a short cut does not show as an outage.
    delay_s: int = 30


@dataclass(frozen=True, slots=True, kw_only=True)
class Message:
    """One message from the broker. Until `Link.acknowledge(message)` the broker keeps it for us."""

    topic: str
    payload: bytes
    content_type: str | None
    retained: bool
    packet_id: int
    qos: int


@dataclass(frozen=True, slots=True, kw_only=True)
class Dialect:
    """Which protocol version to try next. Once a version has worked it is kept for the life of the process."""

    wanted: Protocol | None = None
    tried: Protocol = Protocol.MQTT_5
    proven: bool = False

    @property
    def next(self) -> Protocol:
        return self.wanted or self.tried

    def worked(self) -> Dialect:
        return replace(self, proven=True)

    def failed(self, error: LinkError) -> Dialect:
        """Brokers that do not know MQTT 5 say so (0x84), close, or stay silent: RabbitMQ 3.10 and amqtt."""
        unanswered = isinstance(error, BrokerSilent) or (
            isinstance(error, BrokerRefused) and error.code == _UNSUPPORTED_PROTOCOL_VERSION
        )
        if self.proven or not unanswered:
            return self
        other = Protocol.MQTT_3_1_1 if self.tried is Protocol.MQTT_5 else Protocol.MQTT_5
        return replace(self, tried=other)


@asynccontextmanager
async def open_link(
    settings: LinkSettings, *, protocol: Protocol | None = None, will: Will | None = None
) -> AsyncIterator[Link]:
    """A connected link; it is closed on leaving, whatever happened inside."""
    link = Link(settings, protocol=protocol or settings.protocol or Protocol.MQTT_5, will=will)
    try:
        await link._connect()
        yield link
    finally:
        await link._close()


class Link:
    """Made by `open_link`. Every method must be called on the event loop that opened it; every wait ends."""

    def __init__(self, settings: LinkSettings, *, protocol: Protocol, will: Will | None) -> None:
        self.protocol = protocol
        self.encrypted = settings.tls is not None
        # The broker's announcements; until CONNACK ours.
        self.receive_maximum = settings.in_flight
        self.maximum_packet_size: int | None = None
        self.retain_available = True
        self._settings = settings
        self._loop = asyncio.get_running_loop()
        self._greeted: asyncio.Future[None] = self._loop.create_future()
        self._ended = asyncio.Event()
        self._thread_ended = asyncio.Event()
        self._end_reason = ""
        self._answers: dict[int, asyncio.Future[list[int]]] = {}
        self._slots = asyncio.Semaphore(settings.in_flight)
        self._inbox: asyncio.Queue[Message | None] = asyncio.Queue()
        self._tls = None if settings.tls is None else tls_context(settings.tls)
        self._client = self._make_client(will)

    @property
    def is_up(self) -> bool:
        return self._greeted.done() and not self._ended.is_set()

    @property
    def has_room(self) -> bool:
        """Whether a batch may start now. One packet of the broker's Receive Maximum is left for what cannot wait."""
        return not self._slots.locked() and len(self._answers) + 1 < max(2, self.receive_maximum)

    async def ended(self) -> str:
        """Wait until the connection has ended; the answer says why."""
        await self._ended.wait()
        return self._end_reason

    async def receive(self) -> Message:
        message = await self._inbox.get()
        if message is None:
            self._inbox.put_nowait(None)
            raise LinkLost(self._end_reason)
        return message

    def receive_waiting(self, most: int) -> list[Message]:
        """Further messages that are here already; none when the link has ended."""
        messages: list[Message] = []
        while len(messages) < most and not self._inbox.empty() and not self._ended.is_set():
            message = self._inbox.get_nowait()
            if message is not None:
                messages.append(message)
        return messages

    def acknowledge(self, message: Message) -> None:
        """Tell the broker that it may forget the message. Only after it is durable here, where that matters."""
        if message.qos and not self._ended.is_set():
            self._client.ack(message.packet_id, message.qos)

    async def subscribe(self, topics: Iterable[str]) -> None:
        """Return after SUBACK. A granted subscription proves nothing yet: judge by what arrives."""
        names = list(topics)
        codes = await self._answer(
            *self._client.subscribe([(name, SubscribeOptions(qos=1)) for name in names])
            if self.protocol is Protocol.MQTT_5
            else self._client.subscribe([(name, 1) for name in names])
        )
        refused = [f"{name} (0x{code:02x})" for name, code in zip(names, codes, strict=False) if code >= 0x80]
        if refused or len(codes) != len(names):
            raise SubscribeRefused(f"broker refused to subscribe to {', '.join(refused) or names}: check its ACL")

    async def unsubscribe(self, topic: str) -> None:
        await self._answer(*self._client.unsubscribe(topic))

    async def publish(
        self, topic: str, payload: bytes, *, retain: bool = False, content_type: str | None = None
    ) -> int:
        """Publish at QoS 1 and wait for PUBACK; its reason code. Anything but SUCCESS was not taken."""
        puback = await self.send(topic, payload, retain=retain, content_type=content_type)
        await asyncio.wait([puback], timeout=self._settings.answer_timeout_s)
        if not puback.done():
            raise AnswerMissing(f"no PUBACK for {topic} within {self._settings.answer_timeout_s:g} s")
        if puback.cancelled():
            raise LinkLost(self._end_reason)
        return puback.result()[0]

    async def send(
        self,
        topic: str,
        payload: bytes,
        *,
        retain: bool = False,
        content_type: str | None = None,
        expiry_s: int | None = None,
    ) -> asyncio.Future[list[int]]:
        """Publish at QoS 1 as soon as the window has room. The future holds the PUBACK reason; it is cancelled when
        the link ends first. A 3.1.1 broker always says 0, also when it forbade the topic. With MQTT 5 the broker
        forgets it after `expiry_s`."""
        try:
            async with asyncio.timeout(self._settings.answer_timeout_s):
                await self._slots.acquire()
        except TimeoutError:
            raise AnswerMissing(f"no PUBACK frees the window within {self._settings.answer_timeout_s:g} s") from None
        if self._ended.is_set():
            self._slots.release()
            raise LinkLost(self._end_reason)
        properties = None
        named = {"ContentType": content_type, "MessageExpiryInterval": expiry_s}
        if self.protocol is Protocol.MQTT_5 and any(value is not None for value in named.values()):
            known = {name: value for name, value in named.items() if value is not None}
            properties = _properties(PacketTypes.PUBLISH, **known)
        info = self._client.publish(topic, payload, qos=1, retain=retain, properties=properties)
        puback = self._expect(info.mid)
        puback.add_done_callback(lambda _: self._slots.release())
        if info.rc != paho.MQTT_ERR_SUCCESS:
            self._end(f"publish failed: {paho.error_string(info.rc)}")
        return puback

    # What the network thread hands over: everything below runs on the event loop.

    def _on_connack(self, code: int, text: str, properties: Properties | None) -> None:
        if code >= 0x80:
            self._fail(BrokerRefused(code, text))
            return
        announced: dict[str, Any] = {} if properties is None else properties.json()  # type: ignore[no-untyped-call]
        self.receive_maximum = min(self._settings.in_flight, int(announced.get("ReceiveMaximum", 65535)))
        self._slots = asyncio.Semaphore(self.receive_maximum)
        maximum = announced.get("MaximumPacketSize")
        self.maximum_packet_size = None if maximum is None else int(maximum)
        self.retain_available = bool(announced.get("RetainAvailable", 1))
        if not self._greeted.done():
            self._greeted.set_result(None)

    def _on_message(self, message: Message) -> None:
        # MQTT 5 keeps the broker within Receive Maximum; 3.1.1 and QoS 0 know no such limit.
        if self._inbox.qsize() >= 10 * self._settings.inbound:
            self._end("broker sends faster than messages can be taken")
            return
        self._inbox.put_nowait(message)

    def _on_answer(self, packet_id: int, codes: list[int]) -> None:
        answer = self._answers.pop(packet_id, None)
        if answer is not None and not answer.done():
            answer.set_result(codes)

    def _on_disconnect(self, reason: str) -> None:
        if self._tls is not None and self._tls.refusal is not None and not self._greeted.done():
            self._fail(self._explained(self._tls.refusal))
        self._end(reason)

    def _on_thread_end(self, error: Exception | None) -> None:
        if isinstance(error, OSError) and not self._greeted.done():
            self._fail(self._explained(error))
        self._end("connection closed" if error is None else f"connection failed: {_in_words(error)}")
        self._thread_ended.set()

    def _fail(self, error: LinkError) -> None:
        if not self._greeted.done():
            self._greeted.set_exception(error)
        self._end(str(error))

    def _end(self, reason: str) -> None:
        """The first reason given is the one that is told."""
        if self._ended.is_set():
            return
        self._end_reason = reason
        self._ended.set()
        if not self._greeted.done():
            self._greeted.set_exception(BrokerSilent(f"{self._address} gave no CONNACK: {reason}"))
        answers, self._answers = self._answers, {}
        for answer in answers.values():
            answer.cancel()
        self._inbox.put_nowait(None)

    # Helpers

    def _explained(self, error: Exception) -> LinkError:
        cafile = None if self._settings.tls is None else self._settings.tls.cafile
        return explained(error, self._address, cafile) or BrokerUnreachable(f"{self._address}: {_in_words(error)}")

    @property
    def _address(self) -> str:
        return f"{self._settings.host}:{self._settings.port}"

    def _make_client(self, will: Will | None) -> _Client:
        settings = self._settings

        def post(callback: Callable[..., None], *arguments: object) -> None:
            self._loop.call_soon_threadsafe(callback, *arguments)

        client = _Client(
            CallbackAPIVersion.VERSION2,
            client_id=settings.client_id,
            protocol=paho.MQTTv5 if self.protocol is Protocol.MQTT_5 else paho.MQTTv311,
            clean_session=None if self.protocol is Protocol.MQTT_5 else True,
            reconnect_on_failure=False,
            manual_ack=True,
        )
        client.told = lambda error: post(self._on_thread_end, error)
        client.connect_timeout = settings.connect_timeout_s
        client.max_inflight_messages_set(settings.in_flight)
        client.on_socket_open = lambda _c, _u, sock: _send_at_once(sock)
        client.on_connect = lambda _c, _u, _f, code, properties: post(
            self._on_connack, code.value, str(code), properties
        )
        client.on_disconnect = lambda _c, _u, flags, code, _p: post(self._on_disconnect, _ending(flags, code))
        client.on_message = lambda _c, _u, message: post(self._on_message, _message(message))
        client.on_publish = lambda _c, _u, packet_id, code, _p: post(self._on_answer, packet_id, [code.value])
        client.on_subscribe = lambda _c, _u, packet_id, codes, _p: post(
            self._on_answer, packet_id, [code.value for code in codes]
        )
        client.on_unsubscribe = client.on_subscribe
        if settings.username is not None:
            client.username_pw_set(settings.username, settings.password)
        if self._tls is not None:
            client.tls_set_context(self._tls)
        mqtt_5 = self.protocol is Protocol.MQTT_5
        greeting: dict[str, int] = {
            "ReceiveMaximum": settings.inbound,
            "MaximumPacketSize": settings.inbound_packet_bytes,
        }
        if will is not None:
            delay = _properties(PacketTypes.WILLMESSAGE, WillDelayInterval=will.delay_s) if mqtt_5 else None
            client.will_set(will.topic, will.payload, qos=1, retain=True, properties=delay)
            # A will is due at the end of the session at the latest (3.1.3.2.2): keep the session as long.
            greeting["SessionExpiryInterval"] = will.delay_s
        client.connect_async(
            settings.host,
            settings.port,
            keepalive=settings.keepalive_s,
            clean_start=True if mqtt_5 else paho.MQTT_CLEAN_START_FIRST_ONLY,
            properties=_properties(PacketTypes.CONNECT, **greeting) if mqtt_5 else None,
        )
        return client

    async def _connect(self) -> None:
        self._client.loop_start()
        try:
            async with asyncio.timeout(self._settings.connect_timeout_s):
                await asyncio.shield(self._greeted)
        except TimeoutError:
            self._end(f"nothing within {self._settings.connect_timeout_s:g} s")
            self._greeted.exception()
            raise BrokerSilent(
                f"{self._address} gave no CONNACK within {self._settings.connect_timeout_s:g} s"
            ) from None

    async def _close(self) -> None:
        """Say goodbye if somebody listens, then make sure that the thread is gone or can do no harm."""
        self._client.abandoned = True
        with contextlib.suppress(OSError, ValueError):
            self._client.disconnect()
        for hang_up in (False, True):
            if hang_up:
                _hang_up(self._client.socket())
            with contextlib.suppress(TimeoutError):
                async with asyncio.timeout(0.5):
                    await self._thread_ended.wait()
                    break
        self._end("closed by us")
        if self._greeted.done() and not self._greeted.cancelled():
            self._greeted.exception()

    def _expect(self, packet_id: int | None) -> asyncio.Future[list[int]]:
        """The answer to a packet just handed to paho. No race: answers arrive by this same event loop, later."""
        answer: asyncio.Future[list[int]] = self._loop.create_future()
        if packet_id is None or self._ended.is_set():
            answer.cancel()
        else:
            self._answers[packet_id] = answer
        return answer

    async def _answer(self, result: int, packet_id: int | None) -> list[int]:
        if result != paho.MQTT_ERR_SUCCESS:
            self._end(f"request failed: {paho.error_string(MQTTErrorCode(result))}")
        answer = self._expect(packet_id)
        await asyncio.wait([answer], timeout=self._settings.answer_timeout_s)
        if answer.cancelled():
            raise LinkLost(self._end_reason)
        if not answer.done():
            raise AnswerMissing(f"broker gave no answer within {self._settings.answer_timeout_s:g} s")
        return answer.result()


class _Client(paho.Client):
    """paho's client whose network thread tells how it ended, instead of dying behind a "connected" state."""

    abandoned = False
    told: Callable[[Exception | None], None]

    def loop_forever(self, timeout: float = 1.0, retry_first_connection: bool = False) -> MQTTErrorCode:
        """Runs in paho's own thread (loop_start). DNS, TCP and TLS happen here as well: all of them block."""
        failure: Exception | None = None
        try:
            self.reconnect()
            if not self.abandoned:
                return super().loop_forever(timeout, retry_first_connection)
        except Exception as error:  # noqa: BLE001 - a broker's junk raises nearly anything in paho's parser
            failure = error
        finally:
            _hang_up(self.socket())
            # The event loop may be gone already when a hopeless connection attempt ends late.
            with contextlib.suppress(RuntimeError):
                self.told(failure)
        return paho.MQTT_ERR_CONN_LOST


def _properties(kind: int, **values: object) -> Properties:
    properties = Properties(kind)  # type: ignore[no-untyped-call]
    for name, value in values.items():
        setattr(properties, name, value)
    return properties


def _message(message: paho.MQTTMessage) -> Message:
    properties = message.properties
    return Message(
        topic=message.topic,
        payload=bytes(message.payload),
        content_type=None if properties is None else getattr(properties, "ContentType", None),
        retained=message.retain,
        packet_id=message.mid,
        qos=message.qos,
    )


def _ending(flags: Any, code: Any) -> str:
    if flags.is_disconnect_packet_from_server:
        return f"broker disconnected us: {code} (0x{code.value:02x})"
    return "closed by us" if code.value == 0 else f"connection lost: {code}"


def _send_at_once(sock: Any) -> None:
    """Otherwise a short packet waits for the peer's delayed TCP acknowledgement: 40 ms, several times a connect."""
    sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)


def _hang_up(sock: Any) -> None:
    """End the TCP connection under paho's (and TLS's) feet: its select wakes at once, also on a half-open link."""
    with contextlib.suppress(OSError, ValueError):
        if sock is not None and sock.fileno() >= 0:
            with socket.socket(fileno=os.dup(sock.fileno())) as same:
                same.shutdown(socket.SHUT_RDWR)


def _in_words(error: Exception) -> str:
    return f"{type(error).__name__}: {error}" if str(error) else type(error).__name__
