"""Writes what `netsh wfp` writes, from rows: states, filters, net events, recordings. For tests alone.

Everything is text; a test changes a part of a row, or of the text, to get what netsh would never write.
"""

from __future__ import annotations

import ipaddress
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from xml.sax.saxutils import escape

from layergate.model import Layer, layer_named

DECLARATION = '<?xml version="1.0" encoding="UTF-8" standalone="yes"?>\n'
PLATFORM = (("FWPM_SUBLAYER_MPSSVC_WF", 2), ("FWPM_SUBLAYER_MPSSVC_WSH", 3), ("FWPM_SUBLAYER_UNIVERSAL", 0x8000))


def guid(number: int) -> str:
    return f"{{00000000-0000-4000-8000-{number:012x}}}"


def element(tag: str, content: str = "", attributes: str = "") -> str:
    """An element; an empty one as netsh writes it."""
    return f"<{tag}{attributes}>{content}</{tag}>\n" if content else f"<{tag}{attributes}/>\n"


def items(tag: str, rows: Sequence[str]) -> str:
    """A list with its number of items; an empty one has no number."""
    return element(tag, "".join(rows), f' numItems="{len(rows)}"') if rows else element(tag)


def names(tag: str, flags: Iterable[str]) -> str:
    return items(tag, [element("item", flag) for flag in flags])


def display(name: str, description: str = "") -> str:
    return element("displayData", element("name", escape(name)) + element("description", escape(description)))


def blob(tag: str, data: bytes) -> str:
    shown = "".join(chr(byte) if 32 <= byte < 127 else "." for byte in data)
    return element(tag, element("data", data.hex()) + element("asString", escape(shown))) if data else element(tag)


def path(text: str) -> bytes:
    """An application's id: its device path."""
    return f"{text}\0".encode("utf-16-le")


# --- values and conditions ------------------------------------------------------------------------------------------


def value(kind: str, data: str = "") -> str:
    """The content of a value: `value("UINT8", "<uint8>6</uint8>")`."""
    return element("type", f"FWP_{kind}") + data


def number(bits: int, data: int | str) -> str:
    return value(f"UINT{bits}", element(f"uint{bits}", str(data)))


def v6(data: str) -> str:
    return value("BYTE_ARRAY16_TYPE", element("byteArray16", data))


def app(text: str) -> str:
    return value("BYTE_BLOB_TYPE", blob("byteBlob", path(text)))


def sddl(text: str) -> str:
    return value("SECURITY_DESCRIPTOR_TYPE", element("sd", escape(text)))


def sid(text: str) -> str:
    return value("SID", element("sid", text))


def between(low: str, high: str) -> str:
    return value("RANGE_TYPE", element("rangeValue", element("valueLow", low) + element("valueHigh", high)))


def net(prefix: str) -> str:
    network = ipaddress.ip_network(prefix)
    address = element("addr", str(network.network_address))
    if network.version == 4:
        return value("V4_ADDR_MASK", element("v4AddrMask", address + element("mask", str(network.netmask))))
    length = element("prefixLength", str(network.prefixlen))
    return value("V6_ADDR_MASK", element("v6AddrMask", address + length))


def condition(name: str, data: str, match: str = "EQUAL") -> str:
    key = name if name.startswith("{") else f"FWPM_CONDITION_{name}"
    return element(
        "item",
        element("fieldKey", key) + element("matchType", f"FWP_MATCH_{match}") + element("conditionValue", data),
    )


# --- objects --------------------------------------------------------------------------------------------------------


