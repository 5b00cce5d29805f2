"""The two words that carry the program: Indication and Verdict."""

from __future__ import annotations

import enum
from collections.abc import Mapping
from dataclasses import dataclass

from layergate.model.catalogue import Layer
from layergate.model.limits import Standing
from layergate.model.policy import Action, Filter, Sublayer
from layergate.model.values import Value


class Flag(enum.IntFlag):
    """FWP_CONDITION_FLAG_*: the bits of the FLAGS field. Source: "Filtering Condition Flags"."""

    IS_LOOPBACK = 0x1
    IS_IPSEC_SECURED = 0x2
    IS_REAUTHORIZE = 0x4
    IS_WILDCARD_BIND = 0x8
    IS_RAW_ENDPOINT = 0x10
    IS_FRAGMENT = 0x20
    IS_FRAGMENT_GROUP = 0x40
    IS_IPSEC_NATT_RECLASSIFY = 0x80
    REQUIRES_ALE_CLASSIFY = 0x100
    IS_IMPLICIT_BIND = 0x200
    IS_REASSEMBLED = 0x400
    IS_NAME_APP_SPECIFIED = 0x4000
    IS_PROMISCUOUS = 0x8000
    IS_AUTH_FW = 0x10000
    IS_RECLASSIFY = 0x20000
    IS_OUTBOUND_PASS_THRU = 0x40000
    IS_INBOUND_PASS_THRU = 0x80000
    IS_CONNECTION_REDIRECTED = 0x100000
    IS_PROXY_CONNECTION = 0x200000
    IS_APPCONTAINER_LOOPBACK = 0x400000
    IS_NON_APPCONTAINER_LOOPBACK = 0x800000
    IS_HONORING_POLICY_AUTHORIZE = 0x2000000


class ReauthorizeReason(enum.IntFlag):
    """FWP_CONDITION_REAUTHORIZE_REASON_*: the bits of the REAUTHORIZE_REASON field."""

    POLICY_CHANGE = 0x1
    NEW_ARRIVAL_INTERFACE = 0x2
    NEW_NEXTHOP_INTERFACE = 0x4
    PROFILE_CROSSING = 0x8
    CLASSIFY_COMPLETION = 0x10
    IPSEC_PROPERTIES_CHANGED = 0x20
    MID_STREAM_INSPECTION = 0x40
    SOCKET_PROPERTY_CHANGED = 0x80
    NEW_INBOUND_MCAST_BCAST_PACKET = 0x100
    EDP_POLICY_CHANGED = 0x200
    PRECLASSIFY_REMOTEPORT_LAYER_CHANGE = 0x2000
    PROXY_HANDLE_CHANGED = 0x4000
    PRECLASSIFY_POLICY_CHANGED = 0x8000
    CHECK_OFFLOAD = 0x10000


class AddressType(enum.IntEnum):
    """NL_ADDRESS_TYPE: the values of the *_ADDRESS_TYPE fields."""

    UNSPECIFIED = 0
    UNICAST = 1
    ANYCAST = 2
    MULTICAST = 3
    BROADCAST = 4
    INVALID = 5


class Direction(enum.IntEnum):
    """FWP_DIRECTION: the values of the DIRECTION field."""

    OUTBOUND = 0
    INBOUND = 1


@dataclass(frozen=True, slots=True)
class Process:
    """Who owns a socket, as recorded when it bound, listened or connected."""

    pid: int | None
    app: str | None
    user: int | None
    unit: str | None


@dataclass(frozen=True, slots=True)
class Indication:
    """At this layer, with these values, for this flow.

    *values* holds what is known, by field name; a field that is absent is empty, and matches only EMPTY. *time* is in
    seconds since the source began; *local* and *remote* are "address:port" or "[v6]:port" for people.
    """

    layer: Layer
    values: Mapping[str, Value]
    time: float = 0.0
    host: str | None = None
    event: str = ""
    flow: int | None = None
    protocol: str = "tcp"
    local: str | None = None
    remote: str | None = None
    process: Process | None = None
    reauthorize: bool = False


@dataclass(frozen=True, slots=True)
class Decided:
    """An indication, and what was decided on it, as its source tells it.

    *filter_id* is 0 and *filter* None where none decided; *sublayer* is its name. *fields*: what the source can know at
    this layer.
    """

    indication: Indication
    action: Action
    filter_id: int
    filter: Filter | None
    sublayer: str | None
    version: int
    fields: tuple[str, ...]


@dataclass(frozen=True, slots=True)
class SublayerVerdict:
    """What one sublayer said of an indication.

    *matched*: its matching filters, heaviest first. *decided*: the first of them that permits or blocks, which ends the
    sublayer; None where none did. *lost*: the matching filters that were not heard. *effect*: how arbitration took the
    result, in words. *took_effect*: whether it set or kept the final action. *weights*: the effective weights of
    *matched*, in its order. *action*: permit or block, None for no opinion; *hard*: whether the right to change the
    action was gone afterwards, by its own doing. *continued*: the callouts and limits above *decided* that let go on.
    *veto*: whether it blocked against a hard permit, and prevailed. *standings*: the filters with a limit that were
    heard, and how the key stood to each.
    """

    sublayer: Sublayer
    matched: tuple[Filter, ...]
    decided: Filter | None
    lost: tuple[Filter, ...]
    took_effect: bool
    effect: str
    weights: tuple[int, ...] = ()
    action: Action | None = None
    hard: bool = False
    continued: tuple[Filter, ...] = ()
    veto: bool = False
    standings: tuple[tuple[Filter, Standing], ...] = ()


@dataclass(frozen=True, slots=True)
class Verdict:
    """This action, decided by this filter of this sublayer, and why. *filter* is None where nothing matched: permit.

    *veto* is the filter that blocked against a hard permit, None for no veto. *absorbed*: a callout took the packet for
    itself, so that nobody else hears of the block.
    """

    action: Action
    filter: Filter | None = None
    hard: bool = False
    sublayers: tuple[SublayerVerdict, ...] = ()
    version: int = 1
    veto: Filter | None = None
    absorbed: bool = False

    @property
    def sublayer(self) -> Sublayer | None:
        """Return the sublayer of the deciding filter."""
        return next((told.sublayer for told in self.sublayers if told.decided is self.filter is not None), None)
