"""Net events: what they record, and the indication that they were decided on."""

from __future__ import annotations

import pytest

from layergate.model import Action, DataType, Flag, InputError, Value, layer_named
from layergate.windows import NetEvent, Terminating, read
from layergate.windows.situations import of_connection, of_event
from layergate.windows.values import path_text
from tests.unit.windows import composer, example
from tests.unit.windows.composer import element, event

CONNECT, ACCEPT = layer_named("ALE_AUTH_CONNECT_V4"), layer_named("ALE_AUTH_RECV_ACCEPT_V4")


def one(text: str) -> NetEvent:
    (found,) = read([composer.net_events([text]).encode()], "f.xml").events
    return found


def test_a_drop_is_read_with_all_that_it_says() -> None:
    found = one(
        event(
            68893,
            48,
            time="2020-03-30T23:53:09.720Z",
            application=example.BROWSER,
            package="S-1-15-2-4163697451",
            reason=1,
            terminating=[(68893, "WSH", "BLOCK"), (68879, "WF", "PERMIT")],
            rule="Block Outbound Default Rule",
        )
    )
    assert (found.type, found.action, found.filter, found.layer) == ("CLASSIFY_DROP", Action.BLOCK, 68893, 48)
    assert (found.protocol, found.local_port, found.remote_port, found.is_v6) == (6, 49152, 443, False)
    assert (found.local, found.remote) == (Value(DataType.UINT32, 0xC000020A), Value(DataType.UINT32, 0xC6336407))
    assert (path_text(found.app), found.user, found.package) == (
        *(example.BROWSER, "S-1-5-21-1-2-3-1001"),
        "S-1-15-2-4163697451",
    )
    assert (found.direction, found.is_loopback, found.reauthorize_reason) == ("out", False, 1)
    assert (found.original_profile, found.current_profile) == (1, 1)
    assert found.terminating == (
        Terminating(68893, "FWPM_SUBLAYER_MPSSVC_WSH", Action.BLOCK),
        Terminating(68879, "FWPM_SUBLAYER_MPSSVC_WF", Action.PERMIT),
    )
    assert (found.origin, found.capabilities) == (
        "Block Outbound Default Rule",
        ("FWP_CAPABILITIES_FLAG_INTERNET_CLIENT",),
    )


@pytest.mark.parametrize(
    "kind, plain, action",
    [
        ("CLASSIFY_ALLOW", "CLASSIFY_ALLOW", Action.PERMIT),
        ("PUBLIC_CLASSIFY_DROP", "CLASSIFY_DROP", Action.BLOCK),
    ],
)
def test_newer_and_older_names_of_a_type_are_one(kind: str, plain: str, action: Action) -> None:
    found = one(event(5, 48, kind=kind))
    assert (found.type, found.action, found.filter) == (plain, action, 5)


def test_ends_of_ipv6_stand_under_a_tag_with_a_dot() -> None:
    found = one(event(5, 50, local="2001:db8::1", remote="2001:db8::2"))
    assert found.is_v6 is True
    assert found.remote == Value(DataType.BYTE_ARRAY16, bytes.fromhex("20010db8000000000000000000000002"))


def test_a_field_counts_only_where_its_flag_is_set() -> None:
    found = one(event(5, 48, flags=["IP_PROTOCOL", "REMOTE_ADDR", "IP_VERSION"]))
    assert (found.protocol, found.remote is None, found.local, found.local_port) == (6, False, None, None)
    assert (found.app, found.user, found.package) == (b"", "", "")
    # A header without any flags tells what it has.
    assert one(event(5, 48, flags=[])).local_port == 49152


def test_an_event_of_another_kind_is_kept_and_decides_nothing() -> None:
    text = event(5, 48).replace("CLASSIFY_DROP", "CAPABILITY_DROP").replace("classifyDrop", "capabilityDrop")
    dump = read([composer.net_events([text]).encode()], "f.xml")
    assert (dump.events[0].type, dump.events[0].action, dump.events[0].filter) == ("CAPABILITY_DROP", None, None)
    assert dump.unknown == ()


def test_what_nobody_knows_of_an_event_is_kept_and_told() -> None:
    text = event(5, 48, kind="NOVELTY_DROP", more=element("novelty", element("depth", "7")))
    dump = read([composer.net_events([text]).encode()], "f.xml")
    assert dump.events[0].extra == (("depth", "7"),)
    assert [problem.found for problem in dump.unknown] == [
        "the net event type 'FWPM_NET_EVENT_TYPE_NOVELTY_DROP'",
        "the element <depth> of a net event",
    ]


