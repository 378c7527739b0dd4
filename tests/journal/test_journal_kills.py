"""SIGKILL at any moment: what was acknowledged to the caller is there, whole and chained (P1)."""

from __future__ import annotations

import random
import subprocess
import sys
import time
from pathlib import Path

import pytest

from agent.journal import Journal
from agent.journal.verification import Anchor, verify
from agent.wire import open_envelope
from tests.journal.samples import bodies_of, open_journal

ROUNDS = 20


def test_a_writer_that_is_killed_at_any_moment_loses_nothing_it_called_durable(tmp_path: Path) -> None:
    killed_rounds(tmp_path, rounds=2)


@pytest.mark.slow
def test_twenty_kills_lose_nothing(tmp_path: Path) -> None:
    killed_rounds(tmp_path, rounds=ROUNDS)


def killed_rounds(folder: Path, *, rounds: int) -> None:
    """One journal through all the kills: every start goes on where the last one was shot."""
    dice = random.Random(4711)
    identity = ""
    for seed in range(rounds):
        appended, acknowledged = told_before_death(folder, seed, dice.uniform(0.0, 0.25))
        with open_journal(folder) as journal:
            head = journal.head()
            assert head.last >= appended, f"round {seed}: {appended} was durable, {head.last} is there"
            assert head.acknowledged >= acknowledged
            base = Anchor(sequence=journal.base()[0], hash=journal.base()[1])
            assert verify(bodies_of(journal), keys=None, base=base).ok
            open_ones_are_right(journal)
            identity = identity or head.journal
            assert head.journal == identity, "a kill is no damage"
    assert not list(folder.glob("journal.db.*-[0-9]*"))


def told_before_death(folder: Path, seed: int, after_s: float) -> tuple[int, int]:
    """Kill the writer that long after its first word; the last sequences that it told."""
    command = [sys.executable, "-m", "tests.journal.endless_writer", str(folder), str(seed)]
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True) as writer:
        assert writer.stdout is not None
        words = [writer.stdout.readline()]
        time.sleep(after_s)
        writer.kill()
        words += writer.stdout.readlines()
    told = [line.split() for line in words if line.endswith("\n")]
    assert told, "the writer died before it wrote anything"
    return (
        max((int(number) for word, number in told if word == "appended"), default=0),
        max((int(number) for word, number in told if word == "acknowledged"), default=0),
    )


def open_ones_are_right(journal: Journal) -> None:
    """The table of open sessions agrees with the records themselves."""
    ends, begun = set(), set()
    for body in bodies_of(journal):
        envelope = open_envelope(body)
        if envelope.type.endswith("session.authorised"):
            begun.add(envelope.subject)
        if envelope.type.endswith("session.ended"):
            ends.add(envelope.subject)
    assert {facts[0].session for facts in journal.open_sessions()} == begun - ends
