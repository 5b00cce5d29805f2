"""The offline part of the benchmarks: that it runs without root, and what it leaves. So few rounds measure nothing."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

ROOT = Path(__file__).parents[2]


def test_the_reference_engine_is_measured_alone(tmp_path: Path) -> None:
    history = tmp_path / "history.jsonl"
    command = [sys.executable, "-m", "bench", "--quick", "--only", "analysis", "--history", str(history)]
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=False, timeout=60)
    assert done.returncode == 0, done.stderr
    assert "Reference engine; check; diff of 5 changed filters" in done.stdout
    (line,) = map(json.loads, history.read_text().splitlines())
    assert (line["kind"], [one["filters"] for one in line["analysis"]]) == ("bench", [100])


def test_the_simulator_is_measured_alone(tmp_path: Path) -> None:
    history = tmp_path / "history.jsonl"
    command = [sys.executable, "-m", "bench", "--quick", "--only", "simulation", "--history", str(history)]
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=False, timeout=60)
    assert done.returncode == 0, done.stderr
    assert "floor: the same packets composed and parsed once" in done.stdout
    (line,) = map(json.loads, history.read_text().splitlines())
    assert {(one["variant"], one["unit"]) for one in line["simulation"]} == {
        (variant, unit)
        for variant in ("nothing kept", "all kept", "1,000 filters")
        for unit in ("segments", "sessions")
    }
