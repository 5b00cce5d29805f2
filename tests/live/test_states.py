"""`layergate states` and `rtt`: the times are those that a test measures itself, owners those that have the sockets."""

from __future__ import annotations

import json
import signal
import subprocess
import time
from collections.abc import Iterator
from contextlib import contextmanager

import pytest

from tests.live.lab import LAYERGATE, WITH_ENDS, Line, inside, namespace, parse, says, start_in
from tests.live.links import THERE, Link, link

pytestmark = pytest.mark.live

DELAY_MS = 30.0
TOLERANCE_MS = 2.0

# A connection whose every stay in a state is measured here: the least and the most that it can have been, ms. What
# begins and ends a stay is a call, which takes its own time, and more on a busy machine.
MEASURED = """
import json, socket, time
marks = {}
def at(name, call, *arguments):
    began = time.monotonic() * 1000
    result = call(*arguments)
    marks[name] = began, time.monotonic() * 1000
    return result
def between(first, last):
    return [marks[last][0] - marks[first][1], marks[last][1] - marks[first][0]]
listener = at("listen", socket.create_server, ("127.0.0.1", 8101))
client = at("connect", socket.create_connection, ("127.0.0.1", 8101))
server, _ = listener.accept()
time.sleep(0.2)
at("shut", client.shutdown, socket.SHUT_WR)
server.recv(1)
time.sleep(0.3)
at("close", server.close)
client.recv(1)
client.close()
time.sleep(0.1)
at("over", listener.close)
print(json.dumps({
    "ESTABLISHED": between("connect", "shut"),
    "CLOSE_WAIT": between("shut", "close"),
    "FIN_WAIT_2": between("shut", "close"),
    "LISTEN": between("listen", "over"),
}))
"""


@contextmanager
def told(netns: str, *words: str, verb: str = "states") -> Iterator[list[Line]]:
    """Run `layergate states WORDS --json`; the list is filled when the block is left."""
    lines: list[Line] = []
    watching = subprocess.Popen(
        inside(netns, LAYERGATE, verb, "--json", *words), stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True
    )
    try:
        assert watching.stderr is not None
        said = watching.stderr.readline()
        assert said == "layergate: watching\n", said
        yield lines
        time.sleep(0.3)
        watching.send_signal(signal.SIGINT)
        output, errors = watching.communicate(timeout=30)
        assert errors == ""
        lines += parse(output.splitlines())
    finally:
        watching.kill()
        watching.wait()


@contextmanager
def serving_in(netns: str, script: str) -> Iterator[subprocess.Popen[str]]:
    """Run *script* for the time of a block: it is killed in the end, if it has not ended."""
    with start_in(netns, None, script) as process:
        try:
            yield process
        finally:
            process.kill()


@pytest.fixture(scope="module")
def netns() -> Iterator[str]:
    with namespace("states") as name:
        yield name


@pytest.fixture(scope="module")
def slow() -> Iterator[Link]:
    with link("slow", DELAY_MS / 2) as made:
        yield made


def run(netns: str, script: str) -> Line:
    done = subprocess.run(inside(netns, *says(script)), capture_output=True, text=True, check=False, timeout=30,
                          env=WITH_ENDS)  # fmt: skip
    assert done.returncode == 0, done.stderr
    measured: Line = json.loads(done.stdout.splitlines()[-1])
    return measured


def test_the_times_in_states_are_those_that_the_ends_measure(netns: str) -> None:
    with told(netns, "port:8101") as lines:
        measured = run(netns, MEASURED)
    *changes, summary = lines
    server = {str(one["from"]): one for one in changes if str(one["local"]).endswith(":8101")}
    client = {str(one["from"]): one for one in changes if not str(one["local"]).endswith(":8101")}
    assert [str(one["to"]) for one in changes if one["cookie"] == client["SYN_SENT"]["cookie"]] == [
        "SYN_SENT", "ESTABLISHED", "FIN_WAIT_1", "FIN_WAIT_2", "CLOSED",
    ]  # fmt: skip
    for state, one in (
        ("ESTABLISHED", client), ("ESTABLISHED", server), ("CLOSE_WAIT", server), ("FIN_WAIT_2", client),
        ("LISTEN", server),
    ):  # fmt: skip
        least, most = measured[state]  # type: ignore[misc]
        spent = float(str(one[state]["spent_ms"]))
        if state == "FIN_WAIT_2":  # it begins with an acknowledgement that may be delayed
            spent += float(str(one["FIN_WAIT_1"]["spent_ms"]))
        assert least - TOLERANCE_MS <= spent <= most + TOLERANCE_MS, state
    assert {one["process"]["app"].rpartition("/")[2][:6] for one in changes} == {"python"}  # type: ignore[index]
    assert summary == {"kind": "summary", "transitions": summary["transitions"], "losses": 0}


