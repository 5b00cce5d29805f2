"""Filters become entries: boxes with what no box can say.

An entry is a conjunction. Its *box* is a range for each of some words of the key, exact; its *clauses* are what is not
a range: alternatives, one of which must hold, each a conjunction of atoms (word, operation, a, b) as `steps` compares
them. The *hull* bounds the clauses: where the tree may look for the entry. A filter is one entry, or several with the
same code where its alternatives lie far apart: a list of a thousand addresses is a thousand entries, a list of three
ports is a clause.

Example: "remote_port is 80 or 443, and protocol is 6, and remote_address is not 10.0.0.0/8":

    box     protocol 6–6
    clauses port 80–80 | port 443–443; address not in 10.0.0.0–10.255.255.255
    hull    port 80–443
    need    protocol, port, address: an unknown value meets no test but EMPTY

A range over several words (an IPv6 range that is no prefix) is the union of at most two boxes a word.
"""

from __future__ import annotations

import enum
from collections.abc import Iterable, Sequence
from itertools import product
from math import prod
from typing import Any, Final, NamedTuple

from layergate.compile.steps import CODE_BITS, FULL, Op
from layergate.compile.words import KNOWN, WORD_BITS, WORD_MAX, Layout, Slot, halves
from layergate.engine.matching import as_integer, groups
from layergate.model import AddressMask, Condition, DataType, Filter, MatchType, NotSupportedError, Range
from layergate.model.values import BITS, SIGNED_BITS

Atom = tuple[int, int, int, int]
Alternative = tuple[Atom, ...]
Clause = tuple[Alternative, ...]
Box = tuple[tuple[int, int, int], ...]

ALTERNATIVES_MAX: Final = 8  # more than these of one field are entries of their own
FURTHER_ENTRIES_MAX: Final = 64  # what a second field's alternatives may multiply a filter to
CLAUSE_STEPS_MAX: Final = 60_000  # what a step can pass over
FILTER_STEPS_MAX: Final = 1 << 18

_ORDER: Final = (
    MatchType.EQUAL,
    MatchType.NOT_EQUAL,
    MatchType.GREATER,
    MatchType.LESS,
    MatchType.GREATER_OR_EQUAL,
    MatchType.LESS_OR_EQUAL,
)
_BITWISE: Final = (MatchType.FLAGS_ALL_SET, MatchType.FLAGS_ANY_SET, MatchType.FLAGS_NONE_SET)
_TOKENS: Final = (DataType.TOKEN_INFORMATION, DataType.TOKEN_ACCESS_INFORMATION)
_MASKED_TYPES: Final = {DataType.V4_ADDR_MASK: DataType.UINT32, DataType.V6_ADDR_MASK: DataType.BYTE_ARRAY16}


class Entry(NamedTuple):
    """A conjunction that a filter holds for: *code* is the filter's, *need* a mask of KNOWN.

    *box* and *hull*: (word, low, high), ascending; *sublayer*: its place in the layer's order. *asks*: a callout, or
    (*is_limited*) a limit.
    """

    code: int
    sublayer: int
    need: int
    box: Box
    clauses: tuple[Clause, ...] = ()
    hull: Box = ()
    asks: bool = False
    is_limited: bool = False

    @property
    def row(self) -> int:
        """The filter's row."""
        return self.code >> CODE_BITS

    @property
    def meaning(self) -> tuple[object, ...]:
        """What two entries share that hold for the same keys."""
        return self[1:5]  # sublayer, need, box and clauses


def entries_of(item: Filter, layout: Layout, *, code: int, sublayer: int, asks: bool) -> list[Entry]:
    """Return the entries of *item*: none where no value can meet its conditions.

    Raises NotSupportedError: more alternatives than a step can jump over, or more words than a key has.
    """
    plain = _plain(item, layout)
    if plain is not None:
        need, only = plain
        return [Entry(code, sublayer, need, only, (), (), asks or item.limit is not None, item.limit is not None)]
    need = 0
    fixed: list[Atom] = []
    choices: list[Clause] = []
    for name, run in groups(item.conditions):
        known, clause = _clause(name, run, layout)
        if not clause:
            return []
        need |= known
        if len(clause) == 1:
            fixed += clause[0]
        elif () not in clause:
            choices.append(clause)
    spread, kept = _chosen(choices, layout)
    _require_room(item, spread, kept)
    hulls = [bound for clause in kept for bound in _hull(clause)]
    made = []
    for chosen in product(*spread):
        box, others = _boxed([*fixed, *(atom for alternative in chosen for atom in alternative)])
        if box is None:
            continue
        made.append(
            Entry(
                code, sublayer, need, box, (*((((atom,),)) for atom in others), *kept),
                _ranges(hulls) or (), asks or item.limit is not None, item.limit is not None,
            )
        )  # fmt: skip
    return made


