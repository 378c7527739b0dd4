"""`roamkey fleet`: the fleet office's side. Makes keys, publishes policy bundles, says what a device is set up with."""

from __future__ import annotations

import argparse
import asyncio
from collections.abc import Awaitable, Callable
from dataclasses import asdict
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import TYPE_CHECKING, Any, Protocol

from agent.cli import fleet_dispatch, output

if TYPE_CHECKING:
    from agent.fleet.folder import FleetFolder
    from sync.backend.publisher import Publisher, Status
    from sync.ceilings import Ceilings
    from sync.link import Link

HELP = "make a fleet's keys, publish its policy, set up devices"
WARN_BEFORE = timedelta(days=30)
KEPT_WITHIN_S = 2.0  # a retained message comes with the subscription


def add_arguments(parser: argparse.ArgumentParser) -> None:
    actions = parser.add_subparsers(dest="action", required=True, metavar="ACTION")

    def action(name: str, told: str) -> argparse.ArgumentParser:
        made = actions.add_parser(name, help=told, description=told)
        made.add_argument("folder", type=Path, metavar="FOLDER", help="the fleet's folder (keys and repository)")
        made.add_argument("--json", action="store_true", help="print JSON for programs")
        return made

    init = action("init", "make a new fleet: its keys and its empty repository")
    init.add_argument("--fleet", required=True, help="the fleet's name, as in the devices' configuration")
    _add_ceilings(init)
    init.add_argument("--root-keys", type=int, default=1, metavar="N", help="how many root keys are made (default 1)")
    init.add_argument("--root-threshold", type=int, default=1, metavar="M", help="how many of them must sign")
    init.add_argument("--root-dir", type=Path, metavar="DIR", help="write the root keys here: a stick for the safe")

    publish = action("publish", "check policy, people, vehicles and tokens, and publish them as a signed bundle")
    publish.add_argument("--policy", type=Path, required=True, metavar="SRC", help="folder with the TOML and CSV files")
    publish.add_argument("--dry-run", action="store_true", help="check and say what would travel; publish nothing")
    publish.add_argument("--all", action="store_true", help="hand the broker also what it took before")
    _add_broker(publish)

    revoke = action("revoke", "withdraw a card at once, whatever the files say; devices hear of it before all else")
    revoke.add_argument("token", metavar="TOKEN", help="the card's label or number")
    revoke.add_argument("--why", default="", help="what for; kept in the fleet's folder")
    revoke.add_argument("--lift", action="store_true", help="take it back")
    _add_broker(revoke)

    refresh = action("refresh", "sign again that the published bundle is the current one (do this every few hours)")
    _add_broker(refresh)
    action("status", "what is published, and until when")
    rotate = action("rotate-key", "replace the keys of a role; devices follow by the chain of roots")
    rotate.add_argument("role", choices=("root", "targets", "snapshot", "timestamp"))
    rotate.add_argument("--root-dir", type=Path, metavar="DIR", help="where root keys are: again with each, if several")
    _add_ceilings(rotate)
    rotate.add_argument("--keys", type=int, metavar="N", help="of root: how many there are from now on")
    rotate.add_argument("--threshold", type=int, metavar="M", help="of root: how many of them must sign from now on")
    files = action("device-files", "write what a device is set up with: root.json, token.key, break-glass.key")
    files.add_argument("--device", help="its name: then also its own secret for break-glass codes")
    files.add_argument("--out", type=Path, required=True, metavar="DIR", help="where to (token.key is a secret)")
    fleet_dispatch.add_actions(action, _add_broker)


