"""The tables over columns: millions of verdicts a second, by Numba (the extra `columns`), on the kernel's own array.

A batch is columns by field name:

    numbers     arrays that NumPy takes, also Arrow's without nulls, ports and users and flags as they are; IPv4
                addresses in host order; IPv6 addresses as uint64[n, 2], high then low
    texts       `Texts`: codes into a dictionary, as Arrow's dictionary columns have them; -1 where there is none

A field without a column is unknown in every row; `present` says, where some are known, in which. Example:

    verdicts = Columns(compiled).decide(layer, {"IP_REMOTE_PORT": ports, "ALE_APP_ID": Texts(codes, [b"/bin/curl"])})
    verdicts.action[0] == BLOCK and verdicts.filter_id[0] == 7

No Python runs a row: a text is looked up once an entry of its dictionary, and so is a test that no word can express.
Rows are independent: the walk runs on all processors. Equal to `backends.plain`, which needs no Numba (tests/parity).
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Final

from layergate.compile import CODE_BITS, CODE_BLOCK, CODE_HARD, KNOWN, NO_CODE, Compiled, Layout, Op, Table
from layergate.compile.words import Slot
from layergate.engine.matching import matches
from layergate.model import Action, Condition, InputError, Layer, NotSupportedError, Value

try:
    import numba
    import numpy as np
except ImportError as missing:  # the rest of layergate goes without
    raise NotSupportedError("columns", f"{missing.name} is not installed", "pip install numba") from missing

if TYPE_CHECKING:
    from numpy.typing import NDArray

PERMIT: Final = 1
BLOCK: Final = 2
_BLOCK_ROWS: Final = 4096  # what a processor takes at a time
_ZERO, _ONE, _TWO, _EIGHT, _SIXTEEN, _BYTE = (np.uint64(number) for number in (0, 1, 2, 8, 16, 0xFF))
_FULL: Final = np.uint64(0xFFFFFFFF)
_WORD: Final = np.uint64(32)
_ROOT, _CUT, _SPLIT, _LEAF, _MATCH, _IN, _NOT_IN = (
    np.uint64(int(op)) for op in (Op.ROOT, Op.CUT, Op.SPLIT, Op.LEAF, Op.MATCH, Op.IN, Op.NOT_IN)
)


@dataclass(frozen=True, slots=True)
class Texts:
    """A column of texts: *codes* int32[n] into *dictionary*, -1 for none."""

    codes: Any
    dictionary: Sequence[bytes | str]


@dataclass(frozen=True, slots=True)
class VerdictColumns:
    """*action* uint8[n] (PERMIT, BLOCK); *filter_id* uint64[n], 0: none; *hard* bool[n].

    *decided* uint64[n, s]: by sublayer in the order of *sublayers*, the filter that ended it, 0: none.
    """

    action: NDArray[np.uint8]
    filter_id: NDArray[np.uint64]
    hard: NDArray[np.bool_]
    decided: NDArray[np.uint64]
    sublayers: tuple[str, ...]


@dataclass(frozen=True, slots=True)
class Columns:
    """The tables of *compiled*, for batches."""

    compiled: Compiled

    def decide(
        self, layer: Layer, columns: Mapping[str, Any], *, present: Mapping[str, Any] | None = None, count: int = 0
    ) -> VerdictColumns:
        """Decide every row of *columns* at *layer*.

        Args:
            layer: its filters are asked.
            columns: see the module; all of one length, n.
            present: by field, bool[n]: where the column's number is known.
            count: n, where there are no columns.

        Raises:
            InputError: columns of different lengths, or of a wrong shape.
            NotSupportedError: a filter there asks a callout or has a limit, which only `backends.plain` can.
        Cost: O(n × steps passed), no allocation a row.
        """
        count = _length(columns, count)
        table = self.compiled.table(layer)
        if table is None:
            return _nothing(count)
        for item in table.filters:
            if item.action.is_callout and any(step & 0xFF == Op.ASK for step in table.steps[3::4]):
                raise NotSupportedError(f"filter '{item.name}'", "columns can't ask a callout", "use backends.plain")
        if table.limits:
            raise NotSupportedError(
                f"filter '{table.limits[0].name}'", "columns have no counts to judge its limit by", "use backends.plain"
            )
        key = key_columns(table.layout, columns, present or {}, count)
        steps = np.frombuffer(table.steps, dtype=np.uint32)
        ids = np.frombuffer(table.rows, dtype=np.uint64)[::2].copy()
        sublayers = len(table.sublayers)
        action, hard = np.empty(count, np.uint8), np.empty(count, np.bool_)
        filter_id, decided = np.empty(count, np.uint64), np.empty((count, sublayers), np.uint64)
        _decide(steps, table.root, key, ids, sublayers, action, filter_id, hard, decided)
        return VerdictColumns(action, filter_id, hard, decided, self._names(table))

    def _names(self, table: Table) -> tuple[str, ...]:
        return tuple(self.compiled.sublayers[number] for number in table.sublayers)


def _length(columns: Mapping[str, Any], count: int) -> int:
    lengths = {name: len(one.codes if isinstance(one, Texts) else one) for name, one in columns.items()}
    if len(set(lengths.values())) > 1:
        told = ", ".join(f"{name} {length:,}" for name, length in lengths.items())
        raise InputError(f"columns of different lengths: {told}", "columns of one length")
    return next(iter(lengths.values()), count)


def _nothing(count: int) -> VerdictColumns:
    return VerdictColumns(
        np.full(count, PERMIT, np.uint8),
        np.zeros(count, np.uint64),
        np.zeros(count, np.bool_),
        np.zeros((count, 0), np.uint64),
        (),
    )


# --- keys -----------------------------------------------------------------------------------------------------------


def key_columns(
    layout: Layout, columns: Mapping[str, Any], present: Mapping[str, Any], count: int
) -> NDArray[np.uint32]:
    """Return the keys of a batch, uint32[words, n]. Raises InputError. Cost: a pass a word that the table tests."""
    key = np.zeros((layout.count, count), np.uint32)
    for slot in layout.slots.values():
        column = columns.get(slot.field)
        if column is None:
            continue
        known: NDArray[np.bool_] | None = None
        if isinstance(column, Texts):
            known = _fill_texts(key, slot, column, layout)
        else:
            _fill_numbers(key, slot, np.asarray(column))
        if slot.field in present:
            there = np.asarray(present[slot.field], np.bool_)
            known = there if known is None else known & there
        bit = np.uint32(slot.mask)
        key[slot.known] |= bit if known is None else np.where(known, bit, np.uint32(0))
    for condition, (word, mask) in layout.predicates.items():
        key[word] |= np.where(_asked(condition, columns, present, layout, count), np.uint32(mask), np.uint32(0))
    return key


def _fill_texts(key: NDArray[np.uint32], slot: Slot, column: Texts, layout: Layout) -> NDArray[np.bool_]:
    codes = np.asarray(column.codes)
    numbers = layout.names.by_field.get(slot.field, {})
    # One more for the code -1, which is the last of the array.
    table = np.array([*(numbers.get(text, 0) for text in column.dictionary), 0], np.uint32)
    key[slot.words[0]] = table[codes]
    return codes >= 0


def _fill_numbers(key: NDArray[np.uint32], slot: Slot, column: NDArray[Any]) -> None:
    if len(slot.words) == 4:
        if column.ndim != 2 or column.shape[1] != 2:
            raise InputError(f"{slot.field} of shape {column.shape}", "uint64[n, 2], high then low")
        for place, word in enumerate(slot.words):
            half = column[:, place // 2]
            key[word] = half >> _WORD if place % 2 == 0 else half & _FULL
        return
    if column.ndim != 1 or column.dtype.kind not in "ui":
        raise InputError(f"{slot.field} of shape {column.shape}, {column.dtype}", "whole numbers [n]")
    if len(slot.words) == 1:
        key[slot.words[0]] = column if not slot.sign else column.astype(np.int64) + slot.sign
        return
    wide = column.astype(np.uint64) ^ np.uint64(slot.sign)
    key[slot.words[0]], key[slot.words[1]] = wide >> _WORD, wide & _FULL


def _asked(
    condition: Condition, columns: Mapping[str, Any], present: Mapping[str, Any], layout: Layout, count: int
) -> NDArray[np.bool_]:
    """Return in which rows *condition* holds: asked once a text of the dictionary."""
    column = columns.get(condition.field)
    listed = layout.layer.field(condition.field)
    unknown = matches(None, condition)
    if column is None or listed is None:
        return np.full(count, unknown)
    if not isinstance(column, Texts):
        numbers, places = np.unique(np.asarray(column), return_inverse=True)
        holds = np.array([matches(Value(listed.type, int(number)), condition) for number in numbers], np.bool_)[places]
    else:
        told = [matches(Value(listed.type, text), condition) for text in column.dictionary]
        holds = np.array([*told, unknown], np.bool_)[np.asarray(column.codes)]
    if condition.field in present:
        return np.where(np.asarray(present[condition.field], np.bool_), holds, unknown)
    return holds


# --- the walk -------------------------------------------------------------------------------------------------------


@numba.njit(parallel=True, cache=True, nogil=True)
def _decide(  # noqa: PLR0917 (Numba knows no keywords)
    steps: NDArray[np.uint32],
    root: int,
    key: NDArray[np.uint32],
    ids: NDArray[np.uint64],
    sublayers: int,
    action: NDArray[np.uint8],
    filter_id: NDArray[np.uint64],
    hard: NDArray[np.bool_],
    decided: NDArray[np.uint64],
) -> None:
    """Walk and arbitrate row by row: the same as plain.walk and plain.classify, statement for statement."""
    count = key.shape[1]
    for block in numba.prange((count + _BLOCK_ROWS - 1) // _BLOCK_ROWS):
        codes = np.empty(sublayers, np.uint64)
        for row in range(block * _BLOCK_ROWS, min(count, (block + 1) * _BLOCK_ROWS)):
            codes[:] = NO_CODE
            _walk(steps, root, key, row, codes)
            told = np.int64(NO_CODE)
            action[row], hard[row] = PERMIT, False
            is_open = True
            for place in range(sublayers):
                code = np.int64(codes[place])
                decided[row, place] = 0 if code == NO_CODE else ids[code >> CODE_BITS]
                if code == NO_CODE or not is_open:
                    continue
                # All above are soft permits: the first of them is reported, unless this is another action.
                if told == NO_CODE or code & CODE_BLOCK:
                    told = code
                if code & CODE_BLOCK:
                    action[row] = BLOCK
                if code & CODE_HARD:
                    hard[row], is_open = True, False
            filter_id[row] = 0 if told == NO_CODE else ids[told >> CODE_BITS]


@numba.njit(cache=True, nogil=True)
def _walk(steps: Any, root: Any, key: Any, row: Any, codes: Any) -> None:
    """Walk one row. All numbers are unsigned and of 64 bits: else every index is looked at for being negative."""
    place = following = np.uint64(root)
    row = np.uint64(row)
    sublayers = np.uint64(len(codes))
    known = np.uint64(key[np.uint64(KNOWN), row])
    while True:
        at = place << _TWO
        a, b, c, d = (
            np.uint64(steps[at]),
            np.uint64(steps[at | _ONE]),
            np.uint64(steps[at | _TWO]),
            np.uint64(steps[at | _ONE | _TWO]),
        )
        op, word, distance = d & _BYTE, d >> _EIGHT & _BYTE, d >> _SIXTEEN
        onward = _ZERO
        if op >= _IN:
            value = np.uint64(key[word, row])
            holds = (value - a) & _FULL <= b if op <= _NOT_IN else value & b == a
            onward = distance if holds == (op & _ONE == _ZERO) else c
            place = place + onward if onward else _ZERO
        elif op == _MATCH:
            if b & ~known:
                place += _ONE
            else:
                codes[word] = min(codes[word], a)
                place = place + c if c else _ZERO
        elif op == _CUT:
            child = ((np.uint64(key[word, row]) - a) & _FULL) >> distance
            place = c + child if child <= b else _ZERO
        elif op == _LEAF:
            place = c if word >= sublayers or a < codes[word] else _ZERO
        elif op == _ROOT:
            following = c
            place = place + _ONE if word >= sublayers or a < codes[word] else _ZERO
        elif op == _SPLIT:
            place = c if np.uint64(key[word, row]) <= a else c + _ONE
        else:
            place = _ZERO
        if not place:
            place = following
            following = _ZERO
            if not place:
                return


def actions(verdicts: VerdictColumns) -> list[Action]:
    """Return the actions as the model's, for people and tests. Cost: O(n)."""
    return [Action.BLOCK if one == BLOCK else Action.PERMIT for one in verdicts.action]
