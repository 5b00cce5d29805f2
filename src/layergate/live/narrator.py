"""The kernel's records become indications, told in ring order.

The programs say at which layer they decided, on which values, and how; what an event is called, which host it is, which
flow, is told here, through `layergate.path`. Three things are not known where the kernel decides, and are joined:

- **host** of a bind: whether it is a client's or a server's shows later. Its lines are held until it does (listen,
connect,
  first packet), or the socket closes (then null);
- **flow** of a connect: it has no local port yet. The number is given at connect, and tied to the tuple by the socket's
  cookie when TCP picks the port;
- **process** of a packet: as the socket's owner was recorded when it bound, listened or connected.
"""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field, replace
from functools import cache, lru_cache
from typing import Final, Generic, Protocol, TypeVar

from layergate.kernel import layout_generated as layout
from layergate.kernel.hooks import HOOK_BY_LAYER
from layergate.kernel.ring import Record
from layergate.kernel.tables import field_numbers
from layergate.live.limits import BANNED, Bans, Limited, limited
from layergate.model import Action, DataType, Decided, Field, Filter, Indication, Layer, Process, Value, layer_by_id
from layergate.model.lines import endpoint_text
from layergate.path import CALL_OF_LAYER, Call, Endpoint, Host, Segment, event_at

_NS: Final = 1e9
_REMEMBERED: Final = 200_000
_HOSTS: Final = {layout.CLIENT: Host.CLIENT, layout.SERVER: Host.SERVER}
_LOCAL, _REMOTE = slice(0, 2), slice(2, 4)

# Reasons that are no drop of a packet on its way: a queue that is emptied, segments that were merged, a packet that
# found nobody (that is told at INBOUND_TRANSPORT_DISCARD).
NO_DROPS: Final = frozenset({"QUEUE_PURGE", "TCP_OFOMERGE", "NO_SOCKET", "SOCKET_CLOSE", "TCP_CLOSE"})
DROPPED_BY: Final = {"NETFILTER_DROP": "netfilter (nftables, iptables)"}

K = TypeVar("K")
V = TypeVar("V")


class Bounded(OrderedDict[K, V], Generic[K, V]):
    """A dictionary that forgets its oldest entries: what is remembered of connections does not grow for ever."""

    def __setitem__(self, key: K, value: V) -> None:
        """Remember *value*, and forget the oldest where there are too many."""
        super().__setitem__(key, value)
        if len(self) > _REMEMBERED:
            self.popitem(last=False)


@dataclass(frozen=True, slots=True)
class Drop:
    """A packet that ended, for a reason of somebody else's, or of a flow that was blocked before."""

    time: float
    host: str | None
    event: str
    flow: int | None
    protocol: str
    local: str | None
    remote: str | None
    process: Process | None
    reason: str
    by: str
    filter_id: int = 0
    filter_name: str | None = None
    layer: str | None = None


Told = Decided | Drop | Limited


class Names(Protocol):
    """Who says what the kernel's numbers are called."""

    def app(self, device: int, inode: int, pid: int) -> str | None:
        """Return an executable's path."""

    def unit(self, cgroup: int) -> str | None:
        """Return a control group's unit."""


