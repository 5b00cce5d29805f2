"""Draw docs/tcp-states.svg from the one table of TCP's states.

    python tools/gen_tcp_states.py [--check]

With --check nothing is written: exit status 1 where the file is stale. Places alone are chosen here; boxes, arrows and
their words are `layergate.tcp.states.TABLE`'s rows. What ends a connection from nearly every state stands as a table
below: forty arrows to one box would show nothing. A state without place, or a row that is shown nowhere, is an error.
"""

from __future__ import annotations

import sys
from collections import defaultdict
from dataclasses import dataclass
from html import escape
from pathlib import Path
from typing import Final

ROOT = Path(__file__).resolve().parents[1]
sys.path.insert(0, str(ROOT / "src"))

from layergate.tcp.states import TABLE, Cause, State, Transition  # noqa: E402 - the path comes first
from layergate.tcp.wire import Flag  # noqa: E402

TARGET = ROOT / "docs" / "tcp-states.svg"

WIDTH: Final = 1000
BOX_WIDTH: Final = 156
BOX_HEIGHT: Final = 42
LINE_HEIGHT: Final = 15
APART: Final = 11
"""How far from the middle the two arrows between two boxes run."""
GAP: Final = 3
"""What an arrow leaves of the way to its box."""
LETTER_WIDTH: Final = 7.0
"""An estimate, for the label's background: fonts differ."""

LEFT, CENTRE, RIGHT = 170, 500, 830
PLACES: Final = {
    State.CLOSED: (CENTRE, 110),
    State.LISTEN: (LEFT, 210),
    State.SYN_SENT: (RIGHT, 210),
    State.SYN_RECEIVED: (LEFT, 340),
    State.ESTABLISHED: (CENTRE, 420),
    State.FIN_WAIT_1: (LEFT, 550),
    State.CLOSE_WAIT: (RIGHT, 550),
    State.FIN_WAIT_2: (LEFT, 690),
    State.CLOSING: (CENTRE, 650),
    State.LAST_ACK: (RIGHT, 690),
    State.TIME_WAIT: (CENTRE, 770),
}
"""Where each state's box is, by its middle: opening above, the end that closes first on the left."""
END: Final = (CENTRE, 890)
"""CLOSED once more: where the states below ESTABLISHED end."""
LABELS_AT: Final = {
    (State.CLOSED, State.LISTEN): 0.72,
    (State.LISTEN, State.CLOSED): 0.6,
    (State.CLOSED, State.SYN_SENT): 0.35,
    (State.SYN_SENT, State.CLOSED): 0.38,
    (State.SYN_SENT, State.SYN_RECEIVED): 0.4,
    (State.FIN_WAIT_2, State.TIME_WAIT): 0.45,
}
"""How far along its arrow a label stands; elsewhere in the middle."""

ANYWHERE: Final = (Cause.RST, Cause.ABORT, Cause.TIMEOUT, Cause.DATA_AFTER_CLOSE, Cause.UNREACHABLE)
"""What ends a connection from many states: the rows of the table."""
TABLE_TOP: Final = 1000
TABLE_LEFT: Final = 190
CELL_HEIGHT: Final = 26

STYLE: Final = """
  text { font: 13px "DejaVu Sans", Verdana, sans-serif; fill: #1b1f24; text-anchor: middle; }
  .title { font-size: 20px; font-weight: bold; }
  .note { font-size: 12px; fill: #57606a; }
  .state { font-weight: bold; }
  .box { fill: #eaf2fb; stroke: #33608f; stroke-width: 1.5; }
  .open .box { fill: #e4f5e7; stroke: #2d7a3e; }
  .none .box { fill: #f1f1f1; stroke: #6b6b6b; }
  .arrow { fill: none; stroke: #57606a; stroke-width: 1.3; marker-end: url(#head); }
  .label { font-size: 12px; }
  .sent { fill: #b3471d; }
  .left { text-anchor: end; }
  .rule { stroke: #d0d7de; stroke-width: 1; }
"""

Point = tuple[float, float]


@dataclass(frozen=True, slots=True)
class Arrow:
    """All rows from one state to another."""

    old: State
    new: State
    rows: tuple[Transition, ...]


