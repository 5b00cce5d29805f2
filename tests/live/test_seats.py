"""Owners of sockets, in seats and in storage (kernel/bpf/seats.h): both say the same, and seats are left.

Everything is tried with free seats, and with all seats taken: then every socket has storage.
"""

from __future__ import annotations

import json
import os
import subprocess
import time
from array import array
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from layergate.kernel import layout_generated as layout
from layergate.kernel.cgroups import Cgroup
from layergate.kernel.maps import Map, loaded, update_batch
from layergate.live.record import read_all
from tests.live.lab import control_group, namespace, run_in, start_in
from tests.live.test_run import running
from tests.live.test_settled import FAMILIES, ask, put, standing, text_of

pytestmark = pytest.mark.live

NOBODYS = 1 << 62
SETTLE_S = 5.0
# Ways in which a connection, or a try, comes to its end; then the process waits.
WAYS = """
def wait(): time.sleep(0.05)
listener = listen(ADDRESS, 8081)
def both():
    client = connect(ADDRESS, 8081); return client, listener.accept()[0]
for first, second in ((0, 1), (1, 0)):
    ends = both(); ends[first].close(); wait(); ends[second].close()
for first in (0, 1):
    ends = both(); reset(ends[first]); wait(); ends[1 - first].close()
client, server = both(); server.shutdown(socket.SHUT_WR); client.close(); server.close()
# Never accepted, and its client goes first; then the listener's end takes those that wait with it.
connect(ADDRESS, 8081).close(); wait()
second = listen(ADDRESS, 8082)
waiting = connect(ADDRESS, 8082); second.close(); wait(); waiting.close()
listener.accept()[0].close()
# Nobody listens, on a socket that is used again: to connect, and to listen.
for again in (lambda one: one.connect((ADDRESS, 8081)), lambda one: one.listen()):
    one = socket.socket(listener.family)
    try: one.connect((ADDRESS, 8083))
    except ConnectionRefusedError: pass
    again(one); one.close()
listener.accept()[0].close()
# Accepted, disconnected and used again, as a client.
client, server = both(); client.close(); wait()
try:
    server.connect((ADDRESS, 8081)); listener.accept()[0].close()
except OSError: pass
server.close()
listener.close(); report(os.getpid())
"""
LIMITED = """
[[filter]]
name = "three at a time"
layer = "ALE_AUTH_RECV_ACCEPT"
action = "block"
when = { local_port = 8080 }
limit = { concurrent = 3, per = "remote_address" }
"""


in_both_places = pytest.mark.parametrize("are_full", [False, True], ids=["seats", "storage"])


@pytest.fixture(scope="module")
def netns() -> Iterator[str]:
    with namespace("seats") as name:
        yield name


@pytest.fixture
def group() -> Iterator[Cgroup]:
    with control_group("seats") as made:
        yield made


@contextmanager
def seats(run: subprocess.Popen[str]) -> Iterator[Map]:
    """The seats of the programs of *run*."""
    children = Path(f"/proc/{run.pid}/task/{run.pid}/children").read_text(encoding="ascii").split()
    own = {run.pid, *map(int, children)}
    numbers = {number for record in read_all() if record.pid in own for number in record.owners}
    found = list(loaded("lg_seats", 4, layout.SEAT.size))
    try:
        (one,) = (seat for seat in found if seat.id in numbers)
        yield one
    finally:
        for seat in found:
            os.close(seat.fd)


def taken(places: Map) -> list[int]:
    """Return the cookies of those who have seats."""
    cookies = (layout.OWNER.unpack_from(value)[layout.OWNER_COOKIE] for _, value in places.items())
    return [cookie for cookie in cookies if cookie]


def fill(places: Map) -> None:
    """Have all seats taken, by nobody that there is."""
    one = NOBODYS.to_bytes(8, "little").ljust(layout.SEAT.size, b"\0")
    update_batch(places.fd, array("I", range(layout.SEATS)).tobytes(), one * layout.SEATS, layout.SEATS)


