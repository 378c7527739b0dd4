"""Fixtures of the evidence tests; what they are made of is in charging_case.py."""

from __future__ import annotations

import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from agent.evidence.document import Evidence, to_bytes
from tests.evidence.charging_case import Case


@pytest.fixture
def tmp_path() -> Iterator[Path]:
    """In memory where there is such a place: these tests are about content."""
    with in_memory() as folder:
        yield folder


@contextmanager
def in_memory() -> Iterator[Path]:
    memory = Path("/dev/shm")
    with tempfile.TemporaryDirectory(prefix="roamkey-", dir=memory if memory.is_dir() else None) as made:
        yield Path(made)


@pytest.fixture(scope="module")
def charged() -> Iterator[Case]:
    """Two sessions one after the other."""
    with in_memory() as folder:
        case = Case(folder)
        case.charges("s-1")
        case.charges("s-2", minute=90)
        yield case
        case.close()


@pytest.fixture
def case(tmp_path: Path) -> Iterator[Case]:
    made = Case(tmp_path)
    yield made
    made.close()


@pytest.fixture(scope="module")
def evidence(charged: Case) -> Evidence:
    return charged.evidence()


@pytest.fixture(scope="module")
def file(evidence: Evidence) -> bytes:
    return to_bytes(evidence)
