"""What a verdict hangs on: what would change it, and what it would be where something can't be decided here.

`changes` looks for the smallest change of the question that turns the answer: a filter that missed narrowly and would
have turned it, had the values been the nearest that it takes. `dependences` is for filters whose tests or callouts
can't be decided offline: of each, what the answer would be if it went the other way.

Worked example: "block: remote port 22; 'the web' permits 80 and 443" gives one change, remote port 80. In a dump, a
filter for the token of a service is taken not to match; its dependence is the verdict that it would give if it did.
"""

from __future__ import annotations

import enum
from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass, replace
from typing import Final

from layergate.engine import (
    NO_CALLOUTS,
    NOTHING_ASSUMED,
    Answer,
    Assumed,
    Callouts,
    Ordered,
    classify,
    groups,
    matches_all,
)
from layergate.engine.explanation import Account, Fate, FieldTest, Nearest, nearest, nearest_outside
from layergate.model import Action, Condition, DataType, Field, Filter, Indication, Layer, Value, Verdict
from layergate.model.lines import TOKENS

FIELDS_MAX: Final = 2
"""How many values a change may change: with more it is another question."""

TRIES_MAX: Final = 40
"""How many changes are tried, the smallest first: each costs a classification."""

_FAR: Final = 1 << 128


@dataclass(frozen=True, slots=True)
class Change:
    """Other *values*, by field, and the *verdict* that they would get; *filter* would match then, or no longer."""

    values: Mapping[str, Value]
    filter: Filter
    verdict: Verdict


def changes(  # noqa: PLR0917 - the arguments of `classify`, and its answer
    ordered: Ordered,
    indication: Indication,
    verdict: Verdict,
    accounts: Iterable[Account],
    callouts: Callouts = NO_CALLOUTS,
    assumed: Assumed = NOTHING_ASSUMED,
    *,
    limit: int = 3,
) -> tuple[Change, ...]:
    """Return the smallest changes of *indication* that turn *verdict*, at most *limit*.

    Args:
        ordered: as for `classify`, as are *indication*, *callouts* and *assumed*.
        indication: what was asked.
        verdict: what was answered.
        accounts: `explanation.account` of the two.
        callouts: who answers.
        assumed: what was taken for granted.
        limit: how many are wanted.

    Cost: O(filters of the layer), times TRIES_MAX at most.
    """
    found: list[Change] = []
    seen: set[tuple[tuple[str, Value], ...]] = set()
    for _, item, values in sorted(_candidates(indication, accounts, verdict), key=lambda candidate: candidate[0])[
        :TRIES_MAX
    ]:
        key = tuple(sorted(values.items(), key=lambda pair: pair[0]))
        if key in seen:
            continue
        seen.add(key)
        other = classify(ordered, _with(indication, values), callouts=callouts, assumed=assumed)
        if other.action is not verdict.action:
            found.append(Change(values, item, other))
            if len(found) == limit:
                break
    return tuple(found)


def _with(indication: Indication, values: Mapping[str, Value]) -> Indication:
    kept = {**indication.values, **values}
    return replace(indication, values={name: value for name, value in kept.items() if value.type is not DataType.EMPTY})


def _candidates(
    indication: Indication, accounts: Iterable[Account], verdict: Verdict
) -> Iterator[tuple[tuple[int, int, int], Filter, dict[str, Value]]]:
    """Yield (how big a change, the filter, the values): where filters that missed narrowly would match.

    And where the one that decided would not.
    """
    for place, told in enumerate(accounts):
        for asked in told.asked:
            if asked.filter is verdict.filter:
                for test in asked.tests:
                    outside = _close(nearest_outside, test, indication.layer)
                    if outside is not None:
                        yield (1, outside.distance or 0, place), asked.filter, {test.field: outside.value}
            missed = asked.missed
            if asked.fate is not Fate.MISSED or len(missed) > FIELDS_MAX or asked.filter.action is verdict.action:
                continue
            close = {test.field: _close(nearest, test, indication.layer) for test in missed}
            found = {name: one for name, one in close.items() if one is not None}
            # Another program or user is another question; what it takes to be let through is worth saying.
            is_apart = any(one.distance is None for one in found.values())
            if len(found) == len(missed) and not (is_apart and verdict.action is Action.PERMIT):
                distance = sum(_FAR if one.distance is None else one.distance for one in found.values())
                yield (len(missed), distance, place), asked.filter, {name: one.value for name, one in found.items()}


