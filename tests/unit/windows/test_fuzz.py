"""Damaged dumps: `make fuzz` tries many more."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

COUNT = os.environ.get("LAYERGATE_FUZZ_COUNT", "3000")


def test_a_damaged_dump_is_a_dump_or_an_error_and_takes_little_memory() -> None:
    command = [sys.executable, "-m", "tests.unit.windows.fuzz", COUNT]
    result = subprocess.run(command, cwd=Path(__file__).parents[3], capture_output=True, text=True, check=False)
    assert result.returncode == 0, result.stderr[-3000:]
    assert " dumps, " in result.stdout
