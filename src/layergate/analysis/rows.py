"""The filters of one layer, made ready for being compared: `Row`, `Index`, `Table`.

A row is a filter with its conditions by field, and what they cover. Tests that no value of the field's type can meet
are left out of it. An index finds the rows that may match an indication, or that may overlap with others, without
asking each: it knows every row by one of its fields, that in which the layer's filters differ most. A table is a layer
of a policy: its rows in the order in which they are heard. What it decides, `engine.classify` decides, asked of the
rows that the index gives.

Worked example: of 10,000 filters of which each names an address, two beside one that names none, the index gives that
one and at most two for an indication with an address.
"""

from __future__ import annotations

from bisect import bisect_left, bisect_right
from collections.abc import Hashable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from itertools import groupby
from operator import attrgetter
from types import MappingProxyType
from typing import Final

from layergate.analysis.atoms import FieldKind, Run, bits_of, kind_of
from layergate.engine import (
    GO_ON,
    NOTHING_ASSUMED,
    Answer,
    Assumed,
    Callouts,
    Invocation,
    Ordered,
    classify,
    effective_weight,
    groups,
)
from layergate.engine.matching import as_integer
from layergate.engine.regions import Region, disjoint, is_nothing, region
from layergate.model import (
    Condition,
    DataType,
    Filter,
    Indication,
    Layer,
    Sublayer,
    SublayerVerdict,
    Token,
    Value,
    Verdict,
)
from layergate.model.lines import TOKENS
from layergate.model.values import BITS

Kinds = Mapping[str, FieldKind]


@dataclass(eq=False, slots=True)
class Row:
    """A filter, its conditions and what they cover, by field.

    *place*: of its sublayer, 0 for the heaviest; *rank*: among all filters of the layer, as they are heard; *weight*:
    its effective weight. *never*: no value meets one of its fields' conditions.
    """

    filter: Filter
    place: int
    rank: int
    weight: int
    runs: Mapping[str, tuple[Run, ...]]
    regions: Mapping[str, tuple[Region, ...]]
    fields: frozenset[str]
    never: bool

    @property
    def covered(self) -> Hashable:
        """What it covers: equal for rows that match the same."""
        return frozenset(self.regions.items())

    def is_apart(self, other: Row) -> bool:
        """Whether certainly nothing matches both."""
        few, many = (self, other) if len(self.fields) <= len(other.fields) else (other, self)
        for name, several in few.regions.items():
            for its in many.regions.get(name, ()):
                for mine in several:
                    if disjoint(mine, its):
                        return True
        return False


def kinds_of(layer: Layer, filters: Iterable[Filter]) -> Kinds:
    """Return the kind of every field that *filters* test at *layer*."""
    by_name: dict[str, list[Condition]] = {}
    for item in filters:
        for condition in item.conditions:
            by_name.setdefault(condition.field, []).append(condition)
    return {name: kind_of(layer, name, conditions) for name, conditions in by_name.items()}


def row_of(item: Filter, kinds: Kinds, place: int = 0, rank: int = 0) -> Row:
    """Return the row of *item*. Cost: O(conditions)."""
    runs: dict[str, tuple[Run, ...]] = {}
    for name, run in groups(item.conditions):
        kept = tuple(condition for condition in run if kinds[name].can_meet(condition))
        runs[name] = (*runs.get(name, ()), kept)
    regions = {name: tuple(map(region, alternatives)) for name, alternatives in runs.items()}
    never = any(is_nothing(one) for several in regions.values() for one in several)
    return Row(item, place, rank, effective_weight(item), runs, regions, frozenset(runs), never)


# --- the index --------------------------------------------------------------------------------------------------------


class _Spans:
    """Ranges of numbers with their rows; those of about one width together, so that few are looked at in vain."""

    def __init__(self) -> None:
        self._by_width: dict[int, list[tuple[int, int, Row]]] = {}
        self._lows: dict[int, list[int]] = {}

    def add(self, low: int, high: int, row: Row) -> None:
        self._by_width.setdefault((high - low).bit_length(), []).append((low, high, row))

    def close(self) -> None:
        for width, spans in self._by_width.items():
            spans.sort(key=lambda span: span[:2])
            self._lows[width] = [low for low, _, _ in spans]

    def touching(self, low: int, high: int) -> Iterator[Row]:
        """Yield the rows of the ranges that have a number of *low* to *high*."""
        for width, spans in self._by_width.items():
            lows = self._lows[width]
            for place in range(bisect_left(lows, low - (1 << width)), bisect_right(lows, high)):
                if spans[place][1] >= low:
                    yield spans[place][2]


@dataclass(slots=True)
class _Shelf:
    """The rows that are known by one field."""

    spans: _Spans = field(default_factory=_Spans)
    texts: dict[Hashable, list[Row]] = field(default_factory=dict)
    empties: list[Row] = field(default_factory=list)
    rows: list[Row] = field(default_factory=list)


