"""`layergate windows show`: a dump's filters by layer, sublayer and weight, and what is doubtful about it."""

from __future__ import annotations

import argparse
import sys
from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Final

from layergate.cli import output
from layergate.cli.windows_words import Names, action_words, asks, filter_line, flag_words
from layergate.cli.words import bare
from layergate.engine import effective_weight, in_order
from layergate.model import Filter, FilterFlag, InputError, Layer, Problem, Sublayer
from layergate.policyfile.names import suggestion
from layergate.windows import Dump, Fit, Kind, fit

NAME_SHOWN_MAX: Final = 48
MISFITS_SHOWN_MAX: Final = 10

_MADE_BY: Final = {
    Kind.STATE: "a state (netsh wfp show state)",
    Kind.FILTERS: "filters (netsh wfp show filters)",
    Kind.EVENTS: "net events (netsh wfp show netevents)",
    Kind.RECORDING: "a recording (netsh wfp capture)",
}


@dataclass(frozen=True, slots=True)
class _Wanted:
    """What was asked for: a layer, a sublayer, or None for all."""

    layers: frozenset[int] | None
    sublayers: frozenset[str] | None

    def has(self, item: Filter) -> bool:
        return (self.layers is None or item.layer.id in self.layers) and (
            self.sublayers is None or item.sublayer in self.sublayers
        )


def run(dump: Dump, arguments: argparse.Namespace) -> None:
    """Print *dump* as *arguments* ask."""
    wanted = _Wanted(_layers(dump, arguments.layer), _sublayers(dump, arguments.sublayer))
    weighed = fit(dump.policy.filters, dump.not_understood)
    if arguments.json:
        for line in _lines(dump, wanted, weighed, is_boot=arguments.boot):
            output.json_line(line)
    else:
        for text in _told(dump, wanted, weighed, is_boot=arguments.boot):
            sys.stdout.write(f"{text}\n")


def _layers(dump: Dump, name: str | None) -> frozenset[int] | None:
    """Return the ids of the layers that *name* means, None for all."""
    if name is None:
        return None
    folded = name.upper().removeprefix("FWPM_LAYER_")
    found = frozenset(
        layer.id for layer in dump.layers if folded in (layer.short.upper(), layer.base.upper()) or name == layer.name
    )
    if not found:
        known = [word for layer in dump.layers for word in (layer.base, layer.short)]
        raise InputError(f"unknown layer '{name}'", f"{suggestion(folded, known)}a layer such as ALE_AUTH_CONNECT")
    return found


def _sublayers(dump: Dump, name: str | None) -> frozenset[str] | None:
    """Return the keys of the sublayers that *name* means, None for all."""
    if name is None:
        return None
    folded = name.casefold()
    names = {word.casefold(): one.key for one in dump.policy.sublayers for word in (one.key, one.name, bare(one.name))}
    if folded not in names:
        known = [bare(one.name) for one in dump.policy.sublayers]
        raise InputError(f"unknown sublayer '{name}'", f"{suggestion(name, known)}one of {', '.join(known) or 'none'}")
    return frozenset({names[folded]})


def _by_id(dump: Dump) -> list[Layer]:
    """Return the layers in the order of their ids, as netsh lists them."""
    return sorted(dump.layers, key=lambda layer: layer.id)


def _heard(item: Filter) -> str:
    """Return when *item* is heard."""
    if FilterFlag.DISABLED in item.flags:
        return "disabled"
    return "boot" if FilterFlag.BOOTTIME in item.flags else "running"


# --- for people -----------------------------------------------------------------------------------------------------


def _told(dump: Dump, wanted: _Wanted, weighed: Fit, *, is_boot: bool) -> Iterator[str]:
    yield from _opening(dump, weighed)
    ordered = in_order(dump.policy, is_boot=is_boot)
    names = Names.of(dump.policy)
    shown = [item for item in dump.policy.filters if wanted.has(item)]
    apart = [item for item in shown if _heard(item) == "disabled" or (_heard(item) == "boot" and not is_boot)]
    at_layer = Counter(item.layer.id for item in shown)
    apart_at: dict[int, list[Filter]] = {}
    for item in apart:
        apart_at.setdefault(item.layer.id, []).append(item)
    for layer in _by_id(dump):
        if not at_layer[layer.id]:
            continue
        heard = [(sublayer, [item for item in filters if wanted.has(item)]) for sublayer, filters in ordered.at(layer)]
        heard = [(sublayer, filters) for sublayer, filters in heard if filters]
        others = apart_at.get(layer.id, [])
        if heard or others:
            yield ""
            yield _layer_head(layer, heard, others, is_boot=is_boot)
            yield from _rows(dump, names, heard, others)
    if not shown:
        yield ""
        yield "no filters there" if dump.policy.filters else "no filters"
    yield ""
    yield from _closing(
        dump, weighed, empty_count=len(dump.layers) - len(at_layer), is_all=wanted == _Wanted(None, None)
    )


