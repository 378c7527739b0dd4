"""The PC/SC daemon's client library, libpcsclite, as far as a card reader needs it. The only place that knows it.

Called through ctypes and not through pyscard: that one has no wheel for Linux and would want a compiler, swig and
header files on a gateway, and its monitoring thread never comes back after a restart of the daemon. The library is
found when the first context is opened, so that a machine without PC/SC needs nothing of it.

A Context belongs to one thread; only cancel() may be called from another.
"""

from __future__ import annotations

import ctypes
import functools
from dataclasses import dataclass
from types import TracebackType
from typing import Any, Self

LIBRARY = "libpcsclite.so.1"
SCOPE_SYSTEM = 2
SHARE_EXCLUSIVE, SHARE_DIRECT = 1, 3
PROTOCOL_NONE, PROTOCOL_T0, PROTOCOL_T1 = 0, 1, 2
LEAVE_CARD = 0
READER_UNKNOWN, READER_UNAVAILABLE, CARD_PRESENT, CARD_MUTE = 0x0004, 0x0008, 0x0020, 0x0200
ESCAPE = 0x42000001  # SCARD_CTL_CODE(1): to the reader itself; libccid passes it on if it was told to
ATR_MAX_BYTES = 33
ANSWER_MAX_BYTES = 264
NAMES_MAX_BYTES = 4096

CANCELLED = 0x80100002
TIMED_OUT = 0x8010000A
IN_USE = 0x8010000B
NO_READERS = 0x8010002E
NO_SERVICE = frozenset({0x8010001D, 0x8010001E, 0x80100013})  # none, stopping, torn off in mid-sentence
NO_READER = frozenset({0x80100009, 0x80100017, 0x8010001A})
CARD_AWAY = frozenset({0x8010000C, 0x80100066, 0x80100067, 0x80100068, 0x80100069, 0x80100016})
NOT_ALLOWED = 0x8010006A


class _ReaderState(ctypes.Structure):
    _fields_ = (
        ("name", ctypes.c_char_p),
        ("user", ctypes.c_void_p),
        ("current", ctypes.c_ulong),
        ("event", ctypes.c_ulong),
        ("atr_size", ctypes.c_ulong),
        ("atr", ctypes.c_ubyte * ATR_MAX_BYTES),
    )


class _IoRequest(ctypes.Structure):
    _fields_ = (("protocol", ctypes.c_ulong), ("size", ctypes.c_ulong))


class PcscFailed(Exception):
    """The library refused. `code` is its number, of which the constants above name those that matter."""

    def __init__(self, what: str, code: int) -> None:
        super().__init__(f"{what}: 0x{code:08X}")
        self.code = code


class LibraryMissing(Exception):
    """There is no libpcsclite on this machine."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Reported:
    """A reader's state. `counted` goes back into the next look, so that only what is new is told."""

    flags: int
    counted: int
    atr: bytes


