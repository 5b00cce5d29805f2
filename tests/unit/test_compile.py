"""Filters become steps: the worked example, what has no place, bounds, hostile sets."""

from __future__ import annotations

import time

import pytest

from bench.rulesets import FLAVOURS, Ruleset
from layergate.backends.plain import decide, walk
from layergate.compile import WALK_MAX, Names, Table, compile_layer, compile_policy, listing
from layergate.compile.steps import STEP_BYTES
from layergate.compile.trees import COPIES
from layergate.engine import in_order
from layergate.model import (
    Action,
    AddressMask,
    Condition,
    DataType,
    Filter,
    MatchType,
    NotSupportedError,
    Policy,
    Range,
    Sublayer,
    Value,
    layer_named,
)
from layergate.model.values import EMPTY

CONNECT = layer_named("ALE_AUTH_CONNECT_V4")
assert CONNECT is not None
ONE = (Sublayer("one", 1),)
TCP = Condition("IP_PROTOCOL", MatchType.EQUAL, Value(DataType.UINT8, 6))


def port(number: int, how: MatchType = MatchType.EQUAL) -> Condition:
    return Condition("IP_REMOTE_PORT", how, Value(DataType.UINT16, number))


def ports(low: int, high: int) -> Condition:
    span = Range(Value(DataType.UINT16, low), Value(DataType.UINT16, high))
    return Condition("IP_REMOTE_PORT", MatchType.RANGE, Value(DataType.RANGE, span))


def network(address: int, length: int, how: MatchType = MatchType.EQUAL) -> Condition:
    mask = AddressMask(address, ((1 << length) - 1) << 32 - length)
    return Condition("IP_REMOTE_ADDRESS", how, Value(DataType.V4_ADDR_MASK, mask))


def app(path: bytes) -> Condition:
    return Condition("ALE_APP_ID", MatchType.EQUAL, Value(DataType.BYTE_BLOB, path))


def blocking(number: int, *conditions: Condition, sublayer: str = "one", weight: int | None = None) -> Filter:
    heavy = EMPTY if weight is None else Value(DataType.UINT64, weight)
    return Filter(number, f"filter {number}", CONNECT, sublayer, Action.BLOCK, conditions, weight=heavy)


def table(*filters: Filter) -> Table:
    result = compile_policy(Policy(ONE, filters)).table(CONNECT)
    assert result is not None
    return result


def many(count: int, *conditions_of: object) -> tuple[Filter, ...]:
    """The filters 1 to *count*, the first the heaviest; *conditions_of*: functions of the number."""
    return tuple(
        blocking(number, *(make(number) for make in conditions_of), weight=count - number)  # type: ignore[operator]
        for number in range(1, count + 1)
    )


def test_the_worked_example_is_what_the_compiler_makes() -> None:
    def soft(number: int, weight: int, *conditions: Condition) -> Filter:
        return Filter(
            number, "", CONNECT, "one", Action.PERMIT, conditions, weight=Value(DataType.UINT64, weight)
        )  # fmt: skip

    made = table(
        soft(7, 9, network(0x0A010000, 16), TCP),
        blocking(8, network(0x0A010200, 24), port(22), weight=8),
        soft(9, 7, port(80), port(443)),
        blocking(5, weight=0),
    )
    assert [line.split() for line in listing(made.steps)] == [
        line.split()
        for line in """
        0  END    a=14        b=1     c=1  word=0   distance=0
        1  ROOT   a=0     b=0     c=0  word=0   distance=0
        2  LEAF   a=0     b=0     c=3  word=0   distance=0
        3  IN     a=6         b=0     c=3  word=8   distance=1
        4  IN     a=167837696 b=65535 c=2  word=6   distance=1
        5  MATCH  a=0     b=2049  c=0  word=0   distance=0
        6  IN     a=22        b=0     c=3  word=10  distance=1
        7  IN     a=167838208 b=255   c=2  word=6   distance=1
        8  MATCH  a=7     b=2052  c=0  word=0   distance=0
        9  IN     a=80        b=0     c=1  word=10  distance=2
       10  IN     a=443       b=0     c=2  word=10  distance=1
       11  MATCH  a=8     b=4     c=0  word=0   distance=0
       12  MATCH  a=15     b=0     c=0  word=0   distance=0
       13  END    a=0      b=0     c=0  word=0   distance=0
        """.strip().splitlines()
    ]
    assert list(made.rows[::2]) == [7, 8, 9, 5]


def test_a_filter_that_another_contains_has_no_place_and_is_named_with_it() -> None:
    made = table(
        blocking(1, network(0x0A000000, 8), weight=9),
        blocking(2, network(0x0A010000, 16), port(22), weight=8),
        blocking(3, network(0x0B000000, 8), weight=7),
    )
    assert [(one.filter.id, one.why, [by.id for by in one.by]) for one in made.removed] == [(2, "hidden", [1])]


def test_a_filter_that_means_the_same_as_one_before_it_has_no_place() -> None:
    made = table(blocking(1, port(22), TCP), blocking(2, TCP, port(22)))
    assert [(one.filter.id, [by.id for by in one.by]) for one in made.removed] == [(2, [1])]


