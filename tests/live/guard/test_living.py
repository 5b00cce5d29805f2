"""Limits on what a connection does: it sends nothing, or too little; and the attacks that they are for."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from tests.live.guard.attacks import EMPTY, SLOW_READER, SLOWLORIS
from tests.live.guard.scene import Scene, scene
from tests.live.guard.test_attacks import SERVE_FEW, behaves
from tests.live.guard.test_limits import policy

pytestmark = pytest.mark.live

EMPTY_LIMIT = 'per = "remote_address", empty = { grace = "1s" }'
SLOW_LIMIT = 'per = "remote_address", slow = { bytes = 20, over = "2s", grace = "1s" }'
OPEN = """
def opened(source, timeout=2):
    return socket.create_connection(("10.78.0.1", 8080), timeout=timeout, source_address=(source, 0))
def outcome(one):
    one.settimeout(5)
    began = time.monotonic()
    try:
        one.recv(64)
        return "closed", time.monotonic() - began
    except TimeoutError:
        return "open", time.monotonic() - began
    except OSError as error:
        return type(error).__name__, time.monotonic() - began
"""


@pytest.fixture(scope="module")
def place(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Scene]:
    with scene("living", tmp_path_factory.mktemp("living")) as made:
        yield made


def test_a_connection_that_sends_nothing_is_ended_when_its_grace_is_over(place: Scene) -> None:
    with place.serving(), place.guarded(policy(EMPTY_LIMIT)) as guard:
        report = place.run(f"""{OPEN}
silent, talks = opened("10.79.1.1"), opened("10.79.1.2")
talks.sendall(b"?\\n"); talks.recv(8)
report(outcome(silent), outcome(talks)[0])
""")
        told = guard.until("past")
    ((how, after), other) = report  # type: ignore[misc]
    assert how == "ConnectionResetError"
    assert 0.8 < after < 3.5
    assert other == "open"
    assert (told["key"], told["count"]) == ("10.79.1.1", 0)


def test_a_slow_connection_is_ended_and_its_source_banned_and_a_quick_one_stays(place: Scene) -> None:
    with place.serving(), place.guarded(policy(SLOW_LIMIT, 'ban = "30s"')) as guard:
        report = place.run(f"""{OPEN}
slow, quick = opened("10.79.2.1"), opened("10.79.2.2")
end, ended = time.monotonic() + 10, None
while time.monotonic() < end and ended is None:
    quick.sendall(b"0123456789\\n"); quick.recv(64)
    try:
        slow.sendall(b"x")
    except OSError as error:
        ended = type(error).__name__
    time.sleep(0.5)
try:
    opened("10.79.2.1", timeout=0.4); again = "let in"
except OSError as error:
    again = type(error).__name__
quick.sendall(b"?\\n")
report(ended, again, quick.recv(8) == b"ok\\n")
""")
        told = guard.until("banned")
    assert report[0] in ("ConnectionResetError", "BrokenPipeError")  # type: ignore[index]
    assert report[1:] == ["TimeoutError", True]  # type: ignore[index]
    assert told["key"] == "10.79.2.1"
    assert 0 < told["count"] <= 20  # type: ignore[operator]


def test_with_monitor_it_is_told_once_and_nobody_is_touched(place: Scene) -> None:
    with place.serving(), place.guarded(policy(EMPTY_LIMIT, "monitor = true")) as guard:
        report = place.run(f"""{OPEN}
report(outcome(opened("10.79.3.1"))[0])
""")
    assert report == ["open"]
    assert [line["monitor"] for line in guard.limits("past")] == [True]


GUARD = """
[[filter]]
name = "says nothing"
layer = "ALE_AUTH_RECV_ACCEPT"
action = "block"
when = { local_port = 8080 }
limit = { per = "remote_prefix", prefix_v4 = 24, empty = { grace = "1s" } }
ban = "1m"

[[filter]]
name = "says too little"
layer = "ALE_AUTH_RECV_ACCEPT"
action = "block"
when = { local_port = 8080 }
limit = { per = "remote_prefix", prefix_v4 = 24, slow = { bytes = 64, over = "2s", grace = "1s" } }
ban = "1m"
"""


@pytest.mark.parametrize("attack", [EMPTY, SLOWLORIS, SLOW_READER], ids=["empty", "slowloris", "slow reader"])
def test_the_client_is_served_while_connections_are_held(place: Scene, attack: str) -> None:
    """A server with room for 100, and an attacker who takes all of it and keeps it."""
    with place.serving(128, SERVE_FEW):
        _, _, quiet = behaves(place, 100)
    with place.serving(128, SERVE_FEW), place.attacked(attack):
        bare_served, bare_failed, _ = behaves(place, 4)
    assert bare_failed > bare_served, "the attack is none"
    with place.serving(128, SERVE_FEW), place.guarded(GUARD) as guard, place.attacked(attack):
        guard.until("banned", 12)
        place.run("time.sleep(3)")  # until all that were let in have been judged
        served, failed, median = behaves(place, 200)
    assert failed <= 2
    assert served >= 198
    assert median <= 1.5 * quiet + 0.001, f"quiet {quiet * 1e3:.2f} ms; {median * 1e3:.2f} ms"
