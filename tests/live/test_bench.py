"""`python -m bench --quick`: that it runs, what it prints, what it leaves. The figures of so little mean nothing."""

import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
SPREAD = {"median", "q1", "q3", "min", "max"}

pytestmark = pytest.mark.live


def namespaces() -> set[str]:
    listed = subprocess.run(["ip", "netns", "list"], capture_output=True, text=True, check=True).stdout
    return {line.split()[0] for line in listed.splitlines() if line.startswith("lg-bench-")}


@contextmanager
def started(*words: str) -> Iterator[subprocess.Popen[str]]:
    command = [sys.executable, "-m", "bench", *words]
    with subprocess.Popen(command, cwd=ROOT, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True) as running:
        try:
            yield running
        finally:
            running.kill()


def test_a_quick_run_prints_every_table_and_appends_one_line(tmp_path: Path) -> None:
    history = tmp_path / "history.jsonl"
    history.write_text('{"kind":"bench","kept":true}\n')
    with started("--quick", "--history", str(history)) as running:
        output, progress = running.communicate(timeout=240)

    assert running.returncode == 0, progress
    assert f"lg-bench-{running.pid}" not in namespaces()
    assert progress.count("round ") == 3
    for words in (
        "The classifier: building",
        "Reference engine; check; diff",
        "Connections per second",
        "Round trips per second",
        "Nanoseconds a run",
        "the floor",
        "all four",
        "The list of 1,000 sockets",
        "Rivals on the same rules",
        "A SYN, ns",
    ):
        assert words in output

    kept, line = map(json.loads, history.read_text().splitlines())
    assert kept == {"kind": "bench", "kept": True}
    assert line["kind"] == "bench"
    assert {"date", "commit", "modified", "kernel", "machine", "load_average"} <= line.keys()
    assert line["rounds"] == 3
    for one in line["classifier"]:
        assert (one["filters"], len(one["kernel_ns"]), len(one["columns_per_us"])) == (100, 3, 3)
        assert all(value > 0 for value in (*one["kernel_ns"], *one["columns_per_us"], one["table_bytes"]))
    (offline,) = line["analysis"]
    assert offline["filters"] == 100
    assert all(offline[name] > 0 for name in ("per_second", "to_floor", "explain_s", "check_s", "diff_s"))
    assert line["sockets"]["sockets"] == 1000
    names = [one["name"] for one in line["guard"]["costs"]]
    assert names[1:] == ["layergate, ports", "layergate", "nft ct count", "nft limit"]
    assert line["sockets"]["to_ss"].keys() == SPREAD
    connections, exchanges, program_ns = line["connections"], line["exchanges"], line["program_ns"]
    for name in ("none", "noop", "empty", "trace", "connect"):
        assert connections[name]["to_none"].keys() == connections[name]["per_second"].keys() == SPREAD
    assert connections["none"]["to_none"]["max"] == connections["noop"]["to_noop"]["max"] == 1
    assert connections["trace_records"] > 0
    for name in ("none", "noop", "empty", "transport_10", "transport_100"):
        assert exchanges[name]["to_noop"].keys() == SPREAD
    for name in ("noop", "empty", "transport_10", "transport_100"):
        assert program_ns[name].keys() == {"egress", "tcx_egress", "tcx_ingress", "ingress", "all"}
        assert program_ns[name]["all"]["median"] > 0


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_an_interrupted_run_leaves_nothing(number: signal.Signals, tmp_path: Path) -> None:
    history = tmp_path / "history.jsonl"
    with started("--quick", "--rounds", "50", "--history", str(history)) as running:
        assert running.stderr is not None
        assert running.stderr.readline().startswith("round 1/50")
        time.sleep(0.3)
        os.kill(running.pid, number)
        _, said = running.communicate(timeout=20)

    assert running.returncode == 130
    assert "nothing is left" in said
    assert not history.exists()
    assert f"lg-bench-{running.pid}" not in namespaces()
    own = next(line for line in Path("/proc/self/cgroup").read_text().splitlines() if line.startswith("0::"))[3:]
    unified = Path("/sys/fs/cgroup/unified"), Path("/sys/fs/cgroup")
    assert not any((mount / own.lstrip("/") / f"lg-bench-{running.pid}").exists() for mount in unified)


def test_wrong_use_is_told(tmp_path: Path) -> None:
    with started("--rounds", "0", "--history", str(tmp_path / "history.jsonl")) as running:
        _, said = running.communicate(timeout=20)
    assert running.returncode == 2
    assert "at least 1" in said
