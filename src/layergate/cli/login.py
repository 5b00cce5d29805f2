"""The login that the caller works over, or is asked to look after."""

from __future__ import annotations

import ipaddress
import os
import re
from typing import Final

from layergate.analysis.login import Ip, Login
from layergate.model import InputError

VARIABLE: Final = "SSH_CONNECTION"
"""sshd's: the client's address and port, the server's address and port."""

_FORM: Final = "REMOTE[:PORT]-LOCAL:PORT, such as 203.0.113.9-192.0.2.1:22 or [2001:db8::9]-[2001:db8::1]:22"
_END: Final = re.compile(r"(?:\[(?P<v6>[0-9a-fA-F:.]+)\]|(?P<v4>[0-9.]+))(?::(?P<port>[0-9]{1,5}))?")
EPHEMERAL: Final = 50_000


def login_of(text: str | None) -> Login | None:
    """Return the login that *text* describes, the caller's own where it is None. Raises InputError."""
    if text is None:
        return _own()
    remote, dash, local = text.partition("-")
    ends = _END.fullmatch(remote), _END.fullmatch(local)
    if not dash or not ends[0] or not ends[1] or not ends[1]["port"]:
        raise InputError(f"--login {text}", _FORM)
    try:
        there, here = (_address(end["v6"] or end["v4"]) for end in ends if end)
        return _login(there, int(ends[0]["port"] or EPHEMERAL), here, int(ends[1]["port"]))
    except ValueError as error:
        raise InputError(f"--login {text}: {error}", _FORM) from None


def _own() -> Login | None:
    """Return the login that this process was started over, None where it was not, or can't be told."""
    words = os.environ.get(VARIABLE, "").split()
    if len(words) != 4:
        return None
    try:
        remote, remote_port, local, local_port = words
        return _login(_address(remote), int(remote_port), _address(local), int(local_port))
    except ValueError:
        return None


def _login(remote: Ip, remote_port: int, local: Ip, local_port: int) -> Login:
    if remote.version != local.version:
        raise ValueError("addresses of both families")
    if not 0 < local_port < 1 << 16 or not 0 < remote_port < 1 << 16:
        raise ValueError("no such port")
    return Login(local, local_port, remote, remote_port)


def _address(text: str) -> Ip:
    address = ipaddress.ip_address(text.partition("%")[0])
    mapped = address.ipv4_mapped if isinstance(address, ipaddress.IPv6Address) else None
    return mapped or address
