"""Deliver an outbox to the backend, for ever: connect, converse, and after each end wait and connect again.

Each connection is a new client object with a clean start, a last will and a fresh nonce; what is said over it is in
`sync.conversation`. What a record means is unknown here.
"""

from __future__ import annotations

import asyncio
import logging
import random
import secrets
import time
from collections.abc import Callable, Mapping
from dataclasses import replace

from sync import messages
from sync.alarms import Alarms
from sync.conversation import Conversation, Standing
from sync.link import (
    BrokerSilent,
    CertificateRefused,
    Dialect,
    Link,
    LinkError,
    LinkSettings,
    Protocol,
    Will,
    open_link,
)
from sync.ports import CONNECTING_ALARMS, DELIVERY_ALARMS, Acknowledged, Connected, Disconnected, Outbox, UplinkEvent
from sync.repeats import Repeats
from sync.retained import RetainedCarrier
from sync.settings import UplinkSettings
from sync.window import Stride

__all__ = ["Uplink", "UplinkSettings"]

log = logging.getLogger(__name__)


class Uplink:
    """Runs until cancelled; whatever the link does is told through `emit` and tried again."""

    def __init__(
        self,
        settings: UplinkSettings,
        outbox: Outbox,
        keys: Callable[[], Mapping[str, str]],
        emit: Callable[[UplinkEvent], None],
        *,
        describe: Callable[[], Mapping[str, object]] = dict,
        grant_keys: Callable[[], Mapping[str, str]] = dict,
    ) -> None:
        # The same bound twice: batches without the backend's word, and packets without PUBACK.
        in_flight = min(settings.link.in_flight, settings.window_batches)
        self._settings = replace(settings, link=replace(settings.link, in_flight=in_flight))
        self._outbox = outbox
        self._keys = keys
        self._grant_keys = grant_keys
        self._emit = emit
        self._describe = describe
        self._alarms = Alarms(emit, same_alarm_s=settings.same_alarm_s)
        self._carrier = RetainedCarrier(settings.fleet_topics, silence_s=settings.retained_silence_s)
        size_bytes = settings.batch.size_bytes
        self._standing = Standing(stride=Stride(most_bytes=size_bytes, bytes_now=size_bytes))
        self._conversation: Conversation | None = None
        self._repeats = Repeats()
        self._takes_former_certificate = False

    def carrier(self) -> RetainedCarrier:
        """Documents over this uplink's connection."""
        return self._carrier

    def refresh_status(self) -> None:
        """Publish the retained status again, with what `describe()` says now."""
        if self._conversation is not None:
            self._conversation.refresh_status()

    def ask(self, question: bytes, *, within_s: float) -> None:
        """A live question; its answer is an AnswerCame. Without a connection it is not said, now or later."""
        if self._conversation is not None:
            self._conversation.ask(question, within_s=within_s)

    def leave_room(self, *, wanted: bool) -> None:
        """Whether live questions may come: then a draining backlog keeps the queue to the broker short."""
        self._standing.leaves_room = wanted

    def answered(self) -> None:
        """No question is open any more."""
        if self._conversation is not None:
            self._conversation.answered()

    def keys_changed(self) -> None:
        """Answers that were refused may be believed now: ask again at once."""
        if self._conversation is not None:
            self._conversation.keys_changed()

    async def run(self) -> None:
        dialect = Dialect(wanted=self._settings.link.protocol)
        backoff = self._settings.reconnect
        while True:
            connected_at = None
            nonce = secrets.token_hex(8)
            will = Will(
                topic=self._settings.topics.status,
                payload=messages.status(online=False, nonce=nonce),
                delay_s=self._settings.will_delay_s,
            )
            settings = self._link_settings()
            try:
                async with open_link(settings, protocol=dialect.next, will=will) as link:
                    connected_at = time.monotonic()
                    dialect = dialect.worked()
                    self._tell_connected(link)
                    await self._converse(link, nonce)
            except LinkError as error:
                dialect = dialect.failed(error)
                stood_s = 0.0 if connected_at is None else time.monotonic() - connected_at
                self._tell_disconnected(error, stood_s)
                self._choose_certificate(error, stood=connected_at is not None)
            wait_s = backoff.wait_s(random.random)
            backoff = backoff.after(connected_s=0.0 if connected_at is None else time.monotonic() - connected_at)
            await asyncio.sleep(wait_s)

    async def _converse(self, link: Link, nonce: str) -> None:
        conversation = Conversation(
            link,
            nonce,
            settings=self._settings,
            standing=self._standing,
            outbox=self._outbox,
            keys=self._keys,
            emit=self._tell,
            alarms=self._alarms,
            carrier=self._carrier,
            describe=self._describe,
            grant_keys=self._grant_keys,
        )
        self._conversation = conversation
        self._carrier.attach(link)
        watch = asyncio.create_task(conversation.watch_outbox())
        listen = asyncio.create_task(conversation.listen())
        for task in (watch, listen):
            task.add_done_callback(conversation.on_task_end)
        try:
            await conversation.run()
        except asyncio.CancelledError:
            await conversation.say_goodbye()
            raise
        finally:
            self._conversation = None
            self._carrier.detach()
            for task in (watch, listen):
                task.cancel()
            await asyncio.gather(watch, listen, return_exceptions=True)
            conversation.learn_from_its_end()

    # The certificate: a renewed one is tried first, the former one when the broker does not take it.

    def _link_settings(self) -> LinkSettings:
        link = self._settings.link
        former = link.tls.before_renewal() if link.tls is not None else None
        self._takes_former_certificate &= former is not None
        return replace(link, tls=former) if self._takes_former_certificate else link

    def _choose_certificate(self, error: LinkError, *, stood: bool) -> None:
        """In turns while none is let in. A refusal may also look like silence: the broker closes before its alert is
        read. After a connection that stood, the new one gets its next chance."""
        if isinstance(error, CertificateRefused | BrokerSilent):
            self._takes_former_certificate = not self._takes_former_certificate
        elif stood:
            self._takes_former_certificate = False

    # What is told

    def _tell(self, event: UplinkEvent) -> None:
        if isinstance(event, Acknowledged):
            for code in DELIVERY_ALARMS:
                self._alarms.over(code)
        self._emit(event)

    def _tell_connected(self, link: Link) -> None:
        if not link.encrypted:
            text = f"the connection to {self._settings.link.host} is not encrypted"
            log.log(self._repeats.level(text, logging.WARNING, about="plain"), "uplink: %s", text)
        if link.protocol is not Protocol.MQTT_5:
            text = f"broker speaks MQTT {link.protocol} only: refusals stay invisible"
            log.log(self._repeats.level(text, logging.WARNING, about="protocol"), "uplink: %s", text)
        former = self._takes_former_certificate
        for code in CONNECTING_ALARMS:
            if not (former and code == CertificateRefused.alarm):
                self._alarms.over(code)
        self._emit(Connected(protocol=link.protocol.value, encrypted=link.encrypted, former_certificate=former))

    def _tell_disconnected(self, error: LinkError, stood_s: float) -> None:
        text = str(error)
        if stood_s >= self._settings.reconnect.stable_s:
            self._repeats.forget("offline")
        self._emit(Disconnected(reason=text))
        if error.alarm is not None:
            self._alarms.tell(error.alarm, text)
        else:
            log.log(self._repeats.level(text, logging.INFO, about="offline"), "uplink: %s", text)
