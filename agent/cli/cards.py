"""`roamkey cards`: the back office's desk. Reads cards, gives them keys, lets them prove them; writes when told to."""

from __future__ import annotations

import argparse
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING

from agent.cli import output

if TYPE_CHECKING:
    from agent.card_keys import CardKeyBox
    from agent.card_office import Office
    from drivers.cards.proof import OpenLink
    from drivers.readers.reader import Card
    from firmware_profiles.profile import Profile

HELP = "enrol cards, give them keys and check them, at a reader in the back office"


def add_arguments(parser: argparse.ArgumentParser) -> None:
    actions = parser.add_subparsers(dest="action", required=True, metavar="ACTION")

    def action(name: str, told: str) -> argparse.ArgumentParser:
        made = actions.add_parser(name, help=told, description=told)
        made.add_argument("--profile", default="readers/pn532_hsu", help="the reader (default readers/pn532_hsu)")
        made.add_argument("--port", required=True, help="where it is, for example /dev/serial/by-id/...")
        made.add_argument("--wait", type=float, default=30.0, metavar="S", help="how long to wait for a card (30 s)")
        made.add_argument("--json", action="store_true", help="print JSON for programs")
        return made

    enrol = action("enrol", "add the next card to the fleet's tokens.csv")
    enrol.add_argument("--tokens", type=Path, required=True, metavar="CSV", help="the policy folder's tokens.csv")
    enrol.add_argument("--label", required=True, help="what it is called in records")
    enrol.add_argument("--group", required=True, help="the policy's group")
    for name in ("driver", "vehicle"):
        enrol.add_argument(f"--{name}", help=f"its {name}'s name in the policy")
    enrol.add_argument("--write", action="store_true", help="do it; without this it is only looked at")
    _add_box(enrol, required=False)

    give = action("provision", "give the next card keys of its own, and write them into the vehicles' box of card keys")
    give.add_argument("--write", action="store_true", help="do it; without this it is only looked at")
    _add_office(give)
    _add_box(give, required=True)

    tag = action("tag", "take the next NTAG 424 that shows a message (SUN) into the vehicles' box of card keys")
    tag.add_argument("--meta", type=Path, required=True, metavar="FILE", help="its SDMMetaRead key, 32 hex digits")
    tag.add_argument("--file-key", type=Path, required=True, metavar="FILE", help="its SDMFileRead key, 32 hex digits")
    tag.add_argument("--write", action="store_true", help="do it; without this it is only looked at")
    _add_box(tag, required=True)

    check = action("check", "let the next card prove the key that it should have; changes nothing")
    _add_office(check)


def _add_office(parser: argparse.ArgumentParser) -> None:
    master = parser.add_mutually_exclusive_group(required=True)
    master.add_argument("--master", type=Path, metavar="FILE", help="the fleet's master key, 32 hexadecimal digits")
    master.add_argument("--hsm", type=Path, metavar="MODULE", help="PKCS#11 module of the HSM that has it")
    parser.add_argument("--hsm-token", metavar="LABEL", help="with --hsm: the token")
    parser.add_argument("--hsm-pin", type=Path, metavar="FILE", help="with --hsm: a file with its PIN")
    parser.add_argument("--hsm-key", metavar="LABEL", default="roamkey-cards", help="with --hsm: the AES key in it")
    parser.add_argument("--application", default="F51234", metavar="HEX", help="DESFire application (default F51234)")
    parser.add_argument("--mark", default="", help="the fleet's mark in every key, at most 16 bytes")
    parser.add_argument(
        "--diversification",
        choices=("an10922", "plain-cmac"),
        default="an10922",
        help="how keys are made; plain-cmac for cards of programs that say AN10922 and compute CMAC(01 | M)",
    )


def _add_box(parser: argparse.ArgumentParser, *, required: bool) -> None:
    parser.add_argument("--fleet", type=Path, required=required, metavar="FOLDER", help="the fleet's folder")
    parser.add_argument("--keys", type=Path, required=required, metavar="FILE", help="the vehicles' box of card keys")
    parser.add_argument("--seal", type=Path, required=required, metavar="FILE", help="its seal, 64 hexadecimal digits")


def main(arguments: argparse.Namespace) -> int:
    from agent.card_office import OfficeError
    from agent.contracts.key_store import KeyStoreError
    from agent.vault import VaultError
    from drivers.cards.apdu import CardError
    from firmware_profiles import load
    from firmware_profiles.profile import ProfileError
    from sync.backend.publisher import PublisherError

    do: Callable[[argparse.Namespace, Profile], int] = {
        "enrol": _enrol,
        "provision": _provision,
        "tag": _tag,
        "check": _check,
    }[arguments.action]
    try:
        return do(arguments, load(arguments.profile))
    except CardError as error:
        _tell(arguments, {"done": False, "problem": str(error)}, f"No: {error}.")
        return output.FAILURE
    except OfficeError as error:
        raise output.Hopeless(output.UNAVAILABLE, str(error)) from error
    except (VaultError, PublisherError, ProfileError, KeyStoreError, ValueError) as error:
        raise output.Hopeless(output.NO_INPUT, str(error)) from error