def main(arguments: argparse.Namespace) -> int:
    from agent.fleet.revocations import NoSuchToken
    from agent.fleet.source import SourceMissing, SourceUnfit
    from sync.backend.publisher import PublisherError, SignaturesMissing
    from sync.link import LinkError

    do: Callable[[argparse.Namespace], int] = {
        "init": _init,
        "publish": _publish,
        "refresh": _refresh,
        "status": _status,
        "revoke": _revoke,
        "rotate-key": _rotate_key,
        "device-files": _device_files,
        "override": _override,
        "break-glass": fleet_dispatch.break_glass,
    }[arguments.action]
    try:
        return do(arguments)
    except SourceMissing as error:
        output.complain(str(error))
        return output.NO_INPUT
    except SourceUnfit as error:
        for problem in error.problems:
            output.complain(problem)
        output.complain(f"nothing is published: {len(error.problems)} to mend")
        return output.DATA
    except NoSuchToken as error:
        output.complain(str(error))
        return output.DATA
    except SignaturesMissing as error:
        output.complain(str(error))
        return output.TRY_LATER
    except PublisherError as error:
        output.complain(str(error))
        return output.CANNOT_CREATE if arguments.action == "init" else output.NO_INPUT
    except LinkError as error:
        output.complain(f"the bundle is signed, but the broker did not take it ({error}); run the same again")
        return output.UNAVAILABLE
    except OSError as error:
        output.complain(f"{error.filename or arguments.folder}: {error.strerror}")
        return output.CANNOT_CREATE


def _init(arguments: argparse.Namespace) -> int:
    import re

    from agent.config import NAME
    from agent.fleet.folder import FleetFolder

    if not re.fullmatch(NAME, arguments.fleet):
        output.complain(f"--fleet {arguments.fleet!r}: use 1 to 64 of a-z 0-9 -, beginning with a letter or digit")
        return output.USAGE
    if not 1 <= arguments.root_threshold <= arguments.root_keys:
        output.complain("--root-threshold must be between 1 and --root-keys")
        return output.USAGE
    folder = FleetFolder.create(
        arguments.folder,
        fleet=arguments.fleet,
        now=datetime.now(UTC),
        root_keys=arguments.root_keys,
        root_threshold=arguments.root_threshold,
        root_folder=arguments.root_dir,
        ceilings=_ceilings(arguments),
    )
    root_keys = arguments.root_dir or folder.path / "keys"
    if arguments.json:
        output.print_json(
            {"fleet": arguments.fleet, "folder": str(folder.path), "service_key": str(folder.service_key)}
        )
    else:
        output.say(f"Fleet {arguments.fleet} is made in {folder.path}.")
        output.say(
            f"  keys/        back them up, and take {root_keys}/root-*.pem off line "
            f"({folder.service_key.name} is the receiver's)"
        )
        output.say("  repository/  public: serve it, copy it to a stick, or publish with --broker")
        output.say(f"Next: roamkey fleet publish {folder.path} --policy SRC")
    return output.OK


def _publish(arguments: argparse.Namespace) -> int:
    from agent.fleet.source import read_source

    broker = _broker(arguments)
    if broker is None:
        return output.USAGE
    folder, publisher, now = *_open(arguments), datetime.now(UTC)
    bodies = read_source(
        arguments.policy,
        fleet=publisher.fleet,
        revision=publisher.next_version,
        issued=now,
        token_key=folder.token_key,
        keys=folder.keys_document(),
    )
    bodies |= folder.revocations.part()
    new = publisher.new_parts(bodies)
    counted = {"parts": len(bodies), "new_parts": len(new), "new_bytes": sum(len(bodies[name]) for name in new)}
    if arguments.dry_run:
        status = publisher.status()
        done = f"Good, and not published: it would be revision {publisher.next_version}"
    else:
        status = publisher.publish(bodies, now=now)
        done = f"Revision {status.version} of fleet {status.fleet} is published"
    sent = 0 if arguments.dry_run else _send(folder, publisher, broker, anew=arguments.all)
    if arguments.json:
        output.print_json({**_plain(status), **counted, "published": not arguments.dry_run, "sent": sent})
    else:
        output.say(f"{done}; {len(new)} of {len(bodies)} parts are new ({counted['new_bytes']} bytes).")
        if sent:
            output.say(f"{sent} documents are with the broker.")
    return output.OK