def _plain(item: Filter, layout: Layout) -> tuple[int, Box] | None:
    """Return the need and the box of a filter that is one as it stands; None for all others.

    Most filters are: an address or a prefix, a protocol, a port, an application. What this says of them is what the
    rest of this module says, in a third of the time: what holds for a kind of condition is found out once a layout.
    """
    need = 0
    found: list[tuple[int, int, int]] = []
    kinds = layout.kinds
    for condition in item.conditions:
        name, value = condition.field, condition.value
        kind = name, condition.match, value.type
        known = kinds.get(kind)
        if known is None:
            known = kinds[kind] = _kind(condition, layout)
        form, mask, word, sign, top = known
        if form is _Form.OTHER or need & mask:  # of one field there is one condition
            return None
        need |= mask
        data: Any = value.data
        if form is _Form.PREFIX:
            ranges = _prefix(layout.slots[name].words, data)
            if ranges is None:
                return None
            found += ranges
        elif form is _Form.RANGE:
            low, high = as_integer(data.low) + sign, as_integer(data.high) + sign
            if low > high or data.low.type is not layout.slots[name].type:
                return None
            if (low, high) != (0, top):
                found.append((word, low, high))
        else:
            number = data + sign if form is _Form.NUMBER else layout.names.number(name, data)
            found.append((word, number, number))
    found.sort()
    return need, tuple(found)


def _prefix(words: tuple[int, ...], data: AddressMask) -> list[tuple[int, int, int]] | None:
    """Return the ranges of *words* that are in a prefix, None where the mask is another."""
    found = []
    for place, word in enumerate(reversed(words)):
        counted = data.mask >> place * WORD_BITS & FULL
        free = FULL & ~counted
        if free & free + 1:
            return None
        if counted:
            bits = data.address >> place * WORD_BITS & counted
            found.append((word, bits, bits + free))
    return found


class _Form(enum.Enum):
    """How a condition of a kind becomes ranges."""

    OTHER = enum.auto()
    NUMBER = enum.auto()
    NAME = enum.auto()
    RANGE = enum.auto()
    PREFIX = enum.auto()


def _kind(condition: Condition, layout: Layout) -> tuple[Any, int, int, int, int]:
    """Return what holds for every condition of this field, match and type: its form and bit of KNOWN, and the rest.

    The rest: the word, what is added to a number, the greatest value.
    """
    how, kind = condition.match, condition.value.type
    slot = layout.slots.get(condition.field) or layout.slot(condition.field, kind)
    form = _Form.OTHER
    if slot is None or slot.known != KNOWN or not slot.words:
        return form, 0, 0, 0, 0
    if how is MatchType.EQUAL and _MASKED_TYPES.get(kind) is slot.type:
        return _Form.PREFIX, slot.mask, 0, 0, 0
    if len(slot.words) == 1 and how is MatchType.EQUAL:
        if slot.type in _TOKENS:
            form = _Form.NUMBER if kind is DataType.UINT32 else _Form.OTHER
        elif kind is slot.type:
            is_number = kind in BITS or kind in SIGNED_BITS
            form = _Form.NAME if slot.is_name else _Form.NUMBER if is_number else _Form.OTHER
    elif len(slot.words) == 1 and how is MatchType.RANGE and kind is DataType.RANGE and not slot.is_name:
        form = _Form.OTHER if slot.type in _TOKENS else _Form.RANGE
    return form, slot.mask, slot.words[0], slot.sign, (1 << slot.bits) - 1


def _require_room(item: Filter, spread: Sequence[Clause], kept: Sequence[Clause]) -> None:
    """Raise NotSupportedError where alternatives of several fields multiply beyond what a table has room for."""
    lengths = [sum(map(len, clause)) for clause in kept]
    need = prod(map(len, spread)) * (1 + sum(lengths))
    if need > FILTER_STEPS_MAX or max(lengths, default=0) > CLAUSE_STEPS_MAX:
        raise NotSupportedError(
            f"filter '{item.name}'",
            f"the alternatives of its fields ({' × '.join(f'{len(one):,}' for one in (*spread, *kept))}) need {need:,} "
            f"steps, more than the {FILTER_STEPS_MAX:,} that a filter may have",
            "several filters with fewer values",
        )


def _chosen(choices: list[Clause], layout: Layout) -> tuple[list[Clause], list[Clause]]:
    """Split *choices* into those that make entries of their own, and those that stay clauses."""
    spread: list[Clause] = []
    kept: list[Clause] = []
    count = 1
    for clause in sorted(choices, key=len, reverse=True):
        is_far = len(clause) > ALTERNATIVES_MAX or any(_is_far(atom, layout) for one in clause for atom in one)
        if is_far and (not spread or count * len(clause) <= FURTHER_ENTRIES_MAX):
            spread.append(clause)
            count *= len(clause)
        else:
            kept.append(clause)
    return spread, kept


