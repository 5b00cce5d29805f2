"""Automatic weights: the numbers that were measured on real hosts."""

from __future__ import annotations

import pytest

from layergate.engine import effective_weight
from layergate.model import (
    Action,
    AddressMask,
    Condition,
    DataType,
    Filter,
    Layer,
    MatchType,
    Range,
    Value,
    layer_named,
)
from layergate.model.values import EMPTY

CONNECT = layer_named("ALE_AUTH_CONNECT_V4")


def weigh(*conditions: Condition, weight: Value = EMPTY, layer: Layer = CONNECT) -> int:
    return effective_weight(Filter(1, "f", layer, "s", Action.PERMIT, conditions, weight))


def equal(name: str, value: Value) -> Condition:
    return Condition(name, MatchType.EQUAL, value)


APP = equal("ALE_APP_ID", Value(DataType.BYTE_BLOB, b"/usr/bin/curl"))
TCP = equal("IP_PROTOCOL", Value(DataType.UINT8, 6))
WEB = equal("IP_REMOTE_PORT", Value(DataType.UINT16, 443))


def net(address: int, mask: int) -> Condition:
    return equal("IP_REMOTE_ADDRESS", Value(DataType.V4_ADDR_MASK, AddressMask(address, mask)))


def test_an_application_filter_is_lighter_than_a_protocol_filter() -> None:
    # The two numbers of the reference: APP_ID 1<<38 (0x4000000000), PROTOCOL 7<<47 (0x3800000000000).
    assert weigh(APP) == 0x4000000000
    assert weigh(TCP) == 0x3800000000000
    assert weigh(APP) < weigh(TCP)


def test_contributions_of_fields_add_up() -> None:
    assert weigh(WEB, APP) == (7 << 39) + (1 << 38)


def test_alternatives_add_up_to_the_units_of_an_exact_match_at_most() -> None:
    # v4 /24 + 224/4 with 8 units: 6 + 1 = 7.
    assert weigh(net(0x0A000000, 0xFFFFFF00), net(0xE0000000, 0xF0000000)) == 7 << 55
    assert weigh(WEB, WEB, WEB) == weigh(WEB)


def test_v6_prefixes_of_the_reference() -> None:
    # v6 /64 + /8 with 16 units: 8 + 1 = 9.
    layer = layer_named("ALE_AUTH_CONNECT_V6")

    def prefix(bits: int) -> Condition:
        mask = ((1 << bits) - 1) << (128 - bits)
        return equal("IP_REMOTE_ADDRESS", Value(DataType.V6_ADDR_MASK, AddressMask(0xFE80 << 112, mask)))

    one = weigh(prefix(64), layer=layer)
    assert weigh(prefix(64), prefix(8), layer=layer) == one // 8 * 9


@pytest.mark.parametrize("low, high, units", [(0, 65535, 0), (1, 65535, 1), (80, 81, 7), (1024, 2047, 3), (80, 80, 7)])
def test_a_range_weighs_by_what_it_leaves_out(low: int, high: int, units: int) -> None:
    ends = Range(Value(DataType.UINT16, low), Value(DataType.UINT16, high))
    assert weigh(Condition("IP_REMOTE_PORT", MatchType.RANGE, Value(DataType.RANGE, ends))) == units << 39


def test_no_condition_weighs_nothing() -> None:
    assert weigh() == 0


def test_an_explicit_weight_is_used_as_it_is() -> None:
    assert weigh(TCP, weight=Value(DataType.UINT64, 2**64 - 1)) == 2**64 - 1
    assert weigh(TCP, weight=Value(DataType.UINT64, 0)) == 0


def test_a_range_number_is_the_high_four_bits() -> None:
    assert weigh(APP, weight=Value(DataType.UINT8, 15)) == 15 << 60 | 1 << 38