def _refresh(arguments: argparse.Namespace) -> int:
    broker = _broker(arguments)
    if broker is None:
        return output.USAGE
    folder, publisher = _open(arguments)
    status = publisher.refresh_timestamp(now=datetime.now(UTC))
    sent = _send(folder, publisher, broker)
    if arguments.json:
        output.print_json({**_plain(status), "sent": sent})
    else:
        until = status.expires["timestamp"]
        output.say(f"Revision {status.version} is confirmed as the current one until {until:%Y-%m-%d %H:%M} UTC.")
    return output.OK


def _status(arguments: argparse.Namespace) -> int:
    folder, publisher = _open(arguments)
    status, revoked = publisher.status(), folder.revocations.read()
    if arguments.json:
        output.print_json({**_plain(status), "revoked": len(revoked)})
        return output.OK
    now = datetime.now(UTC)
    rows: list[tuple[object, ...]] = []
    versions = {
        "root": status.root_version,
        "targets": status.version,
        "snapshot": status.snapshot_version,
        "timestamp": status.timestamp_version,
    }
    for role, expires in status.expires.items():
        left = expires - now
        soon = left < (WARN_BEFORE if role != "timestamp" else timedelta(days=2))
        hint = "" if not soon else ("EXPIRED" if left < timedelta(0) else "soon") + f": {_REMEDY[role]}"
        keys = status.roles[role]
        signs = f"{keys.threshold} of {keys.keys}, {keys.here} here"
        rows.append((role, versions[role], signs, f"{expires:%Y-%m-%d %H:%M} UTC {hint}".strip()))
    title = f"fleet {status.fleet}, revision {status.version}"
    output.table(title, ("role", "version", "keys that must sign", "expires"), rows)
    output.say(f"{status.parts} parts, {status.size_bytes} bytes, confirmed {status.issued:%Y-%m-%d %H:%M} UTC")
    output.say(f"{len(revoked)} cards are revoked")
    if status.roles["root"].here:
        output.say(f"{status.roles['root'].here} root keys are on this machine: take them off line")
    for role in status.pending:
        output.say(f"a new key of {role} waits for signatures: roamkey fleet rotate-key FOLDER {role} --root-dir DIR")
    return output.OK


_REMEDY = {
    "root": "roamkey fleet rotate-key FOLDER root",
    "targets": "roamkey fleet publish",
    "snapshot": "roamkey fleet publish",
    "timestamp": "roamkey fleet refresh",
}


def _revoke(arguments: argparse.Namespace) -> int:
    from agent.fleet.revocations import find_reference, reissued

    broker = _broker(arguments)
    if broker is None:
        return output.USAGE
    folder, publisher, now = *_open(arguments), datetime.now(UTC)
    published, revocations = publisher.published(), folder.revocations
    reference, label = find_reference(published, arguments.token, folder.token_key)
    issued = reissued(published, revision=publisher.next_version, issued=now)
    if arguments.lift:
        is_news = revocations.lift(reference)
    else:
        is_news = revocations.add(reference, at=now, why=arguments.why, label=label)
    # Also what is no news is published: the last time may have been interrupted between the list and the bundle.
    bodies = issued | revocations.part()
    counted = sum(len(bodies[name]) for name in publisher.new_parts(bodies))
    status = publisher.publish(bodies, now=now)
    sent = _send(folder, publisher, broker)
    done = {"reference": reference, "label": label, "new": is_news, "new_bytes": counted, "sent": sent}
    if arguments.json:
        output.print_json({**_plain(status), **done, "revoked": len(revocations.read())})
    else:
        word = "is no longer revoked" if arguments.lift else "is revoked"
        before = "" if is_news else ", as before"
        output.say(f"{label or 'That number'} {word}{before}; revision {status.version} says so ({counted} bytes).")
    return output.OK


