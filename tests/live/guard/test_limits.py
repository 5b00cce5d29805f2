"""Limits in the kernel: who is past one is kept out, everybody else is not, and what ends is counted no more."""

from __future__ import annotations

import json
import subprocess
import time
from collections.abc import Iterator

import pytest

from layergate.kernel import layout_generated as layout
from tests.live.guard.scene import BEHAVES, Scene, newest, scene
from tests.live.lab import LAYERGATE, inside, run_in

pytestmark = pytest.mark.live

ACCEPT = """
[[filter]]
name = "guard"
layer = "ALE_AUTH_RECV_ACCEPT"
action = "block"
when = {{ local_port = 8080 }}
limit = {{ {limit} }}
{beside}
"""
# Opens connections from one address, as many as come about at once; then closes so many, and tries again.
OPENS = """
import socket
def opened(count, source):
    held = []
    for _ in range(count):
        one = socket.socket()
        one.settimeout(0.4)
        one.bind((source, 0))
        try:
            one.connect(("10.78.0.1", 8080))
            held.append(one)
        except OSError:
            one.close()
    return held
"""


@pytest.fixture(scope="module")
def place(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Scene]:
    with scene("limits", tmp_path_factory.mktemp("limits")) as made, made.serving():
        yield made


def policy(limit: str, beside: str = "") -> str:
    return ACCEPT.format(limit=limit, beside=beside)


def test_the_connection_past_the_concurrent_limit_is_kept_out_until_one_closes(place: Scene) -> None:
    with place.guarded(policy('per = "remote_address", concurrent = 5')) as guard:
        report = place.run(f"""{OPENS}
held = opened(8, "10.79.1.1")
first = len(held)
other = len(opened(2, "10.79.1.2"))
for one in held[:2]:
    one.close()
time.sleep(0.3)
again = len(opened(4, "10.79.1.1"))
report(first, other, again)
""")
        told = guard.until("past")
    assert report == [5, 2, 2]
    assert (told["key"], told["count"], told["limit"]) == ("10.79.1.1", 6, 5)


def test_resets_count_as_ends_too(place: Scene) -> None:
    with place.guarded(policy('per = "remote_address", concurrent = 3')):
        report = place.run(f"""{OPENS}
import struct
counts = []
for _ in range(4):
    held = opened(3, "10.79.2.1")
    counts.append(len(held))
    for one in held:
        one.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
        one.close()
    time.sleep(0.1)
report(*counts)
""")
    assert report == [3, 3, 3, 3]


def test_new_connections_are_counted_over_a_period_that_slides(place: Scene) -> None:
    with place.guarded(policy('per = "remote_address", new = 4, over = "2s"')):
        report = place.run(f"""{OPENS}
def new(count):
    held = opened(count, "10.79.3.1")
    for one in held:
        one.close()
    return len(held)
began = time.monotonic()
first = new(2)
time.sleep(1.2 - (time.monotonic() - began))
second = new(3)
time.sleep(max(0, 2.4 - (time.monotonic() - began)))
third = new(3)
report(first, second, third)
""")
    assert report == [2, 2, 2]


def test_a_ban_begins_at_the_crossing_ends_on_time_and_doubles(place: Scene) -> None:
    limit = policy('per = "remote_address", concurrent = 2', 'ban = { for = "1s", up_to = "10s" }')
    with place.guarded(limit) as guard:
        assert place.run(f'{OPENS}\nreport(len(opened(3, "10.79.4.1")))') == [2]
        banned = guard.until("banned")
        assert banned["key"] == "10.79.4.1"
        assert place.run(f'{OPENS}\nreport(len(opened(1, "10.79.4.1")))') == [0]
        over = guard.until("ban over")
        assert place.run(f'{OPENS}\nreport(len(opened(3, "10.79.4.1")))') == [2]
        time.sleep(0.2)
        again = guard.limits("banned")[-1]
    assert banned["until"] - banned["time"] == pytest.approx(1.0, abs=0.01)  # type: ignore[operator]
    assert over["time"] == banned["until"]
    assert again["until"] - again["time"] == pytest.approx(2.0, abs=0.01)  # type: ignore[operator]


def test_a_ban_holds_from_within_ten_milliseconds_of_the_crossing_on_to_its_end(place: Scene) -> None:
    with place.guarded(policy('per = "remote_address", concurrent = 2', 'ban = "2s"')):
        begins, ends, gets_in = place.run(f"""{OPENS}
held = opened(2, "10.79.14.1")
begins = time.monotonic_ns()
with socket.socket() as one:
    one.setblocking(False)
    one.bind(("10.79.14.1", 0))
    one.connect_ex(("10.78.0.1", 8080))
    ends = time.monotonic_ns()
for one in held:
    one.close()
gets_in = []
for after in (0.01, 1.0, 1.95, 2.02):
    with socket.socket() as one:
        one.settimeout(0.04)
        one.bind(("10.79.14.1", 0))
        time.sleep(max(0, begins / 1e9 + after - time.monotonic()))
        gets_in.append(one.connect_ex(("10.78.0.1", 8080)) == 0)
report(begins, ends, gets_in)
""")  # type: ignore[misc]
        ((_, value),) = newest("lg_bans", layout.COUNT_KEY.size, layout.BAN.size)
    began, until, *_ = layout.BAN.unpack(value)
    assert begins <= began <= ends
    assert began - begins < 10_000_000
    assert until - began == 2_000_000_000
    assert gets_in == [False, False, False, True]


