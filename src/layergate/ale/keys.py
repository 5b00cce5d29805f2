"""The key of an indication: over what a limit counts it.

A key is bytes or numbers that tell sources apart, and the same in words. Examples: 10.0.0.1 over remote_prefix /24 is
"10.0.0.0/24"; 2001:db8::1 port 443 over remote_address+local_port is "2001:db8::1 port 443"; of an indication without
an application the key over app is "no application": those are one.
Source: `layergate.model.limits`.
"""

from __future__ import annotations

import ipaddress
from collections.abc import Mapping

from layergate.model import Value
from layergate.model.limits import V4_BITS, V6_BITS, Key, Per

Ident = tuple[object, ...]


def ident_of(key: Key, values: Mapping[str, Value]) -> Ident:
    """Return what tells the key of *values* from others."""
    if key.per is Per.ALL:
        return ()
    if key.per is Per.APP:
        return (_data(values, "ALE_APP_ID"),)
    if key.per is Per.UNIT:
        return (_data(values, "ALE_PACKAGE_ID"),)
    remote = _masked(_data(values, "IP_REMOTE_ADDRESS"), key)
    if key.per is Per.REMOTE_ADDRESS_LOCAL_PORT:
        return (remote, _data(values, "IP_LOCAL_PORT"))
    if key.per is Per.TUPLE:
        fields = ("IP_REMOTE_PORT", "IP_LOCAL_ADDRESS", "IP_LOCAL_PORT")
        return (remote, *(_data(values, name) for name in fields))
    return (remote,)


def words(key: Key, ident: Ident) -> str:
    """Return *ident* as people write it."""
    if key.per is Per.ALL:
        return "all"
    if key.per in (Per.APP, Per.UNIT):
        name = ident[0]
        if name is None:
            return "no application" if key.per is Per.APP else "no unit"
        return name.decode(errors="replace") if isinstance(name, bytes) else str(name)
    address = _text(ident[0])
    if key.per is Per.REMOTE_PREFIX:
        return f"{address}/{key.prefix_v6 if isinstance(ident[0], bytes) else key.prefix_v4}"
    if key.per is Per.REMOTE_ADDRESS_LOCAL_PORT:
        return f"{address} port {ident[1]}"
    if key.per is Per.TUPLE:
        return f"{address} port {ident[1]} to {_text(ident[2])} port {ident[3]}"
    return address


def _data(values: Mapping[str, Value], name: str) -> object:
    value = values.get(name)
    return None if value is None else value.data


def _masked(address: object, key: Key) -> object:
    """Return *address*, an integer of IPv4 or 16 bytes of IPv6, with the bits that count."""
    if isinstance(address, int):
        return address >> V4_BITS - key.prefix_v4 << V4_BITS - key.prefix_v4
    if isinstance(address, bytes):
        free = V6_BITS - key.prefix_v6
        return (int.from_bytes(address, "big") >> free << free).to_bytes(len(address), "big")
    return address


def _text(address: object) -> str:
    return str(ipaddress.ip_address(address)) if isinstance(address, (int, bytes)) else "no address"
