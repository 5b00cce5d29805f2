"""The classifier: the filters of one version become tables, one a layer.

Problem. A packet has to find, in each sublayer, the first of up to 100,000 filters that it meets, each a conjunction of
ranges over a dozen fields, overlapping at will. A list costs a test a filter; hashing by exact fields does not know
ranges; bit vectors read every field's whole vector. What stays near constant is a decision tree, where it can be kept
from copying wide filters into every branch.

Structure. Four stages, each a module:

1. `words`: an indication is a key of 32-bit words; what is no number becomes one (a path's number, a bit for a test).
2. `entries`: a filter is a conjunction over words: a box, and clauses for what no box says.
3. `groups`, `trees`, `cuts`: entries are split by a field that they are narrow in, a tree each; nodes cut or split the
   range of a word; an entry that holds for all of a node's region hides what is heard after it there.
4. `leaves`, `steps`: trees and tests are steps of 16 bytes in one array; a second array has a row a filter. For large
   sets `native` does 3 and 4 in machine code.

All sublayers of a layer share the walk: filters are numbered through in the order in which they are heard (heavy
sublayers first), a leaf has them in that order, a match skips the rest of its sublayer, and the walk keeps the least
code a sublayer. A code's two low bits are the action, so arbitration reads nothing else: the first hard result ends it;
before it all are soft permits.

Worked example. One sublayer at ALE_AUTH_CONNECT_V4; remote port is word 10, remote address word 6, protocol word 8:

    filter 7  permit  remote_address 10.1.0.0/16, protocol 6
    filter 8  block   remote_address 10.1.2.0/24, remote_port 22
    filter 9  permit  remote_port 80 or 443
    filter 5  block

Entries: one a filter; the ports of 9 are a clause with two alternatives, its hull 80–443. Groups: four entries are too
few to be told apart, so there is one tree, and its root is a leaf. Steps (an empty number is 0: a MATCH of this one
sublayer ends the leaf; a code is the row × 4, and the action):

    step  op         a           b       c  word      hit
       1  ROOT       0
       2  LEAF       0                   3
       3  IN         6                  +3  protocol  +1    else on to 6
       4  IN         10.1.0.0    65535  +2  address   +1    else on to 6
       5  MATCH      0            2049                      row 0: filter 7, a soft permit; needs address and protocol
       6  IN         22                 +3  port      +1
       7  IN         10.1.2.0      255  +2  address   +1
       8  MATCH      4 + 3        2052                      row 1: filter 8, a hard block
       9  IN         80                 +1  port      +2    hit: over the other alternative
      10  IN         443                +2  port      +1
      11  MATCH      8               4
      12  MATCH      12 + 3
      13  END

A connect to 10.1.2.3:22 by TCP walks 1 2 3 4 5: the least code is 0, permit by filter 7. Were the protocol no part
of filter 7, its entry would contain that of filter 8, which then had no place: `removed` tells, and by whom. With
thousands of filters step 2 is a CUT: (key[6] - low) >> 12, say, chooses among up to 4,096 children in one step, and in
the child that lies in 10.1.2.0/24 the address is not tested any more.

Changes. `updates` patches a table where a few filters came or went: rows are numbered anew, what went never matches,
what came stands in one more tree.

Bounds. Copies: 12 an entry on average (`COPIES`); depth 28; work in proportion to the entries; a walk of `WALK_MAX`
steps at most, or the set is refused by name. A set that no cut helps (all filters wide in everything) is a list.

Rejected, by measurement: TupleMerge (2 to 10 times as slow at 10,000 and more), bit vectors (10 times the memory, 4 to
10 times as slow from 10,000 on), recursive flow classification (its tables explode at 10,000), one tree for all (158 s
and 412 MB where partitions need 0.06 s and 0.13 MB), one walk a sublayer (4 times as slow with four).

Sources: Gupta and McKeown, "Classifying Packets with Hierarchical Intelligent Cuttings", 2000; Vamanan, Voskuilen and
Vijaykumar, "EffiCuts", 2010; Daly et al., "TupleMerge", 2019; Gupta, "Algorithms for Packet Classification", 2001.
"""

