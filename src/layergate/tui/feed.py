"""What the kernel tells the view: the list now and then, changes as they happen, figures of what is on the screen.

- A whole list costs what it costs; it is taken so seldom that it takes no more than a twentieth of the time, and at
  least every two seconds where it is small. In between, the kernel's events keep the list right.
- Without the events (no privilege, an old kernel) the lists alone do, and `problem` says so.

Worked example: 100,000 endpoints take 0.5 s to list, so they are listed every ten seconds.
"""

from __future__ import annotations

import os
import socket
import time
from collections.abc import Iterable, Iterator
from contextlib import suppress
from pathlib import Path
from typing import Final, Protocol

from layergate.kernel import inetdiag, iterators
from layergate.kernel.netns import own_cookie
from layergate.kernel.states import States
from layergate.live import record
from layergate.live.names import SystemResolver
from layergate.model import LayergateError, NotSupportedError
from layergate.policyfile import load_file
from layergate.sockets import table
from layergate.sockets.authorised import authorised
from layergate.sockets.closing import close, plan
from layergate.sockets.diagnosis import diagnose
from layergate.sockets.diagnosis.evidence import Limits
from layergate.sockets.diagnosis.finding import Finding
from layergate.sockets.diagnosis.reading import evidence
from layergate.sockets.endpoint import Endpoint
from layergate.sockets.passage import Passages, Passed
from layergate.sockets.subject import Subject
from layergate.sockets.tcp_info import TcpInfo
from layergate.sockets.transitions import Transition
from layergate.sockets.units import Units
from layergate.tui.blocking import add_filters
from layergate.tui.model import Request
from layergate.tui.rows import Row

LIST_S_MIN: Final = 2.0
LIST_SHARE: Final = 20.0
_PLAIN: Final = table.Question(detail=table.Detail.PLAIN)
_DIAGNOSE_S: Final = 1.0


class Source(Protocol):
    """What the screen needs to be fed. `Feed` is a live host; a test has its own."""

    problem: str

    def due(self) -> bool:
        """Whether the whole list should be taken anew."""

    def endpoints(self) -> list[Endpoint]:
        """Take the whole list."""

    def events(self) -> Iterable[Transition]:
        """Return what has changed since the last call."""

    def figures(self, rows: Iterable[Row]) -> Iterator[tuple[int, TcpInfo]]:
        """Yield cookie and figures of those *rows* that have any."""

    def findings(self) -> list[Finding]:
        """Diagnose. Takes a second or more."""

    def passage(self, subject: Subject, *, is_server: bool) -> list[Passed]:
        """Return what each layer says of a connection. May take some tenths of a second."""

    def carry_out(self, request: Request) -> str:
        """Do what the user has said yes to; return what to tell."""

    def close(self) -> None:
        """Let go of everything."""


class Feed:
    """The network namespace that we are in, live."""

    def __init__(self, policy: Path | None = None) -> None:
        """Load the programs. *policy*: the file that filters are added to. Raises NotSupportedError."""
        self.problem = ""
        self._policy = policy
        self._began_ns = time.monotonic_ns()
        self._next = 0.0
        self._units = Units()
        self._asked: tuple[tuple[int, int] | None, Passages] | None = None
        self._owners: iterators.Owners | None = None
        self._states: States | None = None
        self._asker = inetdiag.Asker()
        try:
            self._owners = iterators.Owners()
            self._states = States(netns=own_cookie())
        except NotSupportedError as error:
            self.problem = f"no events, lists alone: {error}"

    def due(self) -> bool:
        """Whether the whole list should be taken anew."""
        return time.monotonic() >= self._next

    def endpoints(self) -> list[Endpoint]:
        """Take the whole list. Raises NotSupportedError."""
        self._next = float("inf")  # until this one is had
        began = time.monotonic()
        try:
            return table.read(_PLAIN, programs=self._owners).endpoints
        finally:
            now = time.monotonic()
            self._next = now + max(LIST_S_MIN, LIST_SHARE * (now - began))

    def events(self) -> Iterable[Transition]:
        """Return what has changed since the last call."""
        if self._states is None:
            return ()
        return [Transition(record, self._began_ns) for record in self._states.transitions()]

    def figures(self, rows: Iterable[Row]) -> Iterator[tuple[int, TcpInfo]]:
        """Yield cookie and figures of those *rows* that have any. Cost: 20 µs a row."""
        for row in rows:
            one = row.subject
            if not isinstance(one, Endpoint) or one.protocol != "tcp" or row.mark == "closing":
                continue
            answer = self._asker.ask(one.address_family, socket.IPPROTO_TCP, one.identity, (inetdiag.INFO,))
            if answer is not None:
                info = Endpoint("tcp", answer).info
                if info is not None:
                    yield one.cookie, info

    def findings(self) -> list[Finding]:
        """Diagnose, over a second."""
        return diagnose(evidence(_DIAGNOSE_S, Limits(), programs=self._owners))

    def passage(self, subject: Subject, *, is_server: bool) -> list[Passed]:
        """Return what each layer says of a connection: by the run that has it, else by the only run there is."""
        by = None
        with suppress(LayergateError):
            by = authorised().get(subject.cookie) if isinstance(subject, Endpoint) else None
        runs = record.read_all()
        run = by.run if by is not None else runs[0] if len(runs) == 1 else None
        name = (by.name or f"filter {by.filter}") if by is not None else None
        return list(self._passages(run).of(subject, is_server=is_server, recorded=name))

    def _passages(self, run: record.Record | None) -> Passages:
        """Return who asks the policy of *run*, read once a version."""
        version = (run.pid, run.version) if run else None
        if self._asked is None or self._asked[0] != version:
            policy = None
            with suppress(LayergateError, OSError):
                policy = load_file(run.policy, SystemResolver()).policy if run else None
            self._asked = version, Passages(policy, self._units)
        return self._asked[1]

    def carry_out(self, request: Request) -> str:
        """Do what the user has said yes to; return what to tell."""
        try:
            if request.what == "close":
                ends = [row.subject for row in request.rows if isinstance(row.subject, Endpoint)]
                done = sum(one.is_closed for one in close(plan(ends)))
                return f"{done} of {len(ends)} closed"
            return add_filters(self._policy, request)
        except LayergateError as error:
            return str(error)
        except OSError as error:
            return f"{error.filename or 'the kernel'}: {os.strerror(error.errno or 0)}"

    def close(self) -> None:
        """Let go of everything."""
        for one in (self._asker, self._owners, self._states):
            if one is not None:
                one.close()
