"""What a source tries: closed ports, many ports, many remotes; what its connections do that is not normal."""

from __future__ import annotations

import errno
from collections.abc import Iterator

import pytest

from tests.live.guard.scene import Scene, scene
from tests.live.guard.test_limits import OPENS, policy
from tests.live.lab import run_in

pytestmark = pytest.mark.live

ANY = """
[[filter]]
name = "guard"
layer = "ALE_AUTH_RECV_ACCEPT"
action = "block"
limit = {{ {limit} }}
{beside}
"""
# What becomes of a connect from one address to each of some ports.
TRIES = """
import errno, socket, struct
def tried(source, *ports):
    found = []
    for port in ports:
        with socket.socket() as one:
            one.settimeout(0.3)
            one.bind((source, 0))
            try:
                found.append(errno.errorcode.get(one.connect_ex(("10.78.0.1", port)), "open"))
            except OSError:
                found.append("nothing")
    return ["nothing" if one == "EAGAIN" else "closed" if one == "ECONNREFUSED" else one for one in found]
"""


@pytest.fixture(scope="module")
def place(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Scene]:
    with scene("tried", tmp_path_factory.mktemp("tried")) as made, made.serving():
        yield made


def test_who_tries_closed_ports_gets_no_answer_any_more_and_is_banned_at_the_open_one(place: Scene) -> None:
    text = ANY.format(limit='per = "remote_address", closed = 3, over = "10s"', beside='ban = "1m"')
    with place.guarded(text) as guard:
        report = place.run(f"""{TRIES}
report(tried("10.79.1.1", 8080, 81, 82, 83, 8080, 84, 85, 8080), tried("10.79.1.2", 84, 8080))
""")
        told = guard.until("banned")
    assert report == [
        ["open", "closed", "closed", "closed", "open", "nothing", "nothing", "nothing"],
        ["closed", "open"],
    ]
    assert (told["key"], told["count"], told["limit"]) == ("10.79.1.1", 4, 3)


def test_different_ports_are_counted_open_or_closed_and_one_port_often_is_one(place: Scene) -> None:
    text = ANY.format(limit='per = "remote_address", ports = 3, over = "10s"', beside="")
    with place.guarded(text) as guard:
        report = place.run(f"""{TRIES}
report(tried("10.79.2.1", 8080, 8080, 81, 81, 82, 8080, 83, 8080), tried("10.79.2.2", *[8080] * 9))
""")
        told = guard.until("past")
    assert report == [["open", "open", "closed", "closed", "closed", "open", "nothing", "nothing"], ["open"] * 9]
    assert (told["key"], told["count"], told["limit"]) == ("10.79.2.1", 4, 3)


def test_what_was_tried_leaves_the_period(place: Scene) -> None:
    text = ANY.format(limit='per = "remote_address", ports = 2, over = "1s"', beside="")
    with place.guarded(text):
        report = place.run(f"""{TRIES}
first = tried("10.79.3.1", 81, 82, 83)
time.sleep(1.1)
report(first, tried("10.79.3.1", 84, 85, 86))
""")
    assert report == [["closed", "closed", "nothing"]] * 2


def test_a_heavier_permit_exempts_from_what_was_tried(place: Scene) -> None:
    text = """
[[filter]]
name = "ours"
layer = "ALE_AUTH_RECV_ACCEPT"
action = "permit"
weight = 10
when = { remote_address = "10.79.4.1" }

[[filter]]
name = "guard"
layer = "ALE_AUTH_RECV_ACCEPT"
action = "block"
weight = 5
limit = { per = "remote_address", closed = 1, over = "10s" }
"""
    with place.guarded(text):
        report = place.run(f'{TRIES}\nreport(tried("10.79.4.1", 81, 82, 83), tried("10.79.4.2", 81, 82, 83))')
    assert report == [["closed"] * 3, ["closed", "nothing", "nothing"]]


def test_a_host_that_tries_many_remotes_is_stopped(place: Scene) -> None:
    text = """
[[filter]]
name = "no more than 5 remotes a minute"
layer = "ALE_AUTH_CONNECT"
action = "block"
limit = { per = "app", remotes = 5, over = "1m" }
"""
    with place.guarded(text) as guard:
        report = run_in(place.here, place.group, """
            found = []
            for number in (1, 2, 3, 1, 4, 5, 2, 6, 7, 1):
                with socket.socket() as one:
                    one.settimeout(1)
                    found.append(one.connect_ex(("10.79.5.1", 9000 + number)))
            report(found)
        """)  # fmt: skip
        told = guard.until("past")
    refused, blocked = errno.ECONNREFUSED, errno.EPERM
    # What was tried last stays: the sixth is past it, and so is all that comes while six are remembered.
    assert report == [[refused] * 7 + [blocked] * 3]
    assert (told["count"], told["limit"]) == (6, 5)