@dataclass
class Row:
    """A filter. *recorded* is its effective weight; *changes* replaces parts of it by tag."""

    id: int
    name: str = "a filter"
    layer: str = "FWPM_LAYER_ALE_AUTH_CONNECT_V4"
    sublayer: str = "FWPM_SUBLAYER_MPSSVC_WF"
    action: str = "FWP_ACTION_PERMIT"
    conditions: Sequence[str] = ()
    weight: str = field(default_factory=lambda: value("EMPTY"))
    recorded: int = 0
    flags: Sequence[str] = ()
    callout: str = ""
    provider: str = ""
    context: str = ""
    description: str = ""
    key: str = ""
    changes: dict[str, str] = field(default_factory=dict)

    def xml(self) -> str:
        parts = {
            "filterKey": element("filterKey", self.key or guid(self.id)),
            "displayData": display(self.name, self.description),
            "flags": names(
                "flags", (flag if flag[:1].isdigit() else f"FWPM_FILTER_FLAG_{flag}" for flag in self.flags)
            ),
            "providerKey": element("providerKey", self.provider),
            "providerData": blob("providerData", b"\xff" * 8),
            "layerKey": element("layerKey", self.layer),
            "subLayerKey": element("subLayerKey", self.sublayer),
            "weight": element("weight", self.weight),
            "filterCondition": items("filterCondition", list(self.conditions)),
            "action": element("action", element("type", self.action) + element("filterType", self.callout)),
            "rawContext": element("providerContextKey", self.context) if self.context else element("rawContext", "0"),
            "reserved": element("reserved"),
            "filterId": element("filterId", str(self.id)),
            "effectiveWeight": element("effectiveWeight", number(64, self.recorded)),
        }
        return element("item", "".join((parts | self.changes).values()))


def provider(key: str, name: str, service: str = "", flags: Sequence[str] = ()) -> str:
    return element(
        "item",
        element("providerKey", key)
        + display(name)
        + names("flags", flags)
        + element("providerData")
        + element("serviceName", service),
    )


def origin(key: str, text: str, number: int) -> str:
    """A provider context that says for which rule a filter is."""
    return element(
        "item",
        element("providerContextKey", key)
        + display("MPSSVC", "Stores filter origin")
        + names("flags", ["FWPM_PROVIDER_CONTEXT_FLAG_PERSISTENT"])
        + element("providerKey", "FWPM_PROVIDER_MPSSVC_WF")
        + element("providerData")
        + element("type", "FWPM_GENERAL_CONTEXT")
        + blob("dataBuffer", path(text))
        + element("providerContextId", str(number)),
    )


def sublayer(key: str, weight: int | str, name: str = "", provider: str = "") -> str:
    return element(
        "item",
        element("subLayerKey", key)
        + display(name or f"display name of {key}")
        + element("flags")
        + element("providerKey", provider)
        + element("providerData")
        + element("weight", str(weight)),
    )


def callout(key: str, layer: str, number: int, name: str = "", flags: Sequence[str] = ("REGISTERED",)) -> str:
    printed = [flag if flag[:1].isdigit() else f"FWPM_CALLOUT_FLAG_{flag}" for flag in flags]
    return element(
        "item",
        element("calloutKey", key)
        + display(name or f"callout {number}")
        + names("flags", printed)
        + element("providerKey")
        + element("providerData")
        + element("applicableLayer", layer)
        + element("calloutId", str(number)),
    )


def layer(
    name: str,
    *,
    number: int | None = None,
    fields: Sequence[tuple[str, str, str]] | None = None,
    callouts: Sequence[str] = (),
    filters: Sequence[str] = (),
) -> str:
    """A layer with what is in it; its id and fields (name, type, field type) are the catalogue's unless given."""
    known = layer_named(name)
    if fields is None:
        fields = [(one.name, type_name(one.type.name), one.kind) for one in known.fields] if known else []
    printed = [
        element(
            "item",
            element("fieldKey", key if key.startswith("{") else f"FWPM_CONDITION_{key}")
            + element("type", f"FWPM_FIELD_{kind}")
            + element("dataType", f"FWP_{data}"),
        )
        for key, data, kind in fields
    ]
    flags = [f"FWPM_LAYER_FLAG_{flag}" for flag in layer_flags(known)]
    head = (
        element("layerKey", name)
        + display(f"display name of {name}")
        + names("flags", flags)
        + items("field", printed)
        + element("defaultSubLayerKey", "FWPM_SUBLAYER_UNIVERSAL")
        + element("layerId", str(known.id if number is None and known else number))
    )
    return element("item", element("layer", head) + items("callouts", list(callouts)) + items("filters", list(filters)))


