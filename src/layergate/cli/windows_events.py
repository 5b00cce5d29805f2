"""`layergate windows events` and `connections`: what a dump recorded, beside what its filters decide on it."""

from __future__ import annotations

import argparse
import sys
from collections import Counter
from collections.abc import Iterator, Mapping
from datetime import datetime
from typing import Final

from layergate.cli import output
from layergate.cli.windows_show import problem_line
from layergate.cli.windows_words import app_text, ends_text, values_data
from layergate.cli.words import bare
from layergate.model import Action, InputError, Layer
from layergate.model.lines import endpoint_text
from layergate.windows import Agreement, Comparison, Connection, Dump, Judge, Judgement, Kind, NetEvent, compare
from layergate.windows.situations import of_connection, protocol_text
from layergate.windows.values import path_text

_COLOURS: Final = {
    Agreement.SAME: "green",
    Agreement.ANOTHER: "cyan",
    Agreement.UNDECIDED: "yellow",
    Agreement.DIFFERENT: "red",
}
_LAYERS: Final = {"connect": "FWPM_LAYER_ALE_AUTH_CONNECT", "accept": "FWPM_LAYER_ALE_AUTH_RECV_ACCEPT"}


def run_events(dump: Dump, arguments: argparse.Namespace) -> None:
    """Print the net events of *dump*."""
    if not dump.events and dump.kind not in (Kind.EVENTS, Kind.RECORDING):
        raise InputError("no net events", "netsh wfp show netevents, or a recording", place=dump.place)
    judge = Judge(dump)
    counts: Counter[Agreement] = Counter()
    rows: list[tuple[str, ...]] = []
    notes: list[list[str]] = []
    for event, time in _timed(dump):
        one = compare(judge, event, time)
        counts[one.agreement] += 1
        if arguments.json:
            output.json_line(_event_line(one, judge))
        else:
            rows.append(_event_row(one, judge))
            notes.append(list(_explained(one)) if judge.filters else [])
    if arguments.json:
        for word, problems in (("unknown", dump.unknown), ("doubt", dump.doubts)):
            for problem in problems:
                output.json_line(problem_line(word, problem))
        output.json_line({"kind": "summary", "events": counts.total()} | {_key(one): counts[one] for one in Agreement})
        return
    for line, explained in zip(output.columns(rows), notes, strict=True):
        sys.stdout.write("\n".join([line, *explained]) + "\n")
    said = ", ".join(f"{counts[one]} {one}" for one in Agreement if counts[one])
    sys.stdout.write(f"{output.plural(counts.total(), 'event')}{': ' if said else ''}{said}\n")
    if not judge.filters and counts:
        sys.stdout.write("no filters to compare with: --state FILE, a state of the same machine\n")
    for problem in (*dump.unknown, *dump.doubts):
        sys.stdout.write(f"{output.harmless(str(problem))}\n")


def _key(agreement: Agreement) -> str:
    return agreement.name.lower()


def _timed(dump: Dump) -> Iterator[tuple[NetEvent, float]]:
    """Yield the events, each with the seconds since the first of them that says when it was."""
    first: datetime | None = None
    for event in dump.events:
        try:
            when = datetime.fromisoformat(event.time)
            first = first or when
            yield event, (when - first).total_seconds()
        except (ValueError, TypeError):  # no time, or one of the two without a zone
            yield event, 0.0


def _explained(one: Comparison) -> Iterator[str]:
    """Yield the lines below an event whose filter is not the one that decides here."""
    if one.agreement is Agreement.SAME:
        return
    if one.judgement is not None:
        yield output.harmless(f"    here: {_decided(one.judgement)}")
    yield from (output.harmless(f"    {reason}") for reason in one.reasons)


def _event_row(one: Comparison, judge: Judge) -> tuple[str, ...]:
    event = one.event
    action = {Action.BLOCK: "drop", Action.PERMIT: "allow"}.get(event.action) if event.action else ""
    ends = ends_text(one.judgement.indication) if one.judgement else _ends(event)
    app = app_text(one.judgement.indication) if one.judgement else ""
    cells = (
        event.time,
        action or event.type,
        one.layer.short if one.layer else f"layer {event.layer}" if event.layer is not None else "",
        f"{ends}  {app}".rstrip(),
        _recorded(event, judge),
    )
    return (
        *map(output.harmless, cells),
        output.paint(str(one.agreement), _COLOURS[one.agreement]),
    )


def _ends(event: NetEvent) -> str:
    ends = [
        endpoint_text(address.data, port or 0) if address else "?"  # type: ignore[arg-type]  # an address
        for address, port in ((event.local, event.local_port), (event.remote, event.remote_port))
    ]
    return f"{protocol_text(event.protocol) or '?'} {ends[0]} - {ends[1]}"


def _recorded(event: NetEvent, judge: Judge) -> str:
    """Return the filter that the event names."""
    if not event.filter:
        return "no filter" if event.filter == 0 else ""
    item = judge.filters.get(event.filter)
    name = f" '{item.name}'" if item else ""
    origin = f" for '{event.origin}'" if event.origin else ""
    return f"#{event.filter}{name}{origin}"


