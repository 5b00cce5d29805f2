"""A policy that is in force from the start: kernel and `explain` name the same filter by the same id."""

from __future__ import annotations

import subprocess
from pathlib import Path

import pytest

from tests.live.lab import LAYERGATE, finished, parse, says

pytestmark = pytest.mark.live

POLICY = """
[[sublayer]]
name = "upper"
weight = 0x9000

[[filter]]
name = "loopback is welcome"
layer = ["ALE_AUTH_CONNECT", "ALE_AUTH_RECV_ACCEPT"]
sublayer = "upper"
action = "permit"
when = { flags = { all = ["loopback"], none = ["reauthorize"] } }

[[filter]]
name = "not to port 2"
layer = "ALE_AUTH_CONNECT"
action = "block"
when = { remote_port = [2, "5-9"] }

[[filter]]
name = "segments pass"
layer = ["OUTBOUND_TRANSPORT", "INBOUND_TRANSPORT"]
action = "permit"
when = { protocol = "tcp", local_address = ["127.0.0.0/8", "::1"] }

[[filter]]
name = "nobody answers 3"
layer = "INBOUND_TRANSPORT_DISCARD"
action = "block"
when = { local_port = 3 }
"""
SESSION = """
for address in ("127.0.0.1", "::1"):
    listener, client, accepted = pair(address)
    client.sendall(b"x")
    accepted.recv(1)
    for port in (2, 3, 4, 7):
        attempt(connect, address, port, seconds=0.2)
"""


def test_ids_are_the_same_on_both_sides(netns: str, tmp_path: Path) -> None:
    policy = tmp_path / "policy.toml"
    policy.write_text(POLICY, encoding="utf-8")
    told = finished(netns, "--policy", str(policy), command=says(SESSION))
    lines = [line for line in parse(told.stdout.splitlines()) if line["kind"] == "indication"]
    explained = subprocess.run(
        [LAYERGATE, "explain", "--policy", str(policy), "--indication", "-", "--json"],
        input=told.stdout,
        capture_output=True,
        text=True,
        check=True,
    )
    verdicts = parse(explained.stdout.splitlines())
    keys = ("layer", "action", "filter", "filter_name", "sublayer", "version")
    assert [[line[key] for key in keys] for line in lines] == [[line[key] for key in keys] for line in verdicts]
    decided = {line["filter"] for line in lines if line["filter"]}
    assert len(decided) >= 8
