"""A charger's Modbus/TCP registers, for tests: a card in them or none. No charging, no antenna."""

from __future__ import annotations

import asyncio
import struct
import threading
from concurrent.futures import Future
from typing import TYPE_CHECKING, Self

from drivers.readers import text_forms
from drivers.readers.modbus_frames import READ_HOLDING, READ_INPUT, answer, refusal

if TYPE_CHECKING:
    from firmware_profiles.profile import Profile

ILLEGAL_ADDRESS = 2
ANSWER_WITHIN_S = 5.0


class ChargerRegisterSimulator:
    """Answers what the profile asks, with the content that it was given. Lives in a thread of its own."""

    def __init__(self, profile: Profile, *, firmware: str = "") -> None:
        self.state = next(iter(profile.framing.state_values), 0)  # the charger's own, as its register tells it
        self._firmware = firmware
        self._framing = profile.framing
        self._form = profile.uid.text if profile.uid is not None else None
        self._size = 2 * (self._framing.register_count or 0)
        self._content = bytes(self._size)
        self._loop = asyncio.new_event_loop()
        self._writers: set[asyncio.StreamWriter] = set()
        self._server: asyncio.Server | None = None
        self._number = 0
        self._thread = threading.Thread(target=self._loop.run_forever, name="charger-registers", daemon=True)
        self._thread.start()
        self.replug()

    @property
    def port(self) -> str:
        return f"127.0.0.1:{self._number}"

    def show(self, uid: bytes) -> None:
        """The charger's own reader saw this card."""
        if self._form is not None:
            self._content = text_forms.write(uid, self._form, size=self._size)

    def forget(self) -> None:
        self._content = bytes(self._size)

    def unplug(self) -> None:
        self._do(self._close())

    def replug(self) -> None:
        self._do(self._open())

    def close(self) -> None:
        self.unplug()
        self._loop.call_soon_threadsafe(self._loop.stop)
        self._thread.join(ANSWER_WITHIN_S)
        self._loop.close()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def _do(self, work: object) -> None:
        future: Future[None] = asyncio.run_coroutine_threadsafe(work, self._loop)  # type: ignore[arg-type]
        future.result(ANSWER_WITHIN_S)

    async def _open(self) -> None:
        self._server = await asyncio.start_server(self._serve, "127.0.0.1", self._number)
        self._number = self._server.sockets[0].getsockname()[1]

    async def _close(self) -> None:
        if self._server is not None:
            self._server.close()
            for writer in list(self._writers):
                writer.close()
            await asyncio.sleep(0)

    async def _serve(self, incoming: asyncio.StreamReader, outgoing: asyncio.StreamWriter) -> None:
        self._writers.add(outgoing)
        asked = READ_INPUT if self._framing.function == "input" else READ_HOLDING
        try:
            while True:
                transaction, _, _, unit, function, address, count = struct.unpack(
                    ">HHHBBHH", await incoming.readexactly(12)
                )
                content = None
                if (function, address, 2 * count) == (asked, self._framing.register_address, self._size):
                    content = self._content
                elif (function, address, count) == (asked, self._framing.state_address, 1):
                    content = self.state.to_bytes(2, "big")
                elif (function, address) == (asked, self._framing.firmware_address):
                    content = self._firmware.encode("ascii").ljust(2 * count, b"\0")
                about = {"transaction": transaction, "unit": unit, "function": function}
                outgoing.write(
                    refusal(**about, code=ILLEGAL_ADDRESS) if content is None else answer(**about, content=content)
                )
        except (asyncio.IncompleteReadError, OSError):
            outgoing.close()
        finally:
            self._writers.discard(outgoing)
