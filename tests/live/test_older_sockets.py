"""Sockets and connections that are older than the trace."""

from __future__ import annotations

import signal
import subprocess
import time

import pytest

from tests.live.lab import (
    LAYERGATE,
    QUIET_S,
    STEP_S_MAX,
    WITH_ENDS,
    control_group,
    inside,
    join,
    parse,
    says,
    step,
)

pytestmark = pytest.mark.live

OLD = """
server = socket.create_server(("127.0.0.1", 8097))
client = socket.create_connection(("127.0.0.1", 8097))
peer, _ = server.accept()
pause()
client.sendall(b"x")
peer.recv(1)
peer.sendall(b"y")
client.recv(1)
client.close()
peer.close()
server.close()
"""


def test_what_already_runs_is_shown_with_its_owner_from_its_next_packet_to_its_end(netns: str) -> None:
    with control_group("old") as group:
        words = inside(netns, *says(OLD))
        process = subprocess.Popen(
            words,
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
            preexec_fn=lambda: join(group),  # noqa: PLW1509 - between fork and exec it only writes to a file
            env=WITH_ENDS,
        )
        assert process.stdout is not None
        assert process.stdout.readline() == "\n"
        tracing = subprocess.Popen(
            inside(netns, LAYERGATE, "trace", "--cgroup", group.path, "--json"),
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
        )
        assert tracing.stderr is not None
        assert "tracing" in tracing.stderr.readline()
        process.communicate("\n", timeout=STEP_S_MAX)
        time.sleep(QUIET_S)
        tracing.send_signal(signal.SIGINT)
        output, _ = tracing.communicate(timeout=STEP_S_MAX)
    assert tracing.returncode == 0
    lines = [line for line in parse(output.splitlines()) if line["kind"] == "indication"]
    steps = {host: [step(line) for line in lines if line["host"] == host] for host in ("client", "server")}
    assert steps["client"][:4] == [
        "segment ALE_AUTH_CONNECT_V4 again",
        "data STREAM_V4",
        "segment OUTBOUND_TRANSPORT_V4",
        "datagram OUTBOUND_IPPACKET_V4",
    ]
    assert steps["server"][:4] == [
        "datagram INBOUND_IPPACKET_V4",
        "segment INBOUND_TRANSPORT_V4",
        "segment ALE_AUTH_RECV_ACCEPT_V4 again",
        "data STREAM_V4",
    ]
    for host in ("client", "server"):  # what it sent, and what it got
        assert steps[host].count("data STREAM_V4") == 2
    assert steps["client"].count("closure ALE_ENDPOINT_CLOSURE_V4") == 1
    assert steps["server"].count("closure ALE_ENDPOINT_CLOSURE_V4") == 2  # the connection's and the listener's
    owners = {line["process"]["pid"] for line in lines if line["process"]}  # type: ignore[index]
    assert owners == {process.pid}
