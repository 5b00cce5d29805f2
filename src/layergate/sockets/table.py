"""The table: every endpoint of one network namespace, or of all, joined with who holds it.

What is asked of the kernel is what will be looked at (`Detail`): a plain list needs no struct tcp_info, and is had in
half the time. Owners are read while the kernel lists the sockets, on another processor where there is one.

Worked example: `read(Detail.FULL, namespaces=(HERE,))` gives (endpoints, owners) of the caller's namespace.
"""

from __future__ import annotations

import enum
import socket
import threading
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, field
from typing import Final

from layergate.kernel import inetdiag, iterators
from layergate.kernel.netns import Namespace
from layergate.sockets import owners as who
from layergate.sockets import states
from layergate.sockets.endpoint import Endpoint, Head
from layergate.sockets.namespaces import HERE, Place

TCP, UDP = socket.IPPROTO_TCP, socket.IPPROTO_UDP
FAMILIES: Final = (socket.AF_INET, socket.AF_INET6)
PROTOCOLS: Final = {"tcp": TCP, "udp": UDP}


class Detail(enum.Enum):
    """What the kernel is asked to tell of each socket, as extensions."""

    PLAIN = ()
    FULL = (inetdiag.INFO, inetdiag.SKMEMINFO, inetdiag.CONG, inetdiag.TOS)


@dataclass(frozen=True, slots=True)
class Question:
    """What to list. *states*: a bit a state of the kernel's. *with_owners*: False leaves owners out."""

    detail: Detail = Detail.FULL
    protocols: tuple[str, ...] = ("tcp", "udp")
    states: int = inetdiag.ALL_STATES
    with_owners: bool = True


@dataclass(slots=True)
class Table:
    """What was listed. *is_torn*: the kernel's tables changed so much that sockets may be missing or told twice."""

    endpoints: list[Endpoint] = field(default_factory=list)
    owners: who.Owners = who.NOBODY
    is_torn: bool = False


def read(
    question: Question = Question(),
    places: Sequence[Place] = (HERE,),
    programs: iterators.Owners | None = None,
) -> Table:
    """List the endpoints of *places*. Raises NotSupportedError.

    Cost: 2 µs an endpoint (a plain list), 3 µs with full detail, and half of that on another processor for owners.
    """
    table = Table()
    asking = _Owners(programs) if question.with_owners else None
    if asking is not None:
        asking.start()
    try:
        listed = [(place, list(datagrams(question, place, table))) for place in places]
    finally:
        if asking is not None:
            asking.join()
    if asking is not None:
        table.owners = asking.result()
    for place, found in listed:
        table.endpoints += _endpoints(found, table.owners, place.name)
    return table


def read_messages(question: Question, place: Place = HERE) -> tuple[list[tuple[str, int, bytes]], who.Owners, bool]:
    """List *place* without making endpoints: (protocol, family, datagram) each, owners, whether it is torn.

    Raises NotSupportedError.
    """
    table = Table()
    asking = _Owners(None)
    asking.start()
    try:
        found = list(datagrams(question, place, table))
    finally:
        asking.join()
    return found, asking.result(), table.is_torn


def datagrams(question: Question, place: Place, table: Table) -> Iterator[tuple[str, int, bytes]]:
    """Yield what the kernel tells in *place*: (protocol, family, datagram)."""
    namespace = place.open()
    try:
        for protocol in question.protocols:
            for family in FAMILIES:
                extensions = question.detail.value
                dump = inetdiag.Dump(family, PROTOCOLS[protocol], states=question.states, extensions=extensions)
                with namespace.entered():
                    for datagram in dump:
                        yield protocol, family, datagram
                table.is_torn |= dump.is_torn
    finally:
        namespace.close()


def _endpoints(
    found: Iterable[tuple[str, int, bytes]], owners: who.Owners, namespace: str | None
) -> Iterator[Endpoint]:
    for protocol, _, datagram in found:
        for offset in inetdiag.messages(datagram):
            yield Endpoint(protocol, datagram, offset, owners=owners, namespace=namespace)


class _Owners(threading.Thread):
    """Reads the owners beside the list: most of it is the kernel's work, and Python lets go meanwhile."""

    def __init__(self, programs: iterators.Owners | None) -> None:
        super().__init__(daemon=True)
        self._programs = programs
        self._found: who.Owners | BaseException | None = None

    def run(self) -> None:
        """Read them."""
        try:
            self._found = who.read(self._programs)
        except BaseException as error:  # noqa: BLE001 (told where it is joined)
            self._found = error

    def result(self) -> who.Owners:
        """Return them. Raises what went wrong."""
        if isinstance(self._found, BaseException):
            raise self._found
        assert self._found is not None
        return self._found


def states_asked(names: Iterable[str]) -> int:
    """Return the bits of the states called *names*, of TCP and UDP."""
    bits = 0
    for number in range(1, len(states.TCP_STATES)):
        if {states.TCP_STATES[number], states.UDP_STATES[number]} & set(names):
            bits |= 1 << number
    return bits


__all__ = ["FAMILIES", "HERE", "Detail", "Head", "Namespace", "Place", "Question", "Table", "read", "states_asked"]
