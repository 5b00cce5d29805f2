"""Every match type over every kind of value. A row: the condition, the value, whether it is met."""

from __future__ import annotations

import pytest

from layergate.engine import condition_problem, matches, matches_all
from layergate.model import AddressMask, Condition, DataType, MatchType, Range, Value, layer_named
from layergate.model.values import EMPTY

CONNECT = layer_named("ALE_AUTH_CONNECT_V4")
CONNECT_V6 = layer_named("ALE_AUTH_CONNECT_V6")


def port(number: int) -> Value:
    return Value(DataType.UINT16, number)


def text(words: str) -> Value:
    return Value(DataType.UNICODE_STRING, words)


def blob(data: bytes) -> Value:
    return Value(DataType.BYTE_BLOB, data)


def flags(bits: int) -> Value:
    return Value(DataType.UINT32, bits)


def span(low: Value, high: Value) -> Value:
    return Value(DataType.RANGE, Range(low, high))


NET_10 = Value(DataType.V4_ADDR_MASK, AddressMask(0x0A000000, 0xFF000000))
LINK_LOCAL = Value(DataType.V6_ADDR_MASK, AddressMask(0xFE80 << 112, 0xFFC0 << 112))
FE80 = Value(DataType.BYTE_ARRAY16, b"\xfe\x80" + bytes(13) + b"\x01")
USER = Value(DataType.TOKEN_ACCESS_INFORMATION, 1000)
M = MatchType

ROWS = [
    ("80 equals 80", M.EQUAL, port(80), port(80), True),
    ("81 does not equal 80", M.EQUAL, port(80), port(81), False),
    ("a port does not equal a number of another type", M.EQUAL, flags(80), port(80), False),
    ("81 is not 80", M.NOT_EQUAL, port(80), port(81), True),
    ("80 is 80", M.NOT_EQUAL, port(80), port(80), False),
    ("81 is greater than 80", M.GREATER, port(80), port(81), True),
    ("80 is not greater than 80", M.GREATER, port(80), port(80), False),
    ("79 is less than 80", M.LESS, port(80), port(79), True),
    ("80 is not less than 80", M.LESS, port(80), port(80), False),
    ("80 is at least 80", M.GREATER_OR_EQUAL, port(80), port(80), True),
    ("79 is not at least 80", M.GREATER_OR_EQUAL, port(80), port(79), False),
    ("80 is at most 80", M.LESS_OR_EQUAL, port(80), port(80), True),
    ("81 is not at most 80", M.LESS_OR_EQUAL, port(80), port(81), False),
    ("a range has its low end", M.RANGE, span(port(80), port(90)), port(80), True),
    ("a range has its high end", M.RANGE, span(port(80), port(90)), port(90), True),
    ("a range ends", M.RANGE, span(port(80), port(90)), port(91), False),
    ("a range of another type holds nothing", M.RANGE, span(flags(0), flags(99)), port(80), False),
    ("a range of IPv6 addresses", M.RANGE, span(Value(FE80.type, bytes(16)), FE80), FE80, True),
    ("all of 5 are set in 7", M.FLAGS_ALL_SET, flags(5), flags(7), True),
    ("not all of 5 are set in 4", M.FLAGS_ALL_SET, flags(5), flags(4), False),
    ("one of 5 is set in 4", M.FLAGS_ANY_SET, flags(5), flags(4), True),
    ("none of 5 is set in 2: any", M.FLAGS_ANY_SET, flags(5), flags(2), False),
    ("none of 5 is set in 2", M.FLAGS_NONE_SET, flags(5), flags(2), True),
    ("one of 5 is set in 1: none", M.FLAGS_NONE_SET, flags(5), flags(1), False),
    ("text without regard to case", M.EQUAL_CASE_INSENSITIVE, text("STRASSE"), text("straße"), True),
    ("other text without regard to case", M.EQUAL_CASE_INSENSITIVE, text("a"), text("b"), False),
    ("PREFIX tests the end", M.PREFIX, text("exe"), text("cmd.exe"), True),
    ("PREFIX does not test the beginning", M.PREFIX, text("cmd"), text("cmd.exe"), False),
    ("PREFIX of bytes", M.PREFIX, blob(b"curl"), blob(b"/usr/bin/curl"), True),
    ("NOT_PREFIX tests the end", M.NOT_PREFIX, text("exe"), text("cmd.com"), True),
    ("NOT_PREFIX where it ends so", M.NOT_PREFIX, text("exe"), text("cmd.exe"), False),
    ("an address in a prefix", M.EQUAL, NET_10, flags(0x0A090002), True),
    ("an address outside a prefix", M.EQUAL, NET_10, flags(0x0B000000), False),
    ("an address not in a prefix", M.NOT_EQUAL, NET_10, flags(0x0B000000), True),
    ("an IPv6 address in a prefix", M.EQUAL, LINK_LOCAL, FE80, True),
    ("a user against a token", M.EQUAL, flags(1000), USER, True),
    ("another user against a token", M.NOT_EQUAL, flags(0), USER, True),
    ("an unknown value meets empty", M.EQUAL, EMPTY, None, True),
    ("an empty value meets empty", M.EQUAL, EMPTY, EMPTY, True),
    ("a known value does not meet empty", M.EQUAL, EMPTY, port(0), False),
    ("empty is tested by EQUAL only", M.NOT_EQUAL, EMPTY, port(0), False),
    ("an unknown value meets no value", M.EQUAL, port(80), None, False),
    ("an unknown value meets no exception", M.NOT_EQUAL, port(80), None, False),
    ("an unknown value meets no range", M.RANGE, span(port(0), port(65535)), None, False),
    ("an unknown value has no clear bits", M.FLAGS_NONE_SET, flags(1), None, False),
]


