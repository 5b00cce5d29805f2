"""A recording as a sequence chart: hosts as lines downwards, segments as arrows between them, layers where they decide.

`rows` makes the chart's rows, in order; `as_text` draws them for a terminal, `as_svg` as a picture.

- Layers that one thing passes at one host stand in one row: what it was, then each layer with ✓ or ✗.
- Sequence numbers count from each side's first, as packet analysers show them.
- A packet that is lost ends halfway, with what became of it.

    seconds   client                              server
    0.000000  │ SYN  OUTBOUND_TRANSPORT ✓ OUTBOUND_IPPACKET ✓
    0.000000  ├── S 0:0(0) win 64240 ────────────▶│
    0.005000  │                                   │ SYN  INBOUND_IPPACKET ✓ INBOUND_TRANSPORT ✗ by 'closed'
"""

from __future__ import annotations

import html
import textwrap
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, field
from typing import Final

from layergate.model import Action, Decided
from layergate.sim.recording import Called, Carried, Entry, Indicated
from layergate.tcp import Flag, Segment, parse_segment
from layergate.tcp.icmp import complaint, parse_icmp
from layergate.tcp.ip import TCP, UDP, IPv4Packet, Malformed, parse_packet
from layergate.tcp.sequence import MASK
from layergate.tcp.udp import parse_datagram

# What one packet is called at its layers, if it has no name of its own.
_PLAIN: Final = ("segment", "datagram", "data")
LANE_CHARACTERS_MIN: Final = 30
_TIME: Final = 12
_FLAGS: Final = (("S", Flag.SYN), ("F", Flag.FIN), ("R", Flag.RST), ("P", Flag.PSH), (".", Flag.ACK), ("U", Flag.URG))


@dataclass(slots=True)
class Row:
    """One row. *lane*: the host's number, None for the whole width; *to*: of an arrow, where it points.

    *marks*: layers, each with whether it permits and what it says then.
    """

    time: float
    lane: int | None
    text: str
    to: int | None = None
    lost: str = ""
    error: bool = False
    marks: list[tuple[str, bool, str]] = field(default_factory=list)


def rows(entries: Iterable[Entry], hosts: Sequence[str]) -> list[Row]:
    """Return the rows of *entries*, with *hosts* as lanes; what is of no lane is left out. Cost: O(n)."""
    lanes = {name: number for number, name in enumerate(hosts)}
    first: dict[tuple[object, ...], int] = {}
    made: list[Row] = []
    group: tuple[object, ...] = ()
    goes = 0
    for entry in entries:
        if isinstance(entry, Indicated):
            one = entry.decided.indication
            event = "segment" if one.event in _PLAIN else one.event
            mark, way = _mark(entry.decided), _way(entry.decided)
            same = (entry.host, event, one.flow, one.time) == group
            if not same or way * goes < 0 or mark[0] in [known for known, _, _ in made[-1].marks]:
                made.append(Row(one.time, lanes[entry.host], event))
                goes = 0
            group, goes = (entry.host, event, one.flow, one.time), goes or way
            made[-1].marks.append(mark)
            continue
        group = ()
        if isinstance(entry, Carried):
            sender, receiver = lanes.get(entry.sender), lanes.get(entry.receiver)
            if sender is not None and receiver is not None:
                lost = entry.why if entry.arrives is None else ""
                text = describe(entry.packet, first)
                made.append(
                    Row(entry.time, sender, f"{text} {entry.why}" if entry.why != lost else text, receiver, lost)
                )
        elif isinstance(entry, Called):
            outcome = entry.error or entry.result
            text = f"{entry.call.split(' ->')[0]}{' → ' + outcome if outcome else ''}"
            made.append(Row(entry.time, lanes.get(entry.host), text, error=entry.error is not None))
        else:
            made.append(Row(entry.time, None, entry.text))
    return made


def _mark(told: Decided) -> tuple[str, bool, str]:
    one = told.indication
    name = one.layer.base.removeprefix("ALE_") + (" again" if one.reauthorize else "")
    return name, told.action is not Action.BLOCK, f"by '{told.filter.name}'" if told.filter else ""


def _way(told: Decided) -> int:
    """Return 1 for what comes in, -1 for what goes out, 0 for what says neither."""
    layer, direction = told.indication.layer, told.indication.values.get("DIRECTION")
    if layer.base.startswith(("INBOUND", "OUTBOUND")):
        return 1 if layer.base.startswith("INBOUND") else -1
    return 0 if direction is None or layer.base != "STREAM" else 1 if direction.data else -1


