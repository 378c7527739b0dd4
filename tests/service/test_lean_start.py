"""What the service does not load before it can decide: each of these is time at the start and memory for good."""

from __future__ import annotations

import subprocess
import sys

import pytest

NOT_NEEDED_TO_DECIDE = {
    "starlette": "the local API is loaded at the first request (agent/front.py)",
    "uvicorn": "the local API is loaded at the first request (agent/front.py)",
    "tuf": "a bundle is examined when one is offered (agent/cache)",
    "securesystemslib": "a bundle is examined when one is offered (agent/cache)",
    "cryptography.x509": "certificates are looked at after the start (agent/certificate_watch.py)",
    "nfc": "only a reader that speaks through nfcpy loads it (drivers/readers)",
    "joserfc": "small messages are signed by sync/signing.py itself",
    "rich": "tables are for people (agent/cli/output.py)",
    "agent.demo": "the demonstration is a verb of its own",
    "sync.backend": "the backend is another program",
}


@pytest.fixture(scope="module")
def loaded() -> set[str]:
    said = subprocess.run(
        [sys.executable, "-P", "-c", "import sys, agent.main; print(*sys.modules, sep='\\n')"],
        capture_output=True,
        text=True,
        check=True,
    )
    return set(said.stdout.split())


@pytest.mark.parametrize("name", NOT_NEEDED_TO_DECIDE)
def test_what_no_decision_needs_is_not_loaded_at_the_start(name: str, loaded: set[str]) -> None:
    assert name not in loaded, NOT_NEEDED_TO_DECIDE[name]