@pytest.mark.parametrize("how, wanted, value, is_met", [row[1:] for row in ROWS], ids=[row[0] for row in ROWS])
def test_a_condition_is_met(*, how: MatchType, wanted: Value, value: Value | None, is_met: bool) -> None:
    assert matches(value, Condition("FIELD", how, wanted)) is is_met


def test_every_match_type_has_a_row_that_is_met_and_one_that_is_not() -> None:
    for how in MatchType:
        assert {row[4] for row in ROWS if row[1] is how} == {True, False}, how


def test_fields_are_and_and_conditions_that_stand_together_are_or() -> None:
    web = Condition("IP_REMOTE_PORT", M.EQUAL, port(80)), Condition("IP_REMOTE_PORT", M.EQUAL, port(443))
    tcp = Condition("IP_PROTOCOL", M.EQUAL, Value(DataType.UINT8, 6))
    values = {"IP_REMOTE_PORT": port(443), "IP_PROTOCOL": Value(DataType.UINT8, 6)}
    assert matches_all(values, (*web, tcp))
    assert not matches_all(values | {"IP_REMOTE_PORT": port(22)}, (*web, tcp))
    assert not matches_all(values | {"IP_PROTOCOL": Value(DataType.UINT8, 17)}, (*web, tcp))
    assert matches_all({}, ())


PROBLEMS = [
    ("IP_REMOTE_PORT", M.EQUAL, flags(80), "FWP_E_TYPE_MISMATCH"),
    ("IP_REMOTE_PORT", M.RANGE, span(port(9), port(3)), "FWP_E_INVALID_RANGE"),
    ("IP_REMOTE_PORT", M.RANGE, port(9), "FWP_E_MATCH_TYPE_MISMATCH"),
    ("IP_REMOTE_PORT", M.EQUAL, span(port(3), port(9)), "FWP_E_MATCH_TYPE_MISMATCH"),
    ("IP_REMOTE_PORT", M.PREFIX, port(3), "FWP_E_MATCH_TYPE_MISMATCH"),
    ("IP_REMOTE_PORT", M.NOT_EQUAL, EMPTY, "FWP_E_MATCH_TYPE_MISMATCH"),
    ("IP_REMOTE_PORT", M.EQUAL, NET_10, "FWP_E_TYPE_MISMATCH"),
    ("IP_REMOTE_ADDRESS", M.EQUAL, LINK_LOCAL, "FWP_E_TYPE_MISMATCH"),
    ("ALE_USER_ID", M.GREATER, flags(1000), "FWP_E_MATCH_TYPE_MISMATCH"),
    ("ALE_USER_ID", M.EQUAL, port(1), "FWP_E_TYPE_MISMATCH"),
    ("ALE_APP_ID", M.EQUAL_CASE_INSENSITIVE, blob(b"x"), "FWP_E_MATCH_TYPE_MISMATCH"),
    ("ALE_PACKAGE_ID", M.GREATER, Value(DataType.SID, "x"), "FWP_E_MATCH_TYPE_MISMATCH"),
    ("IP_REMOTE_PORT", M.EQUAL, port(80), None),
    ("IP_REMOTE_PORT", M.EQUAL, EMPTY, None),
    ("IP_REMOTE_ADDRESS", M.NOT_EQUAL, NET_10, None),
    ("ALE_USER_ID", M.NOT_EQUAL, flags(1000), None),
    ("ALE_PACKAGE_ID", M.NOT_EQUAL, Value(DataType.SID, "x"), None),
    ("FLAGS", M.FLAGS_ANY_SET, flags(1), None),
    ("ALE_APP_ID", M.PREFIX, blob(b"x"), None),
]


@pytest.mark.parametrize("name, how, value, code", PROBLEMS)
def test_a_condition_that_a_field_cannot_have_is_named(
    name: str, how: MatchType, value: Value | None, code: str | None
) -> None:
    problem = condition_problem(CONNECT.field(name), Condition(name, how, value))
    assert problem is None if code is None else problem is not None and problem.startswith(code)