def _opening(dump: Dump, weighed: Fit) -> Iterator[str]:
    policy = dump.policy
    when = f" of {output.harmless(dump.time)}" if dump.time else ""
    yield output.paint(f"{dump.place}: {_MADE_BY[dump.kind]}{when}", "bold")
    heard = Counter(_heard(item) for item in policy.filters)
    counts = [f"{heard['running']} heard by a running system"]
    counts += [f"{heard['boot']} at boot"] if heard["boot"] else []
    counts += [f"{heard['disabled']} disabled"] if heard["disabled"] else []
    layer_count = len({item.layer.id for item in policy.filters})
    at = f" at {layer_count} of {output.plural(len(dump.layers), 'layer')}"
    yield f"  {output.plural(len(policy.filters), 'filter')}{at if policy.filters else ''}: {', '.join(counts)}"
    others = {
        "sublayer": len(policy.sublayers),
        "callout": len(policy.callouts),
        "provider": len(policy.providers),
        "provider context": len(policy.contexts),
        "session": len(dump.sessions),
        "connection": len(dump.connections),
        "net event": len(dump.events),
    }
    listed = ", ".join(output.plural(count, word) for word, count in others.items() if count)
    if listed:
        yield f"  {listed}"
    if dump.state:
        yield f"  what the file lacks is from {dump.state}"
    if weighed.automatic_count:
        yield f"  weights: {_fit_words(weighed)}"


def _fit_words(weighed: Fit) -> str:
    share = f"{weighed.fitting_count} of {weighed.automatic_count} automatic ones"
    if not weighed.is_known:
        return f"of a Windows that was not measured ({share} as of {weighed.generation}); the dump's own order is shown"
    return f"as Windows of {weighed.generation} gives them ({share})"


def _layer_head(
    layer: Layer, heard: list[tuple[Sublayer, list[Filter]]], others: list[Filter], *, is_boot: bool
) -> str:
    count = sum(len(filters) for _, filters in heard)
    parts = [output.plural(count, "filter") + (" at boot" if is_boot else "")] if count else []
    parts += [f"{len(others)} not heard"] if others else []
    return f"{output.paint(output.harmless(layer.short), 'bold')} (layer {layer.id}): {', '.join(parts)}"


def _rows(dump: Dump, names: Names, heard: list[tuple[Sublayer, list[Filter]]], others: list[Filter]) -> Iterator[str]:
    """Yield a layer's sublayers with their filters in columns, then what a running system does not hear."""
    rows = [[_row(dump, names, item) for item in filters] for _, filters in heard]
    rows.append([_row(dump, names, item, _apart(names, item)) for item in others])
    # The columns of one layer are aligned over its sublayers.
    lines = iter(output.columns([row for group in rows for row in group], indent=4))
    for (sublayer, _), group in zip(heard, rows, strict=False):
        weight = "unknown" if sublayer.key in dump.assumed_sublayers else f"{sublayer.weight:#x}"
        yield f"  {output.paint(output.harmless(bare(sublayer.name)), 'cyan')}, weight {weight}"
        for _ in group:
            yield next(lines)
    if others:
        yield f"  {output.paint('not heard by a running system', 'dim')}"
        yield from lines


def _apart(names: Names, item: Filter) -> str:
    when = "disabled" if _heard(item) == "disabled" else "boot-time"
    return f"{when}, in {bare(names.sublayers[item.sublayer])}"


def _row(dump: Dump, names: Names, item: Filter, apart: str = "") -> tuple[str, ...]:
    provider, origin = names.provider(item), names.origin(item)
    by = [f"by {provider}"] if provider else []
    by += [f"for '{origin}'"] if origin else []
    reason = dump.not_understood.get(item.id)
    tail = [" ".join(by)] if by else []
    tail += flag_words(item)
    painted = [output.paint(f"not understood: {output.harmless(reason)}", "yellow")] if reason else []
    name = item.name if len(item.name) <= NAME_SHOWN_MAX else f"{item.name[: NAME_SHOWN_MAX - 1]}…"
    words = output.harmless("; ".join([*([apart] if apart else []), asks(item, names), *tail]))
    return (
        f"#{item.id}",
        action_words(item),
        f"{effective_weight(item):#018x}",
        f"'{output.harmless(name)}'",
        "; ".join([words, *painted]),
    )