def _enrol(arguments: argparse.Namespace, profile: Profile) -> int:
    from agent import card_office

    box = None if arguments.keys is None else _box(arguments, make=False)

    def act(card: Card, open_link: OpenLink) -> Card:
        return card_office.named(card, open_link, box or card_office.NOBODY)

    card = card_office.next_card(profile, arguments.port, act, within_s=arguments.wait)
    cells = {"label": arguments.label, "group": arguments.group}
    cells |= {name: getattr(arguments, name) for name in ("driver", "vehicle") if getattr(arguments, name)}
    new = card_office.enrol(arguments.tokens, card, cells, write=arguments.write)
    done = new and arguments.write
    told = {
        "card": str(card),
        "technology": card.technology.value,
        "assurance": card.assurance.value,
        "new": new,
        "written": done,
    }
    said = "is in the file already" if not new else "is added" if done else "would be added (--write does it)"
    _tell(arguments, told, f"{card}  {card.technology.value}, {card.assurance.value}: {said}.")
    return output.OK if new else output.FAILURE


def _provision(arguments: argparse.Namespace, profile: Profile) -> int:
    from agent import card_office

    office = _office(arguments)
    box = _box(arguments, make=arguments.write)
    work = card_office.give if arguments.write else card_office.to_give
    given = card_office.next_card(
        profile, arguments.port, lambda card, open_link: work(card, open_link(), office), within_s=arguments.wait
    )
    if arguments.write and box is not None:
        box.introduce(given.keys.introduction)
        box.add(given.kind.uid or given.card.uid, given.keys.own)
    told = {
        "card": str(given.card),
        "kind": given.kind.scheme.value,
        "steps": [step.value for step in given.steps],
        "written": arguments.write,
    }
    will = "Done" if arguments.write else "To be done (--write does it)"
    lines = [f"{given.card}  {given.kind.scheme.value}", *(f"  {will}: {step.value}" for step in given.steps)]
    if not given.steps:
        lines.append("  It has its keys; nothing on the card was changed.")
    if arguments.write:
        lines.append(
            f"  It proves its own key; {arguments.keys} has {len(box or ())} cards. Take the file to vehicles."
        )
    _tell(arguments, told, "\n".join(lines))
    return output.OK


def _tag(arguments: argparse.Namespace, profile: Profile) -> int:
    from agent import card_office
    from drivers.readers.reader import card_14443a

    meta, file = card_office.read_key(arguments.meta), card_office.read_key(arguments.file_key)
    box = _box(arguments, make=arguments.write)
    introduction, own, uid = card_office.next_card(
        profile,
        arguments.port,
        lambda card, open_link: card_office.shown_by(open_link(), meta=meta, file=file),
        within_s=arguments.wait,
    )
    if arguments.write and box is not None:
        box.introduce(introduction)
        box.add(uid, own)
    card = card_14443a(uid)
    done = "is in the box" if arguments.write else "would be put into the box (--write does it)"
    _tell(arguments, {"card": str(card), "written": arguments.write}, f"{card}  shows a message that holds; {done}.")
    return output.OK


def _check(arguments: argparse.Namespace, profile: Profile) -> int:
    from agent import card_office

    office = _office(arguments)
    card = card_office.next_card(
        profile,
        arguments.port,
        lambda card, open_link: card_office.proven(card, open_link(), office),
        within_s=arguments.wait,
    )
    _tell(arguments, {"done": True, "card": str(card), "assurance": card.assurance.value}, f"{card}  is genuine.")
    return output.OK


def _office(arguments: argparse.Namespace) -> Office:
    from agent import card_office
    from drivers.cards.diversification import Algorithm

    if arguments.master is not None:
        encrypt = card_office.read_master_key(arguments.master)
    else:
        from agent.contracts.pkcs11_keys import block_cipher

        if arguments.hsm_token is None or arguments.hsm_pin is None:
            raise output.Hopeless(output.USAGE, "--hsm needs --hsm-token and --hsm-pin")
        pin = arguments.hsm_pin.read_text(encoding="utf-8").strip()
        encrypt = block_cipher(arguments.hsm, token=arguments.hsm_token, pin=pin, label=arguments.hsm_key)
    return card_office.Office(
        encrypt=encrypt,
        application=card_office.read_application(arguments.application),
        mark=card_office.read_mark(arguments.mark),
        algorithm=Algorithm(arguments.diversification),
    )


def _box(arguments: argparse.Namespace, *, make: bool) -> CardKeyBox | None:
    from agent.card_keys import CardKeyBox, read_seal
    from agent.fleet.folder import FleetFolder

    if arguments.seal is None or arguments.fleet is None:
        raise output.Hopeless(output.USAGE, "--keys needs --seal and --fleet")
    seal, token_key = read_seal(arguments.seal), FleetFolder(arguments.fleet).token_key
    if not make and not arguments.keys.exists():
        return None
    return CardKeyBox.create(arguments.keys, seal=seal, token_key=token_key)


def _tell(arguments: argparse.Namespace, told: dict[str, object], text: str) -> None:
    if arguments.json:
        output.print_json(told)
    else:
        output.say(text)
