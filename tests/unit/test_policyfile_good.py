"""What a policy file says: names, values, families, ids."""

from __future__ import annotations

import errno
import json
from pathlib import Path

import pytest

from layergate.model import (
    LAYERS,
    Action,
    AddressMask,
    Condition,
    DataType,
    Filter,
    FilterFlag,
    InputError,
    MatchType,
    Range,
    Sublayer,
    Value,
    layer_named,
)
from layergate.model.values import EMPTY
from layergate.policyfile import (
    FIELD_NAMES,
    Loaded,
    TableResolver,
    compose,
    load_file,
    load_text,
    schema,
    value_from_text,
)

RESOLVER = TableResolver(
    users={"alice": 1000},
    services={"https": 443, "http-alt": 8080},
    protocols={"ospf": 89},
    interfaces={"eth0": 2},
    missing=frozenset({"/nowhere/../x"}),
)
M = MatchType


def load(text: str | bytes, file: str = "p.toml") -> Loaded:
    return load_text(text, file=file, resolver=RESOLVER)


def filters(when: str, layer: object = "ALE_AUTH_CONNECT", more: str = "") -> tuple[Filter, ...]:
    names = json.dumps(layer)
    return load(f'[[filter]]\nname = "f"\nlayer = {names}\naction = "block"\n{more}\nwhen = {when}\n').policy.filters


def asked_of(when: str, layer: object = "ALE_AUTH_CONNECT_V4") -> list[tuple[MatchType, Value]]:
    (item,) = filters(when, layer)
    return [(one.match, one.value) for one in item.conditions]


def u16(number: int) -> Value:
    return Value(DataType.UINT16, number)


def u32(number: int) -> Value:
    return Value(DataType.UINT32, number)


def span(low: Value, high: Value) -> tuple[MatchType, Value]:
    return (M.RANGE, Value(DataType.RANGE, Range(low, high)))


EXAMPLE = """
[[sublayer]]
name = "baseline"
weight = 0x8000
description = "what holds for all"

[[filter]]
name = "curl may reach the web"
layer = "ALE_AUTH_CONNECT"             # both V4 and V6
sublayer = "baseline"
action = "permit"
when = { app = "/usr/bin/curl", protocol = "tcp", remote_port = [80, 443] }

[[filter]]
name = "nothing else leaves"
layer = "ALE_AUTH_CONNECT"
sublayer = "baseline"
weight = 0
action = "block"
"""


def test_the_example_of_the_documentation() -> None:
    policy = load(EXAMPLE).policy
    assert policy.sublayers == (Sublayer("baseline", 0x8000, "what holds for all"),)
    assert [(item.id, item.layer.short, item.action, item.line) for item in policy.filters] == [
        (1, "ALE_AUTH_CONNECT_V4", Action.PERMIT, 7),
        (2, "ALE_AUTH_CONNECT_V6", Action.PERMIT, 7),
        (3, "ALE_AUTH_CONNECT_V4", Action.BLOCK, 14),
        (4, "ALE_AUTH_CONNECT_V6", Action.BLOCK, 14),
    ]
    assert policy.filters[0].conditions == (
        Condition("ALE_APP_ID", M.EQUAL, Value(DataType.BYTE_BLOB, b"/usr/bin/curl")),
        Condition("IP_PROTOCOL", M.EQUAL, Value(DataType.UINT8, 6)),
        Condition("IP_REMOTE_PORT", M.EQUAL, u16(80)),
        Condition("IP_REMOTE_PORT", M.EQUAL, u16(443)),
    )
    assert policy.filters[2].weight == Value(DataType.UINT64, 0)
    assert (policy.version, policy.last_id) == (1, 4)


