"""The JSON form of values, indications and verdicts."""

from __future__ import annotations

import json

import pytest

from layergate.engine import classify, in_order
from layergate.model import (
    Action,
    Condition,
    DataType,
    Filter,
    Indication,
    InputError,
    Layer,
    MatchType,
    Policy,
    Process,
    Sublayer,
    Value,
    layer_named,
)
from layergate.model.lines import (
    endpoint_text,
    indication_from_line,
    indication_line,
    normalized,
    value_from_json,
    value_to_json,
    verdict_line,
)

V4 = layer_named("ALE_AUTH_CONNECT_V4")
V6 = layer_named("ALE_AUTH_CONNECT_V6")

ROUND_TRIPS = [
    ("an IPv4 address is text", V4, "IP_REMOTE_ADDRESS", Value(DataType.UINT32, 0x0A090002), "10.9.0.2"),
    ("an IPv6 address is text", V6, "IP_REMOTE_ADDRESS", Value(DataType.BYTE_ARRAY16, bytes(15) + b"\x01"), "::1"),
    ("a port is a number", V4, "IP_REMOTE_PORT", Value(DataType.UINT16, 8080), 8080),
    ("an application is its path", V4, "ALE_APP_ID", Value(DataType.BYTE_BLOB, "/usr/bin/é".encode()), "/usr/bin/é"),
    ("a path need not be UTF-8", V4, "ALE_APP_ID", Value(DataType.BYTE_BLOB, b"/x\xff"), "/x\udcff"),
    ("a token is the user id", V4, "ALE_USER_ID", Value(DataType.TOKEN_ACCESS_INFORMATION, 1000), 1000),
    ("a unit is text", V4, "ALE_PACKAGE_ID", Value(DataType.SID, "nginx.service"), "nginx.service"),
    ("other bytes are hexadecimal", V4, "PEER_NAME", Value(DataType.BYTE_BLOB, b"\x00\xff"), "0x00ff"),
    (
        "a MAC address is text",
        layer_named("INBOUND_MAC_FRAME_ETHERNET"),
        "MAC_LOCAL_ADDRESS",
        Value(DataType.BYTE_ARRAY6, bytes(range(6))),
        "00:01:02:03:04:05",
    ),
    ("an unknown value is null", V4, "IP_LOCAL_PORT", None, None),
]


@pytest.mark.parametrize(
    "layer, name, value, data", [row[1:] for row in ROUND_TRIPS], ids=[row[0] for row in ROUND_TRIPS]
)
def test_values_go_out_and_come_back(layer: Layer, name: str, value: Value | None, data: object) -> None:
    field = layer.field(name)
    assert value_to_json(field, value) == data
    assert value_from_json(field, json.loads(json.dumps(data))) == value


@pytest.mark.parametrize(
    "name, data, accepted",
    [
        ("IP_REMOTE_PORT", "80", "a number, 0 to 65535"),
        ("IP_REMOTE_PORT", 65536, "a number, 0 to 65535"),
        ("IP_REMOTE_PORT", True, "a number, 0 to 65535"),
        ("IP_REMOTE_PORT", 80.0, "a number, 0 to 65535"),
        ("IP_REMOTE_ADDRESS", "::1", "an IPv4 address"),
        ("IP_REMOTE_ADDRESS", 1, "an IPv4 address"),
        ("IP_REMOTE_ADDRESS", "10.0.0.256", "an IPv4 address"),
        ("ALE_APP_ID", 7, "an absolute path"),
        ("ALE_USER_ID", "root", "a user id"),
        ("ALE_USER_ID", -1, "a user id"),
        ("PEER_NAME", "0xzz", "bytes as text"),
        ("FLAGS", [], "a number"),
    ],
)
def test_a_value_of_the_wrong_type_is_refused_by_name(name: str, data: object, accepted: str) -> None:
    with pytest.raises(InputError) as raised:
        value_from_json(V4.field(name), data)
    assert name in raised.value.found
    assert accepted in raised.value.accepted


def line_of(**changes: object) -> dict[str, object]:
    line = {"kind": "indication", "layer": V4.name, "values": {"IP_REMOTE_PORT": 80, "FLAGS": None}}
    return {**line, **changes}


def test_an_indication_line_has_the_documented_keys_in_order() -> None:
    indication = Indication(
        V4,
        {"IP_REMOTE_PORT": Value(DataType.UINT16, 8080), "IP_PROTOCOL": Value(DataType.UINT8, 6)},
        time=0.5,
        host="client",
        event="connect",
        flow=1,
        local="10.9.0.1:40924",
        remote="10.9.0.2:8080",
        process=Process(812, "/usr/bin/curl", 0, None),
    )
    line = indication_line(
        indication,
        action=Action.PERMIT,
        filter_id=0,
        filter_name=None,
        sublayer=None,
        version=1,
        fields=("ALE_APP_ID", "IP_PROTOCOL"),
    )
    assert list(line) == [
        "kind",
        "time",
        "host",
        "event",
        "layer",
        "flow",
        "protocol",
        "local",
        "remote",
        "process",
        "action",
        "filter",
        "filter_name",
        "sublayer",
        "reauthorize",
        "version",
        "values",
    ]
    assert line["filter"] is None
    assert line["process"] == {"pid": 812, "app": "/usr/bin/curl", "user": 0, "unit": None}
    # In the layer's order of fields; what the source gives and doesn't know is null.
    assert list(line["values"].items()) == [("ALE_APP_ID", None), ("IP_PROTOCOL", 6), ("IP_REMOTE_PORT", 8080)]
    assert indication_from_line(json.loads(json.dumps(line))) == indication