def arrows() -> list[Arrow]:
    """Return what is drawn as arrows, rows between the same boxes together."""
    between: dict[tuple[State, State], list[Transition]] = defaultdict(list)
    for row in TABLE:
        if not in_table(row):
            between[row.old, row.new].append(row)
    return [Arrow(old, new, tuple(rows)) for (old, new), rows in between.items()]


def in_table(row: Transition) -> bool:
    """Whether *row* stands in the table below rather than as an arrow."""
    return row.cause in ANYWHERE and row.new is State.CLOSED


def sent(flags: Flag) -> str:
    """Return what a row sends, as words: "SYN, ACK"; nothing where it sends nothing."""
    return ", ".join(flag.name or "" for flag in (Flag.SYN, Flag.FIN, Flag.RST, Flag.ACK) if flag in flags)


def ends(arrow: Arrow) -> tuple[Point, Point]:
    """Return where *arrow* begins and ends: at the boxes' borders, beside an arrow of the opposite direction."""
    begin = PLACES[arrow.old]
    end = PLACES[arrow.new]
    if arrow.new is State.CLOSED and begin[1] > PLACES[State.ESTABLISHED][1]:
        end = END
    (x, y), (to_x, to_y) = begin, end
    length = ((to_x - x) ** 2 + (to_y - y) ** 2) ** 0.5
    across, along = (to_x - x) / length, (to_y - y) / length
    aside_x = aside_y = 0.0
    if any(row.old is arrow.new and row.new is arrow.old and not in_table(row) for row in TABLE):
        aside_x, aside_y = -along * APART, across * APART
    leaves = to_border((aside_x, aside_y), (across, along))
    arrives = to_border((aside_x, aside_y), (-across, -along)) + GAP
    return (
        (x + aside_x + across * leaves, y + aside_y + along * leaves),
        (to_x + aside_x - across * arrives, to_y + aside_y - along * arrives),
    )


def to_border(point: Point, direction: Point) -> float:
    """Return how far it is to a box's border from *point*, which counts from the box's middle, in *direction*."""
    far = float("inf")
    return min(
        (size / 2 - at * (1 if step > 0 else -1)) / abs(step) if step else far
        for size, at, step in zip((BOX_WIDTH, BOX_HEIGHT), point, direction, strict=True)
    )


def draw_arrow(arrow: Arrow) -> list[str]:
    """Return an arrow with its words: each cause, and what is sent for it."""
    (x, y), (to_x, to_y) = ends(arrow)
    at = LABELS_AT.get((arrow.old, arrow.new), 0.5)
    middle, centre = x + (to_x - x) * at, y + (to_y - y) * at
    lines = []
    letters = 0
    for row in arrow.rows:
        words = sent(row.sends)
        letters = max(letters, len(row.cause.value) + (len(words) + 3 if words else 0))
        lines.append(escape(row.cause.value) + (f' <tspan class="sent">/ {words}</tspan>' if words else ""))
    top = centre - (len(lines) - 1) * LINE_HEIGHT / 2 + 4
    width, height = letters * LETTER_WIDTH + 4, len(lines) * LINE_HEIGHT + 2
    return [
        f'<path class="arrow" d="M{x:.0f} {y:.0f} L{to_x:.0f} {to_y:.0f}"/>',
        (
            f'<rect x="{middle - width / 2:.0f}" y="{centre - height / 2:.0f}" width="{width:.0f}" height="{height}" '
            f'fill="#ffffff"/>'
        ),
        *(
            f'<text class="label" x="{middle:.0f}" y="{top + number * LINE_HEIGHT:.0f}">{line}</text>'
            for number, line in enumerate(lines)
        ),
    ]


def draw_box(state: State, place: Point) -> list[str]:
    """Return a state's box."""
    kind = {State.ESTABLISHED: "open", State.CLOSED: "none"}.get(state, "state")
    x, y = place
    return [
        (
            f'<g class="{kind}">'
            f'<rect class="box" x="{x - BOX_WIDTH / 2:.0f}" y="{y - BOX_HEIGHT / 2:.0f}" width="{BOX_WIDTH}" '
            f'height="{BOX_HEIGHT}" rx="7"/><text class="state" x="{x:.0f}" y="{y + 5:.0f}">{state.value}</text></g>'
        )
    ]


