"""What a net event or a live connection looks like to the filters of a layer: an `Indication` of what is known of it.

Known are the ends, the protocol, the application and, of an event, the package, the profiles, the reason of a
reauthorization and whether it is loopback. What kind an address is (unicast, multicast, broadcast) is read off the
address. Everything else a layer shows, tokens above all, no dump records: those values are absent, and what depends
on them is undecided (`judging`).
"""

from __future__ import annotations

import ipaddress
from collections.abc import Iterator
from typing import Final

from layergate.model import AddressType, DataType, Direction, Flag, Indication, Layer, Process, Value
from layergate.model.lines import endpoint_text
from layergate.windows.events import NetEvent
from layergate.windows.objects import Connection
from layergate.windows.values import path_text

PROTOCOL_NAMES: Final = {1: "icmp", 2: "igmp", 6: "tcp", 17: "udp", 58: "icmpv6"}
_DIRECTIONS: Final = {"out": Direction.OUTBOUND, "in": Direction.INBOUND}


def of_event(event: NetEvent, layer: Layer, time: float = 0.0) -> Indication:
    """Return the indication that *event*, a classification at *layer*, was decided on, as far as it is recorded."""
    is_loopback = event.is_loopback
    if is_loopback is None:
        is_loopback = any(_is_loopback(address) for address in (event.local, event.remote) if address is not None)
    flags = (Flag.IS_LOOPBACK if is_loopback else 0) | (Flag.IS_REAUTHORIZE if event.reauthorize_reason else 0)
    known = {
        "IP_PROTOCOL": _number(DataType.UINT8, event.protocol),
        "IP_LOCAL_PORT": _number(DataType.UINT16, event.local_port),
        "IP_REMOTE_PORT": _number(DataType.UINT16, event.remote_port),
        "ALE_PACKAGE_ID": Value(DataType.SID, event.package) if event.package else None,
        "ORIGINAL_PROFILE_ID": _number(DataType.UINT32, event.original_profile),
        "CURRENT_PROFILE_ID": _number(DataType.UINT32, event.current_profile),
        "REAUTHORIZE_REASON": _number(DataType.UINT32, event.reauthorize_reason),
        "DIRECTION": _number(DataType.UINT32, _DIRECTIONS.get(event.direction)),
        "INTERFACE_INDEX": _number(DataType.UINT32, event.interface),
    }
    return Indication(
        layer=layer,
        values=_values(layer, known, (event.local, event.remote), event.app, flags),
        time=time,
        protocol=protocol_text(event.protocol),
        local=_endpoint(event.local, event.local_port),
        remote=_endpoint(event.remote, event.remote_port),
        process=Process(None, path_text(event.app), None, event.package or None) if event.app else None,
        reauthorize=bool(event.reauthorize_reason),
    )


def of_connection(connection: Connection, layer: Layer) -> Indication:
    """Return what *layer* would be shown of *connection*, as if it were authorised now."""
    remote = None if is_unspecified(connection.remote) else connection.remote
    is_loopback = _is_loopback(connection.local) or _is_loopback(connection.remote)
    known = {
        "IP_PROTOCOL": _number(DataType.UINT8, connection.protocol),
        "IP_LOCAL_PORT": _number(DataType.UINT16, connection.local_port),
        "IP_REMOTE_PORT": _number(DataType.UINT16, connection.remote_port) if remote else None,
    }
    flags = Flag.IS_LOOPBACK if is_loopback else 0
    return Indication(
        layer=layer,
        values=_values(layer, known, (connection.local, remote), connection.app, flags),
        protocol=protocol_text(connection.protocol),
        local=_endpoint(connection.local, connection.local_port),
        remote=_endpoint(remote, connection.remote_port),
        process=Process(None, path_text(connection.app), None, None) if connection.app else None,
    )


def protocol_text(number: int | None) -> str:
    """Return the name of an IP protocol, its number where it has no everyday name, "" for None."""
    return "" if number is None else PROTOCOL_NAMES.get(number, str(number))


def is_unspecified(address: Value) -> bool:
    """Whether *address* is 0.0.0.0 or ::."""
    return address.data in (0, bytes(16))


def _values(
    layer: Layer, known: dict[str, Value | None], ends: tuple[Value | None, Value | None], app: bytes, flags: int
) -> dict[str, Value]:
    """Return what is known, *ends* (local, remote) among it, as far as *layer* has fields of that type for it."""
    local, remote = ends
    known |= {
        "IP_LOCAL_ADDRESS": local,
        "IP_REMOTE_ADDRESS": remote,
        "IP_LOCAL_ADDRESS_TYPE": _address_type(local),
        "IP_DESTINATION_ADDRESS_TYPE": _address_type(remote),
        "ALE_APP_ID": Value(DataType.BYTE_BLOB, app) if app else None,
        "FLAGS": Value(DataType.UINT32, int(flags)),
    }
    return dict(_fitting(layer, known))


def _fitting(layer: Layer, known: dict[str, Value | None]) -> Iterator[tuple[str, Value]]:
    for name, value in known.items():
        field = layer.field(name)
        if value is not None and field is not None and field.type is value.type:
            yield field.name, value


def _number(kind: DataType, number: int | None) -> Value | None:
    return None if number is None else Value(kind, int(number))


def _endpoint(address: Value | None, port: int | None) -> str | None:
    if address is None:
        return None
    return endpoint_text(address.data, port or 0)  # type: ignore[arg-type]  # an address


def _parsed(address: Value) -> ipaddress.IPv4Address | ipaddress.IPv6Address:
    data = address.data
    return ipaddress.IPv6Address(data) if isinstance(data, bytes) else ipaddress.IPv4Address(data)


def _is_loopback(address: Value) -> bool:
    return _parsed(address).is_loopback


def _address_type(address: Value | None) -> Value | None:
    """Return the NL_ADDRESS_TYPE of *address*; a subnet's own broadcast address looks like any other."""
    if address is None or is_unspecified(address):
        return None
    parsed = _parsed(address)
    if parsed.is_multicast:
        kind = AddressType.MULTICAST
    elif parsed == ipaddress.IPv4Address(0xFFFFFFFF):
        kind = AddressType.BROADCAST
    else:
        kind = AddressType.UNICAST
    return Value(DataType.UINT8, int(kind))
