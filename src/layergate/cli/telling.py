"""What a live session tells, as lines: aligned for people, JSON Lines for programs. Shared by `trace` and `run`."""

from __future__ import annotations

import ipaddress
import signal
import sys
import time
from collections import Counter
from dataclasses import dataclass, field
from pathlib import PurePosixPath
from types import FrameType
from typing import Final, Self

from layergate.analysis.login import Login, cut_off, over_limits
from layergate.cli import output
from layergate.cli.login import login_of
from layergate.live.limits import BANNED, Limited
from layergate.live.names import SystemResolver
from layergate.live.narrator import Drop, Told
from layergate.live.session import Session, accepted
from layergate.model import Action, Decided, LayergateError, Policy, PolicyError, Problem, Process
from layergate.model.lines import indication_line, process_line
from layergate.policyfile import load_file
from layergate.sockets import table
from layergate.sockets.asking import Detail, Question

_ROW: Final = "{time:>10}  {host:<6}  {flow:>4}  {event:<11}  {layer:<34}  {action}  {what}"
HEAD: Final = (
    "   seconds  host    flow  event        layer                               action  decided by; connection; process"
)


class Teller:
    """Prints what is told, and counts it."""

    def __init__(self, *, is_json: bool) -> None:
        self.is_json = is_json
        self.counts: Counter[str] = Counter()
        self._lost = 0
        self._epoch = time.time()
        self._headed = False

    def tell(self, told: Told) -> None:
        """Print one line."""
        if isinstance(told, Decided):
            self.counts["indications"] += 1
            self.counts["blocked" if told.action is Action.BLOCK else "permitted"] += 1
            if self.is_json:
                output.json_line(line_of(told))
            else:
                self._row(row_of(told))
        elif isinstance(told, Limited):
            self.counts["limits"] += 1
            if self.is_json:
                output.json_line(_limit(told))
            else:
                self._row(_shown_limit(told))
        else:
            self.counts["drops"] += 1
            if self.is_json:
                output.json_line(_drop(told))
            else:
                self._row(_shown_drop(told))

    def _row(self, row: str) -> None:
        if not self._headed:
            self._headed = True
            sys.stdout.write(output.paint(HEAD, "dim") + "\n")
        sys.stdout.write(row + "\n")

    def losses(self, lost: int) -> None:
        """Say that the ring was full, when it was since the last call."""
        if lost > self._lost:
            said = f"{output.plural(lost - self._lost, 'event')} lost here: the ring was full"
            if self.is_json:
                sys.stderr.write(f"layergate: {said}\n")
            else:
                self._row(output.paint(said, "yellow"))
            self._lost = lost

    def summary(self, session: Session, command_exit: int | None) -> None:
        """Print what there was in all."""
        statistics = session.programs.statistics()
        facts = {
            "kind": "summary",
            "epoch": round(self._epoch, 6),
            "version": session.policy.version,
            "flows": session.narrator.flow_count,
            "indications": self.counts["indications"],
            "permitted": self.counts["permitted"],
            "blocked": self.counts["blocked"],
            "drops": self.counts["drops"],
            "limits": self.counts["limits"],
            "kept_out": statistics["kept_out"],
            "losses": statistics["lost"],
            "flows_without_room": statistics["flows_full"],
            "faults": statistics["table_faults"],
            "command_exit": command_exit,
        }
        if self.is_json:
            output.json_line(facts)
            return
        sys.stdout.write(
            f"{output.plural(self.counts['indications'], 'indication')} of "
            f"{output.plural(session.narrator.flow_count, 'flow')}: {facts['permitted']} permitted, "
            f"{facts['blocked']} blocked; {output.plural(self.counts['drops'], 'drop')}; {facts['losses']} lost\n"
        )


def line_of(told: Decided) -> dict[str, object]:
    """Return an indication as a line for programs."""
    return indication_line(
        told.indication,
        action=told.action,
        filter_id=told.filter_id,
        filter_name=told.filter.name if told.filter else None,
        sublayer=told.sublayer,
        version=told.version,
        fields=told.fields,
    )


def _drop(told: Drop) -> dict[str, object]:
    return {
        "kind": "drop",
        "time": told.time,
        "host": told.host,
        "event": told.event,
        "flow": told.flow,
        "protocol": told.protocol,
        "local": told.local,
        "remote": told.remote,
        "process": process_line(told.process),
        "reason": told.reason,
        "by": told.by,
        "layer": told.layer,
        "filter": told.filter_id or None,
        "filter_name": told.filter_name,
    }


def _limit(told: Limited) -> dict[str, object]:
    return {
        "kind": "limit",
        "time": told.time,
        "event": told.what,
        "filter": told.filter_id,
        "filter_name": told.filter_name,
        "key": told.key,
        "count": told.count,
        "limit": told.limit,
        "until": told.until,
        "monitor": told.monitor,
    }


def _shown_limit(told: Limited) -> str:
    until = f", until {told.until:.3f}" if told.until is not None and told.what == BANNED else ""
    only = "  (monitor: told only)" if told.monitor else ""
    return _ROW.format(
        time=f"{told.time:.6f}",
        host="-",
        flow="-",
        event=told.what,
        layer=output.paint(f"{told.key:<34}", "yellow"),
        action=output.paint("limit ", "yellow"),
        what=f"'{told.filter_name}': {told.count} of {told.limit}{until}{only}",
    )


