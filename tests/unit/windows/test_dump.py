"""What a dump becomes around its filters: objects, layers, sublayers, kinds."""

from __future__ import annotations

import pytest

from layergate.model import (
    LAYERS,
    CalloutFlag,
    Family,
    InputError,
    layer_named,
)
from layergate.model.catalogue_data import CONDITION_GUIDS
from layergate.windows import Dump, Kind, read
from layergate.windows.values import path_text
from tests.unit.windows import composer, example
from tests.unit.windows.composer import Row, condition, element, guid, number, sublayer

CONNECT = "FWPM_LAYER_ALE_AUTH_CONNECT_V4"
HARBOR = example.HARBOR
UNKNOWN_KEY = "{3ad3c9d8-0000-4000-8000-00000000abcd}"
TCP = condition("IP_PROTOCOL", number(8, 6))


def load(text: str, state: Dump | None = None) -> Dump:
    return read([text.encode()], "f.xml", state)


def error_of(text: str) -> InputError:
    with pytest.raises(InputError) as caught:
        load(text)
    assert (caught.value.place, caught.value.line is not None) == ("f.xml", True)
    return caught.value


# --- objects --------------------------------------------------------------------------------------------------------


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
