"""The kernel's limits and the reference's: the same attempts, drawn at random, come to the same end."""

from __future__ import annotations

import random
from collections.abc import Iterator
from ipaddress import ip_address

import pytest

from layergate.ale import Counter
from layergate.engine import classify, in_order
from layergate.model import Action, DataType, Indication, Value, layer_named
from layergate.policyfile import TableResolver, load_text
from tests.live.guard.scene import PORT, Scene, scene

pytestmark = pytest.mark.live

POLICY = """
[[filter]]
name = "exempt"
layer = "ALE_AUTH_RECV_ACCEPT"
action = "permit"
weight = 100
when = { remote_address = "10.79.3.9" }
""" + "".join(
    f"""
[[filter]]
name = "limit {number}"
layer = "ALE_AUTH_RECV_ACCEPT"
action = "block"
weight = {90 - number}
limit = {{ {limit} }}
"""
    for number, limit in enumerate(
        (
            'per = "remote_address", closed = 4, over = "1h"',
            'per = "remote_address", ports = 5, over = "1h"',
            'per = "remote_prefix", prefix_v4 = 24, new = 12, over = "1h"',
            'per = "remote_address+local_port", concurrent = 2',
            'per = "all", concurrent = 9, fair = "remote_address"',
        )
    )
)
SOURCES = [f"10.79.{net}.{host}" for net in (1, 2, 3) for host in (1, 2, 9)]
OPEN, CLOSED = PORT, (81, 82, 83, 84, 85, 86)
ATTEMPTS = 90
PLAYS = """
import socket
held, said = {{}}, []
for number, (what, source, port) in enumerate({steps}):
    if what == "close":
        if number - port in held:
            one = held.pop(number - port)
            one.shutdown(socket.SHUT_RDWR)
            one.close()
            time.sleep(0.02)
        continue
    one = socket.socket()
    one.settimeout(0.08)
    one.bind((source, 0))
    try:
        one.connect(("10.78.0.1", port))
        # The server has heard of it, too.
        one.sendall(b"?\\n")
        one.settimeout(2)
        assert one.recv(8) == b"ok\\n"
        held[number], end = one, "open"
    except ConnectionRefusedError:
        end = "closed"
    except TimeoutError:
        end = "nothing"
    if end != "open":
        one.close()
    said.append(end)
report(said)
"""


@pytest.fixture(scope="module")
def place(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Scene]:
    with scene("reference", tmp_path_factory.mktemp("reference")) as made:
        yield made


def drawn(seed: int) -> list[tuple[str, str, int]]:
    """Return ("try", source, port) and ("close", "", how many steps ago it was tried)."""
    dice = random.Random(f"limits {seed}")
    steps = []
    for number in range(ATTEMPTS):
        if number and dice.random() < 0.25:
            steps.append(("close", "", dice.randrange(1, number + 1)))
        else:
            port = OPEN if dice.random() < 0.6 else dice.choice(CLOSED)
            steps.append(("try", dice.choice(SOURCES), port))
    return steps


def expected(steps: list[tuple[str, str, int]]) -> list[str]:
    ordered = in_order(load_text(POLICY, file="limits.toml", resolver=TableResolver()).policy)
    counter, said = Counter(), []
    layer = layer_named("ALE_AUTH_RECV_ACCEPT_V4")
    assert layer is not None
    held = set()
    for number, (what, source, port) in enumerate(steps):
        if what == "close":
            if number - port in held:
                counter.closed(number - port)
                held.remove(number - port)
            continue
        values = {
            "IP_PROTOCOL": Value(DataType.UINT8, 6),
            "IP_REMOTE_ADDRESS": Value(DataType.UINT32, int(ip_address(source))),
            "IP_LOCAL_PORT": Value(DataType.UINT16, port),
        }
        asking = counter.asking(number, number / 10, nobody=port != OPEN)
        verdict = classify(ordered, Indication(layer, values), counts=asking)
        if verdict.action is Action.BLOCK:
            said.append("nothing")
        elif port == OPEN:
            asking.settle(verdict.action)
            counter.established(number)
            held.add(number)
            said.append("open")
        else:
            said.append("closed")
    return said


@pytest.mark.parametrize("seed", [1, 2, 3])
def test_attempts_end_as_the_reference_says(place: Scene, seed: int) -> None:
    steps = drawn(seed)
    wanted = expected(steps)
    assert {wanted.count(one) > 5 for one in ("open", "closed", "nothing")} == {True}
    with place.serving(), place.guarded(POLICY):
        assert place.run(PLAYS.format(steps=steps)) == [wanted]
