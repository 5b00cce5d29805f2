"""An endpoint: one TCP or UDP socket (or what the kernel keeps instead of one) as the kernel's list tells it.

- It is the kernel's message, read lazily: making one costs a µs, and only what is asked for is decoded. A list of
  100,000 therefore costs about what its visible part costs.
- Local and remote as `layergate.model.lines` writes them; a v4-mapped IPv6 address is IPv4. What the kernel doesn't
  tell is None: a UDP socket has no counters, a TIME_WAIT has no owner.
- Age is not kept by the kernel. A connection that has sent or received nothing tells it all the same, for its last send
  or receipt stands at the handshake; of any other it is known to be no younger than its last event: `age_is_exact`.

Worked example: a server's side of a request that was answered: state ESTABLISHED, local 10.0.0.1:80, remote
10.0.0.9:40112, owners ((812, 9),), info.bytes_sent 5120, age_s 3.2, age_is_exact False.

Source: linux/inet_diag.h; net/ipv4/inet_diag.c, tcp_input.c (tcp_finish_connect), tcp_minisocks.c.
"""

from __future__ import annotations

import socket
import struct
from typing import Final, NamedTuple

from layergate.kernel import inetdiag
from layergate.sockets import states
from layergate.sockets.addresses import address_words
from layergate.sockets.owners import NOBODY, Facts, Holder, Owners
from layergate.sockets.tcp_info import Memory, TcpInfo, memory, tcp_info

_STORAGE_HEADER: Final = 4
_REQUEST_KEY: Final = struct.Struct("=16s16sHHI")

Head = tuple[int, int, int, int, int, int, int, int, bytes, bytes, int, int, int, int, int, int, int]


class Timer(NamedTuple):
    """The timer that runs on a socket: what for, in how many ms it fires, how often it has fired in vain."""

    kind: str
    expires_ms: int
    tries: int


