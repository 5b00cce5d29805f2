"""The objects of a dump: providers, contexts, sublayers, callouts, sessions, connections.

Each is one record turned into one frozen value. An element that an object has and nobody knows is noted; an element
that stands twice, a missing key and a number out of range are errors. Filters have a module of their own.
"""

from __future__ import annotations

from collections.abc import Collection
from dataclasses import dataclass
from typing import Final

from layergate.model import Callout, CalloutFlag, Provider, ProviderContext, Value
from layergate.model.values import DataType
from layergate.windows.layers import Layers
from layergate.windows.names import flags_of, key_name
from layergate.windows.notes import Notes, shown
from layergate.windows.reading import Node
from layergate.windows.values import Values, decimal, wide_text

_PERSISTENT_SUFFIX: Final = "_FLAG_PERSISTENT"
_PROVIDER_FLAGS: Final = frozenset({"FWPM_PROVIDER_FLAG_PERSISTENT", "FWPM_PROVIDER_FLAG_DISABLED"})
_SUBLAYER_FLAGS: Final = frozenset({"FWPM_SUBLAYER_FLAG_PERSISTENT"})
_CONTEXT_FLAGS: Final = frozenset({"FWPM_PROVIDER_CONTEXT_FLAG_PERSISTENT", "FWPM_PROVIDER_CONTEXT_FLAG_DOWNLEVEL"})
_GENERAL_CONTEXT: Final = "FWPM_GENERAL_CONTEXT"
_CONTEXT_PAYLOADS: Final = frozenset(
    {
        "dataBuffer",
        "keyingPolicy",
        "ikeQmTransportPolicy",
        "ikeQmTunnelPolicy",
        "authipQmTransportPolicy",
        "authipQmTunnelPolicy",
        "ikeMmPolicy",
        "authIpMmPolicy",
        "emPolicy",
        "ikeV2QmTunnelPolicy",
        "ikeV2QmTransportPolicy",
        "ikeV2MmPolicy",
        "idpOptions",
        "classifyOptions",
        "networkConnectionPolicy",
    }
)


@dataclass(frozen=True, slots=True)
class Session:
    """Somebody who has the filter engine open. *user* is a SID, *user_name* what the machine calls it."""

    key: str
    name: str
    flags: tuple[str, ...]
    process: int | None
    user: str
    user_name: str
    kernel_mode: bool


@dataclass(frozen=True, slots=True)
class Connection:
    """A live connection. *local* and *remote* are addresses (UINT32 or BYTE_ARRAY16); *app* is a device path.

    A socket that has no peer has 0.0.0.0 or :: and port 0 for one. *flags*, *ipsec_status*: as printed.
    """

    id: int
    local: Value
    remote: Value
    protocol: int
    local_port: int
    remote_port: int
    app: bytes
    flags: tuple[str, ...] = ()
    ipsec_status: str = ""
    line: int = 0

    @property
    def is_v6(self) -> bool:
        """Whether it is of IPv6."""
        return self.local.type is DataType.BYTE_ARRAY16


@dataclass(frozen=True, slots=True)
class ListedSublayer:
    """A sublayer as the dump lists it: *name* is its display name, not yet one of its own."""

    key: str
    name: str
    description: str
    weight: int
    provider: str
    persistent: bool


def parts_of(node: Node, known: Collection[str], notes: Notes, subject: str) -> dict[str, Node]:
    """Return the children of *node* by tag. Notes what is not *known*. Raises InputError where one stands twice."""
    parts: dict[str, Node] = {}
    for child in node.children:
        if child.tag in parts:
            raise notes.wrong(child.line, f"<{child.tag}> a second time in one {subject}", f"one <{child.tag}>")
        parts[child.tag] = child
        if child.tag not in known:
            notes.unknown(child.line, "", f"the element <{child.tag}> of a {subject}", "nothing here depends on it")
    return parts


def text_in(parts: dict[str, Node], tag: str) -> str:
    """Return the text of the part *tag*, "" where it is absent."""
    part = parts.get(tag)
    return part.text if part is not None else ""


