"""The values of one field that tests can tell apart: of each kind one.

Two values that meet the same of a field's tests are the same to every filter that tests nothing else of it, so that one
of them stands for all: an `Atom`. An unknown value (empty) is a kind of its own. What an access check says of a token
can't be had by choosing a value: there an atom assumes the outcome.

Worked example: of the tests "remote port 80 to 90" and "not 85" four values can be told apart: 80 (both), 85 (the
first), 40000 (the second), empty (none).

Exact for numbers, addresses, bits, and for texts compared as a whole or by order. Where it is not (no more than
CUBES_MAX combinations of bits, of TOKENS_MAX access checks all outcomes; ends of texts beside their order, texts in
any case), `Atoms.complete` says so. Source: `engine.matching`, which every atom is asked of.
"""

from __future__ import annotations

from collections.abc import Hashable, Iterable, Iterator, Sequence
from dataclasses import dataclass
from itertools import combinations, pairwise
from typing import Final

from layergate.engine import matches
from layergate.engine.regions import is_opaque, region
from layergate.model import AddressMask, Condition, DataType, Layer, MatchType, Range, Token, Value
from layergate.model.lines import PATHS, TOKENS, USER_ID_BITS
from layergate.model.values import BITS

Run = tuple[Condition, ...]
Assumptions = tuple[tuple[Condition, bool], ...]

CUBES_MAX: Final = 4096
TOKENS_MAX: Final = 8

_ADDRESS_BITS: Final = 128
_ORDERED: Final = (DataType.BYTE_BLOB, DataType.SID, DataType.UNICODE_STRING)
_WHOLE: Final = (*_ORDERED, DataType.BYTE_ARRAY6)
_COMPARED: Final = (MatchType.EQUAL, MatchType.NOT_EQUAL)
_SUFFIX: Final = (MatchType.PREFIX, MatchType.NOT_PREFIX)
_FLAGS: Final = (MatchType.FLAGS_ALL_SET, MatchType.FLAGS_ANY_SET, MatchType.FLAGS_NONE_SET)
_MASKS: Final = (DataType.V4_ADDR_MASK, DataType.V6_ADDR_MASK)
# RFC 5737, RFC 3849: addresses that are nobody's.
_EXAMPLES: Final = {
    DataType.UINT32: {"LOCAL": 0xC0000202, "": 0xC0000201},
    DataType.BYTE_ARRAY16: {"LOCAL": 0x20010DB8 << 96 | 2, "": 0x20010DB8 << 96 | 1},
}
_PORT: Final = 40000
_PROTOCOLS: Final = (6, 17)
_USER: Final = 1000


@dataclass(frozen=True, slots=True)
class Atom:
    """One value (None: empty), the tests that it meets as bits, and what is assumed of it."""

    value: Value | None
    met: int
    assumed: Assumptions = ()


@dataclass(frozen=True, slots=True)
class Atoms:
    """The atoms of a field. *complete*: whether certainly every value is the same as one of them."""

    atoms: tuple[Atom, ...]
    complete: bool = True


@dataclass(frozen=True, slots=True)
class FieldKind:
    """A field of a layer: its name, and the type of its values."""

    name: str
    type: DataType

    def can_meet(self, condition: Condition) -> bool:
        """Whether a value of this type is compared with *condition* at all."""
        value = condition.value
        if value.type is DataType.EMPTY:
            return condition.match is MatchType.EQUAL
        if self.type in TOKENS:
            return is_opaque(condition) or value.type is DataType.UINT32
        if isinstance(value.data, Range):
            return value.data.low.type is self.type
        if value.type in _MASKS:
            return self.type in BITS or self.type is DataType.BYTE_ARRAY16
        return value.type is self.type


def kind_of(layer: Layer, name: str, conditions: Iterable[Condition]) -> FieldKind:
    """Return the kind of the field *name* at *layer*; where the catalogue lacks it, as *conditions* have it."""
    field = layer.field(name)
    if field is not None:
        return FieldKind(name, field.type)
    for condition in conditions:
        value = condition.value
        if isinstance(value.data, Range):
            return FieldKind(name, value.data.low.type)
        if value.type in _MASKS:
            return FieldKind(name, DataType.UINT32 if value.type is DataType.V4_ADDR_MASK else DataType.BYTE_ARRAY16)
        if value.type is DataType.SECURITY_DESCRIPTOR:
            return FieldKind(name, DataType.TOKEN_ACCESS_INFORMATION)
        if value.type is not DataType.EMPTY:
            return FieldKind(name, value.type)
    return FieldKind(name, DataType.UINT32)  # whatever it is: only whether it is known is asked


