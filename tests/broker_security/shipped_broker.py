"""mosquitto with exactly the files of docs/broker/, below Debian's own: only folders, port and user are changed."""

from __future__ import annotations

import asyncio
import getpass
import os
import shutil
import ssl
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass, replace
from datetime import timedelta
from pathlib import Path

import pytest

from sync.link import LinkSettings, Tls
from sync.loopback_broker import free_port
from tests.uplink.certificates import HOUR, Authority
from tests.uplink.closed_loop import link_settings

SHIPPED = Path(__file__).parents[2] / "docs" / "broker"
# The fleet that the shipped files name.
FLEET = "acme"
PATH = f"{os.environ.get('PATH', '')}:/usr/sbin:/usr/local/sbin"


@dataclass
class Premises:
    """The broker and everybody who has a certificate for it."""

    authority: Authority
    folder: Path
    port: int = 0
    revoked: Tls | None = None

    def settings(self, name: str, **changes: object) -> LinkSettings:
        """How the holder of the certificate `name` connects."""
        tls = changes.pop("tls", None) or self.authority.issue(name)
        return replace(link_settings(self.port, name), tls=tls, **changes)  # type: ignore[arg-type]

    @property
    def log(self) -> str:
        return (self.folder / "broker.log").read_text(encoding="utf-8", errors="replace")


def placed(text: str, folder: Path, port: int) -> str:
    """A shipped configuration with this test's folders and port."""
    text = text.replace("/etc/mosquitto/roamkey/", f"{folder}/").replace("/var/lib/mosquitto/", f"{folder}/")
    assert "listener 8883\n" in text
    return text.replace("listener 8883\n", f"listener {port} 127.0.0.1\n")


def debians_own(folder: Path) -> str:
    """What Debian's /etc/mosquitto/mosquitto.conf says; ours is a file in its conf.d."""
    return (
        "persistence true\n"
        f"persistence_location {folder}/\n"
        f"include_dir {folder}/conf.d\n"
        # Started as root it would become another user, who may not read here.
        f"user {getpass.getuser()}\n"
    )


@asynccontextmanager
async def shipped_broker(
    folder: Path,
    configuration: str,
    *,
    server: Tls | None = None,
    revoked: str | None = None,
    list_valid: timedelta = 24 * HOUR,
) -> AsyncIterator[Premises]:
    """`server` is the broker's certificate when it is not to be a good one; who is `revoked` had one once.
    `list_valid` is how long the revocation list is still good."""
    home = folder / "broker"
    home.mkdir(exist_ok=True)
    premises = Premises(authority=Authority(folder / "authority"), folder=home, port=free_port())
    if revoked is not None:
        premises.revoked = premises.authority.issue(revoked, file="revoked")
        premises.authority.revoke(premises.revoked)
    (home / "crl.pem").write_bytes(premises.authority.revocation_list(valid=list_valid))
    server = server or premises.authority.issue("broker")
    assert server.certfile is not None
    assert server.keyfile is not None
    shutil.copy(premises.authority.cafile, home / "ca.crt")
    shutil.copy(server.certfile, home / "server.crt")
    shutil.copy(server.keyfile, home / "server.key")
    for name in ("acl", "dynamic-security.json"):
        shutil.copy(SHIPPED / name, home / name)
        (home / name).chmod(0o600)
    (home / "conf.d").mkdir()
    text = (SHIPPED / configuration).read_text(encoding="utf-8")
    (home / "conf.d" / "roamkey.conf").write_text(placed(text, home, premises.port), encoding="utf-8")
    (home / "mosquitto.conf").write_text(debians_own(home), encoding="utf-8")
    program = shutil.which("mosquitto", path=PATH)
    if program is None:
        pytest.fail("mosquitto is not installed: `make needs` installs what the tests need")
    with (home / "broker.log").open("ab") as log:
        process = await asyncio.create_subprocess_exec(
            program, "-v", "-c", str(home / "mosquitto.conf"), stdin=asyncio.subprocess.DEVNULL, stdout=log, stderr=log
        )
    try:
        async with asyncio.timeout(10):
            while not await accepts(premises.port):
                assert process.returncode is None, premises.log[-800:]
                await asyncio.sleep(0.02)
        yield premises
    finally:
        if process.returncode is None:
            process.kill()
        await process.wait()


async def add_device(premises: Premises, name: str) -> None:
    """By the shipped script, while the broker runs."""
    admin = premises.authority.issue("broker-admin")
    options = ["-h", "127.0.0.1", "-p", str(premises.port), "--cafile", str(admin.cafile)]
    options += ["--cert", str(admin.certfile), "--key", str(admin.keyfile)]
    process = await asyncio.create_subprocess_exec(
        str(SHIPPED / "add-device"),
        name,
        *options,
        env={"PATH": PATH, "FLEET": FLEET},
        stdout=asyncio.subprocess.PIPE,
        stderr=asyncio.subprocess.STDOUT,
    )
    said, _ = await process.communicate()
    assert process.returncode == 0, said.decode()
    assert b"rror" not in said, said.decode()


async def accepts(port: int) -> bool:
    """Whether a TLS server listens there; it will miss our certificate, which is its right."""
    context = ssl.create_default_context()
    context.check_hostname, context.verify_mode = False, ssl.CERT_NONE
    try:
        _, writer = await asyncio.open_connection("127.0.0.1", port, ssl=context)
    except ssl.SSLError:
        return True
    except OSError:
        return False
    writer.close()
    return True
