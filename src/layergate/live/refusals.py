"""SYNs that a limit keeps out and that are to be refused: each is answered with a RST, as a closed port answers.

The programs drop the SYN and tell of it, 1,000 a second at most; the answer is sent here, by a raw socket of the
namespace that the SYN came to. Worked example: 203.0.113.9:40000 sends a SYN with sequence number 7 to 10.0.0.1:443;
what goes back is from 10.0.0.1:443, RST and ACK, acknowledging 8: its connect fails with ECONNREFUSED at once.

Without a daemon (--pin) such a SYN is dropped. Source: RFC 9293, 3.10.7.1 (state CLOSED).
"""

from __future__ import annotations

import ipaddress
import socket
from contextlib import ExitStack, suppress

from layergate.kernel import layout_generated as layout
from layergate.kernel.netns import Namespace
from layergate.kernel.ring import Record
from layergate.live.resets import ends_of
from layergate.tcp import Flag, Segment, compose_segment, reset_for
from layergate.tcp.ip import TCP, compose_packet, make_packet


class Refusals:
    """The raw sockets of one namespace; opened when the first is needed, closed by `close`."""

    def __init__(self, namespace: Namespace) -> None:
        self._namespace = namespace
        self._leave = ExitStack()
        self._sockets: dict[int, socket.socket] = {}

    def refuse(self, record: Record) -> None:
        """Answer the SYN that *record* (of kind REFUSED) tells of. What can't be sent is dropped, as the SYN was."""
        packet, remote = answer(record)
        with suppress(OSError):
            self._socket(remote.version).sendto(packet, (str(remote), 0))

    def _socket(self, version: int) -> socket.socket:
        if version not in self._sockets:
            family = socket.AF_INET if version == 4 else socket.AF_INET6
            with self._namespace.entered():  # IPPROTO_RAW: headers are ours
                self._sockets[version] = socket.socket(family, socket.SOCK_RAW, socket.IPPROTO_RAW)
            self._leave.callback(self._sockets[version].close)
        return self._sockets[version]

    def close(self) -> None:
        """Close the sockets."""
        self._leave.close()


def answer(record: Record) -> tuple[bytes, ipaddress.IPv4Address | ipaddress.IPv6Address]:
    """Return the RST, a whole IP packet, and whom it goes to."""
    *halves, local_port, remote_port, v6 = ends_of(record)
    local, remote = (
        ipaddress.IPv6Address(high << 64 | low) if v6 else ipaddress.IPv4Address(low & 0xFFFFFFFF)
        for high, low in (halves[:2], halves[2:])
    )
    syn = Segment(
        source_port=remote_port,
        destination_port=local_port,
        sequence=record[layout.RECORD_SEQ],
        acknowledgment=0,
        flags=Flag.SYN | Flag(record[layout.RECORD_TCP_FLAGS]) & Flag.FIN,
        window=0,
        payload=bytes(record[layout.RECORD_LENGTH]),
    )
    reset = reset_for(syn)
    assert reset is not None  # of a SYN there always is one
    return compose_packet(make_packet(local, remote, TCP, compose_segment(reset, local, remote))), remote