def items_of(part: Node | None, notes: Notes, subject: str) -> list[Node]:
    """Return the items of the list *part*; none where it is absent. A number of items that is not so is a doubt."""
    if part is None:
        return []
    for child in part.children:
        if child.tag != "item":
            notes.unknown(child.line, subject, f"the element <{child.tag}> of a list <{part.tag}>", "taken for an item")
    if part.count is not None and part.count != str(len(part.children)):
        found = f"a list <{part.tag}> that should have {shown(part.count)} items and has another number"
        notes.doubt(part.line, subject, found, "the items that are there are taken; the file may be damaged")
    return list(part.children)


def display_of(parts: dict[str, Node]) -> tuple[str, str]:
    """Return (name, description) of the <displayData>."""
    display = parts.get("displayData")
    return (display.text_of("name"), display.text_of("description")) if display is not None else ("", "")


class Objects:
    """Reads the objects of one file, filters apart. Every key is once in its kind."""

    def __init__(self, notes: Notes, values: Values, layers: Layers) -> None:
        self._notes, self._values, self._layers = notes, values, layers
        self.providers: dict[str, Provider] = {}
        self.contexts: dict[str, ProviderContext] = {}
        self.sublayers: dict[str, ListedSublayer] = {}
        self.callouts: dict[str, Callout] = {}
        self.sessions: list[Session] = []
        self.connections: list[Connection] = []

    def key(self, parts: dict[str, Node], tag: str, node: Node, subject: str, taken: Collection[str] = ()) -> str:
        """Return the key in the part *tag*. Raises InputError where it is missing or *taken*."""
        key = key_name(text_in(parts, tag))
        if not key:
            raise self._notes.wrong(node.line, f"a {subject} without <{tag}>", f"<{tag}>{{a GUID}}</{tag}>")
        if key in taken:
            raise self._notes.wrong(node.line, f"the {subject} {key} a second time", f"every {subject} once")
        return key

    def _is_persistent(self, parts: dict[str, Node], subject: str, known: Collection[str]) -> bool:
        flags = [item.text for item in items_of(parts.get("flags"), self._notes, subject)]
        for flag in flags:
            if flag not in known:
                found = f"the flag {shown(flag)} of a {subject}"
                self._notes.unknown(parts["flags"].line, "", found, "it changes nothing here")
        return any(flag.endswith(_PERSISTENT_SUFFIX) for flag in flags)

    def add_provider(self, node: Node) -> None:
        """Take a provider."""
        known = ("providerKey", "displayData", "flags", "providerData", "serviceName")
        parts = parts_of(node, known, self._notes, "provider")
        key = self.key(parts, "providerKey", node, "provider", self.providers)
        name, description = display_of(parts)
        is_persistent = self._is_persistent(parts, "provider", _PROVIDER_FLAGS)
        self.providers[key] = Provider(key, name or key, description, text_in(parts, "serviceName"), is_persistent)

    def add_context(self, node: Node) -> None:
        """Take a provider context; of a general one the text, which says for which rule a filter is."""
        known = {
            "providerContextKey",
            "displayData",
            "flags",
            "providerKey",
            "providerData",
            "type",
            "providerContextId",
        }
        parts = parts_of(node, known | _CONTEXT_PAYLOADS, self._notes, "provider context")
        key = self.key(parts, "providerContextKey", node, "provider context", self.contexts)
        name, description = display_of(parts)
        kind = text_in(parts, "type")
        data = (
            self._values.blob(parts.get("dataBuffer"), f"provider context {key}") if kind == _GENERAL_CONTEXT else b""
        )
        self.contexts[key] = ProviderContext(
            key=key,
            name=name or key,
            type=kind,
            text=wide_text(data),
            provider=key_name(text_in(parts, "providerKey")),
            id=self._values.number(node, "providerContextId", 64, f"provider context {key}"),
            persistent=self._is_persistent(parts, "provider context", _CONTEXT_FLAGS),
            description=description,
        )

    def add_sublayer(self, node: Node) -> None:
        """Take a sublayer."""
        known = ("subLayerKey", "displayData", "flags", "providerKey", "providerData", "weight")
        parts = parts_of(node, known, self._notes, "sublayer")
        key = self.key(parts, "subLayerKey", node, "sublayer", self.sublayers)
        name, description = display_of(parts)
        self.sublayers[key] = ListedSublayer(
            key=key,
            name=name,
            description=description,
            weight=self._values.number(node, "weight", 16, f"sublayer {key}"),
            provider=key_name(text_in(parts, "providerKey")),
            persistent=self._is_persistent(parts, "sublayer", _SUBLAYER_FLAGS),
        )

    def add_callout(self, node: Node) -> None:
        """Take a callout."""
        known = ("calloutKey", "displayData", "flags", "providerKey", "providerData", "applicableLayer", "calloutId")
        parts = parts_of(node, known, self._notes, "callout")
        key = self.key(parts, "calloutKey", node, "callout", self.callouts)
        name, description = display_of(parts)
        flags, marks = flags_of(
            (item.text for item in items_of(parts.get("flags"), self._notes, "callout")), CalloutFlag
        )
        for mark in marks:
            self._notes.unknown(node.line, "", f"the flag {shown(mark)} of a callout", "it changes nothing here")
        layer = self.key(parts, "applicableLayer", node, "callout")
        self.callouts[key] = Callout(
            key=key,
            name=name or key,
            layer=self._layers.named(layer, node.line),
            flags=flags,
            provider=key_name(text_in(parts, "providerKey")),
            id=self._values.number(node, "calloutId", 32, f"callout {key}"),
            description=description,
        )

    def add_session(self, node: Node) -> None:
        """Take a session."""
        known = (
            *("sessionKey", "displayData", "flags", "txnWaitTimeoutInMSec", "processId", "sid", "username"),
            "kernelMode",
        )
        parts = parts_of(node, known, self._notes, "session")
        self.sessions.append(
            Session(
                key=text_in(parts, "sessionKey"),
                name=display_of(parts)[0],
                flags=tuple(item.text for item in items_of(parts.get("flags"), self._notes, "session")),
                process=decimal(text_in(parts, "processId")),
                user=text_in(parts, "sid"),
                user_name=text_in(parts, "username"),
                kernel_mode=text_in(parts, "kernelMode") == "true",
            )
        )

    def add_connection(self, node: Node) -> None:
        """Take a live connection."""
        known = (
            *("endpointId", "ipVersion", "localV4Address", "remoteV4Address", "localV6Address", "remoteV6Address"),
            *("ipProtocol", "localPort", "remotePort", "localTokenModifiedId", "mmSaId", "qmSaId", "ipsecStatus"),
            *("flags", "appId"),
        )
        parts = parts_of(node, known, self._notes, "connection")
        subject = f"connection {text_in(parts, 'endpointId')}"
        family = text_in(parts, "ipVersion").removeprefix("FWP_IP_VERSION_")
        if family not in ("V4", "V6"):
            found = f"{subject}: ipVersion {shown(text_in(parts, 'ipVersion'))}"
            raise self._notes.wrong(node.line, found, "FWP_IP_VERSION_V4 or FWP_IP_VERSION_V6")
        number = self._values.number
        self.connections.append(
            Connection(
                id=number(node, "endpointId", 64, subject),
                local=self._values.address(node, f"local{family}Address", subject),
                remote=self._values.address(node, f"remote{family}Address", subject),
                protocol=number(node, "ipProtocol", 8, subject),
                local_port=number(node, "localPort", 16, subject),
                remote_port=number(node, "remotePort", 16, subject),
                app=self._values.blob(parts.get("appId"), subject),
                flags=tuple(item.text for item in items_of(parts.get("flags"), self._notes, subject)),
                ipsec_status=text_in(parts, "ipsecStatus"),
                line=node.line,
            )
        )
