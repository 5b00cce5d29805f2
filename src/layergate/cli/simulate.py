"""`layergate simulate`: a documented flow or a scenario, run in a world of its own; needs no privilege.

With --json: the indications, as `trace` prints them; of a scenario also its calls and notes. Else a sequence chart, or
with --lines what `trace` prints.
"""

from __future__ import annotations

import argparse
import shutil
import sys
from collections.abc import Iterator
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Final

from layergate.capture import pcapng
from layergate.cli import output
from layergate.cli.telling import HEAD, line_of, row_of
from layergate.live.names import SystemResolver
from layergate.model import Action, InputError, Policy, PolicyError, Problem
from layergate.policyfile import load_file
from layergate.policyfile.names import suggestion
from layergate.sim import scenarios
from layergate.sim.chart import as_svg, as_text, rows
from layergate.sim.documented import FLOWS, simulate
from layergate.sim.recording import Called, Carried, Entry, Indicated, Recording
from layergate.sim.running import Run
from layergate.sim.script import parse

NAME: Final = "simulate"
HELP: Final = "run a documented flow, or a scenario, without privilege: each layer, each verdict, the same every time"

ROWS_MAX: Final = 400
"""More rows than that nobody reads: the middle is left out, unless it is asked for."""


def configure(parser: argparse.ArgumentParser) -> None:
    """Add the options."""
    parser.add_argument("flow", metavar="FLOW", nargs="?", help="a flow, a scenario, or a scenario's file; see --list")
    parser.add_argument("--list", action="store_true", help="list the flows and scenarios")
    parser.add_argument("--show", action="store_true", help="print the scenario's text, to copy and change")
    parser.add_argument("--ip", type=int, choices=(4, 6), default=4, help="over IPv4 (default) or IPv6")
    parser.add_argument("--policy", metavar="FILE", help="decide by this policy at every host that has none of its own")
    parser.add_argument("--seed", type=int, default=0, metavar="N", help="of all that is left to chance (default: 0)")
    parser.add_argument("--lines", action="store_true", help="print a line for each indication, as trace does")
    parser.add_argument("--all", action="store_true", help="draw all rows of a long chart")
    parser.add_argument("--svg", metavar="FILE", help="draw the sequence chart into FILE")
    parser.add_argument("--pcapng", metavar="FILE", help="write the packets to FILE, for Wireshark and tcpdump")
    parser.add_argument("--json", action="store_true", help="print JSON Lines")


def run(arguments: argparse.Namespace) -> int:
    """Simulate."""
    if arguments.list or arguments.flow is None:
        return _list(is_json=arguments.json, asked=arguments.list)
    policy = _policy(arguments.policy)
    if arguments.flow in FLOWS:
        if arguments.show:
            raise InputError(f"{arguments.flow} is a documented flow", "--show prints a scenario; --list names them")
        _give(arguments, _documented(arguments.flow, seed=arguments.seed, version=arguments.ip, policy=policy))
        return 0
    script = parse(*_text(arguments.flow))
    if arguments.show:
        sys.stdout.write(_text(arguments.flow)[0])
        return 0
    played = Run(script, SystemResolver(), seed=arguments.seed, version=arguments.ip, policy=policy)
    entries = played.recording.entries
    result = _Result(entries, entries, played.recording, tuple(script.hosts), script.title)
    try:
        played.play()
    except PolicyError:  # what led there is shown, then what is wrong
        _give(arguments, replace(result, is_whole=False))
        raise
    _give(arguments, result)
    return 0


@dataclass(frozen=True, slots=True)
class _Result:
    """What a simulation gave: what is *told*, line by line, and what is *drawn*. *is_whole*: it came to its end."""

    told: list[Entry]
    drawn: list[Entry]
    recording: Recording
    hosts: tuple[str, ...]
    title: str
    is_whole: bool = True


def _documented(name: str, *, seed: int, version: int, policy: Policy | None) -> _Result:
    """Return a documented flow: told are its steps; drawn, the packets between them too."""
    shown = simulate(name, seed=seed, version=version, policy=policy)
    steps = {id(told) for told in shown.steps}
    entries = [
        entry for entry in shown.recording.entries if not isinstance(entry, Indicated) or id(entry.decided) in steps
    ]
    places = [place for place, entry in enumerate(entries) if isinstance(entry, Indicated)]
    drawn = entries[places[0] : places[-1] + 1] if places else []
    told: list[Entry] = [entry for entry in entries if isinstance(entry, Indicated)]
    return _Result(told, drawn, shown.recording, ("client", "server"), FLOWS[name].about)


