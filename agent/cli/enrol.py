"""`roamkey enrol`: the device's TLS key, its signing request and its certificate, and how long that is good."""

from __future__ import annotations

import argparse
from pathlib import Path
from typing import TYPE_CHECKING, Any

from agent.cli import output

if TYPE_CHECKING:
    from datetime import datetime

    from agent.config import Config
    from agent.enrolment import Enrolment

HELP = "make the device's TLS key and request, install and renew its certificate"


def add_arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("--config", type=Path, required=True, metavar="FILE", help="the configuration, TOML")
    action = parser.add_mutually_exclusive_group()
    action.add_argument("--renew", action="store_true", help="make a new key and request beside the ones in force")
    action.add_argument("--install", type=Path, metavar="CERT", help="check a certificate (PEM) and put it in force")
    action.add_argument("--status", action="store_true", help="show the certificate; exit code 1 when it needs care")
    parser.add_argument(
        "--ca", type=Path, metavar="CA", help="with --install: authorities to trust, kept for the broker"
    )
    parser.add_argument("--out", type=Path, metavar="CSR", help="also write the request to this file")
    parser.add_argument("--json", action="store_true", help="print JSON for programs")


def main(arguments: argparse.Namespace) -> int:
    from agent.clock import SystemClock
    from agent.config import ConfigError, load
    from agent.enrolment import Enrolment, EnrolmentError

    try:
        config = load(arguments.config)
    except ConfigError as error:
        raise output.Hopeless(output.CONFIG, *(f"{arguments.config}: {each}" for each in error.problems)) from error
    now = SystemClock(trusted=config.time.trust == "system").now().latest
    enrolment = Enrolment.of(config)
    try:
        if arguments.status:
            return status(config, enrolment, now, as_json=arguments.json)
        if arguments.install is not None:
            return install(arguments, config, enrolment, now)
        return begin(arguments, config, enrolment, now)
    except EnrolmentError as error:
        raise output.Hopeless(output.DATA, *error.lines) from error
    except OSError as error:
        raise output.Hopeless(
            output.CANNOT_CREATE, f"{error.filename or enrolment.folder}: {error.strerror}"
        ) from error


def begin(arguments: argparse.Namespace, config: Config, enrolment: Enrolment, now: datetime) -> int:
    if enrolment.is_enrolled and not arguments.renew and not enrolment.is_waiting:
        code = status(config, enrolment, now, as_json=arguments.json)
        if not arguments.json:
            output.say("This device is enrolled; --renew makes a new key and request beside these.")
        return code
    request = enrolment.begin(config.device.name)
    if arguments.out is not None:
        arguments.out.write_bytes(request.read_bytes())
    if arguments.json:
        output.print_json({"name": config.device.name, "request": str(request), "csr": request.read_text()})
    else:
        output.say(request.read_text().strip())
        output.say(
            f"Have {arguments.out or request} signed for {config.device.name!r} by the broker's authority, then:"
        )
        output.say(f"roamkey enrol --config {arguments.config} --install CERT --ca CA")
    return output.OK


def install(arguments: argparse.Namespace, config: Config, enrolment: Enrolment, now: datetime) -> int:
    from agent.enrolment import tls_of

    tls = tls_of(config)
    authorities = arguments.ca or (tls.cafile if tls is not None else None) or enrolment.authorities
    for path in (arguments.install, authorities):
        if not path.is_file():
            hint = "" if path is arguments.install else "; --ca names the file of the authority that signed"
            raise output.Hopeless(output.NO_INPUT, f"{path}: no such file{hint}")
    installed = enrolment.install(
        arguments.install.read_bytes(),
        name=config.device.name,
        authorities=authorities.read_bytes(),
        now=now,
        keep=arguments.ca is not None,
    )
    if arguments.json:
        output.print_json(
            {"installed": str(enrolment.device), "not_after": f"{installed.not_after:%Y-%m-%dT%H:%M:%SZ}"}
        )
    else:
        output.say(f"{installed.subject} is in force until {installed.not_after:%Y-%m-%d %H:%M} UTC.")
        output.say("A running service takes it at its next connection.")
    if config.mqtt is not None and config.mqtt.certfile is not None:
        output.complain(f"[mqtt] certfile = {config.mqtt.certfile} is used instead: leave certfile and keyfile out")
    return output.OK


def status(config: Config, enrolment: Enrolment, now: datetime, *, as_json: bool) -> int:
    from agent.certificate_watch import inspect
    from agent.certificates import Standing
    from agent.enrolment import tls_of

    tls = tls_of(config)
    if tls is None or tls.certfile is None:
        raise output.Hopeless(output.CONFIG, "[mqtt] is missing or plain: no certificate is used")
    seen = inspect(tls.certfile, now)
    found: dict[str, Any] = {
        "state": seen.state,
        "detail": seen.detail,
        "file": str(tls.certfile),
        "waiting": str(enrolment.next_request) if enrolment.is_waiting else None,
        "former_kept": enrolment.former.exists(),
    }
    if seen.certificate is not None:
        found |= {
            "subject": seen.certificate.subject,
            "issuer": seen.certificate.issuer,
            "serial": seen.certificate.serial,
            "not_before": f"{seen.certificate.not_before:%Y-%m-%dT%H:%M:%SZ}",
            "not_after": f"{seen.certificate.not_after:%Y-%m-%dT%H:%M:%SZ}",
            "days_left": seen.certificate.days_left(now),
        }
    if as_json:
        output.print_json(found)
    else:
        output.table(f"certificate of {config.device.name}", ("what", "is"), found.items())
    return output.OK if seen.state == Standing.GOOD else output.FAILURE
