"""Who is slow, who is empty: by what was received, and when."""

from __future__ import annotations

import pytest

from layergate.ale.living import Progress
from layergate.kernel import layout_generated as layout
from layergate.live.living import key_of
from layergate.live.resets import Connection
from layergate.model import Counted, Key, Limit, Per

ADDRESS = 0xCB007109  # 203.0.113.9
SLOW = Limit(Key(Per.REMOTE_ADDRESS), Counted.SLOW, over_ms=10_000, grace_ms=5000, bytes=500)
EMPTY = Limit(Key(Per.REMOTE_ADDRESS), Counted.EMPTY, grace_ms=5000)


def connection(*, v6: bool = False, opened_ns: int = 0) -> Connection:
    remote = (0x20010DB800000000, 9) if v6 else (0, ADDRESS)
    return Connection(7, 1, (0, 1, *remote, 443, 40000, v6), 1, 88, 99, opened_ns)


def past(limit: Limit, received: dict[int, int]) -> list[int]:
    """Return the seconds at which a connection is past *limit* that has *received* so many bytes by each second."""
    progress = Progress()
    return [at for at, total in received.items() if progress.is_past(limit, 0, total, at)]


def test_a_connection_is_empty_from_the_end_of_its_grace_until_something_comes() -> None:
    assert past(EMPTY, dict.fromkeys(range(4, 8), 0)) == [5, 6, 7]
    assert past(EMPTY, {4: 0, 5: 1, 6: 1}) == []


def test_a_connection_is_slow_when_a_whole_period_after_its_grace_brought_too_little() -> None:
    assert past(SLOW, {at: at for at in range(20)})[0] == 15
    assert past(SLOW, {at: 50 * at for at in range(40)}) == []
    # It pauses after 20 s: of the ten seconds up to 29 s the first brought 50 bytes, the others none.
    paused = past(SLOW, {at: 60 * min(at, 20) for at in range(40)})
    assert paused[0] == 22
    # What came before the grace was over does not help, and is not asked for.
    assert past(SLOW, dict.fromkeys(range(20), 10000))[0] == 15


@pytest.mark.parametrize(
    "key, version, address, ports",
    [
        (Key(Per.ALL), 4, (0, 0, 0, 0), (0, 0)),
        (Key(Per.REMOTE_ADDRESS), 4, (0, 0, 0, ADDRESS), (0, 0)),
        (Key(Per.REMOTE_PREFIX, 24, 64), 4, (0, 0, 0, ADDRESS & ~0xFF), (0, 0)),
        (Key(Per.REMOTE_PREFIX, 24, 64), 6, (0, 0, 0x20010DB800000000, 0), (0, 0)),
        (Key(Per.REMOTE_ADDRESS_LOCAL_PORT), 4, (0, 0, 0, ADDRESS), (443, 0)),
        (Key(Per.TUPLE), 4, (0, 1, 0, ADDRESS), (443, 40000)),
        (Key(Per.APP), 4, (0, 0, 88, 0), (0, 0)),
        (Key(Per.UNIT), 4, (0, 0, 99, 0), (0, 0)),
    ],
)
def test_a_key_is_that_of_the_programs(
    key: Key, version: int, address: tuple[int, ...], ports: tuple[int, int]
) -> None:
    assert key_of(3, key, connection(v6=version == 6)) == layout.COUNT_KEY.pack(*address, 3, *ports, 0, 0)