def atoms(field: FieldKind, runs: Sequence[Run]) -> Atoms:
    """Return the atoms of *field* under *runs*, each the alternatives of one filter; bit n of `met` is runs[n].

    Cost: O(n log n) for n conditions of numbers and texts; of bits and tokens more, up to the module's limits.
    """
    if field.type in TOKENS:
        found, complete = _tokens(field, runs)
    elif field.type in BITS or field.type is DataType.BYTE_ARRAY16:
        found, complete = _numbers(field, runs)
    else:
        found, complete = _texts(field, runs)
    empty = sum(1 << bit for bit, run in enumerate(runs) if any(matches(None, one) for one in run))
    chosen: dict[tuple[int, Assumptions], Atom] = {}
    for atom in found:
        chosen.setdefault((atom.met, atom.assumed), atom)
    # An unknown value last: where a known one is the same, the known one is the plainer example.
    chosen.setdefault((empty, ()), Atom(None, empty))
    return Atoms(tuple(chosen.values()), complete)


# --- numbers ----------------------------------------------------------------------------------------------------------


def bits_of(kind: DataType) -> int:
    """Return how many bits the numbers of *kind* have."""
    if kind in TOKENS:
        return USER_ID_BITS
    return _ADDRESS_BITS if kind is DataType.BYTE_ARRAY16 else BITS[kind]


def _value(kind: DataType, number: int) -> Value:
    return Value(kind, number.to_bytes(16, "big") if kind is DataType.BYTE_ARRAY16 else number)


def _numbers(field: FieldKind, runs: Sequence[Run]) -> tuple[Iterator[Atom], bool]:
    """Return the atoms of a number: every stretch between two ends of ranges, crossed with what tests of bits split."""
    top = (1 << bits_of(field.type)) - 1
    turns: dict[int, int] = {0: 0, top + 1: 0}
    others: dict[Condition, int] = {}
    for bit, run in enumerate(runs):
        covered = region(run)
        for low, high in ((low, min(high, top)) for low, high in covered.ranges if low <= top):
            turns[low] = turns.get(low, 0) ^ 1 << bit
            turns[high + 1] = turns.get(high + 1, 0) ^ 1 << bit
        for condition in covered.rest:
            others[condition] = others.get(condition, 0) | 1 << bit
    stretches = _stretches(turns)
    if not others:
        return _plain(field, stretches), True
    cubes, complete = _cubes([condition for condition in others if _is_of_bits(condition)], top)
    complete = complete and all(map(_is_of_bits, others))
    return _crossed(field, stretches, cubes, others), complete


def _is_of_bits(condition: Condition) -> bool:
    return condition.match in _FLAGS or isinstance(condition.value.data, AddressMask)


def _stretches(turns: dict[int, int]) -> list[tuple[int, int, int]]:
    """Return (low, high, met) of every stretch; at each of *turns* these bits of met turn."""
    met = 0
    result = []
    for low, after in pairwise(sorted(turns)):
        met ^= turns[low]
        result.append((low, after - 1, met))
    return result


def _plain(field: FieldKind, stretches: Iterable[tuple[int, int, int]]) -> Iterator[Atom]:
    """Yield an atom a stretch: its low end; of one that goes to an end of all numbers an ordinary number, and first."""
    stretches = list(stretches)
    top = stretches[-1][1]
    for number in _ordinary_numbers(field):
        for low, high, met in stretches:
            if low <= number <= high and (low == 0 or high == top or not met):
                yield Atom(_value(field.type, number), met)
    for low, high, met in stretches:
        yield Atom(_value(field.type, low or min(1, high)), met)


def _crossed(
    field: FieldKind,
    stretches: Iterable[tuple[int, int, int]],
    cubes: Iterable[tuple[int, int]],
    others: dict[Condition, int],
) -> Iterator[Atom]:
    cubes = list(cubes)
    for low, high, met in stretches:
        for ones, zeros in cubes:
            number = least(low, ones, zeros, bits_of(field.type))
            if number is None or number > high:
                continue
            value = _value(field.type, number)
            also = 0
            for condition, bits in others.items():
                if matches(value, condition):
                    also |= bits
            yield Atom(value, met | also)