def draw_table() -> list[str]:
    """Return the table of what ends a connection from many states."""
    states = [state for state in State if any(row.old is state and in_table(row) for row in TABLE)]
    width = (WIDTH - TABLE_LEFT - 20) / len(states)
    top = TABLE_TOP
    lines = [
        f'<text class="state" x="{WIDTH / 2:.0f}" y="{top - 40}">What ends it at once, and what is sent then</text>'
    ]
    for number, state in enumerate(states):
        x = TABLE_LEFT + width * (number + 0.5)
        first, _, second = state.value.partition("_")
        lines.append(f'<text class="note" x="{x:.0f}" y="{top - 16 if second else top - 8}">{first}</text>')
        if second:
            lines.append(f'<text class="note" x="{x:.0f}" y="{top - 2}">{second}</text>')
    for line, cause in enumerate(ANYWHERE):
        y = top + 8 + line * CELL_HEIGHT
        lines.append(f'<path class="rule" d="M20 {y} H{WIDTH - 20}"/>')
        lines.append(f'<text class="left" x="{TABLE_LEFT - 12}" y="{y + 18}">{escape(cause.value)}</text>')
        for number, state in enumerate(states):
            row = next((row for row in TABLE if (row.old, row.cause) == (state, cause) and in_table(row)), None)
            if row is not None:
                x = TABLE_LEFT + width * (number + 0.5)
                words = sent(row.sends)
                kind, text = ("sent", words) if words else ("note", "•")
                lines.append(f'<text class="{kind}" x="{x:.0f}" y="{y + 18}">{text}</text>')
    return lines


def compose() -> str:
    """Return the whole drawing."""
    missing = set(State) - set(PLACES)
    if missing:
        raise ValueError(f"no place for {', '.join(sorted(missing))}: add it to PLACES")
    drawn = sum(len(arrow.rows) for arrow in arrows()) + sum(map(in_table, TABLE))
    if drawn != len(TABLE):
        raise ValueError(f"{drawn} of {len(TABLE)} rows are shown")
    height = TABLE_TOP + 8 + len(ANYWHERE) * CELL_HEIGHT + 50
    body: list[str] = []
    for arrow in arrows():
        body += draw_arrow(arrow)
    for state, place in PLACES.items():
        body += draw_box(state, place)
    body += draw_box(State.CLOSED, END)
    body += draw_table()
    return "\n".join(
        [
            "<!-- Generated by tools/gen_tcp_states.py (make docs) from layergate.tcp.states; do not edit. -->",
            (
                f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {WIDTH} {height}" width="{WIDTH}" '
                f'height="{height}" role="img" aria-labelledby="title">'
            ),
            '<title id="title">The states of a TCP connection</title>',
            f"<style>{STYLE}</style>",
            (
                '<defs><marker id="head" viewBox="0 0 10 10" refX="9" refY="5" markerWidth="8" markerHeight="8" '
                'orient="auto"><path d="M0 0 L10 5 L0 10 z" fill="#57606a"/></marker></defs>'
            ),
            f'<rect width="{WIDTH}" height="{height}" fill="#ffffff"/>',
            f'<text class="title" x="{WIDTH / 2:.0f}" y="38">The states of a TCP connection</text>',
            (
                f'<text class="note" x="{WIDTH / 2:.0f}" y="60">cause '
                '<tspan class="sent">/ what is sent then</tspan></text>'
            ),
            *body,
            (
                f'<text class="note" x="{WIDTH / 2:.0f}" y="{height - 18}">'
                "Each half-open connection is one of its own: its listener stays in LISTEN. "
                "•: nothing is sent.</text>"
            ),
            "</svg>",
            "",
        ]
    )


def main(arguments: list[str]) -> int:
    """Write the drawing, or compare it; return the exit status."""
    text = compose()
    if "--check" in arguments:
        current = TARGET.read_text(encoding="utf-8") if TARGET.exists() else ""
        if current != text:
            sys.stderr.write(f"{TARGET} is stale: python tools/gen_tcp_states.py\n")
            return 1
        return 0
    TARGET.write_text(text, encoding="utf-8")
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
