"""How the kernel answers who is past a limit: connections that are ended, connects that are refused."""

from __future__ import annotations

import errno
from collections.abc import Iterator

import pytest

from tests.live.guard.scene import Scene, scene
from tests.live.guard.test_limits import OPENS, policy
from tests.live.lab import run_in

pytestmark = pytest.mark.live


@pytest.fixture(scope="module")
def place(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Scene]:
    with scene("responses", tmp_path_factory.mktemp("responses")) as made, made.serving():
        yield made


def test_with_reset_the_connections_of_the_key_end_and_those_of_others_stay(place: Scene) -> None:
    with place.guarded(policy('per = "remote_address", concurrent = 3', 'response = "reset"')):
        report = place.run(f"""{OPENS}
def alive(held):
    count = 0
    for one in held:
        try:
            one.sendall(b"?\\n")
            count += one.recv(8) == b"ok\\n"
        except OSError:
            pass
    return count
other, held = opened(2, "10.79.1.2"), opened(3, "10.79.1.1")
before = alive(held)
past = len(opened(1, "10.79.1.1"))
time.sleep(0.5)
report(before, past, alive(held), alive(other), len(opened(3, "10.79.1.1")))
""")
    assert report == [3, 0, 0, 2, 3]


def test_a_connect_past_its_limit_is_refused(place: Scene) -> None:
    text = """
[[filter]]
name = "no more than 1"
layer = "ALE_AUTH_CONNECT"
action = "block"
limit = { per = "all", concurrent = 1 }
response = "refuse"
"""
    with place.guarded(text):
        report = run_in(place.here, place.group, """
            errors, held = [], []
            for _ in range(2):
                one = socket.socket()
                held.append(one)
                errors.append(one.connect_ex(("127.0.0.1", 8080)))
            report(errors)
        """)  # fmt: skip
    assert report == [[0, errno.ECONNREFUSED]]


def test_with_reset_an_application_past_its_limit_loses_its_connections(place: Scene) -> None:
    text = """
[[filter]]
name = "no more than 2"
layer = "ALE_AUTH_CONNECT"
action = "block"
limit = { per = "app", concurrent = 2 }
response = "reset"
"""
    with place.guarded(text):
        report = run_in(place.here, place.group, """
            held, errors = [], []
            for _ in range(3):
                one = socket.socket()
                held.append(one)
                errors.append(one.connect_ex(("127.0.0.1", 8080)))
            time.sleep(0.5)
            ended = 0
            for one in held[:2]:
                try:
                    one.sendall(b"?\\n")
                    one.recv(8)
                except OSError:
                    ended += 1
            report(errors, ended)
        """)  # fmt: skip
    assert report == [[0, 0, errno.EPERM], 2]
