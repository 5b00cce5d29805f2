"""A few filters come or go: the table is patched, not built anew.

The trees stay. Rows are numbered anew, which a pass over the steps that hold codes writes; the MATCH of a filter that
went needs a bit that is never set. Filters that came stand in one more tree, walked first, which is built anew each
time: a walk keeps the least code, so it does not matter where a filter stands. What a filter that went had hidden comes
back the same way: `Table.hides` remembers it. Example: filter 4 of ten goes, which hid filter 9 in one leaf; filter 11
comes between 2 and 3. Rows: 1 2 11 3 5 … 10; fresh: 11, 9; the code of filter 3 was 2 × 4 and is 3 × 4.

Past FRESH_MAX fresh filters the table is built anew. Cost: O(steps that hold codes): some milliseconds for 10,000
filters, where building takes a second in plain Python.
"""

from __future__ import annotations

from array import array
from bisect import bisect_left
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Final

from layergate.compile.entries import Entry, entries_of
from layergate.compile.steps import CODE_BITS, CODE_BLOCK, CODE_HARD, LINE_STEPS, Op
from layergate.compile.tables import WALK_MAX, Table, row_of
from layergate.compile.trees import Builder, Built
from layergate.compile.words import KERNEL_FIELDS, KERNEL_WORDS, Names
from layergate.engine import is_heard
from layergate.model import Action, Filter

FRESH_MAX: Final = 64
NEVER: Final = 1 << 31
_CODED: Final = frozenset((int(Op.ROOT), int(Op.LEAF), int(Op.LIMIT), int(Op.MATCH)))
_REFERRING: Final = frozenset((int(Op.ROOT), int(Op.CUT), int(Op.SPLIT), int(Op.LEAF)))
_CODE_FLAGS: Final = CODE_BLOCK | CODE_HARD


@dataclass(frozen=True, slots=True)
class Changes:
    """What is heard now and was not, and the other way round; a filter that is another one now did both."""

    came: tuple[Filter, ...]
    went: tuple[Filter, ...]

    def of_layer(self, layer: int) -> Changes:
        """Return those of the layer with id *layer*."""
        return Changes(
            tuple(item for item in self.came if item.layer.id == layer),
            tuple(item for item in self.went if item.layer.id == layer),
        )

    def __bool__(self) -> bool:
        """Whether there is any."""
        return bool(self.came or self.went)


def changes(before: Sequence[Filter], now: Sequence[Filter]) -> Changes:
    """Return what changed between *before* and *now*, of filters that are heard.

    Cost: little where both are alike but for a part.
    """
    start = _alike(before, now)
    before, now = before[start:], now[start:]
    end = _alike(before[::-1], now[::-1])
    old = {item.id: item for item in before[: len(before) - end] if is_heard(item)}
    new = {item.id: item for item in now[: len(now) - end] if is_heard(item)}
    return Changes(
        tuple(item for item in new.values() if old.get(item.id) != item),
        tuple(item for item in old.values() if new.get(item.id) != item),
    )


def _alike(one: Sequence[Filter], other: Sequence[Filter]) -> int:
    """Return how many filters both begin with: halved, for equal parts are compared at the speed of memory."""
    low, high = 0, min(len(one), len(other))
    while low < high:
        middle = (low + high + 1) // 2
        if one[low:middle] == other[low:middle]:
            low = middle
        else:
            high = middle - 1
    return low


@dataclass(frozen=True, slots=True)
class Heard:
    """The filters of now, by id, and their order: *key* sorts them, *number* is that of their sublayer."""

    here: Mapping[int, Filter]
    key: Callable[[Filter], tuple[int, int, int]]
    number: Callable[[Filter], int]


