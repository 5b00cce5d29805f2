"""By how little a test was missed, and which value would have met it."""

from __future__ import annotations

import ipaddress

import pytest

from layergate.engine import classify, in_order
from layergate.engine.explanation import Fate, FieldTest, account, nearest, nearest_outside
from layergate.model import (
    Action,
    AddressMask,
    Condition,
    DataType,
    Filter,
    Indication,
    MatchType,
    Policy,
    Range,
    Sublayer,
    Value,
    layer_named,
)
from layergate.model.values import EMPTY

V4, V6 = layer_named("ALE_AUTH_CONNECT_V4"), layer_named("ALE_AUTH_CONNECT_V6")
PORT, FLAGS, APP, USER = (V4.field(name) for name in ("IP_REMOTE_PORT", "FLAGS", "ALE_APP_ID", "ALE_USER_ID"))
ADDRESS, ADDRESS6, PROTOCOL = V4.field("IP_REMOTE_ADDRESS"), V6.field("IP_REMOTE_ADDRESS"), V4.field("IP_PROTOCOL")


def v4(text: str) -> Value:
    return Value(DataType.UINT32, int(ipaddress.IPv4Address(text)))


def v6(text: str) -> Value:
    return Value(DataType.BYTE_ARRAY16, ipaddress.IPv6Address(text).packed)


def port(number: int) -> Value:
    return Value(DataType.UINT16, number)


def bits(number: int) -> Value:
    return Value(DataType.UINT32, number)


def span(low: Value, high: Value) -> Value:
    return Value(DataType.RANGE, Range(low, high))


EQUAL, RANGE, NOT_EQUAL = MatchType.EQUAL, MatchType.RANGE, MatchType.NOT_EQUAL
PREFIX = Value(DataType.V4_ADDR_MASK, AddressMask(0x0A010000, 0xFFFF0000))
CURL, WGET = Value(DataType.BYTE_BLOB, b"/curl"), Value(DataType.BYTE_BLOB, b"/wget")
DESCRIPTOR = Value(DataType.SECURITY_DESCRIPTOR, "D:(A;;CC;;;WD)")

# sentence; field; what was known; (match, value) alternatives; nearest value, distance
NEAREST = [
    ("the nearer of two ports", PORT, port(400), [(EQUAL, port(80)), (EQUAL, port(443))], port(443), 43),
    ("the end of a range", PORT, port(9), [(RANGE, span(port(1024), port(2048)))], port(1024), 1015),
    ("beside a value that is not wanted", PORT, port(80), [(NOT_EQUAL, port(80))], port(79), 1),
    ("an unknown port is as near as the first", PORT, None, [(EQUAL, port(80))], port(80), None),
    ("the end of a prefix", ADDRESS, v4("10.2.0.0"), [(EQUAL, PREFIX)], v4("10.1.255.255"), 1),
    ("an IPv6 address", ADDRESS6, v6("::5"), [(RANGE, span(v6("::1"), v6("::3")))], v6("::3"), 2),
    ("bits that are missing", FLAGS, bits(1), [(MatchType.FLAGS_ALL_SET, bits(5))], bits(5), 1),
    ("bits too many", FLAGS, bits(7), [(MatchType.FLAGS_NONE_SET, bits(3))], bits(4), 2),
    ("one bit of several", FLAGS, bits(0), [(MatchType.FLAGS_ANY_SET, bits(6))], bits(2), 1),
    ("of unknown bits", FLAGS, None, [(MatchType.FLAGS_ALL_SET, bits(4))], bits(4), 1),
    ("another text has no distance", APP, WGET, [(EQUAL, CURL)], CURL, None),
    ("what must be unknown", APP, WGET, [(EQUAL, EMPTY)], EMPTY, None),
    ("a token can't be named", USER, None, [(EQUAL, DESCRIPTOR)], None, None),
    ("any text but one can't be named", APP, CURL, [(NOT_EQUAL, CURL)], None, None),
]


def field_test(field: object, value: Value | None, run: list[tuple[MatchType, Value]], *, met: bool) -> FieldTest:
    return FieldTest(field.name, tuple(Condition(field.name, how, wanted) for how, wanted in run), value, met)


@pytest.mark.parametrize(
    "field, value, run, expected, distance", [row[1:] for row in NEAREST], ids=[row[0] for row in NEAREST]
)
def test_nearest(
    *, field: object, value: Value | None, run: list[tuple[MatchType, Value]], expected: Value | None, distance: int
) -> None:
    close = nearest(field, field_test(field, value, run, met=False))
    assert (close and close.value, close and close.distance) == (expected, distance)


OUTSIDE = [
    ("below a range that it begins", PORT, port(80), [(RANGE, span(port(80), port(90)))], port(79)),
    ("above a range that begins at 0", PORT, port(0), [(RANGE, span(port(0), port(90)))], port(91)),
    ("nothing is outside of everything", PORT, port(0), [(RANGE, span(port(0), port(65535)))], None),
    ("out of a prefix", ADDRESS, v4("10.1.0.9"), [(EQUAL, PREFIX)], v4("10.0.255.255")),
    ("one bit less", FLAGS, bits(7), [(MatchType.FLAGS_ALL_SET, bits(6))], bits(5)),
    ("one bit more", FLAGS, bits(0), [(MatchType.FLAGS_NONE_SET, bits(6))], bits(2)),
    ("none of them", FLAGS, bits(7), [(MatchType.FLAGS_ANY_SET, bits(6))], bits(1)),
    ("no protocol is next to another", PROTOCOL, Value(DataType.UINT8, 6), [(EQUAL, Value(DataType.UINT8, 6))], None),
    ("no text is", APP, CURL, [(EQUAL, CURL)], None),
]


@pytest.mark.parametrize("field, value, run, expected", [row[1:] for row in OUTSIDE], ids=[row[0] for row in OUTSIDE])
def test_nearest_outside(
    field: object, value: Value, run: list[tuple[MatchType, Value]], expected: Value | None
) -> None:
    close = nearest_outside(field, field_test(field, value, run, met=True))
    assert (close and close.value) == expected


def test_every_filter_has_its_fate_and_all_its_tests() -> None:
    web = Condition("IP_REMOTE_PORT", EQUAL, port(80))
    tcp = Condition("IP_PROTOCOL", EQUAL, Value(DataType.UINT8, 6))

    def rule(number: int, *conditions: Condition, action: Action = Action.BLOCK) -> Filter:
        weight = Value(DataType.UINT64, 100 - number)
        return Filter(number, f"f{number}", V4, "s", action, conditions, weight)

    filters = (rule(1, web, tcp), rule(2, action=Action.CALLOUT_INSPECTION), rule(3, tcp), rule(4))
    ordered = in_order(Policy((Sublayer("s", 1),), filters))
    indication = Indication(V4, {"IP_REMOTE_PORT": port(81), "IP_PROTOCOL": Value(DataType.UINT8, 6)})
    (told,) = account(ordered, indication, classify(ordered, indication))
    assert [asked.fate for asked in told.asked] == [Fate.MISSED, Fate.CONTINUED, Fate.DECIDED, Fate.LOST]
    assert [(test.field, test.met) for test in told.asked[0].tests] == [
        ("IP_REMOTE_PORT", False),
        ("IP_PROTOCOL", True),
    ]
    assert [test.field for test in told.asked[0].missed] == ["IP_REMOTE_PORT"]