def describe(data: bytes, first: dict[tuple[object, ...], int]) -> str:
    """Return a packet in a few words. *first*: each direction's first sequence number, as they come up."""
    packet = parse_packet(data)
    if isinstance(packet, Malformed):
        return packet.reason
    if packet.protocol == TCP:
        segment = parse_segment(packet.payload, packet.source, packet.destination, verify=False)
        return (
            segment.reason
            if isinstance(segment, Malformed)
            else _tcp(segment, packet.source, packet.destination, first)
        )
    if packet.protocol == UDP:
        datagram = parse_datagram(packet.payload, packet.source, packet.destination, verify=False)
        return datagram.reason if isinstance(datagram, Malformed) else f"UDP {len(datagram.payload)} bytes"
    message = parse_icmp(packet.payload, packet.source, packet.destination)
    said = None if isinstance(message, Malformed) else complaint(message, is_v4=isinstance(packet, IPv4Packet))
    return f"ICMP {said.meaning}" if said else "ICMP"


def _tcp(segment: Segment, source: object, destination: object, first: dict[tuple[object, ...], int]) -> str:
    here = source, segment.source_port, destination, segment.destination_port
    there = destination, segment.destination_port, source, segment.source_port
    if segment.flags & Flag.SYN or here not in first:
        first[here] = segment.sequence if segment.flags & Flag.SYN else segment.sequence - 1
    start = (segment.sequence - first[here]) & MASK
    letters = "".join(letter for letter, flag in _FLAGS if segment.flags & flag) or "none"
    size = len(segment.payload)
    text = f"{letters} {start}:{start + size}({size})"
    if segment.flags & Flag.ACK:
        text += f" ack {(segment.acknowledgment - first.get(there, segment.acknowledgment - 1)) & MASK}"
    return f"{text} win {segment.window}"


# --- for a terminal -------------------------------------------------------------------------------------------------


