"""The tables over columns: millions of verdicts a second, by Numba (the extra `columns`), on the kernel's own array.

A batch is columns by field name:

    numbers     arrays that NumPy takes, also Arrow's without nulls, ports and users and flags as they are; IPv4
                addresses in host order; IPv6 addresses as uint64[n, 2], high then low
    texts       `Texts`: codes into a dictionary, as Arrow's dictionary columns have them; -1 where there is none

A field without a column is unknown in every row; `present` says, where some are known, in which. Example:

    verdicts = Columns(compiled).decide(layer, {"IP_REMOTE_PORT": ports, "ALE_APP_ID": Texts(codes, [b"/bin/curl"])})
    verdicts.action[0] == BLOCK and verdicts.filter_id[0] == 7

No Python runs a row: a text is looked up once an entry of its dictionary, and so is a test that no word can express.
Rows are independent: blocks of them (`blocks`) run on all processors, and keys are made for a few blocks at a time, so
that they are still in the cache when they are read. Equal to `backends.plain`, which needs no Numba (tests/parity).
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Final

from layergate.compile import Compiled, Layout, Op
from layergate.compile.words import Slot
from layergate.engine.matching import matches
from layergate.model import Action, Condition, InputError, Layer, NotSupportedError, Value

try:
    import numba
    import numpy as np

    from layergate.backends.blocks import BLOCK, BLOCK_ROWS, PERMIT, decide_rows
except ImportError as missing:  # the rest of layergate goes without
    raise NotSupportedError("columns", f"{missing.name} is not installed", "pip install numba") from missing

if TYPE_CHECKING:
    from numpy.typing import NDArray

_BLOCKS_AT_ONCE: Final = 8  # a processor: what keys are made for at a time
_FULL: Final = np.uint64(0xFFFFFFFF)
_WORD: Final = np.uint64(32)


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
        if table.has_callouts and any(step & 0xFF == Op.ASK for step in table.steps[3::4]):
            item = next(item for item in table.filters if item.action.is_callout)
            raise NotSupportedError(f"filter '{item.name}'", "columns can't ask a callout", "use backends.plain")
        if table.limits:
            raise NotSupportedError(
                f"filter '{table.limits[0].name}'", "columns have no counts to judge its limit by", "use backends.plain"
            )
        steps = np.frombuffer(table.steps, dtype=np.uint32)
        ids = np.frombuffer(table.rows, dtype=np.uint64)[::2].copy()
        result = VerdictColumns(
            np.empty(count, np.uint8),
            np.empty(count, np.uint64),
            np.empty(count, np.bool_),
            np.empty((count, len(table.sublayers)), np.uint64),
            tuple(self.compiled.sublayers[number] for number in table.sublayers),
        )
        keys = _Keys(table.layout, columns, present or {}, count)
        at_once = min(count, BLOCK_ROWS * _BLOCKS_AT_ONCE * numba.get_num_threads())
        key = np.zeros((table.layout.count, at_once), np.uint32)
        for start in range(0, count, at_once or 1):
            rows = slice(start, min(count, start + at_once))
            keys.fill(key, rows)
            written = result.action[rows], result.filter_id[rows], result.hard[rows], result.decided[rows]
            decide_rows(steps, table.root, key, ids, *written)
        return result


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


class _Keys:
    """The keys of a batch, made a part at a time. Raises InputError. Cost: a pass a word that the table tests."""

    def __init__(self, layout: Layout, columns: Mapping[str, Any], present: Mapping[str, Any], count: int) -> None:
        self._columns = [
            _Column(slot, columns[slot.field], present.get(slot.field), layout)
            for slot in layout.slots.values()
            if columns.get(slot.field) is not None
        ]
        self._bits = [
            (place, np.where(_asked(condition, columns, present, layout, count), np.uint32(mask), np.uint32(0)))
            for condition, (place, mask) in layout.predicates.items()
        ]
        # The words that are made bit by bit; in the others a field that is unknown may leave anything.
        self._made = {slot.known for slot in layout.slots.values()} | {place for place, _ in self._bits}

    def fill(self, key: NDArray[np.uint32], rows: slice) -> None:
        """Write the keys of *rows* into *key*, uint32[words, rows at least]."""
        part = slice(0, rows.stop - rows.start)
        for place in self._made:
            key[place, part] = 0
        for column in self._columns:
            column.fill(key, rows, part)
        for place, bits in self._bits:
            key[place, part] |= bits[rows]


class _Column:
    """A column that a table tests, made ready to be read in parts."""

    def __init__(self, slot: Slot, column: Any, present: Any, layout: Layout) -> None:
        self._slot = slot
        self._texts: NDArray[np.uint32] | None = None
        self._present = None if present is None else np.asarray(present, np.bool_)
        self._data = np.asarray(column.codes if isinstance(column, Texts) else column)
        if isinstance(column, Texts):
            numbers = layout.names.by_field.get(slot.field, {})
            # One more for the code -1, which is the last of the array.
            self._texts = np.array([*(numbers.get(text, 0) for text in column.dictionary), 0], np.uint32)
        elif len(slot.words) == 4:
            if self._data.ndim != 2 or self._data.shape[1] != 2:
                raise InputError(f"{slot.field} of shape {self._data.shape}", "uint64[n, 2], high then low")
        elif self._data.ndim != 1 or self._data.dtype.kind not in "ui":
            raise InputError(f"{slot.field} of shape {self._data.shape}, {self._data.dtype}", "whole numbers [n]")

    def fill(self, key: NDArray[np.uint32], rows: slice, part: slice) -> None:
        """Write the column's words and its bit into the *part* of *key*."""
        slot, data = self._slot, self._data[rows]
        known: NDArray[np.bool_] | None = None if self._present is None else self._present[rows]
        if self._texts is not None:
            key[slot.words[0], part] = self._texts[data]
            known = data >= 0 if known is None else known & (data >= 0)
        elif len(slot.words) == 4:
            for place, word in enumerate(slot.words):
                half = data[:, place // 2]
                key[word, part] = half >> _WORD if place % 2 == 0 else half & _FULL
        elif len(slot.words) == 1:
            key[slot.words[0], part] = data if not slot.sign else data.astype(np.int64) + slot.sign
        else:
            wide = data.astype(np.uint64) ^ np.uint64(slot.sign)
            key[slot.words[0], part], key[slot.words[1], part] = wide >> _WORD, wide & _FULL
        bit = np.uint32(slot.mask)
        key[slot.known, part] |= bit if known is None else np.where(known, bit, np.uint32(0))


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


def actions(verdicts: VerdictColumns) -> list[Action]:
    """Return the actions as the model's, for people and tests. Cost: O(n)."""
    return [Action.BLOCK if one == BLOCK else Action.PERMIT for one in verdicts.action]
