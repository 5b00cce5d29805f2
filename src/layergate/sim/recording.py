"""What a run shows: every indication in order, every packet on a wire, every call's outcome, and whose flow is whose.

One `Recording` a world, shared by its hosts, as one kernel's ring is by all that happens on a machine: so a flow has
one number at both its ends. Who opened a flow is its client; that end's host tells it (`opened`), or a SYN of somebody
who is no host here.

- Whose a bind is, a client's or a server's, shows later: it stands where it happened, and is given its role then.
- What nobody asks for is not kept: without `keeps` only the counts grow, however long a run is.

Source: docs, "Outputs that scripts rely on".
"""

from __future__ import annotations

from collections import Counter
from dataclasses import dataclass, field, replace

from layergate.model import Decided
from layergate.path import Host as Role
from layergate.tcp import End


@dataclass(frozen=True, slots=True)
class Indicated:
    """An indication, as *host* decided it; the host's name, its role in the flow is in the indication."""

    host: str
    decided: Decided


@dataclass(frozen=True, slots=True)
class Carried:
    """A packet that *sender* put on the wire to *receiver* at *time*; *arrives*: when, None where it is lost.

    *why*: what became of it, where that is out of the ordinary.
    """

    time: float
    sender: str
    receiver: str
    packet: bytes
    arrives: float | None
    why: str = ""


@dataclass(frozen=True, slots=True)
class Called:
    """A call of a process at *host* that has ended: *error* is the name of its errno, None where it went well."""

    time: float
    host: str
    call: str
    result: str = ""
    error: str | None = None


@dataclass(frozen=True, slots=True)
class Noted:
    """Something that happened to the world, in words."""

    time: float
    text: str


Entry = Indicated | Carried | Called | Noted


@dataclass(slots=True)
class Recording:
    """What a run showed. *keeps*: whether entries are kept, or only counted."""

    keeps: bool = True
    entries: list[Entry] = field(default_factory=list)
    counts: Counter[str] = field(default_factory=Counter)
    flow_count: int = 0
    _flows: dict[tuple[int, End, End], int] = field(default_factory=dict)  # protocol, client's end, server's end

    def open(self, protocol: int, client: End, server: End) -> int:
        """Begin a flow between these ends, also where there was one before; return its number."""
        self.flow_count += 1
        self._flows[protocol, client, server] = self.flow_count
        return self.flow_count

    def find(self, protocol: int, local: End, remote: End) -> tuple[int | None, Role | None]:
        """Return the number of the flow between these ends, and which role *local* has in it; Nones where none is."""
        number = self._flows.get((protocol, local, remote))
        if number is not None:
            return number, Role.CLIENT
        number = self._flows.get((protocol, remote, local))
        return (number, Role.SERVER) if number is not None else (None, None)

    def tell(self, entry: Entry) -> int:
        """Take *entry* in; return its place, by which `assign` finds it."""
        self.counts[type(entry).__name__] += 1
        if isinstance(entry, Indicated):
            self.counts[str(entry.decided.action)] += 1
        if self.keeps:
            self.entries.append(entry)
        return len(self.entries) - 1

    def assign(self, binds: list[int], role: Role, flow: int | None) -> None:
        """Give the binds at the places in *binds* the role that their socket has shown, and its flow."""
        for place in binds if self.keeps else ():
            one = self.entries[place]
            assert isinstance(one, Indicated)
            indication = replace(one.decided.indication, host=role, flow=flow)
            self.entries[place] = Indicated(one.host, replace(one.decided, indication=indication))
        binds.clear()

    @property
    def indications(self) -> list[Decided]:
        """The indications, in order."""
        return [entry.decided for entry in self.entries if isinstance(entry, Indicated)]