from __future__ import annotations

import gc
import sys
from array import array
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field, replace
from typing import Final

from layergate.compile import updates
from layergate.compile.entries import Entry, entries_of
from layergate.compile.groups import partition
from layergate.compile.steps import CODE_BITS, CODE_BLOCK, CODE_HARD, SEVERAL
from layergate.compile.tables import HIDDEN, WALK_MAX, Compiled, Removed, Table, row_of
from layergate.compile.trees import Builder, Built
from layergate.compile.words import Layout, Names
from layergate.engine import NO_CALLOUTS, Callouts, Invocation, effective_weight, hearing_order, in_order
from layergate.engine.callouts import result_of, unasked
from layergate.model import Action, Filter, Indication, Layer, NotSupportedError, Policy
from layergate.model.limits import LIMITS_MAX

NATIVE_FROM: Final = 2000  # entries: what building in machine code is worth where Numba is at work already
NATIVE_ALONE_FROM: Final = 30_000  # and where it would have to be loaded for this alone


def compile_policy(
    policy: Policy, before: Compiled | None = None, *, callouts: Callouts = NO_CALLOUTS, is_boot: bool = False
) -> Compiled:
    """Compile *policy*; what *before* it was named keeps its number.

    Args:
        policy: one version.
        before: the version before it, None for none.
        callouts: by key, who is registered: the rest is decided as the engine does (a terminating one blocks).
        is_boot: the tables of a machine whose engine does not run yet.

    Raises:
        NotSupportedError: a limit, with the layer or the filter that needs more.
    Cost: O(n log n) in the filters; see `trees` for the bound.
    """
    with _without_collections():
        return _compiled(policy, before, callouts, is_boot=is_boot)


@contextmanager
def _without_collections() -> Iterator[None]:
    """Have no cycles collected meanwhile: there are none, and looking for them takes as long as the work."""
    was = gc.isenabled()
    gc.disable()
    try:
        yield
    finally:
        if was:
            gc.enable()


def _compiled(policy: Policy, before: Compiled | None, callouts: Callouts, *, is_boot: bool) -> Compiled:
    names = before.names.copy() if before else Names()
    filters = {item.id: item for item in policy.filters}
    tables: dict[int, Table] = {}
    rest = policy
    if before and before.tables and not is_boot and before.policy.sublayers == policy.sublayers:
        tables, anew = _updated(policy, before, filters, names)
        rest = replace(policy, filters=tuple(item for item in policy.filters if item.layer.id in anew) if anew else ())
    numbers = {sublayer.key: number for number, sublayer in enumerate(policy.sublayers)}
    prepared = []
    for heard in in_order(rest, is_boot=is_boot).layers.values():
        numbered = [(numbers[sublayer.key], item) for sublayer, found in heard for item in found]
        prepared.append(_prepared(numbered[0][1].layer, numbered, names, callouts))
    # Trees rely on how many names there may be: they are built when all names have their numbers, and anew where there
    # are more than they have room for.
    if before and any(names.top(name) != before.names.top(name) for name in before.names.by_field):
        return _compiled(policy, replace(before, tables={}, names=names), callouts, is_boot=is_boot)
    tables |= {one.layout.layer.id: _table(one) for one in prepared}
    return Compiled(
        version=policy.version,
        tables=tables,
        layer_versions=policy.layer_versions,
        names=names,
        sublayers=tuple(sublayer.name for sublayer in policy.sublayers),
        filters=filters,
        policy=policy,
    )


