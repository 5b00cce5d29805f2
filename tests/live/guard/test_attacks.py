"""A server under attack: without a guard the client that behaves fails; with it, it is served as on a quiet host."""

from __future__ import annotations

import subprocess
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.live.guard.attacks import CONNECT_FLOOD, SYN_FLOOD
from tests.live.guard.scene import BEHAVES, PORT, Scene, scene
from tests.live.lab import inside, nft

pytestmark = pytest.mark.live

# Of a /16 no more handshakes than a quarter of the backlog; of a /24 no more connections than a browser has.
GUARD = f"""
[[filter]]
name = "half-open"
layer = "ALE_AUTH_RECV_ACCEPT"
action = "block"
when = {{ local_port = {PORT} }}
limit = {{ per = "remote_prefix", prefix_v4 = 16, half_open = 32 }}

[[filter]]
name = "at once"
layer = "ALE_AUTH_RECV_ACCEPT"
action = "block"
when = {{ local_port = {PORT} }}
limit = {{ per = "remote_prefix", prefix_v4 = 24, concurrent = 6 }}
ban = "1m"
"""
NO_RST = """
table inet lg {
    chain out {
        type filter hook output priority 0;
        ip saddr 10.79.0.0/16 tcp flags & rst == rst drop
    }
}
"""
# As many connections as it takes at once, and no more: what a server with a pool of workers is.
SERVE_FEW = """
import socket, threading
room = threading.Semaphore(100)
listener = socket.create_server(("0.0.0.0", 8080), backlog=128)
def serve(one):
    with one, room:
        one.settimeout(30)
        try:
            while one.recv(64):
                one.sendall(b"ok\\n")
        except OSError:
            pass
print("ready", flush=True)
while True:
    room.acquire(); room.release()
    one, _ = listener.accept()
    threading.Thread(target=serve, args=(one,), daemon=True).start()
"""


@pytest.fixture(scope="module")
def place(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Scene]:
    directory: Path = tmp_path_factory.mktemp("attacks")
    with scene("attacks", directory) as made:
        # Cookies would answer the flood, and who was there before is preferred: here the guard has to help.
        subprocess.run(
            inside(
                made.here,
                "sysctl",
                "-qw",
                "net.ipv4.tcp_syncookies=0",
                "net.ipv4.tcp_max_syn_backlog=128",
                "net.ipv4.tcp_no_metrics_save=1",
            ),
            check=True,
        )
        nft(made.there, NO_RST)
        yield made


def behaves(place: Scene, count: int) -> tuple[int, int, float]:
    served, failed, median = place.run(BEHAVES.format(count=count))  # type: ignore[misc]
    return served, failed, median if median is not None else float("inf")


@pytest.mark.parametrize("attack, serve", [(SYN_FLOOD, None), (CONNECT_FLOOD, SERVE_FEW)], ids=["SYNs", "connections"])
def test_the_client_is_served_under_a_flood(place: Scene, attack: str, serve: str | None) -> None:
    with place.serving(128, serve):
        _, _, quiet = behaves(place, 100)
    with place.serving(128, serve), place.attacked(attack):
        bare_served, bare_failed, _ = behaves(place, 6)
    assert bare_failed > bare_served, "the attack is none"
    with place.serving(128, serve), place.guarded(GUARD) as guard, place.attacked(attack):
        guard.until("past" if serve is None else "banned")
        served, failed, median = behaves(place, 200)
    assert failed <= 2
    assert served >= 198
    measured = f"quiet {quiet * 1e3:.2f} ms; bare {bare_served} of {bare_served + bare_failed}; {median * 1e3:.2f} ms"
    # Two processors serve the server, the client and the attacker.
    assert median <= 1.5 * quiet + 0.001, measured
