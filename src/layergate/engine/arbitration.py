"""Arbitration: sublayers by weight, filters by weight, one verdict.

1. A layer's sublayers are heard from the heaviest to the lightest, all of them, also after a block.
2. In a sublayer the first matching filter that permits or blocks ends it; the rest of the sublayer is not heard. A
   callout may let go on (`callouts`), and so does a filter whose limit is not past (`limits`).
3. Across sublayers the engine carries the action so far and the right to change it. A permit is soft (a lower sublayer
   may block) unless its filter clears the right; a filter's block is hard. Once the right is gone, nothing changes the
   action but a veto: a callout's block against a permit. *filter_veto* lets a plain filter's block veto too, as one
   reading of the documentation has it.
4. The reported filter is the first terminating one, in sublayer order, whose action is the final action.
5. Nothing matched: permit, no filter.

Worked example: sublayer A (heavy) permits softly by filter 1; B blocks by filter 2; C permits by filter 3. The action
goes permit (soft), block (hard), and stays: the verdict is block by filter 2; 1 and 3 lost.

Source: Microsoft, "Filter Arbitration"; which filter is reported: seven recorded net events.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from types import MappingProxyType
from typing import Final

from layergate.engine.callouts import Callouts, Invocation, Result, result_of
from layergate.engine.limits import Counts, NoCounts
from layergate.engine.matching import NOTHING_ASSUMED, Assumed, matches_all
from layergate.engine.weights import effective_weight
from layergate.model import Action, Filter, FilterFlag, Indication, Layer, Policy, Sublayer, SublayerVerdict, Verdict
from layergate.model.limits import Standing

NO_CALLOUTS: Final[Callouts] = MappingProxyType({})
NO_COUNTS: Final[Counts] = NoCounts()


@dataclass(frozen=True, slots=True)
class Ordered:
    """A policy in the order in which it is heard: by layer id, its sublayers with their filters, heaviest first."""

    layers: Mapping[int, tuple[tuple[Sublayer, tuple[Filter, ...]], ...]]
    version: int = 1

    def at(self, layer: Layer) -> tuple[tuple[Sublayer, tuple[Filter, ...]], ...]:
        """Return what is heard at *layer*."""
        return self.layers.get(layer.id, ())


def in_order(policy: Policy, *, is_boot: bool = False) -> Ordered:
    """Put *policy* in order: sublayers by weight, then as declared; filters by effective weight, then by id.

    A running system hears neither boot-time nor disabled filters; before the engine runs (*is_boot*), boot-time filters
    are all that is heard. Cost: O(n log n).
    """
    place = {key: number for number, key in enumerate(hearing_order(policy))}
    sublayers = {sublayer.key: sublayer for sublayer in policy.sublayers}
    by_layer: dict[int, dict[str, list[Filter]]] = {}
    for item in policy.filters:
        if is_heard(item, is_boot=is_boot):
            by_layer.setdefault(item.layer.id, {}).setdefault(item.sublayer, []).append(item)
    return Ordered(
        {
            layer: tuple(
                (sublayers[key], tuple(sorted(filters, key=lambda item: (-effective_weight(item), item.id))))
                for key, filters in sorted(heard.items(), key=lambda entry: place[entry[0]])
            )
            for layer, heard in by_layer.items()
        },
        policy.version,
    )


def is_heard(item: Filter, *, is_boot: bool = False) -> bool:
    """Whether *item* is heard by a running system, or (*is_boot*) before the engine runs."""
    if item.flags is FilterFlag.NONE:  # of thousands; to ask a flag takes a microsecond
        return not is_boot
    return FilterFlag.DISABLED not in item.flags and (FilterFlag.BOOTTIME in item.flags) is is_boot


def hearing_order(policy: Policy) -> list[str]:
    """Return the keys of the sublayers of *policy* in the order in which they are heard."""
    return [sublayer.key for sublayer in sorted(policy.sublayers, key=lambda sublayer: -sublayer.weight)]


@dataclass(slots=True)
class _Heard:
    """One sublayer's result, and how the engine took it."""

    sublayer: Sublayer
    matched: tuple[Filter, ...]
    place: int = 0  # of the filter that ended it, among the matched
    result: Result | None = None
    before: Action | None = None
    could_write: bool = True
    veto: bool = False
    standings: list[tuple[Filter, Standing]] = field(default_factory=list)

    @property
    def decided(self) -> Filter | None:
        return self.matched[self.place] if self.result else None

    @property
    def action(self) -> Action | None:
        return self.result.action if self.result else None