def _is_far(atom: Atom, layout: Layout) -> bool:
    """Whether alternatives of the atom's field tend to lie far apart: addresses and names."""
    word, op = atom[0], atom[1]
    if op != Op.IN:
        return False
    return any(word in slot.words and (slot.is_name or slot.bits >= WORD_BITS) for slot in layout.slots.values())


def _hull(clause: Clause) -> Iterable[tuple[int, int, int]]:
    """Yield what bounds *clause*: for each word that every alternative has a range for, from the least to the last."""
    ranges: dict[int, list[tuple[int, int]]] = {}
    for alternative in clause:
        for word, op, low, width in alternative:
            if op == Op.IN:
                ranges.setdefault(word, []).append((low, low + width))
    for word, found in ranges.items():
        if len(found) == len(clause):
            yield word, min(low for low, _ in found), max(high for _, high in found)


def _boxed(atoms: Iterable[Atom]) -> tuple[Box | None, list[Atom]]:
    """Return the box of *atoms*, None where it is empty, and what is no range."""
    others = []
    ranges = []
    for atom in atoms:
        word, op, low, width = atom
        if op == Op.IN:
            ranges.append((word, low, low + width))
        else:
            others.append(atom)
    return _ranges(ranges), others


def _ranges(found: Iterable[tuple[int, int, int]]) -> Box | None:
    """Return *found* as a box, ranges of one word intersected; None where one is empty."""
    found = sorted(found)
    if len({one[0] for one in found}) == len(found):
        return tuple(found)
    box: dict[int, tuple[int, int]] = {}
    for word, low, high in found:
        before = box.get(word)
        box[word] = (low, high) if before is None else (max(low, before[0]), min(high, before[1]))
        if box[word][0] > box[word][1]:
            return None
    return tuple((word, *bounds) for word, bounds in box.items())


# --- conditions -----------------------------------------------------------------------------------------------------


def _clause(name: str, run: Sequence[Condition], layout: Layout) -> tuple[int, Clause]:
    """Return the bit of KNOWN that the alternatives *run* need, and the clause of them; () where nothing meets it."""
    slot = layout.slot(name, run[0].value.type)
    told = [(one, *_alternatives(one, slot, layout)) for one in run]
    known = 0
    if slot is not None and slot.known == KNOWN and all(needs for _, needs, _ in told):
        known = slot.mask
    clause: list[Alternative] = []
    for _, needs, alternatives in told:
        guard: Alternative = ()
        if needs and not known and slot is not None:
            guard = ((slot.known, Op.MASKED, slot.mask, slot.mask),)
        clause += ((*guard, *alternative) for alternative in alternatives)
    return known, _merged(clause)


def _merged(clause: list[Alternative]) -> Clause:
    """Return *clause* without repetition; ranges of one word that touch are one."""
    if len(clause) < 2:
        return tuple(clause)
    first = clause[0][0] if clause[0] else None
    if first is None or any(len(one) != 1 or one[0][:2] != (first[0], Op.IN) for one in clause):
        return tuple(dict.fromkeys(clause))
    ranges: list[list[int]] = []
    for low, width in sorted((one[0][2], one[0][3]) for one in clause):
        if ranges and low <= ranges[-1][1] + 1:
            ranges[-1][1] = max(ranges[-1][1], low + width)
        else:
            ranges.append([low, low + width])
    return tuple(((first[0], Op.IN, low, high - low),) for low, high in ranges)


def _alternatives(condition: Condition, slot: Slot | None, layout: Layout) -> tuple[bool, list[Alternative]]:
    """Return whether *condition* needs a known value, and the alternatives that it means; none: nothing meets it."""
    value, how = condition.value, condition.match
    if slot is None:
        return False, [_asked(condition, layout)]
    if value.type is DataType.EMPTY:
        if how is not MatchType.EQUAL:
            return False, []
        token = layout.tokens.get(slot.field)
        places = [(one.known, one.mask) for one in (slot, token) if one is not None]
        return False, [tuple((word, Op.MASKED, 0, mask) for word, mask in places)]
    if isinstance(value.data, AddressMask):
        if _MASKED_TYPES.get(value.type) is not slot.type or how not in (MatchType.EQUAL, MatchType.NOT_EQUAL):
            return False, [_asked(condition, layout)]
        return True, _masked(slot, value.data, is_equal=how is MatchType.EQUAL)
    if isinstance(value.data, Range):
        low, high = value.data.low, value.data.high
        if how is not MatchType.RANGE or low.type is not slot.type or slot.is_name or slot.type in _TOKENS:
            return False, [_asked(condition, layout)]
        return True, _between(slot, as_integer(low) + slot.sign, as_integer(high) + slot.sign)
    return _valued(condition, slot, layout)


