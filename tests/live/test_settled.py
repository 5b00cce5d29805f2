"""Connections that the kernel lets pass without a look (kernel/bpf/settled.h): a changed policy reaches them too.

By `layergate run`, which tells of blocks alone: a trace, which tells of everything, looks at every packet.
"""

from __future__ import annotations

import json
import signal
import subprocess
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from layergate.kernel.cgroups import Cgroup
from tests.live.lab import control_group, namespace, start_in
from tests.live.test_run import running, until_said

pytestmark = pytest.mark.live

WAIT_S = 20
# Two ends of a connection in one process. Each line asks for an exchange; the answer is what it came to.
EXCHANGE = """
import sys
family, address = FAMILY
server = socket.create_server((address, 8080), family=family)
client = socket.create_connection((address, 8080)); peer, _ = server.accept()
for end in (client, peer):
    end.settimeout(1)
print("ready", flush=True)
for line in sys.stdin:
    try:
        for one, other in ((client, peer), (peer, client)) * 3:
            one.sendall(b"x"); other.recv(1)
        print("passes", flush=True)
    except OSError as error:
        print(type(error).__name__, flush=True)
"""
FAMILIES = {4: "(socket.AF_INET, '127.0.0.1')", 6: "(socket.AF_INET6, '::1')"}
BLOCKS = {
    "ALE_AUTH_CONNECT": "remote_port = 8080",
    "ALE_AUTH_RECV_ACCEPT": "local_port = 8080",
    "OUTBOUND_TRANSPORT": "remote_port = 8080",
    "INBOUND_TRANSPORT": "local_port = 8080",
    "OUTBOUND_IPPACKET": "remote_address = ['127.0.0.1', '::1']",
    "INBOUND_IPPACKET": "remote_address = ['127.0.0.1', '::1']",
}
ELSEWHERE = "when = { remote_port = 1 }"


@pytest.fixture(scope="module")
def netns() -> Iterator[str]:
    with namespace("settled") as name:
        yield name


@pytest.fixture
def group() -> Iterator[Cgroup]:
    with control_group("settled") as made:
        yield made


@contextmanager
def standing(
    netns: str, group: Cgroup, policy: Path, text: str, family: int = 4
) -> Iterator[tuple[subprocess.Popen[str], subprocess.Popen[str]]]:
    """A run with the policy *text*, and a connection that stands: (run, its ends)."""
    policy.write_text(text, encoding="utf-8")
    script = EXCHANGE.replace("FAMILY", FAMILIES[family])
    with running(netns, policy, group, "--json") as run, start_in(netns, group, script) as ends:
        try:
            assert ends.stdout is not None
            assert ends.stdout.readline() == "ready\n"
            yield run, ends
        finally:
            ends.kill()


def text_of(layer: str, when: str, action: str = "block", name: str = "") -> str:
    return f'[[filter]]\nname = "{name or layer}"\nlayer = "{layer}"\naction = "{action}"\n{when}\n'


def ask(process: subprocess.Popen[str]) -> str:
    assert process.stdin is not None
    assert process.stdout is not None
    process.stdin.write("\n")
    process.stdin.flush()
    return process.stdout.readline().strip()


def put(process: subprocess.Popen[str], policy: Path, text: str, version: int) -> None:
    policy.write_text(text, encoding="utf-8")
    process.send_signal(signal.SIGHUP)
    said = until_said(process, "in force")
    assert f"is in force, version {version}" in said, said


# Before the block: no filters at all (then no flow is kept), or some that look at every packet's flow once.
@pytest.mark.parametrize(
    "first",
    ["", text_of("OUTBOUND_TRANSPORT", ELSEWHERE, name="out") + text_of("INBOUND_TRANSPORT", ELSEWHERE, name="in")],
    ids=["flowless", "with flows"],
)
@pytest.mark.parametrize("family", FAMILIES)
@pytest.mark.parametrize("layer", BLOCKS)
def test_a_block_reaches_a_settled_connection(  # noqa: PLR0917 (fixtures and parameters)
    netns: str, group: Cgroup, tmp_path: Path, layer: str, family: int, first: str
) -> None:
    policy = tmp_path / "policy.toml"
    with standing(netns, group, policy, first, family) as (run, ends):
        assert [ask(ends) for _ in range(3)] == ["passes"] * 3
        # A version that changes nothing for it, and has it looked at anew.
        put(run, policy, first + text_of("OUTBOUND_TRANSPORT", "when = { remote_port = 2 }", name="other"), 2)
        assert ask(ends) == "passes"
        put(run, policy, first + text_of(layer, f"when = {{ {BLOCKS[layer]} }}"), 3)
        assert ask(ends) != "passes"
        time.sleep(0.3)
        run.send_signal(signal.SIGINT)
        output, _ = run.communicate(timeout=WAIT_S)
    blocked = {
        (line["layer"].removeprefix("FWPM_LAYER_"), line["filter_name"])
        for line in map(json.loads, output.splitlines())
        if line["kind"] == "indication" and line["action"] == "block"
    }
    assert blocked == {(f"{layer}_V{family}", layer)}


def test_what_is_asked_of_streams_is_asked_of_a_settled_connection(netns: str, group: Cgroup, tmp_path: Path) -> None:
    policy = tmp_path / "policy.toml"
    with standing(netns, group, policy, "") as (run, ends):
        assert ask(ends) == "passes"
        # What follows streams counts bytes from where it begins.
        put(run, policy, text_of("STREAM", ELSEWHERE, "permit"), 2)
        assert ask(ends) == "passes"
        put(run, policy, text_of("ALE_ENDPOINT_CLOSURE", "", "permit"), 3)
        assert ask(ends) == "passes"


def test_the_end_of_a_connection_without_a_flow_is_shown(netns: str, group: Cgroup, tmp_path: Path) -> None:
    """The policy begins to ask about the end of connections while one is open that has no flow."""
    policy = tmp_path / "policy.toml"
    with standing(netns, group, policy, "") as (run, ends):
        put(run, policy, text_of("ALE_ENDPOINT_CLOSURE", ""), 2)
        ends.kill()
        ends.wait(WAIT_S)
        time.sleep(0.5)
        run.send_signal(signal.SIGINT)
        output, _ = run.communicate(timeout=WAIT_S)
    closed = [
        (line["host"], line["local"].rpartition(":")[2] == "8080", line["process"]["pid"])
        for line in map(json.loads, output.splitlines())
        if line["kind"] == "indication" and line["layer"] == "FWPM_LAYER_ALE_ENDPOINT_CLOSURE_V4"
    ]
    # The client's end, the server's, and the listener's.
    assert sorted(closed) == [("client", False, ends.pid), ("server", True, ends.pid), ("server", True, ends.pid)]
