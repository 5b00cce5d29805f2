"""The tables in plain Python: what the steps mean, and the twin of the kernel's loop (kernel/bpf/classify.h).

`walk` is the definition of the layout (compile/steps.py): it reads the same array as the kernel and the columns do, a
step at a time. Example, the leaf of compile/leaves.py with key[port] = 443, key[protocol] = 6: 0 misses, on to 2; 2
holds, on to 3; 3 matches code 8 for sublayer 0, on to 4; 4 matches code 12 for sublayer 1, done.

`classify` adds what a walk can't: callouts and limits that have to be asked, and arbitration (engine/arbitration.py).
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from layergate.compile import CODE_BITS, CODE_BLOCK, CODE_HARD, KNOWN, NO_CODE, SEVERAL, Compiled, Op, Table
from layergate.engine import NO_CALLOUTS, NO_COUNTS, Callouts, Counts, Invocation
from layergate.engine.callouts import Result, result_of
from layergate.model import Action, Filter, Indication, Layer, Value

_FULL = 0xFFFFFFFF


@dataclass(frozen=True, slots=True)
class Outcome:
    """A verdict by the tables. *filter_id*: 0 where none decided; *decided*: by sublayer, the filter that ended it."""

    action: Action
    filter_id: int
    hard: bool
    decided: Mapping[str, int]


@dataclass(slots=True)
class Walked:
    """What a walk found: by sublayer of the table, the least code that matched, NO_CODE where none did.

    *asked*: (code, sublayer) of filters whose callout or limit has to be asked. *steps*: how many the walk took.
    """

    codes: list[int]
    asked: list[tuple[int, int]]
    steps: int = 0


def walk(steps: Sequence[int], root: int, key: Sequence[int], sublayer_count: int) -> Walked:
    """Walk *steps* from *root* with *key*. Cost: O(steps passed), `Table.walk_max` at most."""
    found = Walked([NO_CODE] * sublayer_count, [])
    place = following = root
    while place or following:
        place = place or following
        a, b, c, d = steps[4 * place : 4 * place + 4]
        op, word, distance = d & 0xFF, d >> 8 & 0xFF, d >> 16
        found.steps += 1
        if op >= Op.IN:
            value = key[word]
            holds = ((value - a & _FULL) <= b) if op <= Op.NOT_IN else (value & b) == a
            onward = distance if holds is (op in (Op.IN, Op.MASKED)) else c
            place = place + onward if onward else 0
        elif op == Op.CUT:
            child = (key[word] - a & _FULL) >> distance
            place = c + child if child <= b else 0
        elif op == Op.SPLIT:
            place = c if key[word] <= a else c + 1
        elif op == Op.LEAF:
            place = c if word == SEVERAL or a < found.codes[word] else 0
        elif op in (Op.MATCH, Op.ASK, Op.LIMIT):
            if b & ~key[KNOWN]:
                place += 1
                continue
            if op != Op.MATCH:
                found.asked.append((a, word))
            elif a < found.codes[word]:
                found.codes[word] = a
            place = place + c if c else 0
        elif op == Op.ROOT:
            following = c
            place = place + 1 if word == SEVERAL or a < found.codes[word] else 0
        else:  # END
            place = 0
    return found


def classify(
    compiled: Compiled, indication: Indication, *, callouts: Callouts = NO_CALLOUTS, counts: Counts = NO_COUNTS
) -> Outcome:
    """Decide *indication*. Equal to engine.classify with the same *counts*, and the callouts that it was compiled with.

    Cost: O(fields + steps passed). Source: engine/arbitration.py.
    """
    table = compiled.table(indication.layer)
    if table is None:
        return Outcome(Action.PERMIT, 0, hard=False, decided={})
    found = walk(table.steps, table.root, table.layout.key(indication.values), len(table.sublayers))
    action, may_write, reported = Action.PERMIT, True, 0
    has_acted = False
    results: list[tuple[Action, int]] = []
    decided = {}
    for place, number in enumerate(table.sublayers):
        ended = _ended(table, found, place, (indication, action if has_acted else None, may_write), (callouts, counts))
        if ended is None:
            continue
        item, result = ended
        decided[compiled.sublayers[number]] = item.id
        results.append((result.action, item.id))
        if may_write:
            action, may_write, has_acted = result.action, not result.clears_right, True
        elif action is Action.PERMIT and result.action is Action.BLOCK and result.by_callout:
            action = Action.BLOCK
    reported = next((item_id for said, item_id in results if said is action), 0)
    return Outcome(action, reported, hard=not may_write, decided=decided)


def _ended(
    table: Table,
    found: Walked,
    place: int,
    state: tuple[Indication, Action | None, bool],
    asked: tuple[Callouts, Counts],
) -> tuple[Filter, Result] | None:
    """Return who ended the sublayer at *place*, and with what: a callout or a limit that was asked, or what matched."""
    indication, action, may_write = state
    callouts, counts = asked
    code = found.codes[place]
    for asking in sorted({asking for asking, sublayer in found.asked if sublayer == place and asking < code}):
        item = table.filters[asking >> CODE_BITS]
        if item.limit is not None and (not counts.standing(item, indication).is_past or item.limit.monitor):
            continue
        result = result_of(Invocation(indication, item, action, may_write), callouts)
        if result.action is not Action.CONTINUE:
            return item, result
    if code == NO_CODE:
        return None
    said = Action.BLOCK if code & CODE_BLOCK else Action.PERMIT
    return table.filters[code >> CODE_BITS], Result(said, bool(code & CODE_HARD))


def decide(compiled: Compiled, layer: Layer, values: Mapping[str, Value]) -> tuple[Action, int]:
    """Return the action and the deciding filter's id (0: none) for *values* at *layer*."""
    outcome = classify(compiled, Indication(layer, values))
    return outcome.action, outcome.filter_id