def least(low: int, ones: int, zeros: int, bits: int) -> int | None:
    """Return the least number from *low* up, of *bits* bits, that has all of *ones* set and all of *zeros* clear."""
    if low & ones == ones and not low & zeros:
        return low
    best = None
    for place in range(bits):
        # The bits above *place* as in *low*, this one turned from 0 to 1, below it no more than has to be.
        bit, above = 1 << place, low >> place + 1 << place + 1
        high_ones, high_zeros = ones >> place + 1 << place + 1, zeros >> place + 1 << place + 1
        if not low & bit and not zeros & bit and above & high_ones == high_ones and not above & high_zeros:
            best = above | bit | ones & bit - 1
            break
    return best


def _cubes(conditions: Sequence[Condition], top: int) -> tuple[list[tuple[int, int]], bool]:
    """Return (bits set, bits clear) of sets of numbers that together are all, each of one outcome a condition."""
    cubes = [(0, 0)]
    for condition in conditions:
        if isinstance(condition.value.data, AddressMask):
            mask = condition.value.data.mask & top
            wanted = condition.value.data.address & mask
        else:
            mask = int(condition.value.data) & top  # type: ignore[arg-type]
            wanted = mask if condition.match is MatchType.FLAGS_ALL_SET else 0
        cubes = [part for cube in cubes for part in _split(*cube, mask, wanted)]
        if len(cubes) > CUBES_MAX:
            return cubes[:CUBES_MAX], False
    return cubes, True


def _split(ones: int, zeros: int, mask: int, wanted: int) -> Iterator[tuple[int, int]]:
    """Yield the part of a cube whose bits under *mask* are *wanted*, then the others, by the first bit that is not."""
    clear = mask & ~wanted
    if not wanted & zeros and not clear & ones:
        yield ones | wanted, zeros | clear
    left = mask
    while left:
        bit = left & -left
        left ^= bit
        if wanted & bit:
            if not ones & bit:
                yield ones, zeros | bit
            if zeros & bit:
                return
            ones |= bit
        else:
            if not zeros & bit:
                yield ones | bit, zeros
            if ones & bit:
                return
            zeros |= bit


def everyday(field: FieldKind) -> Value | None:
    """Return a value of *field* that nobody would wonder at, None where it is no number."""
    if field.type not in BITS and field.type is not DataType.BYTE_ARRAY16 and field.type not in TOKENS:
        return None
    return _value(field.type, _ordinary_numbers(field)[0])


def _ordinary_numbers(field: FieldKind) -> tuple[int, ...]:
    """Return numbers of *field* that nobody would wonder at."""
    name = field.name
    if name.endswith(("ADDRESS", "ADDRESS_V4", "ADDRESS_V6")) and field.type in _EXAMPLES:
        examples = _EXAMPLES[field.type]
        return (examples["LOCAL" if "LOCAL" in name or "DESTINATION" in name else ""],)
    if name.endswith("_PORT"):
        return (_PORT,)
    if name.endswith("INTERFACE_INDEX"):
        return (2,)  # 1 is the loopback interface, on Linux as on Windows
    if name.endswith("PROTOCOL"):
        return _PROTOCOLS
    if name.endswith(("FLAGS", "REASON", "DIRECTION")):
        return (0,)
    return (_USER,) if field.type in TOKENS else (1,)


# --- tokens -----------------------------------------------------------------------------------------------------------


def _tokens(field: FieldKind, runs: Sequence[Run]) -> tuple[Iterable[Atom], bool]:
    """Return the atoms of a token: user ids where ids are asked for, outcomes where access checks are."""
    checks = list(dict.fromkeys(_positive(one) for run in runs for one in run if is_opaque(one)))
    ids = [tuple(one for one in run if not is_opaque(one)) for run in runs]
    found: list[Atom] = []
    if not checks or any(one.value.type is DataType.UINT32 for run in ids for one in run):
        found += _numbers(field, ids)[0]
    if not checks:
        return found, True
    token = Value(field.type, Token(frozenset()))
    asked = [[one for one in run if is_opaque(one)] for run in runs]
    for passing in _subsets(checks):
        outcome = {one: (_positive(one) in passing) is (one.match is MatchType.EQUAL) for run in asked for one in run}
        met = sum(1 << bit for bit, run in enumerate(asked) if any(outcome[one] for one in run))
        found.append(Atom(token, met, tuple(outcome.items())))
    return found, len(checks) <= TOKENS_MAX


def _positive(condition: Condition) -> Condition:
    """Return *condition* as a test for EQUAL: NOT_EQUAL is what it is not."""
    return Condition(condition.field, MatchType.EQUAL, condition.value)


def _subsets(checks: Sequence[Condition]) -> Iterator[frozenset[Condition]]:
    """Yield the sets of *checks* that pass, small ones first; of many checks, at most two and all but one."""
    sizes = range(len(checks) + 1) if len(checks) <= TOKENS_MAX else (0, 1, 2, len(checks))
    for size in sizes:
        yield from map(frozenset, combinations(checks, size))


