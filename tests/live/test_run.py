"""`layergate run`: fail-open, fail-closed with --pin, taken over, reloaded, detached."""

from __future__ import annotations

import json
import os
import re
import signal
import subprocess
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from layergate.kernel.cgroups import Cgroup
from tests.live.lab import LAYERGATE, WITH_ENDS, control_group, inside, join, namespace, run_in, says

pytestmark = pytest.mark.live

START_S_MAX = 60.0
EPERM, ECONNREFUSED = "PermissionError", "ConnectionRefusedError"
NO_CONNECT = """
[[filter]]
name = "nobody connects"
layer = "ALE_AUTH_CONNECT"
action = "block"
"""
# The outcome of a connect to a port where nobody listens: EPERM where it is blocked, ECONNREFUSED where it is not.
CONNECT = """
import json
try:
    socket.create_connection(("127.0.0.1", 9), timeout=2)
except OSError as error:
    print(json.dumps(type(error).__name__))
"""


@pytest.fixture(scope="module")
def netns() -> Iterator[str]:
    with namespace("run") as name:
        yield name


@pytest.fixture
def group() -> Iterator[Cgroup]:
    with control_group("run") as made:
        yield made


@pytest.fixture
def policy(tmp_path: Path) -> Path:
    file = tmp_path / "policy.toml"
    file.write_text(NO_CONNECT, encoding="utf-8")
    return file


@contextmanager
def running(netns: str, policy: Path, group: Cgroup, *options: str) -> Iterator[subprocess.Popen[str]]:
    """A `layergate run` that is in force."""
    words = (LAYERGATE, "run", "--policy", str(policy), "--cgroup", group.path, *options)
    process = subprocess.Popen(inside(netns, *words), stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)
    try:
        until_said(process, "is in force")
        yield process
    finally:
        if process.poll() is None:
            process.kill()
        process.communicate(timeout=START_S_MAX)


def until_said(process: subprocess.Popen[str], pattern: str) -> str:
    """Read standard error up to what matches *pattern*; return all of it."""
    assert process.stderr is not None
    said = ""
    for line in process.stderr:
        said += line
        if re.search(pattern, line):
            return said
    raise AssertionError(f"run did not say '{pattern}', but: {said}")


def detach() -> str:
    done = subprocess.run([LAYERGATE, "detach", "--all"], capture_output=True, text=True, check=True)
    return done.stdout


def outcome(netns: str, group: Cgroup | None) -> object:
    return run_in(netns, group, CONNECT)


def settles(netns: str, group: Cgroup, wanted: str) -> bool:
    """Whether connects come out as *wanted* within a few seconds: the kernel detaches links a moment after exit."""
    end = time.monotonic() + 5
    while time.monotonic() < end:
        if outcome(netns, group) == wanted:
            return True
    return False


def test_it_holds_for_its_group_and_for_nobody_else(netns: str, policy: Path, group: Cgroup) -> None:
    with running(netns, policy, group):
        assert outcome(netns, group) == EPERM
        assert outcome(netns, None) == ECONNREFUSED


def test_ctrl_c_leaves_nothing_attached(netns: str, policy: Path, group: Cgroup) -> None:
    with running(netns, policy, group, "--json") as process:
        assert outcome(netns, group) == EPERM
        process.send_signal(signal.SIGINT)
        output, _ = process.communicate(timeout=START_S_MAX)
    lines = [json.loads(line) for line in output.splitlines()]
    assert process.returncode == 0
    assert lines[-1]["kind"] == "summary"
    blocked = [line for line in lines if line["kind"] == "indication" and line["action"] == "block"]
    assert [(line["layer"], line["filter_name"]) for line in blocked] == [
        ("FWPM_LAYER_ALE_AUTH_CONNECT_V4", "nobody connects")
    ]
    assert outcome(netns, group) == ECONNREFUSED


def test_killed_without_pin_all_is_detached(netns: str, policy: Path, group: Cgroup) -> None:
    with running(netns, policy, group) as process:
        process.kill()
        process.wait()
        assert settles(netns, group, ECONNREFUSED)


def test_killed_with_pin_it_holds_until_detached(netns: str, policy: Path, group: Cgroup) -> None:
    try:
        with running(netns, policy, group, "--pin") as process:
            process.kill()
            process.wait()
            time.sleep(0.5)
            assert outcome(netns, group) == EPERM
            assert outcome(netns, None) == ECONNREFUSED
        assert group.path in detach()
        assert settles(netns, group, ECONNREFUSED)
    finally:
        detach()


