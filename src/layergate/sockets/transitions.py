"""A socket changes its state: what the kernel's event tells, as a value.

- It answers to the filter words as an endpoint does; its `state` is the new one, and `leaving` is the same change seen
  from the old one.
- `spent_s` is the time in the old state; None where the socket is older than we. SYN_RECEIVED of an accepted socket is
  from our SYN-ACK to its ACK.
- The process is the one that has the socket (kernel/bpf/states.bpf.c says how); while nobody has accepted it yet, the
  listener's: `is_unaccepted`.

Worked example: ESTABLISHED → CLOSE_WAIT after 3.2 s, of nginx[812], local 10.0.0.1:80, remote 10.0.0.9:40112.
"""

from __future__ import annotations

import os
import socket
from functools import lru_cache
from typing import Final

from layergate.kernel import sockets_layout_generated as layout
from layergate.kernel.ring import Record
from layergate.sockets.addresses import address_words
from layergate.sockets.owners import Facts, Holder
from layergate.sockets.states import TCP_STATES

_NS_PER_S: Final = 1e9
_US_PER_MS: Final = 1e3
_FAMILIES: Final = {4: socket.AF_INET, 6: socket.AF_INET6}
_ANY: Final = bytes(16)
_PATHS_MAX: Final = 65536


@lru_cache(maxsize=_PATHS_MAX)
def _app(pid: int, name: str) -> str | None:
    """Return the executable of a process, looked up when its first event is told: gone by then, None."""
    del name  # a number that is given again has another name, mostly
    try:
        return os.readlink(f"/proc/{pid}/exe")  # noqa: PTH115 (text in, text out)
    except OSError:
        return None


class Transition:
    """One change of state. *began_ns*: when time starts, by CLOCK_MONOTONIC."""

    __slots__ = ("_leaving", "_record", "time")

    # What filter words ask of an endpoint, and an event doesn't tell.
    protocol = "tcp"
    namespace = None
    info = None
    age_s = None
    idle_s = None
    receive_queue = 0
    send_queue = 0

    def __init__(self, record: Record, began_ns: int, *, leaving: bool = False) -> None:
        self._record, self._leaving = record, leaving
        self.time = (record[layout.TRANSITION_TIME] - began_ns) / _NS_PER_S

    @property
    def leaving(self) -> Transition:
        """The same change, whose `state` is the old one."""
        other = Transition(self._record, 0, leaving=True)
        other.time = self.time
        return other

    @property
    def state(self) -> str:
        """The new state; of `leaving` the old one."""
        return self.was if self._leaving else self.to

    @property
    def was(self) -> str:
        """The old state."""
        return _state(self._record[layout.TRANSITION_FROM])

    @property
    def to(self) -> str:
        """The new state."""
        return _state(self._record[layout.TRANSITION_TO])

    @property
    def spent_s(self) -> float | None:
        """Seconds in the old state."""
        known = self._record[layout.TRANSITION_BITS] & layout.SPENT_KNOWN
        return self._record[layout.TRANSITION_SPENT] / _NS_PER_S if known else None

    @property
    def is_unaccepted(self) -> bool:
        """Whether nobody has accepted it yet: the process is its listener's."""
        return bool(self._record[layout.TRANSITION_BITS] & layout.OWNER_INHERITED)

    @property
    def process(self) -> Facts | None:
        """The process that has the socket."""
        pid = self._record[layout.TRANSITION_PID]
        if not pid:
            return None
        return Facts(pid, self.name, _app(pid, self.name), self.user, 0)

    @property
    def name(self) -> str:
        """The command name of the process."""
        return _name(self._record[layout.TRANSITION_COMM])

    @property
    def pid(self) -> int:
        """The process's number; 0: nobody's, or not known."""
        return self._record[layout.TRANSITION_PID]

    @property
    def holders(self) -> tuple[Holder, ...]:
        """The process, as the holder of an unknown descriptor."""
        return (Holder(self.pid, -1),) if self.pid else ()

    @property
    def user(self) -> int:
        """The user that made the socket."""
        return self._record[layout.TRANSITION_USER]

    @property
    def family(self) -> int:
        """4 or 6."""
        return self._record[layout.TRANSITION_FAMILY]

    @property
    def cookie(self) -> int:
        """The socket's number."""
        return self._record[layout.TRANSITION_COOKIE]

    @property
    def rtt_ms(self) -> float | None:
        """The smoothed round-trip time, None before the first."""
        return self._record[layout.TRANSITION_RTT] / _US_PER_MS or None

    @property
    def local_port(self) -> int:
        """The local port."""
        return self._record[layout.TRANSITION_LOCAL_PORT]

    @property
    def remote_port(self) -> int:
        """The remote port, 0 where there is none."""
        return self._record[layout.TRANSITION_REMOTE_PORT]

    @property
    def has_no_remote(self) -> bool:
        """Whether it is connected to nobody."""
        return not self.remote_port and self._record[layout.TRANSITION_REMOTE] == _ANY  # type: ignore[comparison-overlap]

    @property
    def local_address(self) -> str:
        """The local address."""
        return self._address(layout.TRANSITION_LOCAL).strip("[]")

    @property
    def remote_address(self) -> str | None:
        """The remote address, None where there is none."""
        return None if self.has_no_remote else self._address(layout.TRANSITION_REMOTE).strip("[]")

    @property
    def local(self) -> str:
        """Local address and port."""
        return f"{self._address(layout.TRANSITION_LOCAL)}:{self.local_port}"

    @property
    def remote(self) -> str | None:
        """Remote address and port, None where there is none."""
        return None if self.has_no_remote else f"{self._address(layout.TRANSITION_REMOTE)}:{self.remote_port}"

    def _address(self, place: int) -> str:
        return address_words(self._record[place], _FAMILIES[self.family])


def _state(number: int) -> str:
    return TCP_STATES[number] if number < len(TCP_STATES) else TCP_STATES[0]


@lru_cache(maxsize=_PATHS_MAX)
def _name(data: bytes) -> str:
    return os.fsdecode(data.split(b"\0", 1)[0])


def transition_line(one: Transition) -> dict[str, object]:
    """Return *one* as a JSON line of kind `transition`."""
    process, spent = one.process, one.spent_s
    return {
        "kind": "transition",
        "time": round(one.time, 6),
        "protocol": "tcp",
        "from": one.was,
        "to": one.to,
        "spent_ms": None if spent is None else round(spent * 1000, 3),
        "local": one.local,
        "remote": one.remote,
        "process": None
        if process is None
        else {"pid": process.pid, "app": process.app, "user": process.user, "unit": None},
        "name": process.name if process else None,
        "is_unaccepted": one.is_unaccepted,
        "rtt_ms": one.rtt_ms,
        "cookie": one.cookie,
    }
