"""What a policy's names stand for on this host: the `Resolver` over its own databases.

Sources: passwd (users), services and protocols (getservbyname, getprotobyname), the file system (executables), the
kernel (interfaces). A name that the host doesn't know is None, never an exception: the file may be older than the
host, or newer.
"""

from __future__ import annotations

import os
import pwd
import socket


class SystemResolver:
    """Resolves names on the host that it runs on. No state: a second question sees what has changed."""

    def user(self, name: str) -> int | None:
        """Return the id of the user *name*."""
        try:
            return pwd.getpwnam(name).pw_uid
        except (KeyError, ValueError):
            return None

    def service(self, name: str) -> int | None:
        """Return the port of the service *name*, TCP's before UDP's."""
        for protocol in ("tcp", "udp"):
            try:
                return socket.getservbyname(name, protocol)
            except (OSError, ValueError):
                continue
        return None

    def protocol(self, name: str) -> int | None:
        """Return the number of the IP protocol *name*."""
        try:
            return socket.getprotobyname(name)
        except (OSError, ValueError):
            return None

    def executable(self, path: str) -> str | None:
        """Return *path* without symbolic links, None where there is no file."""
        try:
            real = os.path.realpath(path, strict=True)
        except (OSError, ValueError):
            return None
        return real if os.path.isfile(real) else None  # noqa: PTH113 (the resolver's paths are text)

    def interface(self, name: str) -> int | None:
        """Return the index of the interface *name*."""
        try:
            return socket.if_nametoindex(name)
        except (OSError, ValueError):
            return None

    def unit(self, name: str) -> str | None:
        """Return *name* as sockets report it: a cgroup's path as it is, a bare name as that of a service."""
        return name if "/" in name or "." in name else f"{name}.service"
