"""The two real dumps of the reference material: read whole, weighed exactly, soon, and in little memory."""

from __future__ import annotations

import re
import subprocess
import sys
from collections import Counter
from pathlib import Path

import pytest

from layergate.engine import condition_problem
from layergate.model import LAYERS, Action, FilterFlag, layer_named
from layergate.windows import Dump, Judge, fit, load_file
from layergate.windows.situations import of_connection
from layergate.windows.values import path_text

# VmHWM is of this program alone; ru_maxrss still knows the process that it was forked from.
MEASURE = """
import re, sys
from layergate.windows import load_file
for path in sys.argv[1:]:
    load_file(path)
print(int(re.search(r"VmHWM:\\s+(\\d+)", open("/proc/self/status").read())[1]) / 1024)
"""


@pytest.fixture(scope="module")
def state(shared_dir: Path) -> Dump:
    return load_file(str(shared_dir / "windows" / "wfpstate-2024.xml"))


@pytest.fixture(scope="module")
def filters(shared_dir: Path) -> Dump:
    return load_file(str(shared_dir / "windows" / "filters-2026.xml"))


def test_the_state_is_read_whole(state: Dump) -> None:
    policy = state.policy
    assert (len(policy.filters), len(state.layers), len(policy.sublayers)) == (1254, 99, 45)
    assert (len(policy.providers), len(policy.callouts), len(policy.contexts)) == (16, 89, 469)
    assert (len(state.sessions), len(state.connections)) == (15, 34)
    assert (state.unknown, state.doubts, dict(state.not_understood)) == ((), (), {})
    assert len({one.name for one in policy.sublayers}) == 45
    assert sum(layer is layer_named(layer.name) for layer in state.layers) == 69
    assert len(state.layers) == len(LAYERS)


def test_the_filters_are_read_whole(filters: Dump) -> None:
    assert (len(filters.policy.filters), len(filters.policy.providers)) == (286, 15)
    assert (filters.unknown, dict(filters.not_understood), len(filters.assumed_sublayers)) == ((), {}, 3)
    assert "Filtre de démarrage" in {item.name for item in filters.policy.filters}


def test_all_automatic_weights_are_those_of_their_generation(state: Dump, filters: Dump) -> None:
    old, new = fit(state.policy.filters), fit(filters.policy.filters)
    assert (old.generation, old.fitting_count, old.automatic_count, old.misfits) == ("2024", 1139, 1139, ())
    assert (new.generation, new.fitting_count, new.automatic_count, new.misfits) == ("2026", 234, 234, ())


def test_every_condition_is_one_that_the_platform_takes(state: Dump, filters: Dump) -> None:
    for item in (*state.policy.filters, *filters.policy.filters):
        for condition in item.conditions:
            field = item.layer.field(condition.field)
            assert field is not None
            assert condition_problem(field, condition) is None


def test_actions_flags_and_origins_are_as_they_were_counted(state: Dump) -> None:
    assert Counter(item.action for item in state.policy.filters) == {
        Action.PERMIT: 1119,
        Action.BLOCK: 73,
        Action.CALLOUT_TERMINATING: 28,
        Action.CALLOUT_UNKNOWN: 14,
        Action.CALLOUT_INSPECTION: 20,
    }
    assert sum(FilterFlag.BOOTTIME in item.flags for item in state.policy.filters) == 16
    texts = {context.key: context.text for context in state.policy.contexts}
    assert sum(bool(texts.get(item.context)) for item in state.policy.filters) == 184
    assert "Quarantine Default" in texts.values()


def test_connections_have_their_paths_and_a_verdict_each(state: Dump) -> None:
    judge = Judge(state)
    assert path_text(state.connections[0].app) == r"\device\harddiskvolume3\windows\explorer.exe"
    for connection in state.connections:
        layer = next(one for one in state.layers if one.short == f"ALE_AUTH_CONNECT_V{6 if connection.is_v6 else 4}")
        assert judge.judge(of_connection(connection, layer)).verdict.filter is not None


def megabytes(*paths: Path) -> float:
    """Return the most memory that a process has used that reads *paths*; in far less time than it is given."""
    command = [sys.executable, "-c", MEASURE, *paths]
    return float(subprocess.run(command, capture_output=True, text=True, check=True, timeout=60).stdout)


def test_both_are_read_in_little_memory(shared_dir: Path) -> None:
    windows = shared_dir / "windows"
    assert megabytes(windows / "wfpstate-2024.xml", windows / "filters-2026.xml") < 100


def test_ten_times_the_size_takes_far_less_than_ten_times_the_memory(shared_dir: Path, tmp_path: Path) -> None:
    text = (shared_dir / "windows" / "wfpstate-2024.xml").read_text(encoding="utf-8")
    big = tmp_path / "big.xml"
    big.write_text(multiplied(text, 10), encoding="utf-8")
    assert len(load_file(str(big)).policy.filters) == 12540
    assert megabytes(big) < 100


def multiplied(text: str, times: int) -> str:
    """A state with every filter *times* over, under ids and keys of their own."""

    def copies(found: re.Match[str]) -> str:
        return "".join(
            found[0].replace("<filterKey>{", f"<filterKey>{{{number:x}").replace("</filterId>", f"{number}</filterId>")
            for number in range(10, 10 + times)
        )

    text = re.sub(r'<filters numItems="\d+">', "<filters>", text)
    return re.sub(r"<item>\s*<filterKey>.*?</effectiveWeight>\s*</item>", copies, text, flags=re.DOTALL)
