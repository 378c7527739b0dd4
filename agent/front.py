"""The local API's front door: a socket that is there at the start, and what answers it, loaded at the first knock.

A gateway that nobody asks anything starts sooner and spares the memory of a web framework. A caller that is early waits
in the socket's queue. What is answered is agent/api.py.
"""

from __future__ import annotations

import asyncio
import logging
import socket
from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager, contextmanager, suppress
from importlib import import_module
from pathlib import Path
from typing import TYPE_CHECKING

from agent.thrift import give_back

if TYPE_CHECKING:
    from agent.runtime import Runtime

log = logging.getLogger("roamkey")


class SocketUnusable(Exception):
    """Where the local API is to be served; the text says what is wrong with that place."""


@asynccontextmanager
async def front_door(runtime: Runtime, path: Path, mode: int) -> AsyncIterator[None]:
    """The API is served while inside. A socket left behind by a killed service is replaced."""
    with bound(path, mode) as listening:
        answering = asyncio.create_task(_answer(runtime, listening))
        answering.add_done_callback(_tell_of_its_death)
        try:
            yield
        finally:
            answering.cancel()
            with suppress(asyncio.CancelledError):
                await answering


async def _answer(runtime: Runtime, listening: socket.socket) -> None:
    await _knock(listening)
    # In a thread: a card is decided meanwhile.
    api = await asyncio.to_thread(import_module, "agent.api")
    give_back()
    await api.Api(runtime).serve(listening)


async def _knock(listening: socket.socket) -> None:
    """Somebody has connected; the connection itself is left to who serves."""
    knocked = asyncio.Event()
    loop = asyncio.get_running_loop()
    loop.add_reader(listening, knocked.set)
    try:
        await knocked.wait()
    finally:
        loop.remove_reader(listening)


def _tell_of_its_death(answering: asyncio.Task[None]) -> None:
    if not answering.cancelled() and (error := answering.exception()) is not None:
        log.error("the local API ended, cards are still decided; restart the service: %s", error, exc_info=error)


@contextmanager
def bound(path: Path, mode: int) -> Iterator[socket.socket]:
    """A listening socket at this path, gone afterwards. Only the journal's owner gets here: an old one is dead."""
    with socket.socket(socket.AF_UNIX, socket.SOCK_STREAM) as listening:
        try:
            path.parent.mkdir(parents=True, exist_ok=True)
            path.unlink(missing_ok=True)
            listening.bind(str(path))
            path.chmod(mode)
        except OSError as error:
            raise SocketUnusable(f"the API's socket {path} cannot be made ({error}): mend [api] socket") from error
        listening.listen(64)
        listening.setblocking(False)
        yield listening
    path.unlink(missing_ok=True)
