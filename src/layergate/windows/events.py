"""Net events: what the filter engine recorded of the packets and calls that it dropped or let pass.

An event says when, which ends, which application and user, and, where it is a classification, at which layer which
filter decided. Newer builds list besides which filter ended each of Windows Firewall's sublayers, the rule that the
filter comes from, and the capabilities of the application. A header's field counts only where its flag is set: the
others are printed as zero.

Source: Microsoft, fwpmtypes.h (FWPM_NET_EVENT_HEADER3, FWPM_NET_EVENT_CLASSIFY_DROP2); troubleshooting-uwp-firewall.md
and quarantine.md of its documentation, which print whole events.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Final

from layergate.model import Action, Value
from layergate.windows.names import key_name
from layergate.windows.notes import Notes, shown
from layergate.windows.objects import items_of, parts_of, text_in
from layergate.windows.reading import Node
from layergate.windows.values import Values, decimal

TYPE_PREFIX: Final = "FWPM_NET_EVENT_TYPE_"
_PUBLIC: Final = "PUBLIC_"
_FLAG_PREFIX: Final = "FWPM_NET_EVENT_FLAG_"
_SUBLAYER_PREFIX: Final = "FWPP_SUBLAYER_INTERNAL_FIREWALL_"
_OUTCOMES: Final = {"CLASSIFY_DROP": Action.BLOCK, "CLASSIFY_ALLOW": Action.PERMIT}
_TYPES: Final = frozenset(
    {
        *("IKEEXT_MM_FAILURE", "IKEEXT_QM_FAILURE", "IKEEXT_EM_FAILURE", "CLASSIFY_DROP", "IPSEC_KERNEL_DROP"),
        *("IPSEC_DOSP_DROP", "CLASSIFY_ALLOW", "CAPABILITY_DROP", "CAPABILITY_ALLOW", "CLASSIFY_DROP_MAC"),
        "LPM_PACKET_ARRIVAL",
    }
)
_DIRECTIONS: Final = {
    "MS_FWP_DIRECTION_IN": "in",
    "MS_FWP_DIRECTION_OUT": "out",
    "MS_FWP_DIRECTION_FORWARD": "forward",
    # The numbers behind the names; the last one is not documented.
    "14592": "in",
    "14593": "out",
    "14594": "forward",
    "14595": "loopback",
}
_HEADER: Final = frozenset(
    {
        *("timeStamp", "flags", "ipVersion", "ipProtocol", "localAddrV4", "remoteAddrV4", "localAddrV6.byteArray16"),
        *("remoteAddrV6.byteArray16", "localPort", "remotePort", "scopeId", "appId", "userId", "addressFamily"),
        *("packageSid", "enterpriseId", "policyFlags", "effectiveName"),
    }
)
_CLASSIFY: Final = frozenset(
    {
        *("filterId", "layerId", "reauthReason", "originalProfile", "currentProfile", "msFwpDirection", "isLoopback"),
        *("vSwitchId", "vSwitchSourcePort", "vSwitchDestinationPort"),
    }
)
_INTERNAL: Final = frozenset(
    {
        *("internalFlags", "remoteAddrBitmap", "capabilities", "fqbnVersion", "fqbnName", "terminatingFiltersInfo"),
        *("filterOrigin", "interfaceIndex"),
    }
)
_BODIES: Final = ("classifyDrop", "classifyAllow")
_OTHER_BODIES: Final = frozenset(
    {
        *("ikeMmFailure", "ikeQmFailure", "ikeEmFailure", "ipsecDrop", "idpDrop", "capabilityDrop", "capabilityAllow"),
        *("classifyDropMac", "lpmPacketArrival"),
    }
)


@dataclass(frozen=True, slots=True)
class Terminating:
    """The filter that ended one of Windows Firewall's sublayers. *sublayer* is that one's FWPM_ name."""

    filter: int
    sublayer: str
    action: Action | None


@dataclass(frozen=True, slots=True)
class NetEvent:
    """One net event. What it does not say is None or empty.

    *time* is as printed. *type* is without prefix (CLASSIFY_DROP). *action* is the outcome, None where the event is no
    classification; *filter* the filter that decided, 0 for none, None where it isn't told. *local* and *remote* are
    addresses (UINT32 or BYTE_ARRAY16), *app* is a device path as it stands in a dump, *user* and *package* are SIDs.
    *direction* is in, out, forward or loopback. *origin* names the rule that the filter is for. *extra* are elements
    that nobody knows, as (name, text).
    """

    line: int
    time: str
    type: str
    action: Action | None = None
    filter: int | None = None
    layer: int | None = None
    reauthorize_reason: int = 0
    original_profile: int | None = None
    current_profile: int | None = None
    direction: str = ""
    is_loopback: bool | None = None
    is_v6: bool | None = None
    protocol: int | None = None
    local: Value | None = None
    remote: Value | None = None
    local_port: int | None = None
    remote_port: int | None = None
    scope: int | None = None
    app: bytes = b""
    user: str = ""
    package: str = ""
    address_family: str = ""
    enterprise: str = ""
    policy_flags: str = ""
    effective_name: str = ""
    interface: int | None = None
    capabilities: tuple[str, ...] = ()
    terminating: tuple[Terminating, ...] = ()
    origin: str = ""
    extra: tuple[tuple[str, str], ...] = ()


class Events:
    """Reads the net events of one file."""

    def __init__(self, notes: Notes, values: Values) -> None:
        self._notes, self._values = notes, values
        self.all: list[NetEvent] = []

    def add(self, node: Node) -> None:
        """Take an event."""
        parts = {child.tag: child for child in node.children}
        header = parts.get("header")
        if header is None:
            raise self._notes.wrong(node.line, "a net event without <header>", "<header>")
        printed = text_in(parts, "type")
        if not printed:
            raise self._notes.wrong(node.line, "a net event without <type>", f"<type>{TYPE_PREFIX}CLASSIFY_DROP</type>")
        kind = printed.removeprefix(TYPE_PREFIX).removeprefix(_PUBLIC)
        if kind not in _TYPES:
            self._notes.unknown(node.line, "", f"the net event type {shown(printed)}", "kept; nothing is decided on it")
        body = next((parts[tag] for tag in _BODIES if tag in parts), None)
        internal = parts.get("internalFields")
        facts: dict[str, object] = {"line": node.line, "type": kind, "action": _OUTCOMES.get(kind)}
        facts |= self._header(header)
        facts |= self._classified(body) if body is not None else {}
        facts |= self._internal(internal) if internal is not None else {}
        if kind in _OUTCOMES and body is None:
            found = f"a net event of type {kind} that says neither filter nor layer"
            self._notes.unknown(node.line, "", found, "kept; nothing is decided on it")
        facts["extra"] = tuple(self._extra(node, body))
        self.all.append(NetEvent(**facts))  # type: ignore[arg-type]  # each under its field

    def _extra(self, node: Node, body: Node | None) -> Iterator[tuple[str, str]]:
        """Yield what nobody knows, as (name, text)."""
        known = {"header": _HEADER, "internalFields": _INTERNAL, "type": frozenset[str]()}
        seen = set()
        for child in node.children:
            if child.tag in seen:
                raise self._notes.wrong(
                    child.line, f"<{child.tag}> a second time in one net event", f"one <{child.tag}>"
                )
            seen.add(child.tag)
            if child.tag in _OTHER_BODIES:
                continue
            tags = _CLASSIFY if child is body else known.get(child.tag)
            for part in (child.children or (child,)) if tags is None else child.children:
                if tags is None or part.tag not in tags:
                    found = f"the element <{part.tag}> of a net event"
                    self._notes.unknown(part.line, "", found, "kept as it is; nothing here depends on it")
                    yield part.tag, part.text

    def _header(self, node: Node) -> dict[str, object]:
        parts = self._parts(node, "header")
        flags = {
            item.text.removeprefix(_FLAG_PREFIX) for item in items_of(parts.get("flags"), self._notes, "net event")
        }

        def told(flag: str, *tags: str) -> str:
            """Return the first of *tags* that is there, "" where the flag says that none counts."""
            if flags and f"{flag}_SET" not in flags:
                return ""
            return next((tag for tag in tags if text_in(parts, tag) or (tag == "appId" and tag in parts)), "")

        def number(flag: str, tag: str, bits: int) -> int | None:
            return self._values.number(node, tag, bits, "net event") if told(flag, tag) else None

        def address(flag: str, side: str) -> Value | None:
            tag = told(flag, f"{side}AddrV4", f"{side}AddrV6.byteArray16")
            return self._values.address(node, tag, "net event") if tag else None

        version = text_in(parts, "ipVersion") if told("IP_VERSION", "ipVersion") else ""
        return {
            "time": text_in(parts, "timeStamp"),
            "is_v6": {"FWP_IP_VERSION_V4": False, "FWP_IP_VERSION_V6": True}.get(version),
            "protocol": number("IP_PROTOCOL", "ipProtocol", 8),
            "local": address("LOCAL_ADDR", "local"),
            "remote": address("REMOTE_ADDR", "remote"),
            "local_port": number("LOCAL_PORT", "localPort", 16),
            "remote_port": number("REMOTE_PORT", "remotePort", 16),
            "scope": number("SCOPE_ID", "scopeId", 32),
            "app": self._values.blob(parts["appId"], "net event") if told("APP_ID", "appId") else b"",
            "user": text_in(parts, "userId") if told("USER_ID", "userId") else "",
            "package": text_in(parts, "packageSid") if told("PACKAGE_ID", "packageSid") else "",
            "address_family": text_in(parts, "addressFamily"),
            "enterprise": text_in(parts, "enterpriseId"),
            "policy_flags": text_in(parts, "policyFlags"),
            "effective_name": text_in(parts, "effectiveName"),
        }

    def _classified(self, node: Node) -> dict[str, object]:
        parts = self._parts(node, "classification")

        def number(tag: str, bits: int) -> int | None:
            return self._values.number(node, tag, bits, "net event") if text_in(parts, tag) else None

        direction = text_in(parts, "msFwpDirection")
        if direction and direction not in _DIRECTIONS:
            self._notes.unknown(node.line, "", f"the direction {shown(direction)}", "kept as it is")
        loopback = text_in(parts, "isLoopback")
        return {
            "filter": number("filterId", 64),
            "layer": number("layerId", 16),
            "reauthorize_reason": number("reauthReason", 32) or 0,
            "original_profile": number("originalProfile", 32),
            "current_profile": number("currentProfile", 32),
            "direction": _DIRECTIONS.get(direction, direction),
            "is_loopback": loopback == "true" if loopback else None,
        }

    def _internal(self, node: Node) -> dict[str, object]:
        parts = self._parts(node, "internalFields")
        ended = items_of(parts.get("terminatingFiltersInfo"), self._notes, "net event")
        return {
            "capabilities": tuple(item.text for item in items_of(parts.get("capabilities"), self._notes, "net event")),
            "terminating": tuple(self._terminating(item) for item in ended),
            "origin": text_in(parts, "filterOrigin"),
            "interface": decimal(text_in(parts, "interfaceIndex")),
        }

    def _terminating(self, node: Node) -> Terminating:
        printed = node.text_of("actionType")
        action = {"FWP_ACTION_PERMIT": Action.PERMIT, "FWP_ACTION_BLOCK": Action.BLOCK}.get(printed)
        if action is None:
            found = f"the action {shown(printed)} of a terminating filter"
            self._notes.unknown(node.line, "", found, "kept without action")
        sublayer = node.text_of("subLayer")
        if sublayer.startswith(_SUBLAYER_PREFIX):
            sublayer = f"FWPM_SUBLAYER_MPSSVC_{sublayer.removeprefix(_SUBLAYER_PREFIX)}"
        number = self._values.number(node, "filterId", 64, "a terminating filter")
        return Terminating(number, key_name(sublayer), action)

    def _parts(self, node: Node, subject: str) -> dict[str, Node]:
        return parts_of(node, {child.tag for child in node.children}, self._notes, subject)
