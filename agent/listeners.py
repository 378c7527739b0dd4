"""Those who follow along over the local API: each gets every line from now on, and none can hold up the service."""

from __future__ import annotations

import asyncio
from collections.abc import Iterator
from contextlib import contextmanager

Lines = asyncio.Queue[bytes | None]


class Listeners:
    def __init__(self) -> None:
        self._queues: set[Lines] = set()

    @property
    def count(self) -> int:
        return len(self._queues)

    def tell(self, line: bytes) -> None:
        """A listener that lags behind too far is cut off (None): it can read the journal from where it stands."""
        for queue in tuple(self._queues):
            try:
                queue.put_nowait(line)
            except asyncio.QueueFull:
                self._queues.discard(queue)
                queue.get_nowait()
                queue.put_nowait(None)

    def dismiss(self) -> None:
        """The service stops."""
        for queue in tuple(self._queues):
            self._queues.discard(queue)
            if queue.full():
                queue.get_nowait()
            queue.put_nowait(None)

    @contextmanager
    def listen(self, backlog: int) -> Iterator[Lines]:
        queue: Lines = asyncio.Queue(maxsize=backlog)
        self._queues.add(queue)
        try:
            yield queue
        finally:
            self._queues.discard(queue)