def test_the_next_run_takes_over_what_was_pinned(netns: str, policy: Path, group: Cgroup, tmp_path: Path) -> None:
    nothing = tmp_path / "nothing.toml"
    nothing.write_text("", encoding="utf-8")
    try:
        with running(netns, policy, group, "--pin") as process:
            with running(netns, nothing, group):  # beside one that is alive nothing is taken
                assert outcome(netns, group) == EPERM
            assert outcome(netns, group) == EPERM
            process.kill()
            process.wait()
            assert outcome(netns, group) == EPERM
        detach()
        with running(netns, policy, group, "--pin") as process:
            process.kill()
            process.wait()
        with running(netns, nothing, group) as process:
            assert settles(netns, group, ECONNREFUSED)
    finally:
        detach()


def test_sighup_changes_the_policy_and_an_error_changes_nothing(netns: str, policy: Path, group: Cgroup) -> None:
    with running(netns, policy, group) as process:
        policy.write_text("", encoding="utf-8")
        process.send_signal(signal.SIGHUP)
        until_said(process, "is in force, version 2")
        assert outcome(netns, group) == ECONNREFUSED
        policy.write_text("[[filter]\n", encoding="utf-8")
        process.send_signal(signal.SIGHUP)
        assert f"{policy}:1" in until_said(process, "version 2 stays in force")
        policy.write_text(NO_CONNECT, encoding="utf-8")
        process.send_signal(signal.SIGHUP)
        until_said(process, "is in force, version 3")
        assert outcome(netns, group) == EPERM


def test_an_application_is_followed_when_a_new_file_is_renamed_into_place(
    netns: str, group: Cgroup, tmp_path: Path
) -> None:
    program, policy = tmp_path / "fetch", tmp_path / "policy.toml"
    copy = f"cp {os.path.realpath('/usr/bin/curl')}"
    subprocess.run(["sh", "-c", f"{copy} {program}"], check=True)
    policy.write_text(NO_CONNECT + f'when = {{ app = "{program}" }}\n', encoding="utf-8")

    def status() -> int:
        words = inside(netns, str(program), "--silent", "--max-time", "2", "http://127.0.0.1:9/")
        return subprocess.run(words, check=False, preexec_fn=lambda: join(group)).returncode

    couldnt_connect = 7
    with running(netns, policy, group, "--json") as process:
        assert status() == couldnt_connect
        subprocess.run(["sh", "-c", f"{copy} {program}.new && mv {program}.new {program}"], check=True)
        time.sleep(1.2)
        assert status() == couldnt_connect
        process.send_signal(signal.SIGINT)
        output, _ = process.communicate(timeout=START_S_MAX)
    blocked = [json.loads(line) for line in output.splitlines() if '"action":"block"' in line]
    assert [line["process"]["app"] for line in blocked] == [str(program)] * 2


def test_a_connection_older_than_the_run_is_reset_when_the_policy_blocks_it(
    netns: str, policy: Path, group: Cgroup
) -> None:
    script = """
    import sys
    server = socket.create_server(("127.0.0.1", 8080))
    client = socket.create_connection(("127.0.0.1", 8080))
    peer, _ = server.accept()
    print("ready", flush=True)
    sys.stdin.readline()
    client.settimeout(5)
    try:
        client.sendall(b"x"); client.recv(1)
    except OSError as error:
        print(type(error).__name__, flush=True)
    """
    words = inside(netns, *says(script))
    process = subprocess.Popen(
        words,
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        text=True,
        preexec_fn=lambda: join(group),  # noqa: PLW1509 - between fork and exec it only writes to a file
        env=WITH_ENDS,
    )
    try:
        assert process.stdout is not None
        assert process.stdout.readline() == "ready\n"
        with running(netns, policy, group):
            output, _ = process.communicate("\n", timeout=20)
        assert output.strip() in ("ConnectionAbortedError", "ConnectionResetError")
    finally:
        process.kill()
        process.wait()


def test_what_the_kernel_can_not_enforce_is_refused_before_anything_is_attached(
    netns: str, group: Cgroup, tmp_path: Path
) -> None:
    policy = tmp_path / "policy.toml"
    policy.write_text(NO_CONNECT + "when = { local_port = 5 }\n", encoding="utf-8")
    words = inside(netns, LAYERGATE, "run", "--policy", str(policy), "--cgroup", group.path)
    done = subprocess.run(words, capture_output=True, text=True, check=False, timeout=START_S_MAX)
    assert done.returncode == 2
    assert f"{policy}:2" in done.stderr
    assert "local" in done.stderr
