"""`roamkey journal tail|verify|export`: look at the journal, prove that it is whole, take a copy.

While the service runs it alone has the store open, so these ask it over its API; with `--state` they read the store
of a stopped service, with `--file` a copy.
"""

from __future__ import annotations

import argparse
import time
from collections.abc import Iterator
from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING, Any

from agent.cli import output
from agent.cli.client import Api, Refused, Unreachable, add_service_arguments, api_of, config_of

if TYPE_CHECKING:
    from agent.journal.verification import Verdict
    from agent.wire import Envelope

HELP = "show, verify or export the journal"

PAGE_RECORDS = 500
FOLLOW_S = 0.5

# What a person wants to see first of each kind; of the others, every plain value.
SHOWN = {
    "decision.made": ("outcome", "text", "reader", "charger"),
    "session.authorised": ("charger", "reader"),
    "session.started": ("meter_wh",),
    "session.metered": ("energy_wh", "power_w"),
    "session.ended": ("reason", "energy_wh", "duration_s", "complete"),
    "policy.activated": ("revision", "tokens"),
    "checkpoint": (),
}


def add_arguments(parser: argparse.ArgumentParser) -> None:
    actions = parser.add_subparsers(dest="action", required=True, metavar="ACTION")
    tail = actions.add_parser("tail", help="show the newest records")
    tail.add_argument("-n", dest="count", type=int, default=20, metavar="N", help="how many (default: 20)")
    tail.add_argument("--follow", "-f", action="store_true", help="go on with what is added, until interrupted")
    verify = actions.add_parser("verify", help="prove that no record was changed, removed, moved or added")
    verify.add_argument("--file", type=Path, metavar="FILE", help="an exported journal, or JSON Lines of records")
    verify.add_argument(
        "--key", type=Path, action="append", default=[], metavar="FILE", help="the device's public key, JWK or PEM"
    )
    export = actions.add_parser("export", help="copy the whole journal into one SQLite file")
    export.add_argument("target", type=Path, metavar="OUT", help="the new file")
    for action in (tail, verify, export):
        add_service_arguments(action)
        action.add_argument("--state", type=Path, metavar="FOLDER", help="the state folder of a stopped service")


def main(arguments: argparse.Namespace) -> int:
    from agent.journal.errors import AlreadyRunning, JournalError
    from agent.wire import Unreadable
    from sync.signing import SigningError

    actions = {"tail": tail, "verify": verify, "export": export}
    try:
        return actions[arguments.action](arguments)
    except Unreachable as error:
        output.complain(str(error))
        return output.UNAVAILABLE
    except (Refused, AlreadyRunning) as error:
        output.complain(str(error))
        return output.TRY_LATER
    except (JournalError, Unreadable, SigningError) as error:
        output.complain(str(error))
        return output.DATA
    except OSError as error:
        output.complain(f"{error.filename}: {error.strerror}")
        return output.NO_INPUT


def tail(arguments: argparse.Namespace) -> int:
    """For programs the records themselves, one a line, exactly as they are sealed."""
    count = max(1, arguments.count)
    if arguments.state is not None:
        show(stored(arguments.state)[-count:], as_json=arguments.json)
        return output.OK
    api = api_of(arguments)
    head = api.get("/v1/journal", limit=1)["head"]
    after = max(head["first"] - 1, head["last"] - count)
    show([body for _, body in pages(api, after)], as_json=arguments.json)
    after = head["last"]
    while arguments.follow:
        for sequence, body in pages(api, after):
            after = sequence
            output.say(body.decode() if arguments.json else "  ".join(line_of(body)))
        time.sleep(FOLLOW_S)
    return output.OK


def verify(arguments: argparse.Namespace) -> int:
    keys = keys_of(arguments)
    if arguments.file is not None:
        verdict = verdict_on_file(arguments.file, keys)
    elif arguments.state is not None:
        verdict = verdict_on_store(arguments.state, keys)
    else:
        verdict = verdict_on_service(api_of(arguments), keys)
    if arguments.json:
        output.print_json({"ok": verdict.ok, "signatures_judged": keys is not None, **asdict(verdict)})
    else:
        for line in told(verdict, signatures=keys is not None):
            output.say(line)
    return output.OK if verdict.ok else output.DATA


def export(arguments: argparse.Namespace) -> int:
    target = arguments.target.absolute()
    if arguments.state is not None:
        from agent.journal.copies import copy_out, stopped_store

        with stopped_store(arguments.state / "journal") as database:
            copy_out(database, target)
    else:
        api_of(arguments).post("/v1/journal/export", {"path": str(target)})
    if arguments.json:
        output.print_json({"path": str(target)})
    else:
        output.say(f"exported to {target}; check it with: roamkey journal verify --file {target}")
    return output.OK


def verdict_on_file(path: Path, keys: dict[str, str] | None) -> Verdict:
    from agent.journal.copies import contents, exported_file

    with path.open("rb") as file:
        is_database = file.read(16) == b"SQLite format 3\x00"
    if not is_database:
        return verdict_on_lines(path.read_bytes().splitlines(), keys)
    with exported_file(path) as database:
        return verdict_on_contents(contents(database), keys)