def _valued(condition: Condition, slot: Slot, layout: Layout) -> tuple[bool, list[Alternative]]:
    """Return the same for a condition with one value of its field's type."""
    value, how = condition.value, condition.match
    if slot.type in _TOKENS:
        if value.type is not DataType.UINT32 or how not in _ORDER:
            return False, [_asked(condition, layout)]
        return True, _compared(slot, how, as_integer(value))
    if value.type is not slot.type:
        return False, [_asked(condition, layout)]
    if slot.is_name:
        if how not in (MatchType.EQUAL, MatchType.NOT_EQUAL):
            return False, [_asked(condition, layout)]
        return True, _compared(slot, how, layout.names.number(slot.field, value.data))  # type: ignore[arg-type]
    if how in _BITWISE and slot.type in BITS:
        return True, _bits(slot, how, as_integer(value))
    if how in _ORDER:
        return True, _compared(slot, how, as_integer(value) + slot.sign)
    return False, [_asked(condition, layout)]


def _asked(condition: Condition, layout: Layout) -> Alternative:
    """Return the test of a bit that says whether *condition* holds, whatever it is."""
    word, mask = layout.predicate(condition)
    return ((word, Op.MASKED, mask, mask),)


def _compared(slot: Slot, how: MatchType, data: int) -> list[Alternative]:
    top = (1 << slot.bits) - 1
    if how is MatchType.NOT_EQUAL:
        parts = halves(data, len(slot.words))
        return [((word, Op.NOT_IN, part, 0),) for word, part in zip(slot.words, parts, strict=True)]
    low, high = {
        MatchType.EQUAL: (data, data),
        MatchType.GREATER: (data + 1, top),
        MatchType.GREATER_OR_EQUAL: (data, top),
        MatchType.LESS: (0, data - 1),
        MatchType.LESS_OR_EQUAL: (0, data),
    }[how]
    return _between(slot, low, high)


def _between(slot: Slot, low: int, high: int) -> list[Alternative]:
    """Return the boxes that make up the values from *low* to *high*; none where it is upside down."""
    if low > high:
        return []
    count = len(slot.words)
    top = (1 << slot.bits - WORD_BITS * (count - 1)) - 1
    return list(_span(slot.words, halves(low, count), halves(high, count), top))


def _span(words: Sequence[int], low: Sequence[int], high: Sequence[int], top: int = WORD_MAX) -> Iterable[Alternative]:
    """Yield boxes: the ends, where they are not whole in the words behind the first, and what lies between."""
    word, first, last = words[0], low[0], high[0]
    behind = words[1:]
    if behind and first == last:
        head: Alternative = ((word, Op.IN, first, 0),)
        yield from ((*head, *tail) for tail in _span(behind, low[1:], high[1:]))
        return
    if any(low[1:]):
        yield from (((word, Op.IN, first, 0), *tail) for tail in _span(behind, low[1:], [WORD_MAX] * len(behind)))
        first += 1
    if any(part != WORD_MAX for part in high[1:]):
        yield from (((word, Op.IN, last, 0), *tail) for tail in _span(behind, [0] * len(behind), high[1:]))
        last -= 1
    if first <= last:
        yield () if (first, last) == (0, top) else ((word, Op.IN, first, last - first),)


def _masked(slot: Slot, mask: AddressMask, *, is_equal: bool) -> list[Alternative]:
    count = len(slot.words)
    parts = list(zip(slot.words, halves(mask.address & mask.mask, count), halves(mask.mask, count), strict=True))
    tests = [_masked_word(word, bits, counted, is_equal=is_equal) for word, bits, counted in parts if counted]
    # All words must be as the mask wants them; or one of them must not.
    return [tuple(tests)] if is_equal else [(test,) for test in tests]


def _masked_word(word: int, bits: int, mask: int, *, is_equal: bool) -> Atom:
    free = FULL & ~mask
    if free & free + 1 == 0:  # the mask is a prefix
        return (word, Op.IN if is_equal else Op.NOT_IN, bits, free)
    return (word, Op.MASKED if is_equal else Op.NOT_MASKED, bits, mask)


def _bits(slot: Slot, how: MatchType, data: int) -> list[Alternative]:
    parts = [(word, part) for word, part in zip(slot.words, halves(data, len(slot.words)), strict=True) if part]
    if how is MatchType.FLAGS_ANY_SET:
        return [((word, Op.NOT_MASKED, 0, part),) for word, part in parts]
    wanted = how is MatchType.FLAGS_ALL_SET
    return [tuple((word, Op.MASKED, part if wanted else 0, part) for word, part in parts)]