def test_syn_sent_and_syn_received_take_a_round_trip(slow: Link) -> None:
    serving = serving_in(slow.there, "listener = socket.create_server(('', 8102)); print(1, flush=True);"
                                         "sys.stdin.read(1); listener.accept()")  # fmt: skip
    with serving as process, told(slow.here, "port:8102") as near, told(slow.there, "port:8102") as far:
        assert process.stdout is not None
        process.stdout.readline()
        time.sleep(0.1)
        measured = run(slow.here, f"""
        import json
        began = time.monotonic()
        end = socket.create_connection(('{THERE}', 8102))
        print(json.dumps({{"ms": (time.monotonic() - began) * 1000}}))
        """)  # fmt: skip
        process.communicate("x", timeout=10)
    (sent,) = [one for one in near if one.get("from") == "SYN_SENT"]
    (received,) = [one for one in far if one.get("from") == "SYN_RECEIVED"]
    assert sent["spent_ms"] == pytest.approx(measured["ms"], abs=TOLERANCE_MS)
    # Nobody measures this one; the relay is a process, which a busy machine lets wait.
    assert DELAY_MS <= received["spent_ms"] < DELAY_MS + 15  # type: ignore[operator]
    assert received["is_unaccepted"]


def test_the_process_is_the_one_that_accepts_and_not_the_one_that_listens(netns: str) -> None:
    script = """
    import json, os, socket, time
    listener = socket.create_server(("127.0.0.1", 8103))
    child = os.fork()
    if not child:
        accepted, _ = listener.accept()
        accepted.recv(1)
        os._exit(0)  # which closes it
    client = socket.create_connection(("127.0.0.1", 8103))
    time.sleep(0.1)
    client.shutdown(socket.SHUT_WR)
    os.waitpid(child, 0)
    print(json.dumps({"parent": os.getpid(), "child": child}))
    """
    with told(netns, "local_port:8103", "!state:listen") as lines:
        pids = run(netns, script)
    owners = {str(one["from"]): (one["process"]["pid"], one["is_unaccepted"]) for one in lines[:-1]}  # type: ignore[index]
    assert owners["SYN_RECEIVED"] == (pids["parent"], True)  # accepted by nobody yet
    assert owners["ESTABLISHED"] == (pids["child"], False)
    assert owners["CLOSE_WAIT"] == owners["LAST_ACK"] == (pids["child"], False)


def test_a_socket_that_is_older_than_the_watch_has_its_owner_and_no_time(netns: str) -> None:
    script = "ends = pair(); print(ends[1].getsockname()[1], flush=True); sys.stdin.read(1); ends[1].close()"
    with serving_in(netns, script) as process:
        assert process.stdout is not None
        port = int(process.stdout.readline())
        with told(netns, f"local_port:{port}") as lines:
            process.communicate("x", timeout=10)
    first = lines[0]
    assert (first["from"], first["spent_ms"]) == ("ESTABLISHED", None)
    assert first["process"]["pid"] > 0  # type: ignore[index]
    assert first["name"] == "python"


def test_histograms_of_states_are_kept_by_what_is_asked(netns: str) -> None:
    with told(netns, "--histogram", "--by", "port", "port:8104") as lines:
        run(netns, """
        listener = socket.create_server(("127.0.0.1", 8104))
        for _ in range(20):
            client = socket.create_connection(("127.0.0.1", 8104))
            server, _ = listener.accept()
            time.sleep(0.01)
            server.close(); client.close()
        print(1)
        """)  # fmt: skip
    found = {one["key"]: one for one in lines if one["kind"] == "histogram"}
    served = found["ESTABLISHED 8104"]
    assert (served["count"], served["of"], served["by"]) == (20, "state", "port")
    assert 10_000 <= served["mean_us"] < 15_000  # type: ignore[operator]
    assert sum(slot["count"] for slot in served["slots"]) == 20  # type: ignore[attr-defined]


@pytest.mark.parametrize("by, key", [("remote", THERE), ("process", "pid"), ("port", "port"), ("all", None)])
def test_round_trips_are_those_of_the_link(slow: Link, by: str, key: str | None) -> None:
    serving = serving_in(slow.there, """
    listener = socket.create_server(('', 8105)); print(1, flush=True)
    end, _ = listener.accept()
    while data := end.recv(100): end.send(data)
    """)  # fmt: skip
    with serving as process:
        assert process.stdout is not None
        process.stdout.readline()
        with told(slow.here, "--by", by, verb="rtt") as lines:
            ours = run(slow.here, f"""
            import json, os
            end = socket.create_connection(('{THERE}', 8105))
            end.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
            began = time.monotonic()
            for _ in range(20):
                end.send(b'x'); end.recv(1)
            mean = (time.monotonic() - began) / 20 * 1000
            print(json.dumps({{"pid": os.getpid(), "port": end.getsockname()[1], "mean_ms": mean}}))
            """)  # fmt: skip
    *histograms, summary = lines
    (one,) = histograms
    assert one["key"] == ours.get(str(key), key)
    assert one["count"] == summary["samples"]
    assert 20 <= one["count"] <= 23  # type: ignore[operator]
    assert one["mean_us"] == pytest.approx(ours["mean_ms"] * 1000, abs=TOLERANCE_MS * 1000)
    assert one["least_us"] >= DELAY_MS * 1000  # type: ignore[operator]
