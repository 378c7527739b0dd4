"""Documents out of retained topics, one exact topic at a time: some brokers serve no retained message to a wildcard.

Used through `Uplink.carrier()`. A broker that keeps nothing for a topic says nothing, so silence after the
subscription means "does not exist"; that is safe because documents are trusted for their signatures only.
"""

from __future__ import annotations

import asyncio

from sync.carriers import CarrierError, DocumentTooLarge
from sync.link import Link, LinkError, Message
from sync.topics import FleetTopics


class RetainedCarrier:
    """Borrows the uplink's connection while there is one."""

    def __init__(self, topics: FleetTopics, *, silence_s: float = 1.0) -> None:
        self._topics = topics
        self._silence_s = silence_s
        self._link: Link | None = None
        self._waiting: dict[str, asyncio.Future[bytes]] = {}
        # One document at a time: overlapping subscriptions of one topic would answer each other's questions.
        self._turn = asyncio.Lock()

    def attach(self, link: Link) -> None:
        self._link = link

    def detach(self) -> None:
        self._link = None
        for document in self._waiting.values():
            document.cancel()

    def offer(self, message: Message) -> None:
        """A message on a policy topic; taken if somebody waits for it."""
        waiting = self._waiting.get(message.topic)
        if waiting is not None and not waiting.done():
            waiting.set_result(message.payload)

    async def fetch(self, name: str, max_bytes: int) -> bytes | None:
        try:
            topic = self._topics.policy(name)
        except ValueError as error:
            raise CarrierError(str(error)) from error
        async with self._turn:
            link = self._link
            if link is None:
                raise CarrierError(f"no connection to the broker to ask for {name}")
            document = self._waiting[topic] = asyncio.get_running_loop().create_future()
            try:
                # Subscribing again makes the broker send the retained message again (MQTT 3.8.4).
                await link.subscribe([topic])
                await asyncio.wait([document], timeout=self._silence_s)
                if topic != self._topics.policy_timestamp and not document.cancelled():
                    await link.unsubscribe(topic)
            except LinkError as error:
                raise CarrierError(f"{name} cannot be asked for: {error}") from error
            finally:
                del self._waiting[topic]
            if document.cancelled():
                raise CarrierError(f"the connection ended while {name} was asked for")
            if not document.done():
                document.cancel()
                return None
            payload = document.result()
        if len(payload) > max_bytes:
            raise DocumentTooLarge(f"{name} has {len(payload)} bytes, more than {max_bytes}")
        # An empty retained message is how a document is withdrawn.
        return payload or None
