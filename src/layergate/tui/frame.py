"""The frame: the model as lines of styled text, for a width and a height. Nothing else is drawn.

A line is a list of spans (text, style); styles are names that the screen knows (`app.STYLES`). Only what is on the
screen is looked at, so that drawing costs the same for ten endpoints and for 100,000.

Worked example: `frame(model, 80, 24)` is 24 lines, none wider than 80.
"""

from __future__ import annotations

import textwrap
from collections.abc import Iterable, Iterator
from typing import Final

from layergate.sockets.columns import size_words, time_words
from layergate.sockets.endpoint import Endpoint
from layergate.sockets.histograms import Histogram, drawn
from layergate.sockets.lines import service_name
from layergate.sockets.passage import Passed
from layergate.sockets.subject import Subject
from layergate.tui.keys import KEYS
from layergate.tui.model import TABS, Group, Model
from layergate.tui.rows import Row

Span = tuple[str, str]
Line = list[Span]

WIDTH_MIN, HEIGHT_MIN = 40, 8
_HEAD_LINES: Final = 3  # title, tabs, columns
_FOOT_LINES: Final = 2  # message, keys
_STATE_COLUMNS: Final = 17  # the mark, the state, and what is between columns
_RATE_COLUMNS: Final = 14
_END_COLUMNS: Final = 48  # the longest IPv6 address with a port
_BARS: Final = " ▁▂▃▄▅▆▇█"
_STALE_S: Final = ((300.0, "stale"), (60.0, "idle"))


def page_lines(height: int) -> int:
    """Return how many lines of the list fit on a screen of *height* lines."""
    return max(height - _HEAD_LINES - _FOOT_LINES, 1)


def frame(model: Model, width: int, height: int) -> list[Line]:
    """Return the screen. Cost: about 20 µs a line."""
    width, height = max(width, WIDTH_MIN), max(height, HEIGHT_MIN)
    model.set_page(page_lines(height))
    body = _BODIES[model.tab](model, width, height - _FOOT_LINES - 2)
    lines = [_title(model), _tabs(model), *body][: height - _FOOT_LINES]
    lines += [[] for _ in range(height - _FOOT_LINES - len(lines))]
    return [_cut(line, width) for line in (*lines, _message(model), _hints())]


def _cut(line: Line, width: int) -> Line:
    cut: Line = []
    for text, style in line:
        if width <= 0:
            break
        shown = "".join(char if char.isprintable() else "?" for char in text)
        cut.append((shown if len(shown) <= width else shown[: width - 1] + "…", style))
        width -= len(cut[-1][0])
    return cut


def _title(model: Model) -> Line:
    marks = [(f"  +{model.rows.count('new')}", "new"), (f" ~{model.rows.count('changed')}", "changed"),
             (f" -{model.rows.count('closing')}", "closing")]  # fmt: skip
    total, chosen = len(model.rows.by_cookie), len(model.order)
    count = f"{chosen} of {total} endpoints" if model.words else f"{total} endpoints"
    line = [("layergate", "title"), (f"  {count}", "plain"), *marks]
    if model.words:
        line.append((f"  filter: {model.words}", "accent"))
    if model.sort != "none":
        line.append((f"  sort: {model.sort} {'↓' if model.is_descending else '↑'}", "dim"))
    return line


def _tabs(model: Model) -> Line:
    line: Line = []
    for number, name in enumerate(TABS, 1):
        label = f"{name} ({len(model.findings)})" if name == "findings" and model.findings else name
        line.append((f" {number} {label} ", "tab" if name == model.tab else "dim"))
    return line


def _message(model: Model) -> Line:
    if model.question is not None:
        return [(model.question.text, "question")]
    if model.prompt is not None:
        return [("filter: ", "accent"), (model.prompt, "plain"), ("█", "accent")]
    return [(model.message, "accent")]


def _hints() -> Line:
    hints = "q quit  / filter  s S sort  a group  Enter details  x close  b block  h help"
    return [(hints, "dim")]


