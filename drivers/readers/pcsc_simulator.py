"""Cards for the virtual reader vpcd: a real pcscd sees a reader and a card in it, nothing has an antenna.

vpcd's protocol: two bytes of length, then one byte of control (00 off, 01 on, 02 reset, 04 ATR, please) or an APDU.
A card that is laid on is a connection to the reader, one that is taken away is its end.
"""

from __future__ import annotations

import socket
import threading
from collections.abc import Callable
from typing import Self

OFF, ON, RESET, GET_ATR = 0x00, 0x01, 0x02, 0x04
CONNECT_TIMEOUT_S = 5.0
STORAGE_TEXT = bytes.fromhex("804F0CA000000306")  # PC/SC part 3: a storage card, then its standard and name
NTAG = bytes.fromhex("03000300000000")
CLASSIC_1K = bytes.fromhex("03000100000000")
GET_UID = bytes.fromhex("FFCA000000")
NO_SUCH_COMMAND = bytes.fromhex("6D00")


def atr(historical: bytes) -> bytes:
    """As a contactless reader makes it up: T=0 and T=1, this text, the check."""
    body = bytes([0x80 | len(historical), 0x80, 0x01]) + historical
    check = 0
    for byte in body:
        check ^= byte
    return b"\x3b" + body + bytes([check])


def storage_atr(name: bytes = NTAG) -> bytes:
    return atr(STORAGE_TEXT + name)


class VpcdCard:
    """In the field from __enter__ to __exit__. `answer` gets every APDU but the reader's own question for the UID."""

    def __init__(
        self,
        connect: Callable[[], socket.socket],
        uid: bytes,
        *,
        atr: bytes | None = None,
        answer: Callable[[bytes], bytes] = lambda command: NO_SUCH_COMMAND,
    ) -> None:
        self._connect = connect
        self._uid = uid
        self._atr = storage_atr() if atr is None else atr
        self._answer = answer
        self._socket: socket.socket | None = None
        self._thread: threading.Thread | None = None

    def lay_on(self) -> None:
        self._socket = self._connect()
        self._thread = threading.Thread(target=self._live, args=(self._socket,), name="vpcd-card", daemon=True)
        self._thread.start()

    def take_away(self) -> None:
        if self._socket is not None and self._thread is not None:
            self._socket.shutdown(socket.SHUT_RDWR)
            self._thread.join(CONNECT_TIMEOUT_S)
            self._socket.close()
            self._socket = None

    def __enter__(self) -> Self:
        self.lay_on()
        return self

    def __exit__(self, *_: object) -> None:
        self.take_away()

    def _live(self, line: socket.socket) -> None:
        try:
            while (said := _message(line)) is not None:
                match said:
                    case b"\x00" | b"\x01" | b"\x02":  # OFF, ON, RESET: nothing to forget
                        continue
                    case b"\x04":
                        answer = self._atr
                    case command if command == GET_UID:
                        answer = self._uid + b"\x90\x00"
                    case command:
                        answer = self._answer(command)
                line.sendall(len(answer).to_bytes(2, "big") + answer)
        except OSError:
            return  # the reader has gone


def _message(line: socket.socket) -> bytes | None:
    head = _exactly(line, 2)
    return None if head is None else _exactly(line, int.from_bytes(head, "big"))


def _exactly(line: socket.socket, size: int) -> bytes | None:
    received = b""
    while len(received) < size:
        chunk = line.recv(size - len(received))
        if not chunk:
            return None
        received += chunk
    return received
