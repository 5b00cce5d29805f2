"""What changes from one policy to another, by meaning: which indications get another verdict, a witness of each kind.

Filters that stand in both policies with the same content, in the same order, say the same of whatever no other filter
matches. So every indication whose verdict changes is matched by a filter that only one of the two has, or that has
another place: of each such filter those indications are searched (`search`) of which the two policies' filters say
different things. A kind of change is a layer, the filter that decided before and the one that decides after; once it
has a witness, the search goes on for other kinds, until there is none left or the budget of steps is used up.

A verdict changes where its action does, or the errno of a blocked call. That another filter says the same is no change.
Callouts count as going on, on both sides; access checks as passing or failing, as it takes (`Witness.assumed`).

Worked example: A permits remote port 0 to 1023, B 0 to 79; both block everything else. The permits differ: of B's
nothing changes; of A's, port 80: permitted by A's, blocked by the rest in B. No second kind is found, and that is all.

Exact: every witness is decided again by `engine.classify` in both whole policies. Complete, unless `Differences` says
what was left.
"""

from __future__ import annotations

from bisect import bisect_left
from collections.abc import Hashable, Iterator, Sequence
from dataclasses import dataclass
from typing import Final

from layergate.analysis.finding import Witness
from layergate.analysis.rows import Heard, Kinds, Row, Table, kinds_of
from layergate.analysis.search import Budget, Guesses, Point, find
from layergate.engine import Callouts, Ordered, classify, in_order, unasked
from layergate.model import Action, Filter, FilterFlag, Indication, InternalError, Layer, Policy, Verdict

STEPS_MAX: Final = 5_000_000
"""Steps that a comparison may take: some ten seconds."""

SEARCH_MAX: Final = 200_000
"""Steps that the search for one more kind of change may take."""

A, B = 0, 1


@dataclass(frozen=True, slots=True)
class Decision:
    """What a policy decides: *filter* is None where none matched; *error* is the errno of a blocked call, else 0."""

    action: Action
    filter: Filter | None
    error: int = 0


@dataclass(frozen=True, slots=True)
class Difference:
    """A kind of indications that get another verdict, at *layer*; *witness* is one of them.

    *asked*: filters whose callouts it passes in either policy: what they answer may make another difference.
    """

    layer: Layer
    before: Decision
    after: Decision
    witness: Witness
    asked: tuple[Filter, ...] = ()


@dataclass(frozen=True, slots=True)
class Differences:
    """All kinds of change. *compared_count* of *changed_count* filters that are not the same were searched whole."""

    found: tuple[Difference, ...]
    changed_count: int
    compared_count: int

    @property
    def complete(self) -> bool:
        """Whether nothing was left out."""
        return self.compared_count == self.changed_count