def updated(table: Table, change: Changes, heard: Heard, names: Names) -> Table | None:
    """Return *table* after *change*, None where it has to be built anew.

    *names*: with the numbers of the version before, to be added to. Holds as long as `Names.top` stays, and as the
    policy's sublayers do.
    """
    if table.has_callouts or any(item.action.is_callout for item in change.came):
        return None  # what a callout's filter comes to may have changed with who is registered
    if not change:
        return table
    if change.went and table.layout.count > KERNEL_WORDS and not _needs_words(table, heard):
        return None  # the kernel could have it, if the words were gone that only what went needs
    fresh = _fresh(table, change, heard)
    limited = {item.id for item in table.limits}
    if any(item.limit for item in fresh.values()) or any(item.limit or item.id in limited for item in change.went):
        return None  # limits have numbers of their own, and those are given where all are known
    if len(fresh) > FRESH_MAX or not _keeps_sublayers(table, change, heard):
        return None
    rows = _Rows(table, heard)
    gone = {item.id for item in change.went}
    # What is fresh from before, and goes on being so, has its row already.
    for item in change.went:
        rows.remove(item)
    for item in fresh.values():
        rows.add(item)
    made = replace(
        table,
        layout=table.layout.copy(names),
        rows=rows.rows,
        filters=tuple(rows.filters),
        removed=tuple(one for one in table.removed if one.filter.id not in gone and one.filter.id not in fresh),
        fresh=fresh,
        hides={hider: hidden for hider, hidden in table.hides.items() if hider not in gone},
        coded=table.coded or _coded(table),
    )
    entries: list[Entry] = []
    for item in sorted(fresh.values(), key=heard.key):
        code = rows.place(item) << CODE_BITS | CODE_BLOCK * (item.action is Action.BLOCK) | CODE_HARD * item.hard
        place = made.sublayers.index(heard.number(item))
        entries += entries_of(item, made.layout, code=code, sublayer=place, asks=False)
    return _joined(made, _patched(made, table, rows), entries)


def _needs_words(table: Table, heard: Heard) -> bool:
    """Whether a filter that is heard tests what no word of the kernel holds."""
    return any(
        condition.field not in KERNEL_FIELDS or condition in table.layout.predicates
        for item in heard.here.values()
        if item.layer is table.layer and is_heard(item)
        for condition in item.conditions
    )


def _keeps_sublayers(table: Table, change: Changes, heard: Heard) -> bool:
    """Whether the same sublayers are heard as before."""
    if any(heard.number(item) not in table.sublayers for item in change.came):
        return False
    emptied = {item.sublayer for item in change.went} - {item.sublayer for item in change.came}
    gone = {item.id for item in change.went}
    staying = (one for one in (*table.filters, *(one.filter for one in table.removed)) if one.id not in gone)
    for item in staying if emptied else ():
        emptied.discard(item.sublayer)
        if not emptied:
            break
    return not emptied


def _fresh(table: Table, change: Changes, heard: Heard) -> dict[int, Filter]:
    """Return, by id, the filters that stand in the tree of their own."""
    gone = {item.id for item in change.went}
    found = {item.id for item in change.came} | table.fresh.keys()
    for item in change.went:
        found |= table.hides.get(item.id, frozenset())
    found |= {one.filter.id for one in table.removed if any(by.id in gone for by in one.by)}
    return {number: heard.here[number] for number in found if number in heard.here and is_heard(heard.here[number])}


