"""Fixtures of the end-to-end tests; what they are made of is in premises.py."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import ExitStack
from pathlib import Path
from typing import Any

import pytest

from tests.end_to_end.premises import FleetOffice, Premises, built_premises, found_office


@pytest.fixture(scope="session")
def office(tmp_path_factory: pytest.TempPathFactory) -> FleetOffice:
    """Founded once: its keys take a second to make. Each test works on a copy."""
    return found_office(tmp_path_factory.mktemp("office"))


@pytest.fixture
def build(tmp_path: Path, office: FleetOffice) -> Iterator[Callable[..., Premises]]:
    with ExitStack() as stack:
        yield lambda **changes: stack.enter_context(built_premises(tmp_path / "van", office, **changes))


@pytest.fixture
def here(build: Callable[..., Premises]) -> Premises:
    """A gateway with its policy in a folder and no broker, not started yet."""
    return build()


@pytest.fixture
def online(build: Callable[..., Any]) -> Premises:
    """A gateway with broker and receiver, not started yet."""
    return build(broker=True)