def _updated(
    policy: Policy, before: Compiled, filters: Mapping[int, Filter], names: Names
) -> tuple[dict[int, Table], set[int]]:
    """Return the tables of *before* that need no building, brought up to *policy*; and the layers of the others."""
    places = {key: place for place, key in enumerate(hearing_order(policy))}
    numbers = {sublayer.key: number for number, sublayer in enumerate(policy.sublayers)}
    heard = updates.Heard(
        filters,
        lambda item: (places[item.sublayer], -effective_weight(item), item.id),
        lambda item: numbers[item.sublayer],
    )
    change = updates.changes(before.policy.filters, policy.filters)
    tables = {}
    anew = {item.layer.id for item in change.came} - before.tables.keys()
    for layer, known in before.tables.items():
        table = updates.updated(known, change.of_layer(layer), heard, names)
        if table is None:
            anew.add(layer)
        else:
            tables[layer] = table
    return tables, anew


def compile_layer(
    layer: Layer,
    heard: Sequence[tuple[int, Filter]],
    names: Names,
    callouts: Callouts = NO_CALLOUTS,
    *,
    as_list: bool = False,
) -> Table:
    """Compile the filters *heard* at *layer*: (the policy's number of the sublayer, filter), in the order of hearing.

    *as_list*: one leaf for all, which a walk reads from its beginning: the form to compare the others with.
    Raises NotSupportedError.
    """
    return _table(_prepared(layer, heard, names, callouts), as_list=as_list)


@dataclass(slots=True)
class _Prepared:
    """The entries of a layer, and what else its table will hold."""

    layout: Layout
    sublayers: tuple[int, ...]
    entries: list[Entry] = field(default_factory=list)
    rows: array[int] = field(default_factory=lambda: array("Q"))
    filters: list[Filter] = field(default_factory=list)
    removed: list[Removed] = field(default_factory=list)
    hides: dict[int, set[int]] = field(default_factory=dict)
    limits: list[Filter] = field(default_factory=list)


def _prepared(layer: Layer, heard: Sequence[tuple[int, Filter]], names: Names, callouts: Callouts) -> _Prepared:
    sublayers = tuple(dict.fromkeys(number for number, _ in heard))
    if len(sublayers) >= SEVERAL:
        raise NotSupportedError(
            layer.short,
            f"filters in {len(sublayers)} sublayers, and a table knows {SEVERAL - 1} at most",
            "put filters of neighbouring weights into one sublayer",
        )
    result = _Prepared(Layout(layer, names), sublayers)
    places = {number: place for place, number in enumerate(sublayers)}
    known: dict[tuple[object, ...], int] = {}
    for number, item in heard:
        said = _said(item, callouts)
        if said is None:
            result.removed.append(Removed(item, "its callout lets go on"))
            continue
        action, is_hard, asks = said
        code = len(result.filters) << CODE_BITS | CODE_BLOCK * (action is Action.BLOCK) | CODE_HARD * is_hard
        made = entries_of(item, result.layout, code=code, sublayer=places[number], asks=asks)
        if not made:
            result.removed.append(Removed(item, "no value can meet its conditions"))
            continue
        # What means the same as something heard before in its sublayer is never heard.
        meanings = [entry.meaning for entry in made]
        if not known.keys().isdisjoint(meanings):
            hiders = {known[meaning] for meaning in meanings if meaning in known}
            made = [entry for entry, meaning in zip(made, meanings, strict=True) if meaning not in known]
            if not made:
                result.removed.append(Removed(item, HIDDEN, tuple(result.filters[row] for row in sorted(hiders))))
                continue
            for hider in hiders:
                result.hides.setdefault(hider, set()).add(len(result.filters))
        if not asks and item.limit is None:
            for meaning in meanings:
                known.setdefault(meaning, len(result.filters))
        result.entries += made
        result.filters.append(item)
        if item.limit:
            result.limits.append(item)
            _require_limits(layer, result.limits)
        limit = len(result.limits) if item.limit else 0
        result.rows.extend((item.id, row_of(number, item.refusal, action, is_hard=is_hard, limit=limit)))
    return result


