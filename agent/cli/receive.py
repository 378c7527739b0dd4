"""`roamkey receive`: the reference backend receiver. Stores every record once, acknowledges what is durable."""

from __future__ import annotations

import argparse
import asyncio
import signal
from collections.abc import Coroutine, Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from agent.cli import output

if TYPE_CHECKING:
    from sync.backend.answering import Answerer
    from sync.backend.lending import LendingSettings
    from sync.backend.store import StreamAudit
    from sync.link import LinkSettings

HELP = "run the reference backend receiver"


def add_arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("--broker", required=True, metavar="HOST:PORT", help="the MQTT broker")
    parser.add_argument("--db", type=Path, required=True, metavar="FILE", help="the SQLite database to store into")
    parser.add_argument("--fleet", required=True, help="the fleet whose devices are received")
    parser.add_argument("--key", type=Path, required=True, metavar="PEM", help="the service key that acknowledges")
    parser.add_argument("--name", default="receiver-1", help="client id; each receiver needs its own")
    parser.add_argument("--retry-cap", type=float, default=30.0, metavar="S", help="longest wait between connects (30)")
    parser.add_argument("--mqtt", choices=("auto", "5", "3.1.1"), default="auto", help="protocol version (auto)")
    parser.add_argument("--plain", action="store_true", help="no TLS: only for a broker on this machine")
    parser.add_argument("--cafile", type=Path, help="authority of the broker's certificate")
    parser.add_argument("--certfile", type=Path, help="this receiver's certificate")
    parser.add_argument("--keyfile", type=Path, help="its key")
    parser.add_argument(
        "--device-keys", type=Path, metavar="DIR", help="the devices' public keys, NAME.jwk: judge their checkpoints"
    )
    parser.add_argument(
        "--budgets", type=Path, metavar="FILE", help="lend to devices from the budgets in this policy file"
    )
    parser.add_argument(
        "--grant-key", type=Path, metavar="PEM", help="the key that lends (service-grant.pem beside --key)"
    )
    parser.add_argument(
        "--witness",
        type=Path,
        metavar="FILE",
        help="tells a ledger that was put back to an older copy; on another disk",
    )
    parser.add_argument("--answers", type=Path, metavar="TOML", help="answer live questions by this file")
    parser.add_argument(
        "--answer-key",
        type=Path,
        metavar="PEM",
        help="the key that answers them (service-answer.pem beside --key)",
    )
    parser.add_argument("--answer-certfile", type=Path, help="certificate of the answering connection: it has its own")
    parser.add_argument("--answer-keyfile", type=Path, help="its key")
    parser.add_argument("--audit", action="store_true", help="judge what is in the database, and exit")
    parser.add_argument("--json", action="store_true", help="print JSON for programs")


def main(arguments: argparse.Namespace) -> int:
    if arguments.audit:
        return audit(arguments)
    host, _, port = arguments.broker.rpartition(":")
    if not host or not port.isdigit():
        output.complain(f"--broker {arguments.broker!r}: give HOST:PORT, such as localhost:8883")
        return output.USAGE
    if not arguments.plain and None in (arguments.cafile, arguments.certfile, arguments.keyfile):
        output.complain("TLS needs --cafile, --certfile and --keyfile; --plain is for a broker on this machine")
        return output.USAGE
    if not arguments.key.is_file():
        output.complain(f"--key {arguments.key}: no such file; `roamkey fleet init` makes service keys")
        return output.NO_INPUT
    return receive(arguments, host, int(port))


def lending(arguments: argparse.Namespace) -> LendingSettings | None:
    """What is lent, from which file, under which key. The ledger lies beside the database."""
    from agent.fleet.budget_file import read_budgets
    from agent.fleet.sheets import SourceMissing
    from agent.fleet.source import SourceUnfit
    from sync.backend.lending import LendingSettings

    if arguments.budgets is None:
        return None
    key = arguments.grant_key or arguments.key.with_name("service-grant.pem")
    if not key.is_file():
        raise output.Hopeless(output.NO_INPUT, f"--grant-key {key}: no such file; `roamkey fleet init` makes it")
    try:
        budgets = read_budgets(arguments.budgets)
    except (SourceMissing, SourceUnfit) as error:
        raise output.Hopeless(output.DATA, *str(error).splitlines()) from error
    ledger = arguments.db.with_name(arguments.db.name + ".budgets")
    return LendingSettings(budgets=budgets, ledger=ledger, signing_key=key, witness=arguments.witness)


