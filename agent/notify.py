"""Tells systemd how the service is: sd_notify(3), a datagram to $NOTIFY_SOCKET. Without systemd: nothing."""

from __future__ import annotations

import logging
import os
import socket

log = logging.getLogger("roamkey")


class Notifier:
    """Ready, watchdog and status messages. The watchdog is fed by the working loop, never by a thread beside it."""

    def __init__(self, address: str | None = None) -> None:
        path = address if address is not None else os.environ.get("NOTIFY_SOCKET", "")
        self._address = "\0" + path[1:] if path.startswith("@") else path
        kind = socket.SOCK_DGRAM | socket.SOCK_CLOEXEC | socket.SOCK_NONBLOCK
        self._socket = socket.socket(socket.AF_UNIX, kind) if path else None

    @property
    def watchdog_s(self) -> float | None:
        """How often systemd wants to hear from us, halved; None without a watchdog."""
        wanted = os.environ.get("WATCHDOG_USEC")
        return int(wanted) / 2_000_000 if wanted and self._socket is not None else None

    def ready(self, status: str) -> None:
        self._send(f"READY=1\nSTATUS={status}")

    def alive(self) -> None:
        self._send("WATCHDOG=1")

    def stopping(self) -> None:
        self._send("STOPPING=1")

    def _send(self, message: str) -> None:
        """Never waits and never fails: whoever does not listen to us cannot end us by that."""
        if self._socket is None:
            return
        try:
            self._socket.sendto(message.encode(), self._address)
        except OSError as error:
            log.debug("the supervisor does not hear us: %s", error)
