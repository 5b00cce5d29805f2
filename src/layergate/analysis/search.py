"""Looking for an indication: one that certain filters match, and of which the others let something be said.

The search chooses one field after the other, the values of it that the filters in question can tell apart (`atoms`),
and asks a judge at every step: impossible now, certain now, or open. A field is chosen by how few of its values there
are to try, a value by how few filters it meets. What is not found is not there: unless the budget of steps was used up,
or a field has more kinds of values than can be tried (`atoms`); then `Result.complete` says so.

Worked example: the filter "remote port 443", behind "remote port 0 to 499" and "user 0". Looked for is an indication
that only the first matches. Its port is 443, or it would not match: the second matches then whatever the user is, the
judge says impossible, and the search ends: never heard.

`guesses` are indications that are worth a try before anything is searched: the plainest values of what has to match,
everything else as everyday as can be, or as quiet, or unknown.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Final

from layergate.analysis.atoms import Atom, Atoms, FieldKind, Run, atoms, everyday
from layergate.analysis.rows import Kinds, Row
from layergate.engine.matching import Assumed
from layergate.model import Condition, Value
from layergate.model.lines import TOKENS

SEARCH_MAX: Final = 20_000
"""Steps of one search at most; a step is a filter that is looked at."""

Judge = Callable[[list[Row], list[Row]], bool | None]
"""Given the filters that match for certain and those that may: False, impossible; True, found; None, open yet."""


@dataclass(frozen=True, slots=True)
class Point:
    """An indication's values, and the outcomes that are assumed of tests that no value decides."""

    values: Mapping[str, Value]
    assumed: Assumed


class Budget:
    """The steps that are left."""

    def __init__(self, steps: int) -> None:
        self.left = steps

    def take(self, steps: int) -> bool:
        """Take *steps*; whether they were there."""
        self.left -= steps
        return self.left >= 0

    @property
    def is_spent(self) -> bool:
        """Whether more was wanted than there was."""
        return self.left < 0


@dataclass(slots=True)
class Result:
    """What a search came to. *complete*: whether no *point* means that there is none."""

    point: Point | None = None
    complete: bool = True


class _OutOfSteps(Exception):
    """The search has used up its steps."""


@dataclass(slots=True)
class _Search:
    """One search."""

    kinds: Kinds
    musts: Sequence[Row]
    judge: Judge
    left: int
    complete: bool = True
    values: dict[str, Value] = field(default_factory=dict)
    assumed: dict[Condition, bool] = field(default_factory=dict)
    decided: set[str] = field(default_factory=set)

    def run(self, rows: list[Row]) -> bool:
        """Whether there is a point at which the judge agrees; *values* and *assumed* are then its own."""
        self.left -= len(rows) + 1
        if self.left < 0:
            raise _OutOfSteps
        certain: list[Row] = []
        still_open: list[Row] = []
        for row in rows:
            (certain if row.fields <= self.decided else still_open).append(row)
        said = self.judge(certain, still_open)
        if said is False:
            return False
        undecided = [row for row in self.musts if not row.fields <= self.decided]
        if said and not undecided:
            return True
        name, runs, found = self._next(undecided or still_open, rows)
        needs = _needs(name, runs, self.musts)
        by_need: dict[int, list[Row]] = {}
        for row in rows:
            by_need.setdefault(_needs(name, runs, (row,)), []).append(row)
        children = [atom for atom in found.atoms if atom.met & needs == needs]
        self.complete = self.complete and found.complete
        self.decided.add(name)
        for atom in sorted(children, key=lambda atom: atom.met.bit_count()):
            self._take(name, atom)
            if self.run([row for need, same in by_need.items() if need & atom.met == need for row in same]):
                return True
            self._forget(name, atom)
        self.decided.discard(name)
        return False

    def _next(self, of: Iterable[Row], rows: Sequence[Row]) -> tuple[str, dict[Run, int], Atoms]:
        """Return the field to choose next among those of *of*: its name, its tests by number, its values."""
        names = sorted({name for row in of for name in row.fields if name not in self.decided})
        by_name: dict[str, dict[Run, int]] = {name: {} for name in names}
        for row in (*self.musts, *rows):
            for name in row.fields & by_name.keys():
                for run in row.runs[name]:
                    by_name[name].setdefault(run, len(by_name[name]))
        name = min(names, key=lambda one: len(by_name[one]))
        return name, by_name[name], atoms(self.kinds[name], list(by_name[name]))

    def _take(self, name: str, atom: Atom) -> None:
        if atom.value is not None:
            self.values[name] = atom.value
        self.assumed.update(atom.assumed)

    def _forget(self, name: str, atom: Atom) -> None:
        self.values.pop(name, None)
        for condition, _ in atom.assumed:
            self.assumed.pop(condition, None)


