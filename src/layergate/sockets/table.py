"""The table: every endpoint of one network namespace, or of all, joined with who holds it.

What is asked of the kernel is what will be looked at (`Detail`): a plain list needs no struct tcp_info, and is had in
half the time. Owners are read while the kernel lists the sockets, on another processor where there is one.

Worked example: `read(Detail.FULL, namespaces=(HERE,))` gives (endpoints, owners) of the caller's namespace.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, field

from layergate.kernel import inetdiag, iterators
from layergate.kernel.netns import Namespace
from layergate.sockets import owners as who
from layergate.sockets import states
from layergate.sockets.asking import ALL, FAMILIES, Asked, Datagram, Detail, Question, datagrams
from layergate.sockets.endpoint import Endpoint, Head
from layergate.sockets.namespaces import HERE, Place


@dataclass(slots=True)
class Table:
    """What was listed. *is_torn*: the kernel's tables changed so much that sockets may be missing or told twice."""

    endpoints: list[Endpoint] = field(default_factory=list)
    owners: who.Owners = who.NOBODY
    is_torn: bool = False


def read(
    question: Question = ALL,
    places: Sequence[Place] = (HERE,),
    programs: iterators.Owners | None = None,
) -> Table:
    """List the endpoints of *places*. Raises NotSupportedError.

    Cost: 2 µs an endpoint (a plain list), 3 µs with full detail, and half of that on another processor for owners.
    """
    table = Table()
    torn: list[Place] = []
    asking = Asked(programs) if question.with_owners else None
    if asking is not None:
        asking.start()
    try:
        listed = [(place, list(datagrams(question, place, torn))) for place in places]
    finally:
        if asking is not None:
            asking.join()
    table.is_torn = bool(torn)
    if asking is not None:
        table.owners = asking.result()
    for place, found in listed:
        table.endpoints += _endpoints(found, table.owners, place.name)
    return table


def _endpoints(found: Iterable[Datagram], owners: who.Owners, namespace: str | None) -> Iterator[Endpoint]:
    for protocol, _, datagram in found:
        for offset in inetdiag.messages(datagram):
            yield Endpoint(protocol, datagram, offset, owners=owners, namespace=namespace)


def states_asked(names: Iterable[str]) -> int:
    """Return the bits of the states called *names*, of TCP and UDP."""
    bits = 0
    for number in range(1, len(states.TCP_STATES)):
        if {states.TCP_STATES[number], states.UDP_STATES[number]} & set(names):
            bits |= 1 << number
    return bits


__all__ = ["FAMILIES", "HERE", "Detail", "Head", "Namespace", "Place", "Question", "Table", "read", "states_asked"]
