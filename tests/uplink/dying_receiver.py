"""A receiver that is killed after its first commit of records, before any answer leaves. Run as a program."""

from __future__ import annotations

import asyncio
import os
import signal
import sys
from pathlib import Path

from sync.backend.receiver import Receiver, ReceiverSettings
from sync.backend.store import StreamState
from sync.link import LinkSettings


class DyingReceiver(Receiver):
    def _answer(self, state: StreamState, *, answers_hello: bool) -> None:
        if state.through > self.greeted:
            os.kill(os.getpid(), signal.SIGKILL)
        super()._answer(state, answers_hello=answers_hello)

    async def _greet(self, device: str, payload: bytes, store: object) -> None:
        self.greeted = sys.maxsize
        await super()._greet(device, payload, store)  # type: ignore[arg-type]
        self.greeted = 0

    greeted = sys.maxsize


def main(port: int, folder: Path) -> None:
    settings = ReceiverSettings(
        link=LinkSettings(host="127.0.0.1", port=port, client_id="receiver-1", tls=None),
        fleet="f1",
        database=folder / "backend.sqlite",
        signing_key=folder / "service.pem",
    )
    asyncio.run(DyingReceiver(settings).run())


if __name__ == "__main__":
    main(int(sys.argv[1]), Path(sys.argv[2]))
