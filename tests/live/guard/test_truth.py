"""Counts against the truth, after seconds of random opening, closing, resetting, killing: what `ss` lists, and what a
capture taken beside it has.

LAYERGATE_TRUTH_S=600 runs ten minutes; LAYERGATE_TRUTH_SEED another sequence.
"""

from __future__ import annotations

import json
import os
import re
import subprocess
import time
from collections import Counter
from collections.abc import Iterator

import pytest

from tests.live.guard.scene import Scene, scene
from tests.live.lab import LAYERGATE, inside, start_in

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

[[filter]]
name = "new"
layer = "ALE_AUTH_RECV_ACCEPT"
action = "block"
when = { local_port = 8080 }
limit = { per = "remote_address", new = 100000, over = "8s" }
monitor = true
"""
PART_NS = 8_000_000_000 // 64
# Every SYN to the server, when it came (ns, CLOCK_MONOTONIC); until a line is written to it.
CAPTURE = """
import select, sys, threading
from layergate.capture.sniffing import Sniffer
over, seen = threading.Event(), {}
threading.Thread(target=lambda: (sys.stdin.readline(), over.set()), daemon=True).start()
with Sniffer() as sniffer:
    print("looking", flush=True)
    ahead = time.time_ns() - time.monotonic_ns()
    while not over.is_set():
        for one in sniffer.packets(0.5):
            if one is None or one.packet[0] != 0x45:
                continue
            if one.packet[33] & 0x12 == 0x02 and one.packet[22:24] == b"\\x1f\\x90":
                seen.setdefault(one.packet[12:16] + one.packet[20:22] + one.packet[24:28], int(one.time * 1e9) - ahead)
    report(sniffer.lost, [(socket.inet_ntoa(key[:4]), when) for key, when in seen.items()])
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


def test_every_source_has_as_many_connections_as_ss_lists_and_as_many_new_ones_as_were_captured(place: Scene) -> None:
    with place.guarded(POLICY), start_in(place.here, None, CAPTURE) as capture:
        assert capture.stdout is not None
        assert capture.stdout.readline() == "looking\n"
        with place.attacked(RANDOM):
            listed = subprocess.run(
                inside(place.here, "ss", "-tnH", "state", "connected", "exclude", "time-wait", "sport", "=", ":8080"),
                capture_output=True, text=True, check=True,
            ).stdout  # fmt: skip
            before = time.monotonic_ns()
            told = subprocess.run(
                inside(place.here, LAYERGATE, "guard", "top", "--json", "--rows", "1000"),
                capture_output=True, text=True, check=True,
            ).stdout  # fmt: skip
            after = time.monotonic_ns()
        output, errors = capture.communicate("\n", timeout=60)
        assert capture.returncode == 0, errors
    truth = Counter(re.findall(r"(10\.79\.20\.\d+)(?=\]?:\d+\s*$)", listed, re.MULTILINE))
    rows = [json.loads(line) for line in told.splitlines()]
    assert truth
    assert {row["key"]: row["count"] for row in rows if row["counted"] == "concurrent"} == dict(truth)
    lost, seen = json.loads(output)
    assert not lost
    counted = {row["key"]: row["count"] for row in rows if row["counted"] == "new"}
    # The period is that of when the counts were read, which is known within some parts.
    parts = range(before // PART_NS, after // PART_NS + 1)
    assert counted in [
        dict(Counter(source for source, when in seen if 0 <= part - when // PART_NS < 64)) for part in parts
    ]
    assert sum(counted.values()) > 100