class _Rows:
    """The rows of a table that changes, and what becomes of the codes of the old ones."""

    def __init__(self, table: Table, heard: Heard) -> None:
        self.rows, self.filters = table.rows[:], list(table.filters)
        self._old, self._heard = table.filters, heard
        self._events: list[tuple[int, int]] = []  # old row, how the rows from there on move
        self.gone: set[int] = set()  # old rows

    def place(self, item: Filter) -> int:
        """Return the row of *item*, or the one that it would have."""
        return bisect_left(self.filters, self._heard.key(item), key=self._heard.key)

    def _old_place(self, item: Filter) -> int:
        return bisect_left(self._old, self._heard.key(item), key=self._heard.key)

    def remove(self, item: Filter) -> None:
        """Remove *item*, where it has a row."""
        place = self.place(item)
        if place < len(self.filters) and self.filters[place].id == item.id:
            del self.filters[place], self.rows[2 * place : 2 * place + 2]
            old = self._old_place(item)
            self.gone.add(old)
            self._events.append((old + 1, -1))

    def add(self, item: Filter) -> None:
        """Add *item*, where it has no row."""
        place = self.place(item)
        if place < len(self.filters) and self.filters[place].id == item.id:
            return
        row = row_of(self._heard.number(item), item.error, item.action, is_hard=item.hard)
        self.filters.insert(place, item)
        self.rows[2 * place : 2 * place] = array("Q", (item.id, row))
        self._events.append((self._old_place(item), 1))

    def codes(self) -> list[int]:
        """Return the codes of the old rows, without their flags, and of one more behind the last.

        What went keeps a place between its neighbours: the least codes of leaves and trees stay least.
        """
        made: list[int] = []
        at = moved = 0
        for place, by in (*sorted(self._events), (len(self._old) + 1, 0)):
            made.extend(range(at + moved << CODE_BITS, place + moved << CODE_BITS, 1 << CODE_BITS))
            at, moved = max(at, place), moved + by
        return made


def _coded(table: Table) -> array[int]:
    """Return where the built steps hold codes: the places of the numbers."""
    operations = table.steps[3 : 4 * table.built_steps : 4]
    return array("I", [4 * place for place, d in enumerate(operations) if d & 0xFF in _CODED])


def _patched(made: Table, before: Table, rows: _Rows) -> array[int]:
    """Return the built steps with the codes of the new rows."""
    codes = rows.codes()
    steps = before.steps[: 4 * before.built_steps]
    for place in made.coded:
        a = steps[place]
        steps[place] = codes[a >> CODE_BITS] | a & _CODE_FLAGS
    if rows.gone:
        olds = before.steps
        for place in made.coded:
            if olds[place] >> CODE_BITS in rows.gone and steps[place + 3] & 0xFF == Op.MATCH:
                steps[place + 1] |= NEVER
    return steps


def _joined(made: Table, steps: array[int], entries: Sequence[Entry]) -> Table | None:
    """Return *made* with its steps: those patched, and the tree of what is fresh."""
    root, walk_max, hides = made.built_root, made.built_walk_max, made.hides
    had_fresh = made.built_steps < len(made.steps) // 4
    trees = made.trees[: len(made.trees) - had_fresh]
    if entries:
        built = Builder(entries, made.layout.tops()).build([("", list(range(len(entries))))])
        steps.extend([0] * (-len(steps) % (4 * LINE_STEPS)))
        # The walk begins with what is fresh, and goes on to the first tree.
        fresh_root = built.root + len(steps) // 4
        steps.extend(_moved(built, len(steps) // 4))
        steps[4 * fresh_root + 2] = root
        root = fresh_root
        walk_max += sum(tree.steps_max for tree in built.trees)
        hides = _more_hides(hides, built.hides, made.filters)
        trees = (*trees, *built.trees)
    if walk_max > WALK_MAX:
        return None
    steps[0], steps[1], steps[2] = len(steps) // 4, len(made.sublayers), root
    return replace(made, steps=steps, root=root, trees=trees, walk_max=walk_max, hides=hides)


def _moved(built: Built, by: int) -> Iterable[int]:
    """Yield the steps of *built* as they are *by* steps further on."""
    for place in range(0, len(built.steps), 4):
        a, b, c, d = built.steps[place : place + 4]
        yield from (a, b, c + by if c and d & 0xFF in _REFERRING else c, d)


def _more_hides(
    hides: Mapping[int, frozenset[int]], rows: Mapping[int, Iterable[int]], filters: Sequence[Filter]
) -> dict[int, frozenset[int]]:
    """Return *hides*, by id, with *rows*, by row, added."""
    result = dict(hides)
    for hider, hidden in rows.items():
        number = filters[hider].id
        result[number] = result.get(number, frozenset()) | {filters[row].id for row in hidden}
    return result
