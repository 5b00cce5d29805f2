"""Filters become tests with two exits."""

from __future__ import annotations

import pytest

from layergate.compile.tests import GOTO_END, GOTO_MATCHED, Op, compile_policy
from layergate.model import (
    Action,
    Condition,
    DataType,
    Filter,
    MatchType,
    NotSupportedError,
    Policy,
    Sublayer,
    Value,
    layer_named,
)

CONNECT = layer_named("ALE_AUTH_CONNECT_V4")
assert CONNECT is not None
ONE = (Sublayer("one", 1),)


def port(number: int, how: MatchType = MatchType.EQUAL) -> Condition:
    return Condition("IP_REMOTE_PORT", how, Value(DataType.UINT16, number))


def app(path: bytes) -> Condition:
    return Condition("ALE_APP_ID", MatchType.EQUAL, Value(DataType.BYTE_BLOB, path))


def blocking(number: int, *conditions: Condition, sublayer: str = "one") -> Filter:
    return Filter(number, f"filter {number}", CONNECT, sublayer, Action.BLOCK, conditions)


def test_the_worked_example() -> None:
    tcp = Condition("IP_PROTOCOL", MatchType.EQUAL, Value(DataType.UINT8, 6))
    tests = compile_policy(Policy(ONE, (blocking(7, port(80), port(443), tcp),))).table(CONNECT.id)
    assert [(one.field, one.op, one.low, one.high, one.hit, one.miss) for one in tests] == [
        ("IP_REMOTE_PORT", Op.IN_RANGE, 80, 80, 2, 1),
        ("IP_REMOTE_PORT", Op.IN_RANGE, 443, 443, 2, GOTO_END),
        ("IP_PROTOCOL", Op.IN_RANGE, 6, 6, GOTO_MATCHED, GOTO_END),
    ]


def test_a_filter_without_conditions_always_holds() -> None:
    (test,) = compile_policy(Policy(ONE, (blocking(1),))).table(CONNECT.id)
    assert (test.op, test.hit, test.filter, test.sublayer_end) == (Op.ALWAYS, GOTO_MATCHED, 1, GOTO_END)


def test_a_match_skips_the_rest_of_its_sublayer() -> None:
    policy = Policy(
        (Sublayer("heavy", 9), *ONE), (blocking(1, sublayer="heavy"), blocking(2, sublayer="heavy"), blocking(3))
    )
    assert [test.sublayer_end for test in compile_policy(policy).table(CONNECT.id)] == [2, 2, GOTO_END]


def test_nothing_is_greater_than_the_greatest() -> None:
    (test,) = compile_policy(Policy(ONE, (blocking(1, port(65535, MatchType.GREATER)),))).table(CONNECT.id)
    assert test.low > test.high


def test_a_name_keeps_its_number_over_reloads() -> None:
    before = compile_policy(Policy(ONE, (blocking(1, app(b"/b")),)))
    after = compile_policy(Policy(ONE, (blocking(1, app(b"/a")), blocking(2, app(b"/b")))), before)
    assert (before.apps, after.apps) == ((b"/b",), (b"/b", b"/a"))


def test_what_no_table_can_say_is_refused_by_name() -> None:
    suffix = Condition("ALE_APP_ID", MatchType.PREFIX, Value(DataType.BYTE_BLOB, b"curl"))
    with pytest.raises(NotSupportedError, match=r"filter 'filter 1'.*PREFIX"):
        compile_policy(Policy(ONE, (blocking(1, suffix),)))
