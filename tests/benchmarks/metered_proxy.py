"""A TCP proxy that counts what goes through and notes when connections begin to work; it changes nothing."""

from __future__ import annotations

import selectors
import socket
import threading
import time
from contextlib import suppress
from types import TracebackType
from typing import Self


class MeteredProxy:
    """In a thread of its own. `answered` are the moments at which the target's first bytes came back (CONNACK)."""

    def __init__(self, target: int) -> None:
        self.up = 0
        self.down = 0
        self.answered: list[float] = []
        self._target = target
        self._listening = socket.create_server(("127.0.0.1", 0))
        self.port: int = self._listening.getsockname()[1]
        self._ended = threading.Event()
        self._thread = threading.Thread(target=self._run, name="metered proxy", daemon=True)

    def __enter__(self) -> Self:
        self._thread.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._ended.set()
        self._thread.join(5)
        self._listening.close()

    def _run(self) -> None:
        with selectors.DefaultSelector() as selector:
            self._selector = selector
            selector.register(self._listening, selectors.EVENT_READ)
            while not self._ended.is_set():
                for key, _ in selector.select(0.1):
                    if key.fileobj is self._listening:
                        self._accept()
                    elif key.data is not None:
                        self._move(key.fileobj, *key.data)  # type: ignore[arg-type]
            for key in list(selector.get_map().values()):
                if key.fileobj is not self._listening:
                    key.fileobj.close()  # type: ignore[union-attr]

    def _accept(self) -> None:
        device, _ = self._listening.accept()
        try:
            broker = socket.create_connection(("127.0.0.1", self._target), timeout=2)
        except OSError:
            device.close()  # nobody there: what the device would see without us is close to that
            return
        for side in (device, broker):
            side.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        self._selector.register(device, selectors.EVENT_READ, (broker, True))
        self._selector.register(broker, selectors.EVENT_READ, (device, False))
        self._fresh = broker

    _fresh: socket.socket | None = None

    def _move(self, source: socket.socket, target: socket.socket, is_up: bool) -> None:
        chunk = b""
        with suppress(OSError):
            chunk = source.recv(1 << 18)
            target.sendall(chunk)
        if not chunk:
            for side in (source, target):
                with suppress(KeyError, ValueError):
                    self._selector.unregister(side)
                side.close()
            return
        if is_up:
            self.up += len(chunk)
        else:
            self.down += len(chunk)
            if source is self._fresh:
                self.answered.append(time.monotonic())
                self._fresh = None
