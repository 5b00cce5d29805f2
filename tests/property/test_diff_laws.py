"""Laws of diff: nothing between a policy and itself, every witness differs, nothing is missed, and it can be turned."""

from __future__ import annotations

from dataclasses import replace
from itertools import product

from hypothesis import given, settings
from hypothesis import strategies as st

from layergate.analysis import Differences, diff
from layergate.engine import classify, in_order
from layergate.model import (
    Action,
    Condition,
    DataType,
    Filter,
    FilterFlag,
    Indication,
    MatchType,
    Policy,
    Range,
    Sublayer,
    Value,
    layer_named,
)
from layergate.model.values import EMPTY

LAYERS = tuple(layer_named(f"ALE_AUTH_CONNECT_{family}") for family in ("V4", "V6"))
SUBLAYERS = (Sublayer("high", 900), Sublayer("middle", 100), Sublayer("low", 10))


def port(number: int) -> Value:
    return Value(DataType.UINT16, number)


def ports(low: int, high: int) -> Value:
    return Value(DataType.RANGE, Range(port(low), port(high)))


PORT_TESTS = [
    (MatchType.EQUAL, port(80)),
    (MatchType.NOT_EQUAL, port(80)),
    (MatchType.RANGE, ports(0, 79)),
    (MatchType.RANGE, ports(79, 81)),
    (MatchType.GREATER, port(80)),
    (MatchType.EQUAL, EMPTY),
]
FLAG_TESTS = [
    (MatchType.FLAGS_ALL_SET, Value(DataType.UINT32, 1)),
    (MatchType.FLAGS_NONE_SET, Value(DataType.UINT32, 3)),
    (MatchType.FLAGS_ANY_SET, Value(DataType.UINT32, 6)),
]
APP_TESTS = [
    (MatchType.EQUAL, Value(DataType.BYTE_BLOB, b"/a")),
    (MatchType.NOT_EQUAL, Value(DataType.BYTE_BLOB, b"/a")),
    (MatchType.EQUAL, Value(DataType.BYTE_BLOB, b"/b")),
]
POOLS = {"IP_REMOTE_PORT": PORT_TESTS, "FLAGS": FLAG_TESTS, "ALE_APP_ID": APP_TESTS}
# Of each field a value of every kind that the tests above can tell apart, and none.
VALUES = {
    "IP_REMOTE_PORT": [None, *map(port, (0, 78, 79, 80, 81, 82, 65535))],
    "FLAGS": [None, *(Value(DataType.UINT32, number) for number in range(8))],
    "ALE_APP_ID": [None, *(Value(DataType.BYTE_BLOB, text) for text in (b"/a", b"/b", b"/c"))],
}


@st.composite
def rules(draw: st.DrawFn) -> Filter:
    conditions: list[Condition] = []
    for name, pool in POOLS.items():
        tests = draw(st.lists(st.sampled_from(pool), max_size=2, unique=True)) if draw(st.booleans()) else []
        conditions += [Condition(name, how, value) for how, value in tests]
    action = draw(st.sampled_from([Action.PERMIT, Action.BLOCK]))
    hard = action is Action.PERMIT and draw(st.booleans())
    return Filter(
        id=1,
        name="f",
        layer=draw(st.sampled_from(LAYERS)),
        sublayer=draw(st.sampled_from(SUBLAYERS)).key,
        action=action,
        conditions=tuple(conditions),
        weight=Value(DataType.UINT64, draw(st.integers(0, 3))),
        flags=FilterFlag.CLEAR_ACTION_RIGHT if hard else FilterFlag.NONE,
        error=draw(st.sampled_from([0, 0, 111])) if action is Action.BLOCK else 0,
    )


@st.composite
def policies(draw: st.DrawFn) -> Policy:
    filters = draw(st.lists(rules(), max_size=5))
    weights = draw(st.permutations([900, 100, 10]))
    sublayers = tuple(replace(one, weight=weight) for one, weight in zip(SUBLAYERS, weights, strict=True))
    return Policy(sublayers, tuple(replace(item, id=number) for number, item in enumerate(filters, 1)))


@st.composite
def pairs(draw: st.DrawFn) -> tuple[Policy, Policy]:
    """Two policies; as often as not the second is the first with a change."""
    first = draw(policies())
    if draw(st.booleans()) or not first.filters:
        return first, draw(policies())
    filters = list(first.filters)
    place = draw(st.integers(0, len(filters) - 1))
    filters[place : place + 1] = [replace(item, id=100 + place) for item in draw(st.lists(rules(), max_size=2))]
    return first, replace(first, filters=tuple(filters))


Kind = tuple[str, tuple[Action, int | None, int], tuple[Action, int | None, int]]


def kinds(found: Differences) -> set[Kind]:
    return {
        (
            one.layer.short,
            *((side.action, side.filter.id if side.filter else None, side.error) for side in (one.before, one.after)),
        )
        for one in found.found
    }


def decided(policy: Policy, indication: Indication) -> tuple[Action, int | None, int]:
    verdict = classify(in_order(policy), indication)
    error = verdict.filter.error if verdict.filter and verdict.action is Action.BLOCK else 0
    return verdict.action, verdict.filter.id if verdict.filter else None, error


@given(policies(), st.randoms())
def test_a_policy_differs_in_nothing_from_itself(policy: Policy, random: object) -> None:
    assert diff(policy, policy).found == ()
    # Nor from itself under other names, ids, lines, in another order of equal sense.
    renamed = [replace(item, id=item.id + 50, name="x", line=9, description="y") for item in policy.filters]
    same = diff(policy, replace(policy, filters=tuple(renamed)))
    assert (same.found, same.changed_count, same.complete) == ((), 0, True)
    del random


@given(pairs())
def test_every_witness_differs_as_it_says(pair: tuple[Policy, Policy]) -> None:
    before, after = pair
    for one in diff(before, after).found:
        assert not one.witness.assumed
        for policy, side in ((before, one.before), (after, one.after)):
            wanted = (side.action, side.filter.id if side.filter else None, side.error)
            assert decided(policy, one.witness.indication) == wanted
        assert (one.before.action, one.before.error) != (one.after.action, one.after.error)


@settings(max_examples=60)
@given(pairs())
def test_no_kind_of_change_is_missed(pair: tuple[Policy, Policy]) -> None:
    before, after = pair
    first, second = in_order(before), in_order(after)
    expected: set[Kind] = set()
    for layer in LAYERS:
        for values in product(*VALUES.values()):
            known = {name: value for name, value in zip(VALUES, values, strict=True) if value is not None}
            sides = []
            for ordered in (first, second):
                verdict = classify(ordered, Indication(layer, known))
                error = verdict.filter.error if verdict.filter and verdict.action is Action.BLOCK else 0
                sides.append((verdict.action, verdict.filter.id if verdict.filter else None, error))
            if (sides[0][0], sides[0][2]) != (sides[1][0], sides[1][2]):
                expected.add((layer.short, sides[0], sides[1]))
    found = diff(before, after)
    assert found.complete
    assert kinds(found) == expected


@given(pairs())
def test_turned_round_it_says_the_same(pair: tuple[Policy, Policy]) -> None:
    before, after = pair
    turned = {(layer, after_side, before_side) for layer, before_side, after_side in kinds(diff(before, after))}
    assert kinds(diff(after, before)) == turned