def test_unknown_keys_of_a_line_are_left_alone_and_null_is_empty() -> None:
    indication = indication_from_line(line_of(colour="red", flow=None))
    assert indication.values == {"IP_REMOTE_PORT": Value(DataType.UINT16, 80)}


@pytest.mark.parametrize(
    "changes, found",
    [
        ({"kind": "verdict"}, "kind 'verdict'"),
        ({"layer": "ALE_AUTH_CONNECT"}, "unknown layer 'ALE_AUTH_CONNECT'"),
        ({"layer": 48}, "unknown layer 48"),
        ({"values": None}, "values None"),
        ({"values": {"COLOUR": 1}}, "ALE_AUTH_CONNECT_V4 has no field 'COLOUR'"),
        ({"values": {"IP_REMOTE_PORT": "x"}}, "IP_REMOTE_PORT = 'x'"),
        ({"flow": "one"}, "flow 'one'"),
        ({"time": "now"}, "time 'now'"),
        ({"process": []}, "process []"),
        ({"reauthorize": 1}, "reauthorize 1"),
    ],
)
def test_a_bad_line_is_refused_with_its_place(changes: object, found: str) -> None:
    with pytest.raises(InputError) as raised:
        indication_from_line(line_of(**changes), "trace.jsonl", 7)
    assert (raised.value.place, raised.value.line, raised.value.found) == ("trace.jsonl", 7, found)


def test_endpoints() -> None:
    assert endpoint_text("10.0.0.1", 80) == "10.0.0.1:80"
    assert endpoint_text(0x0A000001, 80) == "10.0.0.1:80"
    assert endpoint_text("::1", 80) == "[::1]:80"
    assert endpoint_text(bytes(15) + b"\x01", 80) == "[::1]:80"
    assert endpoint_text("::ffff:10.0.0.1", 80) == "10.0.0.1:80"


MAPPED = Value(DataType.BYTE_ARRAY16, bytes(10) + b"\xff\xff\x0a\x00\x00\x01")


def test_a_v4_mapped_address_is_classified_at_the_v4_layer() -> None:
    seen = normalized(
        Indication(
            V6,
            {"IP_REMOTE_ADDRESS": MAPPED, "IP_LOCAL_ADDRESS": Value(DataType.BYTE_ARRAY16, bytes(16))},
            local="[::]:80",
            remote="[::ffff:10.0.0.1]:81",
        )
    )
    assert seen.layer is V4
    assert seen.values == {
        "IP_REMOTE_ADDRESS": Value(DataType.UINT32, 0x0A000001),
        "IP_LOCAL_ADDRESS": Value(DataType.UINT32, 0),
    }
    assert (seen.local, seen.remote) == ("0.0.0.0:80", "10.0.0.1:81")


@pytest.mark.parametrize(
    "values",
    [
        {},
        {"IP_REMOTE_ADDRESS": Value(DataType.BYTE_ARRAY16, bytes(16))},
        {"IP_REMOTE_ADDRESS": MAPPED, "IP_LOCAL_ADDRESS": Value(DataType.BYTE_ARRAY16, b"\xfe\x80" + bytes(14))},
    ],
)
def test_what_is_ipv6_stays_ipv6(values: dict[str, Value]) -> None:
    indication = Indication(V6, values)
    assert normalized(indication) is indication


def test_a_verdict_line_tells_who_matched_who_decided_and_who_lost() -> None:
    def rule(
        number: int, name: str, sublayer: object, action: Action, conditions: tuple[Condition, ...] = ()
    ) -> Filter:
        return Filter(number, name, V4, sublayer, action, conditions)

    web = (Condition("IP_REMOTE_PORT", MatchType.EQUAL, Value(DataType.UINT16, 80)),)
    policy = Policy(
        (Sublayer("high", 9), Sublayer("low", 1), Sublayer("other", 0)),
        (
            rule(1, "soft", "high", Action.PERMIT, web),
            rule(2, "unheard", "high", Action.BLOCK),
            rule(3, "stop", "low", Action.BLOCK),
            rule(
                4,
                "quiet",
                "other",
                Action.BLOCK,
                (Condition("FLAGS", MatchType.EQUAL, Value(DataType.UINT32, 1)),),
            ),
        ),
        version=3,
    )
    line = verdict_line(classify(in_order(policy), Indication(V4, {"IP_REMOTE_PORT": Value(DataType.UINT16, 80)})), V4)
    assert list(line) == [
        "kind",
        "layer",
        "action",
        "filter",
        "filter_name",
        "sublayer",
        "hard",
        "version",
        "sublayers",
        "veto",
    ]
    assert (line["action"], line["filter"], line["filter_name"], line["sublayer"]) == ("block", 3, "stop", "low")
    assert (line["hard"], line["version"], line["layer"]) == (True, 3, V4.name)
    high, low, other = line["sublayers"]
    assert list(high) == [
        "sublayer",
        "weight",
        "action",
        "filter",
        "filter_name",
        "matched",
        "lost",
        "continued",
        "limits",
        "effect",
    ]
    assert [one["filter"] for one in high["matched"]] == [1, 2]
    assert list(high["matched"][0]) == ["filter", "filter_name", "action", "hard", "weight"]
    assert [(one["filter"], one["why"]) for one in high["lost"]] == [
        (1, "soft permit, overridden below"),
        (2, "'soft' above it had ended the sublayer"),
    ]
    assert (low["filter"], low["lost"]) == (3, [])
    assert (other["action"], other["filter"], other["matched"]) == (None, None, [])
    assert json.loads(json.dumps(line)) == line