def _require_limits(layer: Layer, limits: Sequence[Filter]) -> None:
    """Raise NotSupportedError where a layer has more limits than a walk can note."""
    if len(limits) > LIMITS_MAX:
        raise NotSupportedError(
            layer.short,
            f"'{limits[-1].name}' is filter {len(limits)} with a limit, and a layer has {LIMITS_MAX} at most",
            "one limit for several ports or addresses, which a filter's conditions may list",
        )


def _table(prepared: _Prepared, *, as_list: bool = False) -> Table:
    """Build the table; all names have their numbers by now."""
    entries, layout, filters = prepared.entries, prepared.layout, prepared.filters
    built = _built(entries, layout, as_list=as_list)
    for hider, rows in prepared.hides.items():
        built.hides.setdefault(hider, set()).update(rows)
    hidden_by: dict[int, list[int]] = {}
    for hider, rows_hidden in built.hides.items():
        for row in rows_hidden - built.placed:
            hidden_by.setdefault(row, []).append(hider)
    hidden = tuple(
        Removed(filters[row], HIDDEN, tuple(filters[hider] for hider in sorted(hiders)))
        for row, hiders in sorted(hidden_by.items())
    )
    walk_max = sum(tree.steps_max for tree in built.trees)
    if walk_max > WALK_MAX:
        raise _refused(layout.layer, walk_max, built, entries, filters)
    steps = array("I", built.steps)
    steps[:3] = array("I", (len(steps) // 4, len(prepared.sublayers), built.root))
    return Table(
        layer=layout.layer,
        layout=layout,
        steps=steps,
        root=built.root,
        rows=prepared.rows,
        sublayers=prepared.sublayers,
        filters=tuple(filters),
        removed=(*prepared.removed, *hidden),
        trees=tuple(built.trees),
        entry_count=len(entries),
        walk_max=walk_max,
        hides={filters[row].id: frozenset(filters[one].id for one in rows) for row, rows in built.hides.items()},
        built_steps=len(steps) // 4,
        built_root=built.root,
        built_walk_max=walk_max,
        limits=tuple(prepared.limits),
        has_callouts=any(item.action.is_callout for item in (*filters, *(one.filter for one in prepared.removed))),
    )


def _built(entries: Sequence[Entry], layout: Layout, *, as_list: bool) -> Built:
    tops = layout.tops()
    if as_list:
        return Builder(entries, tops, leaf_entries=len(entries)).build([("", list(range(len(entries))))])
    words = {slot.field: slot.words for slot in layout.slots.values() if slot.words}
    if len(entries) >= (NATIVE_FROM if "numba" in sys.modules else NATIVE_ALONE_FROM):
        with suppress(ImportError):  # without Numba plain Python does the same
            from layergate.compile import native  # noqa: PLC0415 (it takes half a second)

            return native.build(entries, words, tops)
    return Builder(entries, tops).build(partition(entries, words, tops))


def _said(item: Filter, callouts: Callouts) -> tuple[Action, bool, bool] | None:
    """Return the action of *item*, whether it is hard, whether a callout must be asked; None where it never ends."""
    if not item.action.is_callout:
        return item.action, item.hard, False
    if callouts.get(item.callout, unasked) is not unasked:
        return Action.CONTINUE, False, True
    result = result_of(Invocation(Indication(item.layer, {}), item, None, may_write=True), callouts)
    if result.action is Action.CONTINUE:
        return None
    return result.action, result.clears_right, False


def _refused(
    layer: Layer, need: int, built: Built, entries: Sequence[Entry], filters: Sequence[Filter]
) -> NotSupportedError:
    widest = max(built.trees, key=lambda tree: tree.leaf_entries_max)
    wide = [filters[entry.row].name for entry in entries if not entry.box][:3]
    shown = ", ".join(f"'{name}'" for name in wide or [item.name for item in filters[:3]])
    return NotSupportedError(
        layer.short,
        f"a packet might have to pass {need:,} steps, more than the {WALK_MAX:,} that are allowed: "
        f"{widest.leaf_entries_max:,} filters overlap in everything that could tell them apart ({shown}…)",
        "give them an address, a port or an application, or fewer filters",
    )
