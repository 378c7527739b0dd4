"""Runs the service as a process: signals in, exit code out. The parts are joined in runtime.py."""

from __future__ import annotations

import asyncio
import logging
import signal
from collections.abc import Callable

from agent.cache.cache import TrustStoreBusy
from agent.config import Config
from agent.first_root import RootUnusable
from agent.front import SocketUnusable, front_door
from agent.journal import AlreadyRunning, JournalError
from agent.runtime import Runtime
from agent.vault import VaultError
from firmware_profiles.profile import ProfileError

log = logging.getLogger("roamkey")

OK, UNAVAILABLE, SOFTWARE, IO_ERROR, CONFIG = 0, 69, 70, 74, 78  # sysexits.h


def serve(config: Config, compose: Callable[[Config], Runtime] = Runtime) -> int:
    """Until SIGTERM or SIGINT. A configuration that cannot work ends with 78, which systemd does not restart."""
    try:
        runtime = compose(config)
    except TrustStoreBusy as error:
        log.error("%s", error)
        return UNAVAILABLE
    except (VaultError, RootUnusable, ProfileError, OSError) as error:
        log.error("%s", error)
        return CONFIG
    try:
        asyncio.run(_until_told(runtime))
    except AlreadyRunning as error:
        log.error("%s", error)
        return UNAVAILABLE
    except SocketUnusable as error:
        log.error("%s", error)
        return CONFIG
    except JournalError as error:
        log.error("the journal cannot be used: %s", error)
        return IO_ERROR
    except ExceptionGroup as group:
        for death in group.exceptions:
            log.error("a part of the service died: %s", death, exc_info=death)
        return IO_ERROR if group.subgroup(JournalError) is not None else SOFTWARE
    return OK


async def _until_told(runtime: Runtime) -> None:
    stop = asyncio.Event()
    loop = asyncio.get_running_loop()
    for number in (signal.SIGTERM, signal.SIGINT):
        loop.add_signal_handler(number, stop.set)
    await runtime.run(stop, front_door(runtime, runtime.config.socket, int(runtime.config.api.mode, 8)))