def _rotate_key(arguments: argparse.Namespace) -> int:
    from sync.backend.publisher import Publisher

    publisher = Publisher(arguments.folder, root_keys=arguments.root_dir)
    if arguments.role != "root" and (arguments.keys or arguments.threshold):
        output.complain("--keys and --threshold are root's: the other roles have one key each, on line")
        return output.USAGE
    version = publisher.rotate(
        arguments.role,
        now=datetime.now(UTC),
        keys=arguments.keys,
        threshold=arguments.threshold,
        ceilings=_ceilings(arguments),
    )
    if arguments.json:
        output.print_json(_plain(publisher.status()))
    else:
        output.say(f"Root version {version} names the new {arguments.role} keys; publish to the broker to spread it.")
    return output.OK


def _ceilings(arguments: argparse.Namespace) -> Ceilings | None:
    from sync.ceilings import CeilingsUnfit, ceilings_from

    if not arguments.ceiling:
        return None
    told: dict[str, object] = {}
    for each in arguments.ceiling:
        name, _, value = each.partition("=")
        told[name] = int(value) if value.isdecimal() else value
    try:
        return ceilings_from(told)
    except CeilingsUnfit as error:
        raise output.Hopeless(output.USAGE, f"--ceiling {error}") from error


def _add_ceilings(parser: argparse.ArgumentParser) -> None:
    parser.add_argument(
        "--ceiling",
        action="append",
        default=[],
        metavar="NAME=N",
        help="what no online key may exceed: override_energy_wh, override_hours, expired_after_hours; root signs it",
    )


def _device_files(arguments: argparse.Namespace) -> int:
    folder, _ = _open(arguments)
    written = folder.write_device_files(arguments.out, arguments.device)
    if arguments.json:
        output.print_json({"files": [str(path) for path in written]})
    else:
        for path in written:
            output.say(str(path))
    return output.OK


def _override(arguments: argparse.Namespace) -> int:
    broker = _broker(arguments)
    if broker is None:
        return output.USAGE
    if not broker.host:
        return fleet_dispatch.override(arguments, None)
    _, publisher = _open(arguments)

    def send(device: str, body: bytes) -> object:
        from sync.topics import FleetTopics

        topic = FleetTopics(fleet=publisher.fleet, root=broker.root).device(device).override
        return asyncio.run(_retained(publisher, broker, topic, body))

    return fleet_dispatch.override(arguments, send)


def _open(arguments: argparse.Namespace) -> tuple[FleetFolder, Publisher]:
    from agent.fleet.folder import FleetFolder

    folder = FleetFolder(arguments.folder)
    return folder, folder.publisher


def _plain(status: Status) -> dict[str, Any]:
    stamped = {role: f"{expires:%Y-%m-%dT%H:%M:%SZ}" for role, expires in status.expires.items()}
    return {**asdict(status), "issued": f"{status.issued:%Y-%m-%dT%H:%M:%SZ}", "expires": stamped}


