"""Scans: of this host's ports, and by this host of others (a worm); who behaves is served meanwhile."""

from __future__ import annotations

import json
from ast import literal_eval
from collections.abc import Iterator

import pytest

from tests.live.guard.attacks import SCAN, WORM
from tests.live.guard.scene import PORT, Scene, scene
from tests.live.guard.test_attacks import behaves
from tests.live.lab import start_in

pytestmark = pytest.mark.live

PORTS = 20
REMOTES = 30
GUARD = f"""
[[filter]]
name = "many ports"
layer = "ALE_AUTH_RECV_ACCEPT"
action = "block"
limit = {{ per = "remote_address", ports = {PORTS}, over = "1m" }}
ban = "1m"

[[filter]]
name = "many remotes"
layer = "ALE_AUTH_CONNECT"
action = "block"
limit = {{ per = "unit", remotes = {REMOTES}, over = "1m" }}
"""


@pytest.fixture(scope="module")
def place(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Scene]:
    with scene("scans", tmp_path_factory.mktemp("scans")) as made, made.serving():
        yield made


def test_a_scan_of_ports_gets_no_answers_past_the_limit_and_the_client_is_served(place: Scene) -> None:
    def answers(process: object) -> list[int]:
        stdout = process.stdout  # type: ignore[attr-defined]
        return literal_eval(stdout.readline())  # type: ignore[no-any-return]

    _, _, quiet = behaves(place, 100)
    with place.attacked(SCAN) as process:
        bare = answers(process)
    with place.guarded(GUARD) as guard, place.attacked(SCAN) as process:
        guard.until("banned")
        served, failed, median = behaves(place, 200)
        guarded = answers(process)
        assert len(guard.limits("banned")) == 4
    assert len(bare) == 4
    assert min(bare) > 100 * PORTS  # without a guard nearly every port answers
    assert guarded == [PORTS] * 4
    assert (served >= 198, failed <= 2) == (True, True)
    assert median <= 1.5 * quiet + 0.001, f"quiet {quiet * 1e3:.2f} ms; {median * 1e3:.2f} ms"
    assert PORT  # the one that is open, and that the client uses


def test_a_worm_on_this_host_gets_no_further_than_its_limit_and_the_client_is_served(place: Scene) -> None:
    def spread(guarded: bool) -> tuple[int, int, tuple[int, int, float]]:  # noqa: FBT001 (two cases of one thing)
        with start_in(place.here, place.group, WORM) as process:
            assert process.stdout is not None
            assert process.stdout.readline() == "attacking\n"
            found = behaves(place, 200 if guarded else 4)
            begun, stopped = json.loads(process.stdout.readline())
        return begun, stopped, found

    _, _, quiet = behaves(place, 100)
    begun, stopped, _ = spread(guarded=False)
    assert (begun > 2000, stopped) == (True, 0)
    with place.guarded(GUARD) as guard:
        begun, stopped, (served, failed, median) = spread(guarded=True)
        guard.until("past")
    assert begun == REMOTES
    assert stopped > 2000
    assert (served >= 198, failed <= 2) == (True, True)
    assert median <= 1.5 * quiet + 0.001, f"quiet {quiet * 1e3:.2f} ms; {median * 1e3:.2f} ms"