def receive(arguments: argparse.Namespace, host: str, port: int) -> int:
    from agent.logs import set_up_logging
    from sync.backend.receiver import Receiver, ReceiverSettings
    from sync.backoff import Backoff
    from sync.link import LinkSettings, Protocol, Tls

    set_up_logging("info")
    tls = None
    if not arguments.plain:
        tls = Tls(cafile=arguments.cafile, certfile=arguments.certfile, keyfile=arguments.keyfile)
    settings = ReceiverSettings(
        link=LinkSettings(
            host=host,
            port=port,
            client_id=arguments.name,
            tls=tls,
            protocol=None if arguments.mqtt == "auto" else Protocol(arguments.mqtt),
        ),
        fleet=arguments.fleet,
        database=arguments.db,
        signing_key=arguments.key,
        device_keys=arguments.device_keys,
        lending=lending(arguments),
        reconnect=Backoff(cap_s=arguments.retry_cap),
    )
    answerer = answering(arguments, settings.link)
    works = [Receiver(settings).run(), *([answerer.run()] if answerer is not None else [])]
    asyncio.run(until_told(side_by_side(works)))
    return output.OK


async def side_by_side(works: Sequence[Coroutine[object, object, None]]) -> None:
    async with asyncio.TaskGroup() as tasks:
        for work in works:
            tasks.create_task(work)


def answering(arguments: argparse.Namespace, link: LinkSettings) -> Answerer | None:
    """Over a connection with a name and a certificate of its own: two with one name throw each other out."""
    from dataclasses import replace

    from sync.backend.answering import Answerer, AnswererSettings, AnswersFile, AnswersUnfit
    from sync.backoff import Backoff

    if arguments.answers is None:
        return None
    key = arguments.answer_key or arguments.key.with_name("service-answer.pem")
    if not key.is_file():
        raise output.Hopeless(output.NO_INPUT, f"--answer-key {key}: no such file; `roamkey fleet init` makes it")
    own = (arguments.answer_certfile, arguments.answer_keyfile)
    if not arguments.plain and None in own:
        raise output.Hopeless(output.USAGE, "--answers over TLS needs --answer-certfile and --answer-keyfile")
    tls = None if link.tls is None else replace(link.tls, certfile=own[0], keyfile=own[1])
    try:
        rule = AnswersFile(arguments.answers)
    except AnswersUnfit as error:
        raise output.Hopeless(output.DATA, str(error)) from error
    settings = AnswererSettings(
        link=replace(link, client_id=f"{arguments.name}-answers", tls=tls),
        fleet=arguments.fleet,
        signing_key=key,
        reconnect=Backoff(cap_s=arguments.retry_cap),
    )
    return Answerer(settings, rule)


async def until_told(work: Coroutine[object, object, None]) -> None:
    task = asyncio.ensure_future(work)
    for number in (signal.SIGTERM, signal.SIGINT):
        asyncio.get_running_loop().add_signal_handler(number, task.cancel)
    try:
        await task
    except asyncio.CancelledError:
        return


def audit(arguments: argparse.Namespace) -> int:
    """Counts and verdicts from the rows themselves: gaps, forks, chain, what came twice and was stored once."""
    from contextlib import closing
    from dataclasses import asdict

    from sync.backend.checkpoints import DeviceKeys
    from sync.backend.store import Store

    if not arguments.db.is_file():
        output.complain(f"--db {arguments.db}: no such file")
        return output.NO_INPUT
    with closing(Store(arguments.db)) as store:
        found = store.audit(DeviceKeys(arguments.device_keys).of) if arguments.device_keys else store.audit()
    sound = all(each.chain_ok and not each.gaps and not each.forks and not each.bad_checkpoints for each in found)
    if arguments.json:
        output.print_json([asdict(each) for each in found])
    else:
        columns = (
            "device",
            "journal",
            "stored",
            "through",
            "gaps",
            "forks",
            "chain",
            "not yet signed",
            "twice on the wire",
            "quarantined",
        )
        rows = [
            (
                each.device,
                each.journal,
                each.stored,
                each.through,
                len(each.gaps),
                each.forks,
                "whole" if each.chain_ok else "BROKEN",
                signatures(each),
                each.duplicates_on_wire,
                len(each.quarantined),
            )
            for each in found
        ]
        output.table(str(arguments.db), columns, rows)
    return output.OK if sound else output.FAILURE


def signatures(audit: StreamAudit) -> str:
    """Which records no checkpoint of the device covers: the newest ones for a while, invented ones for ever."""
    if audit.unsigned is None:
        return "key unknown"
    ranges = [str(first) if first == last else f"{first}-{last}" for first, last in audit.unsigned]
    bad = [f"checkpoint {sequence} is FORGED" for sequence in audit.bad_checkpoints]
    return ", ".join([*bad, *ranges]) or "none"