def _closing(dump: Dump, weighed: Fit, *, empty_count: int, is_all: bool) -> Iterator[str]:
    """Yield how many layers are empty, and what is unknown, doubtful or weighs something else."""
    if is_all and empty_count:
        yield f"{output.plural(empty_count, 'layer')} without filters"
    for head, problems in (("unknown", dump.unknown), ("doubtful", dump.doubts)):
        if problems:
            yield output.paint(f"{head}:", "yellow")
            yield from (f"  {output.harmless(str(problem))}" for problem in problems)
    if weighed.misfits:
        yield output.paint(f"weights that are not those of Windows of {weighed.generation}:", "yellow")
        for misfit in weighed.misfits[:MISFITS_SHOWN_MAX]:
            item, found = misfit.filter, f"{misfit.recorded:#018x}, computed {misfit.computed:#018x}"
            yield output.harmless(f"  #{item.id} '{item.name}' at {item.layer.short}: {found}: {misfit.reason}")
        rest = len(weighed.misfits) - MISFITS_SHOWN_MAX
        if rest > 0:
            yield f"  and {rest} more (--json lists them all)"
    if not (dump.unknown or dump.doubts or weighed.misfits):
        yield "nothing unknown, nothing doubtful"


# --- for programs ---------------------------------------------------------------------------------------------------


def _lines(dump: Dump, wanted: _Wanted, weighed: Fit, *, is_boot: bool) -> Iterator[dict[str, object]]:
    policy = dump.policy
    yield {
        "kind": "dump",
        "file": dump.place,
        "dump": str(dump.kind),
        "time": dump.time or None,
        "state": dump.state or None,
        "generation": weighed.generation if weighed.automatic_count and weighed.is_known else None,
    }
    for provider in policy.providers:
        yield {
            "kind": "provider",
            "provider": provider.key,
            "name": provider.name,
            "service": provider.service or None,
            "persistent": provider.persistent,
            "description": provider.description,
        }
    for sublayer in sorted(policy.sublayers, key=lambda one: -one.weight):
        if wanted.sublayers is None or sublayer.key in wanted.sublayers:
            yield {
                "kind": "sublayer",
                "sublayer": sublayer.name,
                "key": sublayer.key,
                "weight": None if sublayer.key in dump.assumed_sublayers else sublayer.weight,
                "provider": sublayer.provider or None,
                "persistent": sublayer.persistent,
                "description": sublayer.description,
            }
    yield from _filter_lines(dump, wanted, is_boot=is_boot)
    for word, problems in (("unknown", dump.unknown), ("doubt", dump.doubts)):
        yield from (problem_line(word, problem) for problem in problems)
    for misfit in weighed.misfits:
        found = f"recorded weight {misfit.recorded:#x}, computed {misfit.computed:#x}"
        subject = f"filter {misfit.filter.id}"
        problem = Problem(dump.place, misfit.filter.line, subject, found, misfit.reason)
        yield problem_line("weight", problem)
    yield {
        "kind": "summary",
        "filters": len(policy.filters),
        "layers": len(dump.layers),
        "layers_with_filters": len({item.layer.id for item in policy.filters}),
        "not_understood": len(dump.not_understood),
        "unknown": len(dump.unknown),
        "doubts": len(dump.doubts),
        "automatic_weights": weighed.automatic_count,
        "fitting_weights": dict(weighed.fitting),
    }


def _filter_lines(dump: Dump, wanted: _Wanted, *, is_boot: bool) -> Iterator[dict[str, object]]:
    """Yield filters in the order in which they are heard; then, unless only boot was asked for, those that are not."""
    policy = dump.policy
    names = Names.of(policy)
    ordered = in_order(policy, is_boot=is_boot)
    listed = [item for layer in _by_id(dump) for _, filters in ordered.at(layer) for item in filters]
    listed += [
        item for item in policy.filters if _heard(item) == "disabled" or (_heard(item) == "boot" and not is_boot)
    ]
    for item in listed:
        if wanted.has(item):
            yield filter_line(
                item,
                names,
                effective=effective_weight(item),
                heard=_heard(item),
                reason=dump.not_understood.get(item.id, ""),
            )


def problem_line(word: str, problem: Problem) -> dict[str, object]:
    """Return a `problem` line; *word* says of which sort it is: unknown, doubt, weight."""
    return {
        "kind": "problem",
        "problem": word,
        "file": problem.file,
        "line": problem.line,
        "object": problem.object or None,
        "found": problem.found,
        "taken": problem.accepted,
    }