def layer_flags(known: Layer | None) -> list[str]:
    if known is None:
        return ["KERNEL"]
    return ["BUILTIN", *(["KERNEL"] if known.kernel_mode else []), *(["BUFFERED"] if known.buffered else [])]


def type_name(name: str) -> str:
    """A data type as netsh prints it: FWP_UINT8, FWP_SID, but FWP_BYTE_ARRAY16_TYPE."""
    return name if name.startswith(("UINT", "INT")) or name in ("SID", "EMPTY") else f"{name}_TYPE"


def session(number: int, user: str = "S-1-5-19") -> str:
    return element(
        "item",
        element("sessionKey", guid(number))
        + display("")
        + names("flags", ["FWPM_SESSION_FLAG_DYNAMIC"])
        + element("txnWaitTimeoutInMSec", "6000000")
        + element("processId", "1404")
        + element("sid", user)
        + element("username", r"NT AUTHORITY\LOCAL SERVICE")
        + element("kernelMode", "false"),
    )


def connection(
    number: int, local: tuple[str, int], remote: tuple[str, int], application: str, *, protocol: int = 6
) -> str:
    family = f"V{ipaddress.ip_address(local[0]).version}"
    return element(
        "item",
        element("endpointId", str(number))
        + element("ipVersion", f"FWP_IP_VERSION_{family}")
        + element(f"local{family}Address", local[0])
        + element(f"remote{family}Address", remote[0])
        + element("ipProtocol", str(protocol))
        + element("localPort", str(local[1]))
        + element("remotePort", str(remote[1]))
        + element("localTokenModifiedId", "557816")
        + element("mmSaId", "0")
        + element("qmSaId", "0")
        + element("ipsecStatus", "0 (ERROR_SUCCESS)")
        + element("flags")
        + blob("appId", path(application)),
    )


HEADER_FLAGS = (
    "IP_PROTOCOL",
    "LOCAL_ADDR",
    "REMOTE_ADDR",
    "LOCAL_PORT",
    "REMOTE_PORT",
    "APP_ID",
    "USER_ID",
    "IP_VERSION",
)


def event(
    filter_id: int,
    layer_id: int,
    *,
    kind: str = "CLASSIFY_DROP",
    time: str = "2026-04-01T10:00:00.000Z",
    protocol: int = 6,
    local: str = "192.0.2.10",
    local_port: int = 49152,
    remote: str = "198.51.100.7",
    remote_port: int = 443,
    application: str = r"\device\harddiskvolume3\windows\explorer.exe",
    user: str = "S-1-5-21-1-2-3-1001",
    package: str = "S-1-0-0",
    flags: Sequence[str] = (*HEADER_FLAGS, "PACKAGE_ID"),
    reason: int = 0,
    direction: str = "OUT",
    loopback: str = "false",
    profile: int = 1,
    terminating: Sequence[tuple[int, str, str]] = (),
    rule: str = "",
    tag: str = "item",
    more: str = "",
) -> str:
    """A net event; *terminating* are (filter, sublayer, action), *rule* is the filter's origin."""
    family = ipaddress.ip_address(local).version
    address = "AddrV4" if family == 4 else "AddrV6.byteArray16"
    header = (
        element("timeStamp", time)
        + names("flags", (f"FWPM_NET_EVENT_FLAG_{flag}_SET" for flag in flags))
        + element("ipVersion", f"FWP_IP_VERSION_V{family}")
        + element("ipProtocol", str(protocol))
        + element(f"local{address}", local)
        + element(f"remote{address}", remote)
        + element("localPort", str(local_port))
        + element("remotePort", str(remote_port))
        + element("scopeId", "0")
        + blob("appId", path(application))
        + element("userId", user)
        + element("addressFamily", "FWP_AF_INET")
        + element("packageSid", package)
        + element("enterpriseId")
        + element("policyFlags", "0")
        + element("effectiveName")
    )
    body = (
        element("filterId", str(filter_id))
        + element("layerId", str(layer_id))
        + element("reauthReason", str(reason))
        + element("originalProfile", str(profile))
        + element("currentProfile", str(profile))
    )
    if kind.endswith("DROP"):
        body += element("msFwpDirection", f"MS_FWP_DIRECTION_{direction}") + element("isLoopback", loopback)
        body += element("vSwitchId") + element("vSwitchSourcePort", "0") + element("vSwitchDestinationPort", "0")
    ended = [
        element(
            "item",
            element("filterId", str(one))
            + element("subLayer", f"FWPP_SUBLAYER_INTERNAL_FIREWALL_{where}")
            + element("actionType", f"FWP_ACTION_{what}"),
        )
        for one, where, what in terminating
    ]
    internal = (
        element("internalFlags")
        + names("capabilities", ["FWP_CAPABILITIES_FLAG_INTERNET_CLIENT"])
        + element("fqbnVersion", "0")
        + element("fqbnName")
        + items("terminatingFiltersInfo", ended)
        + element("filterOrigin", escape(rule))
    )
    return element(
        tag,
        element("header", header)
        + element("type", f"FWPM_NET_EVENT_TYPE_{kind}")
        + element("classifyDrop" if kind.endswith("DROP") else "classifyAllow", body)
        + element("internalFields", internal)
        + more,
    )