SCALARS = [
    ("a port", "{ remote_port = 443 }", [(M.EQUAL, u16(443))]),
    ("a port as text", '{ remote_port = "443" }', [(M.EQUAL, u16(443))]),
    ("a port in hexadecimal", '{ remote_port = "0x1bb" }', [(M.EQUAL, u16(443))]),
    ("a service", '{ remote_port = "https" }', [(M.EQUAL, u16(443))]),
    ("a service with a dash", '{ remote_port = "http-alt" }', [(M.EQUAL, u16(8080))]),
    ("a range of ports", '{ remote_port = "1024-65535" }', [span(u16(1024), u16(65535))]),
    ("a range of one port", '{ remote_port = "80 - 80" }', [span(u16(80), u16(80))]),
    ("WFP's name", "{ IP_REMOTE_PORT = 443 }", [(M.EQUAL, u16(443))]),
    ("WFP's name in full", "{ FWPM_CONDITION_IP_REMOTE_PORT = 443 }", [(M.EQUAL, u16(443))]),
    ("an alias", "{ icmp_type = 8 }", [(M.EQUAL, u16(8))]),
    ("WFP's alias", "{ ICMP_CODE = 0 }", [(M.EQUAL, u16(0))]),
    ("a protocol by name", '{ protocol = "icmpv6" }', [(M.EQUAL, Value(DataType.UINT8, 58))]),
    ("a protocol of the host", '{ protocol = "ospf" }', [(M.EQUAL, Value(DataType.UINT8, 89))]),
    ("a user by name", '{ user = "alice" }', [(M.EQUAL, u32(1000))]),
    ("a user by id", "{ user = 0 }", [(M.EQUAL, u32(0))]),
    ("not a user", '{ user = { not = "alice" } }', [(M.NOT_EQUAL, u32(1000))]),
    ("a unit", '{ unit = "nginx.service" }', [(M.EQUAL, Value(DataType.SID, "nginx.service"))]),
    ("not a unit", '{ unit = { not = "a.service" } }', [(M.NOT_EQUAL, Value(DataType.SID, "a.service"))]),
    ("not an app", '{ app = { not = "/bin/sh" } }', [(M.NOT_EQUAL, Value(DataType.BYTE_BLOB, b"/bin/sh"))]),
    ("an interface by name", '{ interface = "eth0" }', [(M.EQUAL, u32(2))]),
    ("an address type", '{ local_address_type = "multicast" }', [(M.EQUAL, Value(DataType.UINT8, 3))]),
    ("an unknown value", '{ local_port = "empty" }', [(M.EQUAL, EMPTY)]),
    ("an unknown app", '{ app = "empty" }', [(M.EQUAL, EMPTY)]),
    ("an address", '{ remote_address = "10.0.0.1" }', [(M.EQUAL, u32(0x0A000001))]),
    ("a mapped address", '{ remote_address = "::ffff:10.0.0.1" }', [(M.EQUAL, u32(0x0A000001))]),
    (
        "a prefix",
        '{ remote_address = "10.0.0.0/8" }',
        [(M.EQUAL, Value(DataType.V4_ADDR_MASK, AddressMask(0x0A000000, 0xFF000000)))],
    ),
    (
        "a prefix with bits behind it",
        '{ remote_address = "10.1.2.3/8" }',
        [(M.EQUAL, Value(DataType.V4_ADDR_MASK, AddressMask(0x0A000000, 0xFF000000)))],
    ),
    (
        "a mapped prefix",
        '{ remote_address = "::ffff:10.0.0.0/104" }',
        [(M.EQUAL, Value(DataType.V4_ADDR_MASK, AddressMask(0x0A000000, 0xFF000000)))],
    ),
    ("addresses", '{ remote_address = "10.0.0.1-10.0.0.9" }', [span(u32(0x0A000001), u32(0x0A000009))]),
    ("not a port", "{ remote_port = { not = 22 } }", [(M.NOT_EQUAL, u16(22))]),
    (
        "not these ports",
        '{ remote_port = { not = ["8000-8999", 22, 8999] } }',
        [span(u16(0), u16(21)), span(u16(23), u16(7999)), span(u16(9000), u16(65535))],
    ),
    ("not a range", '{ remote_port = { not = "0-1023" } }', [span(u16(1024), u16(65535))]),
    ("known at all", '{ remote_port = { not = "empty" } }', [span(u16(0), u16(65535))]),
    (
        "not a prefix",
        '{ remote_address = { not = "128.0.0.0/1" } }',
        [span(u32(0), u32(0x7FFFFFFF))],
    ),
    ("all flags", '{ flags = { all = ["loopback", "reauthorize"] } }', [(M.FLAGS_ALL_SET, u32(5))]),
    ("any flag", '{ flags = { any = ["IS_FRAGMENT", 0x400] } }', [(M.FLAGS_ANY_SET, u32(0x420))]),
    ("no flag", '{ flags = { none = ["loopback"] } }', [(M.FLAGS_NONE_SET, u32(1))]),
    (
        "these flags and not those",
        '{ flags = { all = ["loopback"], none = ["reauthorize"] } }',
        [(M.EQUAL, Value(DataType.V4_ADDR_MASK, AddressMask(1, 5)))],
    ),
    ("one flag without a list", '{ flags = { none = "loopback" } }', [(M.FLAGS_NONE_SET, u32(1))]),
    ("exactly these flags", "{ flags = 5 }", [(M.EQUAL, u32(5))]),
    ("a reason", '{ reauthorize_reason = { any = ["policy_change"] } }', [(M.FLAGS_ANY_SET, u32(1))]),
]


