"""How fast a transfer is over a lossy link, by buffer and loss: a table that is the same everywhere, and reviewed.

What is measured is the simulated time, so the table tells of TCP's behaviour, not of the machine's.
"""

from pathlib import Path

import pytest

from layergate.sim.host import Host
from layergate.sim.link import Link, LinkConfig
from layergate.sim.recording import Recording
from layergate.sim.world import World
from layergate.tcp import Config

GOLDEN = Path(__file__).parents[2] / "golden" / "throughput.txt"
BUFFERS = (4096, 16384, 65536, 262144)
LOSSES = (0.0, 0.001, 0.01, 0.05)
SEEDS = range(3)
BYTES = 2_000_000
RATE = 12_500_000  # 100 Mbit/s
DELAY_S = 0.01


def seconds(buffer_bytes: int, loss: float, seed: int) -> float:
    """Return how long BYTES take."""
    world, recording = World(seed), Recording(keeps=False)
    config = Config(send_buffer_bytes=buffer_bytes, receive_buffer_bytes=buffer_bytes)
    sender = Host(world, recording, "sender", config=config)
    receiver = Host(world, recording, "receiver", config=config)
    link = Link(world, recording, ("sender", "receiver"), LinkConfig(delay_s=DELAY_S, rate=RATE, loss=loss))
    sender.plug(link, 0, ["10.9.0.1/24"])
    receiver.plug(link, 1, ["10.9.0.2/24"])

    async def send() -> None:
        socket = sender.program("/usr/bin/sends").tcp()
        await socket.connect("10.9.0.2", 80)
        await socket.send(bytes(BYTES))
        socket.close()

    async def receive() -> float:
        listener = receiver.program("/usr/bin/receives").tcp()
        listener.bind("10.9.0.2", 80)
        listener.listen()
        accepted = await listener.accept()
        began, count = world.now, 0
        while data := await accepted.receive(1 << 20):
            count += len(data)
        assert count == BYTES
        return world.now - began

    received = world.spawn(receive())
    world.spawn(send())
    world.run(stop=lambda: received.done)
    assert received.result is not None
    return received.result


def table() -> str:
    """Return the table: kilobytes a second, the median of the seeds."""
    lines = [
        f"# KB/s of {BYTES // 1000} KB over 100 Mbit/s, 20 ms there and back; the median of {len(SEEDS)} seeds.",
        "# A row a buffer (bytes, of both ends), a column a share of packets that are lost.",
        "buffer    " + "".join(f"{loss:>9.1%}" for loss in LOSSES),
    ]
    for buffer_bytes in BUFFERS:
        medians = [sorted(seconds(buffer_bytes, loss, seed) for seed in SEEDS)[len(SEEDS) // 2] for loss in LOSSES]
        lines.append(f"{buffer_bytes:>7}   " + "".join(f"{BYTES / median / 1000:>9.0f}" for median in medians))
    return "\n".join(lines) + "\n"


def test_throughput_is_what_was_reviewed(request: pytest.FixtureRequest) -> None:
    """`make golden` writes the table anew: review what changed."""
    found = table()
    if request.config.getoption("--golden"):
        GOLDEN.write_text(found)
    assert found == GOLDEN.read_text()
