"""The foreign stack (PyPI `iso15118`, with Java) as a subprocess in its own environment, to compare ourselves with.

`make interop` builds that environment and demands it; elsewhere a missing one skips and says why.
"""

from __future__ import annotations

import json
import os
import shutil
import subprocess
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest

ROOT = Path(__file__).parents[2]
ENVIRONMENT = Path(os.environ.get("ROAMKEY_ORACLE", ROOT / ".oracle"))
DEMANDED = os.environ.get("ROAMKEY_INTEROP") == "required"


def need(condition: object, what: str) -> None:
    """Loud where interoperability was asked for, a visible reason elsewhere."""
    if condition:
        return
    if DEMANDED:
        pytest.fail(f"interoperability cannot be shown: {what}")
    pytest.skip(what)


def need_oracle() -> Path:
    """The foreign environment's Python."""
    python = ENVIRONMENT / "bin" / "python"
    need(python.exists(), f"no foreign stack at {ENVIRONMENT}: run `make interop`")
    need(shutil.which("java"), "no Java: on Debian, apt-get install openjdk-17-jre-headless")
    return python


class Oracle:
    """One process, one Java machine; questions are answered in turn."""

    def __init__(self, process: subprocess.Popen[str]) -> None:
        self._process = process

    def ask(self, do: str, **values: Any) -> Any:
        assert self._process.stdin is not None
        assert self._process.stdout is not None
        self._process.stdin.write(json.dumps({"do": do, **values}) + "\n")
        self._process.stdin.flush()
        line = self._process.stdout.readline()
        assert line, "the foreign stack has ended"
        answer = json.loads(line)
        assert "error" not in answer, answer
        return answer["answer"]


@contextmanager
def an_oracle(log: Path) -> Iterator[Oracle]:
    python = need_oracle()
    script = Path(__file__).with_name("oracle_codec.py")
    with log.open("w") as errors:
        process = subprocess.Popen(
            [python, script], stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=errors, text=True, cwd=log.parent,
            env={"PATH": os.environ["PATH"], "HOME": str(log.parent)},
        )  # fmt: skip
        try:
            yield Oracle(process)
        finally:
            try:
                process.communicate(timeout=20)
            except subprocess.TimeoutExpired:
                process.kill()
                process.communicate()
