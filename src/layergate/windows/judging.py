"""What the filters of a dump decide on what a dump records, and how far that can be known.

A dump has neither tokens nor callouts, and of a packet only the ends. So a verdict is taken on what is known, and every
filter that could have changed it is named (`Open`):

- A condition on a value that isn't recorded, or that was not understood, is taken as not met first. A filter that would
  match if it were met, and that stands above what decided its sublayer, is open.
- A callout goes on, whatever its filter says; a filter that asks one and matches is open. Two kinds of callout are
  known: the platform's SILENT_DROP blocks, and one that the state shows as not registered does what filters without
  callout do.

`compare` sets a net event's outcome beside the verdict: the same filter, the same action by another filter, a different
action, or undecided, when something open explains the difference.

Worked example: an event says that filter 7 blocked port 445; filter 7 tests port 445 and a user. Nothing else
matches, so the verdict is permit with filter 7 open: "undecided: filter 7 depends on ALE_USER_ID, which is not
recorded".
"""

from __future__ import annotations

import enum
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Final

from layergate.engine import (
    Answer,
    CalloutFunction,
    Invocation,
    Ordered,
    classify,
    groups,
    in_order,
    is_heard,
    matches,
    matches_all,
    unasked,
)
from layergate.model import (
    Action,
    CalloutFlag,
    Condition,
    Filter,
    FilterFlag,
    Indication,
    Layer,
    Sublayer,
    Verdict,
)
from layergate.windows.dump import Dump
from layergate.windows.events import NetEvent
from layergate.windows.filters import is_never
from layergate.windows.situations import of_event

REASONS_MAX: Final = 3
SILENT_DROP: Final = "_SILENT_DROP"
"""How the platform's two callouts end that drop whatever they are asked of."""


@dataclass(frozen=True, slots=True)
class Open:
    """A filter that might have spoken, and why that isn't known."""

    filter: Filter
    sublayer: Sublayer
    reason: str


@dataclass(frozen=True, slots=True)
class Judgement:
    """A verdict on what is known, and the filters that might change it."""

    indication: Indication
    verdict: Verdict
    open: tuple[Open, ...] = ()

    @property
    def is_certain(self) -> bool:
        """Whether nothing unknown could change the action."""
        wanted = self.verdict.action
        return all(one.filter.action is wanted for one in self.open)


class Judge:
    """Decides on what *dump* records by the filters of *dump* itself, or of the state beside it.

    *ordered* are its filters in the order in which they are heard, *callouts* what stands for each callout.
    """

    def __init__(self, dump: Dump) -> None:
        self.dump = dump
        self.filters = {item.id: item for item in dump.policy.filters}
        self.ordered: Ordered = in_order(dump.policy)
        self.callouts = dict(self._functions())
        self.layers = {layer.id: layer for layer in dump.layers}
        self._callout_names = {callout.key: callout.name for callout in dump.policy.callouts}
        self._conditions: dict[int, tuple[Condition, ...]] = {}

    def _functions(self) -> Iterator[tuple[str, CalloutFunction]]:
        """Yield what stands for each callout that a filter asks."""
        listed = {callout.key: callout for callout in self.dump.policy.callouts}
        for key in {item.callout for item in self.dump.policy.filters if item.callout}:
            callout = listed.get(key)
            if key.endswith(SILENT_DROP):
                yield key, _drop
            elif callout is None or CalloutFlag.REGISTERED in callout.flags:
                yield key, unasked

    def judge(self, indication: Indication) -> Judgement:
        """Decide *indication*. Cost: O(conditions of the layer's filters)."""
        unknown = {
            condition
            for condition in self._conditions_at(indication.layer)
            if condition.field not in indication.values or is_never(condition)
        }
        verdict = classify(self.ordered, indication, callouts=self.callouts, assumed=dict.fromkeys(unknown, False))
        return Judgement(indication, verdict, tuple(self._open(indication, verdict, unknown)))

    def _conditions_at(self, layer: Layer) -> tuple[Condition, ...]:
        known = self._conditions.get(layer.id)
        if known is None:
            heard = (item for _, filters in self.ordered.at(layer) for item in filters)
            known = tuple(dict.fromkeys(condition for item in heard for condition in item.conditions))
            self._conditions[layer.id] = known
        return known

    def _open(self, indication: Indication, verdict: Verdict, unknown: set[Condition]) -> Iterator[Open]:
        """Yield the filters that might change *verdict*."""
        met = dict.fromkeys(unknown, True)
        found = False
        for (sublayer, filters), told in zip(self.ordered.at(indication.layer), verdict.sublayers, strict=True):
            matched = {item.id for item in told.matched}
            for item in filters:
                reason = self._reason(item, indication, met, is_matched=item.id in matched)
                if reason:
                    found = True
                    yield Open(item, sublayer, reason)
                if item is told.decided:
                    break
            if told.hard and not found:
                return

    def _reason(self, item: Filter, indication: Indication, met: dict[Condition, bool], *, is_matched: bool) -> str:
        """Return why it isn't known whether *item* speaks; "" where it is, or where it has nothing to say."""
        is_odd = item.id in self.dump.not_understood
        if item.action is Action.CALLOUT_INSPECTION or (item.action is Action.CONTINUE and not is_odd):
            return ""
        if is_matched:
            is_unasked = item.action.is_callout and self.callouts.get(item.callout) is unasked
            return f"it asks the callout {self.callout_name(item.callout)}" if is_unasked else ""
        if not matches_all(indication.values, item.conditions, met):
            return ""
        if is_odd:
            return f"it was not understood: {self.dump.not_understood[item.id]}"
        fields = {
            name
            for name, run in groups(item.conditions)
            if not any(condition not in met and matches(indication.values.get(name), condition) for condition in run)
        }
        return f"it depends on {', '.join(sorted(fields))}, which is not recorded"

    def callout_name(self, key: str) -> str:
        """Return what people call the callout *key*."""
        return self._callout_names.get(key, key)


