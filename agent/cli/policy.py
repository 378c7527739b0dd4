"""`roamkey policy`: write a fleet's policy: check it, see what binds a card, try a question, replay the past, import.

All of these look at a folder of files as `roamkey fleet publish` takes it, and need no fleet's keys unless they say so.
"""

from __future__ import annotations

import argparse
from collections.abc import Callable
from dataclasses import asdict
from datetime import UTC, datetime
from pathlib import Path
from typing import TYPE_CHECKING, Any

from agent.cli import output

if TYPE_CHECKING:
    from agent.cache.contents import Contents
    from agent.core.decisions import Decision
    from agent.fleet.effective import Origin
    from agent.fleet.source import Source
    from agent.fleet.trial import Trial

MOST_PASSED_OVER = 20

HELP = "check a fleet's policy files, explain and replay decisions by them, import cards and sites"


def add_arguments(parser: argparse.ArgumentParser) -> None:
    actions = parser.add_subparsers(dest="action", required=True, metavar="ACTION")

    def action(name: str, told: str) -> argparse.ArgumentParser:
        made = actions.add_parser(name, help=told, description=told)
        if name == "import":
            made.add_argument("folder", type=Path, metavar="FOLDER", help="policy folder")
        elif name != "schema":
            made.add_argument(
                "folder",
                type=Path,
                metavar="FOLDER",
                nargs="?",
                default=Path(),
                help="policy folder (default: this one)",
            )
        made.add_argument("--json", action="store_true", help="print JSON for programs")
        return made

    check = action("check", "look the files over: what is wrong, what can never match, what has no effect")
    check.add_argument("--strict", action="store_true", help="end with an error also when there are only warnings")
    check.add_argument("--now", type=_moment, metavar="TIME", help="judge calendars and expiries at this time")

    show = action("show", "what binds a card after inheritance, and which file and line each limit is from")
    whom = show.add_mutually_exclusive_group(required=True)
    whom.add_argument("--for", dest="card", metavar="TOKEN", help="a card's label or number")
    whom.add_argument("--group", metavar="NAME", help="a group")

    explain = action(
        "explain", "decide a made-up question: every rule, what it saw, its limit, what the driver is told"
    )
    explain.add_argument("--request", type=Path, required=True, metavar="FILE", help="the question: TOML, YAML or JSON")

    replay = action("replay", "which past decisions this policy would have changed")
    replay.add_argument(
        "--against", type=Path, required=True, metavar="JOURNAL", help="an exported journal, or JSON Lines of records"
    )
    replay.add_argument(
        "--token-key",
        type=Path,
        required=True,
        metavar="FILE",
        help="the fleet's keys/token.key: cards are known by it",
    )
    replay.add_argument("--all", action="store_true", help="show also the decisions that stay as they were")

    brought = action(
        "import", "bring cards, drivers, vehicles or sites from CSV or OCPI JSON: all of a file, or nothing"
    )
    brought.add_argument("file", type=Path, metavar="FILE", help="CSV with a first line of columns, or OCPI JSON")
    brought.add_argument(
        "--as", dest="what", required=True, choices=("tokens", "drivers", "vehicles", "sites"), help="what is in it"
    )
    brought.add_argument("--group", metavar="NAME", help="the group of new cards that name none")
    brought.add_argument("--dry-run", action="store_true", help="judge and count; write nothing")

    schema = action("schema", "print the JSON Schema of a file, for an editor")
    schema.add_argument(
        "file", choices=("policy", "drivers", "vehicles", "tokens", "sites", "question"), help="of which file"
    )


def main(arguments: argparse.Namespace) -> int:
    from agent.fleet.effective import NoSuchCard
    from agent.fleet.source import SourceMissing, SourceUnfit

    do: dict[str, Callable[[argparse.Namespace], int]] = {
        "check": check,
        "show": show,
        "explain": explain,
        "replay": replay,
        "import": bring,
        "schema": schema,
    }
    try:
        return do[arguments.action](arguments)
    except SourceUnfit as error:
        for problem in error.problems:
            output.complain(problem)
        output.complain(f"nothing can be said before {len(error.problems)} are mended: roamkey policy check")
        return output.DATA
    except NoSuchCard as error:
        output.complain(str(error))
        return output.DATA
    except SourceMissing as error:
        output.complain(str(error))
        return output.NO_INPUT
    except OSError as error:
        output.complain(f"{error.filename}: {error.strerror}")
        return output.NO_INPUT


def check(arguments: argparse.Namespace) -> int:
    from agent.core.findings import Severity
    from agent.fleet.policy_lint import review
    from agent.fleet.remarks import in_order

    now = arguments.now or datetime.now(UTC)
    source = _read(arguments.folder, now)
    remarks = in_order([*source.remarks, *review(source, now=now)])
    errors = sum(each.severity is Severity.ERROR for each in remarks)
    warnings = sum(each.severity is Severity.WARNING for each in remarks)
    ok = not errors and not (warnings and arguments.strict)
    if arguments.json:
        told = [asdict(each) for each in remarks]
        output.print_json({"ok": ok, "errors": errors, "warnings": warnings, "findings": told})
        return output.OK if ok else output.DATA
    for each in remarks:
        output.say(f"{each.severity.upper():7} {each.code:18} {each}")
    counted = f"{len(source.tokens)} cards and contracts" if source.contents else "nothing can be published like this"
    output.say(f"{errors} errors, {warnings} warnings, {len(remarks) - errors - warnings} notes; {counted}")
    return output.OK if ok else output.DATA