def as_text(made: Sequence[Row], hosts: Sequence[str], *, width: int, paint: Callable[[str, str], str]) -> list[str]:
    """Return the chart as lines of about *width* characters. *paint* colours a text: red, green, dim, bold, yellow."""
    count = max(len(hosts), 1)  # a scenario without hosts may still have notes
    lane = max((width - _TIME) // count, LANE_CHARACTERS_MIN)
    width = max(width, _TIME + lane)
    lines = [paint("   seconds  " + "".join(name.ljust(lane) for name in hosts).rstrip(), "bold")]
    for row in made:
        if row.to is not None and row.lane is not None and row.to != row.lane:
            lines.append(f"{row.time:>10.6f}  " + _arrow(row, len(hosts), lane, paint))
            continue
        rest = max(lane, width - _TIME - lane * (len(hosts) - 1))
        cells = _cells(row, width - _TIME - 1 if row.lane is None else rest if row.lane == len(hosts) - 1 else lane)
        for number, (plain, shown) in enumerate(cells):
            time = f"{row.time:>10.6f}  " if not number else " " * _TIME
            if row.lane is None:
                lines.append(time + paint(f"── {plain} ".ljust(lane * len(hosts), "─"), "yellow"))
                continue
            before = "│".ljust(lane) * row.lane
            behind = (len(hosts) - row.lane - 1) * "│".ljust(lane)
            lines.append((time + before + "│ " + shown + " " * max(lane - 2 - len(plain), 0) + behind).rstrip())
    return lines


def _said(layer: str, by: str, *, permits: bool) -> str:
    return f"{layer} {'✓' if permits else '✗'}{' ' if by else ''}{by}"


def _cells(row: Row, lane: int) -> list[tuple[str, str]]:
    """Return the lines of a row's text: each plain, and as it is shown."""
    if not row.marks:
        text = f"↺ {row.text}" if row.to is not None else row.text
        return [(part, part) for part in textwrap.wrap(text, lane - 3) or [""]]
    words = [
        row.text,
        *(f"{name} {'✓' if permits else '✗'}{' ' + by if by else ''}" for name, permits, by in row.marks),
    ]
    lines, current = [], ""
    for number, word in enumerate(words):
        if current and len(current) + 2 + len(word) > lane - 3 and number > 1:
            lines.append(current)
            current = "  " + word
        else:
            current = f"{current}  {word}" if current else word
    return [(line, line) for line in [*lines, current]]


def _arrow(row: Row, hosts: int, lane: int, paint: Callable[[str, str], str]) -> str:
    assert row.lane is not None
    assert row.to is not None
    left, right = sorted((row.lane, row.to))
    inner = (right - left) * lane - 1
    text = f" {row.text}{', ' + row.lost if row.lost else ''} "
    if len(text) > inner - 4:
        text = f"{text[: inner - 6]}… "
    body = ("──" + text).ljust(inner - 1, "─")
    if row.lost:
        drawn = body[: len(body) - 2] + "─✗ " if row.to > row.lane else " ✗─" + body[: len(body) - 2]
    else:
        drawn = body + "▶" if row.to > row.lane else "◀" + body
    cells = (
        "│".ljust(lane) * left + ("├" if row.to > row.lane else "│") + paint(drawn, "yellow" if row.lost else "cyan")
    )
    return cells + ("│" if row.to > row.lane else "┤") + (" " * (lane - 1) + "│") * (hosts - right - 1)


# --- as a picture ---------------------------------------------------------------------------------------------------

_LANE_PX: Final = 460
_LEFT_PX: Final = 90
_ROW_PX: Final = 18
_STYLE: Final = (
    "text{font:12px ui-monospace,monospace;fill:#1f2328}.time{fill:#6e7781}.host{font-weight:bold;font-size:14px}"
    ".line{stroke:#afb8c1}.arrow{stroke:#0969da;marker-end:url(#head)}.lost{stroke:#bc4c00;stroke-dasharray:4 3}"
    ".ok{fill:#1a7f37}.no{fill:#cf222e;font-weight:bold}.note{fill:#bc4c00}.on{text-anchor:middle;font-size:11px}"
)


def as_svg(made: Sequence[Row], hosts: Sequence[str], title: str) -> str:
    """Return the chart as an SVG document."""
    at, parts = 60, []
    for row in made:
        parts.append(f'<text class="time" x="8" y="{at}">{row.time:.6f}</text>')
        if row.lane is None:
            parts.append(f'<text class="note" x="{_LEFT_PX}" y="{at}">{html.escape(row.text)}</text>')
        elif row.to is not None and row.to != row.lane:
            parts.append(_svg_arrow(row, at))
        else:
            at = _svg_text(row, at, parts)
        at += _ROW_PX
    width = _LEFT_PX + _LANE_PX * len(hosts)
    lines = [
        f'<text class="host" x="{_x(number)}" y="34">{html.escape(name)}</text>'
        f'<line class="line" x1="{_x(number)}" y1="42" x2="{_x(number)}" y2="{at}"/>'
        for number, name in enumerate(hosts)
    ]
    head = (
        '<defs><marker id="head" viewBox="0 0 8 8" refX="8" refY="4" markerWidth="8" markerHeight="8" orient="auto">'
        '<path d="M0,0 L8,4 L0,8 z" fill="#0969da"/></marker></defs>'
    )
    return "\n".join(
        [
            f'<svg xmlns="http://www.w3.org/2000/svg" width="{width}" height="{at + 10}" role="img">',
            f"<title>{html.escape(title)}</title><style>{_STYLE}</style>{head}",
            f'<rect width="100%" height="100%" fill="#ffffff"/><text x="8" y="16">{html.escape(title)}</text>',
            *lines,
            *parts,
            "</svg>\n",
        ]
    )


def _x(lane: int) -> int:
    return _LEFT_PX + 8 + _LANE_PX * lane


def _svg_arrow(row: Row, at: int) -> str:
    assert row.lane is not None
    assert row.to is not None
    start, end = _x(row.lane), _x(row.to)
    text = f"{row.text}, {row.lost}" if row.lost else row.text
    label = f'<text class="on" x="{(start + end) // 2}" y="{at - 2}">{html.escape(text)}</text>'
    if row.lost:
        middle = (start + end) // 2
        cross = f'<text class="no" x="{middle - 4}" y="{at + 7}">✗</text>'
        return f'<line class="lost" x1="{start}" y1="{at + 3}" x2="{middle}" y2="{at + 3}"/>{cross}{label}'
    return f'<line class="arrow" x1="{start}" y1="{at + 3}" x2="{end}" y2="{at + 3}"/>{label}'


def _svg_text(row: Row, at: int, parts: list[str]) -> int:
    """Add a row's text, a line for every two layers; return where its last line stands."""
    assert row.lane is not None
    x = _x(row.lane) + 8
    if not row.marks:
        kind = ' class="no"' if row.error else ""
        parts.append(f'<text{kind} x="{x}" y="{at}">{html.escape(row.text)}</text>')
        return at
    for number in range(0, len(row.marks), 2):
        at += _ROW_PX if number else 0
        said = "".join(
            f'<tspan class="{"ok" if permits else "no"}">{html.escape(_said(name, by, permits=permits))}  </tspan>'
            for name, permits, by in row.marks[number : number + 2]
        )
        event = html.escape(row.text) if not number else ""
        parts.append(f'<text x="{x}" y="{at}">{event}</text><text x="{x + 84}" y="{at}">{said}</text>')
    return at
