"""Write the golden sample of every record type. Run only for a new type: what is written is never rewritten.

.venv/bin/python -m tests.journal.write_golden
"""

from __future__ import annotations

from pathlib import Path

from agent.core.facts import Fact
from agent.wire import GENESIS, NAMESPACE, TYPES, seal
from tests.journal.samples import GOLDEN_INSTANT, JOURNAL, SAMPLES, SOURCE

FOLDER = Path(__file__).parent.parent / "golden" / "records"


def golden_file(fact: Fact) -> Path:
    return FOLDER / f"{TYPES[type(fact)].removeprefix(NAMESPACE)}.json"


def golden_bytes(fact: Fact) -> bytes:
    return seal(fact, sequence=17, previous=GENESIS, journal=JOURNAL, source=SOURCE, now=GOLDEN_INSTANT)


def main() -> None:
    FOLDER.mkdir(parents=True, exist_ok=True)
    for fact in SAMPLES:
        golden_file(fact).write_bytes(golden_bytes(fact) + b"\n")


if __name__ == "__main__":
    main()
