"""Filter sets and indications drawn from small pools of values, so that filters overlap, tie and hide one another.

Everything follows from a `random.Random`: a seed reproduces a set. Values of indications lie on and around what the
filters test.
"""

from __future__ import annotations

import random
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from functools import cache
from typing import Final

from layergate.engine import Callouts, condition_problem
from layergate.engine.callouts import GO_ON, Answer, Invocation, unasked
from layergate.model import (
    Action,
    AddressMask,
    Condition,
    DataType,
    Field,
    Filter,
    FilterFlag,
    Layer,
    MatchType,
    Policy,
    Range,
    Sublayer,
    Token,
    Value,
)
from layergate.model.values import BITS, EMPTY, SIZES

TOKENS: Final = (DataType.TOKEN_INFORMATION, DataType.TOKEN_ACCESS_INFORMATION)
MASKS: Final = {DataType.V4_ADDR_MASK: 32, DataType.V6_ADDR_MASK: 128}
SIDS: Final = ("S-1-5-18", "S-1-5-32-544", "ssh.service")
DESCRIPTORS: Final = ("D:(A;;CC;;;SY)", "D:(A;;CC;;;BA)", "O:LSD:(D;;CC;;;BA)(A;;CC;;;SY)")
ADDRESSES_V6: Final = (
    0, 1, 0xFFFFFFFF, 1 << 32, (0x20010DB8 << 96) + 5, (0x20010DB8 << 96) + (7 << 64), 0xFE80 << 112, (1 << 128) - 1,
)  # fmt: skip
POOLS: Final[dict[DataType, tuple[object, ...]]] = {
    DataType.UINT8: (0, 1, 6, 17, 128, 255),
    DataType.UINT16: (0, 1, 22, 80, 443, 1024, 65535),
    DataType.UINT32: (0, 1, 4, 5, 0x0A000001, 0x0A0000FF, 0x0A010203, 0x7F000001, 0xFFFFFFFF),
    DataType.UINT64: (0, 1, (1 << 32) - 1, 1 << 32, (5 << 32) + 7, 1 << 63, (1 << 64) - 1),
    DataType.BYTE_ARRAY16: tuple(number.to_bytes(16, "big") for number in ADDRESSES_V6),
    DataType.BYTE_ARRAY6: tuple(number.to_bytes(6, "big") for number in (0, 1, 0xFFFFFFFF, 1 << 32, (1 << 48) - 1)),
    DataType.BYTE_BLOB: (b"/bin/a", b"/bin/b", b"/bin/b/a", b""),
    DataType.SID: SIDS,
    DataType.SECURITY_DESCRIPTOR: DESCRIPTORS,
    DataType.UNICODE_STRING: ("tun", "TUN", "eth"),
}
ANSWERS: Final = (GO_ON, Answer(Action.PERMIT), Answer(Action.BLOCK, clears_right=True), Answer(Action.BLOCK), None)


def values_of(kind: DataType) -> tuple[Value, ...]:
    """Return the pool of values that a condition or an indication of type *kind* draws from."""
    return tuple(Value(kind, data) for data in POOLS.get(kind, ()))  # type: ignore[arg-type]


