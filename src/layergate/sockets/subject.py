"""What filter words look at: an endpoint, or an event of one. A structural type: whatever has these answers to words.

Worked example: `layergate.sockets.endpoint.Endpoint` and `layergate.sockets.transitions.Transition` are subjects.
"""

from __future__ import annotations

from typing import Protocol

from layergate.sockets.owners import Facts, Holder
from layergate.sockets.tcp_info import TcpInfo


class Subject(Protocol):
    """See `Endpoint` for what each says; None and 0 where it is not known."""

    @property
    def protocol(self) -> str: ...  # noqa: D102
    @property
    def state(self) -> str: ...  # noqa: D102
    @property
    def family(self) -> int: ...  # noqa: D102
    @property
    def namespace(self) -> str | None: ...  # noqa: D102
    @property
    def local(self) -> str: ...  # noqa: D102
    @property
    def remote(self) -> str | None: ...  # noqa: D102
    @property
    def local_address(self) -> str: ...  # noqa: D102
    @property
    def remote_address(self) -> str | None: ...  # noqa: D102
    @property
    def local_port(self) -> int: ...  # noqa: D102
    @property
    def remote_port(self) -> int: ...  # noqa: D102
    @property
    def has_no_remote(self) -> bool: ...  # noqa: D102
    @property
    def holders(self) -> tuple[Holder, ...]: ...  # noqa: D102
    @property
    def process(self) -> Facts | None: ...  # noqa: D102
    @property
    def user(self) -> int: ...  # noqa: D102
    @property
    def info(self) -> TcpInfo | None: ...  # noqa: D102
    @property
    def age_s(self) -> float | None: ...  # noqa: D102
    @property
    def idle_s(self) -> float | None: ...  # noqa: D102
    @property
    def receive_queue(self) -> int: ...  # noqa: D102
    @property
    def send_queue(self) -> int: ...  # noqa: D102