def test_a_connection_whose_window_closes_again_and_again_is_ended_and_its_source_banned(place: Scene) -> None:
    text = policy('per = "remote_address", abnormal = 2, over = "10s"', 'ban = "1m"')
    with place.guarded(text) as guard:
        report = place.run(f"""{OPENS}
def talks(one):
    try:
        one.sendall(b"?\\n")
        return one.recv(8) == b"ok\\n"
    except OSError:
        return False
one = socket.socket()
one.bind(("10.79.6.1", 0))
one.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 1)
one.settimeout(2)
one.connect(("10.78.0.1", 8080))
calm = opened(1, "10.79.6.2")[0]
before = talks(one), talks(calm)
# Asks for more and more, and reads nothing: its window is closed, opened a little, closed again.
try:
    for _ in range(40):
        one.sendall(b"?\\n" * 2000)
        time.sleep(0.02)
        one.recv(4000)
except OSError:
    pass
time.sleep(0.2)
report(before, talks(one), talks(calm), len(opened(1, "10.79.6.1")), len(opened(1, "10.79.6.2")))
""")
        told = guard.until("banned")
    assert report == [[True, True], False, True, 0, 1]
    assert (told["key"], told["count"], told["limit"]) == ("10.79.6.1", 3, 2)


def test_who_resets_connection_after_connection_is_an_attacker(place: Scene) -> None:
    text = policy('per = "remote_address", abnormal = 0, connections = 4, over = "10s"', 'ban = "1m"')
    with place.guarded(text) as guard:
        report = place.run(f"""{OPENS}
import struct
def reset(source):
    for one in opened(1, source):
        one.sendall(b"?\\n")
        one.recv(8)
        one.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
        one.close()
        return True
    return False
report([reset("10.79.7.1") for _ in range(8)], [reset("10.79.7.2") for _ in range(3)], len(opened(1, "10.79.7.2")))
""")
        told = guard.until("banned")
    assert report == [[True] * 5 + [False] * 3, [True] * 3, 1]
    assert (told["key"], told["count"], told["limit"]) == ("10.79.7.1", 5, 4)


def test_a_syn_past_its_limit_is_refused_at_once_over_both_families(place: Scene) -> None:
    text = ANY.format(limit='per = "remote_address", concurrent = 1', beside='response = "refuse"')
    with place.guarded(text):
        report = run_in(place.here, place.group, """
            found = []
            for family, address in ((socket.AF_INET6, "::1"), (socket.AF_INET, "127.0.0.1")):
                with socket.create_server((address, 8081), family=family):
                    held = [socket.socket(family), socket.socket(family)]
                    for one in held:
                        one.settimeout(0.5)  # sooner than its SYN is sent again
                        found.append(one.connect_ex((address, 8081)))
            report(found)
        """)  # fmt: skip
    assert report == [[0, errno.ECONNREFUSED] * 2]


def test_who_is_refused_can_come_again_when_there_is_room(place: Scene) -> None:
    source = "10.79.8.1"
    with place.guarded(policy('per = "remote_address", concurrent = 2', 'response = "refuse"')):
        report = place.run(f"""{OPENS}{TRIES}
held = opened(2, "{source}")
began = time.monotonic()
past, took = tried("{source}", 8080), time.monotonic() - began
held.pop().close()
time.sleep(0.1)
report(past, took < 0.25, tried("10.79.8.2", 8080), len(opened(2, "{source}")))
""")
    assert report == [["closed"], True, ["open"], 1]


def test_connections_that_were_there_are_counted_though_they_are_silent(place: Scene) -> None:
    with (
        place.attacked(f"""{OPENS}
held = opened(3, "10.79.9.1")
print("attacking", flush=True)
time.sleep(60)
"""),
        place.guarded(policy('per = "remote_address", concurrent = 4')),
    ):
        assert place.run(f'{OPENS}\nreport(len(opened(3, "10.79.9.1")))') == [1]
