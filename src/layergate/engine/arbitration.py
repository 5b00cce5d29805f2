"""Arbitration: sublayers by weight, filters by weight, one verdict.

1. A layer's sublayers are heard from the heaviest to the lightest, all of them, also after a block.
2. In a sublayer the first matching filter that permits or blocks ends it; the rest of the sublayer is not heard.
3. Across sublayers the engine carries the action so far and the right to change it. A permit is soft (a lower sublayer
   may block) unless its filter clears the right; a filter's block is hard. Once hard, nothing changes the action.
4. The reported filter is the first terminating one, in sublayer order, whose action is the final action.
5. Nothing matched: permit, no filter.

Worked example: sublayer A (heavy) permits softly by filter 1; B blocks by filter 2; C permits by filter 3. The action
goes permit (soft), block (hard), and stays: the verdict is block by filter 2; 1 and 3 lost.

Source: Microsoft, "Filter Arbitration"; which filter is reported: seven recorded net events.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass

from layergate.engine.matching import matches_all
from layergate.engine.weights import effective_weight
from layergate.model import Action, Filter, FilterFlag, Layer, Policy, Sublayer, SublayerVerdict, Value, Verdict

_INACTIVE = FilterFlag.BOOTTIME | FilterFlag.DISABLED


@dataclass(frozen=True, slots=True)
class Ordered:
    """A policy in the order in which it is heard: by layer id, its sublayers with their filters, heaviest first."""

    layers: Mapping[int, tuple[tuple[Sublayer, tuple[Filter, ...]], ...]]
    version: int = 1

    def at(self, layer: Layer) -> tuple[tuple[Sublayer, tuple[Filter, ...]], ...]:
        """Return what is heard at *layer*."""
        return self.layers.get(layer.id, ())


def in_order(policy: Policy) -> Ordered:
    """Put *policy* in order: sublayers by weight, then as declared; filters by effective weight, then by id.

    Boot-time and disabled filters are left out: they are not heard on a running system. Cost: O(n log n).
    """
    place = {sublayer.name: number for number, sublayer in enumerate(_by_weight(policy.sublayers))}
    sublayers = {sublayer.name: sublayer for sublayer in policy.sublayers}
    by_layer: dict[int, dict[str, list[Filter]]] = {}
    for item in policy.filters:
        if not item.flags & _INACTIVE:
            by_layer.setdefault(item.layer.id, {}).setdefault(item.sublayer, []).append(item)
    return Ordered(
        {
            layer: tuple(
                (sublayers[name], tuple(sorted(filters, key=lambda item: (-effective_weight(item), item.id))))
                for name, filters in sorted(heard.items(), key=lambda entry: place[entry[0]])
            )
            for layer, heard in by_layer.items()
        },
        policy.version,
    )


def _by_weight(sublayers: Iterable[Sublayer]) -> list[Sublayer]:
    return sorted(sublayers, key=lambda sublayer: -sublayer.weight)


def classify(ordered: Ordered, layer: Layer, values: Mapping[str, Value]) -> Verdict:
    """Decide an indication at *layer* with *values*. Cost: O(filters of the layer). Source: the module's rules."""
    action: Action | None = None
    may_change = True
    results: list[tuple[Sublayer, tuple[Filter, ...]]] = []
    for sublayer, filters in ordered.at(layer):
        matched = tuple(item for item in filters if matches_all(values, item.conditions))
        results.append((sublayer, matched))
        if matched and may_change:
            action = matched[0].action
            may_change = not matched[0].hard
    final = action or Action.PERMIT
    reported = next((matched[0] for _, matched in results if matched and matched[0].action is final), None)
    return Verdict(
        action=final,
        filter=reported,
        hard=not may_change,
        sublayers=tuple(_told(results, final)),
        version=ordered.version,
    )


def _told(results: list[tuple[Sublayer, tuple[Filter, ...]]], final: Action) -> Iterable[SublayerVerdict]:
    """Tell, a sublayer each, what it said and how arbitration took it."""
    settled: Filter | None = None
    action: Action | None = None
    for sublayer, matched in results:
        decided = matched[0] if matched else None
        if decided is None:
            effect = "nothing matched"
        elif settled is not None and decided.action is action:
            effect = f"agrees with '{settled.name}', which had already settled it"
        elif settled is not None:
            effect = f"not heard: '{settled.name}' above it is a hard {settled.action}"
        elif action is not None and decided.action is not action:
            effect = f"overrides the soft {action} above it"
        elif decided.action is not final:
            effect = "soft permit, overridden below"
        else:
            effect = f"{'hard' if decided.hard else 'soft'} {decided.action}"
        if decided is not None and settled is None:
            action = decided.action
            settled = decided if decided.hard else None
        yield SublayerVerdict(
            sublayer=sublayer,
            matched=matched,
            decided=decided,
            lost=matched[1:],
            took_effect=decided is not None and decided.action is final,
            effect=effect,
            weights=tuple(map(effective_weight, matched)),
        )