class Endpoint:
    """One socket. *protocol*: "tcp", "udp". *namespace*: the name of its network namespace, None for the caller's."""

    __slots__ = (
        "_attributes",
        "_datagram",
        "_known_head",
        "_offset",
        "_owners",
        "filter",
        "filter_name",
        "namespace",
        "protocol",
    )

    def __init__(
        self,
        protocol: str,
        datagram: bytes,
        offset: int = 0,
        *,
        owners: Owners = NOBODY,
        namespace: str | None = None,
    ) -> None:
        self.protocol, self.namespace = protocol, namespace
        self._datagram, self._offset, self._owners = datagram, offset, owners
        self._known_head: Head | None = None
        self._attributes: dict[int, bytes] | None = None
        self.filter: int | None = None
        """The id of the filter that authorised it, where somebody looked it up."""
        self.filter_name: str | None = None

    @property
    def _head(self) -> Head:
        """The members of inetdiag.MESSAGE, cut when they are first asked for."""
        if self._known_head is None:
            self._known_head = inetdiag.MESSAGE.unpack_from(self._datagram, self._offset)
        return self._known_head

    def forget(self) -> None:
        """Let go of what was cut out of the message: half a kilobyte, which is made again when it is asked for."""
        self._known_head = self._attributes = None

    # --- who and where ----------------------------------------------------------------------------------------------

    @property
    def state(self) -> str:
        """RFC 9293's name of the state; CONNECTED or UNCONNECTED for UDP."""
        number = self._head[3]
        if number == states.CLOSED and self.protocol == "tcp" and self.has_no_remote:
            return "BOUND"  # a closed socket is listed only while it has a port
        names = states.TCP_STATES if self.protocol == "tcp" else states.UDP_STATES
        return names[number] if number < len(names) else names[0]

    @property
    def family(self) -> int:
        """4 or 6: the socket's. A v4-mapped address does not change it."""
        return 4 if self._head[2] == socket.AF_INET else 6

    @property
    def local_address(self) -> str:
        """The local address, IPv6 without brackets."""
        return address_words(self._head[8], self._head[2]).strip("[]")

    @property
    def remote_address(self) -> str | None:
        """The remote address, None where there is none."""
        return None if self.has_no_remote else address_words(self._head[9], self._head[2]).strip("[]")

    @property
    def local_port(self) -> int:
        """The local port."""
        return socket.ntohs(self._head[6])

    @property
    def remote_port(self) -> int:
        """The remote port, 0 where there is none."""
        return socket.ntohs(self._head[7])

    @property
    def has_no_remote(self) -> bool:
        """Whether it is connected to nobody."""
        return not self._head[7] and not any(self._head[9])

    @property
    def local(self) -> str:
        """Local address and port."""
        return f"{address_words(self._head[8], self._head[2])}:{self.local_port}"

    @property
    def remote(self) -> str | None:
        """Remote address and port, None where there is none."""
        return None if self.has_no_remote else f"{address_words(self._head[9], self._head[2])}:{self.remote_port}"

    @property
    def interface(self) -> int:
        """The interface that the socket is bound to; 0: any."""
        return self._head[10]

    @property
    def cookie(self) -> int:
        """The kernel's number of the socket, never given twice while the machine runs."""
        return self._head[11]

    @property
    def inode(self) -> int:
        """The socket's inode; 0 where no process has it: not accepted yet, left behind, TIME_WAIT, a request."""
        return self._head[16]

    @property
    def user(self) -> int:
        """The user that made it."""
        return self._head[15]

    @property
    def holders(self) -> tuple[Holder, ...]:
        """The file descriptors that are this socket: several where it was inherited, passed on or duplicated."""
        return self._owners.holders(self._head[16])

    @property
    def process(self) -> Facts | None:
        """The process that has it; of several the one with the highest number, which mostly is the one at work."""
        return self._owners.process_of(self._head[16])

    @property
    def cgroup(self) -> int | None:
        """The id of the control group in which it was made."""
        data = self.attributes.get(inetdiag.CGROUP_ID)
        return int.from_bytes(data, "little") if data else None

    @property
    def identity(self) -> bytes:
        """The struct inet_diag_sockid by which the kernel finds it again, whatever its state."""
        start = self._offset + 20
        return self._datagram[start : start + 48]

    @property
    def address_family(self) -> int:
        """AF_INET or AF_INET6."""
        return self._head[2]

    @property
    def key(self) -> tuple[object, ...]:
        """What tells it from all others there are now, and stays when a TIME_WAIT takes the socket's place."""
        head = self._head
        if self.protocol == "tcp" and not self.has_no_remote:
            return (self.namespace, "tcp", head[8], head[9], head[6], head[7], head[10])
        return (self.namespace, self.protocol, head[11])

    # --- how it fares -----------------------------------------------------------------------------------------------

    @property
    def receive_queue(self) -> int:
        """Bytes that wait for the application; of a listener, connections that wait for accept."""
        return self._head[13]

    @property
    def send_queue(self) -> int:
        """Bytes that the peer hasn't acknowledged; of a listener, how many connections may wait (its backlog)."""
        return self._head[14]

    @property
    def timer(self) -> Timer | None:
        """The timer that runs."""
        kind = states.TIMERS[self._head[4]] if self._head[4] < len(states.TIMERS) else f"timer {self._head[4]}"
        return Timer(kind, self._head[12], self._head[5]) if kind else None

    @property
    def attributes(self) -> dict[int, bytes]:
        """The attributes that came with it, by number."""
        if self._attributes is None:
            start = self._offset + inetdiag.MESSAGE.size
            self._attributes = inetdiag.attributes(self._datagram, start, self._offset + self._head[0])
        return self._attributes

    @property
    def info(self) -> TcpInfo | None:
        """TCP's own figures; None for UDP, TIME_WAIT, requests, and where they were not asked for."""
        data = self.attributes.get(inetdiag.INFO)
        return tcp_info(data) if data and self.protocol == "tcp" else None

    @property
    def memory(self) -> Memory | None:
        """What the socket holds."""
        data = self.attributes.get(inetdiag.SKMEMINFO)
        return memory(data) if data else None

    @property
    def congestion(self) -> str | None:
        """The name of the congestion control."""
        data = self.attributes.get(inetdiag.CONG)
        return data.rstrip(b"\0").decode("ascii", "replace") if data else None

    @property
    def is_v6_only(self) -> bool:
        """Whether an IPv6 listener refuses IPv4."""
        return bool(self.attributes.get(inetdiag.SKV6ONLY, b"\0")[0])

    @property
    def shut(self) -> tuple[bool, bool]:
        """Whether receiving and sending are shut down."""
        bits = self.attributes.get(inetdiag.SHUTDOWN, b"\0")[0]
        return bool(bits & 1), bool(bits & 2)

    @property
    def idle_s(self) -> float | None:
        """Seconds since the last data went either way; None where nobody counts."""
        info = self.info
        if info is None or self.state in ("LISTEN", "SYN_SENT", "CLOSED", "BOUND"):
            return None
        return min(info.last_data_sent_ms, info.last_data_received_ms) / 1000

    @property
    def age_s(self) -> float | None:
        """Seconds since the handshake, at least; see `age_is_exact`."""
        info = self.info
        if info is None or self.state in ("LISTEN", "SYN_SENT", "CLOSED", "BOUND"):
            return None
        times = [info.last_data_sent_ms] if not info.data_segments_out else []
        times += [info.last_data_received_ms] if not info.data_segments_in else []
        return max(times or (info.last_data_sent_ms, info.last_data_received_ms)) / 1000

    @property
    def age_is_exact(self) -> bool:
        """Whether `age_s` is the age, and not the least that it can be."""
        info = self.info
        return info is not None and not (info.data_segments_out and info.data_segments_in)
