"""The reference engine and what is built on it: classifications a second, and the time of explain, check and diff.

Needs neither root nor a kernel. Policies are generated from a seed: prefixes of all lengths, everyday ports and ranges,
two sublayers, both actions. A classification is set beside a floor in the same round: a loop over the same filters that
tests one field of each, which no linear engine in Python can beat.
"""

from __future__ import annotations

import statistics
import time
from collections.abc import Callable
from dataclasses import dataclass, replace
from random import Random
from typing import Any, Final

from layergate.analysis import diff, findings
from layergate.analysis.outcomes import changes
from layergate.engine import classify, in_order, matches
from layergate.engine.explanation import account
from layergate.model import (
    Action,
    AddressMask,
    Condition,
    DataType,
    Filter,
    Indication,
    Layer,
    MatchType,
    Policy,
    Range,
    Sublayer,
    Value,
    layer_named,
)

COUNTS: Final = (100, 1_000, 10_000)
CHANGED: Final = 5
ASKED: Final = 20
ROUNDS: Final = 7
SEED: Final = 20261124
_EVERYDAY: Final = (22, 25, 53, 80, 443, 8080)


def policy_of(count: int, seed: int = SEED) -> Policy:
    """Return *count* filters at ALE_AUTH_CONNECT_V4, the same for the same *seed*."""
    random = Random(seed)
    return Policy(
        (Sublayer("a", 9), Sublayer("b", 8)),
        tuple(
            Filter(number, f"f{number}", _layer(), random.choice("ab"), random.choice(_ACTIONS), _conditions(random))
            for number in range(1, count + 1)
        ),
    )


_ACTIONS: Final = (Action.PERMIT, Action.BLOCK)


def _layer() -> Layer:
    layer = layer_named("ALE_AUTH_CONNECT_V4")
    assert layer is not None
    return layer


def _conditions(random: Random) -> tuple[Condition, ...]:
    length = random.choice((8, 16, 24, 24, 32, 32))
    mask = (1 << 32) - (1 << 32 - length)
    net = Value(DataType.V4_ADDR_MASK, AddressMask(random.getrandbits(32) & mask, mask))
    found = [Condition("IP_REMOTE_ADDRESS", MatchType.EQUAL, net)] if random.random() < 0.9 else []
    if random.random() < 0.7:
        port = Value(DataType.UINT16, random.choice((*_EVERYDAY, random.randrange(1 << 16))))
        found.append(Condition("IP_REMOTE_PORT", MatchType.EQUAL, port))
    if random.random() < 0.3:
        low = random.randrange(60_000)
        ends = Range(Value(DataType.UINT16, low), Value(DataType.UINT16, low + random.randrange(5_000)))
        found.append(Condition("IP_LOCAL_PORT", MatchType.RANGE, Value(DataType.RANGE, ends)))
    if random.random() < 0.5:
        found.append(Condition("IP_PROTOCOL", MatchType.EQUAL, Value(DataType.UINT8, random.choice((6, 17)))))
    return tuple(found)


def indications(policy: Policy, count: int = ASKED) -> list[Indication]:
    """Return *count* indications, every second one within a filter's prefix."""
    random = Random(SEED + 1)
    result = []
    for number in range(count):
        address = random.getrandbits(32)
        first = next(iter(random.choice(policy.filters).conditions), None)
        if number % 2 and first is not None and isinstance(first.value.data, AddressMask):
            address = first.value.data.address
        values = {
            "IP_REMOTE_ADDRESS": Value(DataType.UINT32, address),
            "IP_REMOTE_PORT": Value(DataType.UINT16, random.choice(_EVERYDAY)),
            "IP_LOCAL_PORT": Value(DataType.UINT16, random.randrange(1 << 16)),
            "IP_PROTOCOL": Value(DataType.UINT8, 6),
        }
        result.append(Indication(_layer(), values))
    return result


@dataclass(frozen=True, slots=True)
class Figures:
    """Medians for one number of filters: rates a second, the ratio to the floor, and times in seconds."""

    filters: int
    per_second: float
    to_floor: float
    explain_s: float
    check_s: float
    diff_s: float

    def line(self) -> dict[str, Any]:
        """Return the figures for the history."""
        return {name: round(getattr(self, name), 6) for name in self.__slots__}


def measured(counts: tuple[int, ...] = COUNTS, rounds: int = ROUNDS) -> list[Figures]:
    """Measure, for each number of filters."""
    return [_measured(count, rounds if count < COUNTS[-1] else max(3, rounds // 2)) for count in counts]


def _measured(count: int, rounds: int) -> Figures:
    policy = policy_of(count)
    ordered = in_order(policy)
    asked = indications(policy)
    tests = [next(iter(item.conditions), None) for item in policy.filters]

    def floor() -> None:
        for indication in asked:
            values = indication.values
            for test in tests:
                if test is not None:
                    matches(values.get(test.field), test)

    def engine() -> None:
        for indication in asked:
            classify(ordered, indication)

    def explain() -> None:
        verdict = classify(ordered, asked[0])
        changes(ordered, asked[0], verdict, account(ordered, asked[0], verdict))

    other = list(policy.filters)
    for number in range(CHANGED):
        place = number * count // CHANGED
        turned = Action.BLOCK if other[place].action is Action.PERMIT else Action.PERMIT
        other[place] = replace(other[place], action=turned)
    after = replace(policy, filters=tuple(other))
    pairs = [(_seconds(floor), _seconds(engine)) for _ in range(rounds)]
    few = max(1, rounds // 3)
    return Figures(
        filters=count,
        per_second=len(asked) / statistics.median(spent for _, spent in pairs),
        to_floor=statistics.median(spent / least for least, spent in pairs),
        explain_s=statistics.median(_seconds(explain) for _ in range(rounds)),
        check_s=statistics.median(_seconds(lambda: findings(policy)) for _ in range(few)),
        diff_s=statistics.median(_seconds(lambda: diff(policy, after)) for _ in range(few)),
    )


def _seconds(action: Callable[[], object]) -> float:
    start = time.perf_counter()
    action()
    return time.perf_counter() - start


def text(figures: list[Figures]) -> str:
    """Return the table."""
    rows = [
        f"   {one.filters:>7,}  {one.per_second:>12,.1f}  {one.to_floor:>8.2f}  {one.explain_s * 1e3:>11,.1f}"
        f"  {one.check_s:>8.2f}  {one.diff_s:>7.2f}"
        for one in figures
    ]
    head = "   filters  verdicts a s  to floor  explain, ms  check, s  diff, s"
    return "\n".join(
        (f"Reference engine; check; diff of {CHANGED} changed filters (medians; floor: one test a filter)", head, *rows)
    )
