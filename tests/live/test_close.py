"""`layergate close`: both ends are told, the selection and nothing else, and a dry run closes nothing."""

from __future__ import annotations

import json
import subprocess
from collections.abc import Iterator
from contextlib import contextmanager

import pytest

from tests.live.lab import LAYERGATE, Line, inside, namespace, start_in

pytestmark = pytest.mark.live

# Three connections to 8001 and a listener; then what each end finds, when a byte comes in.
ENDS = """
import errno, json, socket, sys
listener = socket.create_server(("127.0.0.1", 8001))
clients = [socket.create_connection(("127.0.0.1", 8001)) for _ in range(3)]
servers = [listener.accept()[0] for _ in clients]
unconnected = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
unconnected.bind(("127.0.0.1", 8001))
print(json.dumps([client.getsockname()[1] for client in clients]), flush=True)
sys.stdin.read(1)
found = []
for end in (*clients, *servers):
    end.settimeout(0.2)
    try:
        found.append(str(len(end.recv(1))))
    except TimeoutError:
        found.append("open")
    except OSError as error:
        found.append(errno.errorcode[error.errno])
listener.settimeout(0.2)
try:
    listener.accept()
except TimeoutError:
    found.append("open")
except OSError as error:
    found.append(errno.errorcode[error.errno])
print(json.dumps(found))
"""


@contextmanager
def ends(netns: str) -> Iterator[tuple[list[int], list[str]]]:
    """Yield the clients' ports, and a list that holds in the end what each end found."""
    found: list[str] = []
    with start_in(netns, None, ENDS) as process:
        assert process.stdout is not None
        try:
            yield json.loads(process.stdout.readline()), found
        finally:
            output, _ = process.communicate("x", timeout=20)
            found += json.loads(output)


def closed(netns: str, *words: str, status: int = 0, **environment: str) -> list[Line]:
    variables = (f"{key}={value}" for key, value in environment.items())
    done = subprocess.run(
        inside(netns, "env", *variables, LAYERGATE, "close", "--json", *words),
        capture_output=True, text=True, check=False, timeout=30,
    )  # fmt: skip
    assert (done.returncode, done.stderr) == (status, "")
    return [json.loads(line) for line in done.stdout.splitlines()]


@pytest.fixture(scope="module")
def netns() -> Iterator[str]:
    with namespace("close") as name:
        yield name


def test_both_ends_of_the_selection_are_told_and_no_other(netns: str) -> None:
    with ends(netns) as (ports, found):
        *lines, summary = closed(netns, f"local_port:{ports[1]}")
        (one,) = lines
        assert (one["kind"], one["outcome"], one["local"]) == ("endpoint", "closed", f"127.0.0.1:{ports[1]}")
        assert one["process"]["app"].rpartition("/")[2].startswith("python")  # type: ignore[index]
        assert summary == {
            "kind": "summary",
            "closed": 1,
            "would_be_closed": 0,
            "gone": 0,
            "left_alone": 0,
            "failed": 0,
        }
    assert found == ["open", "ECONNABORTED", "open", "open", "ECONNRESET", "open", "open"]


def test_a_dry_run_closes_nothing(netns: str) -> None:
    with ends(netns) as (_, found):
        *lines, summary = closed(netns, "port:8001", "!state:time_wait", "--dry-run")
        assert [line["outcome"] for line in lines].count("would be closed") == 6
        assert summary["left_alone"] == 2
    assert found == ["open"] * 7


def test_a_whole_selection_leaves_the_listener_unless_it_is_asked_for(netns: str) -> None:
    with ends(netns) as (_, found):
        *lines, summary = closed(netns, "port:8001", "proto:tcp", "!state:time_wait")
        # Of the two ends of a connection, whichever comes first takes the other with it.
        assert (int(str(summary["closed"])) + int(str(summary["gone"])), summary["failed"]) == (6, 0)
        assert [line["outcome"] for line in lines if line["state"] == "LISTEN"] == ["left alone"]
    assert set(found[:6]) <= {"ECONNABORTED", "ECONNRESET"}
    assert found[6] == "open"
    with ends(netns) as (_, found):
        closed(netns, "state:listen", "--listeners")
    assert found == ["open"] * 6 + ["EINVAL"]


def test_the_own_login_is_kept(netns: str) -> None:
    with ends(netns) as (ports, found):
        login = f"127.0.0.1 {ports[0]} 127.0.0.1 8001"
        *lines, _ = closed(netns, "local_port:8001", "state:established", SSH_CONNECTION=login)
        kept = [line for line in lines if line["outcome"] == "left alone"]
        assert [line["remote"] for line in kept] == [f"127.0.0.1:{ports[0]}"]
        assert "login" in str(kept[0]["why_not"])
    assert found[0] == found[3] == "open"


def test_nothing_is_closed_without_words_or_a_match(netns: str) -> None:
    assert closed(netns, status=2)[0]["found"] == "nothing says what to close"
    assert closed(netns, "port:1", status=1) == [
        {"kind": "summary", "closed": 0, "would_be_closed": 0, "gone": 0, "left_alone": 0, "failed": 0}
    ]
