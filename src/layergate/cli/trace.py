"""`layergate trace`: the real sessions of a command, or of what already runs, layer by layer.

The command runs in a control group of its own, in the current network namespace, until it and its last flow end. Its
own output goes to standard error, the lines to standard output. Exit status: 2 or 3 only before the command starts,
then the command's, or 128+n for signal n.
"""

from __future__ import annotations

import argparse
import os
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Sequence
from typing import Final

from layergate.cli.telling import Signals, Teller, load, reload, warn
from layergate.kernel.cgroups import Cgroup, Hierarchy
from layergate.live.session import Scope, Session
from layergate.model import InputError, Policy

NAME: Final = "trace"
HELP: Final = "show the sessions of a command, or of what already runs, layer by layer"

POLL_S: Final = 0.05
LINGER_S: Final = 2.0
QUIET_S: Final = 0.15
SIGNALLED: Final = 128


def configure(parser: argparse.ArgumentParser) -> None:
    """Add the options."""
    parser.usage = "layergate trace [options] (-- COMMAND... | --cgroup PATH | --unit NAME)"
    parser.add_argument("--policy", metavar="FILE", help="decide by this policy (default: permit everything)")
    parser.add_argument(
        "--interface", metavar="IF", action="append", default=[], help="show all that passes IF, not only these flows"
    )
    parser.add_argument(
        "--netns",
        metavar="NAME",
        action="append",
        default=[],
        help="show these network namespaces (default: the current one); may be repeated",
    )
    where = parser.add_mutually_exclusive_group()
    where.add_argument("--cgroup", metavar="PATH", help="trace what already runs in this control group")
    where.add_argument("--unit", metavar="NAME", help="trace what already runs in this systemd unit")
    parser.add_argument("--json", action="store_true", help="print JSON Lines")
    parser.add_argument("command", metavar="COMMAND", nargs="*", help="the command to run, after --")


def prepare(words: Sequence[str]) -> list[str]:
    """Keep the options of the command from being taken for ours."""
    words = list(words)
    if "--" not in words:
        for place, word in enumerate(words):
            if not word.startswith("-") and not (place and words[place - 1] in _WITH_VALUE):
                return [*words[:place], "--", *words[place:]]
    return words


_WITH_VALUE: Final = ("--policy", "--interface", "--netns", "--cgroup", "--unit")


def run(arguments: argparse.Namespace) -> int:
    """Trace."""
    running = arguments.cgroup or arguments.unit
    if bool(arguments.command) == bool(running):
        raise InputError(
            "nothing to trace" if not running else "both a command and what runs", "give -- COMMAND, --cgroup or --unit"
        )
    if arguments.command and shutil.which(arguments.command[0]) is None:
        raise InputError(f"{arguments.command[0]} can't be found, or not be run", "name a program, as in -- curl URL")
    policy = load(arguments.policy)
    hierarchy = Hierarchy()
    try:
        if running:
            group = hierarchy.find(arguments.cgroup) if arguments.cgroup else hierarchy.unit(arguments.unit)
            os.close(group.fd)
            return _trace(arguments, policy, hierarchy, group, ())
        here = hierarchy.own()
        group = hierarchy.make(f"{here.rstrip('/')}/lg-trace-{os.getpid()}")
        try:
            return _trace(arguments, policy, hierarchy, group, tuple(arguments.command))
        finally:
            going_on = hierarchy.members(group)
            os.close(group.fd)
            hierarchy.remove(group, keep_in=here)
            if going_on:
                pids = ", ".join(map(str, going_on))
                sys.stderr.write(f"layergate: what the command started goes on, no longer traced: process {pids}\n")
    finally:
        hierarchy.close()


def _trace(
    arguments: argparse.Namespace, policy: Policy, hierarchy: Hierarchy, group: Cgroup, command: tuple[str, ...]
) -> int:
    teller = Teller(is_json=arguments.json)
    scope = Scope(group.path, bool(command), tuple(arguments.netns), tuple(arguments.interface))
    with Signals() as asked, Session(hierarchy, scope, policy=policy) as session:
        missing = set(scope.everything).difference(*session.interfaces())
        if missing:
            raise InputError(f"there is no interface {', '.join(sorted(missing))}", "ip link names them")
        session.attach()
        warn(session)
        child = _start(command, hierarchy, group) if command else None
        if child is None:
            sys.stderr.write(f"layergate: tracing {group.path}; Ctrl-C ends it\n")
        status = _follow(session, teller, asked, child, arguments.policy)
        for told in session.narrator.rest():
            teller.tell(told)
        teller.losses(session.programs.statistics()["lost"])
        teller.summary(session, status)
    return status or 0


def _start(command: tuple[str, ...], hierarchy: Hierarchy, group: Cgroup) -> subprocess.Popen[bytes]:
    try:
        return subprocess.Popen(
            command,
            stdout=sys.stderr.fileno(),
            preexec_fn=lambda: hierarchy.join(group),  # noqa: PLW1509 (no threads here)
        )
    except OSError as error:
        raise InputError(
            f"{command[0]} can't be started: {error.strerror}", "name a program, as in -- curl URL"
        ) from error


def _follow(
    session: Session, teller: Teller, asked: Signals, child: subprocess.Popen[bytes] | None, policy: str | None
) -> int | None:
    """Tell until the command and its flows end, or somebody ends it. Returns the command's status."""
    end = _End(child)
    interrupts = 0
    while True:
        told_any = False
        for told in session.serve(POLL_S):
            teller.tell(told)
            told_any = True
        teller.losses(session.programs.statistics()["lost"])
        if told_any:
            sys.stdout.flush()
        if asked.again:
            asked.again = False
            reload(session, policy, teller)
        if asked.stop:
            if child is None:
                return None
            interrupts += 1
            # The terminal gave Ctrl-C to the command too; a second one, or another signal, is passed on for good.
            if child.poll() is None and (asked.stop != signal.SIGINT or interrupts > 1):
                child.send_signal(asked.stop if interrupts == 1 else signal.SIGKILL)
            asked.stop = 0
        if end.is_reached(session, told_any=told_any):
            return end.status


class _End:
    """When a trace of a command is over: it has ended, and so have its flows or the time for them."""

    def __init__(self, child: subprocess.Popen[bytes] | None) -> None:
        self.status: int | None = None
        self._child = child
        self._ended = self._quiet_since = 0.0
        self._last: int | None = None

    def is_reached(self, session: Session, *, told_any: bool) -> bool:
        """Whether it is over by now."""
        if self._child is None:
            return False
        now = time.monotonic()
        if self.status is None:
            code = self._child.poll()
            if code is None:
                return False
            self.status = SIGNALLED - code if code < 0 else code
            self._ended = self._quiet_since = now
        if told_any:
            self._quiet_since = now
        if self._last is None and now - self._ended >= LINGER_S:
            self._last = session.ring.written  # what came until now is told all the same
        if self._last is not None and session.ring.consumed >= self._last:
            return True
        return not session.narrator.open and now - self._quiet_since >= QUIET_S