def _add_broker(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("--broker", metavar="HOST:PORT", help="also hand it to this MQTT broker, as retained messages")
    parser.add_argument("--root", default="roamkey/v1", help="topic root (default roamkey/v1)")
    parser.add_argument("--mqtt", choices=("auto", "5", "3.1.1"), default="auto", help="protocol version (auto)")
    parser.add_argument("--plain", action="store_true", help="no TLS: only for a broker on this machine")
    parser.add_argument("--cafile", type=Path, help="authority of the broker's certificate")
    parser.add_argument("--certfile", type=Path, help="this publisher's certificate")
    parser.add_argument("--keyfile", type=Path, help="its key")


def _broker(arguments: argparse.Namespace) -> Broker | None:
    """What the arguments say of a broker; None, with a complaint, when they make no sense."""
    if not arguments.broker:
        return Broker()
    host, _, port = arguments.broker.rpartition(":")
    if not host or not port.isdigit():
        output.complain(f"--broker {arguments.broker!r}: give HOST:PORT, such as localhost:8883")
        return None
    files = (arguments.cafile, arguments.certfile, arguments.keyfile)
    if not arguments.plain and None in files:
        output.complain("TLS needs --cafile, --certfile and --keyfile; --plain is for a broker on this machine")
        return None
    return Broker(host, int(port), None if arguments.plain else files, arguments.root, arguments.mqtt)


class Broker:
    """Where to send; nowhere without a host."""

    def __init__(
        self,
        host: str = "",
        port: int = 0,
        tls: tuple[Path, Path, Path] | None = None,
        root: str = "",
        mqtt: str = "auto",
    ) -> None:
        self.host, self.port, self.tls, self.root, self.mqtt = host, port, tls, root, mqtt


def _send(folder: FleetFolder, publisher: Publisher, broker: Broker, *, parts: bool = True, anew: bool = False) -> int:
    """How many documents the broker took: of parts those that it does not have yet, and all when it lost its store."""
    from sync.topics import FleetTopics

    if not broker.host:
        return 0
    topics = FleetTopics(fleet=publisher.fleet, root=broker.root)
    name = f"{broker.host}:{broker.port}/{broker.root}"
    known = frozenset() if anew else folder.announced(name)
    has = set(known)

    async def announce(publish: Retain) -> int:
        forgotten = known and not await publish.holds(topics.policy_timestamp)
        if forgotten:
            has.clear()

        async def hand_over(document: str, body: bytes) -> None:
            await publish(topics.policy(document), body)
            (has.add if body else has.discard)(document)

        count = await publisher.announce(hand_over, known=() if forgotten else known)
        for document in sorted(has - publisher.documents()):  # what this broker kept while another one was told
            await hand_over(document, b"")
        return count

    count = asyncio.run(_with_broker(publisher, broker, announce))
    if has != known or anew:
        folder.note_announced(name, has)
    return count


async def _retained(publisher: Publisher, broker: Broker, topic: str, body: bytes) -> int:
    async def announce(publish: Retain) -> int:
        await publish(topic, body)
        return 1

    return await _with_broker(publisher, broker, announce)


class Retain(Protocol):
    """A broker, as far as retained messages go."""

    async def __call__(self, topic: str, body: bytes) -> None: ...

    async def holds(self, topic: str) -> bool:
        """Whether it keeps a message there. A broker that does not let us look is taken for one that keeps nothing."""
        ...


class Retaining:
    def __init__(self, link: Link) -> None:
        self._link = link

    async def __call__(self, topic: str, body: bytes) -> None:
        from sync.link import NO_MATCHING_SUBSCRIBERS, SUCCESS, LinkError

        code = await self._link.publish(topic, body, retain=True)
        if code not in (SUCCESS, NO_MATCHING_SUBSCRIBERS):  # retained is for those who come later
            raise LinkError(f"{topic} was not taken: 0x{code:02x}")

    async def holds(self, topic: str) -> bool:
        from sync.link import LinkError

        try:
            await self._link.subscribe([topic])
            async with asyncio.timeout(KEPT_WITHIN_S):
                while True:
                    message = await self._link.receive()
                    self._link.acknowledge(message)
                    if message.topic == topic:
                        return bool(message.payload)
        except (TimeoutError, LinkError):
            return False


async def _with_broker(publisher: Publisher, broker: Broker, announce: Callable[[Retain], Awaitable[int]]) -> int:
    from sync.link import Dialect, LinkError, LinkSettings, Tls, open_link
    from sync.link import Protocol as Version

    tls = Tls(cafile=broker.tls[0], certfile=broker.tls[1], keyfile=broker.tls[2]) if broker.tls else None
    settings = LinkSettings(host=broker.host, port=broker.port, client_id=f"publisher-{publisher.fleet}", tls=tls)
    wanted = None if broker.mqtt == "auto" else Version(broker.mqtt)
    dialect = Dialect(wanted=wanted)
    while True:
        try:
            async with open_link(settings, protocol=dialect.next) as link:
                return await announce(Retaining(link))
        except LinkError as error:
            other = dialect.failed(error)
            if wanted or other == dialect or other.next is Dialect().next:  # each version of the protocol is tried once
                raise
            dialect = other
