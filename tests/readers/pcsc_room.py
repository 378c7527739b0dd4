"""A real pcscd with the virtual reader vpcd, in a network namespace of its own: vpcd listens on every address.

As a program it is the inside of that room: it starts the daemon and carries bytes between a Unix socket, where tests
lay their cards, and vpcd's port. `Room` is the outside.
"""

from __future__ import annotations

import atexit
import contextlib
import functools
import os
import select
import shutil
import socket
import subprocess
import sys
import tempfile
import threading
import time
from pathlib import Path
from typing import Self

if __name__ != "__main__":
    from drivers.readers import pcsc_lite

VPCD_PORT = 35963
VPCD_CONF = "/etc/reader.conf.d/vpcd"
READY_WITHIN_S = 10.0
UNSHARE = ("unshare", "--net", "--mount", "--pid", "--fork", "--kill-child=SIGKILL")
READER = "Virtual PCD 00 00"


def obstacle() -> str | None:
    """Why there can be no room here; None when there can."""
    if os.geteuid() != 0:
        return "a network namespace and pcscd need root"
    for needed in ("/usr/sbin/pcscd", VPCD_CONF):
        if not Path(needed).exists():
            return f"{needed} is missing: the Debian packages pcscd and vsmartcard-vpcd bring it"
    if subprocess.run([*UNSHARE, "true"], capture_output=True, check=False).returncode:
        return "this machine gives no namespaces"
    return None


@functools.cache
def _signpost() -> Path:
    """libpcsclite asks for PCSCLITE_CSOCK_NAME once a process: so it is one link, which each room repoints."""
    folder = Path(tempfile.mkdtemp(prefix="pcsc-room-"))
    atexit.register(shutil.rmtree, folder, ignore_errors=True)
    os.environ["PCSCLITE_CSOCK_NAME"] = str(folder / "pcscd.comm")
    return folder / "pcscd.comm"


class Room:
    """Use as a context manager. One at a time in a process."""

    def __init__(self, folder: Path) -> None:
        self._folder = folder
        self.daemon_socket = folder / "run" / "pcscd.comm"
        self._cards = folder / "cards.sock"

    def start(self) -> None:
        (self._folder / "run").mkdir(exist_ok=True)
        self._process = subprocess.Popen(
            [*UNSHARE, sys.executable, __file__, str(self._folder)],
            stdout=subprocess.PIPE,
        )
        assert self._process.stdout is not None
        assert self._process.stdout.readline() == b"ready\n", "pcscd does not come up"
        assert pcsc_lite.installed_readers(), "libpcsclite was used before the first room, and looks elsewhere for ever"

    def stop(self) -> None:
        """The daemon dies, as after a crash or an upgrade."""
        self._process.kill()  # unshare takes all that is inside with it
        self._process.wait(READY_WITHIN_S)
        if self._process.stdout is not None:
            self._process.stdout.close()

    def connect(self) -> socket.socket:
        line = socket.socket(socket.AF_UNIX)
        line.connect(str(self._cards))
        return line

    def __enter__(self) -> Self:
        _signpost().unlink(missing_ok=True)
        _signpost().symlink_to(self.daemon_socket)
        self.start()
        return self

    def __exit__(self, *_: object) -> None:
        self.stop()


def _inside(folder: Path) -> None:
    subprocess.run(["ip", "link", "set", "lo", "up"], check=True)
    Path("/run/pcscd").mkdir(exist_ok=True)
    subprocess.run(["mount", "--bind", str(folder / "run"), "/run/pcscd"], check=True)
    for stale in (folder / "run").iterdir():
        stale.unlink()
    log = (folder / "pcscd.log").open("ab")
    daemon = subprocess.Popen(
        ["/usr/sbin/pcscd", "--foreground", "--config", "/etc/reader.conf.d"], stdout=log, stderr=log
    )
    with contextlib.suppress(FileNotFoundError):
        (folder / "cards.sock").unlink()
    with socket.socket(socket.AF_UNIX) as door:
        door.bind(str(folder / "cards.sock"))
        door.listen()
        until_s = time.monotonic() + READY_WITHIN_S
        while not _listens() or not (folder / "run" / "pcscd.comm").exists():
            assert daemon.poll() is None, (folder / "pcscd.log").read_text()
            assert time.monotonic() < until_s, (folder / "pcscd.log").read_text()
            time.sleep(0.02)
        sys.stdout.write("ready\n")
        sys.stdout.flush()
        while True:
            here, _ = door.accept()
            threading.Thread(target=_carry, args=(here,), daemon=True).start()


def _listens() -> bool:
    wanted = f":{VPCD_PORT:04X} "
    return any(wanted in line and " 0A " in line for line in Path("/proc/net/tcp").read_text().splitlines())


def _carry(here: socket.socket) -> None:
    with here, socket.create_connection(("127.0.0.1", VPCD_PORT)) as there:
        there.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        while True:
            there.setsockopt(socket.IPPROTO_TCP, socket.TCP_QUICKACK, 1)  # otherwise every APDU waits 40 ms for an ACK
            readable, _, _ = select.select([here, there], [], [])
            for source, target in ((here, there), (there, here)):
                if source in readable:
                    if not (chunk := source.recv(4096)):
                        return
                    target.sendall(chunk)


if __name__ == "__main__":
    assert shutil.which("ip"), "the Debian package iproute2 brings ip"
    _inside(Path(sys.argv[1]))