@pytest.mark.parametrize("address", ["127.0.0.1", "::1"])
def test_all_seats_are_left(netns: str, group: Cgroup, tmp_path: Path, address: str) -> None:
    policy = tmp_path / "policy.toml"
    # Without a filter no flow is kept; with one at a transport layer every connection has one.
    for text in ("", text_of("INBOUND_TRANSPORT", "when = { remote_port = 1 }")):
        policy.write_text(text, encoding="utf-8")
        with running(netns, policy, group) as run, seats(run) as places:
            run_in(netns, group, WAYS.replace("ADDRESS", repr(address)))
            end = time.monotonic() + SETTLE_S
            while taken(places) and time.monotonic() < end:
                time.sleep(0.1)
            assert taken(places) == []


@in_both_places
@pytest.mark.parametrize("family", FAMILIES)
def test_an_owner_is_the_same_wherever_it_is_kept(
    netns: str,
    group: Cgroup,
    tmp_path: Path,
    family: int,
    are_full: bool,  # noqa: FBT001
) -> None:
    """Both ends' owners are told with the connection's end, which the policy asks about only later."""
    policy = tmp_path / "policy.toml"
    policy.write_text("", encoding="utf-8")
    with running(netns, policy, group, "--json") as run, seats(run) as places:
        if are_full:
            fill(places)
        script = (
            "listener = listen(ADDRESS, 8080)\n"
            "pid = os.fork()\n"
            "client = connect(ADDRESS, 8080) if not pid else listener.accept()[0]\n"
            "os.write(1, b'%d\\n' % os.getpid())\n"
            "sys.stdin.readline() if pid else os.read(0, 1)\n"
        ).replace("ADDRESS", repr("127.0.0.1" if family == 4 else "::1"))
        with start_in(netns, group, script) as process:
            assert process.stdout is not None
            pids = {int(process.stdout.readline()) for _ in range(2)}
            assert len(taken(places)) == (layout.SEATS if are_full else 2)
            put(run, policy, text_of("ALE_ENDPOINT_CLOSURE", ""), 2)
            process.kill()
            subprocess.run(["kill", *(str(pid) for pid in pids if pid != process.pid)], check=False)
        time.sleep(0.5)
        run.terminate()
        output, _ = run.communicate(timeout=SETTLE_S)
    told = [line for line in map(json.loads, output.splitlines()) if line["kind"] == "indication"]
    owners = {line["host"]: line["process"]["pid"] for line in told if line["remote"]}
    assert set(owners.values()) == pids
    assert owners["server"] == process.pid


@in_both_places
@pytest.mark.parametrize("family", FAMILIES)
def test_connections_that_were_there_are_counted_by_a_new_limit(
    netns: str,
    group: Cgroup,
    tmp_path: Path,
    family: int,
    are_full: bool,  # noqa: FBT001
) -> None:
    """They are silent, and no flow was kept of them."""
    policy = tmp_path / "policy.toml"
    policy.write_text("", encoding="utf-8")
    script = """
    print("ready", flush=True)
    listener = listen(ADDRESS, 8080)
    ends = [(connect(ADDRESS, 8080), listener.accept()[0]) for _ in range(2)]
    for line in sys.stdin:
        try:
            ends.append((connect(ADDRESS, 8080, seconds=0.5), 0)); print("in", flush=True)
        except OSError:
            print("out", flush=True)
    """.replace("ADDRESS", repr("127.0.0.1" if family == 4 else "::1"))
    with running(netns, policy, group) as run, seats(run) as places:
        if are_full:
            fill(places)
        with start_in(netns, group, script) as process:
            assert process.stdout is not None
            process.stdout.readline()
            end = time.monotonic() + SETTLE_S
            while not are_full and len(taken(places)) < 4 and time.monotonic() < end:
                time.sleep(0.05)
            time.sleep(0.3)
            put(run, policy, LIMITED, 2)
            assert [ask(process) for _ in range(3)] == ["in", "out", "out"]
            process.kill()