def test_a_monitor_keeps_nobody_out(place: Scene) -> None:
    with place.guarded(policy('per = "remote_address", concurrent = 2', "monitor = true")) as guard:
        assert place.run(f'{OPENS}\nreport(len(opened(5, "10.79.5.1")))') == [5]
        assert guard.until("past")["monitor"] is True


def test_a_prefix_counts_its_addresses_together(place: Scene) -> None:
    with place.guarded(policy('per = "remote_prefix", prefix_v4 = 24, concurrent = 3')):
        report = place.run(f"""{OPENS}
held = [one for last in range(1, 6) for one in opened(1, f"10.79.6.{{last}}")]
report(len(held), len(opened(1, "10.79.7.1")))
""")
    assert report == [3, 1]


def test_with_fair_shares_the_greedy_one_is_kept_out_and_others_come_in(place: Scene) -> None:
    with place.guarded(policy('per = "all", concurrent = 8, fair = "remote_address"')):
        report = place.run(f"""{OPENS}
greedy = opened(12, "10.79.8.1")
other = opened(3, "10.79.8.2")
report(len(greedy), len(other))
""")
    assert report == [8, 3]


def test_a_connect_past_its_limit_fails(place: Scene) -> None:
    # The server's group is the one that connects here.
    text = """
[[filter]]
name = "no more than 3"
layer = "ALE_AUTH_CONNECT"
action = "block"
limit = { per = "all", concurrent = 3 }
"""
    with place.guarded(text):
        report = run_in(place.here, place.group, """
            held, errors = [], []
            for _ in range(5):
                one = socket.socket()
                try:
                    one.connect(("127.0.0.1", 8080))
                    held.append(one)
                except OSError as error:
                    errors.append(error.errno)
            held.pop().close()
            time.sleep(0.2)
            one = socket.socket()
            one.connect(("127.0.0.1", 8080))
            report(len(held), errors)
        """)  # fmt: skip
    assert report == [2, [1, 1]]


def test_a_client_that_behaves_is_not_touched(place: Scene) -> None:
    limit = policy('per = "remote_address", concurrent = 20', 'ban = "1m"')
    with place.guarded(limit) as guard:
        report = place.run(BEHAVES.format(count=200))
    assert isinstance(report, list)
    assert report[:2] == [200, 0]
    assert not guard.limits()


def guard_says(place: Scene, *words: str) -> list[dict[str, object]]:
    done = subprocess.run(
        inside(place.here, LAYERGATE, "guard", *words), capture_output=True, text=True, check=False, timeout=30
    )
    assert done.returncode == 0, done.stderr
    return [json.loads(line) for line in done.stdout.splitlines()]


def test_guard_tells_who_is_near_and_adds_and_removes_bans(place: Scene) -> None:
    with place.guarded(policy('per = "remote_address", concurrent = 4', 'ban = "1m"')):
        with place.attacked(f'{OPENS}\nheld = opened(3, "10.79.10.1")\nprint("attacking", flush=True)\npause()'):
            (row,) = [row for row in guard_says(place, "top", "--json") if row["key"] == "10.79.10.1"]
            assert (row["count"], row["limit"], row["counted"]) == (3, 4, "concurrent")
        guard_says(place, "bans", "add", "10.79.10.2", "--for", "30s")
        assert place.run(f'{OPENS}\nreport(len(opened(1, "10.79.10.2")))') == [0]
        (ban,) = guard_says(place, "bans", "list", "--json")
        assert ban["key"] == "10.79.10.2"
        guard_says(place, "bans", "remove", "10.79.10.2")
        assert place.run(f'{OPENS}\nreport(len(opened(1, "10.79.10.2")))') == [1]


def test_a_ban_outlives_the_run_that_pinned_it(place: Scene) -> None:
    text = policy('per = "remote_address", concurrent = 2', 'ban = "1m"')
    try:
        with place.guarded(text, "--pin") as guard:
            assert place.run(f'{OPENS}\nreport(len(opened(3, "10.79.11.1")))') == [2]
            guard.until("banned")
        with place.guarded(text):
            time.sleep(1)  # the maps of the run before go a moment after their pins
            (ban,) = guard_says(place, "bans", "list", "--json")
            assert ban["key"] == "10.79.11.1"
            assert 40 < float(str(ban["seconds_left"])) < 60
            assert place.run(f'{OPENS}\nreport(len(opened(1, "10.79.11.1")))') == [0]
            assert place.run(f'{OPENS}\nreport(len(opened(1, "10.79.11.2")))') == [1]
    finally:
        subprocess.run([LAYERGATE, "detach", "--all"], check=True, capture_output=True)


def test_connections_older_than_the_run_count_once_they_move(place: Scene) -> None:
    with (
        place.attacked(f"""{OPENS}
held = opened(3, "10.79.12.1")
print("attacking", flush=True)
while True:
    for one in held:
        one.sendall(b"?\\n")
    time.sleep(0.2)
"""),
        place.guarded(policy('per = "remote_address", concurrent = 4')),
    ):
        time.sleep(0.5)
        assert place.run(f'{OPENS}\nreport(len(opened(3, "10.79.12.1")))') == [1]