class Index:
    """Finds rows by what they test."""

    def __init__(self, rows: Iterable[Row], kinds: Kinds) -> None:
        """Shelve *rows*. Cost: O(n log n)."""
        rows = [row for row in rows if not row.never]
        self._kinds = kinds
        self._shelves: dict[str, _Shelf] = {}
        self._loose: list[Row] = []
        variety: dict[str, set[Region]] = {}
        for row in rows:
            for name, several in row.regions.items():
                variety.setdefault(name, set()).add(several[0])
        for row in rows:
            usable = [name for name, several in row.regions.items() if self._is_narrow(name, several[0])]
            if usable:
                self._shelve(max(usable, key=lambda name: (len(variety[name]), name)), row)
            else:
                self._loose.append(row)
        for shelf in self._shelves.values():
            shelf.spans.close()

    def _is_narrow(self, name: str, covered: Region) -> bool:
        """Whether *covered* is known by values, and is less than half of them."""
        if covered.rest:
            return False
        width = sum(high - low + 1 for low, high in covered.ranges)
        return not width or 2 * width <= 1 << bits_of(self._kinds[name].type)

    def _shelve(self, name: str, row: Row) -> None:
        shelf = self._shelves.setdefault(name, _Shelf())
        covered = row.regions[name][0]
        shelf.rows.append(row)
        for low, high in covered.ranges:
            shelf.spans.add(low, high, row)
        for text in covered.values:
            shelf.texts.setdefault(text, []).append(row)
        if covered.empty:
            shelf.empties.append(row)

    def at(self, values: Mapping[str, Value]) -> list[Row]:
        """Return the rows that may match *values*: all that do, and others."""
        found = dict.fromkeys(self._loose)
        for name, shelf in self._shelves.items():
            value = values.get(name)
            if value is None or value.type is DataType.EMPTY:
                found.update(dict.fromkeys(shelf.empties))
            elif isinstance(value.data, Token):
                continue  # known by user ids: a token meets none
            elif value.type in BITS or value.type is DataType.BYTE_ARRAY16 or value.type in TOKENS:
                number = as_integer(value)
                found.update(dict.fromkeys(shelf.spans.touching(number, number)))
            else:
                found.update(dict.fromkeys(shelf.texts.get(value.data, ())))
        return list(found)

    def candidates(self, musts: Sequence[Row]) -> list[Row]:
        """Return the rows that may match where all of *musts* do, by the field that each is known by."""
        found = dict.fromkeys(self._loose)
        for name, shelf in self._shelves.items():
            covered = next((one for must in musts for one in must.regions.get(name, ()) if not one.rest), None)
            if covered is None:
                found.update(dict.fromkeys(shelf.rows))
                continue
            for low, high in covered.ranges:
                found.update(dict.fromkeys(shelf.spans.touching(low, high)))
            for text in covered.values:
                found.update(dict.fromkeys(shelf.texts.get(text, ())))
            if covered.empty:
                found.update(dict.fromkeys(shelf.empties))
        return list(found)

    def near(self, musts: Sequence[Row]) -> list[Row]:
        """Return the rows that may match where all of *musts* do: all that do somewhere, and others."""
        return [row for row in self.candidates(musts) if not any(row.is_apart(must) for must in musts)]


# --- a layer ----------------------------------------------------------------------------------------------------------

Heard = tuple[tuple[Sublayer, tuple[Filter, ...]], ...]


class Table:
    """One layer of a policy: its rows in the order in which they are heard."""

    def __init__(self, layer: Layer, heard: Heard, kinds: Kinds) -> None:
        """Make rows of what is *heard* at *layer*. Cost: O(n log n)."""
        self.layer, self.kinds = layer, kinds
        self.sublayers: Final = tuple(sublayer for sublayer, _ in heard)
        self.rows: list[Row] = []
        for place, (_, filters) in enumerate(heard):
            for item in filters:
                self.rows.append(row_of(item, kinds, place, len(self.rows)))
        self._left_out: frozenset[Row] = frozenset()
        self._index: Index | None = None
        self.row_by_filter: Final = {id(row.filter): row for row in self.rows}
        self._callouts: Callouts = MappingProxyType(
            {row.filter.callout: _go_on for row in self.rows if row.filter.callout}
        )

    @property
    def index(self) -> Index:
        """The index of the rows."""
        if self._index is None:
            self._index = Index((row for row in self.rows if row not in self._left_out), self.kinds)
        return self._index

    def leave_out(self, idle: Iterable[Row]) -> None:
        """Leave rows that never decide out of the index: no verdict changes by it."""
        self._left_out |= frozenset(idle)
        self._index = None

    def classify(self, values: Mapping[str, Value], assumed: Assumed = NOTHING_ASSUMED) -> Verdict:
        """Decide an indication of *values*; callouts go on. Cost: O(rows that may match)."""
        return self.classify_among(self.index.at(values), values, assumed)

    def classify_among(self, rows: Iterable[Row], values: Mapping[str, Value], assumed: Assumed) -> Verdict:
        """Decide an indication of *values* by *rows*: all that match it are among them."""
        rows = sorted(rows, key=attrgetter("rank"))
        heard = tuple(
            (self.sublayers[place], tuple(row.filter for row in same))
            for place, same in groupby(rows, key=attrgetter("place"))
        )
        ordered = Ordered({self.layer.id: heard})
        return classify(ordered, Indication(self.layer, values), callouts=self._callouts, assumed=assumed)

    def told(self, verdict: Verdict, row: Row) -> SublayerVerdict:
        """Return what the sublayer of *row* said: *row* is known to match."""
        return next(told for told in verdict.sublayers if told.sublayer is self.sublayers[row.place])

    def row(self, item: Filter | None) -> Row | None:
        """Return the row of *item*."""
        return None if item is None else self.row_by_filter[id(item)]


def _go_on(_: Invocation) -> Answer:
    return GO_ON
