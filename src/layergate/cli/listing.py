"""What `layergate ls` prints of endpoints: those that filter words choose, in columns, JSON or CSV; changes of them."""

from __future__ import annotations

import argparse
import gc
import sys
import time
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Final

from layergate.cli import output
from layergate.cli.ls import TORN, places
from layergate.sockets import columns as all_columns
from layergate.sockets import namespaces, table
from layergate.sockets.authorised import authorised
from layergate.sockets.changes import changes
from layergate.sockets.columns import Column
from layergate.sockets.endpoint import Endpoint
from layergate.sockets.filters import Filter, only, parse
from layergate.sockets.lines import csv_line, endpoint_line
from layergate.sockets.units import Units

_COLOURS: Final = {"LISTEN": "cyan", "ESTABLISHED": "green", "CLOSE_WAIT": "yellow", "SYN_SENT": "yellow"}
_MARKS: Final = {"new": "+", "changed": "~", "gone": "-"}
_MARK_COLOURS: Final = {"new": "green", "changed": "yellow", "gone": "red"}


def run(arguments: argparse.Namespace, chosen: Sequence[namespaces.Place]) -> int:
    """Print the endpoints of *chosen*. Raises InputError."""
    shown = _columns(arguments)
    units = Units()
    wanted = parse(arguments.words, all_columns.row_text, units)
    order, descending = _order(arguments.sort)
    details = arguments.json or wanted.needs_details or any(column.needs_details for column in shown)
    details |= order is not None and order.needs_details
    question = table.Question(detail=table.Detail.FULL if details else table.Detail.PLAIN)
    gc.disable()  # a list of 100,000 is no garbage, and walking over it takes as long as making it
    found = table.read(question, chosen)
    needs_filters = arguments.json or wanted.needs_filters or any(column.needs_filters for column in shown)
    if needs_filters or (order is not None and order.needs_filters):
        tell_filters(found.endpoints)
    endpoints = only(found.endpoints, wanted)
    if order is not None:
        endpoints.sort(key=order.key, reverse=descending)  # type: ignore[arg-type]
    if found.is_torn:
        sys.stderr.write(TORN)
    _print(endpoints, arguments, shown, units)
    if not arguments.watch:
        return 0 if endpoints or not arguments.words else 1
    gc.enable()
    sys.stdout.flush()
    _watch(endpoints, arguments, _Watched(shown, units, wanted, question))
    return 0


def tell_filters(endpoints: Sequence[Endpoint]) -> None:
    """Tell *endpoints* which filter authorised each, of those that a running `run` or `trace` knows."""
    found = authorised()
    for one in endpoints if found else ():
        if one.protocol == "tcp" and not one.has_no_remote and one.cookie in found:
            by = found[one.cookie]
            one.filter, one.filter_name = by.filter, by.name


def _columns(arguments: argparse.Namespace) -> tuple[Column, ...]:
    if arguments.columns:
        return all_columns.by_name(arguments.columns.split(","))
    names = all_columns.WIDE if arguments.wide else all_columns.PLAIN
    return all_columns.by_name((*names[:1], "netns", *names[1:]) if arguments.all else names)


def _order(name: str | None) -> tuple[Column | None, bool]:
    if name is None:
        return None, False
    (column,) = all_columns.by_name([name.removeprefix("-")])
    return column, name.startswith("-")


def _print(
    endpoints: Sequence[Endpoint], arguments: argparse.Namespace, shown: tuple[Column, ...], units: Units
) -> None:
    if arguments.json:
        for one in endpoints:
            output.json_line(endpoint_line(one, units))
    elif arguments.csv:
        sys.stdout.writelines(f"{csv_line(one)}\n" for one in endpoints)
    else:
        _print_rows(endpoints, shown)


def _print_rows(endpoints: Sequence[Endpoint], shown: tuple[Column, ...]) -> None:
    """Print aligned rows under their titles. Cost: 1 µs a cell."""
    cells = [[column.cell(one) for one in endpoints] for column in shown]
    form = "  ".join(
        "{:" + (">" if column.is_number else "<") + str(max(map(len, (*texts, column.title)))) + "}"
        for column, texts in zip(shown[:-1], cells, strict=False)
    )
    form += "  {}"
    sys.stdout.write(output.paint(form.format(*(column.title for column in shown)).rstrip(), "dim") + "\n")
    lines = (form.format(*row).rstrip() for row in zip(*cells, strict=True))
    if output.is_coloured():
        lines = (
            output.paint(line, _COLOURS[one.state]) if one.state in _COLOURS else line
            for line, one in zip(lines, endpoints, strict=True)
        )
    for line in lines:
        sys.stdout.write(output.harmless(line) + "\n")


@dataclass(frozen=True, slots=True)
class _Watched:
    """What is watched, and how it is shown."""

    shown: tuple[Column, ...]
    units: Units
    wanted: Filter
    question: table.Question


def _watch(before: Sequence[Endpoint], arguments: argparse.Namespace, how: _Watched) -> None:
    """Print changes until Ctrl-C."""
    while True:
        time.sleep(arguments.interval)
        read = table.read(how.question, places(arguments)).endpoints
        if arguments.json or how.wanted.needs_filters or any(column.needs_filters for column in how.shown):
            tell_filters(read)
        now = only(read, how.wanted)
        for change in changes(before, now):
            one = change.endpoint
            if arguments.json:
                was = change.was.state if change.was else None
                output.json_line({**endpoint_line(one, how.units), "change": change.what, "was": was})
            elif arguments.csv:
                sys.stdout.write(f"{change.what},{csv_line(one)}\n")
            else:
                row = "  ".join(filter(None, (column.cell(one) for column in how.shown)))
                was = f"  (was {change.was.state})" if change.what == "changed" and change.was else ""
                mark = f"{time.strftime('%H:%M:%S')} {_MARKS[change.what]} {row}{was}"
                sys.stdout.write(output.paint(output.harmless(mark), _MARK_COLOURS[change.what]) + "\n")
        sys.stdout.flush()
        before = now
