"""`layergate view` on a real terminal: it starts, shows a real socket, closes it after a yes, and ends with q."""

from __future__ import annotations

import errno
import fcntl
import os
import pty
import re
import select
import struct
import subprocess
import termios
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.live.lab import LAYERGATE, control_group, inside, namespace, start_in
from tests.live.test_run import running

pytestmark = pytest.mark.live
pytest.importorskip("textual", reason="the extra `view` is not installed")


@pytest.fixture
def netns() -> Iterator[str]:
    with namespace("view") as name:
        yield name


class Terminal:
    """`layergate view` on a pseudo-terminal of 80×24."""

    def __init__(self, netns: str) -> None:
        self.ours, theirs = pty.openpty()
        fcntl.ioctl(theirs, termios.TIOCSWINSZ, struct.pack("HHHH", 24, 80, 0, 0))
        self.process = subprocess.Popen(
            inside(netns, LAYERGATE, "view"), stdin=theirs, stdout=theirs, stderr=theirs,
            env={**os.environ, "TERM": "xterm-256color"}, start_new_session=True,
        )  # fmt: skip
        os.close(theirs)
        self.seen = ""

    def press(self, keys: str) -> None:
        os.write(self.ours, keys.encode())

    def until(self, words: str, seconds: float = 15.0) -> None:
        """Read until *words* have been shown."""
        end = time.monotonic() + seconds
        while words not in re.sub(r"\x1b\[[0-9;?]*[a-zA-Z]", "", self.seen):
            assert time.monotonic() < end, f"{words!r} is not shown: {self.seen[-3000:]!r}"
            if select.select([self.ours], [], [], 0.2)[0]:
                try:
                    self.seen += os.read(self.ours, 65536).decode(errors="replace")
                except OSError:  # it has ended
                    break

    def close(self) -> None:
        self.process.kill()
        self.process.wait()
        os.close(self.ours)


def test_a_real_connection_is_shown_and_closed_after_a_yes(netns: str) -> None:
    script = """
    listener = socket.create_server(("127.0.0.1", 8201))
    client = socket.create_connection(("127.0.0.1", 8201)); server, _ = listener.accept()
    print(1, flush=True)
    try: client.recv(1)
    except OSError as error: print(error.errno, flush=True)
    """
    with start_in(netns, None, script) as process:
        terminal = Terminal(netns)
        try:
            assert process.stdout is not None
            process.stdout.readline()
            terminal.until("3 endpoints")
            terminal.press("/remote_port:8201\r")
            terminal.until("1 of 3 endpoints")
            terminal.press("x")
            terminal.until("Close 127.0.0.1:")
            terminal.press("y")
            terminal.until("1 of 1 closed")
            assert process.stdout.readline() == "103\n"  # ECONNABORTED
            terminal.press("q")
            terminal.until("\x1b[?1049l")
            assert terminal.process.wait(timeout=10) == 0
        finally:
            terminal.close()
            process.kill()


POLICY = """
[[filter]]
name = "all may"
layer = ["ALE_AUTH_CONNECT", "ALE_AUTH_RECV_ACCEPT"]
action = "permit"
weight = 0
"""


def test_a_block_is_in_force_within_a_second_of_the_yes(netns: str, tmp_path: Path) -> None:
    policy = tmp_path / "policy.toml"
    policy.write_text(POLICY)
    script = """
    listener = socket.create_server(("127.0.0.3", 8202))
    client = socket.create_connection(("127.0.0.3", 8202), source_address=("127.0.0.1", 0))
    print(1, flush=True)
    while True:
        try: socket.create_connection(("127.0.0.3", 8202)).close()
        except OSError as error: print(error.errno, time.time(), flush=True); break
        time.sleep(0.05)
    """
    with (
        control_group("view") as group,
        running(netns, policy, group),
        start_in(netns, group, script) as process,
    ):
        terminal = Terminal(netns)
        try:
            assert process.stdout is not None
            process.stdout.readline()
            terminal.until("endpoints")
            terminal.press("/remote:127.0.0.3 state:established\r")
            terminal.until("1 of ")
            terminal.press("b")
            terminal.until("Block 127.0.0.3")
            asked = time.time()
            terminal.press("y")
            terminal.until("in force")
            error, when = process.stdout.readline().split()
            assert int(error) == errno.EPERM
            assert float(when) - asked < 1
            assert "view: connects to 127.0.0.3" in policy.read_text()
        finally:
            terminal.close()
            process.kill()


def test_the_details_show_what_each_layer_says(netns: str, tmp_path: Path) -> None:
    policy = tmp_path / "policy.toml"
    policy.write_text(POLICY + '[[filter]]\nname = "out it goes"\nlayer = "OUTBOUND_TRANSPORT"\naction = "permit"\n')
    script = """
    listener = socket.create_server(("127.0.0.1", 8203))
    client = socket.create_connection(("127.0.0.1", 8203)); server, _ = listener.accept()
    client.sendall(b"x"); server.recv(1)
    print(1, flush=True); listener.accept()
    """
    with control_group("view") as group, running(netns, policy, group), start_in(netns, group, script) as process:
        terminal = Terminal(netns)
        try:
            assert process.stdout is not None
            process.stdout.readline()
            terminal.until("endpoints")
            terminal.press("/local_port:8203 state:established\r")
            terminal.until("1 of ")
            terminal.press("\r")
            terminal.until("'all may' (recorded)")
            terminal.until("'out it goes'")
        finally:
            terminal.close()
            process.kill()


def test_without_a_terminal_the_user_is_sent_to_ls(netns: str) -> None:
    done = subprocess.run(
        inside(netns, LAYERGATE, "view"), capture_output=True, text=True, check=False, stdin=subprocess.DEVNULL
    )
    assert done.returncode == 2
    assert "layergate ls" in done.stderr
