"""Filters of a dump: their values, what can't be understood of them, and what is wrong."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from typing import Any

import pytest

from layergate.engine import effective_weight, in_order, matches_all
from layergate.model import (
    Action,
    AddressMask,
    Condition,
    DataType,
    FilterFlag,
    InputError,
    MatchType,
    Range,
    Value,
    layer_named,
)
from layergate.windows import Dump, read
from layergate.windows.filters import is_never
from tests.unit.windows import composer, example
from tests.unit.windows.composer import Row, condition, element, guid, number, v6, value

CONNECT, CONNECT_V6 = "FWPM_LAYER_ALE_AUTH_CONNECT_V4", "FWPM_LAYER_ALE_AUTH_CONNECT_V6"


def load(text: str) -> Dump:
    return read([text.encode()], "f.xml")


def error_of(text: str) -> InputError:
    with pytest.raises(InputError) as caught:
        load(text)
    assert (caught.value.place, caught.value.line is not None) == ("f.xml", True)
    return caught.value


def condition_of(data: str, name: str = "IP_REMOTE_ADDRESS", match: str = "EQUAL", layer: str = CONNECT) -> Condition:
    dump = load(composer.filters([Row(1, layer=layer, conditions=[condition(name, data, match)])]))
    assert not dump.not_understood
    return dump.policy.filters[0].conditions[0]


# --- filters ----------------------------------------------------------------------------------------------------------


def test_a_filter_is_read_with_all_that_it_has() -> None:
    dump = load(example.state())
    (boot,) = [item for item in dump.policy.filters if item.id == 66216]
    assert boot == replace(
        boot,
        name="Boot Time Filter",
        layer=layer_named("ALE_AUTH_RECV_ACCEPT_V4"),
        sublayer="FWPM_SUBLAYER_MPSSVC_WF",
        action=Action.BLOCK,
        conditions=(Condition("FLAGS", MatchType.FLAGS_NONE_SET, Value(DataType.UINT32, 1)),),
        weight=Value(DataType.UINT8, 0),
        flags=FilterFlag.BOOTTIME | FilterFlag.HAS_PROVIDER_CONTEXT,
        key=guid(66216),
        provider="FWPM_PROVIDER_MPSSVC_WF",
        context=example.ORIGIN,
        recorded_weight=1 << 35,
        marks=("FWPM_FILTER_FLAG_HAS_FILTER_ORIGIN",),
    )
    assert boot.description == "In effect before the service starts."
    assert example.state().splitlines()[boot.line - 1].endswith(f"<item><filterKey>{guid(66216)}</filterKey>")


def test_filters_are_heard_by_the_weights_that_the_dump_records() -> None:
    # The recorded weights, not the computed ones: 2 is heard first, though 1 tests more.
    rows = [Row(1, conditions=[condition("IP_PROTOCOL", number(8, 6))], recorded=1), Row(2, recorded=9)]
    dump = load(composer.filters(rows))
    ((_, filters),) = in_order(dump.policy).at(layer_named("ALE_AUTH_CONNECT_V4"))
    assert [item.id for item in filters] == [2, 1]
    assert [effective_weight(item) for item in filters] == [9, 1]


V4 = DataType.UINT32
VALUES = [
    (number(32, "192.168.1.0"), Value(V4, 0xC0A80100)),
    (number(32, 3232235776), Value(V4, 0xC0A80100)),
    (composer.net("10.0.0.0/8"), Value(DataType.V4_ADDR_MASK, AddressMask(10 << 24, 0xFF000000))),
    (
        composer.between(number(32, "0.0.0.9"), number(32, "1.0.0.0")),
        Value(DataType.RANGE, Range(Value(V4, 9), Value(V4, 1 << 24))),
    ),
    (value("EMPTY"), Value(DataType.EMPTY, None)),
]


@pytest.mark.parametrize("data, expected", VALUES)
def test_ipv4_addresses_are_numbers_however_they_are_printed(data: str, expected: Value) -> None:
    match = "RANGE" if expected.type is DataType.RANGE else "EQUAL"
    assert condition_of(data, match=match).value == expected


@pytest.mark.parametrize(
    "data, expected",
    [
        (v6("fe80::1"), Value(DataType.BYTE_ARRAY16, bytes.fromhex("fe80" + "00" * 13 + "01"))),
        (v6("fe80::1%12"), Value(DataType.BYTE_ARRAY16, bytes.fromhex("fe80" + "00" * 13 + "01"))),
        (
            composer.net("fe80::/10"),
            Value(DataType.V6_ADDR_MASK, AddressMask(0xFE80 << 112, ((1 << 10) - 1) << 118)),
        ),
    ],
)
def test_ipv6_addresses_are_bytes_without_their_zone(data: str, expected: Value) -> None:
    assert condition_of(data, layer=CONNECT_V6).value == expected


def test_texts_stay_texts_and_paths_stay_bytes() -> None:
    assert condition_of(composer.sddl("O:SYD:(A;;CC;;;WD)"), "ALE_USER_ID").value.data == "O:SYD:(A;;CC;;;WD)"
    assert condition_of(composer.sid("S-1-0-0"), "ALE_PACKAGE_ID", "NOT_EQUAL").value.data == "S-1-0-0"
    app = condition_of(composer.app(example.SVCHOST), "ALE_APP_ID").value
    assert app == Value(DataType.BYTE_BLOB, f"{example.SVCHOST}\0".encode("utf-16-le"))


def test_conditions_on_one_field_keep_their_order_and_stand_apart_with_a_doubt() -> None:
    tests = [
        condition("IP_REMOTE_PORT", number(16, 1)),
        condition("IP_PROTOCOL", number(8, 6)),
        condition("IP_REMOTE_PORT", number(16, 2)),
    ]
    dump = load(composer.filters([Row(1, conditions=tests)]))
    assert [one.field for one in dump.policy.filters[0].conditions] == [
        "IP_REMOTE_PORT",
        "IP_PROTOCOL",
        "IP_REMOTE_PORT",
    ]
    assert dump.doubts[0].found == "conditions on one field that stand apart"


# --- what can't be understood -----------------------------------------------------------------------------------------

UNKNOWN_KEY = "{3ad3c9d8-0000-4000-8000-00000000abcd}"
TCP = condition("IP_PROTOCOL", number(8, 6))
NOT_UNDERSTOOD = [
    (
        "a field that nobody knows",
        {"conditions": [TCP, condition(UNKNOWN_KEY, number(8, 1))]},
        f"no field {UNKNOWN_KEY}",
    ),
    ("a name that nobody knows", {"conditions": [condition("NOVELTY", number(8, 1))]}, "has no field NOVELTY"),
    (
        "a field of another layer",
        {"conditions": [condition("INTERFACE_MAC_ADDRESS", number(8, 1))]},
        "ALE_AUTH_CONNECT_V4 has no field INTERFACE_MAC_ADDRESS",
    ),
    (
        "an unknown match",
        {"conditions": [condition("IP_PROTOCOL", number(8, 6), "ALMOST")]},
        "match type 'FWP_MATCH_ALM",
    ),
    (
        "an unknown type",
        {"conditions": [condition("IP_PROTOCOL", value("UINT128", "<uint128>1</uint128>"))]},
        "a value of type 'FWP_UINT128'",
    ),
    ("a type that is no value", {"conditions": [condition("IP_PROTOCOL", value("FLOAT", "<f>1</f>"))]}, "FWP_FLOAT"),
    ("the wrong type", {"conditions": [condition("IP_PROTOCOL", number(16, 6))]}, "FWP_E_TYPE_MISMATCH"),
    ("the wrong match", {"conditions": [condition("ALE_PACKAGE_ID", composer.sid("S-1-1"), "GREATER")]}, "FWP_E_MATCH"),
    (
        "a range upside down",
        {"conditions": [condition("IP_REMOTE_PORT", composer.between(number(16, 9), number(16, 1)), "RANGE")]},
        "FWP_E_INVALID_RANGE",
    ),
    (
        "a range of ranges",
        {
            "conditions": [
                condition(
                    "IP_REMOTE_PORT",
                    composer.between(*[composer.between(number(16, 1), number(16, 9))] * 2),
                    "RANGE",
                )
            ]
        },
        "a range of ranges",
    ),
    (
        "a condition of more parts",
        {"conditions": [TCP.replace("</item>", "<unless>1</unless></item>")]},
        "a condition of more parts",
    ),
    ("an unknown action", {"action": "FWP_ACTION_BITMAP_INDEX_SET"}, "the action 'FWP_ACTION_BITMAP_INDEX_SET'"),
    ("a callout without key", {"action": "FWP_ACTION_CALLOUT_UNKNOWN"}, "doesn't say which"),
]


@pytest.mark.parametrize("_, row, reason", NOT_UNDERSTOOD, ids=[case[0] for case in NOT_UNDERSTOOD])
def test_a_filter_that_is_not_understood_is_kept_named_and_never_matches(
    _: str, row: dict[str, Any], reason: str
) -> None:
    dump = load(composer.filters([Row(7, "odd", **row), Row(8)]))
    odd = dump.policy.filters[0]
    assert (odd.id, odd.name) == (7, "odd")
    assert reason in dump.not_understood[7]
    assert any(reason in problem.found and problem.line for problem in dump.unknown)
    assert any(map(is_never, odd.conditions))
    everything = {
        field.name: Value(DataType.UNICODE_STRING, str(condition.value.data))
        for field in odd.layer.fields
        for condition in odd.conditions
    }
    for values in (everything, {}, {"IP_PROTOCOL": Value(DataType.UINT8, 6), UNKNOWN_KEY: Value(DataType.UINT8, 1)}):
        assert not matches_all(values, odd.conditions)
    assert 8 not in dump.not_understood


def test_an_alternative_that_is_not_understood_leaves_the_others() -> None:
    tests = [TCP, condition("IP_PROTOCOL", number(8, 17), "ALMOST")]
    dump = load(composer.filters([Row(7, conditions=tests)]))
    conditions = dump.policy.filters[0].conditions
    assert matches_all({"IP_PROTOCOL": Value(DataType.UINT8, 6)}, conditions)
    assert not matches_all({"IP_PROTOCOL": Value(DataType.UINT8, 17)}, conditions)
    assert 7 in dump.not_understood


def test_unknown_flags_are_kept_and_known_bits_are_flags() -> None:
    flags = ["PERSISTENT", "00000040", "00001040", "NOVELTY"]
    dump = load(composer.filters([Row(1, flags=flags)]))
    item = dump.policy.filters[0]
    assert item.flags == FilterFlag.PERSISTENT | FilterFlag.INDEXED
    assert item.marks == ("00001000", "FWPM_FILTER_FLAG_NOVELTY")
    assert [problem.found for problem in dump.unknown] == [
        "the flag '00001000' of a filter",
        "the flag 'FWPM_FILTER_FLAG_NOVELTY' of a filter",
    ]


def test_elements_that_nobody_knows_change_nothing_and_are_told() -> None:
    dump = load(composer.filters([Row(1, changes={"novelty": element("novelty", "7")})]))
    assert dump.unknown[0].found == "the element <novelty> of a filter"
    assert not dump.not_understood


def test_a_weight_of_another_type_leaves_the_recorded_one() -> None:
    dump = load(composer.filters([Row(1, weight=number(32, 5), recorded=77)]))
    assert effective_weight(dump.policy.filters[0]) == 77
    assert dump.unknown[0].found == "a weight of type FWP_UINT32"


# --- what is wrong ----------------------------------------------------------------------------------------------------

ONE = {"conditions": [TCP]}
WRONG: list[tuple[str, Callable[[str], str], str]] = [
    (
        "an id twice",
        lambda text: text.replace("<filterId>2</filterId>", "<filterId>1</filterId>"),
        "filter 1 a second time",
    ),
    ("a key twice", lambda text: text.replace(guid(2), guid(1)), f"filter 2: the key {guid(1)} a second time"),
    ("filter 0", lambda text: text.replace("<filterId>1</filterId>", "<filterId>0</filterId>"), "filterId 0"),
    ("no id", lambda text: text.replace("<filterId>1</filterId>", ""), "a filter without <filterId>"),
    ("a name for an id", lambda text: text.replace("<filterId>1</filterId>", "<filterId>x</filterId>"), "filterId 'x'"),
    ("an id of 65 bits", lambda text: text.replace("<filterId>1<", f"<filterId>{1 << 64}<"), "a number of 64 bits"),
    ("another script's digits", lambda text: text.replace("<filterId>1<", "<filterId>١<"), "a number of 64 bits"),
    (
        "an id twice in one",
        lambda text: text.replace("<filterId>1<", "<filterId>9</filterId><filterId>1<"),
        "second time in one",
    ),
    ("no key", lambda text: text.replace(f"<filterKey>{guid(1)}</filterKey>", ""), "filter 1 without <filterKey>"),
    ("no layer", lambda text: text.replace(f"<layerKey>{CONNECT}</layerKey>", "<layerKey/>", 1), "without <layerKey>"),
    ("no sublayer", lambda text: text.replace("subLayerKey>", "subLayer>", 2), "without <subLayerKey>"),
    (
        "no action",
        lambda text: text.replace("<type>FWP_ACTION_PERMIT</type>", "", 1),
        "without <action> and its <type>",
    ),
    ("no field", lambda text: text.replace("fieldKey>", "field>"), "filter 1: a condition without <fieldKey>"),
    ("no match", lambda text: text.replace("matchType>", "match>"), "filter 1: a condition without <matchType>"),
    ("no value", lambda text: text.replace("conditionValue>", "valueOf>"), "filter 1: a condition without value"),
    (
        "no type",
        lambda text: text.replace("<type>FWP_UINT8</type>", ""),
        "filter 1: IP_PROTOCOL: a value without <type>",
    ),
    ("no data", lambda text: text.replace("<uint8>6</uint8>", ""), "a value of type FWP_UINT8 without <uint8>"),
    (
        "9 bits in 8",
        lambda text: text.replace("<uint8>6<", "<uint8>256<"),
        "IP_PROTOCOL: UINT8 = '256'; a number of 8 bits",
    ),
    ("a sign", lambda text: text.replace("<uint8>6<", "<uint8>-6<"), "UINT8 = '-6'"),
    ("many digits", lambda text: text.replace("<uint8>6<", f"<uint8>{'6' * 5000}<"), "UINT8 = '666"),
    ("no number", lambda text: text.replace("<uint8>6<", "<uint8>six<"), "UINT8 = 'six'"),
    (
        "a weight beside its type",
        lambda text: text.replace("<uint64>0</uint64>", "<uint8>0</uint8>", 1),
        "without <uint64>",
    ),
    ("a list for a number", lambda text: text.replace("<uint8>6<", "<uint8><item>6</item><"), "UINT8 = 'nothing'"),
]


@pytest.mark.parametrize("_, change, message", WRONG, ids=[case[0] for case in WRONG])
def test_what_is_wrong_is_an_error_with_its_place(_: str, change: Callable[[str], str], message: str) -> None:
    text = composer.filters([Row(1, **ONE), Row(2)])
    assert change(text) != text
    assert message in str(error_of(change(text)))


WRONG_VALUES = [
    (number(32, "300.1.1.1"), "UINT32 = '300.1.1.1'; a number of 32 bits, or an IPv4 address"),
    (composer.net("10.0.0.0/8").replace("255.0.0.0", "wide"), "V4_ADDR_MASK"),
    (composer.between(number(32, 1), number(16, 2)), "a range from UINT32 to UINT16; two ends of one type"),
    (value("RANGE_TYPE", "<rangeValue><valueLow/></rangeValue>"), "a range without its ends"),
    (value("BYTE_BLOB_TYPE", "<byteBlob><data>5c0</data></byteBlob>"), "two hexadecimal digits a byte"),
    (value("BYTE_BLOB_TYPE", "<byteBlob><data>zz</data></byteBlob>"), "two hexadecimal digits a byte"),
    (value("BYTE_BLOB_TYPE", "<byteBlob><asString>x</asString></byteBlob>"), "two hexadecimal digits a byte"),
    (value("BYTE_BLOB_TYPE", "<byteBlob>5c00</byteBlob>"), "two hexadecimal digits a byte"),
    (v6("fe80::1::2"), "an IPv6 address or a GUID"),
    (v6("192.0.2.1"), "an IPv6 address or a GUID"),
    (composer.net("fe80::/10").replace(">10<", ">129<"), "prefixLength"),
    (value("SID", "<sid/>"), "SID = 'nothing'"),
    (value("BYTE_ARRAY6_TYPE", "<byteArray6>0102</byteArray6>"), "six bytes"),
]


@pytest.mark.parametrize("data, message", WRONG_VALUES)
def test_data_that_its_type_cannot_hold_is_an_error(data: str, message: str) -> None:
    text = composer.filters([Row(5, conditions=[condition("IP_REMOTE_ADDRESS", data)])])
    assert message in str(error_of(text))
    assert "filter 5: IP_REMOTE_ADDRESS" in str(error_of(text))
