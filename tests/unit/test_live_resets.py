"""Which connections a limit with `response = "reset"` ends."""

from __future__ import annotations

from collections.abc import Iterator

from layergate.kernel import layout_generated as layout
from layergate.live.resets import found, value_of
from layergate.model import Key, Per

SERVER, CLIENT, OTHER = 0x0A4E0001, 0x0A4F0101, 0x0A4F0201
LIMIT = 5


class Flows:
    """Flows as the map has them."""

    def __init__(self, *flows: tuple[bytes, bytes]) -> None:
        self._flows = flows

    def items(self) -> Iterator[tuple[bytes, bytes]]:
        return iter(self._flows)


def flow(remote: int, port: int, *, cookie: int, counted: int) -> tuple[bytes, bytes]:
    # The server's address is the lower one, so the client, side 0, is the higher end.
    key = layout.FLOW_KEY.pack(1, 0, SERVER, 0, remote, port, 40000, 0)
    client = bytes(layout.SIDE.size)
    server = layout.SIDE.pack(cookie, 0, counted, 0, 77, 0, 0, 0, 0, 0, layout.SIDE_OURS, 0, 0)
    return key, layout.FLOW.pack(9, 0, 0, 0, 0, 0, client + server)


def cookies(key: Key, value: tuple[int, ...], *flows: tuple[bytes, bytes]) -> list[int]:
    return [cookie for cookie, _ in found(Flows(*flows), [(LIMIT, key, value)])]  # type: ignore[arg-type]


def test_connections_of_the_key_that_the_limit_counts_are_found() -> None:
    key = Key(Per.REMOTE_ADDRESS)
    value = value_of(key, (0, SERVER, 0, CLIENT, 8080, 1, False), 0, 0)
    flows = (
        flow(CLIENT, 8080, cookie=1, counted=1 << LIMIT),
        flow(CLIENT, 22, cookie=2, counted=0),
        flow(CLIENT, 8080, cookie=3, counted=1 << LIMIT + 1),
        flow(OTHER, 8080, cookie=4, counted=1 << LIMIT),
        flow(CLIENT, 8080, cookie=0, counted=1 << LIMIT),
    )
    assert cookies(key, value, *flows) == [1]
    assert cookies(Key(Per.ALL), (), *flows) == [1, 4]
    assert cookies(Key(Per.UNIT), (77,), *flows) == [1, 4]
    prefix = Key(Per.REMOTE_PREFIX, 16)
    assert cookies(prefix, value_of(prefix, (0, SERVER, 0, OTHER, 1, 1, False), 0, 0), *flows) == [1, 4]


def test_what_is_destroyed_is_named_from_its_own_side() -> None:
    ((_, reset),) = found(
        Flows(flow(CLIENT, 8080, cookie=1, counted=1 << LIMIT)),  # type: ignore[arg-type]
        [(LIMIT, Key(Per.ALL), ())],
    )
    fields = layout.RESET.unpack(reset)
    assert (fields[layout.RESET_LOCAL], fields[layout.RESET_LOCAL_PORT]) == ((0, SERVER), 8080)
    assert (fields[layout.RESET_REMOTE], fields[layout.RESET_REMOTE_PORT]) == ((0, CLIENT), 40000)