# --- the list -------------------------------------------------------------------------------------------------------


def _list(model: Model, width: int, height: int) -> Iterator[Line]:
    del height
    room = max(width - _STATE_COLUMNS - _RATE_COLUMNS, 24)
    ends = min(room * 35 // 100, _END_COLUMNS)
    process = room - 2 * ends
    head = f"  {'STATE':<12} {'LOCAL':<{ends}} {'REMOTE':<{ends}} {'PROCESS':<{process}}"
    yield [(head.rstrip(), "head")]
    selected = model.cursor - model.top
    for place, line in enumerate(model.visible()):
        is_selected = place == selected
        if isinstance(line, Group):
            yield _group_line(model, line, is_selected=is_selected)
        else:
            yield _row_line(model.rows.by_cookie[line], ends, process, is_selected=is_selected)


def _row_line(row: Row, ends: int, process: int, *, is_selected: bool) -> Line:
    one = row.subject
    who = one.process
    name = f"{who.name}[{who.pid}]" if who else "-"
    sign = {"new": "+", "changed": "~", "closing": "-"}.get(row.mark, " ")
    text = (
        f"{sign} {one.state:<12} {_end(one.local, ends):<{ends}} {_end(one.remote or '*', ends):<{ends}} "
        f"{name[:process]:<{process}}"
    )
    style = "selected" if is_selected else row.mark or _staleness(row)
    return [(f"{text}{_rates(row):<{_RATE_COLUMNS}}", style)]


def _end(text: str, width: int) -> str:
    """Return an end that fits: the port is never cut off."""
    if len(text) <= width:
        return text
    address, _, port = text.rpartition(":")
    room = max(width - len(port) - 2, 1)
    return f"{address[:room]}…:{port}"


def _staleness(row: Row) -> str:
    info = row.watched.info if row.watched else None
    if info is None or row.subject.state != "ESTABLISHED":
        return "plain"
    idle = min(info.last_data_sent_ms, info.last_data_received_ms) / 1000
    return next((style for limit, style in _STALE_S if idle >= limit), "plain")


def _rates(row: Row) -> str:
    watched = row.watched
    if watched is None or not watched.sent:
        return ""
    total = [out + back for out, back in zip(watched.sent, watched.received, strict=True)]
    return f" {size_words(total[-1]):>5}/s {sparkline(total, 5)}"


def sparkline(values: Iterable[float], width: int) -> str:
    """Return the last *width* of *values* as bars, the greatest of them as high as there are."""
    last = list(values)[-width:]
    most = max(last, default=0.0)
    return "".join(_BARS[round(value / most * (len(_BARS) - 1))] if most else _BARS[0] for value in last)


def _group_line(model: Model, group: Group, *, is_selected: bool) -> Line:
    sign = "▾" if group.name in model.expanded else "▸"
    counts: dict[str, int] = {}
    for cookie in group.cookies:
        state = model.rows.by_cookie[cookie].subject.state
        counts[state] = counts.get(state, 0) + 1
    told = ", ".join(f"{count} {state}" for state, count in sorted(counts.items(), key=lambda item: -item[1]))
    return [(f"{sign} {group.name}: {told}", "selected" if is_selected else "accent")]


# --- the other pages ------------------------------------------------------------------------------------------------


def _details(model: Model, width: int, height: int) -> Iterator[Line]:
    del width, height
    row = model.selected_row()
    if row is None:
        yield [("nothing is chosen", "dim")]
        return
    one = row.subject
    for title, value in _facts(one, row):
        yield [(f"{title:<12}", "dim"), (value, "plain")]
    cookie = model.selected_cookie()
    history = model.rows.history.get(cookie) if cookie is not None else None
    if history:
        yield [("states", "head")]
        for event in history:
            spent = f"after {time_words(event.spent_s)}" if event.spent_s is not None else ""
            yield [(f"  {event.was:<12} → {event.to:<12} {spent}", "plain")]
    if cookie is not None and model.passage[0] == cookie:
        yield from _layers(model.passage[1], row)
    if row.watched and row.watched.rtts_us:
        histogram = Histogram()
        for rtt_us in row.watched.rtts_us:
            histogram.add(rtt_us)
        yield [("", "plain")]
        for text in drawn("round trips, smoothed, a sample a second", histogram):
            yield [(text, "plain")]


def _layers(passage: Iterable[Passed], row: Row) -> Iterator[Line]:
    """Draw the layers: what each says, by which filter, and what has passed it."""
    info = row.watched.info if row.watched else None
    counts = {}
    if info is not None:
        counts = {
            "OUTBOUND_TRANSPORT": f"{info.segments_out} segments",
            "INBOUND_TRANSPORT": f"{info.segments_in} segments",
            "STREAM": f"{size_words(info.bytes_sent)} out, {size_words(info.bytes_received)} in",
        }
    yield [("layers", "head")]
    for one in passage:
        verdict = f"{one.verdict or '-'}{'' if one.is_certain else '?'}"
        by = f"'{one.by}'{' (recorded)' if one.is_recorded else ''}" if one.by else ""
        told = "  ".join(filter(None, (by, counts.get(one.layer, ""))))
        yield [(f"  {one.layer:<23}{verdict:<8}", "closing" if one.verdict == "block" else "plain"), (told, "dim")]


def _facts(one: Subject, row: Row) -> Iterator[tuple[str, str]]:
    process = one.process
    yield "connection", f"{one.protocol}  {one.local}  {one.remote or '*'}  {one.state}"
    if process:
        yield "process", f"{process.name}[{process.pid}]  {process.app or ''}  user {process.user}"
    if isinstance(one, Endpoint):
        held = ", ".join(f"{holder.pid}/{holder.fd}" for holder in one.holders[:8])
        yield "held by", f"{held or 'nobody'} (process/descriptor); inode {one.inode}"
        yield "service", service_name(one) or "-"
    info = row.watched.info if row.watched else None
    if info is not None:
        yield "bytes", f"{size_words(info.bytes_sent)} sent, {size_words(info.bytes_received)} received"
        rtt = f"{time_words(info.rtt_us / 1e6)} ± {time_words(info.rtt_variance_us / 1e6)}"
        yield "round trip", f"{rtt}; least {time_words(info.rtt_min_us / 1e6)}"
        yield (
            "sent again",
            f"{info.retransmitted} of {info.data_segments_out} segments; window {info.congestion_window}",
        )
        yield "rate", f"{_rates(row).strip() or '-'}"


def _processes(model: Model, width: int, height: int) -> Iterator[Line]:
    del width, height
    yield [(f"  {'PROCESS':<30} {'ENDPOINTS':>9}", "head")]
    for group in model.groups:
        yield [(f"  {group.name:<30} {len(group.cookies):>9}", "plain")]


def _findings(model: Model, width: int, height: int) -> Iterator[Line]:
    del height
    if not model.findings:
        yield [("nothing was found to be wrong", "dim")]
    for one in model.findings:
        who = f"  {one.who}" if one.who != one.subject else ""
        style = "closing" if one.severity == "error" else "changed"
        yield [(f"{one.severity}: {one.id}  {one.subject}{who}", style)]
        for text in textwrap.wrap(f"{one.evidence}. Do: {one.remedy}", width - 4):
            yield [(f"    {text}", "plain")]


def _help(model: Model, width: int, height: int) -> Iterator[Line]:
    del model, width
    half = min(len(KEYS), max(height, 1))
    for place in range(half):
        line = [(f" {KEYS[place].shown:<6}", "accent"), (f"{KEYS[place].help:<34}", "plain")]
        if place + half < len(KEYS):
            other = KEYS[place + half]
            line += [(f"{other.shown:<6}", "accent"), (other.help, "plain")]
        yield line


_BODIES: Final = {
    "list": _list, "details": _details, "processes": _processes, "findings": _findings, "help": _help,
}  # fmt: skip