def _decided(judgement: Judgement) -> str:
    """Return a verdict in short."""
    verdict = judgement.verdict
    if verdict.filter is None:
        return f"{verdict.action}, no filter"
    sublayer = bare(verdict.sublayer.name) if verdict.sublayer else ""
    return f"{verdict.action} by #{verdict.filter.id} '{verdict.filter.name}' in {sublayer}"


def _event_line(one: Comparison, judge: Judge) -> dict[str, object]:
    event = one.event
    item = judge.filters.get(event.filter) if event.filter else None
    return {
        "kind": "event",
        "time": event.time or None,
        "type": event.type,
        "layer": one.layer.name if one.layer else None,
        "protocol": event.protocol,
        "local": one.judgement.indication.local if one.judgement else None,
        "remote": one.judgement.indication.remote if one.judgement else None,
        "app": path_text(event.app) if event.app else None,
        "user": event.user or None,
        "package": event.package or None,
        "action": str(event.action) if event.action else None,
        "filter": event.filter or None,
        "filter_name": item.name if item else None,
        "origin": event.origin or None,
        "direction": event.direction or None,
        "terminating": [
            {"filter": ended.filter, "sublayer": ended.sublayer, "action": str(ended.action) if ended.action else None}
            for ended in event.terminating
        ],
        "verdict": _verdict(one.judgement) if one.judgement else None,
        "agreement": _key(one.agreement),
        "reasons": list(one.reasons),
        "values": values_data(one.judgement.indication) if one.judgement else {},
        "line": event.line,
    }


def _verdict(judgement: Judgement) -> dict[str, object]:
    verdict = judgement.verdict
    return {
        "action": str(verdict.action),
        "filter": verdict.filter.id if verdict.filter else None,
        "filter_name": verdict.filter.name if verdict.filter else None,
        "sublayer": verdict.sublayer.name if verdict.sublayer else None,
        "hard": verdict.hard,
        "certain": judgement.is_certain,
        "open": [
            {"filter": one.filter.id, "filter_name": one.filter.name, "reason": one.reason} for one in judgement.open
        ],
    }


# --- connections ----------------------------------------------------------------------------------------------------


def run_connections(dump: Dump, arguments: argparse.Namespace) -> None:
    """Print the live connections of *dump*, with what would be decided if each were authorised now."""
    if not dump.connections and dump.kind not in (Kind.STATE, Kind.RECORDING):
        raise InputError("no connections", "a state of Windows: netsh wfp show state", place=dump.place)
    judge = Judge(dump)
    if not judge.filters and dump.connections:
        raise InputError("no filters", "a state with filters, or --state", place=dump.place)
    rows = []
    layers = {layer.name: layer for layer in dump.layers}
    for connection in dump.connections:
        judged = {word: judge.judge(of_connection(connection, layer)) for word, layer in _asked(layers, connection)}
        if arguments.json:
            output.json_line(_connection_line(connection, judged))
        else:
            rows.append(_connection_row(connection, judged))
    if arguments.json:
        output.json_line({"kind": "summary", "connections": len(dump.connections)})
        return
    if not rows:
        sys.stdout.write("no connections\n")
        return
    for line in output.columns([("connection", "application", "if it connects", "if it is accepted"), *rows]):
        sys.stdout.write(f"{line}\n")
    sys.stdout.write(
        "? : filters that test what is not recorded, or ask a callout, could change it; --json names them\n"
    )


def _asked(layers: Mapping[str, Layer], connection: Connection) -> Iterator[tuple[str, Layer]]:
    """Yield the two layers that authorise a connection, by what it does there."""
    family = "_V6" if connection.is_v6 else "_V4"
    for word, base in _LAYERS.items():
        layer = layers.get(base + family)
        if layer is not None:
            yield word, layer


def _connection_row(connection: Connection, judged: dict[str, Judgement]) -> tuple[str, ...]:
    first = next(iter(judged.values()), None)
    ends = ends_text(first.indication) if first else str(connection.id)
    app = path_text(connection.app).rpartition("\\")[2] if connection.app else ""
    return tuple(map(output.harmless, (ends, app, *(_outcome(judged.get(word)) for word in _LAYERS))))


def _outcome(judgement: Judgement | None) -> str:
    if judgement is None:
        return "no such layer"
    decided = judgement.verdict.filter
    by = f"#{decided.id} '{decided.name}'" if decided else "no filter"
    return f"{judgement.verdict.action}{'' if judgement.is_certain else '?'} {by}"


def _connection_line(connection: Connection, judged: dict[str, Judgement]) -> dict[str, object]:
    first = next(iter(judged.values()), None)
    return {
        "kind": "connection",
        "connection": connection.id,
        "protocol": connection.protocol,
        "local": endpoint_text(connection.local.data, connection.local_port),  # type: ignore[arg-type]  # an address
        "remote": first.indication.remote if first else None,
        "app": path_text(connection.app) if connection.app else None,
        **{word: _verdict(judged[word]) if word in judged else None for word in _LAYERS},
        "line": connection.line,
    }
