"""`layergate doctor` and `layergate demo` on this machine."""

from __future__ import annotations

import json
import re
import signal
import subprocess
import time

import pytest

from layergate.kernel.hooks import HOOKS
from tests.live.lab import LAYERGATE, control_groups

pytestmark = pytest.mark.live

DEMO_S_MAX = 90
CHECKS = 14


def namespaces() -> set[str]:
    done = subprocess.run(["ip", "netns", "list"], capture_output=True, text=True, check=True)
    return {line.split()[0] for line in done.stdout.splitlines() if line.startswith("lg-demo-")}


def test_doctor_tries_every_layer_of_the_catalogue_and_leaves_nothing() -> None:
    done = subprocess.run([LAYERGATE, "doctor", "--json"], capture_output=True, text=True, check=False, timeout=60)
    lines = [json.loads(line) for line in done.stdout.splitlines()]
    assert (done.returncode, done.stderr) == (0, "")
    assert len(lines) == 99
    assert all(set(line) == {"kind", "layer", "hook", "available", "cause", "remedy"} for line in lines)
    available = [line for line in lines if line["available"]]
    assert len(available) == 2 * len(HOOKS)
    assert all(line["cause"] for line in lines if not line["available"])
    assert not [path for path in control_groups() if "doctor" in path]


def test_the_demo_shows_what_it_says_and_removes_everything() -> None:
    done = subprocess.run([LAYERGATE, "demo"], capture_output=True, text=True, check=False, timeout=DEMO_S_MAX)
    assert done.returncode == 0, done.stdout + done.stderr
    assert done.stdout.count("as it should be:") == CHECKS
    assert "22 of 22 steps as documented" in done.stdout
    assert "NOT SO" not in done.stdout
    assert not namespaces()
    assert not [path for path in control_groups() if "demo" in path]


def test_ctrl_c_ends_the_demo_and_removes_everything() -> None:
    process = subprocess.Popen([LAYERGATE, "demo"], stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)
    assert process.stdout is not None
    for line in process.stdout:
        if re.match(r"2\. ", line):
            break
    time.sleep(0.1)
    process.send_signal(signal.SIGINT)
    _, errors = process.communicate(timeout=DEMO_S_MAX)
    assert (process.returncode, errors) == (130, "")
    assert not namespaces()
    assert not [path for path in control_groups() if "demo" in path]