# --- texts ------------------------------------------------------------------------------------------------------------


def _texts(field: FieldKind, runs: Sequence[Run]) -> tuple[Iterator[Atom], bool]:
    """Return the atoms of a text or of bytes: every one that is asked for, what lies between them, and another."""
    same: dict[Hashable, int] = {}
    differs: dict[Hashable, int] = {}
    others: dict[Condition, int] = {}
    for bit, run in enumerate(runs):
        for condition in run:
            if condition.value.type is DataType.EMPTY:
                continue
            if condition.match in _COMPARED and isinstance(condition.value.data, Hashable):
                kept = same if condition.match is MatchType.EQUAL else differs
                kept[condition.value.data] = kept.get(condition.value.data, 0) | 1 << bit
            else:
                others[condition] = others.get(condition, 0) | 1 << bit
    suffixes = any(one.match in _SUFFIX for one in others)
    orders = any(one.match not in _SUFFIX for one in others)
    folded = any(one.match is MatchType.EQUAL_CASE_INSENSITIVE for one in others)
    complete = field.type in (_ORDERED if others else _WHOLE) and not folded and not (suffixes and orders)
    candidates = _candidates(field, [*same, *differs], list(others))

    def found() -> Iterator[Atom]:
        for data in candidates:
            met = same.get(data, 0)
            for other, bits in differs.items():
                met |= bits if other != data else 0
            for condition, bits in others.items():
                met |= bits if matches(Value(field.type, data), condition) else 0  # type: ignore[arg-type]
            yield Atom(Value(field.type, data), met)  # type: ignore[arg-type]

    return found(), complete


def _candidates(field: FieldKind, asked: list[Hashable], others: list[Condition]) -> Iterable[Hashable]:
    """Return texts among which is one of every kind: what is asked for, its neighbours, and something else."""
    ends: list[Hashable] = []
    for condition in others:
        data = condition.value.data
        ends += [data.low.data, data.high.data] if isinstance(data, Range) else [data]
    tails = [one.value.data for one in others if one.match in _SUFFIX]
    known = [*asked, *ends]
    if field.type not in _WHOLE:
        return dict.fromkeys(known)
    result: list[Hashable] = [_other(field, known), *asked]
    if field.type is DataType.BYTE_ARRAY6 or not others:
        return dict.fromkeys([*result, *ends])
    nothing: Hashable = "" if field.type is not DataType.BYTE_BLOB else b""
    result += [nothing, *ends]
    for text in known:
        if isinstance(text, str):
            result += [text + "\0", text.casefold(), text.upper(), text.lower(), text.swapcase()]
        elif isinstance(text, bytes):
            result.append(text + b"\0")
    filler = _filler(field, tails)
    result += [filler + tail for tail in tails]  # type: ignore[operator]
    return dict.fromkeys(result)


def _other(field: FieldKind, known: Sequence[Hashable]) -> Hashable:
    """Return a text that is none of *known*, and reads as one of them."""
    number = 0
    while True:
        mark = str(number or "")
        word: Hashable
        if field.type is DataType.BYTE_ARRAY6:
            word = (0x02005E100000 + number).to_bytes(6, "big")
        elif any(isinstance(one, bytes) and one.endswith(b"\0\0") for one in known):
            word = f"\\device\\harddiskvolume1\\other{mark}.exe\0".encode("utf-16-le")
        elif field.name in PATHS:
            word = f"/usr/bin/other{mark}".encode()
        elif field.type is DataType.SID and any(str(one).startswith("S-1-") for one in known):
            word = f"S-1-15-2-{number + 1}"
        elif field.type is DataType.SID:
            word = f"other{mark}.service"
        else:
            word = f"other{mark}" if field.type is not DataType.BYTE_BLOB else f"other{mark}".encode()
        if word not in known:
            return word
        number += 1


def _filler(field: FieldKind, tails: Sequence[object]) -> Hashable:
    """Return a letter that stands in none of *tails*: before one of them it makes a text that ends in no longer one."""
    if field.type is DataType.BYTE_BLOB:
        taken = {byte for tail in tails if isinstance(tail, bytes) for byte in tail}
        return bytes([next((byte for byte in range(255, -1, -1) if byte not in taken), 0)])
    letters = {letter for tail in tails if isinstance(tail, str) for letter in tail}
    return next(letter for letter in map(chr, range(97, 0x10000)) if letter not in letters)