@pytest.mark.parametrize("when, expected", [row[1:] for row in SCALARS], ids=[row[0] for row in SCALARS])
def test_a_value(when: str, expected: object) -> None:
    assert asked_of(when) == expected


def test_a_direction_has_a_name() -> None:
    assert asked_of('{ direction = "inbound" }', "ALE_FLOW_ESTABLISHED_V4") == [(M.EQUAL, u32(1))]


def shorts(items: object) -> list[str]:
    return [item.layer.short for item in items]


def test_an_address_of_one_family_leaves_that_family_s_filter() -> None:
    assert shorts(filters('{ remote_address = "10.0.0.1" }')) == ["ALE_AUTH_CONNECT_V4"]
    assert shorts(filters('{ remote_address = "fe80::/10" }')) == ["ALE_AUTH_CONNECT_V6"]
    assert shorts(filters('{ remote_address = "::ffff:1.2.3.4" }')) == ["ALE_AUTH_CONNECT_V4"]


def test_a_mixed_list_is_split() -> None:
    v4, v6 = filters('{ remote_address = ["10.0.0.1", "fe80::1", "empty"] }')
    assert [one.value for one in v4.conditions] == [u32(0x0A000001), EMPTY]
    assert [one.value.type for one in v6.conditions] == [DataType.BYTE_ARRAY16, DataType.EMPTY]


def test_not_an_ipv4_address_is_every_ipv6_address() -> None:
    for value in ('"10.0.0.1"', '"10.0.0.0/8"', '["10.0.0.1"]'):
        v4, v6 = filters(f"{{ remote_address = {{ not = {value} }} }}")
        (everything,) = v6.conditions
        assert (everything.match, everything.value.data.low.data, everything.value.data.high.data) == (
            M.RANGE,
            bytes(16),
            b"\xff" * 16,
        )
        assert v4.conditions


def test_not_every_ipv4_address_leaves_ipv6() -> None:
    assert shorts(filters('{ remote_address = { not = "0.0.0.0/0" } }')) == ["ALE_AUTH_CONNECT_V6"]


def test_a_list_of_layers_is_numbered_in_its_order_v4_first() -> None:
    items = filters("{ }", ["FWPM_LAYER_STREAM_V6", "ALE_AUTH_CONNECT", "inbound_transport_v4"])
    assert [(item.id, item.layer.short) for item in items] == [
        (1, "STREAM_V6"),
        (2, "ALE_AUTH_CONNECT_V4"),
        (3, "ALE_AUTH_CONNECT_V6"),
        (4, "INBOUND_TRANSPORT_V4"),
    ]


def test_discard_layers_have_families_too() -> None:
    assert shorts(filters("{ }", "INBOUND_TRANSPORT_DISCARD")) == [
        "INBOUND_TRANSPORT_V4_DISCARD",
        "INBOUND_TRANSPORT_V6_DISCARD",
    ]


@pytest.mark.parametrize(
    "name, full",
    [
        ("", "FWPM_SUBLAYER_UNIVERSAL"),
        ("mpssvc_wf", "FWPM_SUBLAYER_MPSSVC_WF"),
        ("FWPM_SUBLAYER_LIPS", "FWPM_SUBLAYER_LIPS"),
    ],
)
def test_the_platform_s_sublayers_are_known(name: str, full: str) -> None:
    line = f'sublayer = "{name}"' if name else ""
    policy = load(f'[[filter]]\nname = "f"\nlayer = "STREAM"\naction = "permit"\n{line}\n').policy
    assert {item.sublayer for item in policy.filters} == {full}
    assert [sublayer.name for sublayer in policy.sublayers] == [full]


