"""Speaks to a running service over its Unix socket, with the standard library only: verbs start quickly."""

from __future__ import annotations

import argparse
import http.client
import json
import os
import socket
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Any
from urllib.parse import quote, urlencode

from agent.cli import output

if TYPE_CHECKING:
    from agent.config import Config

TIMEOUT_S = 15.0
DEFAULT_CONFIG = Path("/etc/roamkey/roamkey.toml")


class Unreachable(output.Hopeless):
    """No service answers on the socket; the text says which and what to do."""

    def __init__(self, text: str) -> None:
        super().__init__(output.UNAVAILABLE, text)


class Refused(output.Hopeless):
    """The service answered with an error: the request's fault (4xx) or the service's."""

    def __init__(self, status: int, text: str) -> None:
        code = output.NO_INPUT if status == 404 else output.DATA if status < 500 else output.TRY_LATER
        super().__init__(code, text)
        self.status = status


class Api:
    def __init__(self, path: Path) -> None:
        self._path = path

    def get(self, path: str, **params: object) -> dict[str, Any]:
        """`path` as it is meant: what a URL cannot hold is quoted here."""
        query = f"?{urlencode(params)}" if params else ""
        return self._call("GET", quote(path) + query, None)

    def post(self, path: str, body: dict[str, Any]) -> dict[str, Any]:
        return self._call("POST", path, body)

    def put(self, path: str, body: dict[str, Any]) -> dict[str, Any]:
        return self._call("PUT", path, body)

    def stream(self, path: str) -> Iterator[dict[str, Any]]:
        """JSON lines for as long as the service sends them."""
        connection = self._connect(timeout=None)
        try:
            connection.request("GET", path)
            response = connection.getresponse()
            while line := response.readline():
                yield json.loads(line)
        finally:
            connection.close()

    def _call(self, method: str, path: str, body: dict[str, Any] | None) -> dict[str, Any]:
        connection = self._connect(timeout=TIMEOUT_S)
        try:
            payload = json.dumps(body) if body is not None else None
            connection.request(method, path, payload, {"Content-Type": "application/json"} if payload else {})
            response = connection.getresponse()
            answer: dict[str, Any] = json.loads(response.read() or b"{}")
        except (OSError, http.client.HTTPException, ValueError) as error:
            raise Unreachable(f"the service on {self._path} does not answer: {error}; is it stopping?") from error
        finally:
            connection.close()
        if response.status >= 400:
            raise Refused(response.status, str(answer.get("error", response.reason)))
        return answer

    def _connect(self, timeout: float | None) -> http.client.HTTPConnection:
        connection = _UnixConnection(self._path, timeout)
        try:
            connection.connect()
        except OSError as error:
            connection.close()
            hint = "start it with `roamkey run --config FILE`, or name its socket with --socket"
            raise Unreachable(f"no service on {self._path} ({error.strerror}); {hint}") from error
        return connection


class _UnixConnection(http.client.HTTPConnection):
    def __init__(self, path: Path, timeout: float | None) -> None:
        super().__init__("localhost", timeout=timeout)
        self._path = path

    def connect(self) -> None:
        self.sock = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
        self.sock.settimeout(self.timeout)
        self.sock.connect(str(self._path))


def add_service_arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("--socket", type=Path, help="the service's API socket (default: as its configuration says)")
    parser.add_argument("--config", type=Path, help=f"the service's configuration (default: {DEFAULT_CONFIG})")
    parser.add_argument("--json", action="store_true", help="print JSON for programs")


def api_of(arguments: argparse.Namespace) -> Api:
    """The running service that the arguments, $ROAMKEY_SOCKET or the configuration name."""
    return Api(socket_of(arguments))


def socket_of(arguments: argparse.Namespace) -> Path:
    if arguments.socket is not None:
        return Path(arguments.socket)
    if os.environ.get("ROAMKEY_SOCKET"):
        return Path(os.environ["ROAMKEY_SOCKET"])
    config: Path | None = arguments.config
    if config is None and DEFAULT_CONFIG.exists():
        config = DEFAULT_CONFIG
    if config is None:
        return Path("/run/roamkey/api.sock")
    return config_of(config).socket


def config_of(path: Path) -> Config:
    """Raises output.Hopeless with every problem found."""
    from agent.config import ConfigError, load

    try:
        return load(path)
    except ConfigError as error:
        raise output.Hopeless(output.CONFIG, *(f"{path}: {problem}" for problem in error.problems)) from error