def test_the_interface_of_a_seated_connection_is_known_when_it_is_judged_again(
    netns: str, group: Cgroup, tmp_path: Path
) -> None:
    """A filter on what loopback has says the same of a connection from before as of one from now."""
    policy = tmp_path / "policy.toml"
    with standing(netns, group, policy, "") as (run, ends):
        assert ask(ends) == "passes"
        limit = LIMITED.replace("concurrent = 3", "concurrent = 100").replace("8080", "9")
        flags = text_of("ALE_AUTH_RECV_ACCEPT", "when = { local_port = 8080, flags = { any = ['loopback'] } }")
        put(run, policy, limit + flags, 2)
        assert ask(ends) != "passes"


def test_a_child_of_each_listener_has_its_own(netns: str, group: Cgroup, tmp_path: Path) -> None:
    """Two listeners, of two processes, at whom segments arrive in turn."""
    policy = tmp_path / "policy.toml"
    policy.write_text("", encoding="utf-8")
    server = (
        "one = listen('127.0.0.1', PORT); ends = []\nprint('ready', flush=True)\nwhile 1: ends.append(one.accept()[0])"
    )
    with running(netns, policy, group) as run, seats(run) as places:
        servers = [start_in(netns, group, server.replace("PORT", str(port))) for port in (8084, 8085)]
        try:
            for one in servers:
                assert one.stdout is not None
                one.stdout.readline()
            clients = "ends = [connect('127.0.0.1', port) for _ in range(50) for port in (8084, 8085)]\n"
            with start_in(netns, group, clients + "print('ready', flush=True); until_end()") as client:
                assert client.stdout is not None
                client.stdout.readline()
                time.sleep(0.2)
                owners = [layout.OWNER.unpack_from(value) for _, value in places.items()]
                client.kill()
            found: dict[tuple[int, bool], int] = {}
            for owner in owners:
                if owner[layout.OWNER_COOKIE]:
                    key = owner[layout.OWNER_PID], bool(owner[layout.OWNER_BITS] & layout.OWNER_CHILD)
                    found[key] = found.get(key, 0) + 1
            assert found == {(servers[0].pid, True): 50, (servers[1].pid, True): 50, (client.pid, False): 100}
        finally:
            for one in servers:
                one.kill()
                one.communicate()


CHURN = """
listener = listen("127.0.0.1", 8080)
end, count = time.monotonic() + 4, 0
while time.monotonic() < end:
    client = connect("127.0.0.1", 8080); server = listener.accept()[0]
    reset(client); server.close(); count += 1
report(count)
"""


def counted() -> dict[int, list[tuple[bytes, bytes]]]:
    """Return, by the number of its map, the keys with a connection that each run has, and their counts."""
    found = {}
    for one in loaded("lg_live", layout.COUNT_KEY.size, layout.COUNT.size):
        found[one.id] = list(one.items())
        os.close(one.fd)
    return found


def test_what_ends_while_connections_are_adopted_is_counted_no_more(netns: str, group: Cgroup, tmp_path: Path) -> None:
    """Policies with and without a limit take turns, while connections come and go."""
    policy = tmp_path / "policy.toml"
    policy.write_text("", encoding="utf-8")
    others = counted().keys()
    version = 1
    with running(netns, policy, group) as run, start_in(netns, group, CHURN) as process:
        while process.poll() is None:
            version += 1
            put(run, policy, LIMITED.replace("concurrent = 3", "concurrent = 5000") if version % 2 else "", version)
        put(run, policy, LIMITED.replace("concurrent = 3", "concurrent = 5000"), version + 1)
        assert process.stdout is not None
        assert json.loads(process.stdout.read())[0] > 1000
        assert version > 10
        (own,) = counted().keys() - others
        end = time.monotonic() + SETTLE_S
        while counted()[own] and time.monotonic() < end:
            time.sleep(0.2)
        assert counted()[own] == []