def classify(
    ordered: Ordered,
    indication: Indication,
    *,
    callouts: Callouts = NO_CALLOUTS,
    filter_veto: bool = False,
    assumed: Assumed = NOTHING_ASSUMED,
    counts: Counts = NO_COUNTS,
) -> Verdict:
    """Decide *indication*.

    Args:
        ordered: one version of the filters.
        indication: its layer's filters are asked, with its values.
        callouts: by key, the functions that somebody registered.
        filter_veto: a plain filter's block overrides a hard permit.
        assumed: conditions whose outcome is taken for granted, whatever the values say.
        counts: asked how a key stands to a filter's limit, once a filter that is heard.

    Cost: O(filters of the layer). Source: the module's rules.
    """
    action: Action | None = None
    may_write = True
    heard = []
    veto = None
    for sublayer, filters in ordered.at(indication.layer):
        one = _Heard(
            sublayer, tuple(item for item in filters if matches_all(indication.values, item.conditions, assumed))
        )
        one.before, one.could_write = action, may_write
        heard.append(one)
        for place, item in enumerate(one.matched):
            if item.limit is not None:
                standing = counts.standing(item, indication)
                one.standings.append((item, standing))
                if item.limit.monitor or not standing.is_past:
                    continue
            result = result_of(Invocation(indication, item, action, may_write), callouts)
            if result.action is not Action.CONTINUE:
                one.place, one.result = place, result
                break
        if one.result is None:
            continue
        if may_write:
            action, may_write = one.result.action, not one.result.clears_right
        elif action is Action.PERMIT and one.action is Action.BLOCK and (one.result.by_callout or filter_veto):
            action, one.veto = Action.BLOCK, True
            veto = veto or one.decided
    final = action or Action.PERMIT
    reported = next((one for one in heard if one.action is final), None)
    return Verdict(
        action=final,
        filter=reported.decided if reported else None,
        hard=not may_write,
        sublayers=tuple(_told(heard, final)),
        version=ordered.version,
        veto=veto,
        absorbed=bool(reported and reported.result and reported.result.absorbs),
    )


def _told(heard: list[_Heard], final: Action) -> Iterator[SublayerVerdict]:
    """Tell, a sublayer each, what it said and how arbitration took it."""
    settled: Filter | None = None
    vetoed = any(one.veto for one in heard)
    for one in heard:
        decided = one.decided
        yield SublayerVerdict(
            sublayer=one.sublayer,
            matched=one.matched,
            decided=decided,
            lost=one.matched[one.place + 1 :] if decided else (),
            took_effect=decided is not None and one.action is final,
            effect=_effect(one, settled, final, vetoed=vetoed),
            weights=tuple(map(effective_weight, one.matched)),
            action=one.action,
            hard=bool(one.result and one.result.clears_right),
            continued=one.matched[: one.place] if decided else one.matched,
            veto=one.veto,
            standings=tuple(one.standings),
        )
        if decided is not None and one.result and (one.veto or (one.could_write and one.result.clears_right)):
            settled = decided


def _gone_on(one: _Heard) -> str:
    if not one.matched:
        return "nothing matched"
    if len(one.standings) == len(one.matched):
        return "no limit was past"
    return "every callout and limit let go on" if one.standings else "every callout that matched let go on"


def _effect(one: _Heard, settled: Filter | None, final: Action, *, vetoed: bool) -> str:
    """Return, in words, how arbitration took what *one* said; *settled* is the filter that took the right away."""
    if one.result is None:
        return _gone_on(one)
    how = f"{'hard' if one.result.clears_right else 'soft'} {one.action}"
    if one.veto:
        return f"vetoes the hard permit '{settled.name if settled else ''}' above it"
    if settled is not None and one.action is one.before:
        return f"agrees with '{settled.name}', which had already settled it"
    if settled is not None:
        return f"not heard: '{settled.name}' above it is a hard {one.before}"
    if one.before is not None and one.action is not one.before:
        return f"overrides the soft {one.before} above it" + (
            "" if one.action is final else ", and is overridden below"
        )
    if one.action is not final:
        return f"{how}, {'vetoed' if vetoed and one.result.clears_right else 'overridden'} below"
    return how