def _drop(_: Invocation) -> Answer:
    return Answer(Action.BLOCK, clears_right=True)


class Agreement(enum.StrEnum):
    """How a verdict compares with what an event records."""

    SAME = "same filter"
    ANOTHER = "same action, another filter"
    UNDECIDED = "undecided"
    DIFFERENT = "different"


@dataclass(frozen=True, slots=True)
class Comparison:
    """An event beside our verdict. *reasons* explain what is not the same; *judgement* is None where there is none."""

    event: NetEvent
    layer: Layer | None
    judgement: Judgement | None
    agreement: Agreement
    reasons: tuple[str, ...] = ()


def compare(judge: Judge, event: NetEvent, time: float = 0.0) -> Comparison:
    """Set what *event* records beside what the filters decide on the same values."""
    layer = judge.layers.get(event.layer) if event.layer is not None else None
    if event.action is None:
        return Comparison(event, layer, None, Agreement.UNDECIDED, ("it is no classification",))
    if layer is None:
        lacking = "it names no layer" if event.layer is None else f"no layer has the id {event.layer}"
        return Comparison(event, None, None, Agreement.UNDECIDED, (lacking,))
    if not judge.filters:
        lacking = "there are no filters: the state of the same machine is needed beside it"
        return Comparison(event, layer, None, Agreement.UNDECIDED, (lacking,))
    judgement = judge.judge(of_event(event, layer, time))
    verdict = judgement.verdict
    decided = verdict.filter.id if verdict.filter else 0
    if verdict.action is event.action and decided == event.filter:
        return Comparison(event, layer, judgement, Agreement.SAME)
    told = dict(_reasons(judge, event, layer, judgement))
    if verdict.action is event.action:
        agreement = Agreement.ANOTHER
    else:
        agreement = Agreement.UNDECIDED if any(told.values()) else Agreement.DIFFERENT
    return Comparison(event, layer, judgement, agreement, tuple(told))


def _reasons(judge: Judge, event: NetEvent, layer: Layer, judgement: Judgement) -> Iterator[tuple[str, bool]]:
    """Yield why the recorded filter did not decide here, and whether the dump lacks what would tell."""
    recorded = judge.filters.get(event.filter or 0)
    opened = {one.filter.id: one for one in judgement.open}
    if recorded is None and event.filter:
        yield f"filter #{event.filter} is not in the state: the filters have changed since", True
    elif recorded is not None and recorded.layer.id != layer.id:
        yield f"filter #{recorded.id} is at {recorded.layer.short}: the state is of another time", True
    elif recorded is not None and not is_heard(recorded):
        yield f"filter #{recorded.id} is {'boot-time' if FilterFlag.BOOTTIME in recorded.flags else 'disabled'}", True
    elif recorded is not None and recorded.id not in opened:
        missed = next(_missed(recorded, judgement.indication), None)
        if missed is not None:
            yield f"filter #{recorded.id} does not match the recorded {missed}", False
    first = sorted(opened, key=lambda number: number != event.filter)
    for number in first[:REASONS_MAX]:
        yield f"filter #{number} '{opened[number].filter.name}': {opened[number].reason}", True
    if len(first) > REASONS_MAX:
        yield f"and {len(first) - REASONS_MAX} more", True


def _missed(item: Filter, indication: Indication) -> Iterator[str]:
    """Yield the fields of *item* whose recorded values meet none of its conditions."""
    for name, run in groups(item.conditions):
        value = indication.values.get(name)
        if value is not None and not any(matches(value, condition) for condition in run):
            yield name