def show(arguments: argparse.Namespace) -> int:
    from agent.fleet.effective import NoSuchCard, find_card, of_card, of_group

    source, contents = _sound(arguments.folder)
    if arguments.group is None:
        token = find_card(source, arguments.card)
        title, bindings = f"{token.label}, group {token.group}", of_card(source, contents, token)
    elif arguments.group in contents.groups:
        title, bindings = f"group {arguments.group}", of_group(source, contents, arguments.group)
    else:
        raise NoSuchCard(f"no group is named {arguments.group!r}; there are {', '.join(sorted(contents.groups)[:20])}")
    if arguments.json:
        output.print_json({"for": title, "limits": [asdict(each) for each in bindings]})
        return output.OK
    rows = []
    for each in bindings:
        origins = ", ".join(_origin(origin) for origin in each.origins)
        over = "; ".join(f"{origin.value} of {_origin(origin)}" for origin in each.outweighed)
        rows.append((each.limit, each.value, origins, over))
    output.table(title, ("limit", "what holds", "from", "outweighs"), rows)
    return output.OK


def explain(arguments: argparse.Namespace) -> int:
    from agent.fleet.trial import QuestionUnfit, ask, read_question

    source, contents = _sound(arguments.folder)
    try:
        asking = read_question(arguments.request)
    except QuestionUnfit as error:
        raise output.Hopeless(output.DATA, *error.lines) from error
    trial = ask(source, contents, asking, now=datetime.now(UTC))
    told = _trial(trial)
    if arguments.json:
        output.print_json(told)
        return output.OK
    output.say(f"{told['outcome'].upper()} at {told['time']} (nothing was recorded or started)")
    for reason in told["reasons"]:
        output.say(f"  - {_reason(reason)}")
    for reason in told["warnings"]:
        output.say(f"  ! {_reason(reason)}")
    for name, value in told["limits"].items():
        output.say(f"  limit {name}: {value}")
    if trial.without_answer is not None:
        without = _verdict(trial.without_answer)
        output.say(
            f"  without an answer: {without['outcome']} {', '.join(each['code'] for each in without['reasons'])}"
        )
    if contents.budgets:
        output.say("  budgets were not asked: which leases there are, a device knows")
    output.say(f"  the driver is told: {told['text']!r}")
    output.say("  peers: " + ", ".join(f"{name} {value or '2004'}" for name, value in told["peers"].items()))
    rows: list[tuple[str, ...]] = []
    for rule in told["rules"]:
        rows += [(rule["rule"], each["follows"], *_cells(each)) for each in rule["objections"]]
        rows += [] if rule["objections"] else [(rule["rule"], "satisfied", "", "", "")]
    output.table("every rule", ("rule", "what follows", "observed", "limit", "group"), rows)
    return output.OK


def replay(arguments: argparse.Namespace) -> int:
    from agent.cli.journal import bodies_of
    from agent.fleet.replay import Gap
    from agent.fleet.replay import replay as replayed
    from agent.fleet.source import SourceUnfit, read_folder
    from agent.journal.errors import JournalError

    try:
        key = bytes.fromhex(arguments.token_key.read_text(encoding="ascii"))
        bodies = bodies_of(arguments.against)
    except (ValueError, JournalError) as error:
        raise output.Hopeless(output.DATA, f"{error}") from error
    now = datetime.now(UTC)
    source = read_folder(arguments.folder, issued=now, token_key=key, hash_pins=False, progress=output.progress)
    if source.contents is None:
        raise SourceUnfit(source.remarks)
    report = replayed(bodies, source.contents, source.tokens)
    shown = [each for each in report.replayed if arguments.all or each.is_changed or each.has_other_reasons]
    if arguments.json:
        output.print_json(
            {
                "decisions": len(report.replayed),
                "changed": sum(each.is_changed for each in report.replayed),
                "other_reasons": sum(each.has_other_reasons for each in report.replayed),
                "unreadable": report.unreadable,
                "changes": [
                    {"before": before, "after": after, "count": count}
                    for (before, after), count in sorted(report.changes.items())
                ],
                "assumed": [{"gap": gap.name, "text": gap.value, "count": report.gaps.get(gap, 0)} for gap in Gap],
                "replayed": [asdict(each) | {"gaps": [gap.name for gap in each.gaps]} for each in shown],
            }
        )
        return output.OK
    counts = [(before, after, count) for (before, after), count in sorted(report.changes.items())]
    output.table(f"{len(report.replayed)} decisions", ("then", "with this policy", "how many"), counts)
    if shown:
        output.table(
            "one by one",
            ("record", "when", "card", "then", "with this policy", "why", "assumed"),
            [
                (
                    each.sequence,
                    f"{each.time:%Y-%m-%d %H:%M}",
                    each.card,
                    each.before,
                    each.after,
                    "; ".join(_reason(asdict(reason)) for reason in each.reasons),
                    ", ".join(gap.name for gap in each.gaps),
                )
                for each in shown
            ],
        )
    for gap, count in report.gaps.items():
        output.say(f"{gap.name} ({count}): {gap.value}")
    if report.unreadable:
        output.say(f"{report.unreadable} records cannot be read: roamkey journal verify says which")
    return output.OK


