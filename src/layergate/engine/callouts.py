"""Callouts: functions that filters ask, and what their answers mean.

A callout gets an `Invocation` (the indication, the filter that asks, the verdict so far and whether it may still be
changed) and answers; None leaves the verdict so far as it is. What the answer counts for follows from the action of
the filter:

    terminating   permit or block; anything else counts as block
    inspection    whatever it answers, the sublayer goes on
    unknown       permit, block, or go on

Whether an answer is soft or hard is the callout's own doing (`Answer.clears_right`); a well-behaved one clears the
right when it blocks, and on both actions where its filter has CLEAR_ACTION_RIGHT. A filter whose callout nobody
registered blocks; with PERMIT_IF_CALLOUT_UNREGISTERED it permits; an inspection goes on. `unasked` is for a callout
that somebody registered elsewhere.

Source: Microsoft, "FWPS_ACTION0", "FWPS_CLASSIFY_OUT0", "FWPS_FILTER0". An unregistered inspection is not documented:
going on is the harmless reading.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Final

from layergate.model import Action, Filter, FilterFlag, Indication

_ANSWERS: Final = (Action.PERMIT, Action.BLOCK, Action.CONTINUE)


@dataclass(frozen=True, slots=True)
class Invocation:
    """What a callout is asked. *action* is the verdict of the sublayers above, None where none had an opinion."""

    indication: Indication
    filter: Filter
    action: Action | None
    may_write: bool

    @property
    def should_clear_right(self) -> bool:
        """Whether the filter asks the callout to make its answer hard, whatever it is."""
        return FilterFlag.CLEAR_ACTION_RIGHT in self.filter.flags


@dataclass(frozen=True, slots=True)
class Answer:
    """What a callout answers: permit, block or continue. *absorbs*: nobody else is to hear of the block.

    Raises ValueError for any other action.
    """

    action: Action
    clears_right: bool = False
    absorbs: bool = False

    def __post_init__(self) -> None:
        """Refuse what is no answer."""
        if self.action not in _ANSWERS:
            raise ValueError(f"a callout answers permit, block or continue, not {self.action}")


CalloutFunction = Callable[[Invocation], Answer | None]
Callouts = Mapping[str, CalloutFunction]

GO_ON: Final = Answer(Action.CONTINUE)


def unasked(invocation: Invocation) -> Answer:
    """Stand for a callout that exists and can't be asked here, as one of a dump: the sublayer goes on.

    Registered as this very function, it goes on also where a terminating callout that said so would block.
    """
    del invocation
    return GO_ON


@dataclass(frozen=True, slots=True)
class Result:
    """What a matching filter came to. *by_callout*: a callout that somebody registered said so: it may veto."""

    action: Action
    clears_right: bool = False
    by_callout: bool = False
    absorbs: bool = False


def result_of(invocation: Invocation, callouts: Callouts) -> Result:
    """Return what the filter of *invocation* comes to. What a callout raises is raised."""
    item = invocation.filter
    if not item.action.is_callout:
        return Result(item.action, item.hard)
    function = callouts.get(item.callout)
    if function is None:
        return _unregistered(item)
    if function is unasked:
        return Result(Action.CONTINUE)
    answer = function(invocation)
    if item.action is Action.CALLOUT_INSPECTION:
        return Result(Action.CONTINUE, by_callout=True)
    action = (invocation.action or Action.CONTINUE) if answer is None else answer.action
    if item.action is Action.CALLOUT_TERMINATING and action is Action.CONTINUE:
        action = Action.BLOCK
    if answer is None:
        return Result(action, by_callout=True)
    return Result(action, answer.clears_right, by_callout=True, absorbs=answer.absorbs and action is Action.BLOCK)


def _unregistered(item: Filter) -> Result:
    if item.action is Action.CALLOUT_INSPECTION:
        return Result(Action.CONTINUE)
    if FilterFlag.PERMIT_IF_CALLOUT_UNREGISTERED in item.flags:
        return Result(Action.PERMIT, FilterFlag.CLEAR_ACTION_RIGHT in item.flags)
    return Result(Action.BLOCK, clears_right=True)