def diff(before: Policy, after: Policy, *, steps_max: int = STEPS_MAX) -> Differences:
    """Return what changes from *before* to *after*; ids, names, lines and the order of insertion change nothing.

    Cost: near nothing for layers that are the same; a search for each filter that is not, *steps_max* steps at most.
    """
    ordered = in_order(before), in_order(after)
    found: list[Difference] = []
    changed = compared = 0
    layers = list(_layers(ordered))
    for number, (layer, heard) in enumerate(layers):
        # What one layer leaves of its share goes to the next ones: no layer is forgotten for another.
        budget = Budget(steps_max // (len(layers) - number))
        share = budget.left
        side = _Layer(layer, heard, ordered, budget)
        found += side.differences()
        changed += side.changed_count
        compared += side.compared_count
        steps_max -= share - max(budget.left, 0)
    return Differences(tuple(found), changed, compared)


def _layers(ordered: tuple[Ordered, Ordered]) -> Iterator[tuple[Layer, tuple[Heard, Heard]]]:
    """Yield each layer at which the two differ in what is heard, with what is. Dumps may number layers differently."""
    by_name: dict[str, list[Heard]] = {}
    layers: dict[str, Layer] = {}
    for place, one in enumerate(ordered):
        for heard in one.layers.values():
            layer = heard[0][1][0].layer
            layers.setdefault(layer.name, layer)
            by_name.setdefault(layer.name, [(), ()])[place] = heard
    for name, (first, second) in sorted(by_name.items(), key=lambda entry: layers[entry[0]].id):
        yield layers[name], (first, second)


@dataclass(frozen=True, slots=True)
class _Outcomes:
    """What a policy may come to, as far as is known: actions with the errnos of blocks; *exact*: exactly this one."""

    possible: frozenset[tuple[Action, int]]
    decided: Row | None
    exact: bool


class _Layer:
    """One layer of both policies."""

    def __init__(
        self, layer: Layer, heard: tuple[Heard, Heard], ordered: tuple[Ordered, Ordered], budget: Budget
    ) -> None:
        self.layer, self._ordered, self._budget = layer, ordered, budget
        filters = [item for side in heard for _, items in side for item in items]
        self._kinds: Kinds = kinds_of(layer, filters)
        self._tables = Table(layer, heard[A], self._kinds), Table(layer, heard[B], self._kinds)
        self._side = {id(row): place for place in (A, B) for row in self._tables[place].rows}
        self._callouts: Callouts = {item.callout: unasked for item in filters if item.callout}
        self._has_errors = any(item.error for item in filters)
        self.compared_count = 0
        self._changed = [row for row in _changed(*self._tables) if not row.never]
        self.changed_count = len(self._changed)
        self._known: set[tuple[int | None, int | None]] = set()

    def differences(self) -> Iterator[Difference]:
        """Yield a witness of every kind of change."""
        if not self._changed:
            return
        guesses = Guesses(self._kinds, [row for table in self._tables for row in table.rows])
        for row in self._changed:
            if self._budget.is_spent:
                return
            for point in guesses.of([row]):
                if self._budget.take(len(self._changed) // 4 + 1):
                    yield from self._tried(point)
            near = [one for table in self._tables for one in table.index.near([row])]
            if not self._budget.take(len(near) // 4 + 1):
                return
            while True:
                result = find(self._kinds, [row], near, self._judge, self._budget, most=SEARCH_MAX)
                if result.point is None:
                    self.compared_count += result.complete
                    break
                found = list(self._tried(result.point))
                if not found:
                    raise InternalError(f"diff: no difference at {dict(result.point.values)} of {self.layer.short}")
                yield from found

    def _tried(self, point: Point) -> Iterator[Difference]:
        """Yield what *point* shows, if it is a change of a kind that is new; decided by the whole policies."""
        verdicts = self._verdicts(point)
        before, after = map(_decision, verdicts)
        key = _key(before.filter), _key(after.filter)
        if (before.action, before.error) == (after.action, after.error) or key in self._known:
            return
        point = self._plain(point, (before, after))
        self._check(point, (before, after))
        self._known.add(key)
        asked = {item.id: item for verdict in verdicts for told in verdict.sublayers for item in told.continued}
        witness = Witness(Indication(self.layer, point.values), point.assumed)
        yield Difference(self.layer, before, after, witness, tuple(asked.values()))

    def _verdicts(self, point: Point) -> list[Verdict]:
        """Return what the two policies decide on *point*."""
        rows = [row for table in self._tables for row in table.index.at(point.values)]
        return [
            classify(
                Ordered({self.layer.id: _heard_among(table, rows)}),
                Indication(table.layer, point.values),
                callouts=self._callouts,
                assumed=point.assumed,
            )
            for table in self._tables
        ]

    def _plain(self, point: Point, decisions: tuple[Decision, Decision]) -> Point:
        """Return *point* without what does not matter: fields that may as well be unknown."""
        for name in list(point.values):
            assumed = {test: passes for test, passes in point.assumed.items() if test.field != name}
            without = Point({key: value for key, value in point.values.items() if key != name}, assumed)
            if tuple(map(_decision, self._verdicts(without))) == decisions:
                point = without
        for test in [test for test, passes in point.assumed.items() if not passes]:
            without = Point(point.values, {one: passes for one, passes in point.assumed.items() if one != test})
            if tuple(map(_decision, self._verdicts(without))) == decisions:
                point = without
        return point

    def _check(self, point: Point, decisions: tuple[Decision, Decision]) -> None:
        """Hold *point* against both whole policies."""
        for ordered, table, decision in zip(self._ordered, self._tables, decisions, strict=True):
            layer = table.rows[0].filter.layer if table.rows else self.layer
            verdict = classify(ordered, Indication(layer, point.values), callouts=self._callouts, assumed=point.assumed)
            if _decision(verdict) != decision:
                raise InternalError(f"diff: the index and the policy disagree at {dict(point.values)} of {layer.short}")

    def _judge(self, certain: list[Row], open_ones: list[Row]) -> bool | None:
        """Say whether a change of a new kind is impossible, there, or open."""
        sides: tuple[list[tuple[Row, bool]], list[tuple[Row, bool]]] = ([], [])
        for rows, sure in ((certain, True), (open_ones, False)):
            for row in rows:
                if not row.filter.action.is_callout and row.filter.limit is None:
                    sides[self._side[id(row)]].append((row, sure))
        first, second = (self._outcomes(side) for side in sides)
        if len(first.possible) == 1 and first.possible == second.possible:
            return False
        if not (first.exact and second.exact):
            return None
        is_change = first.possible != second.possible
        key = (
            _key(first.decided.filter if first.decided else None),
            _key(second.decided.filter if second.decided else None),
        )
        return is_change and key not in self._known

    def _outcomes(self, rows: list[tuple[Row, bool]]) -> _Outcomes:
        """Return what *rows*, each with whether it certainly matches, may come to."""
        rows.sort(key=lambda entry: entry[0].rank)
        states: set[tuple[Action | None, bool]] = {(None, True)}
        exact = True
        said: list[Row] = []
        errors: set[int] = set()
        place = 0
        while place < len(rows):
            sublayer = rows[place][0].place
            options: list[Row | None] = []
            is_sure = False
            while place < len(rows) and rows[place][0].place == sublayer:
                row, sure = rows[place]
                place += 1
                if is_sure:
                    continue
                options.append(row)
                is_sure = sure
                if row.filter.action is Action.BLOCK:
                    errors.add(row.filter.error)
            if len(options) > 1 or not is_sure:
                exact = exact and not any(may_write for _, may_write in states)
            if not is_sure:
                options.append(None)
            if len(options) == 1 and options[0] is not None:
                said.append(options[0])
            states = {_after(state, option) for state in states for option in options}
        actions = {action or Action.PERMIT for action, _ in states}
        possible = {
            (action, error)
            for action in actions
            for error in (errors if action is Action.BLOCK and self._has_errors else {0})
        }
        if not exact:
            return _Outcomes(frozenset(possible), None, exact=False)
        action = next(iter(actions))
        decided = next((row for row in said if row.filter.action is action), None)
        error = decided.filter.error if decided and action is Action.BLOCK else 0
        return _Outcomes(frozenset({(action, error)}), decided, exact=True)


def _after(state: tuple[Action | None, bool], option: Row | None) -> tuple[Action | None, bool]:
    """Return the action so far and the right to change it after a sublayer said what *option* says."""
    _, may_write = state
    if option is None or not may_write:
        return state
    return option.filter.action, not option.filter.hard


def _heard_among(table: Table, rows: Sequence[Row]) -> Heard:
    """Return what is heard of *table* among *rows*."""
    mine = {id(row) for row in table.rows}
    by_place: dict[int, list[Row]] = {}
    for row in rows:
        if id(row) in mine:
            by_place.setdefault(row.place, []).append(row)
    return tuple(
        (table.sublayers[place], tuple(row.filter for row in sorted(same, key=lambda row: row.rank)))
        for place, same in sorted(by_place.items())
    )


def _decision(verdict: Verdict) -> Decision:
    decided = verdict.filter
    error = decided.error if decided is not None and verdict.action is Action.BLOCK else 0
    return Decision(verdict.action, decided, error)


def _key(item: Filter | None) -> int | None:
    """Return what tells filters apart in a kind of change."""
    return None if item is None else item.id


# --- what is not the same ---------------------------------------------------------------------------------------------


def _content(row: Row) -> Hashable:
    """Return all of a filter that a verdict hangs on."""
    item = row.filter
    clears = FilterFlag.CLEAR_ACTION_RIGHT in item.flags
    return item.conditions, item.action, clears, item.error, item.callout, item.limit


def _changed(first: Table, second: Table) -> list[Row]:
    """Return the rows of either that the other lacks, or has in another place among those that both have."""
    waiting: dict[Hashable, list[Row]] = {}
    for row in reversed(second.rows):
        waiting.setdefault((second.sublayers[row.place].key, _content(row)), []).append(row)
    pairs: list[tuple[Row, Row]] = []
    changed: list[Row] = []
    for row in first.rows:
        same = waiting.get((first.sublayers[row.place].key, _content(row)))
        if same:
            pairs.append((row, same.pop()))
        else:
            changed.append(row)
    changed += [row for rows in waiting.values() for row in rows]
    kept = _longest_rising([other.rank for _, other in pairs])
    changed += [row for number, pair in enumerate(pairs) if number not in kept for row in pair]
    return sorted(changed, key=lambda row: row.rank)


def _longest_rising(numbers: Sequence[int]) -> frozenset[int]:
    """Return the places of a longest rising row within *numbers*. Cost: O(n log n)."""
    tails: list[int] = []
    ends: list[int] = []
    previous: dict[int, int | None] = {}
    for place, number in enumerate(numbers):
        at = bisect_left(tails, number)
        previous[place] = ends[at - 1] if at else None
        tails[at : at + 1] = [number]
        ends[at : at + 1] = [place]
    result = []
    step: int | None = ends[-1] if ends else None
    while step is not None:
        result.append(step)
        step = previous[step]
    return frozenset(result)
