"""The key of a table: what an indication is to the steps, as 32-bit words.

The words up to `KNOWN` are the kernel's: they stand in its record (struct lg_record) as they stand here, so a program
makes no key at all. What the kernel doesn't know gets words behind them, table by table:

    integer     one word, or two or four with the most significant first; signed ones are shifted so that they sort
    name        an application, a unit, another text that is compared as a whole: its number, from 1 up; 0: not named
    predicate   a bit for a test that no word can express (the end of a path, an access check): asked once a key

Bit n of `KNOWN` says that field n has a value that its words hold; the words of an unknown field hold anything that
its type can. Example: remote port 443 of a known application 2 is word 10 = 443, word 11 = 2, KNOWN = 0b1100.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Any, Final

from layergate.engine.matching import as_integer, matches
from layergate.model import Condition, DataType, Layer, MatchType, NotSupportedError, Token, Value
from layergate.model.values import BITS, SIGNED_BITS, SIZES

# In the order of the kernel's numbers (LG_FIELD_*): a field's number is its bit in KNOWN.
KERNEL_FIELDS: Final = (
    "IP_PROTOCOL", "IP_LOCAL_PORT", "IP_REMOTE_PORT", "ALE_APP_ID", "ALE_USER_ID", "ALE_PACKAGE_ID", "FLAGS",
    "DIRECTION", "INTERFACE_INDEX", "REAUTHORIZE_REASON", "IP_LOCAL_ADDRESS", "IP_REMOTE_ADDRESS",
)  # fmt: skip
# An address is two 64-bit numbers, the high one first, each with its low word first in memory.
ADDRESS_WORDS: Final = {"IP_LOCAL_ADDRESS": (1, 0, 3, 2), "IP_REMOTE_ADDRESS": (5, 4, 7, 6)}
SCALARS_AT: Final = 8
KNOWN: Final = 18
KERNEL_WORDS: Final = 19
WORDS_MAX: Final = 255
WORD_BITS: Final = 32
WORD_MAX: Final = 0xFFFFFFFF
NAME_BITS_MIN: Final = 8

_TOKENS: Final = (DataType.TOKEN_INFORMATION, DataType.TOKEN_ACCESS_INFORMATION)
_NAMED: Final = (DataType.BYTE_BLOB, DataType.SID, DataType.UNICODE_STRING, DataType.SECURITY_DESCRIPTOR)


@dataclass(frozen=True, slots=True)
class Slot:
    """Where a field stands: *words*, most significant first; its bit of word *known*; *bits* of its whole value.

    *sign*: what is added to a signed number. *is_name*: the word is a name's number.
    """

    field: str
    type: DataType
    words: tuple[int, ...]
    known: int
    bit: int
    bits: int
    sign: int = 0
    is_name: bool = False

    @property
    def mask(self) -> int:
        """The field's bit, as a mask of the word *known*."""
        return 1 << self.bit


@dataclass(slots=True)
class Names:
    """The numbers of texts that are compared as a whole, by field; a name keeps its number over versions."""

    by_field: dict[str, dict[str | bytes, int]] = field(default_factory=dict)

    def number(self, name: str, text: str | bytes) -> int:
        """Return the number of *text* at the field *name*: a new one where it has none yet."""
        numbers = self.by_field.setdefault(name, {})
        return numbers.setdefault(text, len(numbers) + 1)

    def top(self, name: str) -> int:
        """Return a number that none at the field *name* exceeds, with room for as many names again.

        Tables rely on it: they hold as long as it stays.
        """
        return (1 << max(NAME_BITS_MIN, len(self.by_field.get(name, ())).bit_length() + 1)) - 1

    def copy(self) -> Names:
        """Return the same names, to be added to."""
        return Names({name: dict(numbers) for name, numbers in self.by_field.items()})