def _needs(name: str, runs: Mapping[Run, int], rows: Iterable[Row]) -> int:
    """Return the tests of the field *name* that all of *rows* need met, as bits."""
    needs = 0
    for row in rows:
        for run in row.runs.get(name, ()):
            needs |= 1 << runs[run]
    return needs


def find(
    kinds: Kinds, musts: Sequence[Row], rows: Iterable[Row], judge: Judge, budget: Budget, *, most: int = SEARCH_MAX
) -> Result:
    """Look for a point that all of *musts* match and *judge* agrees to.

    Args:
        kinds: of the fields that the rows test.
        musts: the rows that have to match.
        rows: the rows that the judge is to hear of, as far as they may match.
        judge: says whether a point of a kind is possible; exact once nothing is open.
        budget: what it costs is taken from here.
        most: steps at most.

    Cost: up to *most* steps; where a field is left that tells apart k values, k times the rest.
    """
    steps = min(most, budget.left)
    search = _Search(kinds, musts, judge, steps)
    try:
        found = search.run(list(dict.fromkeys(rows)))
    except _OutOfSteps:
        return Result(None, complete=False)
    finally:
        budget.left -= steps - max(search.left, 0)
    return Result(Point(search.values, search.assumed) if found else None, search.complete)


def box(kinds: Kinds, musts: Sequence[Row]) -> Result:
    """Return the plainest point that all of *musts* match; what none of them tests is unknown. Cost: O(tests)."""
    values: dict[str, Value] = {}
    assumed: dict[Condition, bool] = {}
    for name in sorted({name for row in musts for name in row.fields}):
        runs = list(dict.fromkeys(run for row in musts for run in row.runs.get(name, ())))
        found = atoms(kinds[name], runs)
        wanted = (1 << len(runs)) - 1
        atom = next((atom for atom in found.atoms if atom.met == wanted), None)
        if atom is None:
            return Result(None, found.complete)
        if atom.value is not None:
            values[name] = atom.value
        assumed.update(atom.assumed)
    return Result(Point(values, assumed))


class Guesses:
    """Where to look first. *rows*: all of a layer, of every policy in question."""

    def __init__(self, kinds: Kinds, rows: Iterable[Row]) -> None:
        """Keep the tests of each field."""
        self._kinds = kinds
        self._runs: dict[str, dict[Run, None]] = {}
        for row in rows:
            for name, several in row.runs.items():
                self._runs.setdefault(name, {}).update(dict.fromkeys(several))
        self._fills: list[dict[str, Value]] | None = None

    def of(self, musts: Sequence[Row]) -> Iterator[Point]:
        """Yield points that all of *musts* match; none where there is none."""
        start = box(self._kinds, musts).point
        if start is None:
            return
        tested = {name for row in musts for name in row.fields}
        for fill in self.fills():
            yield Point(
                {**{name: value for name, value in fill.items() if name not in tested}, **start.values}, start.assumed
            )
        yield start

    def fills(self) -> list[dict[str, Value]]:
        """Return values for the fields that do not matter: everyday ones, and those that the fewest filters ask for."""
        if self._fills is None:
            usual: dict[str, Value] = {}
            quiet: dict[str, Value] = {}
            for name, runs in self._runs.items():
                kind = self._kinds[name]
                plain = everyday(kind)
                still = _quietest(kind, list(runs))
                if still is not None:
                    quiet[name] = still
                if plain is not None or still is not None:
                    usual[name] = plain or still  # type: ignore[assignment]
            self._fills = [usual] if usual == quiet else [usual, quiet]
        return self._fills


def _quietest(kind: FieldKind, runs: list[Run]) -> Value | None:
    """Return the value that meets the fewest of *runs*, None where only an unknown one is that quiet."""
    if kind.type in TOKENS and any(condition.value.type.name != "UINT32" for run in runs for condition in run):
        return None
    known = [atom for atom in atoms(kind, runs).atoms if atom.value is not None]
    return min(known, key=lambda atom: atom.met.bit_count()).value if known else None