def bring(arguments: argparse.Namespace) -> int:
    from agent.fleet.imports import What, import_file

    done = import_file(
        arguments.folder,
        arguments.file,
        what=What(arguments.what),
        now=datetime.now(UTC),
        group=arguments.group,
        dry_run=arguments.dry_run,
        progress=output.progress,
    )
    ok = not done.remarks
    counted = {name: getattr(done, name) for name in ("read", "added", "changed", "unchanged")}
    if arguments.json:
        output.print_json(
            {
                "ok": ok,
                **counted,
                "written": str(done.target) if ok and not arguments.dry_run else None,
                "passed_over": done.passed_over,
                "findings": [asdict(each) for each in done.remarks],
            }
        )
        return output.OK if ok else output.DATA
    for each in done.remarks:
        output.complain(str(each))
    if not ok:
        output.complain(f"nothing is imported: {len(done.remarks)} to mend")
        return output.DATA
    for told in done.passed_over[:MOST_PASSED_OVER]:
        output.say(f"passed over: {told}")
    if len(done.passed_over) > MOST_PASSED_OVER:
        output.say(f"passed over: {len(done.passed_over) - MOST_PASSED_OVER} more (--json names all)")
    told = "good, and not written" if arguments.dry_run else f"written to {done.target}"
    output.say(f"{done.added} new, {done.changed} changed, {done.unchanged} as they were, of {done.read}; {told}")
    return output.OK


def schema(arguments: argparse.Namespace) -> int:
    from agent.fleet.schemas import schemas

    output.print_json(schemas()[arguments.file])
    return output.OK


def _sound(folder: Path) -> tuple[Source, Contents]:
    from agent.fleet.source import SourceUnfit

    source = _read(folder, datetime.now(UTC))
    if source.contents is None:
        raise SourceUnfit(source.remarks)
    return source, source.contents


def _trial(trial: Trial) -> dict[str, Any]:
    statuses = trial.statuses
    return {
        **_verdict(trial.decision),
        "time": f"{trial.now.utc:%Y-%m-%dT%H:%M:%SZ}",
        "text": trial.text,
        "place": _plain(trial.request.place),
        "peers": {
            "OCPI": statuses.ocpi,
            "OCPP 1.6": statuses.ocpp16,
            "OCPP 2.0.1": statuses.ocpp201,
            "OICP": statuses.oicp,
        },
        "without_answer": None if trial.without_answer is None else _verdict(trial.without_answer),
        "rules": [
            {
                "rule": each.rule,
                "objections": [{"follows": follows, **_plain(reason)} for follows, reason in each.objections],
            }
            for each in trial.rules
        ],
    }


def _verdict(decision: Decision) -> dict[str, Any]:
    from agent.core.decisions import Granted

    names = {"Granted": "granted", "Refused": "refused", "NeedsInput": "needs_input", "AskBackend": "asks_backend"}
    return {
        "outcome": names[type(decision).__name__],
        "reasons": [] if isinstance(decision, Granted) else [_plain(each) for each in decision.reasons],
        "warnings": [_plain(each) for each in decision.warnings],
        "limits": _plain(decision.limits) if isinstance(decision, Granted) else {},
    }


def _plain(value: Any) -> dict[str, Any]:
    return {name: each for name, each in asdict(value).items() if each is not None}


def _reason(reason: dict[str, Any]) -> str:
    observed = reason.get("observed") or ("missing" if reason.get("missing") else "")
    against = f"{observed} against {reason['limit']}" if reason.get("limit") else observed
    level = f" (group {reason['group']})" if reason.get("group") else ""
    return f"{reason['code']}: {against}{level}, rule {reason['rule']}"


def _cells(reason: dict[str, Any]) -> tuple[str, str, str]:
    observed = reason.get("observed") or ("missing" if reason.get("missing") else "")
    return observed, reason.get("limit", ""), reason.get("group") or ""


def _origin(origin: Origin) -> str:
    where = f"{origin.file}:{origin.line}" if origin.line else origin.file
    return f"{origin.group} ({where})" if origin.group and where else origin.group or where


def _read(folder: Path, now: datetime) -> Source:
    from agent.fleet.source import read_folder

    return read_folder(folder, issued=now, hash_pins=False, progress=output.progress)


def _moment(text: str) -> datetime:
    moment = datetime.fromisoformat(text)
    return moment if moment.tzinfo is not None else moment.replace(tzinfo=UTC)