def _list(*, is_json: bool, asked: bool) -> int:
    known = [
        *(("flow", name, flow.about) for name, flow in FLOWS.items()),
        *(("scenario", name, parse(scenarios.text(name), name).title) for name in scenarios.names()),
    ]
    if is_json:
        for kind, name, about in known:
            output.json_line({"kind": kind, "name": name, "about": about})
    else:
        if not asked:
            sys.stderr.write("layergate simulate FLOW: name one of these, or a scenario's file\n")
        for kind in ("flow", "scenario"):
            sys.stdout.write(output.paint(f"{kind}s\n", "bold"))
            sys.stdout.writelines(
                f"{line}\n" for line in output.columns([row[1:] for row in known if row[0] == kind], indent=2)
            )
    return 0 if asked else 2


def _policy(path: str | None) -> Policy | None:
    if path is None:
        return None
    loaded = load_file(path, SystemResolver())
    for warning in loaded.warnings:
        sys.stderr.write(f"layergate: warning: {warning}\n")
    return loaded.policy


def _text(name: str) -> tuple[str, str]:
    """Return the text of a scenario, and what its file is called. Raises InputError."""
    if name in scenarios.names():
        return scenarios.text(name), f"{name}.txt"
    path = Path(name)
    if not path.is_file():
        close = suggestion(name, [*FLOWS, *scenarios.names()])
        raise InputError(f"no flow, scenario or file {name}", f"{close}layergate simulate --list names them")
    try:
        return path.read_text(encoding="utf-8-sig"), name
    except UnicodeDecodeError as error:
        problem = Problem(name, None, "", f"byte {error.start} is no UTF-8", "a scenario's text")
        raise PolicyError((problem,)) from None


# --- what is printed, drawn and written -------------------------------------------------------------------------------


def _give(arguments: argparse.Namespace, result: _Result) -> None:
    drawn, hosts = result.drawn, result.hosts
    if arguments.svg:
        Path(arguments.svg).write_text(as_svg(rows(drawn, hosts), hosts, result.title), encoding="utf-8")
    if arguments.pcapng:
        with Path(arguments.pcapng).open("wb") as file:
            file.writelines(pcapng.compose(_captured(result.recording)))
    if arguments.json:
        _json(result)
    elif arguments.lines:
        sys.stdout.write(output.paint(HEAD, "dim") + "\n")
        sys.stdout.writelines(f"{row_of(entry.decided)}\n" for entry in result.told if isinstance(entry, Indicated))
    else:
        _chart(drawn, hosts, result.title, shows_all=arguments.all)


def _chart(drawn: list[Entry], hosts: tuple[str, ...], title: str, *, shows_all: bool) -> None:
    made = rows(drawn, hosts)
    left_out = 0 if shows_all or len(made) <= ROWS_MAX else len(made) - ROWS_MAX
    width = shutil.get_terminal_size((140, 40)).columns
    sys.stdout.write(output.paint(title, "bold") + "\n\n")
    head, tail = (made[: ROWS_MAX // 2], made[-ROWS_MAX // 2 :]) if left_out else (made, [])
    lines = as_text(head, hosts, width=width, paint=output.paint)
    if left_out:
        lines += ["", output.paint(f"  ... {left_out} rows more; --all draws them", "yellow"), ""]
        lines += as_text(tail, hosts, width=width, paint=output.paint)[1:]
    sys.stdout.writelines(f"{line}\n" for line in lines)


def _json(result: _Result) -> None:
    recording = result.recording
    actions = {Action.PERMIT: 0, Action.BLOCK: 0}
    version, flows = 1, set()
    for entry in result.told:
        if isinstance(entry, Indicated):
            actions[entry.decided.action] += 1
            version = max(version, entry.decided.version)
            flows.add(entry.decided.indication.flow)
            output.json_line(line_of(entry.decided))
        elif isinstance(entry, Called):
            output.json_line(
                {
                    "kind": "call",
                    "time": round(entry.time, 6),
                    "at": entry.host,
                    "call": entry.call.split(" ->")[0],
                    "result": entry.result or None,
                    "error": entry.error,
                }
            )
        elif not isinstance(entry, Carried):
            output.json_line({"kind": "note", "time": round(entry.time, 6), "text": entry.text})
    if not result.is_whole:
        return  # an error follows, and is the last line
    lost = sum(isinstance(entry, Carried) and entry.arrives is None for entry in recording.entries)
    output.json_line(
        {
            "kind": "summary",
            "epoch": 0.0,
            "version": version,
            "flows": len(flows - {None}),
            "indications": sum(actions.values()),
            "permitted": actions[Action.PERMIT],
            "blocked": actions[Action.BLOCK],
            "packets": recording.counts["Carried"],
            "packets_lost": lost,
        }
    )


def _captured(recording: Recording) -> Iterator[pcapng.Captured]:
    for entry in recording.entries:
        if isinstance(entry, Carried):
            yield pcapng.Captured(entry.time, entry.sender, entry.packet, entry.why)
