"""`layergate ls --json` names the filter that authorised each end, as the running programs have it."""

from __future__ import annotations

import json
import subprocess
from collections.abc import Iterator
from pathlib import Path

import pytest

from layergate.kernel.cgroups import Cgroup
from tests.live.lab import LAYERGATE, control_group, inside, namespace, start_in
from tests.live.test_run import running

pytestmark = pytest.mark.live

POLICY = """
[[filter]]
name = "nothing reaches 81"
layer = "ALE_AUTH_CONNECT"
action = "block"
when = { remote_port = 81 }
[[filter]]
name = "80 is served"
layer = "ALE_AUTH_RECV_ACCEPT"
action = "permit"
when = { local_port = 80 }
[[filter]]
name = "80 may be used"
layer = "ALE_AUTH_CONNECT"
action = "permit"
when = { remote_port = 80 }
"""
PORTS = """
ends = []
for port in (80, 82):
    listener = listen(ADDRESS, port)
    client = socket.create_connection((ADDRESS, port)); ends += [listener, client, listener.accept()[0]]
print(1, flush=True); until_end()
"""


@pytest.fixture
def place() -> Iterator[tuple[str, Cgroup]]:
    with namespace("authorised") as netns, control_group("authorised") as group:
        yield netns, group


def filters(netns: str, port: int, what: str = "filter") -> dict[str, int | str | None]:
    """Return the filter of each end of the connection to *port*: its id, or *what* else."""
    done = subprocess.run(
        inside(netns, LAYERGATE, "ls", "--json", f"port:{port}", "!state:listen"),
        capture_output=True, text=True, check=True,
    )  # fmt: skip
    rows = [json.loads(line) for line in done.stdout.splitlines()]
    return {"server" if row["local"].endswith(f":{port}") else "client": row[what] for row in rows}


def listing(netns: str, *words: str) -> list[str]:
    """Return the rows of the list with the column of filters, title first."""
    done = subprocess.run(
        inside(netns, LAYERGATE, "ls", "--columns", "local,remote,filter", *words),
        capture_output=True, text=True, check=True,
    )  # fmt: skip
    return done.stdout.splitlines()


# A filter is one of each family: ids go 1 and 2, 3 and 4, 5 and 6.
@pytest.mark.parametrize("address, server, client", [("127.0.0.1", 3, 5), ("::1", 4, 6)])
def test_each_end_has_the_filter_that_let_it_in(
    place: tuple[str, Cgroup], tmp_path: Path, address: str, server: int, client: int
) -> None:
    netns, group = place
    policy = tmp_path / "policy.toml"
    policy.write_text(POLICY)
    with running(netns, policy, group), start_in(netns, group, PORTS.replace("ADDRESS", repr(address))) as process:
        try:
            assert process.stdout is not None
            assert process.stdout.readline(), process.stderr.read() if process.stderr else ""
            assert filters(netns, 80) == {"client": client, "server": server}
            names = {"client": "80 may be used", "server": "80 is served"}
            assert filters(netns, 80, "filter_name") == names
            listed = listing(netns, "filter:served")
            assert len(listed) == 2
            assert "80 is served" in listed[1]
            assert filters(netns, 82) == {"client": None, "server": None}  # no filter was needed
        finally:
            process.kill()


def test_without_a_running_policy_there_is_none(place: tuple[str, Cgroup]) -> None:
    netns, group = place
    with start_in(netns, group, PORTS.replace("ADDRESS", "'127.0.0.1'")) as process:
        try:
            assert process.stdout is not None
            assert process.stdout.readline(), process.stderr.read() if process.stderr else ""
            assert filters(netns, 80) == {"client": None, "server": None}
        finally:
            process.kill()