@cache
def possible(of: Field) -> dict[MatchType, tuple[Condition, ...]]:
    """Return, by match type, the conditions that can be put on the field *of*: values of every type that it takes."""
    kinds = (of.type, DataType.UINT32, DataType.SID, DataType.SECURITY_DESCRIPTOR)
    found = [EMPTY, *dict.fromkeys(value for kind in kinds for value in values_of(kind))]
    for kind, bits in MASKS.items():
        addresses = [0, 1, 0x0A000001] if bits == 32 else list(ADDRESSES_V6)
        masks = [*(((1 << width) - 1) << bits - width for width in (0, 8, bits // 2, bits - 1, bits)), 5, 1 << bits - 1]
        found += [Value(kind, AddressMask(address, mask)) for address in addresses for mask in masks]
    plain = sorted(values_of(of.type), key=lambda value: value.data)  # type: ignore[arg-type, return-value]
    found += [Value(DataType.RANGE, Range(low, high)) for place, low in enumerate(plain) for high in plain[place:]]
    result = {}
    for how in MatchType:
        fitting = tuple(
            condition
            for condition in (Condition(of.name, how, value) for value in found)
            if condition_problem(of, condition) is None
        )
        if fitting:
            result[how] = fitting
    return result


def around(value: Value, dice: random.Random) -> Value:
    """Return *value*, or one beside it."""
    step = dice.choice((-1, 0, 0, 1))
    if isinstance(value.data, bytes) and value.type in SIZES:
        number = int.from_bytes(value.data, "big") + step
        if 0 <= number < 1 << 8 * len(value.data):
            return Value(value.type, number.to_bytes(len(value.data), "big"))
    elif value.type in BITS and isinstance(value.data, int) and 0 <= value.data + step < 1 << BITS[value.type]:
        return Value(value.type, value.data + step)
    return value


@dataclass
class Drawn:
    """A set of filters at *layer*, and indications for it.

    *kernel_fields*: only these; () for all. *is_simple*: no callouts, and users are numbers.
    """

    layer: Layer
    dice: random.Random
    count: int
    kernel_fields: tuple[str, ...] = ()
    sublayer_count: int = 3
    is_simple: bool = False
    callouts: dict[str, object] = field(default_factory=dict)

    def fields(self) -> list[Field]:
        """Return the fields to be tested: a few of the layer's, so that filters meet."""
        names = [one for one in self.layer.fields if not self.kernel_fields or one.name in self.kernel_fields]
        return self.dice.sample(names, min(len(names), 5))

    def policy(self) -> Policy:
        """Return the policy."""
        sublayers = tuple(Sublayer(f"s{place}", 1000 - 10 * place) for place in range(self.sublayer_count))
        fields = self.fields()
        if not self.is_simple and self.dice.random() < 0.5:
            answers = {f"c{place}": self.dice.choice(ANSWERS) for place in range(3)}
            self.callouts = {key: _answering(answer) for key, answer in answers.items()}
            self.callouts["elsewhere"] = unasked
        return Policy(sublayers, tuple(self.filter(number, fields, sublayers) for number in range(1, self.count + 1)))

    def filter(self, number: int, fields: Sequence[Field], sublayers: Sequence[Sublayer]) -> Filter:
        """Return one filter."""
        dice = self.dice
        chosen = dice.sample(fields, min(len(fields), dice.choice((0, 1, 1, 2, 2, 3, 4))))
        action = dice.choice((Action.PERMIT, Action.BLOCK))
        callout = ""
        if not self.is_simple and dice.random() < 0.1:
            action = dice.choice((Action.CALLOUT_TERMINATING, Action.CALLOUT_INSPECTION, Action.CALLOUT_UNKNOWN))
            callout = dice.choice(("c0", "c1", "c2", "elsewhere", "nobody's"))
        flags = FilterFlag.NONE
        for flag, share in (
            (FilterFlag.CLEAR_ACTION_RIGHT, 0.2),
            (FilterFlag.BOOTTIME, 0.03),
            (FilterFlag.DISABLED, 0.03),
            (FilterFlag.PERMIT_IF_CALLOUT_UNREGISTERED, 0.3),
        ):
            if dice.random() < share:
                flags |= flag
        return Filter(
            number,
            f"filter {number}",
            self.layer,
            dice.choice(sublayers).key,
            action,
            tuple(one for of in chosen for one in self.conditions(of)),
            weight=dice.choice((EMPTY, EMPTY, Value(DataType.UINT8, 3), Value(DataType.UINT64, dice.choice((0, 7))))),
            flags=flags,
            callout=callout,
        )

    def conditions(self, of: Field) -> Iterator[Condition]:
        """Yield one condition on *of*, or several alternatives."""
        choices = possible(of)
        several = self.dice.choice((1, 1, 1, 2, 3, 11))
        for _ in range(several):
            yield self.dice.choice(choices[self.dice.choice(list(choices))])

    def indication(self, policy: Policy) -> dict[str, Value]:
        """Return values for an indication, on and around what one of the filters tests."""
        tested = {}
        for condition in self.dice.choice(policy.filters).conditions if policy.filters else ():
            tested[condition.field] = condition.value
        values = {}
        for of in self.layer.fields:
            if self.dice.random() < 0.12 or (self.kernel_fields and of.name not in self.kernel_fields):
                continue
            value = self.value(of, tested.get(of.name))
            if value is not None:
                values[of.name] = value
        return values

    def value(self, of: Field, tested: Value | None) -> Value | None:
        """Return a value of the field *of*: near *tested*, or from the pool."""
        dice = self.dice
        if of.type in TOKENS:
            if self.is_simple or dice.random() < 0.5:
                return Value(of.type, dice.choice((0, 1, 4, 5, 0x0A000001, 0xFFFFFFFF)))
            return Value(of.type, Token(frozenset(dice.sample(("S-1-5-18", "S-1-5-32-544", "S-1-1-0"), 2))))
        if tested is not None and dice.random() < 0.7:
            if isinstance(tested.data, Range):
                tested = dice.choice((tested.data.low, tested.data.high))
            if isinstance(tested.data, AddressMask):
                bits = MASKS[tested.type]
                number = tested.data.address & tested.data.mask | (~tested.data.mask & dice.getrandbits(bits))
                data = number.to_bytes(16, "big") if of.type is DataType.BYTE_ARRAY16 else number
                tested = Value(of.type, data)
            if tested.type is of.type:
                return around(tested, dice)
        pool = values_of(of.type)
        return around(dice.choice(pool), dice) if pool else None

    @property
    def registered(self) -> Callouts:
        """Who is registered."""
        return self.callouts  # type: ignore[return-value]


def _answering(answer: Answer | None) -> object:
    def function(invocation: Invocation) -> Answer | None:
        del invocation
        return answer

    return function