@pytest.mark.parametrize(
    "old, new, message",
    [
        ("<header>", "<header><ipProtocol>6</ipProtocol>", "<ipProtocol> a second time in one header"),
        ("<ipProtocol>6<", "<ipProtocol>x<", "ipProtocol 'x'; a number of 8 bits"),
        ("<remoteAddrV4>198.51.100.7<", "<remoteAddrV4>198.51.100.<", "remoteAddrV4 '198.51.100.'; an IP address"),
        ("<filterId>5<", "<filterId>-5<", "filterId '-5'; a number of 64 bits"),
        ("<layerId>48<", "<layerId>99999<", "layerId '99999'; a number of 16 bits"),
        ("<type>FWPM_NET_EVENT_TYPE_CLASSIFY_DROP</type>", "", "a net event without <type>"),
        ("header>", "head>", "a net event without <header>"),
        ("<data>5c00", "<data>5c0", "two hexadecimal digits a byte"),
    ],
)
def test_a_wrong_event_is_an_error_with_its_place(old: str, new: str, message: str) -> None:
    text = composer.net_events([event(5, 48)])
    assert old in text
    with pytest.raises(InputError) as caught:
        read([text.replace(old, new).encode()], "f.xml")
    assert message in str(caught.value)
    assert caught.value.line


# --- indications ------------------------------------------------------------------------------------------------------


def test_an_event_becomes_the_indication_that_it_was_decided_on() -> None:
    found = one(event(5, 44, application=example.SYNC, direction="IN", reason=4, loopback="true", profile=3))
    indication = of_event(found, ACCEPT, 1.5)
    assert {name: value.data for name, value in indication.values.items()} == {
        "IP_PROTOCOL": 6,
        "IP_LOCAL_ADDRESS": 0xC000020A,
        "IP_REMOTE_ADDRESS": 0xC6336407,
        "IP_LOCAL_ADDRESS_TYPE": 1,
        "IP_LOCAL_PORT": 49152,
        "IP_REMOTE_PORT": 443,
        "ALE_APP_ID": composer.path(example.SYNC),
        "ALE_PACKAGE_ID": "S-1-0-0",
        "ORIGINAL_PROFILE_ID": 3,
        "CURRENT_PROFILE_ID": 3,
        "REAUTHORIZE_REASON": 4,
        "FLAGS": Flag.IS_LOOPBACK | Flag.IS_REAUTHORIZE,
    }
    assert (indication.local, indication.remote) == ("192.0.2.10:49152", "198.51.100.7:443")
    assert (indication.protocol, indication.time, indication.reauthorize) == ("tcp", 1.5, True)
    assert indication.process is not None
    assert indication.process.app == example.SYNC


def test_every_value_fits_its_field() -> None:
    found = one(event(5, 48))
    for name in (
        "ALE_AUTH_CONNECT_V4",
        "INBOUND_TRANSPORT_V4",
        "INBOUND_IPPACKET_V4",
        "STREAM_V4",
        "ALE_AUTH_LISTEN_V4",
    ):
        layer = layer_named(name)
        for field, value in of_event(found, layer).values.items():
            assert layer.field_by_name[field].type is value.type
    # At a layer of the other family addresses are not known.
    assert "IP_REMOTE_ADDRESS" not in of_event(found, layer_named("ALE_AUTH_CONNECT_V6")).values


@pytest.mark.parametrize(
    "address, kind",
    [("192.0.2.1", 1), ("239.255.255.250", 3), ("255.255.255.255", 4), ("0.0.0.0", None)],  # noqa: S104 - not bound to
)
def test_what_kind_an_address_is_is_read_off_it(address: str, kind: int | None) -> None:
    values = of_event(one(event(5, 48, remote=address)), CONNECT).values
    found = values.get("IP_DESTINATION_ADDRESS_TYPE")
    assert (found.data if found else None) == kind


def test_loopback_shows_in_the_addresses_where_the_event_does_not_say() -> None:
    text = event(5, 48, kind="CLASSIFY_ALLOW", local="127.0.0.1", remote="127.0.0.1")
    assert of_event(one(text), CONNECT).values["FLAGS"].data == Flag.IS_LOOPBACK


def test_a_connection_without_peer_has_no_remote_end() -> None:
    connection = read([example.state().encode()], "f.xml").connections[3]
    indication = of_connection(connection, CONNECT)
    assert (indication.protocol, indication.remote) == ("udp", None)
    assert not {"IP_REMOTE_ADDRESS", "IP_REMOTE_PORT"} & set(indication.values)
