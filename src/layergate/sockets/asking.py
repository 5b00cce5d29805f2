"""What the kernel is asked about sockets, and its answers as they come: nothing is made of them here.

A plain list is written from these answers (`plain`), endpoints are made of them (`table`). Owners are read while the
kernel lists the sockets, on another processor where there is one.
"""

from __future__ import annotations

import enum
import socket
import threading
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Final

from layergate.kernel import inetdiag, iterators
from layergate.sockets import owners as who
from layergate.sockets.namespaces import Place

Datagram = tuple[str, int, bytes]
"""A protocol, a family, and what the kernel told of its sockets."""

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
    families: tuple[int, ...] = FAMILIES
    states: int = inetdiag.ALL_STATES
    with_owners: bool = True


ALL: Final = Question()


def datagrams(question: Question, place: Place, torn: list[Place]) -> Iterator[Datagram]:
    """Yield what the kernel tells in *place*, which is added to *torn* where its tables changed meanwhile.

    Raises NotSupportedError.
    """
    namespace = place.open()
    try:
        for protocol in question.protocols:
            for family in question.families:
                extensions = question.detail.value
                dump = inetdiag.Dump(family, PROTOCOLS[protocol], states=question.states, extensions=extensions)
                with namespace.entered():
                    for datagram in dump:
                        yield protocol, family, datagram
                if dump.is_torn:
                    torn.append(place)
    finally:
        namespace.close()


class Asked(threading.Thread):
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
