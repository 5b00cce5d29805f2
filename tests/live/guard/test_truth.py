"""Counts against the truth: what `ss` lists after seconds of random opening, closing, resetting, killing.

LAYERGATE_TRUTH_S=600 runs ten minutes; LAYERGATE_TRUTH_SEED another sequence.
"""

from __future__ import annotations

import json
import os
import re
import subprocess
from collections import Counter
from collections.abc import Iterator

import pytest

from tests.live.guard.scene import Scene, scene
from tests.live.lab import LAYERGATE, inside

pytestmark = pytest.mark.live

SECONDS = float(os.environ.get("LAYERGATE_TRUTH_S", "10"))
SEED = int(os.environ.get("LAYERGATE_TRUTH_SEED", "1"))
POLICY = """
[[filter]]
name = "counted"
layer = "ALE_AUTH_RECV_ACCEPT"
action = "block"
when = { local_port = 8080 }
limit = { per = "remote_address", concurrent = 100000 }
monitor = true
"""
# Children die with all they hold; the rest is closed, reset, or held until the end.
RANDOM = f"""
import os, random, signal, struct
draw, end, held = random.Random({SEED}), time.monotonic() + {SECONDS}, []
def opened():
    for _ in range(20):
        one = socket.socket()
        one.settimeout(2)
        one.bind((f"10.79.20.{{draw.randrange(1, 21)}}", 0))
        try:
            one.connect(("10.78.0.1", 8080))
            return one
        except OSError:  # a port that a TIME_WAIT has, a queue that is full
            one.close()
    raise TimeoutError("the server does not answer any more")
while time.monotonic() < end:
    what = draw.random()
    if what < 0.5 or not held:
        held.append(opened())
    elif what < 0.75:
        held.pop(draw.randrange(len(held))).close()
    elif what < 0.95:
        one = held.pop(draw.randrange(len(held)))
        one.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
        one.close()
    else:
        child = os.fork()
        if not child:
            mine = [opened() for _ in range(5)]
            os.kill(os.getpid(), signal.SIGKILL)
        os.waitpid(child, 0)
    while len(held) > 400:
        held.pop(draw.randrange(len(held))).close()
    time.sleep(0.002)
print("attacking", flush=True)
pause()
"""


@pytest.fixture(scope="module")
def place(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Scene]:
    with scene("truth", tmp_path_factory.mktemp("truth")) as made, made.serving():
        yield made


def test_every_source_has_as_many_connections_as_ss_lists(place: Scene) -> None:
    with place.guarded(POLICY), place.attacked(RANDOM):
        listed = subprocess.run(
            inside(place.here, "ss", "-tnH", "state", "connected", "exclude", "time-wait", "sport", "=", ":8080"),
            capture_output=True, text=True, check=True,
        ).stdout  # fmt: skip
        told = subprocess.run(
            inside(place.here, LAYERGATE, "guard", "top", "--json", "--rows", "1000"),
            capture_output=True, text=True, check=True,
        ).stdout  # fmt: skip
    truth = Counter(re.findall(r"(10\.79\.20\.\d+)(?=\]?:\d+\s*$)", listed, re.MULTILINE))
    counted = {row["key"]: row["count"] for row in map(json.loads, told.splitlines())}
    assert truth
    assert counted == dict(truth)