@dataclass(slots=True)
class Layout:
    """The key of one layer's table: grows while its filters are compiled, then is only read.

    *kinds*: what `entries` found out about conditions of a field, match and type.
    """

    layer: Layer
    names: Names
    slots: dict[str, Slot] = field(default_factory=dict)
    predicates: dict[Condition, tuple[int, int]] = field(default_factory=dict)
    tokens: dict[str, Slot] = field(default_factory=dict)
    count: int = KERNEL_WORDS
    kinds: dict[tuple[str, MatchType, DataType], tuple[Any, int, int, int, int]] = field(
        default_factory=dict, compare=False
    )
    _bit: int = len(KERNEL_FIELDS)
    _known: int = KNOWN
    _predicate_word: int = 0

    def slot(self, name: str, fallback: DataType) -> Slot | None:
        """Return where the field *name* stands, None where no word can hold it; *fallback*: a type, if it has none."""
        known = self.slots.get(name)
        if known is not None:
            return known
        listed = self.layer.field(name)
        if listed is None and self.layer.fields:
            return None  # the catalogue says that it has no such field: whatever comes under that name is asked
        made = self._made(name, listed.type if listed else fallback)
        if made is not None:
            self.slots[name] = made
            if made.type in _TOKENS:
                word, bit = self._known_bit()
                self.tokens[name] = Slot(name, made.type, (), word, bit, 0)
        return made

    def _made(self, name: str, kind: DataType) -> Slot | None:
        bits = BITS.get(kind) or SIGNED_BITS.get(kind) or 8 * SIZES.get(kind, 0)
        is_name = kind in _NAMED
        if kind in _TOKENS or is_name:
            bits = WORD_BITS
        if not bits:
            return None
        sign = 1 << bits - 1 if kind in SIGNED_BITS else 0
        length = -(-bits // WORD_BITS)
        if name in ADDRESS_WORDS and kind in (DataType.UINT32, DataType.BYTE_ARRAY16):
            return Slot(name, kind, ADDRESS_WORDS[name][-length:], KNOWN, KERNEL_FIELDS.index(name), bits)
        if name in KERNEL_FIELDS and name not in ADDRESS_WORDS and length == 1 and not sign:
            number = KERNEL_FIELDS.index(name)
            return Slot(name, kind, (SCALARS_AT + number,), KNOWN, number, bits, is_name=is_name)
        words = tuple(self._word(name) for _ in range(length))
        word, bit = self._known_bit()
        return Slot(name, kind, words, word, bit, bits, sign, is_name)

    def _word(self, name: str) -> int:
        if self.count >= WORDS_MAX:
            raise NotSupportedError(
                f"{self.layer.short}, at {name}",
                f"a table's key has {WORDS_MAX} words at most, and these filters need more",
                "fewer different tests of texts or tokens at one layer",
            )
        self.count += 1
        return self.count - 1

    def _known_bit(self) -> tuple[int, int]:
        if self._bit == WORD_BITS - 1:  # the last bit is never set: what needs it never matches (`updates`)
            self._known, self._bit = self._word("known fields"), 0
        self._bit += 1
        return self._known, self._bit - 1

    def predicate(self, condition: Condition) -> tuple[int, int]:
        """Return the word and the mask of the bit that says whether *condition* holds."""
        place = self.predicates.get(condition)
        if place is None:
            bit = len(self.predicates) % WORD_BITS
            if not bit:
                self._predicate_word = self._word(condition.field)
            place = self.predicates[condition] = self._predicate_word, 1 << bit
        return place

    def key(self, values: Mapping[str, Value]) -> list[int]:
        """Return the key of *values*, which have the types of their fields. Cost: O(words + predicates)."""
        key = [0] * self.count
        for slot in self.slots.values():
            value = values.get(slot.field)
            if value is None or value.type is DataType.EMPTY:
                continue
            if isinstance(value.data, Token):
                token = self.tokens[slot.field]
                key[token.known] |= token.mask
                continue
            if value.type is not slot.type:
                continue
            key[slot.known] |= slot.mask
            number = self._number(slot, value)
            for word in reversed(slot.words):
                key[word] = number & WORD_MAX
                number >>= WORD_BITS
        for condition, (word, mask) in self.predicates.items():
            if matches(values.get(condition.field), condition):
                key[word] |= mask
        return key

    def _number(self, slot: Slot, value: Value) -> int:
        if slot.is_name:
            return self.names.by_field.get(slot.field, {}).get(value.data, 0)  # type: ignore[arg-type]
        return as_integer(value) + slot.sign

    def tops(self) -> dict[int, int]:
        """Return the greatest value of the words that do not take all of 32 bits, or are names."""
        tops = {}
        for slot in self.slots.values():
            if slot.is_name:
                tops[slot.words[0]] = self.names.top(slot.field)
            elif slot.words:
                tops[slot.words[0]] = (1 << (slot.bits - 1) % WORD_BITS + 1) - 1
        return tops

    def copy(self, names: Names) -> Layout:
        """Return the same layout, to be added to, with *names*."""
        return replace(
            self,
            names=names,
            slots=dict(self.slots),
            predicates=dict(self.predicates),
            tokens=dict(self.tokens),
            kinds=dict(self.kinds),
        )


def halves(number: int, count: int) -> Sequence[int]:
    """Return *number* as *count* words, the most significant first."""
    return [number >> WORD_BITS * place & WORD_MAX for place in range(count - 1, -1, -1)]
