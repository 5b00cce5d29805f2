"""The lines of a TCP scenario: text in, values out; every bad line an error that names file and line.

What a line means, and a worked example, stand in `scenario`, which plays them.
"""

from __future__ import annotations

import re
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Final

from layergate.tcp import Flag, Segment
from layergate.tcp.wire import NOP, Kind, Option, mss_option, timestamps_option, window_scale_option

PEER_PORT: Final = 50001
WINDOW: Final = 65535
QUANTITIES: Final = frozenset(
    {"state", "cwnd", "ssthresh", "rto", "srtt", "available", "room", "unacknowledged", "retransmitted", "peer_window",
     "mss", "half_open", "waiting", "drops", "overflows"}
)  # fmt: skip
"""What a line may say the value of."""
CALLS: Final = ("config", "connect", "listen", "accept", "write", "read", "shutdown", "close", "abort")
FLAGS: Final = {"S": Flag.SYN, "F": Flag.FIN, "R": Flag.RST, "P": Flag.PSH, ".": Flag.ACK, "U": Flag.URG}

_LINE: Final = re.compile(r"\+(?P<delay>\d+(?:\.\d+)?)\s+(?:(?P<port>\d+):\s+)?(?P<verb><|>|\w+)(?:\s+(?P<rest>.*))?")
_SEGMENT: Final = re.compile(
    r"(?P<flags>none|[SFRP.U]+) (?P<start>\d+):(?P<end>\d+)\((?P<size>\d+)\)"
    r"(?: ack (?P<ack>\d+))?(?: win (?P<win>\d+))?(?: urg (?P<urg>\d+))?(?: <(?P<options>[^>]*)>)?"
    r"(?P<damaged> damaged)?"
)


class ScenarioError(Exception):
    """A line that can't be understood. *place*: file and line."""

    def __init__(self, place: str, finding: str) -> None:
        super().__init__(f"{place}: {finding}")
        self.place, self.finding = place, finding


@dataclass(frozen=True, slots=True)
class Line:
    """One line: so many seconds after the one before; *rest* is what follows the verb."""

    place: str
    delay_s: float
    port: int
    verb: str
    rest: str
    segment: Segment | None = None
    any_window: bool = False
    any_options: bool = False
    damaged: bool = False


def read(path: Path) -> list[Line]:
    """Return the lines of the scenario at *path*. Raises ScenarioError."""
    return parse(path.read_text(encoding="utf-8"), path.name)


def parse(text: str, name: str) -> list[Line]:
    """Return the lines of a scenario. Raises ScenarioError, which names *name* and the line."""
    lines = []
    for number, raw in enumerate(text.splitlines(), 1):
        content = raw.partition("#")[0].strip()
        if content:
            lines.append(_parse_line(content, f"{name}:{number}"))
    if not lines:
        raise ScenarioError(f"{name}:1", "nothing happens: a scenario has at least one line such as `+0 connect`")
    return lines


def _parse_line(content: str, place: str) -> Line:
    match = _LINE.fullmatch(content)
    if match is None:
        raise ScenarioError(place, f"`{content}`: a line is `+SECONDS [PORT:] WHAT`, such as `+0.01 > F. 1:1(0) ack 2`")
    verb, rest = match["verb"], " ".join((match["rest"] or "").split())
    line = Line(place, float(match["delay"]), int(match["port"] or PEER_PORT), verb, rest)
    if verb in ("<", ">"):
        return line if verb == "<" and rest.startswith("icmp") else _parse_segment(line)
    known = {*CALLS, "event", "checksum", *QUANTITIES}
    if verb not in known:
        raise ScenarioError(place, f"`{verb}` is no call and no quantity; there are {', '.join(sorted(known))}")
    if verb in (*QUANTITIES, "event", "checksum") and not rest:
        raise ScenarioError(place, f"`{verb}` needs a value")
    return line


def _parse_segment(line: Line) -> Line:
    match = _SEGMENT.fullmatch(line.rest)
    if match is None:
        raise ScenarioError(
            line.place, f"`{line.rest}` is no segment: FLAGS FIRST:LAST(LENGTH) [ack N] [win N] [urg N] [<OPTIONS>]"
        )
    start, end, size = int(match["start"]), int(match["end"]), int(match["size"])
    if start + size & 0xFFFFFFFF != end:
        raise ScenarioError(line.place, f"from {start} to {end} it is not {size} bytes")
    flags = Flag.NONE
    for letter in match["flags"] if match["flags"] != "none" else "":
        flags |= FLAGS[letter]
    if bool(flags & Flag.ACK) != (match["ack"] is not None):
        raise ScenarioError(line.place, "`.` among the flags and `ack N` go together")
    options = match["options"]
    segment = Segment(
        0,
        0,
        start,
        int(match["ack"] or 0),
        flags,
        WINDOW if match["win"] is None else int(match["win"]),
        int(match["urg"] or 0),
        () if options in (None, "", "...") else tuple(_option(one, line.place) for one in options.split(",")),
        bytes(size),
    )
    return replace(
        line,
        segment=segment,
        any_window=match["win"] is None,
        any_options=options == "...",
        damaged=match["damaged"] is not None,
    )


def _option(text: str, place: str) -> Option:
    words = text.split()
    try:
        match words:
            case ["mss", value]:
                return mss_option(int(value))
            case ["wscale", value]:
                return window_scale_option(int(value))
            case ["TS", "val", value, "ecr", echo]:
                return timestamps_option(int(value), int(echo))
            case ["nop"]:
                return NOP
            case ["sackOK"]:
                return Option(Kind.SACK_PERMITTED)
            case ["kind", value]:
                return Option(int(value))
    except (ValueError, OverflowError):
        pass
    raise ScenarioError(place, f"`{text}` is no option: mss N, wscale N, TS val N ecr N, nop, sackOK, kind N")