@dataclass(slots=True)
class Narrator:
    """Turns records into what is told. *began_ns*: the start, by CLOCK_MONOTONIC."""

    names: Names
    began_ns: int
    reasons: dict[int, str]
    symbol: Callable[[int], str]
    filters: dict[int, Filter] = field(default_factory=dict)
    sublayers: tuple[str, ...] = ()
    units: tuple[str, ...] = ()
    open: set[tuple[int, str]] = field(default_factory=set)
    flow_count: int = 0
    bans: Bans = field(default_factory=Bans)
    _held: Bounded[int, list[Decided]] = field(default_factory=Bounded)
    _hosts: Bounded[int, Host] = field(default_factory=Bounded)
    _processes: Bounded[int, Process] = field(default_factory=Bounded)
    _connecting: Bounded[int, int] = field(default_factory=Bounded)
    _flow_of_cookie: Bounded[int, int] = field(default_factory=Bounded)
    _numbers: Bounded[int, int] = field(default_factory=Bounded)
    _tuples: Bounded[tuple[int, ...], tuple[int, int]] = field(default_factory=Bounded)
    _ends: Bounded[tuple[int, Host], Endpoint] = field(default_factory=Bounded)
    _owners: Bounded[tuple[int, Host], Process] = field(default_factory=Bounded)

    def tell(self, record: Record) -> Iterator[Told]:
        """Yield what *record* tells, and what it lets be told that was held."""
        kind = record[layout.RECORD_KIND]
        if kind == layout.KIND_FLOW:
            self._join(record)
        elif kind == layout.KIND_CLOSED:
            yield from self._release(record[layout.RECORD_COOKIE], None, None)
        elif kind in (layout.KIND_DROP, layout.KIND_OWN_DROP):
            yield from self._dropped(record)
        elif kind == layout.KIND_LIMIT:
            yield self._limited(record)
        else:
            yield from self._indicated(record)

    def _limited(self, record: Record) -> Limited:
        process = self._processes.get(record[layout.RECORD_COOKIE])
        told = limited(
            record,
            self.filters.get(record[layout.RECORD_FILTER]),
            time=self._time(record),
            began_ns=self.began_ns,
            app=process.app if process else None,
            unit=self._unit(record),
        )
        if told.what == BANNED:
            self.bans.begin(told)
        return told

    def rest(self) -> Iterator[Told]:
        """Yield what is still held: binds whose sockets never showed what they were for."""
        for cookie in list(self._held):
            yield from self._release(cookie, None, None)

    # --- whose it is ------------------------------------------------------------------------------------------------

    def _join(self, record: Record) -> None:
        """A flow begins, or is seen for the first time: tie its number, its owner and its tuple together."""
        host = _HOSTS[record[layout.RECORD_SIDE]]
        cookie = record[layout.RECORD_COOKIE]
        number = self._number(record, host, cookie if host is Host.CLIENT else 0)
        process = self._process(record)
        if process is not None:
            self._owners[number, host] = process
        elif cookie in self._processes:
            self._owners[number, host] = self._processes[cookie]
        if host is Host.CLIENT and cookie:
            self._flow_of_cookie[cookie] = number

    def _number(self, record: Record, host: Host, cookie: int) -> int:
        """Return the flow's number: by the kernel's, the socket that connects, or the tuple in another namespace."""
        kernel = record[layout.RECORD_FLOW]
        known = self._numbers.get(kernel)
        if known is not None:
            return known
        ends = self._tuple(record, host)
        number = self._connecting.pop(cookie, 0) if cookie else 0
        if not number:
            elsewhere = self._tuples.get(ends)
            joins = elsewhere is not None and elsewhere[1] != record[layout.RECORD_NETNS]
            number = elsewhere[0] if elsewhere is not None and joins else self._next()
        self._numbers[kernel] = number
        self._tuples[ends] = (number, record[layout.RECORD_NETNS])
        return number

    def _next(self) -> int:
        self.flow_count += 1
        return self.flow_count

    @staticmethod
    def _tuple(record: Record, host: Host) -> tuple[int, ...]:
        local = (*record[layout.RECORD_ADDRESS][_LOCAL], record[layout.RECORD_SCALAR][layout.FIELD_IP_LOCAL_PORT])
        remote = (*record[layout.RECORD_ADDRESS][_REMOTE], record[layout.RECORD_SCALAR][layout.FIELD_IP_REMOTE_PORT])
        return (*local, *remote) if host is Host.CLIENT else (*remote, *local)

    def _process(self, record: Record) -> Process | None:
        """Return the owner that *record* names; None at a layer that knows of none, whose record says half of it."""
        pid = record[layout.RECORD_PID]
        if not pid or not record[layout.RECORD_KNOWN] >> field_numbers()["ALE_USER_ID"] & 1:
            return None
        return Process(
            pid=pid, app=self._app(record), user=self._scalar(record, "ALE_USER_ID"), unit=self._unit(record)
        )

    @staticmethod
    def _scalar(record: Record, name: str) -> int:
        number: int = record[layout.RECORD_SCALAR][field_numbers()[name]]
        return number

    def _app(self, record: Record) -> str | None:
        inode = record[layout.RECORD_EXE_INO]
        if not inode:
            return None
        return self.names.app(record[layout.RECORD_EXE_DEV], inode, record[layout.RECORD_PID])

    def _unit(self, record: Record) -> str | None:
        number = self._scalar(record, "ALE_PACKAGE_ID")
        if number:
            return self.units[number - 1]
        known = record[layout.RECORD_KNOWN] >> field_numbers()["ALE_PACKAGE_ID"] & 1
        return self.names.unit(record[layout.RECORD_CGROUP]) if known else None

    # --- indications ------------------------------------------------------------------------------------------------

    def _indicated(self, record: Record) -> Iterator[Told]:
        layer = layer_by_id(record[layout.RECORD_LAYER])
        base = layer.base.removesuffix("_DISCARD")
        call = CALL_OF_LAYER.get(base)
        cookie = record[layout.RECORD_COOKIE]
        if call is not None and not record[layout.RECORD_FLOW]:
            yield from self._called(record, layer, call, cookie)
            return
        host = _HOSTS.get(record[layout.RECORD_SIDE], Host.SERVER)
        number = self._number(record, host, 0) if record[layout.RECORD_FLOW] else None
        process = self._process(record)
        if number is not None:
            if process is not None:
                self._owners[number, host] = process
            process = process or self._owners.get((number, host)) or self._processes.get(cookie)
        # A connect is a call; when it is authorised again, it is by a segment.
        what = call if call in (Call.ESTABLISHED, Call.CLOSURE) else _segment(record)
        event = event_at(layer.base, what, self._end(number, host))
        if number is not None:
            if base == "ALE_FLOW_ESTABLISHED":
                self.open.add((number, host))
            elif base == "ALE_ENDPOINT_CLOSURE":
                self.open.discard((number, host))
        yield from self._release(cookie, host, number if host is Host.CLIENT else None)
        yield self._decided(record, layer, host=host, event=event, flow=number, process=process)

    def _called(self, record: Record, layer: Layer, call: Call, cookie: int) -> Iterator[Told]:
        """A call of a process: bind, listen, connect, release; and the end of a listener."""
        process = self._process(record)
        if process is not None:
            self._processes[cookie] = process
        else:
            process = self._processes.get(cookie)
        host, number = self._hosts.get(cookie), self._flow_of_cookie.get(cookie)
        if call in (Call.LISTEN, Call.CLOSURE):
            host, number = Host.SERVER, None
        elif call is Call.CONNECT:
            host = Host.CLIENT
            if layer.base == "ALE_CONNECT_REDIRECT" or cookie not in self._connecting:
                self._connecting[cookie] = self._next()
            number = self._connecting[cookie]
            self._flow_of_cookie[cookie] = number
        if host is not None:
            self._hosts[cookie] = host
        told = self._decided(record, layer, host=host, event=call.value, flow=number, process=process)
        if call is Call.BIND and told.action is Action.PERMIT and not layer.is_discard:
            self._held.setdefault(cookie, []).append(told)
            return
        if call is Call.BIND:
            yield from self._release(cookie, None, None)
        else:
            yield from self._release(cookie, host, number)
        yield told

    def _release(self, cookie: int, host: Host | None, flow: int | None) -> Iterator[Told]:
        for told in self._held.pop(cookie, ()):
            yield replace(told, indication=replace(told.indication, host=host, flow=flow))

    def _end(self, number: int | None, host: Host) -> Endpoint:
        if number is None:
            return Endpoint(host)
        end = self._ends.get((number, host))
        if end is None:
            end = self._ends[number, host] = Endpoint(host)
        return end

    def _decided(
        self, record: Record, layer: Layer, *, host: Host | None, event: str, flow: int | None, process: Process | None
    ) -> Decided:
        filter_id = record[layout.RECORD_FILTER]
        number = record[layout.RECORD_SUBLAYER]
        return Decided(
            indication=Indication(
                layer=layer,
                values=self._values(record, layer, process),
                time=self._time(record),
                host=host,
                event=event,
                flow=flow,
                local=_end_text(record, _LOCAL, layout.FIELD_IP_LOCAL_PORT),
                remote=_end_text(record, _REMOTE, layout.FIELD_IP_REMOTE_PORT)
                if layer.field("IP_REMOTE_ADDRESS")
                else None,
                process=process,
                reauthorize=bool(record[layout.RECORD_BITS] & layout.BIT_REAUTHORIZE),
            ),
            action=Action.BLOCK if record[layout.RECORD_ACTION] == layout.BLOCK else Action.PERMIT,
            filter_id=filter_id,
            filter=self.filters.get(filter_id),
            sublayer=self.sublayers[number] if filter_id and number < len(self.sublayers) else None,
            version=record[layout.RECORD_VERSION],
            fields=_described(layer.id)[0],
        )

    def _time(self, record: Record) -> float:
        return round((record[layout.RECORD_TIME] - self.began_ns) / _NS, 6)

    def _values(self, record: Record, layer: Layer, process: Process | None) -> dict[str, Value]:
        known, values = record[layout.RECORD_KNOWN], {}
        for name, number, described in _described(layer.id)[1]:
            if not known >> number & 1:
                continue
            data: int | bytes | str | None
            if name == "ALE_APP_ID":
                app = process.app if process else None
                data = app.encode(errors="surrogateescape") if app is not None else None
            elif name == "ALE_PACKAGE_ID":
                data = self._unit(record)
            elif number >= layout.FIELD_ADDRESSES:
                high, low = record[layout.RECORD_ADDRESS][_REMOTE if name == "IP_REMOTE_ADDRESS" else _LOCAL]
                data = low if described.type is DataType.UINT32 else (high << 64 | low).to_bytes(16, "big")
            else:
                data = record[layout.RECORD_SCALAR][number]
            if data is not None:
                values[name] = Value(described.type, data)
        return values

    # --- drops ------------------------------------------------------------------------------------------------------

    def _dropped(self, record: Record) -> Iterator[Told]:
        host = _HOSTS.get(record[layout.RECORD_SIDE], Host.SERVER)
        own = record[layout.RECORD_KIND] == layout.KIND_OWN_DROP
        reason = "" if own else self.reasons.get(record[layout.RECORD_SEQ], str(record[layout.RECORD_SEQ]))
        if reason in NO_DROPS:
            return
        number = self._number(record, host, 0)
        filter_id = record[layout.RECORD_FILTER] if own else 0
        blamed = self.filters.get(filter_id)
        layer = layer_by_id(record[layout.RECORD_LAYER]).name if own else None
        # Named for a copy of the endpoint: a packet that never arrives completes no handshake.
        event = event_at("INBOUND_TRANSPORT", _segment(record), Endpoint(host))
        if own:
            reason = f"the flow was blocked at {layer}"
        yield Drop(
            time=self._time(record),
            host=host,
            event=event,
            flow=number,
            protocol="tcp",
            local=_end_text(record, _LOCAL, layout.FIELD_IP_LOCAL_PORT),
            remote=_end_text(record, _REMOTE, layout.FIELD_IP_REMOTE_PORT),
            process=self._owners.get((number, host)),
            reason=reason,
            by="layergate"
            if own
            else DROPPED_BY.get(reason) or f"kernel ({self.symbol(record[layout.RECORD_FILTER])})",
            filter_id=filter_id,
            filter_name=blamed.name if blamed else None,
            layer=layer,
        )


@cache
def _described(layer_id: int) -> tuple[tuple[str, ...], tuple[tuple[str, int, Field], ...]]:
    """Return what the hook of a layer gives: the fields' names; each with the kernel's number and its description."""
    layer = layer_by_id(layer_id)
    rows = tuple(
        (name, field_numbers()[name], described)
        for name in HOOK_BY_LAYER[layer.base].fields
        if (described := layer.field(name)) is not None
    )
    return tuple(name for name, _, _ in rows), rows


@lru_cache(maxsize=4096)
def _address_text(high: int, low: int, v6: int, port: int) -> str:
    return endpoint_text((high << 64 | low).to_bytes(16, "big") if v6 else low, port)


def _segment(record: Record) -> Segment:
    return Segment(record[layout.RECORD_TCP_FLAGS], bool(record[layout.RECORD_BITS] & layout.BIT_INBOUND))


def _end_text(record: Record, half: slice, port_field: int) -> str | None:
    """Return an end as people write it; None where neither address nor port is known."""
    high, low = record[layout.RECORD_ADDRESS][half]
    port = record[layout.RECORD_SCALAR][port_field]
    if not (high or low or port):
        return None
    return _address_text(high, low, record[layout.RECORD_BITS] & layout.BIT_V6, port)
