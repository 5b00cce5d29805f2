"""`layergate run`: a policy in force, in the foreground, until Ctrl-C.

Fail-open: when this process ends, however it ends, nothing stays attached. With --pin fail-closed: the kernel goes on
deciding by the policy until the next `run` for the same control group takes over, or `layergate detach --all`.
What is blocked or dropped is printed; with --all everything.
"""

from __future__ import annotations

import argparse
import sys
from contextlib import ExitStack
from typing import Final

from layergate.cli.output import plural
from layergate.cli.telling import Signals, Teller, load, reload, warn
from layergate.kernel import layout_generated as layout
from layergate.kernel.cgroups import Hierarchy
from layergate.live import record
from layergate.live.session import Scope, Session
from layergate.model import InputError

NAME: Final = "run"
HELP: Final = "enforce a policy until Ctrl-C"

POLL_S: Final = 0.05
QUIET_RING_BYTES: Final = 4 << 20


def configure(parser: argparse.ArgumentParser) -> None:
    """Add the options."""
    parser.add_argument("--policy", metavar="FILE", required=True, help="the policy; SIGHUP reads it again")
    parser.add_argument(
        "--cgroup", metavar="PATH", default="/", help="only this control group (default: the whole host)"
    )
    parser.add_argument(
        "--interface",
        metavar="IF",
        action="append",
        default=[],
        help="decide on all that passes IF, not only these flows",
    )
    parser.add_argument("--netns", metavar="NAME", action="append", default=[], help="in these network namespaces")
    parser.add_argument("--pin", action="store_true", help="stay in force when this process ends (fail-closed)")
    parser.add_argument("--all", action="store_true", help="print every indication, not only what is blocked")
    parser.add_argument("--json", action="store_true", help="print JSON Lines")


def run(arguments: argparse.Namespace) -> int:
    """Enforce."""
    policy = load(arguments.policy)
    teller = Teller(is_json=arguments.json)
    hierarchy = Hierarchy()
    scope = Scope(arguments.cgroup, namespaces=tuple(arguments.netns), everything=tuple(arguments.interface))
    emit, ring = (layout.EMIT_ALL, 32 << 20) if arguments.all else (layout.EMIT_BLOCKS, QUIET_RING_BYTES)
    with ExitStack() as leave:
        asked = leave.enter_context(Signals())
        session = leave.enter_context(Session(hierarchy, scope, emit, ring, policy))
        missing = set(scope.everything).difference(*session.interfaces())
        if missing:
            raise InputError(f"there is no interface {', '.join(sorted(missing))}", "ip link names them")
        session.attach()
        warn(session)
        if arguments.pin:
            session.pin()
        taken = session.take_over()
        if taken:
            ends = "" if arguments.pin else "; what it enforced ends with this run (no --pin)"
            sys.stderr.write(f"layergate: took over from a run that had ended and stayed in force{ends}\n")
        told_of = record.Record.own(
            arguments.policy, arguments.cgroup, (session.programs.owners.id, session.programs.seats.id)
        )
        leave.enter_context(record.recorded(told_of.of(session.policy)))
        _say(session, arguments)
        while not asked.stop:
            for told in session.serve(POLL_S):
                teller.tell(told)
            teller.losses(session.programs.statistics()["lost"])
            sys.stdout.flush()
            if asked.again:
                asked.again = False
                reload(session, arguments.policy, teller)
                record.write(told_of.of(session.policy))
        for told in session.narrator.rest():
            teller.tell(told)
        teller.summary(session, None)
        stays = arguments.pin and session.is_pinned
    if stays:
        sys.stderr.write("layergate: the policy stays in force; layergate detach --all ends it\n")
    elif arguments.pin:
        sys.stderr.write("layergate: the pins were removed by layergate detach: nothing stays in force\n")
    return 0


def _say(session: Session, arguments: argparse.Namespace) -> None:
    count = len({item.name for item in session.policy.filters})
    where = "the whole host" if arguments.cgroup == "/" else arguments.cgroup
    ends = "it stays when this ends; layergate detach --all ends it" if arguments.pin else "Ctrl-C ends it"
    sys.stderr.write(f"layergate: {arguments.policy} is in force for {where}: {plural(count, 'filter')}; {ends}\n")
