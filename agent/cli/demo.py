"""`roamkey demo`: a short day of a fleet, on real parts in a folder of its own; ends with what was lost (nothing)."""

from __future__ import annotations

import argparse
import asyncio
import json
import tempfile
from pathlib import Path
from typing import TYPE_CHECKING

from agent.cli import output

if TYPE_CHECKING:
    from agent.demo.show import Show
    from agent.demo.verdict import Verdict
    from sync.loopback_broker import Engine

HELP = "play a short day of a fleet on this machine, with no hardware"

BRISK_S = 25  # how long the story takes at pace 1
SHORTEST_S, LONGEST_S = 15, 60
BROKERS = ("installed", "mosquitto", "amqtt")


def add_arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument(
        "--duration", type=int, default=BRISK_S, help=f"about how many seconds, {SHORTEST_S} to {LONGEST_S}"
    )
    parser.add_argument(
        "--broker", choices=BROKERS, default=BROKERS[0], help="which broker to run (default: mosquitto, else amqtt)"
    )
    parser.add_argument("--keep", type=Path, metavar="FOLDER", help="use this new folder, and keep it to look around")
    parser.add_argument("--json", action="store_true", help="play silently and print one JSON object at the end")


def main(arguments: argparse.Namespace) -> int:
    if not SHORTEST_S <= arguments.duration <= LONGEST_S:
        output.complain(f"--duration {arguments.duration}: give {SHORTEST_S} to {LONGEST_S} seconds")
        return output.USAGE
    if arguments.keep is not None:
        try:
            arguments.keep.mkdir(parents=True)
        except OSError as error:
            output.complain(f"--keep {arguments.keep}: {error.strerror}; name a folder that does not exist yet")
            return output.CANNOT_CREATE
        return play(arguments.keep.absolute(), arguments)
    with tempfile.TemporaryDirectory(prefix="roamkey-demo-") as folder:
        return play(Path(folder), arguments)


def play(root: Path, arguments: argparse.Namespace) -> int:
    from agent.demo.fleet import StageError
    from agent.demo.show import Live, Silent
    from agent.demo.verdict import as_json
    from agent.logs import set_up_logging
    from sync.loopback_broker import Engine, NoBroker

    set_up_logging("error")
    show: Show = Silent() if arguments.json else Live()
    engine = Engine(arguments.broker) if arguments.broker != BROKERS[0] else None
    try:
        verdict = asyncio.run(perform(root, show, pace=arguments.duration / BRISK_S, engine=engine))
    except NoBroker as error:
        output.complain(str(error))
        return output.UNAVAILABLE
    except StageError as error:
        output.complain(f"the demonstration stopped: {error}")
        return output.FAILURE
    show.curtain(verdict)
    if arguments.json:
        output.print_json(as_json(verdict))
    return output.OK if verdict.good else output.FAILURE


async def perform(root: Path, show: Show, *, pace: float, engine: Engine | None) -> Verdict:
    from agent.demo.fleet import DEVICE, FLEET
    from agent.demo.stage import built_stage
    from agent.demo.story import Story
    from agent.demo.verdict import judge

    async with built_stage(root, show.record, engine) as stage:
        story = Story(stage, show.narrate, pace)
        await story.play()
        await stage.close_down()
        public = json.loads((root / "state" / "vault" / "device.jwk").read_text(encoding="utf-8"))
        return judge(
            state=root / "state",
            database=stage.database,
            fleet=FLEET,
            device=DEVICE,
            keys={public["kid"]: json.dumps(public)},
            done=story.done,
        )
