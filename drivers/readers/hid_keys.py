"""Readers that type: a keyboard to the machine, grabbed so that a tap does not type into a console.

Keys are key_lines.py, what a line means text_forms.py, the empty polls after a card listening.py, trying again
supervision.py. The port is an event node, best below /dev/input/by-id.
"""

from __future__ import annotations

import asyncio
import errno
import fcntl
import logging
import os
import struct
from collections.abc import Callable
from typing import TYPE_CHECKING

from drivers.readers.decoders import TypedUids
from drivers.readers.firmware import Admission, admit
from drivers.readers.key_lines import EVENT
from drivers.readers.listening import Listening
from drivers.readers.reader import Emit, Feedback, ReaderFound
from drivers.readers.rejects import Rejected
from drivers.readers.supervision import ReaderGone, State, Supervision
from drivers.serial_port import PortFailed

if TYPE_CHECKING:
    from firmware_profiles.profile import Profile

EVIOCGRAB = 0x40044590  # linux/input.h: _IOW('E', 0x90, int)
INPUT_EVENT = struct.Struct("@llHHi")  # of this machine: time stamp, then type, code, value
READ_EVENTS = 64
BETWEEN_KEYS_S = 0.1  # a reader types a key every few milliseconds; a person does not

log = logging.getLogger(__name__)


def grab(descriptor: int) -> None:
    """Nobody else gets its keys from now on, until it is closed or we die."""
    fcntl.ioctl(descriptor, EVIOCGRAB, 1)


class HidKeysReader:
    """`grab` makes the node ours; a simulator's node is no input device and is locked instead."""

    def __init__(self, name: str, *, profile: Profile, port: str, grab: Callable[[int], None] = grab) -> None:
        if profile.polling.silence_ms is None or profile.uid is None:
            raise ValueError(f"profile {profile.id} has no silence_ms or no uid; a reader that types needs both")
        self.name = name
        self._profile = profile
        self._port = port
        self._grab = grab
        self._uid = profile.uid
        self._silence_s = profile.polling.silence_ms / 1_000
        self._poll_s = profile.polling.poll_ms / 1_000
        self._supervision = Supervision(name, path=port, connect=self._connect)

    @property
    def state(self) -> State:
        return self._supervision.state

    async def run(self, emit: Emit) -> None:
        await self._supervision.run(emit)

    async def signal(self, feedback: Feedback, text: str) -> None:
        """A keyboard has nothing to show it with, and nothing is pretended."""
        log.debug("reader %s has no way to show %s", self.name, feedback.value)

    async def _connect(self, emit: Emit) -> None:
        admission = admit(self._profile, None)
        descriptor = _opened(self._port, self._grab)
        try:
            emit(
                ReaderFound(
                    reader=self.name,
                    model=f"{self._profile.make} {self._profile.model}",
                    firmware=admission.firmware,
                    findings=(*admission.findings, "cannot be asked whether it is alive; only its loss is noticed"),
                )
            )
            listening = Listening(self.name, self._profile.confirm_frames, silence_s=self._silence_s, emit=emit)
            await self._listen(descriptor, admission, listening)
        finally:
            os.close(descriptor)

    async def _listen(self, descriptor: int, admission: Admission, listening: Listening) -> None:
        loop = asyncio.get_running_loop()
        decoder = TypedUids(self._uid)
        rest = b""
        typed_at_s = loop.time()
        while True:
            try:
                async with asyncio.timeout_at(listening.empty_at_s):
                    await _readable(descriptor)
            except TimeoutError:
                listening.silent(next_in_s=self._poll_s)
                continue
            raw = rest + _read(descriptor, self._port)
            whole = len(raw) - len(raw) % INPUT_EVENT.size
            rest = raw[whole:]
            if decoder.pending and loop.time() - typed_at_s > BETWEEN_KEYS_S:
                decoder.forget()
            typed_at_s = loop.time()
            events = b"".join(EVENT.pack(*event[2:]) for event in INPUT_EVENT.iter_unpack(raw[:whole]))
            for result in decoder.feed(events):
                if isinstance(result, Rejected):
                    log.debug("reader %s: a line that is no UID (%s)", self.name, result.reason.value)
                elif result:
                    listening.heard(admission.cards(result), now_s=loop.time())


def _opened(path: str, grab: Callable[[int], None]) -> int:
    try:
        descriptor = os.open(path, os.O_RDONLY | os.O_NONBLOCK | os.O_CLOEXEC | os.O_NOCTTY)
    except OSError as error:
        hint = "check the cable and the port in the configuration"
        if error.errno in (errno.EACCES, errno.EPERM):
            hint = "let the service's user open it (the udev rules that come with roamkey)"
        raise PortFailed(f"cannot open {path}: {os.strerror(error.errno or 0)}", hint=hint) from error
    try:
        grab(descriptor)
    except OSError as error:
        os.close(descriptor)
        if error.errno in (errno.EBUSY, errno.EAGAIN):
            raise PortFailed(f"{path} is in use by another program", hint="stop the other program") from error
        raise PortFailed(
            f"{path} is no input device", hint="name an event node, best below /dev/input/by-id"
        ) from error
    return descriptor


def _read(descriptor: int, path: str) -> bytes:
    try:
        raw = os.read(descriptor, READ_EVENTS * INPUT_EVENT.size)
    except BlockingIOError:
        return b""
    except OSError as error:
        raise ReaderGone(f"{path} has gone", hint="check the cable") from error
    if not raw:
        raise ReaderGone(f"{path} has gone", hint="check the cable")
    return raw


async def _readable(descriptor: int) -> None:
    loop = asyncio.get_running_loop()
    ready: asyncio.Future[None] = loop.create_future()
    loop.add_reader(descriptor, lambda: None if ready.done() else ready.set_result(None))
    try:
        await ready
    finally:
        loop.remove_reader(descriptor)