def _close(look: Callable[[Field, FieldTest], Nearest | None], test: FieldTest, layer: Layer) -> Nearest | None:
    field = layer.field(test.field)
    return look(field, test) if field else None


class DependenceKind(enum.StrEnum):
    """Why something can't be decided offline."""

    TOKEN = "token"  # noqa: S105 - no password
    CALLOUT = "callout"


@dataclass(frozen=True, slots=True)
class Dependence:
    """Filters whose match, or answer, hangs on what can't be known here.

    *tests* are what has to pass (security descriptors, SIDs), *callout* is the callout's key; *verdict* is what it
    would be if they passed, or if the callout blocked.
    """

    kind: DependenceKind
    tests: tuple[Condition, ...]
    callout: str
    filters: tuple[Filter, ...]
    verdict: Verdict


def undecidable(ordered: Ordered, indication: Indication) -> Assumed:
    """Return the tests of the layer that can't be decided without a token, each taken not to pass.

    Those are tests against a security descriptor or a SID where *indication* does not say the token or the SID.
    """
    conditions = (
        condition
        for _, filters in ordered.at(indication.layer)
        for item in filters
        for condition in item.conditions
        if condition.field not in indication.values
    )
    return {condition: False for condition in conditions if _needs_token(condition, indication)}


def _needs_token(condition: Condition, indication: Indication) -> bool:
    if condition.value.type in (DataType.SECURITY_DESCRIPTOR, DataType.SID):
        return True
    field = indication.layer.field(condition.field)
    return field is not None and field.type in TOKENS and condition.value.type is not DataType.EMPTY


def untested(ordered: Ordered, indication: Indication) -> Assumed:
    """Return the tests of fields that *indication* does not know, each taken not to pass first."""
    return {
        condition: False
        for _, filters in ordered.at(indication.layer)
        for item in filters
        for condition in item.conditions
        if condition.field not in indication.values
    }


def dependences(
    ordered: Ordered, indication: Indication, assumed: Assumed, callouts: Callouts = NO_CALLOUTS
) -> tuple[Dependence, ...]:
    """Return what the verdict on *indication* hangs on: first tests that are *assumed* not to pass, then callouts.

    Cost: one classification a distinct test or callout of a filter that is otherwise met.
    """
    passing = dict.fromkeys(assumed, True)
    by_tests: dict[tuple[Condition, ...], list[Filter]] = {}
    by_callout: dict[str, list[Filter]] = {}
    for _, filters in ordered.at(indication.layer):
        for item in filters:
            if not matches_all(indication.values, item.conditions, passing):
                continue
            if item.action.is_callout and item.callout in callouts:
                by_callout.setdefault(item.callout, []).append(item)
            decisive = tuple(_decisive(item, indication, assumed))
            if decisive:
                by_tests.setdefault(decisive, []).append(item)
    tests = (
        Dependence(
            DependenceKind.TOKEN,
            decisive,
            "",
            tuple(items),
            classify(ordered, indication, callouts=callouts, assumed={**assumed, **dict.fromkeys(decisive, True)}),
        )
        for decisive, items in by_tests.items()
    )
    blocking = Answer(Action.BLOCK, clears_right=True)
    answers = (
        Dependence(
            DependenceKind.CALLOUT,
            (),
            key,
            tuple(items),
            classify(ordered, indication, callouts={**callouts, key: lambda _: blocking}, assumed=assumed),
        )
        for key, items in by_callout.items()
        if any(item.action is not Action.CALLOUT_INSPECTION for item in items)
    )
    return (*tests, *answers)


def _decisive(item: Filter, indication: Indication, assumed: Assumed) -> Iterator[Condition]:
    """Yield the assumed tests of *item* that decide whether it matches: no alternative beside them holds."""
    for _, run in groups(item.conditions):
        open_ones = [condition for condition in run if condition in assumed]
        if open_ones and not matches_all(indication.values, run, assumed):
            yield from open_ones