def test_weights_hardness_and_errors() -> None:
    (item, _) = filters("{ }", more='weight = "0x8000000000000000"\nerror = "ECONNREFUSED"')
    assert (item.weight, item.error) == (Value(DataType.UINT64, 1 << 63), errno.ECONNREFUSED)
    (item, _) = filters("{ }", more="weight_range = 15\nhard = false")
    assert (item.weight, item.hard, item.flags) == (Value(DataType.UINT8, 15), True, FilterFlag.NONE)
    permit = load('[[filter]]\nname = "f"\nlayer = "STREAM_V4"\naction = "permit"\nhard = true\n').policy.filters[0]
    assert (permit.hard, permit.flags, permit.weight) == (True, FilterFlag.CLEAR_ACTION_RIGHT, EMPTY)


def test_an_executable_that_does_not_exist_is_a_warning() -> None:
    loaded = load('[[filter]]\nname = "f"\nlayer = "ALE_AUTH_CONNECT"\naction = "permit"\nwhen.app = "/nowhere/../x"\n')
    (warning,) = loaded.warnings
    assert (warning.line, warning.object) == (5, "filter 'f', when.app")
    assert loaded.policy.filters[0].conditions[0].value.data == b"/x"


def test_json_is_the_same(tmp_path: Path) -> None:
    text = compose(load(EXAMPLE).policy, "json")
    assert load(text, "p.json").policy == load(EXAMPLE).policy
    path = tmp_path / "p.JSON"
    path.write_text(text, encoding="utf-8")
    assert load_file(str(path), RESOLVER).policy.filters[0].line == 10


@pytest.mark.parametrize("text", ["", "\ufeff# nothing\r\n", b"\xef\xbb\xbf"])
def test_an_empty_file_is_an_empty_policy(text: str | bytes) -> None:
    assert load(text).policy.filters == ()


def test_every_field_of_the_catalogue_has_a_name() -> None:
    named = set(FIELD_NAMES.values())
    fields = {field.name for layer in LAYERS for field in layer.fields if not field.name.startswith("RESERVED")}
    assert fields <= named
    assert len(named) == len(FIELD_NAMES)


CONNECT = layer_named("ALE_AUTH_CONNECT_V4")
TEXTS = [
    ("remote_port", "https", u16(443)),
    ("remote_port", "443", u16(443)),
    ("protocol", "tcp", Value(DataType.UINT8, 6)),
    ("flags", "loopback,reauthorize", u32(5)),
    ("flags", "0", u32(0)),
    ("user", "alice", Value(DataType.TOKEN_ACCESS_INFORMATION, 1000)),
    ("app", "/usr/bin/curl", Value(DataType.BYTE_BLOB, b"/usr/bin/curl")),
    ("remote_address", "10.0.0.1", u32(0x0A000001)),
    ("remote_address", "empty", None),
]


@pytest.mark.parametrize("name, text, value", TEXTS)
def test_a_value_of_the_command_line(name: str, text: str | bytes, value: Value | None) -> None:
    assert value_from_text(CONNECT.field(FIELD_NAMES[name]), text, RESOLVER) == value


@pytest.mark.parametrize(
    "name, text",
    [
        ("remote_port", "1-9"),
        ("remote_port", "frob"),
        ("remote_address", "::1"),
        ("flags", "x"),
        ("user", "mallory"),
        ("app", "c"),
    ],
)
def test_a_value_of_the_command_line_that_is_wrong(name: str, text: str | bytes) -> None:
    with pytest.raises(InputError, match=name):
        value_from_text(CONNECT.field(FIELD_NAMES[name]), text, RESOLVER)


def test_the_schema_knows_every_layer_and_field() -> None:
    described = schema()
    assert described["$schema"].endswith("2020-12/schema")
    rule = described["properties"]["filter"]["items"]
    assert set(FIELD_NAMES) == set(rule["properties"]["when"]["properties"])
    assert {"ALE_AUTH_CONNECT", "FWPM_LAYER_ALE_AUTH_CONNECT_V4"} <= set(described["$defs"]["layer"]["enum"])
    json.dumps(described)
