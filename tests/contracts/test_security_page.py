"""Each line of docs/security.md names tests that exist: a mitigation that nothing shows is a wish."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
PAGE = (ROOT / "docs" / "security.md").read_text(encoding="utf-8")
ROWS = [line.split("|")[1:-1] for line in PAGE.splitlines() if line.startswith("| ")][1:]
PROOF = re.compile(r"`(tests/[\w/]+\.py)(?:::(\w+))?`")
THREATS = (
    "Stolen gateway",
    "Cloned card",
    "Rogue broker or DNS",
    "Compromised online key",
    "Replay, rollback, freeze, mix-and-match",
    "Clock set back",
    "Technician with root and a screwdriver",
    "Malicious card or NFC peer",
    "Another device of the fleet",
    "Oversized and poison messages",
    "Flaky mobile network",
    "Power cut",
    "Full disk",
    "Lying or worn flash",
    "Hang, out of memory",
    "Relayed Plug & Charge",
)


def test_every_threat_has_its_line() -> None:
    assert tuple(row[0].strip() for row in ROWS) == THREATS


@pytest.mark.parametrize("row", ROWS, ids=[row[0].strip() for row in ROWS])
def test_every_line_names_tests_that_exist(row: list[str]) -> None:
    assert len(row) == 4, "a threat, what could happen, what stands against it, shown by"
    assert all(cell.strip() for cell in row)
    proofs = PROOF.findall(row[3])
    assert proofs
    assert PROOF.sub("", row[3]).strip() == "", "nothing but names of tests"
    for file, name in proofs:
        assert (ROOT / file).is_file(), file
        if name:
            assert re.search(rf"def {name}\(", (ROOT / file).read_text(encoding="utf-8")), f"{file} has no {name}"


def test_the_policy_for_reports_points_to_it() -> None:
    assert "(docs/security.md)" in (ROOT / "SECURITY.md").read_text(encoding="utf-8")