def row_of(told: Decided) -> str:
    """Return an indication as a line for people, below `HEAD`."""
    one = told.indication
    blocked = told.action is Action.BLOCK
    decided = ""
    if told.filter_id:
        name = f"'{told.filter.name}'" if told.filter else f"filter {told.filter_id}"
        sublayer = (told.sublayer or "").removeprefix("FWPM_SUBLAYER_")
        decided = output.paint(f"{name} in {sublayer}", "bold" if blocked else "cyan")
    return _ROW.format(
        time=f"{one.time:.6f}",
        host=one.host or "-",
        flow="-" if one.flow is None else one.flow,
        event=one.event,
        layer=f"{one.layer.short} again" if one.reauthorize else one.layer.short,
        action=output.paint(f"{told.action:<6}", "red" if blocked else "green"),
        what="  ".join(filter(None, (decided or "(no filter)", _ends(one.local, one.remote), _who(one.process)))),
    )


def _shown_drop(told: Drop) -> str:
    by = f"{told.by}: '{told.filter_name}'" if told.filter_name else told.by
    return _ROW.format(
        time=f"{told.time:.6f}",
        host=told.host or "-",
        flow="-" if told.flow is None else told.flow,
        event=told.event,
        layer=output.paint(f"{'dropped, ' + told.reason:<34}", "yellow"),
        action=output.paint("drop  ", "yellow"),
        what="  ".join(filter(None, (f"by {by}", _ends(told.local, told.remote), _who(told.process)))),
    )


def _ends(local: str | None, remote: str | None) -> str:
    return f"{local or '?'} - {remote}" if remote else local or ""


def _who(process: Process | None) -> str:
    if process is None:
        return ""
    name = PurePosixPath(process.app).name if process.app else "?"
    return output.paint(f"{name}[{process.pid}]", "dim")


# --- a policy that can be read again --------------------------------------------------------------------------------


def load(path: str | None) -> Policy:
    """Return the policy of *path* (None: nothing is filtered), said what it warns of.

    Raises PolicyError; also for a limit that the connections of the caller's own login are past already.
    """
    if path is None:
        return Policy()
    loaded = load_file(path, SystemResolver())
    warnings = accepted(loaded.policy, path)
    login = login_of(None)
    cut = [f"{path}:{one.line}: {one.evidence}" for one in cut_off(loaded.policy, login)] if login else []
    if login is not None and any(item.limit for item in loaded.policy.filters):
        past = over_limits(loaded.policy, login, _connections())
        problems = tuple(Problem(path, one.line or None, one.object, one.evidence, one.remedy) for one in past)
        if problems:
            raise PolicyError(problems)
    for warning in (*map(str, loaded.warnings), *warnings, *cut):
        sys.stderr.write(f"layergate: warning: {warning}\n")
    return loaded.policy


def _connections() -> list[Login]:
    """Return the connections of this host."""
    question = Question(Detail.PLAIN, protocols=("tcp",), with_owners=False)
    return [
        Login(
            ipaddress.ip_address(one.local_address),
            one.local_port,
            ipaddress.ip_address(one.remote_address),
            one.remote_port,
        )
        for one in table.read(question).endpoints
        if one.remote_address is not None and one.state == "ESTABLISHED"
    ]


def warn(session: Session) -> None:
    """Say what the kernel refuses, and the policy can do without."""
    for error in session.refused:
        sys.stderr.write(f"layergate: warning: not shown here: {error}\n")


def reload(session: Session, path: str | None, teller: Teller) -> None:
    """Read the policy again and put it in force; where it has an error, say so and leave the old one in force."""
    if path is None:
        return
    try:
        session.reload(load(path))
    except PolicyError as error:
        for problem in error.problems:
            output.problem(problem, is_json=teller.is_json)
    except (LayergateError, OSError) as error:
        sys.stderr.write(f"layergate: {error}\n")
    else:
        sys.stderr.write(f"layergate: {path} is in force, version {session.policy.version}\n")
        return
    sys.stderr.write(f"layergate: version {session.policy.version} stays in force\n")


@dataclass
class Signals:
    """What was asked for by signal, since it was last looked at. Use it as a context manager.

    Nothing is raised where the signal comes in: Python drops an exception that comes up in a callback of its own (at a
    fork, at garbage collection), and the signal with it; and what cleans up would be cut short.
    """

    stop: int = 0
    again: bool = False
    _before: dict[int, object] = field(default_factory=dict)

    def __enter__(self) -> Self:
        """Take the signals over."""
        for number in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP):
            self._before[number] = signal.signal(number, self._take)
        return self

    def __exit__(self, *reason: object) -> None:
        """Give them back."""
        for number, handler in self._before.items():
            signal.signal(number, handler)  # type: ignore[arg-type]

    def check(self) -> None:
        """Raise KeyboardInterrupt if the end was asked for, or the terminal is gone."""
        if self.stop or self.again:
            raise KeyboardInterrupt

    def _take(self, number: int, frame: FrameType | None) -> None:
        del frame
        if number == signal.SIGHUP:
            self.again = True
        else:
            self.stop = number