def bodies_of(path: Path) -> list[bytes]:
    """The records of an exported journal or of JSON Lines, as they are sealed."""
    from agent.journal.copies import contents, exported_file

    with path.open("rb") as file:
        is_database = file.read(16) == b"SQLite format 3\x00"
    if not is_database:
        return path.read_bytes().splitlines()
    with exported_file(path) as database:
        return contents(database).bodies


def verdict_on_store(state: Path, keys: dict[str, str] | None) -> Verdict:
    from agent.journal.copies import contents, stopped_store

    with stopped_store(state / "journal") as database:
        return verdict_on_contents(contents(database), keys)


def verdict_on_contents(found: Any, keys: dict[str, str] | None) -> Verdict:
    from agent.journal.verification import Anchor, verify

    head = None
    if found.last_hash is not None:
        head = Anchor(sequence=found.base_sequence + len(found.bodies), hash=found.last_hash)
    base = Anchor(sequence=found.base_sequence, hash=found.base_hash)
    return verify(found.bodies, keys=keys, base=base, head=head)


def verdict_on_lines(lines: list[bytes], keys: dict[str, str] | None) -> Verdict:
    """Lines may begin in the middle of a journal: then the first one is believed about where it stands."""
    from agent.journal.verification import START, Anchor, verify
    from agent.wire import Unreadable, open_envelope

    base = START
    try:
        first = open_envelope(lines[0]).sequence if lines else 1
        base = START if first == 1 else Anchor(sequence=first - 1, hash=None)
    except Unreadable:
        pass  # named by the verification
    return verify(lines, keys=keys, base=base)


def verdict_on_service(api: Api, keys: dict[str, str] | None) -> Verdict:
    from agent.journal.verification import START, Anchor, verify

    head = api.get("/v1/journal", limit=1)["head"]
    base = START if head["first"] == 1 else Anchor(sequence=head["first"] - 1, hash=None)
    bodies = [body for _, body in pages(api, base.sequence)]
    return verify(bodies, keys=keys, base=base, head=Anchor(sequence=head["last"], hash=head["hash"]))


def told(verdict: Verdict, *, signatures: bool) -> Iterator[str]:
    first = verdict.last - verdict.records + 1
    yield f"journal {verdict.journal or '?'}: {verdict.records} records, {first} to {verdict.last}"
    if verdict.finding is not None:
        yield f"DAMAGED: record {verdict.finding.at} {verdict.finding.damage}: {verdict.finding.detail}"
        yield f"records before {verdict.finding.at} are whole; proven by signature up to {verdict.signed_through}"
        return
    yield "whole: nothing changed, missing, moved or added"
    if signatures:
        open_end = verdict.last - verdict.signed_through
        yield (
            f"{verdict.checkpoints} checkpoints signed by the device, through record {verdict.signed_through}; "
            f"{open_end} after it chained, not yet covered by a signature"
        )
    else:
        yield f"{verdict.checkpoints} checkpoints, signatures NOT judged: give the device's public key with --key"


def keys_of(arguments: argparse.Namespace) -> dict[str, str] | None:
    """The keys that were named, or the device's own (its stand-in's, too) where its state folder can be read."""
    from sync.signing import thumbprint

    paths: list[Path] = list(arguments.key)
    state = arguments.state
    if state is None and arguments.file is None and arguments.config is not None:
        state = config_of(arguments.config).state_folder
    if not paths and state is not None:
        own = (state / "vault" / "device.jwk", state / "vault" / "stand-in.jwk")
        paths = [each for each in own if each.exists()]
    texts = [path.read_text("ascii") for path in paths]
    return {thumbprint(text): text for text in texts} or None


def stored(state: Path) -> list[bytes]:
    from agent.journal.copies import contents, stopped_store

    with stopped_store(state / "journal") as database:
        return contents(database).bodies


def pages(api: Api, after: int) -> Iterator[tuple[int, bytes]]:
    """Every record after this one, page by page, up to the end as it is now."""
    while records := api.get("/v1/journal", after=after, limit=PAGE_RECORDS)["records"]:
        for record in records:
            after = record["sequence"]
            yield after, record["body"].encode()


def show(bodies: list[bytes], *, as_json: bool) -> None:
    if as_json:
        for body in bodies:
            output.say(body.decode())
    else:
        output.table("journal", ("#", "time", "what", "about", "detail"), [line_of(body) for body in bodies])


def line_of(body: bytes) -> tuple[str, str, str, str, str]:
    from agent.wire import NAMESPACE, Unreadable, open_envelope

    try:
        envelope = open_envelope(body)
    except Unreadable as error:
        return "?", "", "unreadable", "", str(error)
    doubt = "" if envelope.quality == "synchronised" else f" ({envelope.quality})"
    what = envelope.type.removeprefix(NAMESPACE)
    moment = envelope.time.strftime("%Y-%m-%d %H:%M:%S")
    return str(envelope.sequence), moment + doubt, what, (envelope.subject or "")[-12:], detail_of(what, envelope)


def detail_of(what: str, envelope: Envelope) -> str:
    plain = {name: value for name, value in envelope.data.items() if isinstance(value, str | int)}
    shown = [f"{name} {plain[name]}" for name in SHOWN.get(what, tuple(plain)) if name in plain]
    codes = [reason["code"] for reason in envelope.data.get("reasons", ()) if "code" in reason]
    return ", ".join(shown + codes)