class Context:
    """A connection to the daemon."""

    def __init__(self) -> None:
        self._library = _library()
        self._handle = ctypes.c_long()
        _check(
            "establish",
            self._library.SCardEstablishContext(SCOPE_SYSTEM, None, None, ctypes.byref(self._handle)),
        )

    def readers(self) -> tuple[str, ...]:
        size = ctypes.c_ulong(NAMES_MAX_BYTES)
        names = ctypes.create_string_buffer(NAMES_MAX_BYTES)
        code = _unsigned(self._library.SCardListReaders(self._handle, None, names, ctypes.byref(size)))
        if code == NO_READERS:
            return ()
        _check("list readers", code)
        return tuple(name.decode("utf-8", "replace") for name in names.raw[: size.value].split(b"\0") if name)

    def look(self, reader: str, *, counted: int, within_ms: int) -> Reported | None:
        """What has changed since `counted` (0: everything is new); None when nothing did, or cancel() was called."""
        state = _ReaderState(name=reader.encode(), current=counted)
        code = _unsigned(self._library.SCardGetStatusChange(self._handle, within_ms, ctypes.byref(state), 1))
        if code in (TIMED_OUT, CANCELLED):
            return None
        _check("look", code)
        return Reported(
            flags=state.event & 0xFFFF,
            counted=state.event & ~0x2,  # without SCARD_STATE_CHANGED
            atr=bytes(state.atr[: min(state.atr_size, ATR_MAX_BYTES)]),
        )

    def card(self, reader: str) -> Channel:
        """The card in the field, for us alone."""
        return self._connect(reader, SHARE_EXCLUSIVE, PROTOCOL_T0 | PROTOCOL_T1)

    def device(self, reader: str) -> Channel:
        """The reader itself, whether there is a card or not."""
        return self._connect(reader, SHARE_DIRECT, PROTOCOL_NONE)

    def cancel(self) -> None:
        """End look(), from another thread."""
        self._library.SCardCancel(self._handle)

    def close(self) -> None:
        self._library.SCardReleaseContext(self._handle)

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    def _connect(self, reader: str, share: int, protocols: int) -> Channel:
        handle, protocol = ctypes.c_long(), ctypes.c_ulong()
        _check(
            "connect",
            self._library.SCardConnect(
                self._handle, reader.encode(), share, protocols, ctypes.byref(handle), ctypes.byref(protocol)
            ),
        )
        return Channel(self._library, handle, protocol.value)


class Channel:
    """Something to talk to. Use as a context manager; a card stays powered when it is let go of."""

    def __init__(self, library: Any, handle: ctypes.c_long, protocol: int) -> None:
        self._library = library
        self._handle = handle
        self._protocol = protocol

    def transmit(self, command: bytes) -> bytes:
        """An APDU, to its answer with SW1 SW2."""
        request = _IoRequest(protocol=self._protocol, size=ctypes.sizeof(_IoRequest))
        answer, size = ctypes.create_string_buffer(ANSWER_MAX_BYTES), ctypes.c_ulong(ANSWER_MAX_BYTES)
        code = self._library.SCardTransmit(
            self._handle, ctypes.byref(request), command, len(command), None, answer, ctypes.byref(size)
        )
        _check("transmit", code)
        return answer.raw[: size.value]

    def control(self, command: bytes) -> bytes:
        """A command to the reader itself."""
        answer, size = ctypes.create_string_buffer(ANSWER_MAX_BYTES), ctypes.c_ulong()
        code = self._library.SCardControl(
            self._handle, ESCAPE, command, len(command), answer, ANSWER_MAX_BYTES, ctypes.byref(size)
        )
        _check("control", code)
        return answer.raw[: size.value]

    def close(self) -> None:
        self._library.SCardDisconnect(self._handle, LEAVE_CARD)

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()


def installed_readers() -> tuple[str, ...]:
    """The names of all readers that the daemon has; none where there is no PC/SC at all."""
    try:
        with Context() as context:
            return context.readers()
    except (LibraryMissing, PcscFailed):
        return ()


@functools.cache
def _library() -> Any:
    try:
        library = ctypes.CDLL(LIBRARY)
    except OSError as error:
        raise LibraryMissing(f"{LIBRARY} is not installed") from error
    long, word, pointer = ctypes.c_long, ctypes.c_ulong, ctypes.c_void_p
    for name, arguments in {
        "SCardEstablishContext": (word, pointer, pointer, pointer),
        "SCardReleaseContext": (long,),
        "SCardListReaders": (long, ctypes.c_char_p, pointer, pointer),
        "SCardGetStatusChange": (long, word, pointer, word),
        "SCardConnect": (long, ctypes.c_char_p, word, word, pointer, pointer),
        "SCardDisconnect": (long, word),
        "SCardTransmit": (long, pointer, ctypes.c_char_p, word, pointer, pointer, pointer),
        "SCardControl": (long, word, ctypes.c_char_p, word, pointer, word, pointer),
        "SCardCancel": (long,),
    }.items():
        function = getattr(library, name)
        function.argtypes, function.restype = arguments, long
    return library


def _unsigned(code: int) -> int:
    return code & 0xFFFFFFFF


def _check(what: str, code: int) -> None:
    if code := _unsigned(code):
        raise PcscFailed(what, code)
