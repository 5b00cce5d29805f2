"""What a dump becomes: filters, sublayers, layers, and everything that nobody knows."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from typing import Any

import pytest

from layergate.engine import effective_weight, in_order, matches_all
from layergate.model import (
    LAYERS,
    Action,
    AddressMask,
    CalloutFlag,
    Condition,
    DataType,
    Family,
    FilterFlag,
    InputError,
    MatchType,
    Range,
    Value,
    layer_named,
)
from layergate.model.catalogue_data import CONDITION_GUIDS
from layergate.windows import Dump, Kind, read
from layergate.windows.filters import is_never
from layergate.windows.values import path_text
from tests.unit.windows import composer, example
from tests.unit.windows.composer import Row, condition, element, guid, number, sublayer, v6, value

CONNECT, CONNECT_V6 = "FWPM_LAYER_ALE_AUTH_CONNECT_V4", "FWPM_LAYER_ALE_AUTH_CONNECT_V6"
HARBOR = example.HARBOR


def load(text: str, state: Dump | None = None) -> Dump:
    return read([text.encode()], "f.xml", state)


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


def test_a_state_is_read_with_all_that_lies_around() -> None:
    dump = load(example.state())
    policy = dump.policy
    assert (dump.kind, dump.time) == (Kind.STATE, "2026-04-01T10:01:00.000Z")
    assert [(one.key, one.name, one.service) for one in policy.providers][2] == (
        *(example.HARBOR_PROVIDER, "Harbor VPN"),
        "HarborService",
    )
    (context,) = policy.contexts
    assert (context.text, context.type, context.persistent) == ("Boottime Default", "FWPM_GENERAL_CONTEXT", True)
    (callout,) = policy.callouts
    assert (callout.name, callout.id, callout.flags) == ("Shield stream callout", 301, CalloutFlag.REGISTERED)
    assert (dump.sessions[0].user, dump.sessions[0].process, dump.sessions[0].kernel_mode) == ("S-1-5-19", 1404, False)
    first = dump.connections[0]
    assert (first.local.data, first.local_port, first.remote_port) == (0xC000020A, 49801, 51820)
    assert path_text(first.app) == example.HARBOR_APP
    assert (dump.unknown, dump.doubts, dict(dump.not_understood)) == ((), (), {})


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


@pytest.mark.parametrize(
    "change, message",
    [
        (("<weight>3<", "<weight>65536<"), "sublayer FWPM_SUBLAYER_MPSSVC_WSH: weight '65536'; a number of 16 bits"),
        (("<weight>3<", "<weight><"), "sublayer FWPM_SUBLAYER_MPSSVC_WSH: weight ''"),
        (
            (">FWPM_SUBLAYER_UNIVERSAL</subLayerKey>", f">{HARBOR}</subLayerKey>"),
            f"the sublayer {HARBOR} a second time",
        ),
        (
            ("<providerKey>FWPM_PROVIDER_MPSSVC_WSH</providerKey>\n<disp", "<providerKey/><disp"),
            "without <providerKey>",
        ),
        (("<calloutId>301<", "<calloutId>-1<"), "calloutId '-1'; a number of 32 bits"),
        (("<layerId>44<", "<layerId>48<"), "layer id 48 of ALE_AUTH_CONNECT_V4, which ALE_AUTH_RECV_ACCEPT_V4 has"),
        (("<layerId>44<", "<layerId>70000<"), "layerId '70000'; a number of 16 bits"),
        (("<layerKey>FWPM_LAYER_STREAM_V4<", f"<layerKey>{CONNECT}<"), "the layer ALE_AUTH_CONNECT_V4 a second time"),
        (
            ("<fieldKey>FWPM_CONDITION_ALE_USER_ID<", "<fieldKey>FWPM_CONDITION_ALE_APP_ID<"),
            "ALE_APP_ID' a second time",
        ),
        (("FWP_IP_VERSION_V4", "FWP_IP_VERSION_V5"), "connection 101: ipVersion 'FWP_IP_VERSION_V5'"),
        (("<localV4Address>192.0.2.10<", "<localV4Address>192.0.2<"), "localV4Address '192.0.2'; an IP address"),
        (("<localPort>49801<", "<localPort>77777<"), "connection 101: localPort '77777'; a number of 16 bits"),
        (("<data>42006f00", "<data>42006f0"), "two hexadecimal digits a byte"),
    ],
)
def test_wrong_objects_are_errors_with_their_place(change: tuple[str, str], message: str) -> None:
    text = example.state()
    assert change[0] in text
    assert message in str(error_of(text.replace(*change, 1)))


# --- layers -----------------------------------------------------------------------------------------------------------


def test_a_layer_that_is_the_catalogues_is_the_catalogues() -> None:
    for layer in load(example.state()).layers:
        assert layer is layer_named(layer.name)


def test_a_layer_of_another_build_has_that_builds_id_and_fields() -> None:
    fields = [("IP_PROTOCOL", "UINT8", "RAW_DATA"), ("IP_REMOTE_ADDRESS", "UINT32", "IP_ADDRESS")]
    row = Row(1, conditions=[TCP, condition("IP_REMOTE_PORT", number(16, 1))])
    dump = load(composer.state([row], layers=[composer.layer(CONNECT, number=7, fields=fields, filters=[row.xml()])]))
    (layer,) = dump.layers
    assert (layer.id, layer.short, layer.family) == (7, "ALE_AUTH_CONNECT_V4", Family.V4)
    assert [field.name for field in layer.fields] == ["IP_PROTOCOL", "IP_REMOTE_ADDRESS"]
    assert layer.purpose == layer_named(CONNECT).purpose
    assert dump.policy.filters[0].layer is layer
    assert dump.not_understood[1] == "ALE_AUTH_CONNECT_V4 has no field IP_REMOTE_PORT"


def test_a_layer_that_nobody_knows_is_made_of_what_the_dump_says() -> None:
    row = Row(1, layer=UNKNOWN_KEY, conditions=[TCP])
    fields = [("IP_PROTOCOL", "UINT8", "RAW_DATA"), (UNKNOWN_KEY, "UINT128", "RAW_DATA")]
    dump = load(
        composer.state([row], layers=[composer.layer(UNKNOWN_KEY, number=200, fields=fields, filters=[row.xml()])])
    )
    assert (dump.layers[0].name, dump.layers[0].id) == (UNKNOWN_KEY, 200)
    assert not dump.not_understood
    assert [problem.found for problem in dump.unknown] == [
        f"the layer '{UNKNOWN_KEY}'",
        f"the type 'FWP_UINT128' of field {UNKNOWN_KEY}",
    ]


def test_a_filter_at_a_layer_that_nobody_lists_is_kept_apart() -> None:
    dump = load(composer.filters([Row(1, layer=UNKNOWN_KEY, conditions=[TCP]), Row(2)]))
    assert dump.policy.filters[0].layer.id >= 1 << 16
    assert len(dump.layers) == len(LAYERS) + 1
    assert 1 in dump.not_understood
    assert 2 not in dump.not_understood


def test_guids_are_known_by_their_names_in_upper_or_lower_case() -> None:
    layer = layer_named(CONNECT)
    row = Row(
        1,
        layer=f"{{{layer.guid.upper()}}}",
        sublayer="{b3cdd441-af90-41ba-a745-7c6008ff2301}",
        provider="{decc16ca-3f33-4346-be1e-8fb4ae0f3d62}",
        conditions=[
            condition(f"{{{CONDITION_GUIDS['IP_PROTOCOL']}}}", number(8, 6)),
            condition(f"{{{CONDITION_GUIDS['INTERFACE_TYPE']}}}", number(32, 6)),
            condition("ICMP_CODE", number(16, 6)),
        ],
    )
    dump = load(composer.filters([row]))
    item = dump.policy.filters[0]
    assert (item.layer, item.sublayer, item.provider) == (
        *(layer, "FWPM_SUBLAYER_MPSSVC_WF"),
        "FWPM_PROVIDER_MPSSVC_WF",
    )
    assert [one.field for one in item.conditions] == ["IP_PROTOCOL", "INTERFACE_TYPE", "IP_REMOTE_PORT"]
    assert not dump.not_understood


def test_flags_of_callouts_that_a_build_has_no_names_for_are_their_bits() -> None:
    flags = ("REGISTERED", "00000300", "80000000")
    dump = load(composer.state(callouts=[(CONNECT, composer.callout(guid(9), CONNECT, 9, flags=flags))]))
    assert dump.policy.callouts[0].flags == CalloutFlag.REGISTERED | CalloutFlag.ALLOW_USO | CalloutFlag.ALLOW_URO
    assert dump.unknown[0].found == "the flag '80000000' of a callout"


# --- sublayers --------------------------------------------------------------------------------------------------------


def names_of(*sublayers: str) -> list[str]:
    dump = load(composer.state(sublayers=sublayers))
    assert len({one.name for one in dump.policy.sublayers}) == len(dump.policy.sublayers)
    return [one.name for one in dump.policy.sublayers]


def test_the_platforms_sublayers_keep_their_names() -> None:
    assert names_of(sublayer("FWPM_SUBLAYER_MPSSVC_WF", 2, "Sous-couche")) == ["FWPM_SUBLAYER_MPSSVC_WF"]
    assert names_of(sublayer("{eebecc03-ced4-4380-819a-2734397b2b74}", 2)) == ["FWPM_SUBLAYER_UNIVERSAL"]


def test_every_sublayer_has_a_name_of_its_own() -> None:
    one, two = guid(1), guid(2)
    assert names_of(sublayer(one, 1, "A"), sublayer(two, 2, "B")) == ["A", "B"]
    assert names_of(sublayer(one, 1, "A"), sublayer(two, 2, "A")) == [f"A {one}", f"A {two}"]
    assert names_of(sublayer(one, 1, "A"), sublayer(two, 2, "A"), sublayer(guid(3), 2, f"A {two}"))[1] == f"A {two}"
    assert names_of(sublayer(one, 1, "FWPM_SUBLAYER_X")) == [f"FWPM_SUBLAYER_X {one}"]
    assert names_of(sublayer(one, 1, two), sublayer(two, 2, " ")) == [f"{two} {one}", two]


def test_without_a_state_the_platforms_weights_are_known_and_others_are_a_doubt() -> None:
    dump = load(composer.filters(example.ROWS))
    weights = {one.key: one.weight for one in dump.policy.sublayers}
    assert weights == {HARBOR: 0xFFFF, "FWPM_SUBLAYER_MPSSVC_WSH": 3, "FWPM_SUBLAYER_MPSSVC_WF": 2}
    assert dump.assumed_sublayers == {HARBOR}
    (problem,) = dump.doubts
    assert problem.found == f"the weight of sublayer {HARBOR} is unknown"
    assert problem.line == next(item.line for item in dump.policy.filters if item.sublayer == HARBOR)


def test_a_state_beside_gives_what_the_filters_lack() -> None:
    state = load(example.state())
    dump = load(composer.filters(example.ROWS), state)
    assert dump.policy.sublayers == state.policy.sublayers
    assert dump.policy.callouts == state.policy.callouts
    assert dump.policy.contexts == state.policy.contexts
    assert (dump.layers, dump.assumed_sublayers, dump.doubts) == (state.layers, frozenset(), ())
    assert (dump.kind, dump.state) == (Kind.FILTERS, "f.xml")


def test_a_sublayer_that_the_state_assumes_is_assumed_here_too() -> None:
    dump = load(composer.filters(example.ROWS), load(composer.filters(example.ROWS)))
    assert dump.assumed_sublayers == {HARBOR}


def test_a_state_of_another_machine_is_a_doubt() -> None:
    other = load(composer.state([Row(900 + count) for count in range(9)]))
    doubts = load(composer.filters(example.ROWS), other).doubts
    assert "only 0 of 10 filters are in f.xml" in [problem.found for problem in doubts]


# --- kinds ------------------------------------------------------------------------------------------------------------


def test_the_kind_of_a_file_is_told_by_what_is_in_it() -> None:
    assert load(composer.filters(example.ROWS)).kind is Kind.FILTERS
    assert load(composer.filters()).kind is Kind.FILTERS
    assert load(composer.net_events(example.EVENTS)).kind is Kind.EVENTS
    wrapped = composer.DECLARATION + element("wfpdiag", composer.items("netEvents", example.EVENTS))
    assert load(wrapped).kind is Kind.EVENTS
    recording = load(composer.recording(example.ROWS, [composer.event(70003, 48, tag="netEvent")]))
    assert recording.kind is Kind.RECORDING
    assert len(recording.policy.filters) == len(example.ROWS)
    assert len(recording.events) == 1


def test_changes_while_a_recording_ran_are_a_doubt() -> None:
    change = element("filterChange", element("filter", "1"))
    dump = load(composer.recording(example.ROWS, [change, change], sublayers=[sublayer(HARBOR, 1)]))
    assert dump.doubts[0].found == "2 changes of filters while the recording ran"