def test_an_entry_does_not_hide_one_that_holds_where_its_own_fields_are_unknown() -> None:
    whole = Condition("IP_REMOTE_PORT", MatchType.GREATER_OR_EQUAL, Value(DataType.UINT16, 0))
    policy = Policy(ONE, (blocking(1, whole, weight=9), blocking(2, weight=1)))
    compiled = compile_policy(policy)
    assert decide(compiled, CONNECT, {}) == (Action.BLOCK, 2)
    assert decide(compiled, CONNECT, {"IP_REMOTE_PORT": Value(DataType.UINT16, 5)}) == (Action.BLOCK, 1)


def test_what_nothing_can_meet_is_removed() -> None:
    (removed,) = table(blocking(1, port(65535, MatchType.GREATER))).removed
    assert removed.why == "no value can meet its conditions"


def test_a_name_keeps_its_number_over_versions() -> None:
    before = compile_policy(Policy(ONE, (blocking(1, app(b"/b")),)))
    after = compile_policy(Policy(ONE, (blocking(1, app(b"/a")), blocking(2, app(b"/b")))), before)
    assert (before.apps, after.apps) == ((b"/b",), (b"/b", b"/a"))


def test_the_same_filters_give_the_same_bytes() -> None:
    first, second = (compile_policy(Ruleset("fw", 500).policy()) for _ in range(2))
    assert [one.steps for one in first.tables.values()] == [one.steps for one in second.tables.values()]


@pytest.mark.parametrize("flavour", FLAVOURS)
@pytest.mark.parametrize("family", [4, 6])
def test_a_set_of_2000_stays_small_shallow_and_without_many_copies(flavour: str, family: int) -> None:
    rules = Ruleset(flavour, 2000, family)
    made = next(iter(compile_policy(rules.policy()).tables.values()))
    assert made.table_bytes < 2000 * 300
    assert sum(tree.copy_count for tree in made.trees) <= COPIES * made.entry_count
    walked = [
        walk(made.steps, made.root, made.layout.key(rules.values(header)), 1).steps
        for header in rules.headers("mixed", 300)
    ]
    assert sum(walked) / len(walked) < 60
    assert max(walked) <= made.walk_max


def test_a_list_is_the_same_filters_in_one_leaf() -> None:
    rules = Ruleset("acl", 300)
    heard = [(0, item) for _, filters in in_order(rules.policy()).at(rules.layer) for item in filters]
    listed, made = (compile_layer(rules.layer, heard, Names(), as_list=flag) for flag in (True, False))
    assert [tree.node_count for tree in listed.trees] == [1]
    for header in rules.headers("uniform", 200):
        key = made.layout.key(rules.values(header))
        assert walk(listed.steps, listed.root, key, 1).codes == walk(made.steps, made.root, key, 1).codes


# --- hostile sets ----------------------------------------------------------------------------------------------------

HOSTILE = {
    "nested prefixes": many(8000, lambda number: network((number >> 5) << 20, number % 32 + 1)),
    "all ports, one address each": many(8000, lambda number: network(number * 77_777, 32), lambda _: ports(0, 65535)),
    "ties": tuple(blocking(number, ports(1, 60000), TCP, weight=7) for number in range(1, 20_000)),
    "ranges that cross": many(
        4000,
        lambda number: ports(number * 7 % 30_000, 30_000 + number * 13 % 30_000),
        lambda number: network((number * 2_654_435_761) % (1 << 32) >> 28 << 28, 4),
    ),
    "one field a filter": tuple(
        blocking(number, (port(number), network(number << 8, 24), app(b"/%d" % number))[number % 3], weight=number)
        for number in range(1, 6000)
    ),
    "a list of addresses": (blocking(1, *(network(number << 12, 24) for number in range(20_000))), blocking(2, TCP)),
}


@pytest.mark.parametrize("name", HOSTILE)
def test_a_hostile_set_is_compiled_within_its_budget(name: str) -> None:
    began = time.monotonic()
    made = table(*HOSTILE[name])
    assert time.monotonic() - began < 20
    assert made.table_bytes <= (COPIES * made.entry_count * 5 + 4096) * STEP_BYTES
    assert made.walk_max <= WALK_MAX


def test_a_set_that_nothing_tells_apart_is_refused_with_limit_need_and_filters() -> None:
    wide = tuple(
        Condition("FLAGS", MatchType.EQUAL, Value(DataType.V4_ADDR_MASK, AddressMask(number, 0x55555 | number)))
        for number in range(1, 70_000)
    )
    with pytest.raises(NotSupportedError, match=r"ALE_AUTH_CONNECT_V4: .*140,0\d\d steps.*131,072.*'filter 1'"):
        table(*(blocking(number, one, weight=100_000 - number) for number, one in enumerate(wide, 1)))


def test_more_alternatives_than_a_step_passes_over_are_refused_by_name() -> None:
    addresses = (network(number << 12, 24) for number in range(0, 70_000 * 2, 2))
    with pytest.raises(NotSupportedError, match=r"filter 'filter 1': .*alternatives"):
        table(blocking(1, *addresses, *(port(number) for number in range(0, 65535, 2)), TCP))
