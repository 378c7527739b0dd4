"""Two stores written from the same page, in two languages, are told the same random story and must end the same.

What each says after every step is compared: where they differ, the page is not clear enough.
"""

from __future__ import annotations

import base64
import hashlib
import json
import random
import shutil
import subprocess
from collections import Counter
from contextlib import closing
from pathlib import Path
from typing import Any

import pytest

from sync.backend.records import read_record
from sync.backend.store import Delivery, Store, StreamState
from sync.memory_outbox import MemoryOutbox
from sync.messages import parse_hello

NODE_STORE = Path(__file__).parents[2] / "docs" / "examples" / "node-receiver"
FLEET, DEVICE, JOURNAL = "f1", "gw-1", "journal-1"
RECORDS = 60

pytestmark = pytest.mark.slow

SCRIPT = """
import {{ readFileSync, rmSync }} from 'node:fs';
import {{ Store }} from {store};
import {{ readHello }} from {wire};
for (const [number, story] of JSON.parse(readFileSync(0, 'utf8')).entries()) {{
  const folder = {folder} + number;
  let store = new Store(folder, 'f1');
  const said = story.map((step) => {{
    if (step.restart) store = new Store(folder, 'f1');
    let journal, agreed;
    if (step.hello) {{
      const [hello] = readHello(Buffer.from(JSON.stringify(step.hello)));
      journal = store.greet('gw-1', hello);
      agreed = hello.marks.length > 0 ? journal.newestAgreed(hello.marks) : undefined;
    }} else {{
      [journal] = store.take('gw-1', step.lines.map((line) => Buffer.from(line, 'base64')));
    }}
    if (journal === undefined) return null;
    const {{ through, hash, resend, fork, quarantined, nonce }} = journal.claims({{ hello: false }});
    const aside = Object.keys(quarantined).map(Number).sort((a, b) => a - b);
    return {{ through, hash, resend, fork: fork ?? null, quarantined: aside, nonce, agreed: agreed ?? null }};
  }});
  console.log(JSON.stringify(said));
}}
"""


def a_story(chance: random.Random) -> list[dict[str, Any]]:
    """Batches in any order, twice, with holes, poison, other continuations and hellos of all kinds."""
    outbox, other = (MemoryOutbox(fleet=FLEET, device=DEVICE, journal=JOURNAL) for _ in range(2))
    outbox.seal_many(RECORDS)
    for sequence in range(1, RECORDS + 1):
        other.append(outbox.body(sequence))
    other.rewrite(chance.randint(2, RECORDS))
    poison = {chance.randint(1, RECORDS): b"poison %d" % number for number in range(chance.choice((0, 0, 1, 2)))}
    steps: list[dict[str, Any]] = []
    for _ in range(chance.randint(5, 25)):
        first = chance.randint(1, RECORDS)
        last = min(RECORDS, first + chance.randint(0, 12))
        source = other if chance.random() < 0.08 else outbox
        lines = [poison.get(sequence, source.body(sequence)) for sequence in range(first, last + 1)]
        steps.append({"lines": [base64.b64encode(line).decode() for line in lines]})
        if chance.random() < 0.3:
            steps.append({"hello": a_hello(chance, outbox, other)})
        steps[-1]["restart"] = chance.random() < 0.2
    return steps


def a_hello(chance: random.Random, outbox: MemoryOutbox, other: MemoryOutbox) -> dict[str, Any]:
    def digest(sequence: int, of: MemoryOutbox = outbox) -> str:
        return hashlib.sha256(of.body(sequence)).hexdigest()

    entry: dict[str, Any] = {"journal": JOURNAL, "first": 1, "last": RECORDS, "hash": digest(RECORDS)}
    if chance.random() < 0.3:
        entry["first"] = chance.randint(1, 20)
    if chance.random() < 0.2:
        low = chance.randint(entry["first"], RECORDS)
        entry["lost"] = [[low, min(RECORDS, low + chance.randint(0, 3))]]
    if chance.random() < 0.2:
        withheld = chance.randint(1, RECORDS)
        entry["withheld"] = {str(withheld): {"hash": digest(withheld), "reason": "too large"}}
    if chance.random() < 0.2:
        marks = chance.sample(range(1, RECORDS + 1), 5)
        entry["marks"] = {str(sequence): digest(sequence, chance.choice((outbox, other))) for sequence in marks}
    return {"nonce": f"n{chance.randint(0, 9)}", "journals": [entry]}


def as_claims(state: StreamState | None) -> dict[str, Any] | None:
    if state is None:
        return None
    return {
        "through": state.through,
        "hash": state.hash,
        "resend": [list(ends) for ends in state.missing],
        "fork": state.fork,
        "quarantined": sorted(state.quarantined),
        "nonce": state.nonce,
        "agreed": state.agreed,
    }


def told_to_ours(folder: Path, story: list[dict[str, Any]]) -> list[dict[str, Any] | None]:
    said: list[dict[str, Any] | None] = []
    with closing(Store(folder)) as store:
        for step in story:
            if "hello" in step:
                (hello,) = parse_hello(json.dumps(step["hello"]).encode())
                said.append(as_claims(store.greet(DEVICE, hello)))
            else:
                lines = [
                    read_record(base64.b64decode(line), f"/fleets/{FLEET}/devices/{DEVICE}") for line in step["lines"]
                ]
                states = store.take([Delivery(device=DEVICE, lines=tuple(lines))])
                said.append(as_claims(states[0]) if states else None)
    return said


def test_the_reference_receivers_store_and_the_javascript_one_agree_on_random_stories(tmp_path: Path) -> None:
    node = shutil.which("node")
    assert node is not None, "Debian's nodejs is missing: make needs"
    stories = [a_story(random.Random(seed)) for seed in range(120)]
    (tmp_path / "play.mjs").write_text(
        SCRIPT.format(
            store=json.dumps(str(NODE_STORE / "store.mjs")),
            wire=json.dumps(str(NODE_STORE / "wire.mjs")),
            folder=json.dumps(str(tmp_path / "node-")),
        )
    )
    played = subprocess.run(
        [node, str(tmp_path / "play.mjs")],
        input=json.dumps(stories),
        capture_output=True,
        text=True,
        check=False,
        timeout=60,
    )
    assert played.returncode == 0, played.stderr
    seen: Counter[str] = Counter()
    theirs = [json.loads(line) for line in played.stdout.splitlines()]
    for seed, story in enumerate(stories):
        ours = told_to_ours(tmp_path / f"ours-{seed}.db", story)
        for at, (step, mine, other) in enumerate(zip(story, ours, theirs[seed], strict=True)):
            assert mine == other, f"story {seed}, step {at}: {str(step)[:300]}"
            seen.update(name for name, value in (mine or {}).items() if value)
    # The stories were worth telling: each of these came up often.
    assert all(seen[name] >= 40 for name in ("through", "resend", "fork", "quarantined", "agreed")), seen