# --- files ----------------------------------------------------------------------------------------------------------


def sections(
    rows: Sequence[Row] = (),
    *,
    layers: Sequence[str] | None = None,
    sublayers: Sequence[str] | None = None,
    callouts: Sequence[tuple[str, str]] = (),
    providers: Sequence[str] = (),
    contexts: Sequence[str] = (),
    sessions: Sequence[str] = (),
    connections: Sequence[str] = (),
    time: str = "2026-04-01T10:00:01.000Z",
    more: str = "",
) -> str:
    """The lists of a state. *callouts* are (layer, callout); layers not given are those that the rows speak of."""
    if layers is None:
        spoken = dict.fromkeys([row.layer for row in rows] + [name for name, _ in callouts])
        layers = [
            layer(
                name,
                callouts=[xml for at, xml in callouts if at == name],
                filters=[row.xml() for row in rows if row.layer == name],
            )
            for name in spoken
        ]
    if sublayers is None:
        sublayers = [sublayer(key, weight) for key, weight in PLATFORM]
    return (
        element("timeStamp", time)
        + items("sessions", list(sessions))
        + items("layers", list(layers))
        + items("providers", list(providers))
        + items("providerContexts", list(contexts))
        + items("subLayers", list(sublayers))
        + element("subscriptions", element("calloutSubscriptions"))
        + items("aleConnectedEndpoints", list(connections))
        + more
    )


def state(rows: Sequence[Row] = (), **lists: object) -> str:
    """wfpstate.xml: two top-level elements."""
    body = element("wfpstate", sections(rows, **lists))  # type: ignore[arg-type]
    return DECLARATION + body + element("firewallState", element("dynamicKeywordAddresses"))


def filters(rows: Sequence[Row] = (), providers: Sequence[str] = ()) -> str:
    """filters.xml: no layers, no sublayers."""
    listed = element("filters", "".join(row.xml() for row in rows))
    return DECLARATION + element("wfpdiag", listed + items("providers", list(providers)))


def net_events(events: Sequence[str]) -> str:
    """netevents.xml."""
    return DECLARATION + items("netEvents", list(events))


def recording(rows: Sequence[Row], events: Sequence[str], **lists: object) -> str:
    """wfpdiag.xml of a capture: the state at its beginning, and the events."""
    body = element("sysInfo", element("version", "10.0.26100"))
    body += element("initialState", sections(rows, **lists))  # type: ignore[arg-type]
    return DECLARATION + element("wfpdiag", body + element("events", "".join(events)))
