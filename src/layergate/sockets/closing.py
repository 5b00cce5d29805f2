"""Closing endpoints from outside (SOCK_DESTROY): the application's calls fail with ECONNABORTED, a TCP peer gets a RST.

- What is no connection is left alone unless it is asked for: listeners, sockets that are bound only. A listener that is
  closed fails its application's accept for good.
- A TIME_WAIT is over; closing it would only let its segments hit a newer connection (RFC 1337). It is never closed.
- A socket is named to the kernel by its ends and its cookie: one that took its place since the list is not touched.

Worked example: of (a connection, its TIME_WAIT predecessor, the listener) `plan(…)` closes the first, and says of the
others why not.
"""

from __future__ import annotations

import errno
import os
import socket
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass
from typing import Final

from layergate.kernel.sockdiag import Destroyer
from layergate.model import NotSupportedError
from layergate.sockets.endpoint import Endpoint
from layergate.sockets.namespaces import HERE, Place

_PROTOCOLS: Final = {"tcp": socket.IPPROTO_TCP, "udp": socket.IPPROTO_UDP}
GONE: Final = "it was gone by then"
_NO_CONNECTION: Final = frozenset({"LISTEN", "BOUND", "UNCONNECTED"})


@dataclass(frozen=True, slots=True)
class Planned:
    """An endpoint, and why it is left alone; None: it is closed."""

    endpoint: Endpoint
    why_not: str | None


@dataclass(frozen=True, slots=True)
class Closed:
    """What became of a planned endpoint: *is_closed*, and what the kernel said where it is not."""

    planned: Planned
    is_closed: bool
    why_not: str | None


def plan(
    endpoints: Iterable[Endpoint], *, with_listeners: bool = False, is_own: Callable[[Endpoint], bool] = lambda _: False
) -> list[Planned]:
    """Say of each of *endpoints* whether it is closed.

    Args:
        endpoints: the selection.
        with_listeners: also what is no connection.
        is_own: whether an endpoint is the login that the caller works over, which is kept.
    """
    return [Planned(one, _why_not(one, with_listeners=with_listeners, is_own=is_own)) for one in endpoints]


def _why_not(one: Endpoint, *, with_listeners: bool, is_own: Callable[[Endpoint], bool]) -> str | None:
    if one.state == "TIME_WAIT":
        return "it is over"
    if one.state in _NO_CONNECTION and not with_listeners:
        return "no connection (--listeners closes it too)"
    if is_own(one):
        return "the login that you work over (--login-too closes it too)"
    return None


def close(planned: Iterable[Planned], places: Iterable[Place] = (HERE,)) -> Iterator[Closed]:
    """Close what is planned, and tell of each endpoint what became of it. Raises NotSupportedError.

    Cost: 50 µs an endpoint.
    """
    rest = list(planned)
    for place in places:
        here = [one for one in rest if one.endpoint.namespace == place.name]
        if not here:
            continue
        namespace = place.open()
        try:
            with namespace.entered():
                destroyer = Destroyer()
            try:
                for one in here:
                    yield _closed(destroyer, one)
            finally:
                destroyer.close()
        finally:
            namespace.close()


def _closed(destroyer: Destroyer, planned: Planned) -> Closed:
    if planned.why_not is not None:
        return Closed(planned, is_closed=False, why_not=planned.why_not)
    one = planned.endpoint
    try:
        there = destroyer.destroy_socket(one.address_family, _PROTOCOLS[one.protocol], one.identity)
    except OSError as error:
        if error.errno in (errno.EPERM, errno.EACCES):
            raise NotSupportedError("SOCK_DESTROY", "not permitted", "run as root (CAP_NET_ADMIN)") from error
        if error.errno == errno.EOPNOTSUPP:
            raise NotSupportedError(
                "SOCK_DESTROY", "this kernel closes no sockets from outside", "one with CONFIG_INET_DIAG_DESTROY"
            ) from error
        return Closed(planned, is_closed=False, why_not=os.strerror(error.errno or 0))
    return Closed(planned, there, None if there else GONE)
