"""The benchmarks work and say what they must. How quick anything is, is never judged here."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

import pytest

from tests.benchmarks import runner
from tests.benchmarks.measurement import Bench, Pairs, Row
from tests.benchmarks.subjects import contracts

FIELDS = {"name", "value", "unit", "peer", "peer_value", "ratio", "runs", "note"}


@pytest.mark.slow
@pytest.mark.timeout(300)
@pytest.mark.parametrize("name", sorted(runner.benchmarks()))
def test_a_short_run_writes_rows_of_the_promised_shape(name: str, tmp_path: Path) -> None:
    out = tmp_path / "bench.json"

    # A process of its own, as `make bench` is one: a token's module, once loaded, stays with a process for good.
    runs = [sys.executable, "-m", "tests.benchmarks.runner", "--quick", "--only", name, "--out", str(out)]
    subprocess.run(runs, cwd=Path(__file__).parents[2], check=True)

    rows = json.loads(out.read_text())
    assert rows
    for row in rows:
        assert set(row) == FIELDS
        assert isinstance(row["name"], str)
        assert isinstance(row["value"], int | float) or row["note"].startswith("NOT RUN: ")
        assert isinstance(row["runs"], int)
        assert row["unit"]
        assert (row["peer"] is None) == (row["peer_value"] is None)


def test_an_unknown_benchmark_is_refused_with_the_known_ones(capsys: pytest.CaptureFixture[str]) -> None:
    assert runner.main(["--only", "speed"]) == 64

    told = capsys.readouterr().err
    assert "'speed'" in told
    assert "drain" in told


def test_a_ratio_is_the_median_over_pairs_and_not_of_medians() -> None:
    pairs = Pairs()
    for ours, peer in ((10.0, 5.0), (100.0, 200.0), (30.0, 10.0)):
        pairs.add(ours, peer)

    assert (pairs.value, pairs.peer_value, pairs.ratio) == (30.0, 10.0, 2.0)


def test_the_target_is_for_the_table_only() -> None:
    row = Row(name="a", value=1.0, unit="s", runs=1, target="<= 2 s")

    assert set(row.to_json()) == FIELDS


@pytest.mark.slow
def test_what_cannot_be_measured_here_is_a_row_that_says_so(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setattr(contracts, "ENVIRONMENT", tmp_path / "nowhere")
    monkeypatch.setattr(contracts, "SOFTHSM", tmp_path / "nowhere.so")

    rows = contracts.measure(Bench(folder=tmp_path, quick=True))

    missing = {row.name: row.note for row in rows if row.value is None}
    assert sorted(missing) == [
        "EXI fragment of an AuthorizationReq",
        "contract signature, SoftHSM2, p50",
        "contract signature, SoftHSM2, p99",
    ]
    assert all(note.startswith("NOT RUN: ") for note in missing.values())
    assert runner.table(rows).row_count == len(rows)
